"""Files of objects are read, by whoever needs a part of one, or its digest."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from dimse.services.part10 import DamagedFileError, data_set_offset, identity_of
from dimse.services.storage import ReceivedInstance

_AT_ONCE = 1024 * 1024  # read of an object to digest it


@contextmanager
def reading(path: Path) -> Iterator[int]:
    """A descriptor of it; raises `OSError` when it is not there."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        with suppress(OSError):  # what was read was read
            os.close(fd)


def digest_of(path: Path, offset: int) -> str:
    """The SHA-256 of all from `offset` on; raises `OSError` when it cannot be read."""
    digest = sha256()
    with reading(path) as fd:
        while data := os.pread(fd, _AT_ONCE, offset):
            digest.update(data)
            offset += len(data)
    return digest.hexdigest()


def precedes(head: bytes, received: ReceivedInstance) -> bool:
    """Whether it is what precedes the data set in the file of that instance."""
    identity = received.sop_class_uid, received.sop_instance_uid, received.transfer_syntax
    try:
        return data_set_offset(head) == len(head) and identity_of(head) == identity
    except DamagedFileError:
        return False
