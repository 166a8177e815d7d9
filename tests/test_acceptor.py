"""The acceptor: who may come in, how many, and how it stops (PS3.8 7.1, 9.3.4)."""

from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, formatEvent

from dimse.acceptor import AcceptorFactory
from dimse.admission import Admission
from dimse.errors import MisuseError
from dimse.limits import Limits
from dimse.listening import BACKLOG, listen
from dimse.services.verification import VerificationSCP
from dimse.ul.identity import username
from dimse.ul.negotiation import SupportedContext, propose
from dimse.ul.pdu import Abort, AssociateAC, AssociateRJ, PDataTF
from tests.memory import LIMITS, Net, RawPeer
from tests.scripted import ECHO, RELEASE_RQ, REQUEST, RQ, STORE, data, p_data
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT, VERIFICATION

ADDRESS = IPv4Address("TCP", "10.0.0.1", 4242)
CONGESTION, LIMIT = AssociateRJ(2, 3, 1), AssociateRJ(2, 3, 2)  # PS3.8 9.3.4


def rejected(net: Net, factory: AcceptorFactory, host: str = "10.0.0.1") -> AssociateRJ:
    client = net.client(factory, host)
    client.send(RQ)
    (answer,) = client.news
    assert isinstance(answer, AssociateRJ)
    return answer


def leave(client: RawPeer) -> None:
    client.send(RELEASE_RQ)
    client.link.near.loseConnection()
    client.link.run()
    assert client.link.far.lost


class TestAnswers:
    def test_each_context_gets_a_result(self, net: Net):
        client = net.client(net.acceptor([VerificationSCP()]))
        client.send(RQ)
        (answer,) = client.news
        assert isinstance(answer, AssociateAC)
        assert [(c.context_id, c.result) for c in answer.contexts] == [(1, 0), (3, 3)]

    def test_contexts_of_several_scps_are_joined(self, net: Net):
        """The transfer syntaxes of the first, the roles of both (C-GET: Storage SCP and SCU)."""
        first, second = VerificationSCP(), VerificationSCP()
        second.contexts = {
            VERIFICATION: SupportedContext((EXPLICIT,)),
            CT_STORAGE: SupportedContext(scp=False, scu=True),
        }
        third = VerificationSCP()
        third.contexts = {CT_STORAGE: SupportedContext((EXPLICIT,))}
        contexts = net.acceptor([first, second, third]).policy(Admission()).contexts
        assert contexts[VERIFICATION].transfer_syntaxes is None
        assert contexts[CT_STORAGE] == SupportedContext((EXPLICIT,), scp=True, scu=True)

    def test_called_ae_titles(self, net: Net):
        assert rejected(net, net.acceptor(ae_titles=["OTHER"])) == AssociateRJ(1, 1, 7)
        net.associated(net.acceptor(ae_titles=["OTHER", " ARCHIVE "]))

    @pytest.mark.parametrize("title", ["", "A" * 17, "A\\B", "\x1b"])
    def test_wrong_ae_titles(self, net: Net, title: str):
        with pytest.raises(MisuseError):
            net.acceptor(ae_titles=[title])


class TestConnections:
    """Those that are no association yet."""

    @pytest.mark.parametrize(
        "limits", [Limits(connections=2), Limits(connections_per_address=2)], ids=["all", "address"]
    )
    def test_above_the_limit(self, net: Net, limits: Limits):
        factory = net.acceptor(limits=limits)
        first = net.client(factory)
        net.client(factory)
        assert factory.buildProtocol(ADDRESS) is None  # which closes it
        first.link.cut()
        net.associated(factory)

    def test_another_address_has_its_own(self, net: Net):
        factory = net.acceptor(limits=Limits(connections_per_address=1))
        net.client(factory)
        net.associated(factory, "10.0.0.2")

    def test_of_ipv6_a_network_of_64_bits_is_one_address(self, net: Net):
        """Who has one has 2^64 addresses in it (RFC 6177)."""
        factory = net.acceptor(limits=Limits(connections_per_address=2))
        clients = [net.client(factory, f"2001:db8::{number}") for number in (1, 2)]
        beyond = IPv6Address("TCP", "2001:db8::ffff:3", 4242)
        assert factory.buildProtocol(beyond) is None
        assert formatEvent(net.events[-1]).startswith("2001:db8::ffff:3: too many connections")
        net.client(factory, "2001:db8:0:1::1")
        clients[0].link.cut()
        net.raw(factory.buildProtocol(beyond), beyond.host)

    def test_an_ipv4_address_is_one_also_over_ipv6(self, net: Net):
        factory = net.acceptor(limits=Limits(connections_per_address=2))
        for host in ("10.0.0.1", "::ffff:10.0.0.1", "::ffff:10.0.0.2"):
            net.client(factory, host)
        assert factory.buildProtocol(ADDRESS) is None

    def test_an_association_is_no_longer_one(self, net: Net):
        factory = net.acceptor(limits=Limits(connections=1))
        for _ in range(5):
            net.associated(factory)

    def test_a_rejected_one_counts_until_it_closes(self, net: Net):
        factory = net.acceptor(limits=Limits(connections=1), ae_titles=["OTHER"])
        rejected(net, factory)
        assert factory.buildProtocol(ADDRESS) is None
        net.links[-1].advance(10)
        rejected(net, factory)


