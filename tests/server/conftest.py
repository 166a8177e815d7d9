"""What tests of a server share: its log, a network, and an archive for a whole module."""

import gc
from collections.abc import Iterator, Sequence

import pytest
from twisted.logger import LogEvent, capturedLogs

from dimse.archive.archive import Archive
from dimse.testing import Network
from dimse.testing.clock import MemoryClock
from tests.archive.archives import open_archive


@pytest.fixture
def log() -> Iterator[Sequence[LogEvent]]:
    """What is logged; nothing of it may be a failure."""
    with capturedLogs() as events:
        yield events
        gc.collect()  # what nobody handled is logged then
    assert [event["log_failure"] for event in events if "log_failure" in event] == []


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    with open_archive(folder, clock=MemoryClock()) as archive:
        yield archive
