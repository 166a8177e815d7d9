"""The Upper Layer on a transport: timers, closing, flow control, socket options (PS3.8 9.1)."""

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone

from dimse.errors import TimedOutError
from dimse.limits import Limits
from dimse.services.verification import echo
from dimse.ul.pdu import Abort
from dimse.ul.table import Sta
from tests.memory import Net, RawPeer
from tests.scripted import (
    ABORT,
    AC,
    ECHO,
    RELEASE_RP,
    RELEASE_RQ,
    RQ,
    STORE,
    UNEXPECTED,
    data,
    echo_rsp,
    p_data,
)

LIMITS = Limits(
    artim=10, associate=30, response=60, idle=300, write_stall=20, progress=40, close=5,
    maximum_length=16384,
)  # fmt: skip


@pytest.fixture
def client(net: Net) -> RawPeer:
    """A scripted requestor, connected; nothing was sent."""
    return net.client(net.acceptor(limits=LIMITS))


@pytest.fixture
def associated(client: RawPeer) -> RawPeer:
    """The same in Sta6."""
    client.send(RQ)
    assert client.subject.state is Sta.Sta6
    client.received.clear()
    return client


@pytest.fixture
def server(net: Net) -> RawPeer:
    """A scripted acceptor that was asked for an association."""
    return net.server(limits=LIMITS)


def end(peer: RawPeer) -> Any:
    """The reason why the association at the other end is over."""
    return peer.subject.user.ended


class TestArtim:
    """An absolute deadline (PS3.8 9.1.5)."""

    def test_silence(self, client: RawPeer):
        client.link.advance(9.99)
        assert not client.closed
        client.link.advance(0.01)
        assert client.closed
        assert client.received == b""

    def test_a_trickle_does_not_move_it(self, client: RawPeer):
        for byte in RQ[:9]:
            client.send(bytes((byte,)))
            client.link.advance(1)
        client.send(RQ[9:20])
        assert not client.closed
        client.link.advance(1)
        assert client.closed

    def test_bytes_behind_it_do_nothing(self, client: RawPeer):
        """TLS hands on what it had decrypted already, even after `loseConnection`."""
        client.link.far.deaf = client.link.near.deaf = True  # so that the close takes time
        client.subject.dataReceived(RQ[:10])
        client.link.advance(10)
        assert client.subject.state is Sta.Sta1
        client.subject.dataReceived(RQ[10:])
        client.subject.dataReceived(ECHO)
        assert client.subject.state is Sta.Sta1
        assert client.link.far.writes == []

    def test_it_ends_with_the_request(self, client: RawPeer):
        client.link.advance(9)
        client.send(RQ)
        client.link.advance(100)
        assert not client.closed

    def test_after_a_rejection(self, net: Net):
        client = net.client(net.acceptor(limits=LIMITS, ae_titles=["OTHER"]))
        client.send(RQ)
        client.link.advance(9.9)
        assert not client.closed
        client.link.advance(0.1)
        assert client.closed


class TestAnswers:
    """`Limits.associate`: the answer to an association or release request."""

    def test_no_answer_to_the_association_request(self, server: RawPeer):
        server.link.advance(29.9)
        assert server.outcome.firings == []
        server.received.clear()
        server.link.advance(0.1)
        assert isinstance(server.outcome.value, TimedOutError)
        assert server.outcome.value.which == "associate"
        assert server.pdus == [Abort(0, 0)]
        server.link.advance(10)
        assert server.closed

    def test_a_trickle_is_no_answer(self, server: RawPeer):
        for byte in AC[:29]:
            server.send(bytes((byte,)))
            server.link.advance(1)
        assert server.outcome.firings == []
        server.link.advance(1)
        assert server.outcome.value.which == "associate"

    def test_an_answer_in_time(self, server: RawPeer):
        server.link.advance(29.9)
        server.send(AC)
        server.link.advance(100)
        assert not server.closed

    def test_no_answer_to_the_release_request(self, net: Net, server: RawPeer):
        server.send(AC)
        released = net.outcome(server.outcome.value.release())
        server.link.advance(29.9)
        assert released.firings == []
        server.link.advance(0.1)
        assert released.value.which == "associate"
        assert server.pdus[-1] == Abort(0, 0)

    def test_a_release_collision_without_confirmation(self, net: Net, server: RawPeer):
        """Sta11 waits for A-RELEASE-RP, no longer than any other answer."""
        server.send(AC)
        released = net.outcome(server.outcome.value.release())
        server.send(RELEASE_RQ)
        assert server.subject.state is Sta.Sta11
        server.link.advance(30)
        assert released.value.which == "associate"