class TestAssociations:
    @pytest.mark.parametrize(
        "limits",
        [Limits(associations=2), Limits(associations_per_address=2)],
        ids=["all", "address"],
    )
    def test_above_the_limit(self, net: Net, limits: Limits):
        """H-R07: rejected as transient, and taken again as soon as one has left."""
        factory = net.acceptor(limits=limits)
        clients = [net.associated(factory) for _ in range(2)]
        assert rejected(net, factory) == LIMIT
        leave(clients[0])
        net.associated(factory)
        assert rejected(net, factory) == LIMIT
        clients[1].send(ECHO)
        assert isinstance(clients[1].news[0], PDataTF)

    @pytest.mark.parametrize("end", ["cut", "abort"])
    def test_recovery(self, net: Net, end: str):
        factory = net.acceptor(limits=Limits(associations=1))
        for _ in range(20):
            client = net.associated(factory)
            if end == "cut":
                client.link.cut()
            else:
                client.send(Abort(0, 0).encode())

    def test_another_address_has_its_own(self, net: Net):
        factory = net.acceptor(limits=Limits(associations_per_address=1))
        net.associated(factory)
        assert rejected(net, factory) == LIMIT
        net.associated(factory, "10.0.0.2")

    def test_of_ipv6_a_network_of_64_bits_is_one_address(self, net: Net):
        factory = net.acceptor(limits=Limits(associations_per_address=2))
        first, _ = (net.associated(factory, f"2001:db8::{number}") for number in (1, 2))
        assert rejected(net, factory, "2001:db8::ffff:3") == LIMIT
        net.associated(factory, "2001:db8:0:1::1")
        leave(first)
        net.associated(factory, "2001:db8::ffff:3")

    def test_nothing_is_kept_of_those_that_left(self, net: Net):
        factory = net.acceptor()
        for network in ("10.0.0.", "2001:db8::"):
            for number in range(5):
                leave(net.associated(factory, f"{network}{number}"))
        assert (factory._connections, factory._waiting, factory._associated) == ({}, {}, {})


class TestDrain:
    def test_nothing_open(self, net: Net):
        assert net.outcome(net.acceptor().drain(30)).value is None
        assert net.clock.getDelayedCalls() == []

    def test_it_waits_and_takes_no_more(self, net: Net):
        factory = net.acceptor()
        client = net.associated(factory)
        drained = net.outcome(factory.drain(30))
        assert rejected(net, factory) == CONGESTION
        client.send(STORE, data(b"ab"))
        assert isinstance(client.news[0], PDataTF)
        net.links[-1].near.loseConnection()
        net.links[-1].run()
        assert drained.firings == []
        leave(client)
        assert drained.value is None
        assert net.clock.getDelayedCalls() == []

    def test_h_r16_a_request_under_way_is_rejected_as_transient(self, net: Net):
        """It has been sent already when the drain begins: to close would reset it unanswered."""
        factory = net.acceptor()
        late = net.client(factory)
        drained = net.outcome(factory.drain(30))
        late.send(RQ)
        assert late.news == [CONGESTION]
        late.link.near.loseConnection()
        late.link.run()
        assert drained.value is None
        assert net.clock.getDelayedCalls() == []

    @pytest.mark.parametrize(("grace", "seconds"), [(30, 1), (0.5, 0.5)])
    def test_what_is_no_association_holds_it_up_for_a_moment(
        self, net: Net, grace: float, seconds: float
    ):
        factory = net.acceptor()
        silent = net.client(factory)
        drained = net.outcome(factory.drain(grace))
        silent.link.run()
        assert not silent.closed
        silent.link.advance(seconds)
        assert silent.closed
        assert drained.value is None
        assert net.clock.getDelayedCalls() == []

    def test_a_port_that_listens_again_takes_associations(self, net: Net):
        """Once the drain has ended, and not before."""
        factory = net.acceptor()
        client = net.associated(factory)
        factory.doStart()
        drained = net.outcome(factory.drain(30))
        factory.doStop()
        factory.doStart()
        assert rejected(net, factory) == CONGESTION
        net.links[-1].near.loseConnection()
        net.links[-1].run()
        leave(client)
        assert drained.value is None
        factory.doStop()
        factory.doStart()
        again = net.associated(factory)
        assert net.outcome(factory.drain(30)).firings == []
        leave(again)

    def test_it_aborts_after_the_grace(self, net: Net):
        """Though one does not read."""
        factory = net.acceptor(limits=Limits(artim=100, close=5))
        client, deaf = net.associated(factory), net.associated(factory)
        deaf.link.far.write(b"unread")
        deaf.link.near.deaf = True
        drained = net.outcome(factory.drain(30))
        net.clock.advance(29.9)
        for link in net.links:
            link.run()
        assert client.news == []
        net.clock.advance(0.1)
        for link in net.links:
            link.run()
        assert client.news == [Abort(0, 0)]
        assert "the server stops" in str(client.subject.user.ended)
        assert drained.firings == []
        deaf.link.advance(0.5)
        assert drained.value is None

    def test_twice(self, net: Net):
        factory = net.acceptor()
        client = net.associated(factory)
        drained = [net.outcome(factory.drain(30)) for _ in range(2)]
        leave(client)
        assert [each.value for each in drained] == [None, None]

    def test_the_second_can_shorten_it(self, net: Net):
        factory = net.acceptor()
        client = net.associated(factory)
        drained = [net.outcome(factory.drain(grace)) for grace in (30, 1)]
        client.link.advance(1)
        assert client.news == [Abort(0, 0)]
        assert [each.value for each in drained] == [None, None]


