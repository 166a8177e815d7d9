"""`associate()`: every way in which it can end (PS3.8 7.1)."""

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import (
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IStreamClientEndpoint,
)
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer

from dimse.errors import (
    AssociationAbortedError,
    AssociationError,
    AssociationRejectedError,
    ConnectionLostError,
    MisuseError,
    ProtocolError,
    TimedOutError,
)
from dimse.limits import Limits
from dimse.requestor import DEFAULT_TRANSFER_SYNTAXES, associate, parse_address
from dimse.services.verification import echo
from dimse.ul.pdu import Abort, AssociateRJ, AssociateRQ, ReleaseRQ
from tests.memory import LIMITS, Net, Outcome, RawPeer
from tests.scripted import (
    ABORT,
    AC,
    ECHO,
    INVALID,
    RELEASE_RP,
    RELEASE_RQ,
    RJ,
    UNEXPECTED,
    echo_rsp,
)
from tests.wire import CT_STORAGE, IMPLICIT, VERIFICATION

resolving = pytest.mark.skipif(
    not IReactorPluggableNameResolver.implementedBy(MemoryReactorClock),
    reason="the test reactor of this Twisted resolves no names: 26.10 does",
)


@implementer(IStreamClientEndpoint)
class Endpoint:
    """Connects to a scripted acceptor when the test says so."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.factory: Any = None
        self.cancelled = False
        self.connecting: Deferred[Any] = Deferred(lambda _: setattr(self, "cancelled", True))

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[Any]":
        self.factory = protocolFactory
        return self.connecting

    def connected(self) -> RawPeer:
        peer = self.net.raw(self.factory.buildProtocol(None))
        self.connecting.callback(peer.subject)
        return peer

    def __str__(self) -> str:
        return "somewhere"


class SlowEndpoint(Endpoint):
    """Goes on until `after` fires when it is cancelled."""

    def __init__(self, net: Net) -> None:
        super().__init__(net)
        self.after: Deferred[Any] = Deferred()

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[Any]":
        connecting = super().connect(protocolFactory)

        async def slowly() -> Any:
            try:
                return await connecting
            except CancelledError:
                return await self.after

        return Deferred.fromCoroutine(slowly())


@pytest.fixture
def endpoint(net: Net) -> Endpoint:
    return Endpoint(net)


def attempt(net: Net, endpoint: Any, **options: Any) -> Outcome:
    return net.outcome(associate(endpoint, reactor=net.clock, **options))


class TestOutcomes:
    def test_accepted(self, net: Net, endpoint: Endpoint):
        outcome = attempt(net, endpoint)
        server = endpoint.connected()
        server.send(AC)
        assert outcome.value.contexts[1].abstract_syntax == VERIFICATION
        assert net.clock.seconds() == 0
        assert str(outcome.value.peer) == "ANY-SCP@NoneType"

    def test_rejected(self, net: Net, endpoint: Endpoint):
        outcome = attempt(net, endpoint)
        server = endpoint.connected()
        server.send(RJ)
        error = outcome.value
        assert isinstance(error, AssociationRejectedError)
        assert (error.result, error.source, error.reason) == (1, 1, 7)
        assert not error.transient
        assert server.closed

    def test_h_p38_rejected_with_values_outside_the_tables(self, net: Net, endpoint: Endpoint):
        outcome = attempt(net, endpoint)
        endpoint.connected().send(AssociateRJ(0, 255, 77).encode())
        error = outcome.value
        assert (error.result, error.source, error.reason) == (0, 255, 77)

    def test_aborted(self, net: Net, endpoint: Endpoint):
        outcome = attempt(net, endpoint)
        endpoint.connected().send(Abort(2, 1).encode())
        error = outcome.value
        assert isinstance(error, AssociationAbortedError)
        assert (error.source, error.reason, error.by_peer) == (2, 1, True)

    def test_lost(self, net: Net, endpoint: Endpoint):
        outcome = attempt(net, endpoint)
        endpoint.connected().link.cut()
        assert isinstance(outcome.value, ConnectionLostError)

    @pytest.mark.parametrize("wrong", [ECHO, RELEASE_RQ])
    def test_another_pdu_instead_of_an_answer(self, net: Net, endpoint: Endpoint, wrong: bytes):
        outcome = attempt(net, endpoint)
        server = endpoint.connected()
        server.received.clear()
        server.send(wrong)
        assert isinstance(outcome.value, AssociationAbortedError)
        assert server.news == [UNEXPECTED]

    def test_an_answer_that_makes_no_association(self, net: Net, endpoint: Endpoint):
        outcome = attempt(net, endpoint)
        server = endpoint.connected()
        server.received.clear()
        server.send(AC.replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.9"))
        error = outcome.value
        assert isinstance(error, AssociationAbortedError)
        assert not error.by_peer
        assert server.news == [INVALID]
        assert not isinstance(error, ProtocolError)

    def test_no_answer(self, net: Net, endpoint: Endpoint):
        outcome = attempt(net, endpoint, limits=Limits(associate=7))
        endpoint.connected().link.advance(7)
        assert (outcome.value.which, outcome.value.seconds) == ("associate", 7)

    def test_no_connection(self, net: Net, endpoint: Endpoint):
        outcome = attempt(net, endpoint, limits=Limits(connect=3))
        net.clock.advance(2.9)
        assert outcome.firings == []
        net.clock.advance(0.1)
        assert isinstance(outcome.value, TimedOutError)
        assert outcome.value.which == "connect"
        assert endpoint.cancelled

    @pytest.mark.parametrize(
        "failure", [ConnectionRefusedError(), DNSLookupError("no such host"), OSError(101, "no")]
    )
    def test_connection_failed(self, net: Net, endpoint: Endpoint, failure: Exception):
        outcome = attempt(net, endpoint)
        endpoint.connecting.errback(failure)
        assert isinstance(outcome.value, ConnectionLostError)
        assert str(outcome.value).startswith("no connection to somewhere: ")
        assert outcome.value.__cause__ is failure

    def test_the_factory_alone_hears_of_it_too(self, net: Net):
        """For whoever connects it by hand."""
        factory = net.requestor()
        established = net.outcome(factory.established)
        connector: Any = None
        factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))
        assert isinstance(established.value, ConnectionLostError)
        assert "refused" in str(established.value)

    @pytest.mark.parametrize("end", ["rejected", "aborted", "lost", "associate", "connect"])
    def test_the_error_names_the_peer(self, net: Net, endpoint: Endpoint, end: str):
        outcome = attempt(net, endpoint, called_ae_title="PACS")
        if end == "rejected":
            endpoint.connected().send(RJ)
        elif end == "aborted":
            endpoint.connected().send(ABORT)
        elif end == "lost":
            endpoint.connected().link.cut()
        elif end == "associate":
            endpoint.connected().link.advance(LIMITS.associate)
        else:
            net.clock.advance(LIMITS.connect)
        assert str(outcome.value).startswith("PACS@somewhere: ")

    def test_a_time_out_names_the_peer_and_the_request(self, net: Net, endpoint: Endpoint):
        attempting = attempt(net, endpoint)
        server = endpoint.connected()
        server.send(AC)
        outcome = net.outcome(echo(attempting.value, timeout=7))
        server.link.advance(7)
        what = "the response time-out of 7 s ran out for C-ECHO-RQ"
        assert str(outcome.value) == f"ANY-SCP@NoneType: {what}"


TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x46"  # fatal, protocol_version (RFC 8446 6)


class TestMayExpectTLS:
    """We speak plain DICOM, and the peer does not understand."""

    @pytest.mark.parametrize(
        ("end", "kind"),
        [
            (lambda server: server.close(), ConnectionLostError),
            (lambda server: server.link.cut(), ConnectionLostError),
            (lambda server: server.send(TLS_ALERT), AssociationAbortedError),
        ],
        ids=["closed", "reset", "alert"],
    )
    def test_there_was_no_answer_or_a_tls_alert(
        self, net: Net, endpoint: Endpoint, end: Any, kind: type[AssociationError]
    ):
        outcome = attempt(net, endpoint)
        end(endpoint.connected())
        assert isinstance(outcome.value, kind)
        assert outcome.value.may_expect_tls
        assert str(outcome.value).endswith(" (the peer may expect TLS)")

    @pytest.mark.parametrize(
        "sent", [RJ, ABORT, ECHO, b"HTTP/1.1 400 Bad Request\r\n", b"\x02\0\0"]
    )
    def test_there_was_another_answer(self, net: Net, endpoint: Endpoint, sent: bytes):
        outcome = attempt(net, endpoint)
        server = endpoint.connected()
        server.send(sent)
        server.link.cut()
        assert not outcome.value.may_expect_tls

    def test_nobody_is_there(self, net: Net, endpoint: Endpoint):
        outcome = attempt(net, endpoint)
        endpoint.connecting.errback(ConnectionRefusedError())
        assert not outcome.value.may_expect_tls

    @pytest.mark.parametrize("sent", [b"", TLS_ALERT])
    def test_there_was_an_association(self, net: Net, endpoint: Endpoint, sent: bytes):
        outcome = attempt(net, endpoint)
        server = endpoint.connected()
        server.send(AC)
        server.send(sent)
        server.link.cut()
        assert outcome.value.ended is not None
        assert not outcome.value.ended.may_expect_tls


class TestCancel:
    def test_while_it_connects(self, net: Net, endpoint: Endpoint):
        outcome = attempt(net, endpoint)
        outcome.deferred.cancel()
        assert isinstance(outcome.value, CancelledError)
        assert endpoint.cancelled
        assert net.clock.getDelayedCalls() == []

    def test_while_the_peer_decides(self, net: Net, endpoint: Endpoint):
        outcome = attempt(net, endpoint)
        server = endpoint.connected()
        server.received.clear()
        outcome.deferred.cancel()
        server.link.run()
        assert isinstance(outcome.value, CancelledError)
        assert server.news == [Abort(0, 0)]
        server.send(AC)
        server.send(ABORT)
        assert server.closed
        assert net.clock.getDelayedCalls() == []

    @pytest.mark.parametrize("end", ["cancel", "time-out"])
    def test_an_endpoint_that_connects_all_the_same(self, net: Net, endpoint: Endpoint, end: str):
        """Whoever asked has gone, so nobody would ever end that association."""
        outcome = attempt(net, endpoint, limits=Limits(connect=3))
        if end == "cancel":
            outcome.deferred.cancel()
        else:
            net.clock.advance(3)
        server = net.raw(endpoint.factory.buildProtocol(None))
        server.send(AC)
        assert isinstance(outcome.value, CancelledError | TimedOutError)
        assert server.pdus[-1] == Abort(0, 0)
        server.link.near.loseConnection()
        server.link.run()
        assert net.clock.getDelayedCalls() == []

    @pytest.mark.parametrize("succeeds", [True, False])
    def test_over_an_endpoint_that_takes_its_time(self, net: Net, succeeds: bool):
        """It fires once, and an association that comes after all is aborted."""
        endpoint = SlowEndpoint(net)
        outcome = attempt(net, endpoint)
        outcome.deferred.cancel()
        assert isinstance(outcome.value, CancelledError)
        server = net.raw(endpoint.factory.buildProtocol(None))
        server.send(AC)
        if succeeds:
            endpoint.after.callback(None)
        else:
            endpoint.after.errback(ConnectionRefusedError())
        server.link.run()
        assert server.pdus[-1] == Abort(0, 0)
        assert len(outcome.firings) == 1

    @pytest.mark.parametrize("end", ["cancel", "time-out"])
    def test_established_before_the_endpoint_says_connected(
        self, net: Net, endpoint: Endpoint, end: str
    ):
        outcome = attempt(net, endpoint, limits=Limits(connect=3))
        server = net.raw(endpoint.factory.buildProtocol(None))
        server.send(AC)
        if end == "cancel":
            outcome.deferred.cancel()
        else:
            net.clock.advance(3)
        server.link.run()
        assert isinstance(outcome.value, CancelledError | TimedOutError)
        assert server.pdus[-1] == Abort(0, 0)

    @resolving
    def test_a_host_and_port(self, net: Net):
        """The endpoint that we make ourselves."""
        reactor: Any = MemoryReactorClock()
        outcome = net.outcome(associate("10.0.0.9:11112", reactor=reactor))
        outcome.deferred.cancel()
        assert isinstance(outcome.value, CancelledError)
        assert reactor.getDelayedCalls() == []


class TestRequest:
    def test_what_is_proposed(self, net: Net, endpoint: Endpoint):
        outcome = attempt(
            net,
            endpoint,
            contexts=[VERIFICATION, (CT_STORAGE, [IMPLICIT])],
            called_ae_title="PACS",
            calling_ae_title=" CT1 ",
            limits=Limits(maximum_length=5000),
        )
        (request,) = endpoint.connected().pdus
        assert isinstance(request, AssociateRQ)
        assert (request.called_ae_title, request.calling_ae_title) == ("PACS", "CT1")
        assert [(c.context_id, c.abstract_syntax) for c in request.contexts] == [
            (1, VERIFICATION),
            (3, CT_STORAGE),
        ]
        assert request.contexts[0].transfer_syntaxes == DEFAULT_TRANSFER_SYNTAXES
        assert request.contexts[1].transfer_syntaxes == (IMPLICIT,)
        assert request.user_information is not None
        assert request.user_information.maximum_length == 5000
        outcome.deferred.cancel()

    @resolving
    def test_host_and_port(self, net: Net):
        reactor: Any = MemoryReactorClock()
        outcome = net.outcome(associate("10.0.0.9:11112", reactor=reactor))
        assert reactor.tcpClients[0][1] == 11112  # its resolver has one address for all hosts
        outcome.deferred.cancel()

    @pytest.mark.parametrize(
        "options",
        [
            {"contexts": []},
            {"contexts": [VERIFICATION] * 129},
            {"contexts": ["not a uid"]},
            {"contexts": [(VERIFICATION, [])]},
            {"contexts": [(VERIFICATION, ["x"])]},
            {"called_ae_title": ""},
            {"called_ae_title": "A" * 17},
            {"calling_ae_title": "A\\B"},
            {"calling_ae_title": "Röntgen"},
        ],
    )
    def test_misuse(self, net: Net, endpoint: Endpoint, options: dict[str, Any]):
        """At once, not by the Deferred: nothing is connected."""
        with pytest.raises(MisuseError):
            associate(endpoint, reactor=net.clock, **options)
        assert endpoint.factory is None


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("pacs:104", ("pacs", 104)),
            ("[::1]:65535", ("::1", 65535)),
            ("1.2.3.4:1", ("1.2.3.4", 1)),
        ],
    )
    def test_good(self, text: str, found: tuple[str, int]):
        assert parse_address(text) == found

    @pytest.mark.parametrize(
        "text", ["", "pacs", "pacs:", ":104", "pacs:0", "pacs:65536", "pacs:x", "pacs:-1", "p:²"]
    )
    def test_bad(self, text: str):
        with pytest.raises(MisuseError):
            parse_address(text)


class TestContextManager:
    def run(self, net: Net, endpoint: Endpoint, fail: bool) -> tuple[Outcome, RawPeer]:
        async def body() -> None:
            async with associate(endpoint, reactor=net.clock) as association:
                net.outcome(echo(association))
                if fail:
                    raise ZeroDivisionError

        outcome = net.outcome(Deferred.fromCoroutine(body()))
        server = endpoint.connected()
        server.received.clear()
        server.send(AC)
        return outcome, server

    def test_release(self, net: Net, endpoint: Endpoint):
        outcome, server = self.run(net, endpoint, fail=False)
        assert len(server.news) == 1  # the echo, which the release waits for
        assert outcome.firings == []
        server.send(echo_rsp())
        assert server.news == [ReleaseRQ()]
        server.send(RELEASE_RP)
        assert outcome.value is None
        assert net.outcomes[-1].value == 0

    def test_abort(self, net: Net, endpoint: Endpoint):
        outcome, server = self.run(net, endpoint, fail=True)
        assert isinstance(outcome.value, ZeroDivisionError)
        assert server.news[-1] == Abort(0, 0)

    def test_rejected(self, net: Net, endpoint: Endpoint):
        async def body() -> None:
            async with associate(endpoint, reactor=net.clock):
                raise AssertionError

        outcome = net.outcome(Deferred.fromCoroutine(body()))
        endpoint.connected().send(RJ)
        assert isinstance(outcome.value, AssociationRejectedError)
