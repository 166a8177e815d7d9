"""What the tests of syslog share: its receivers."""

from typing import Any

from twisted.internet import reactor  # noqa: TID253  pytest-twisted has installed it
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory

from dimse import ServerTLS
from tests.certificates import Issued

REACTOR: Any = reactor


def of_stream(data: bytes) -> list[bytes]:
    """What a collector makes of octet counting (RFC 5425 4.3)."""
    messages = []
    while data:
        count, _, data = data.partition(b" ")
        messages.append(data[: int(count)])
        data = data[int(count) :]
    return messages


class Receiver(Protocol):
    """A collector: it listens, and says nothing."""

    factory: Any
    open = True

    def connectionLost(self, reason: Any = None) -> None:
        self.open = False

    def dataReceived(self, data: bytes) -> None:
        self.factory.data += data

    def connectionMade(self) -> None:
        self.factory.connections.append(self)


class Receivers(Factory):
    protocol = Receiver
    noisy = False

    def __init__(self) -> None:
        self.data = b""
        self.connections: list[Receiver] = []


def listening(receivers: Factory, tls: Any, port: int = 0) -> Any:
    """Fires with the port of a collector; `tls` is a `ServerTLS`, or what makes connections."""
    endpoint: Any = TCP4ServerEndpoint(REACTOR, port, interface="127.0.0.1")
    if isinstance(tls, ServerTLS):
        return tls.load().secured(endpoint, REACTOR).listen(receivers)
    return endpoint.listen(TLSMemoryBIOFactory(tls, False, receivers))


def collector_tls(shown: Issued, **options: Any) -> ServerTLS:
    """What a collector uses that takes records from everybody, unless told otherwise."""
    given = {"client_auth": "none", **options}
    return ServerTLS(certificate=shown.path, key=shown.key_path, **given)


async def until(condition: Any) -> None:
    while not condition():
        await deferLater(REACTOR, 0.01)


class Datagrams(DatagramProtocol):
    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def datagramReceived(self, data: bytes, address: Any) -> None:
        self.messages.append(data)
