"""An object store of its own for each test, and an index in either database."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from twisted.logger import globalLogPublisher

from dimse.archive.files import FileStore
from dimse.archive.index import Index
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


@pytest.fixture(scope="session")
def postgresql_tables(postgresql_server: str) -> str:
    """The name of a database with the tables of an index: to make them takes as long as a test."""
    url = new_database(postgresql_server)
    Index(url).open().close()
    return str(sa.make_url(url).database)


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)]
)
def new_index(request: pytest.FixtureRequest) -> Callable[[], str | None]:
    """Makes the URL of a new index, in either database."""
    if request.param == "sqlite":
        return lambda: None
    server = request.getfixturevalue("postgresql_server")
    tables = request.getfixturevalue("postgresql_tables")
    return lambda: new_database(server, tables)


@pytest.fixture
def log() -> Iterator[list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)