class TestIdle:
    def test_silence(self, associated: RawPeer):
        associated.link.advance(299.9)
        assert associated.received == b""
        associated.link.advance(0.1)
        assert associated.news == [Abort(0, 0)]
        assert end(associated).which == "idle"
        associated.link.advance(10)
        assert associated.closed

    def test_what_the_peer_sends_moves_it(self, associated: RawPeer):
        associated.link.advance(200)
        associated.send(ECHO)
        associated.received.clear()
        associated.link.advance(299.9)
        assert associated.received == b""
        associated.link.advance(0.1)
        assert associated.news == [Abort(0, 0)]

    def test_what_we_send_moves_it(self, net: Net, associated: RawPeer):
        """The response is the last byte, long after its request."""
        done: Deferred[int] = Deferred()
        net.scp.on_finish = lambda sink: done
        associated.send(ECHO)
        associated.link.advance(250)
        done.callback(0)
        associated.link.advance(299.9)
        assert end(associated) is None
        associated.link.advance(0.1)
        assert end(associated).which == "idle"

    def test_not_while_a_request_is_performed(self, net: Net):
        done: Deferred[int] = Deferred()
        net.scp.on_finish = lambda sink: done
        client = net.client(net.acceptor(limits=Limits(idle=10, perform=1000)))
        client.send(RQ, ECHO)
        client.link.advance(999)
        assert end(client) is None
        done.callback(0)
        client.link.advance(10)
        assert end(client).which == "idle"

    def test_not_while_a_response_is_awaited(self, net: Net):
        limits = Limits(idle=10, response=60)
        server = net.server(limits=limits)
        server.send(AC)
        echoed = net.outcome(echo(server.outcome.value))
        server.link.advance(59)
        server.send(echo_rsp())
        assert echoed.value == 0


def test_the_response_time_out(net: Net, server: RawPeer):
    """`Limits.response` runs from the whole request on."""
    server.send(AC)
    echoed = net.outcome(echo(server.outcome.value))
    server.link.advance(59.9)
    assert echoed.firings == []
    server.link.advance(0.1)
    assert isinstance(echoed.value, TimedOutError)
    assert echoed.value.which == "response"
    assert server.pdus[-1] == Abort(0, 0)


class TestWriteStall:
    """A peer that does not read what is buffered for it."""

    def stalled(self, associated: RawPeer) -> None:
        associated.link.far.bufferSize = 10
        associated.link.near.deaf = True
        associated.send(ECHO)
        assert associated.subject.sending_paused

    def test_at_its_limit(self, associated: RawPeer):
        self.stalled(associated)
        associated.link.advance(19.9)
        assert end(associated) is None
        associated.link.advance(0.1)
        assert end(associated).which == "write_stall"
        assert associated.link.far.lost  # at once: no farewell would reach it

    def test_reading_ends_it(self, associated: RawPeer):
        self.stalled(associated)
        associated.link.advance(19.9)
        associated.link.near.deaf = False
        associated.link.run()
        associated.link.advance(100)
        assert end(associated) is None
        assert not associated.subject.sending_paused


class TestProgress:
    """A message that has begun brings `progress_bytes` per `progress`."""

    PIECE = 4096

    @pytest.fixture
    def started(self, associated: RawPeer) -> RawPeer:
        associated.send(STORE)
        return associated

    def test_nothing_more(self, started: RawPeer):
        started.link.advance(39.9)
        assert started.received == b""
        started.link.advance(0.1)
        assert started.news == [Abort(0, 0)]
        assert end(started).which == "progress"

    def test_a_pdu_begun(self, associated: RawPeer):
        associated.send(ECHO[:3])
        associated.link.advance(39.9)
        assert end(associated) is None
        associated.link.advance(0.1)
        assert end(associated).which == "progress"

    def test_a_trickle(self, started: RawPeer):
        for _ in range(40):
            started.send(data(bytes(2), last=False))
            started.link.advance(1)
        assert end(started).which == "progress"

    def test_enough(self, started: RawPeer):
        for _ in range(20):
            started.send(*[data(bytes(8192), last=False)] * 8)
            started.link.advance(39.9)
        assert end(started) is None
        started.send(data(b"ab"))
        started.link.advance(100)
        assert end(started) is None

    def test_a_message_that_ended(self, started: RawPeer):
        started.link.advance(39.9)
        started.send(data(b"ab"))
        started.link.advance(100)
        assert end(started) is None

    def test_time_in_which_we_pause_is_not_the_peers(self, net: Net, started: RawPeer):
        started.send(data(bytes(2), last=False))
        operation = net.scp.sinks[0].operation
        operation.pauseProducing()
        started.link.advance(1000)
        assert end(started) is None
        operation.resumeProducing()
        started.link.advance(39.9)
        assert end(started) is None
        started.link.advance(0.1)
        assert end(started).which == "progress"


def release(peer: RawPeer) -> None:
    peer.subject.release()
    peer.send(RELEASE_RP)


CLOSES: dict[str, Callable[[RawPeer], object]] = {
    "abort": lambda peer: peer.subject.user.abort(),
    "aborted by the peer": lambda peer: peer.send(ABORT),
    "invalid": lambda peer: peer.send(b"\xff" * 6),
    "unexpected": lambda peer: peer.send(RQ),
    "released": lambda peer: peer.send(RELEASE_RQ),
    "idle": lambda peer: peer.link.advance(300),
    "release confirmed": release,
}


