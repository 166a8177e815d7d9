"""Associations in memory, scripted peers, and what must hold after every test with them."""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed

from dimse.acceptor import AcceptorFactory
from dimse.association import Association
from dimse.limits import Limits
from dimse.performing import Operation
from dimse.requestor import DEFAULT_TRANSFER_SYNTAXES, RequestorFactory
from dimse.testing import Link, Network, ScriptedPeer
from dimse.ul.negotiation import SupportedContext, propose
from dimse.ul.pdu import PDU, AssociateAC
from tests.scripted import RQ
from tests.wire import CT_STORAGE, VERIFICATION

LIMITS = Limits()
CONTEXTS = (VERIFICATION, CT_STORAGE)


class RawPeer(ScriptedPeer):
    """The other side, by hand, and what it is connected to."""

    link: Link
    subject: Any  # the UpperLayerProtocol at the other end
    outcome: "Outcome"  # of `RequestorFactory.established`, for a server

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


class Net(Network):
    """A network, what performs in it, and every Deferred of a test."""

    def __init__(self) -> None:
        super().__init__()
        self.scp = RecordingSCP()
        self.outcomes: list[Outcome] = []

    def outcome(self, deferred: "Deferred[Any]") -> Outcome:
        self.outcomes.append(Outcome(deferred))
        return self.outcomes[-1]

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
        peer = RawPeer(self.run)
        peer.subject = subject
        peer.link = self.join(peer, subject, IPv4Address("TCP", host, 4242))
        peer.link.run()
        return peer

    def client(self, factory: AcceptorFactory | None = None, host: str = "10.0.0.1") -> RawPeer:
        """A scripted requestor at an acceptor."""
        factory = factory or self.acceptor()
        return self.raw(factory.buildProtocol(IPv4Address("TCP", host, 4242)), host)

    def associated(self, factory: AcceptorFactory | None = None, host: str = "10.0.0.1") -> RawPeer:
        """The same in Sta6; what was said until then is forgotten."""
        client = self.client(factory, host)
        client.send(RQ)
        (answer,) = client.news
        assert isinstance(answer, AssociateAC)
        return client

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
        far: Any = factory.buildProtocol(IPv4Address("TCP", "10.0.0.1", 4242))
        near = requestor.buildProtocol(IPv4Address("TCP", "10.0.0.2", 104))
        link = self.join(near, far)
        link.run()
        assert far is not None
        accepted: Any = far.user
        return self.outcome(requestor.established).value, accepted, link

    def check(self) -> None:
        """No timer is left, every Deferred fired once, every sink ended once, no bug was logged.

        Unlike that of `Network` it collects no garbage: that takes long, and outcomes are counted.
        """
        for link in self.links:
            link.cut()
        self.clock.advance(0)  # what performs is cancelled in the next turn
        assert self.clock.getDelayedCalls() == []
        self.close()
        assert [len(outcome.firings) for outcome in self.outcomes] == [1] * len(self.outcomes)
        assert [len(sink.endings) for sink in self.scp.sinks] == [1] * len(self.scp.sinks)
        assert self.failures == []
