"""The Upper Layer and its transport: flow control, socket options (PS3.8 9.1.4)."""

import socket
from typing import Any, ClassVar

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport, ITCPTransport
from twisted.protocols.policies import WrappingFactory
from zope.interface import directlyProvides

from dimse.limits import Limits
from dimse.testing import Transport
from dimse.ul.pdu import PDUS, PDataTF
from dimse.ul.table import Sta
from dimse.ul.tcp import READ_SIZE
from tests.memory import Net, RawPeer
from tests.scripted import (
    AC,
    ECHO,
    RELEASE_RQ,
    RQ,
    STORE,
    Bytes,
    data,
    store_rq,
    store_rsp,
)
from tests.wire import framed


@pytest.fixture
def associated(net: Net) -> RawPeer:
    """A scripted requestor in Sta6."""
    client = net.client()
    client.send(RQ)
    client.received.clear()
    return client


class TestReading:
    """Paused reading stops the parse loop; resuming enters it again."""

    def test_pdus_wait(self, associated: RawPeer):
        associated.subject.pause_reading()
        associated.subject.dataReceived(ECHO + ECHO)
        associated.link.run()
        assert associated.received == b""
        associated.subject.resume_reading()
        associated.link.run()
        assert len(associated.news) == 2

    def test_from_inside_the_loop(self, net: Net, associated: RawPeer):
        """Only what is behind the PDU in hand waits, and needs no new bytes to go on."""
        net.scp.on_finish = lambda sink: (associated.subject.pause_reading(), Deferred())[1]
        associated.send(STORE + data(b"ab") + RELEASE_RQ)
        assert associated.link.far.timeline == ["pause"]
        assert associated.subject.state is Sta.Sta6
        associated.subject.resume_reading()
        assert associated.link.far.timeline == ["pause", "resume"]
        assert associated.subject.state.name == "Sta8"

    def test_pausing_and_resuming_inside_the_loop(self, net: Net, associated: RawPeer):
        def on_write(sink: Any) -> None:
            sink.operation.pauseProducing()
            sink.operation.resumeProducing()

        net.scp.on_write = on_write
        associated.send(STORE + data(b"ab", last=False) + data(b"cd") + ECHO)
        assert net.scp.sinks[0].data == b"abcd"
        assert len(associated.news) == 2

    def test_twice_is_once(self, associated: RawPeer):
        for _ in range(2):
            associated.subject.pause_reading()
        for _ in range(2):
            associated.subject.resume_reading()
        assert associated.link.far.timeline == ["pause", "resume"]


class TestWriting:
    def test_a_small_message_is_one_write(self, net: Net):
        """So that neither Nagle's algorithm nor a delayed ACK comes between its parts."""
        server = net.server()
        server.send(AC)
        association = server.outcome.value
        server.link.far.writes.clear()
        source = Bytes(bytes(10_000))
        context = association.contexts[3]
        net.outcome(association.request(context, store_rq(), source))
        assert len(server.link.far.writes) == 1

    def test_a_paused_transport_stops_a_message(self, net: Net):
        server = net.server()
        server.link.far.bufferSize = 100_000
        server.send(AC)
        association = server.outcome.value
        server.link.near.deaf = True
        source = Bytes(bytes(10_000_000))
        context = association.contexts[3]
        stored = net.outcome(association.request(context, store_rq(), source))
        server.link.run()
        assert server.subject.sending_paused
        assert len(server.link.far.buffer) < 400_000
        server.link.near.deaf = False
        server.link.run()
        assert not server.link.far.buffer
        assert source.left == 0
        server.send(store_rsp())
        assert stored.value.response.status == 0


class FakeSocket:
    """Takes `room` bytes of what is sent to it, or breaks."""

    def __init__(self) -> None:
        self.options: list[tuple[int, ...]] = []
        self.sent = bytearray()
        self.room = 1_000_000
        self.broken = False

    def setsockopt(self, *option: int) -> None:
        self.options.append(option)

    def send(self, data: bytes) -> int:
        if self.broken:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        taken = data[: self.room]
        self.room -= len(taken)
        self.sent += taken
        return len(taken)


class TCPTransport(Transport):
    """A transport that looks like TCP and remembers what was set."""

    def __init__(self, peer: Any) -> None:
        super().__init__(peer, peer)
        self.settings: dict[str, Any] = {}
        self.handle = FakeSocket()
        directlyProvides(self, ITCPTransport)

    def setTcpNoDelay(self, on: bool) -> None:  # noqa: N802  the interface
        self.settings["nodelay"] = on

    def setTcpKeepAlive(self, on: bool) -> None:  # noqa: N802  the interface
        self.settings["keepalive"] = on

    def getHandle(self) -> FakeSocket:  # noqa: N802  the interface
        return self.handle

    def flush(self) -> bytes:
        """All that waits goes to the peer."""
        data = self.take(len(self.buffer))
        self.drained()
        return data

    @property
    def quickacks(self) -> int:
        """How often TCP_QUICKACK was armed."""
        return self.handle.options.count((socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1))


