"""What the tests of sending share: who takes what is sent, and instances."""

from collections.abc import Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from dimse.acceptor import AcceptorFactory
from dimse.services.instance import Instance
from dimse.services.sending import SendResult, send
from dimse.sop_classes import STORAGE_SOP_CLASSES
from dimse.ul.negotiation import SupportedContext
from tests.memory import Net
from tests.wire import CT_STORAGE, EXPLICIT

ADDRESS = IPv4Address("TCP", "10.0.0.1", 4242)


@implementer(IStreamClientEndpoint)
class Archive:
    """An acceptor that takes whatever it is offered, and can be made to refuse."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.down = False
        syntaxes = SupportedContext(None)
        net.scp.contexts = dict.fromkeys(STORAGE_SOP_CLASSES, syntaxes)
        self.factory: AcceptorFactory = net.acceptor()

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[Any]":
        connected: Deferred[Any] = Deferred()
        if self.down:
            connected.errback(ConnectionRefusedError())
            return connected
        near: Any = protocolFactory.buildProtocol(ADDRESS)
        self.net.join(near, self.factory.buildProtocol(ADDRESS))
        connected.callback(near)
        return connected

    def send(self, sources: Iterable[Any], **options: Any) -> list[SendResult]:
        """All results, in order."""
        results: list[SendResult] = []

        async def collect() -> None:
            async for result in send(self, sources, reactor=self.net.clock, **options):
                results.append(result)

        done = self.net.outcome(Deferred.fromCoroutine(collect()))
        self.run()
        assert done.value is None
        return results

    def run(self) -> None:
        """Until nothing happens any more, on whatever links there are then."""
        for link in self.net.links:
            link.run()


def instance(number: int, sop_class: str = CT_STORAGE, syntax: str = EXPLICIT) -> Instance:
    return Instance(sop_class, f"1.2.{number}", syntax, data=b"abcd")
