"""An object store of its own for each test, and an index in either database."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import globalLogPublisher

from dimse.archive.files import FileStore
from tests.archive.storing import LIMITS, synchronously
from tests.databases import new_database, postgresql


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[FileStore]:
    store = FileStore(folder, limits=LIMITS, in_thread=synchronously).open()
    yield store
    store.close()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    with postgresql() as server:
        yield server


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)]
)
def new_index(request: pytest.FixtureRequest) -> Callable[[], str | None]:
    """Makes the URL of a new index, in either database."""
    if request.param == "sqlite":
        return lambda: None
    server = request.getfixturevalue("postgresql_server")
    return lambda: new_database(server)


@pytest.fixture
def log() -> Iterator[list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)
