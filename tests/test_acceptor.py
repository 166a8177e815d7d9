"""The acceptor: who may come in, how many, and how it stops (PS3.8 7.1, 9.3.4)."""

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import formatEvent

from dimse.acceptor import AcceptorFactory, listen
from dimse.errors import MisuseError
from dimse.limits import Limits
from dimse.services.verification import VerificationSCP
from dimse.ul.negotiation import SupportedContext
from dimse.ul.pdu import Abort, AssociateAC, AssociateRJ, PDataTF
from tests.memory import Net, RawPeer
from tests.scripted import ECHO, RELEASE_RQ, RQ, STORE, data
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT, VERIFICATION

ADDRESS = IPv4Address("TCP", "10.0.0.1", 4242)
CONGESTION, LIMIT = AssociateRJ(2, 3, 1), AssociateRJ(2, 3, 2)  # PS3.8 9.3.4


def associated(net: Net, factory: AcceptorFactory, host: str = "10.0.0.1") -> RawPeer:
    client = net.client(factory, host)
    client.send(RQ)
    assert isinstance(client.news[0], AssociateAC)
    return client


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

    def test_the_first_scp_that_lists_a_sop_class_has_it(self, net: Net):
        first, second = VerificationSCP(), VerificationSCP()
        second.contexts = {
            VERIFICATION: SupportedContext((EXPLICIT,)),
            CT_STORAGE: SupportedContext(),
        }
        factory = net.acceptor([first, second])
        assert factory.policy.contexts[VERIFICATION].transfer_syntaxes is None
        assert factory.policy.contexts[CT_STORAGE].transfer_syntaxes == (IMPLICIT,)

    def test_called_ae_titles(self, net: Net):
        assert rejected(net, net.acceptor(ae_titles=["OTHER"])) == AssociateRJ(1, 1, 7)
        associated(net, net.acceptor(ae_titles=["OTHER", " ARCHIVE "]))

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
        associated(net, factory)

    def test_another_address_has_its_own(self, net: Net):
        factory = net.acceptor(limits=Limits(connections_per_address=1))
        net.client(factory)
        associated(net, factory, "10.0.0.2")

    def test_an_association_is_no_longer_one(self, net: Net):
        factory = net.acceptor(limits=Limits(connections=1))
        for _ in range(5):
            associated(net, factory)

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
        clients = [associated(net, factory) for _ in range(2)]
        assert rejected(net, factory) == LIMIT
        leave(clients[0])
        associated(net, factory)
        assert rejected(net, factory) == LIMIT
        clients[1].send(ECHO)
        assert isinstance(clients[1].news[0], PDataTF)

    @pytest.mark.parametrize("end", ["cut", "abort"])
    def test_recovery(self, net: Net, end: str):
        factory = net.acceptor(limits=Limits(associations=1))
        for _ in range(20):
            client = associated(net, factory)
            if end == "cut":
                client.link.cut()
            else:
                client.send(Abort(0, 0).encode())

    def test_another_address_has_its_own(self, net: Net):
        factory = net.acceptor(limits=Limits(associations_per_address=1))
        associated(net, factory)
        assert rejected(net, factory) == LIMIT
        associated(net, factory, "10.0.0.2")

    def test_nothing_is_kept_of_those_that_left(self, net: Net):
        factory = net.acceptor()
        for number in range(5):
            leave(associated(net, factory, f"10.0.0.{number}"))
        assert (factory._connections, factory._waiting, factory._associated) == (set(), {}, {})


class TestDrain:
    def test_nothing_open(self, net: Net):
        assert net.outcome(net.acceptor().drain(30)).value is None
        assert net.clock.getDelayedCalls() == []

    def test_it_waits_and_takes_no_more(self, net: Net):
        factory = net.acceptor()
        client, waiting = associated(net, factory), net.client(factory)
        drained = net.outcome(factory.drain(30))
        waiting.send(RQ)
        assert waiting.news == [CONGESTION]
        client.send(STORE, data(b"ab"))
        assert isinstance(client.news[0], PDataTF)
        waiting.link.near.loseConnection()
        waiting.link.run()
        assert drained.firings == []
        leave(client)
        assert drained.value is None
        assert net.clock.getDelayedCalls() == []

    def test_it_aborts_after_the_grace(self, net: Net):
        """In whatever state they are, and though one does not read."""
        factory = net.acceptor(limits=Limits(artim=100, close=5))
        client, silent, deaf = (
            associated(net, factory),
            net.client(factory),
            associated(net, factory),
        )
        deaf.link.far.write(b"unread")
        deaf.link.near.deaf = True
        drained = net.outcome(factory.drain(30))
        net.clock.advance(29.9)
        for link in net.links:
            link.run()
        assert not silent.closed
        net.clock.advance(0.1)
        for link in net.links:
            link.run()
        assert client.news == [Abort(0, 0)]
        assert silent.closed
        assert drained.firings == []
        deaf.link.advance(5)
        assert drained.value is None

    def test_twice(self, net: Net):
        factory = net.acceptor()
        client = associated(net, factory)
        drained = [net.outcome(factory.drain(30)) for _ in range(2)]
        leave(client)
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

    def test_stop(self, net: Net, reactor: Any):
        """It waits for the open associations, by default `Limits.grace` seconds."""
        listening = listen(
            "tcp:11112", [net.scp], reactor=reactor, limits=Limits(grace=9, artim=100)
        )
        listener = net.outcome(listening).value
        factory = reactor.tcpServers[0][1]
        client = net.client(factory)
        stopped = net.outcome(listener.stop())
        reactor.advance(8.9)
        client.link.run()
        assert stopped.firings == []
        reactor.advance(0.1)
        client.link.run()
        assert stopped.value is None
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
    client.send(RQ)
    leave(client)
    lines = [formatEvent(event) for event in net.events]
    assert lines[0].startswith("MODALITY@10.0.0.1:4242: association established, 2 of 2 contexts")
    assert "released the association" in lines[1]
    assert "bytes received" in lines[1]


def test_waiting_requests_are_dropped_when_a_peer_leaves(net: Net):
    """H-S04's twin in Sta6: what is performed goes on, and is answered to nobody."""
    done: Deferred[int] = Deferred()
    net.scp.on_finish = lambda sink: done
    factory = net.acceptor(limits=Limits(associations=1))
    client = associated(net, factory)
    client.send(ECHO)
    client.link.cut()
    associated(net, factory)
    done.callback(0)
