"""An object store of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dimse.archive.files import FileStore
from tests.archive.storing import LIMITS, synchronously


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[FileStore]:
    store = FileStore(folder, limits=LIMITS, in_thread=synchronously).open()
    yield store
    store.close()