@pytest.fixture
def tcp(net: Net) -> TCPTransport:
    """A TCP connection of an acceptor."""
    return accepted(net, TCPTransport(IPv4Address("TCP", "10.0.0.1", 4242)))


def accepted(net: Net, transport: TCPTransport) -> TCPTransport:
    peer = transport.getPeer()
    transport.protocol = net.acceptor().buildProtocol(peer)
    transport.protocol.makeConnection(transport)
    return transport


class TestTCP:
    SETTINGS: ClassVar = {"nodelay": True, "keepalive": True}

    def test_h_r24_options(self, tcp: TCPTransport):
        assert tcp.settings == self.SETTINGS
        assert tcp.bufferSize == READ_SIZE
        tcp.lose(ConnectionDone())

    def test_h_r06_unread_in_the_kernel(self, tcp: TCPTransport):
        """Behind our own time-out, and as other limits say once they count."""
        option = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert tcp.handle.options == [(*option, 66_000)]
        tcp.protocol.live_by(Limits(write_stall=10))
        assert tcp.handle.options[1:] == [(*option, 11_000)]
        tcp.protocol.live_by(Limits(write_stall=1e9))  # longer than the kernel knows
        assert tcp.handle.options[2:] == [(*option, 0x7FFFFFFF)]
        tcp.lose(ConnectionDone())

    def test_options_below_a_wrapper(self, net: Net):
        """As under TLS: the socket is that of the innermost transport."""
        peer = IPv4Address("TCP", "10.0.0.1", 4242)
        transport = TCPTransport(peer)
        wrapper = WrappingFactory(net.acceptor()).buildProtocol(peer)
        assert wrapper is not None
        transport.protocol = wrapper
        wrapper.makeConnection(transport)
        assert transport.settings == self.SETTINGS
        assert transport.bufferSize == READ_SIZE
        wrapper.dataReceived(RQ + ECHO[:9])
        assert transport.quickacks == 1
        transport.lose(ConnectionDone())

    def test_a_transport_that_is_no_tcp(self, associated: RawPeer):
        """A UNIX socket has no such options."""
        associated.send(ECHO[:9])
        assert associated.link.far.bufferSize != READ_SIZE
        associated.send(ECHO[9:])
        assert associated.received

    def test_an_unfinished_message_is_acknowledged_at_once(self, tcp: TCPTransport):
        """Else a sender with Nagle's algorithm waits 40 ms for the delayed ACK of each message."""
        receive = tcp.protocol.dataReceived
        receive(RQ[:50])
        assert tcp.quickacks == 0  # only a message is urgent
        receive(RQ[50:])
        tcp.flush()
        receive(ECHO)
        assert tcp.quickacks == 0
        receive(ECHO[:-1])
        assert tcp.quickacks == 1
        receive(ECHO[-1:])
        assert tcp.quickacks == 1
        receive(STORE)  # whole PDUs, but the message is not
        assert tcp.quickacks == 2
        receive(data(b"ab", last=False))
        assert tcp.quickacks == 3
        receive(data(b"cd"))
        assert tcp.quickacks == 3
        tcp.lose(ConnectionDone())

    def test_where_there_is_no_quickack(self, tcp: TCPTransport, monkeypatch: pytest.MonkeyPatch):
        """Only Linux has it."""
        monkeypatch.setattr("dimse.ul.tcp._QUICKACK", None)
        tcp.protocol.dataReceived(RQ + ECHO[:9])
        assert "progress" in tcp.protocol._timers  # it is unfinished
        assert tcp.quickacks == 0
        tcp.lose(ConnectionDone())

    def test_a_half_close_is_a_close(self, tcp: TCPTransport):
        """Without this interface Twisted reports the FIN of a peer as the end (H-S15)."""
        assert not IHalfCloseableProtocol.providedBy(tcp.protocol)
        tcp.lose(ConnectionDone())


