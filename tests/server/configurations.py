"""What the tests of the configuration file share: how one is read."""

from pathlib import Path
from textwrap import dedent

from dimse.server.config import (
    Configuration,
    read_configuration,
)


def read(file: Path, document: str) -> Configuration:
    file.write_text(dedent(document), "utf-8")
    return read_configuration(file)
