"""What the tests of `dimse.testing` share."""

from collections.abc import Iterator

import pytest

from dimse.testing import Network
from tests.memory import RecordingSCP


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def scp() -> RecordingSCP:
    return RecordingSCP()