class TestListen:
    @pytest.fixture
    def reactor(self) -> Any:
        return MemoryReactorClock()

    def test_a_string(self, net: Net, reactor: Any):
        listener = net.outcome(
            listen("tcp:11112:interface=127.0.0.1", [net.scp], reactor=reactor)
        ).value
        port, factory, _, interface = reactor.tcpServers[0]
        assert (port, interface) == (11112, "127.0.0.1")
        assert isinstance(factory, AcceptorFactory)
        assert listener.address.port == 11112

    @pytest.mark.parametrize(
        ("endpoint", "backlog"),
        [
            ("tcp:11112", BACKLOG),
            ("tcp:11112:interface=127.0.0.1", BACKLOG),
            ("tcp:port=11112:backlog=7", 7),
        ],
    )
    def test_h_r07_many_can_wait_to_be_accepted(
        self, net: Net, reactor: Any, endpoint: str, backlog: int
    ):
        """More than the 50 of Twisted, unless the endpoint says how many."""
        net.outcome(listen(endpoint, [net.scp], reactor=reactor))
        assert reactor.tcpServers[0][2] == backlog

    def test_stop(self, net: Net, reactor: Any):
        """It waits for the open associations, by default `Limits.grace` seconds."""
        listening = listen(
            "tcp:11112", [net.scp], reactor=reactor, limits=Limits(grace=9, artim=100)
        )
        listener = net.outcome(listening).value
        factory = reactor.tcpServers[0][1]
        client = net.associated(factory)
        stopped = net.outcome(listener.stop())
        reactor.advance(8.9)
        client.link.run()
        assert stopped.firings == []
        reactor.advance(0.1)
        client.link.run()
        assert stopped.value is None
        assert reactor.getDelayedCalls() == []

    @pytest.mark.parametrize("closed_late", [False, True])
    def test_stop_twice(self, net: Net, reactor: Any, closed_late: bool):
        """As whoever is in a hurry does, though the port takes its time to close."""
        listener = net.outcome(listen("tcp:11112", [net.scp], reactor=reactor)).value
        closing: Deferred[None] = Deferred()
        ports = [closing]
        listener._port.stopListening = ports.pop
        client = net.associated(reactor.tcpServers[0][1])
        stopped = [net.outcome(listener.stop(grace)) for grace in (60, 1)]
        if not closed_late:
            closing.callback(None)
        reactor.advance(1)
        client.link.run()
        if closed_late:
            closing.callback(None)
        assert [each.value for each in stopped] == [None, None]
        assert reactor.getDelayedCalls() == []

    def test_stop_at_once(self, net: Net, reactor: Any):
        listener = net.outcome(listen("tcp:11112", [net.scp], reactor=reactor)).value
        assert net.outcome(listener.stop(0)).value is None

    def test_misuse(self, net: Net, reactor: Any):
        with pytest.raises(MisuseError):
            listen("tcp:11112", [], ae_titles=["A" * 17], reactor=reactor)
        assert not reactor.tcpServers


def test_the_log_names_the_peer_and_not_its_control_characters(net: Net):
    """One line when it comes and one when it goes, with what was transferred."""
    client = net.client()
    client.send(replace(REQUEST, calling_ae_title="MOD\tALITY").encode())
    leave(net.associated(net.acceptor()))
    rejection, established, end = map(formatEvent, net.events)
    assert rejection.startswith("MOD\\tALITY@10.0.0.1:4242 called ARCHIVE: association rejected")
    assert rejection.endswith(": 'MOD\\tALITY' is none (PS3.5 6.2)")
    assert net.events[0]["log_level"] is LogLevel.warn
    assert established == (
        "MODALITY@10.0.0.1:4242 called ARCHIVE: association established, 2 of 2 contexts accepted"
    )
    assert "released the association" in end
    assert "bytes received" in end