@pytest.mark.parametrize("way", CLOSES)
def test_every_close_ends_though_the_peer_never_reads(net: Net, associated: RawPeer, way: str):
    """`loseConnection` waits for the buffer to drain; `Limits.close` behind ARTIM does not."""
    associated.link.far.write(b"unread")
    associated.link.near.deaf = True
    CLOSES[way](associated)
    associated.link.advance(LIMITS.artim)
    associated.link.advance(LIMITS.close)
    assert associated.link.far.lost
    assert net.clock.getDelayedCalls() == []


def test_close_is_polite_first(associated: RawPeer):
    associated.link.far.write(b"unread")
    associated.link.near.deaf = True
    associated.send(ABORT)
    associated.link.advance(LIMITS.close - 0.1)
    assert associated.link.far.disconnecting
    assert not associated.link.far.aborted
    associated.link.near.deaf = False
    associated.link.run()
    assert associated.link.far.lost
    assert not associated.link.far.aborted


class TestSta13:
    """The association is over, and the peer has not closed yet."""

    @pytest.fixture
    def over(self, associated: RawPeer) -> RawPeer:
        associated.subject.user.abort()
        associated.link.run()
        assert associated.news == [Abort(0, 0)]
        assert associated.subject.state is Sta.Sta13
        return associated

    def test_pdus_are_ignored(self, over: RawPeer):
        over.send(AC, ECHO, RELEASE_RQ, RELEASE_RP)
        assert over.received == b""

    def test_a_request_gets_another_abort(self, over: RawPeer):
        over.send(RQ)
        assert over.news == [UNEXPECTED]

    def test_bytes_are_not_kept(self, over: RawPeer):
        """Whatever they pretend to begin: the body of an ignored PDU is skipped."""
        over.send(p_data((1, 0, bytes(1000)))[:100])
        over.send(bytes(900), b"\x04\0\0\0\x3f\xff")
        for _ in range(100):
            over.send(bytes(100_000))
            assert len(over.subject._framer._partial) == 0
            assert len(over.subject._framer._chunk) <= 100_000  # the last read
        over.link.advance(10)
        assert over.closed

    def test_a_flood_of_requests_that_reads_nothing_is_not_answered_for_ever(self, over: RawPeer):
        over.link.near.deaf = True
        over.link.far.bufferSize = 1000
        for _ in range(1000):
            over.send(RQ)
        assert len(over.link.far.buffer) < 2000

    def test_an_abort_closes(self, over: RawPeer):
        over.send(ABORT)
        assert over.closed

    def test_a_close_is_seen_though_reading_was_paused(self, net: Net, associated: RawPeer):
        """A sink that paused the peer has ended with the association."""
        associated.send(STORE, data(bytes(2), last=False))
        net.scp.sinks[0].operation.pauseProducing()
        associated.subject.user.abort()
        associated.link.run()
        associated.link.near.loseConnection()
        associated.link.run()
        assert associated.link.far.lost

    def test_pausing_then_has_no_effect(self, net: Net, associated: RawPeer):
        associated.send(STORE, data(bytes(2), last=False))
        associated.subject.user.abort()
        net.scp.sinks[0].operation.pauseProducing()
        assert associated.link.far.reading


def test_all_who_wait_for_the_close_hear_of_it(net: Net, client: RawPeer):
    closed = [net.outcome(client.subject.when_closed()) for _ in range(2)]
    assert [each.firings for each in closed] == [[], []]
    client.link.cut()
    assert [each.value for each in closed] == [None, None]
    assert net.outcome(client.subject.when_closed()).value is None


def test_bytes_are_counted(associated: RawPeer):
    received, sent = associated.subject.bytes_received, associated.subject.bytes_sent
    associated.send(ECHO)
    assert associated.subject.bytes_received == received + len(ECHO)
    assert associated.subject.bytes_sent == sent + len(associated.received)


def test_an_abort_of_what_is_over_sends_nothing(associated: RawPeer):
    """A second A-ABORT would be an error of ours: Evt15 has no cell in Sta13 for it to be sent."""
    for _ in range(2):
        associated.subject.abort()
    associated.link.run()
    assert [type(pdu) for pdu in associated.news] == [Abort]


def test_a_transport_that_is_lost_while_it_is_closed(
    net: Net, associated: RawPeer, monkeypatch: pytest.MonkeyPatch
):
    """One that calls connectionLost from loseConnection leaves no timer of the close behind."""
    transport = associated.link.far
    monkeypatch.setattr(transport, "loseConnection", lambda: transport.lose(ConnectionDone()))
    associated.send(ABORT)
    assert associated.subject.state is Sta.Sta1
    assert net.clock.getDelayedCalls() == []


def test_tls_agrees_and_nobody_listens(associated: RawPeer):
    """The transport is not asked for what nobody hears of: this one could not tell."""
    associated.subject.handshakeCompleted()
    assert associated.subject.state is Sta.Sta6
