"""Files that decide who is who: nobody else may write them, nor read those that are secret."""

import os
import stat
from pathlib import Path

from dimse.errors import MisuseError

LONGEST = 16 * 1024 * 1024
"""Bytes of such a file; 100,000 users are 10 MB."""


def read_trusted(file: Path, *, secret: bool = False) -> str:
    """The text of a file that its owner alone, and root, can change.

    One that is `secret` may be read by its owner and its group. Raises `MisuseError`.
    """
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode  # of what is read, whatever is renamed
            data = opened.read(LONGEST + 1)
    except OSError as error:
        raise MisuseError(f"{file}: {error.strerror or error}") from error
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise MisuseError(f"{file}: others than its owner can write it (chmod go-w)")
    if secret and mode & stat.S_IROTH:
        raise MisuseError(f"{file}: everybody can read it (chmod o-r)")
    if len(data) > LONGEST:
        raise MisuseError(f"{file}: it has more than {LONGEST} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise MisuseError(f"{file}: it is no UTF-8 ({error.reason} at {error.start})") from None
