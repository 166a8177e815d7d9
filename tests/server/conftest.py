"""What tests of access share: a network, and an archive for a whole module."""

from collections.abc import Iterator

import pytest

from dimse.archive.archive import Archive
from dimse.testing import Network
from dimse.testing.clock import MemoryClock
from tests.archive.archives import open_archive


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    with open_archive(folder, clock=MemoryClock()) as archive:
        yield archive
