"""Settings for all tests. What talks to real peers is in tests/peers.py."""

import gc
import os
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
