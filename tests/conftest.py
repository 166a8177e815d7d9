"""Settings for all tests. What talks to real peers is in tests/peers.py."""

import gc
import os
import signal
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.certificates import PKI
from tests.memory import Net

# A busy machine is slow at times, and a deadline would fail for that alone. In CI the examples are
# the same every time, so that a failure is the fault of the change that shows it.
settings.register_profile("dimse", deadline=None, derandomize="CI" in os.environ)
settings.register_profile("long", deadline=None, max_examples=2000)
settings.load_profile("dimse")

_LONG = {"archive", "cli", "interop", "packaging", "simulation"}  # folders of tests
_MEMORY, _ENOUGH = "/dev/shm", 4 << 30


def pytest_configure() -> None:
    """Files are made in memory if there is room: no test asks a disk whether it keeps its word."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is behind a `&`
        signal.signal(signal.SIGINT, signal.default_int_handler)  # so that programs can be told
    if "TMPDIR" in os.environ or not os.access(_MEMORY, os.W_OK):
        return
    space = os.statvfs(_MEMORY)  # programs are run from there, too
    if space.f_bavail * space.f_frsize > _ENOUGH and not space.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = tempfile.tempdir = _MEMORY


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long begin first: workers that get the short ones last end together."""
    items.sort(key=lambda item: _LONG.isdisjoint(item.path.parts))


def pytest_unconfigure() -> None:
    gc.unfreeze()  # for pytest's own last look at what was left


@pytest.fixture(autouse=True, scope="module")
def _quick_collections() -> None:
    """Many tests collect garbage, to hear of failures that nobody took: without all the rest."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def net() -> Iterator[Net]:
    """Associations in memory; after the test nothing of them may be left."""
    net = Net()
    yield net
    net.check()


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    """Certificates for TLS, made once."""
    return PKI(tmp_path_factory.mktemp("pki"))