class TestDirectWrites:
    """On plain TCP what the socket takes at once does not pass through the transport."""

    @pytest.fixture
    def associated_tcp(self, tcp: TCPTransport) -> TCPTransport:
        tcp.protocol.dataReceived(RQ)
        assert tcp.flush()[:1] == b"\2"
        tcp.writes.clear()
        return tcp

    def test_the_first_write_goes_through_the_transport(self, tcp: TCPTransport):
        """What was written before us, such as the preamble of a proxy, must not be overtaken."""
        tcp.protocol.dataReceived(RQ)
        assert tcp.handle.sent == b""
        assert tcp.writes[0][:1] == b"\2"
        assert tcp.protocol.sending_paused
        tcp.flush()
        assert not tcp.protocol.sending_paused
        tcp.lose(ConnectionDone())

    def test_the_socket_below_tls_is_never_touched(self, net: Net):
        """A TCP transport that began TLS by itself still is one."""
        tcp = TCPTransport(IPv4Address("TCP", "10.0.0.1", 4242))
        directlyProvides(tcp, ITCPTransport, ISSLTransport)
        accepted(net, tcp).protocol.dataReceived(RQ + ECHO + ECHO[:9])
        assert tcp.streaming
        assert [write[:1] for write in tcp.writes] == [b"\2", b"\4"]
        assert tcp.settings == {}
        assert tcp.handle.options == []
        assert tcp.handle.sent == b""
        tcp.lose(ConnectionDone())

    def test_a_response_goes_out_at_once(self, associated_tcp: TCPTransport):
        tcp = associated_tcp
        tcp.protocol.dataReceived(ECHO)
        assert tcp.handle.sent[:1] == b"\4"
        assert tcp.writes == []
        assert not tcp.protocol.sending_paused
        tcp.lose(ConnectionDone())

    @pytest.mark.parametrize("room", [0, 1, 50])
    @pytest.mark.parametrize("broken", [False, True])
    def test_what_it_does_not_take_comes_later(
        self, associated_tcp: TCPTransport, room: int, broken: bool
    ):
        """In order, and as under a transport that buffers: the peer has to read it."""
        tcp = associated_tcp
        tcp.handle.room, tcp.handle.broken = room, broken
        tcp.protocol.dataReceived(ECHO)
        assert tcp.protocol.sending_paused
        tcp.handle.room, tcp.handle.broken = 1000, False
        tcp.protocol.dataReceived(ECHO)
        assert len(tcp.handle.sent) == (0 if broken else room)  # nothing passes by
        whole = bytes(tcp.handle.sent + tcp.take(1000))
        assert len(whole) > 80
        assert whole[:1] == b"\4"
        tcp.drained()
        assert not tcp.protocol.sending_paused
        assert len(tcp.handle.sent) > len(whole) - room - 1  # the second answer
        tcp.lose(ConnectionDone())

    def test_a_peer_that_does_not_read(self, net: Net, associated_tcp: TCPTransport):
        tcp = associated_tcp
        tcp.handle.room = 0
        tcp.protocol.dataReceived(ECHO)
        net.clock.advance(60)
        assert tcp.protocol.user.ended.which == "write_stall"
        assert tcp.aborted
        tcp.lose(ConnectionDone())

    def test_a_large_message_lets_others_have_their_turn(self, net: Net):
        """Each large write ends the turn of the reactor, and nothing gets out of order."""
        transport = TCPTransport(IPv4Address("TCP", "10.0.0.2", 104))
        factory = net.requestor()
        transport.protocol = factory.buildProtocol(transport.getPeer())
        established = net.outcome(factory.established)
        transport.protocol.makeConnection(transport)
        transport.flush()
        transport.protocol.dataReceived(AC)
        transport.handle.room = 1 << 30
        association = established.value
        source = Bytes(bytes(range(256)) * 8000)
        net.outcome(association.request(association.contexts[3], store_rq(), source))
        assert transport.protocol.sending_paused
        assert 0 < source.length - source.left <= READ_SIZE + 16384
        net.clock.advance(0)  # as many turns as it takes
        pdus = [PDUS[kind].decode(body) for kind, body in framed([bytes(transport.handle.sent)])]
        sent = b"".join(
            pdv.fragment for pdu in pdus if isinstance(pdu, PDataTF) for pdv in pdu.pdvs[-1:]
        )
        assert sent.endswith(source.content)
        transport.lose(ConnectionDone())

    def test_what_waits_when_its_turn_comes(self, net: Net, associated_tcp: TCPTransport):
        """Then the transport says when there is room, and not the turn of the reactor."""
        tcp = associated_tcp
        large, small = bytes(100_000), b"small"
        tcp.protocol.send(large)
        tcp.handle.room = 0
        tcp.protocol.send(small)
        net.clock.advance(0)
        assert tcp.protocol.sending_paused
        assert tcp.flush() == small
        assert not tcp.protocol.sending_paused
        tcp.lose(ConnectionDone())

    def test_an_abort_does_not_pass_what_waits(self, net: Net, associated_tcp: TCPTransport):
        tcp = associated_tcp
        tcp.handle.room = 10
        tcp.protocol.dataReceived(ECHO)
        tcp.handle.room = 1000
        tcp.protocol.user.abort()
        assert len(tcp.handle.sent) == 10
        assert tcp.buffer.endswith(bytes.fromhex("07000000000400000000"))
        tcp.lose(ConnectionDone())
