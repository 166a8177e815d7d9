"""What the tests of the TLS handshake share: who listens, and what is said."""

from typing import Any

import pytest
from OpenSSL import SSL
from twisted.logger import formatEvent

from dimse.testing import Network
from tests.memory import RecordingSCP

TLS_1_2, TLS_1_3 = SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION

BOTH = pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=["TLS 1.2", "TLS 1.3"])


def lines(network: Network) -> list[str]:
    return [formatEvent(event) for event in network.events]


def listen(network: Network, scp: RecordingSCP, tls: Any, **options: Any) -> Any:
    return network.listen([scp], tls=tls, **options)
