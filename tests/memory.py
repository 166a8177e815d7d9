"""Associations in memory, scripted peers, and what must hold after every test with them."""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from dimse.acceptor import AcceptorFactory
from dimse.association import Association
from dimse.limits import Limits
from dimse.performing import Operation
from dimse.requestor import DEFAULT_TRANSFER_SYNTAXES, RequestorFactory
from dimse.ul.negotiation import SupportedContext, propose
from dimse.ul.pdu import PDU, PDUS
from tests.transports import Link
from tests.wire import CT_STORAGE, VERIFICATION, framed

LIMITS = Limits()
CONTEXTS = (VERIFICATION, CT_STORAGE)


class RawPeer(Protocol):
    """The other side, by hand: `send` bytes, look at `pdus`."""

    link: Link
    subject: Any  # the UpperLayerProtocol at the other end
    outcome: "Outcome"  # of `RequestorFactory.established`, for a server

    def __init__(self) -> None:
        self.received = bytearray()
        self.closed = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = True

    def send(self, *data: bytes) -> None:
        """Write, and let everything happen that follows."""
        self.link.near.write(b"".join(data))
        self.link.run()

    @property
    def pdus(self) -> list[PDU]:
        """All that came."""
        return [PDUS[kind].decode(body) for kind, body in framed([bytes(self.received)])]

    @property
    def news(self) -> list[PDU]:
        """What came since the last look."""
        pdus = self.pdus
        self.received.clear()
        return pdus


class Outcome:
    """Every firing of a Deferred."""

    def __init__(self, deferred: "Deferred[Any]") -> None:
        self.deferred = deferred
        self.firings: list[Any] = []
        deferred.addCallbacks(self.firings.append, lambda f: self.firings.append(f.value))

    @property
    def value(self) -> Any:
        """Its one result or exception."""
        (firing,) = self.firings
        return firing


class RecordingSink:
    """Remembers its data and endings; `scp` says what it does."""

    def __init__(self, scp: "RecordingSCP", operation: Operation) -> None:
        self.scp = scp
        self.operation = operation
        self.data = bytearray()
        self.endings: list[object] = []

    def write(self, data: memoryview) -> None:
        assert not self.endings
        self.data += data
        self.scp.on_write(self)

    def finish(self) -> "Deferred[int]":
        self.endings.append("finish")
        return self.scp.on_finish(self)

    def abort(self, reason: Exception) -> None:
        self.endings.append(reason)
        self.scp.on_abort(self)


class RecordingSCP:
    """Performs whatever is asked in `CONTEXTS`; tests replace the `on_...` attributes."""

    def __init__(self) -> None:
        self.contexts = dict.fromkeys(CONTEXTS, SupportedContext(None, scp=True, scu=True))
        self.sinks: list[RecordingSink] = []
        self.on_begin: Callable[[Operation], object] = lambda operation: None
        self.on_write: Callable[[RecordingSink], object] = lambda sink: None
        self.on_finish: Callable[[RecordingSink], Deferred[int]] = lambda sink: succeed(0)
        self.on_abort: Callable[[RecordingSink], object] = lambda sink: None

    def otherwise(self, abstract_syntax: str) -> None:
        return None

    def perform(self, operation: Operation) -> RecordingSink:
        self.on_begin(operation)
        self.sinks.append(RecordingSink(self, operation))
        return self.sinks[-1]


@implementer(ILogObserver)
class Net:
    """A clock and all connections of a test; `check` is what must hold after each."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.scp = RecordingSCP()
        self.links: list[Link] = []
        self.outcomes: list[Outcome] = []
        self.events: list[LogEvent] = []
        self.failures: list[Failure] = []
        globalLogPublisher.addObserver(self)

    def __call__(self, event: LogEvent) -> None:
        """What was logged."""
        self.events.append(event)
        if "log_failure" in event:
            self.failures.append(event["log_failure"])

    def outcome(self, deferred: "Deferred[Any]") -> Outcome:
        self.outcomes.append(Outcome(deferred))
        return self.outcomes[-1]

    def join(self, near: Any, far: Any, host: str = "10.0.0.1") -> Link:
        self.links.append(Link(near, far, self.clock, host))
        return self.links[-1]

    def acceptor(self, scps: Iterable[Any] | None = None, **options: Any) -> AcceptorFactory:
        options = {"limits": LIMITS, "clock": self.clock, **options}
        return AcceptorFactory([self.scp] if scps is None else list(scps), **options)

    def requestor(self, contexts: Iterable[Any] = CONTEXTS, **options: Any) -> RequestorFactory:
        options = {"limits": LIMITS, "clock": self.clock, **options}
        request = propose(
            [c if isinstance(c, tuple) else (c, DEFAULT_TRANSFER_SYNTAXES) for c in contexts],
            called_ae_title="ARCHIVE",
            calling_ae_title="MODALITY",
            maximum_length=options["limits"].maximum_length,
        )
        return RequestorFactory(request, **options)

    def raw(self, subject: Any, host: str = "10.0.0.1") -> RawPeer:
        peer = RawPeer()
        peer.subject = subject
        peer.link = self.join(peer, subject, host)
        peer.link.run()
        return peer

    def client(self, factory: AcceptorFactory | None = None, host: str = "10.0.0.1") -> RawPeer:
        """A scripted requestor at an acceptor."""
        factory = factory or self.acceptor()
        return self.raw(factory.buildProtocol(IPv4Address("TCP", host, 4242)), host)

    def server(self, **options: Any) -> RawPeer:
        """A scripted acceptor; our request has arrived there."""
        factory = self.requestor(**options)
        peer = self.raw(factory.buildProtocol(IPv4Address("TCP", "10.0.0.2", 104)))
        peer.outcome = self.outcome(factory.established)
        return peer

    def pair(
        self, acceptor: AcceptorFactory | None = None, **options: Any
    ) -> tuple[Association, Association, Link]:
        """Requestor, acceptor, and the link between them (`near` is the requestor's end)."""
        factory = acceptor or self.acceptor(limits=options.get("limits", LIMITS))
        requestor = self.requestor(**options)
        far = factory.buildProtocol(IPv4Address("TCP", "10.0.0.1", 4242))
        near = requestor.buildProtocol(IPv4Address("TCP", "10.0.0.2", 104))
        link = self.join(near, far)
        link.run()
        assert far is not None
        accepted: Any = far.user
        return self.outcome(requestor.established).value, accepted, link

    def check(self) -> None:
        """No timer is left, every Deferred fired once, every sink ended once, no bug was logged."""
        globalLogPublisher.removeObserver(self)
        for link in self.links:
            link.cut()
        assert self.clock.getDelayedCalls() == []
        assert [len(outcome.firings) for outcome in self.outcomes] == [1] * len(self.outcomes)
        assert [len(sink.endings) for sink in self.scp.sinks] == [1] * len(self.scp.sinks)
        assert self.failures == []
