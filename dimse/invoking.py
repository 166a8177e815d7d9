"""Requests of ours and the responses of the peer to them (PS3.7 6.2, 7.5)."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from dimse.errors import (
    AbortReason,
    AbortSource,
    AssociationAbortedError,
    AssociationError,
    DimseError,
    MisuseError,
    ProtocolError,
    TimedOutError,
)
from dimse.events import Events, Span
from dimse.limits import Limits
from dimse.message.base import Request, Response
from dimse.message.command import Value
from dimse.message.messages import MESSAGES, CCancelRQ, CGetRQ, CMoveRQ
from dimse.message.status import Category, Status
from dimse.sending import Outbox, OutgoingMessage, Source
from dimse.ul.negotiation import AcceptedContext

_LAST_MESSAGE_ID = 0xFFFF


@dataclass(frozen=True, slots=True)
class Answer:
    """A response and its data set, encoded in the transfer syntax of `context`."""

    context: AcceptedContext
    response: Response
    data: bytes | None = None


@dataclass(slots=True, eq=False)
class Invocation:
    """A request on its way; `answer` fires with its final answer, and nobody may wait for it."""

    context: AcceptedContext
    request: Request
    source: Source | None
    on_pending: Callable[[Answer], object]
    response_time: float
    answer: Deferred[Answer] = field(init=False)
    settled: bool = False  # whether `answer` has fired
    stopped: bool = False  # whether C-CANCEL was sent
    message: OutgoingMessage | None = None
    early: Answer | None = None  # it failed before the data set was sent
    timer: IDelayedCall | None = None
    span: Span | None = None


class Invoker:
    """Invokes operations on the peer, `window` at a time; the others wait their turn.

    `excused(request)` tells whether it is not the peer's fault that no response comes,
    `give_up(error)` ends the association, `pause(paused)` stops reading or goes on, and `changed()`
    is told when one operation less is outstanding.
    """

    _log = Logger()

    def __init__(
        self,
        outbox: Outbox,
        clock: IReactorTime,
        limits: Limits,
        events: Events,
        *,
        excused: Callable[[Request], bool],
        give_up: Callable[[AssociationError], None],
        pause: Callable[[bool], None],
        changed: Callable[[], None],
        window: int,
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._limits = limits
        self._events = events
        self._excused = excused
        self._give_up = give_up
        self._pause = pause
        self._changed = changed
        self._window = window
        self._message_id = 0
        self._used: set[int] = set()  # Message IDs of what is outstanding or waits
        self._invoked: dict[int, Invocation] = {}
        self._waiting: deque[Invocation] = deque()
        self._full: set[Invocation] = set()  # whose Pending responses are not taken
        self._paused = self._closing = False
        self._receiving: tuple[Invocation | None, Answer | None] = (None, None)
        self._data = bytearray()

    @property
    def busy(self) -> bool:
        """Whether any operation is outstanding."""
        return bool(self._invoked)

    def next_message_id(self) -> int:
        """A Message ID that no outstanding request has (PS3.7 9.1.1.1.1).

        Raises `MisuseError` when there is none left.
        """
        if len(self._used) >= _LAST_MESSAGE_ID:
            raise MisuseError(f"{len(self._used)} requests wait: no Message ID is free")
        while True:
            self._message_id = self._message_id % _LAST_MESSAGE_ID + 1
            if self._message_id not in self._used:
                return self._message_id

    def invoke(
        self,
        context: AcceptedContext,
        request: Request,
        source: Source | None,
        on_pending: Callable[[Answer], object],
        response_time: float | None,
    ) -> Invocation:
        """Send a request and its data set.

        Cancelling its `answer` takes a request back that was not sent; one that was is cancelled
        with C-CANCEL if it is C-FIND, C-GET or C-MOVE, else forgotten; cut off in the middle of
        its data set, it ends the association. Raises `MisuseError` for a Message ID in use.
        """
        if request.message_id in self._used:
            raise MisuseError(f"Message ID {request.message_id} is in use (PS3.7 9.1.1.1.1)")
        self._used.add(request.message_id)
        seconds = self._limits.response if response_time is None else response_time
        invocation = Invocation(context, request, source, on_pending, seconds)
        invocation.answer = Deferred(lambda _: self._cancel(invocation))
        self._waiting.append(invocation)
        self._start()
        self._pace()
        return invocation

    def stop(self, invocation: Invocation) -> None:
        """Send C-CANCEL for it; its `answer` fires with what the peer makes of that.

        One that was not sent at all is taken back, and fails with `CancelledError`.
        """
        if self._take_back(invocation):
            self._settle(invocation, CancelledError())
        elif invocation.request.message_id in self._invoked and not invocation.stopped:
            invocation.stopped = True
            self._full.discard(invocation)
            message = CCancelRQ(message_id_being_responded_to=invocation.request.message_id)
            self._outbox.send(
                invocation.context.context_id,
                message.encode(),
                None,
                sent=lambda: None,
                failed=lambda _: None,
            )
            self._pace()

    def set_full(self, invocation: Invocation, full: bool) -> None:
        """Whether whoever takes its Pending responses has enough of them, so that the peer waits.

        It does so only while nobody waits for any other response, which is read behind them.
        """
        if full:
            self._full.add(invocation)
        else:
            self._full.discard(invocation)
        self._pace()

    def close(self) -> None:
        """Let what is outstanding end: C-CANCEL for that whose responses nobody takes."""
        self._closing = True
        self._pace()

    def progressed(self) -> None:
        """An instance of a C-GET or C-MOVE goes on: as good as a Pending response, which not every
        peer sends."""
        for invocation in self._invoked.values():
            if isinstance(invocation.request, CGetRQ | CMoveRQ) and invocation.timer is not None:
                self._start_timer(invocation)

    # What the peer sends

    def received(
        self, command_field: int, elements: dict[str, Value], *, has_data_set: bool
    ) -> None:
        """A response of the peer; raises `ProtocolError` for one that is none."""
        message_id = elements.get("MessageIDBeingRespondedTo")
        invocation = self._invoked.get(message_id) if isinstance(message_id, int) else None
        if invocation is None:
            self._log.warn("a response to no request (Message ID {id}) is ignored", id=message_id)
            self._receiving = (None, None)
            return
        answer = Answer(invocation.context, _decoded(invocation, command_field, elements))
        if has_data_set:
            self._receiving = (invocation, answer)
        else:
            self._answered(invocation, answer)

    def write(self, data: memoryview) -> None:
        """A fragment of the data set of the response that came last."""
        invocation, _ = self._receiving
        if invocation is None:
            return
        many = invocation.request.HAS_MANY_RESPONSES
        longest = self._limits.identifier_length if many else self._limits.dataset_length
        if len(self._data) + len(data) > longest:
            raise ProtocolError(f"the data set of a response is above {longest} bytes")
        self._data += data

    def finish(self) -> None:
        """The data set is complete."""
        (invocation, answer), self._receiving = self._receiving, (None, None)
        data, self._data = self._data, bytearray()
        if invocation is not None and answer is not None:
            self._answered(invocation, Answer(answer.context, answer.response, bytes(data)))

    def end(self, reason: AssociationError) -> None:
        """The association is over, and with it all that is outstanding."""
        over = [*self._invoked.values(), *self._waiting]
        self._invoked.clear()
        self._waiting.clear()
        self._used.clear()
        self._full.clear()
        self._receiving = (None, None)
        for invocation in over:
            self._settle(invocation, reason)

    # Inside

    def _pace(self) -> None:
        while self._closing and self._full:
            self.stop(self._full.pop())
        paused = 0 < len(self._full) == len(self._invoked) and not self._waiting
        if paused is not self._paused:
            self._paused = paused
            self._pause(paused)

    def _answered(self, invocation: Invocation, answer: Answer) -> None:
        message = invocation.message
        assert message is not None
        status = Status(answer.response.status)
        if invocation.request.HAS_MANY_RESPONSES and status.category is Category.PENDING:
            self._start_timer(invocation)
            if not (invocation.settled or invocation.stopped):
                invocation.on_pending(answer)
        elif message.complete:
            self._finish(invocation, answer)
        elif status.is_success:
            raise ProtocolError("a success before the end of the data set (PS3.7 9.3)")
        else:
            invocation.early = answer
            message.end_early()

    def _start(self) -> None:
        while self._waiting and len(self._invoked) < self._window:
            invocation = self._waiting.popleft()
            request = invocation.request
            self._invoked[request.message_id] = invocation
            if self._events:
                ids = {"command_field": request.COMMAND_FIELD, "message_id": request.message_id}
                invocation.span = Span(self._events, self._clock.seconds, "command", ids)
            invocation.message = self._outbox.send(
                invocation.context.context_id,
                request.encode(has_data_set=invocation.source is not None),
                invocation.source,
                sent=partial(self._sent, invocation),
                failed=partial(self._finish, invocation),
            )

    def _sent(self, invocation: Invocation) -> None:
        if invocation.early is not None:
            self._finish(invocation, invocation.early)
        else:
            self._start_timer(invocation)

    def _start_timer(self, invocation: Invocation) -> None:
        if invocation.timer is not None and invocation.timer.active():
            invocation.timer.reset(invocation.response_time)
        else:
            invocation.timer = self._clock.callLater(
                invocation.response_time, self._timed_out, invocation
            )

    def _timed_out(self, invocation: Invocation) -> None:
        if self._excused(invocation.request):
            self._start_timer(invocation)
        else:
            self._give_up(
                TimedOutError("response", invocation.response_time, invocation.request.NAME)
            )

    def _finish(self, invocation: Invocation, outcome: Answer | DimseError) -> None:
        if self._invoked.pop(invocation.request.message_id, None) is not None:
            self._used.discard(invocation.request.message_id)
            self._full.discard(invocation)
            self._settle(invocation, outcome)
            self._start()
            self._changed()
            self._pace()

    def _settle(self, invocation: Invocation, outcome: Answer | Exception) -> None:
        if invocation.timer is not None and invocation.timer.active():
            invocation.timer.cancel()
        if invocation.span is not None:
            if isinstance(outcome, Answer):
                invocation.span.stop(status=outcome.response.status)
            else:
                invocation.span.fail(outcome)
        if invocation.settled:
            return
        invocation.settled = True
        if isinstance(outcome, Answer):
            invocation.answer.callback(outcome)
        else:
            invocation.answer.errback(outcome)

    def _take_back(self, invocation: Invocation) -> bool:
        """Forget a request of which nothing was sent; returns whether that was possible."""
        if invocation in self._waiting:
            self._waiting.remove(invocation)
            self._used.discard(invocation.request.message_id)
            self._pace()
            return True
        message = invocation.message
        if message is None or not self._outbox.discard(message):
            return False
        del self._invoked[invocation.request.message_id]
        self._used.discard(invocation.request.message_id)
        if invocation.span is not None:
            invocation.span.fail(CancelledError("taken back before it was sent"))
        self._start()
        self._changed()
        self._pace()
        return True

    def _cancel(self, invocation: Invocation) -> None:
        invocation.settled = True
        message = invocation.message
        if self._take_back(invocation):
            return
        if invocation.request.HAS_MANY_RESPONSES:
            self.stop(invocation)
        elif message is None or not message.complete:
            self._give_up(
                AssociationAbortedError(
                    AbortSource.SERVICE_USER,
                    AbortReason.NOT_SPECIFIED,
                    by_peer=False,
                    why="a request was cancelled in the middle of its data set",
                )
            )


def _decoded(invocation: Invocation, command_field: int, elements: dict[str, Value]) -> Response:
    """The response; raises `ProtocolError` for one that is none to this request."""
    kind = invocation.request.RESPONSE
    if MESSAGES.get(command_field) is not kind:
        raise ProtocolError(f"no {kind.NAME} (PS3.7 9.3)")
    if invocation.message is None or not invocation.message.begun:
        raise ProtocolError("a response before its request (PS3.7 9.3)")
    if refusal := kind.refusal(elements):
        raise ProtocolError(f"{kind.NAME}: {refusal.comment} (PS3.7 9.3)")
    return kind.decode(elements)