def test_the_log_lists_refused_contexts(net: Net):
    net.client(net.acceptor([VerificationSCP()])).send(RQ)
    assert formatEvent(net.events[1]) == (
        f"MODALITY@10.0.0.1:4242: refused context 3, {CT_STORAGE} in {EXPLICIT}: "
        "result 3, abstract syntax not supported"
    )


@pytest.mark.parametrize("knock", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00\x01", b""])
def test_the_log_says_once_why_there_is_no_association(net: Net, knock: bytes):
    """Not DICOM at all, or nothing until ARTIM expires; as aloud as of one that is rejected."""
    client = net.client()
    client.send(knock)
    client.link.advance(LIMITS.artim)
    (line,) = map(formatEvent, net.events)
    assert line.startswith("10.0.0.1:4242: no association: ")
    assert {b"G": "HTTP?", b"\x16": "TLS on a plain port?", b"": "artim"}[knock[:1]] in line
    assert net.events[0]["log_level"] is LogLevel.warn


def test_the_log_says_once_why_there_is_one_no_longer(net: Net):
    client = net.associated(net.acceptor())
    net.events.clear()
    client.send(p_data((5, 3, b"ab")))  # a context of nobody
    (line,) = map(formatEvent, net.events)
    assert "association aborted by us" in line


@pytest.mark.parametrize("asks", [True, False])
def test_the_log_says_that_an_identity_has_no_response(net: Net, asks: bool):
    """A peer that asks for one may give up without it, and only says so on its side."""
    request = propose(
        [(VERIFICATION, [IMPLICIT])],
        called_ae_title="ARCHIVE",
        calling_ae_title="MODALITY",
        maximum_length=0,
        user_identity=username("somebody", response=asks),
    )
    net.client().send(request.encode())
    lines = [line for line in map(formatEvent, net.events) if "user identity" in line]
    why = "user identity: a response was asked for, and not given by us"
    assert lines == [f"MODALITY@10.0.0.1:4242: {why}"] * asks


def test_a_rejected_peer_cannot_flood_the_log(net: Net):
    client = net.client(net.acceptor(ae_titles=["OTHER"]))
    client.send(RQ)
    client.send(*[p_data((1, 0, b""))[:10] + bytes(2), RQ[:6] + bytes(len(RQ) - 6)] * 100)
    assert len(net.events) == 1


def test_an_scp_that_fails_in_the_negotiation(net: Net):
    """The peer may come again (PS3.8 9.3.4), and the log has the traceback."""

    class Crashing(VerificationSCP):
        def otherwise(self, abstract_syntax: str) -> SupportedContext | None:
            raise ZeroDivisionError

    assert rejected(net, net.acceptor([Crashing()])) == CONGESTION
    (failure,) = net.failures
    assert failure.check(ZeroDivisionError)
    net.failures.clear()


def test_behind_a_proxy_each_client_has_its_own_limit(net: Net):
    """HAProxy says for whom it speaks in a preamble, after the connection was made."""
    reactor: Any = MemoryReactorClock()
    limits = Limits(associations_per_address=1)
    net.outcome(listen("haproxy:tcp:11112", [net.scp], reactor=reactor, limits=limits))
    wrapped = reactor.tcpServers[0][1]
    answers = []
    for host in ("10.0.0.1", "10.0.0.2", "10.0.0.1"):
        client = net.raw(wrapped.buildProtocol(IPv4Address("TCP", "192.0.2.1", 80)), "192.0.2.1")
        client.send(f"PROXY TCP4 {host} 192.0.2.9 4242 11112\r\n".encode(), RQ)
        answers += client.news
    assert [type(answer) for answer in answers] == [AssociateAC, AssociateAC, AssociateRJ]
    assert answers[2] == LIMIT
    assert formatEvent(net.events[-1]).startswith("MODALITY@10.0.0.1:4242 called ARCHIVE: ")
    for link in net.links:
        link.cut()
    factory = wrapped.wrappedFactory
    assert (factory._waiting, factory._associated) == ({}, {})


def test_waiting_requests_are_dropped_when_a_peer_leaves(net: Net):
    """H-S04's twin in Sta6: what is performed goes on, and is answered to nobody."""
    done: Deferred[int] = Deferred()
    net.scp.on_finish = lambda sink: done
    factory = net.acceptor(limits=Limits(associations=1))
    client = net.associated(factory)
    client.send(ECHO)
    client.link.cut()
    net.associated(factory)
    done.callback(0)
