"""The Upper Layer on a Twisted transport: buffers, timers, flow control (PS3.8 9.1, 9.2).

`UpperLayerProtocol` is the `Provider` of a `Machine`. Everything that a peer could use to hold us
is bounded here: each wait has a time-out of `Limits` on the injected clock, a header decides
about its PDU, and neither side can make us buffer more than one read and one write.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IHandshakeListener, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dimse.errors import (
    AssociationError,
    AssociationRejectedError,
    DimseError,
    ProtocolError,
    TLSError,
)
from dimse.events import Events, Span
from dimse.limits import Limits
from dimse.ul import tcp, tracing
from dimse.ul.framing import Framer
from dimse.ul.handshake import Handshake
from dimse.ul.machine import Machine
from dimse.ul.pdu import (
    ABORT_LENGTH,
    PDUS,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    PDUType,
    check_length,
)
from dimse.ul.table import Evt, Sta
from dimse.ul.timers import Timers
from dimse.ul.turns import SHARE, Turns
from dimse.ul.users import Establisher, User
from dimse.ul.writing import Writer


@implementer(IHandshakeListener)
class UpperLayerProtocol(Protocol):
    """One transport connection and its association, on either side.

    With a `request` this is the requestor, and the request is sent as soon as the connection is
    there; without, it is the acceptor. `outcome` says how it ended, once that is known.
    """

    _log = Logger()
    transport: Any  # TCP, a UNIX socket, TLS around one, or a test's: no interface covers it

    def __init__(
        self,
        establisher: Establisher,
        limits: Limits,
        clock: IReactorTime,
        request: AssociateRQ | None = None,
        turns: Turns | None = None,
    ) -> None:
        self.user: User | None = None
        self.events = Events()
        self.outcome: AssociationError | None = None
        self.bytes_received = self.bytes_sent = 0
        self._establisher = establisher
        self._limits = limits
        self._request = request
        self._machine = Machine(self, requestor=request is not None)
        self._framer = Framer(self._admit)
        self._pdu_length = 0  # of the PDU that comes, though its body may not be kept
        self._deaf = False  # what still comes cannot be told apart any more
        self._tcp: Any = None  # the TCP transport, below TLS if there is TLS
        self.handshake = Handshake(requestor=request is not None)
        self._reading_paused = self._parsing = False
        self._over_share = False  # had its share of this turn, and waits for the next one
        self._active = 0.0  # when something was last sent or received
        self._timers = Timers(limits, clock)
        self._writer = Writer(self._timers, self._may_stall, self._stalled, self._writable)
        self._turns = turns or Turns(clock)
        self._closed = False
        self._close_waiters: list[Deferred[None]] = []
        self._span: Span | None = None

    @property
    def state(self) -> Sta:
        """The state of the machine (PS3.8 9.2.1)."""
        return self._machine.state

    @property
    def sending_paused(self) -> bool:
        """Whether the transport has enough; `User.sending_resumed` follows."""
        return self._writer.paused

    @property
    def can_send_data(self) -> bool:
        """Whether P-DATA is allowed now: Evt9 has a cell in Sta6 and Sta8."""
        return self._machine.state in (Sta.Sta6, Sta.Sta8)

    # The transport

    def connectionMade(self) -> None:
        """Prepare the socket, start the machine; ARTIM runs from here on (AE-5), also for TLS."""
        if self.events:
            mode = {"mode": "scp" if self._request is None else "scu"}
            self._span = Span(self.events, self._timers.clock.seconds, "association", mode)
        self._tcp = tcp.prepare(self.transport)
        tcp.limit_unread(self._tcp, self._limits.write_stall)
        self.handshake.begin(self.transport)
        self._writer.begin(self.transport, direct=self._tcp is self.transport)
        if self._request is None:
            self._machine.handle(Evt.Evt5)
        else:
            self._timers.start("associate", partial(self._give_up, "associate"))
            self._machine.handle(Evt.Evt1)

    def dataReceived(self, data: bytes) -> None:
        """Run what has come through the machine, as far as reading is not paused."""
        self.bytes_received += len(data)
        self._active = self._timers.clock.seconds()
        if self.sending_paused and self._machine.state is Sta.Sta13:
            self._deaf = True  # it floods us and reads no farewell, so it gets no other one
        if self._deaf:
            return
        self._framer.feed(data)
        self._parse()
        if not self._over_share:
            self._turns.served(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone: no timer stays, and whoever waits is told."""
        self._deaf = self._closed = True
        self._turns.leave(self)
        self._timers.stop_all()
        why = self.handshake.explain(reason.value)
        if isinstance(why, TLSError) and self._machine.state is Sta.Sta2:
            self._say(why)
        self._machine.handle(Evt.Evt17, why)
        self._timers.stop_all()
        if self._span is not None:
            tracing.ended(self._span, self.outcome, self.bytes_received, self.bytes_sent)
        while self._close_waiters:
            self._close_waiters.pop(0).callback(None)

    def handshakeCompleted(self) -> None:
        """TLS has agreed: only now the transport connection is open."""
        self.handshake.pending = False
        if self.events:
            tracing.handshake(self.events, self.transport.getHandle())
        if self._machine.state is Sta.Sta4:
            self._machine.handle(Evt.Evt2, self._request)

    def when_closed(self) -> Deferred[None]:
        """Fires with None when the connection is gone."""
        if self._closed:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._close_waiters.append(waiter)
        return waiter

    def _parse(self, share: int = SHARE) -> None:
        if self._parsing or self._over_share:
            return  # resumed from inside the loop, which goes on by itself, or too early
        self._parsing = True
        try:
            for _ in range(share):
                if self._reading_paused or self._deaf or not self._next():
                    break
            else:
                self._over_share = True
                self.transport.pauseProducing()
                self._turns.wait(self, self._new_share)
        finally:
            self._parsing = False
        self._watch_progress()

    def _new_share(self) -> None:
        self._over_share = False
        if not self._reading_paused:
            self.transport.resumeProducing()
            self._parse(self._turns.share(self))

    def _next(self) -> bool:
        """Take one PDU; returns whether there was one."""
        try:
            found = self._framer.next_pdu()
            if found is None:
                return False
            pdu_type, body = found
            pdu = PDUS[pdu_type].decode(body) if self._machine.wants(pdu_type) else None
        except ProtocolError as error:
            self._deaf = not error.in_step
            self.refuse(error)
        else:
            if self.events:
                tracing.pdu(self.events, "pdu.received", pdu_type, self._pdu_length)
            self._machine.receive(pdu_type, pdu)
        return True

    def _admit(self, pdu_type: int, length: int) -> bool:
        self._pdu_length = length
        check_length(
            pdu_type,
            length,
            associate=self._limits.associate_length,
            p_data=self._limits.maximum_length,
        )
        if pdu_type == PDUType.ABORT and length != ABORT_LENGTH:
            return False  # it aborts at once, whatever length it claims
        return self._machine.wants(pdu_type)

    # What the user of the association calls

    def expect_answer(self, expired: Callable[[], object]) -> None:
        """Call `expired` unless the indication is answered within `Limits.associate`."""
        self._timers.start("associate", expired)

    def accept(self, answer: AssociateAC) -> None:
        """Answer the indication with A-ASSOCIATE-AC; `user` is set already."""
        self._timers.stop("associate")
        self._machine.handle(Evt.Evt7, answer)
        self._watch_idle()

    def reject(self, answer: AssociateRJ) -> None:
        """Answer the indication with A-ASSOCIATE-RJ."""
        self._machine.handle(Evt.Evt8, answer)
        self.outcome = AssociationRejectedError(answer.result, answer.source, answer.reason)

    def send_data(self, data: bytes) -> None:
        """Send whole P-DATA-TF PDUs in one write; look at `sending_paused` before the next."""
        self._machine.handle(Evt.Evt9, data)

    def live_by(self, limits: Limits) -> None:
        """Take other limits, before the association is accepted."""
        self._limits = self._timers.limits = limits
        tcp.limit_unread(self._tcp, limits.write_stall)

    def release(self) -> None:
        """Ask for release; `release_confirmation` or `abort_indication` follows."""
        self._machine.handle(Evt.Evt11)
        self._timers.start("associate", partial(self._give_up, "associate"))

    def release_response(self) -> None:
        """Answer the release indication."""
        self._machine.handle(Evt.Evt14)

    def abort(self) -> None:
        """Send A-ABORT if there is an association to abort; nobody is told."""
        if self._machine.state not in _OVER:
            self._machine.handle(Evt.Evt15)

    def refuse(self, error: ProtocolError) -> None:
        """What the peer sent is invalid (Evt19)."""
        if self.user is None:  # else the end of the association says it
            self._say(error)
        self._machine.handle(Evt.Evt19, error)

    def pause_reading(self) -> None:
        """Stop taking PDUs, and with it bytes; time in this state is not the peer's."""
        if not self._reading_paused:
            self._reading_paused = True
            self.transport.pauseProducing()
            self._timers.stop("progress")

    def resume_reading(self) -> None:
        """Go on, first with what was already read."""
        if self._reading_paused:
            self._reading_paused = False
            if not self._over_share:
                self.transport.resumeProducing()
                self._parse()

    # Provider: what the machine calls

    def open_transport(self) -> None:
        """The endpoint has opened it already, so confirm at once, unless TLS comes first."""
        if not self.handshake.pending:
            self._machine.handle(Evt.Evt2, self._request)

    def close_transport(self, seconds: float | None = None) -> None:
        """Close politely, and after `Limits.close`, or `seconds`, in any case."""
        self._quiet()
        self._deaf = True
        self.transport.unregisterProducer()  # a registered one would keep it open
        self.transport.loseConnection()
        if not self._closed:
            self._timers.start("close", self.transport.abortConnection, seconds)

    def send(self, data: bytes) -> None:
        """Hand the bytes to the transport."""
        self.bytes_sent += len(data)
        self._active = self._timers.clock.seconds()
        if self.events:
            tracing.sent(self.events, data)
        self._writer.write(data)

    def start_artim(self) -> None:
        """An absolute deadline: no byte of the peer moves it."""
        self._quiet()
        self._timers.start("artim", self._artim_expired)

    def stop_artim(self) -> None:
        """The wait is over."""
        self._timers.stop("artim")

    def associate_indication(self, request: AssociateRQ) -> None:
        """Pass on to the establisher."""
        self._establisher.associate_indication(request)

    def associate_confirmation(self, answer: AssociateAC | AssociateRJ) -> None:
        """Pass on to the establisher; an answer that cannot be used aborts."""
        self._timers.stop("associate")
        try:
            self._establisher.associate_confirmation(answer)
        except ProtocolError as error:
            self.refuse(error)
        else:
            if self.user is not None:
                self._watch_idle()

    def data_indication(self, data: PDataTF) -> None:
        """Pass on to the user; what it cannot accept aborts."""
        assert self.user is not None
        try:
            self.user.data_indication(data)
        except ProtocolError as error:
            self.refuse(error)

    def release_indication(self) -> None:
        """Pass on to the user; in the middle of a message it aborts."""
        assert self.user is not None
        try:
            self.user.release_indication()
        except ProtocolError as error:
            self.refuse(error)

    def release_confirmation(self) -> None:
        """Pass on to the user."""
        self._timers.stop("associate")
        assert self.user is not None
        self.user.release_confirmation()

    def abort_indication(self, error: AssociationError) -> None:
        """Pass on to whoever is there."""
        self.outcome = self.outcome or error
        (self.user or self._establisher).abort_indication(error)

    # Time-outs

    def _quiet(self) -> None:
        """Stop the timers of an association: there is none yet, or it is over."""
        self._timers.stop("associate", "idle", "progress", "write_stall", "turn")

    def _artim_expired(self) -> None:
        if self._machine.state is Sta.Sta2:
            self._say(self.handshake.timed_out("artim", self._limits.artim))
        self._machine.handle(Evt.Evt18)

    def _say(self, error: DimseError) -> None:
        """Why there will be no association: nobody else logs it."""
        peer = tcp.describe(self.transport.getPeer())
        self._log.warn("{peer}: no association: {error}", peer=peer, error=error)

    def _give_up(self, limit: str) -> None:
        """A time-out of ours ends the association: A-ABORT, and the user is told why."""
        error = self.handshake.timed_out(limit, getattr(self._limits, limit))
        self.outcome = self.outcome or error
        self.abort()
        (self.user or self._establisher).abort_indication(error)

    def _may_stall(self) -> bool:
        """When the association is over, ARTIM or the close is the limit."""
        return self._machine.state not in _OVER

    def _writable(self) -> None:
        if self.user is not None:
            self.user.sending_resumed()

    def _stalled(self) -> None:
        self._give_up("write_stall")
        self.transport.abortConnection()  # it does not read, so no farewell reaches it

    def _watch_idle(self) -> None:
        self._active = self._timers.clock.seconds()
        self._timers.start("idle", self._maybe_idle)

    def _maybe_idle(self) -> None:
        assert self.user is not None
        left = self._active + self._limits.idle - self._timers.clock.seconds()
        if self.user.busy or self._framer.incomplete:
            self._timers.start("idle", self._maybe_idle)
        elif left > 0:
            self._timers.start("idle", self._maybe_idle, left)
        else:
            self._give_up("idle")

    def _watch_progress(self) -> None:
        """A message that has begun keeps a pace; and its sender gets its ACK at once.

        A sender with Nagle's algorithm on waits for our ACK before it sends the last, short
        segment of a message, and Linux would delay that ACK by 40 ms and more.
        """
        user = self.user
        if user is None or self._reading_paused or self._deaf:
            return
        if not (user.receiving or self._framer.incomplete):
            self._timers.stop("progress")
            return
        if self._tcp is not None:
            tcp.acknowledge_now(self._tcp)
        if "progress" not in self._timers:
            least, fell_short = self._limits.progress_bytes, partial(self._give_up, "progress")
            self._timers.keep_pace("progress", lambda: self.bytes_received, least, fell_short)


_OVER = (Sta.Sta1, Sta.Sta2, Sta.Sta13)
