"""What the tests of the TLS handshake share: who listens, and what is said."""

from collections.abc import Iterator
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.logger import formatEvent

from dimse.testing import Network
from tests.memory import RecordingSCP

TLS_1_2, TLS_1_3 = SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION

BOTH = pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=["TLS 1.2", "TLS 1.3"])


def uncollected_network() -> Iterator[Network]:
    """Without the collection of garbage at the end of `Network.check`, which takes long."""
    network = Network()
    yield network
    network.close()
    left = [each for each in network.clock.getDelayedCalls() if "_say_expiring" not in str(each)]
    assert (left, network.failures) == ([], [])


def lines(network: Network) -> list[str]:
    return [formatEvent(event) for event in network.events]


def listen(network: Network, scp: RecordingSCP, tls: Any, **options: Any) -> Any:
    return network.listen([scp], tls=tls, **options)
