"""Requests of ours and the responses of the peer to them (PS3.7 6.2, 7.5)."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from dimse.errors import (
    AbortReason,
    AbortSource,
    AssociationAbortedError,
    AssociationError,
    DimseError,
    ProtocolError,
    TimedOutError,
)
from dimse.message.command import Value
from dimse.message.messages import MESSAGES, Request, Response
from dimse.message.status import Status
from dimse.sending import Outbox, OutgoingMessage, Source

_LAST_MESSAGE_ID = 0xFFFF


@dataclass(slots=True, eq=False)
class _Invocation:
    """A request on its way; `answer` is None once nobody waits for it any more."""

    context_id: int
    request: Request
    source: Source | None
    answer: Deferred[Response] | None = None
    message: OutgoingMessage | None = None
    response: Response | None = None
    timer: IDelayedCall | None = None


class Invoker:
    """Invokes operations on the peer, `window` at a time; the others wait their turn.

    `response_time` is how long a response may take, and `give_up(error)` ends the association,
    and `changed()` is told when one operation less is outstanding.
    """

    _log = Logger()

    def __init__(
        self,
        outbox: Outbox,
        clock: IReactorTime,
        give_up: Callable[[AssociationError], None],
        changed: Callable[[], None],
        *,
        response_time: float,
        window: int,
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._give_up = give_up
        self._changed = changed
        self._response_time = response_time
        self._window = window
        self._message_id = 0
        self._invoked: dict[int, _Invocation] = {}
        self._waiting: deque[_Invocation] = deque()

    @property
    def busy(self) -> bool:
        """Whether any operation is outstanding."""
        return bool(self._invoked)

    def next_message_id(self) -> int:
        """A Message ID that no outstanding request has (PS3.7 9.1.1.1.1)."""
        used = self._invoked.keys() | {each.request.message_id for each in self._waiting}
        while True:
            self._message_id = self._message_id % _LAST_MESSAGE_ID + 1
            if self._message_id not in used:
                return self._message_id

    def invoke(
        self, context_id: int, request: Request, source: Source | None
    ) -> Deferred[Response]:
        """Send a request and its data set; fires with the response, whatever its status is.

        Cancelling takes a request back that was not sent, and forgets one that was; cut off in
        the middle of its data set, it ends the association.
        """
        invocation = _Invocation(context_id, request, source)
        answer: Deferred[Response] = Deferred(lambda _: self._cancel(invocation))
        invocation.answer = answer
        self._waiting.append(invocation)
        self._start()
        return answer

    def received(self, command_field: int, elements: dict[str, Value]) -> None:
        """A response of the peer; raises `ProtocolError` for one that is none."""
        kind = MESSAGES.get(command_field)
        message_id = elements.get("MessageIDBeingRespondedTo")
        invocation = self._invoked.get(message_id) if isinstance(message_id, int) else None
        if invocation is None:
            self._log.warn("a response to no request (Message ID {id}) is ignored", id=message_id)
            return
        if kind is not invocation.request.RESPONSE or "Status" not in elements:
            raise ProtocolError(f"no {invocation.request.RESPONSE.__name__} (PS3.7 9.3)")
        if invocation.message is None or not invocation.message.begun:
            raise ProtocolError("a response before its request (PS3.7 9.3)")
        response = invocation.request.RESPONSE.decode(elements)
        if invocation.message.complete:
            self._finish(invocation, response)
        elif Status(response.status).is_success:
            raise ProtocolError("a success before the end of the data set (PS3.7 9.3)")
        else:
            invocation.response = response
            invocation.message.end_early()

    def end(self, reason: AssociationError) -> None:
        """The association is over, and with it all that is outstanding."""
        over = [*self._invoked.values(), *self._waiting]
        self._invoked.clear()
        self._waiting.clear()
        for invocation in over:
            self._settle(invocation, reason)

    def _start(self) -> None:
        while self._waiting and len(self._invoked) < self._window:
            invocation = self._waiting.popleft()
            self._invoked[invocation.request.message_id] = invocation
            invocation.message = self._outbox.send(
                invocation.context_id,
                invocation.request.encode(),
                invocation.source,
                sent=partial(self._sent, invocation),
                failed=partial(self._finish, invocation),
            )

    def _sent(self, invocation: _Invocation) -> None:
        if invocation.response is not None:
            self._finish(invocation, invocation.response)
        else:
            invocation.timer = self._clock.callLater(self._response_time, self._timed_out)

    def _timed_out(self) -> None:
        self._give_up(TimedOutError("response", self._response_time))

    def _finish(self, invocation: _Invocation, outcome: Response | DimseError) -> None:
        if self._invoked.pop(invocation.request.message_id, None) is not None:
            self._settle(invocation, outcome)
            self._start()
            self._changed()

    def _settle(self, invocation: _Invocation, outcome: Response | DimseError) -> None:
        if invocation.timer is not None and invocation.timer.active():
            invocation.timer.cancel()
        answer, invocation.answer = invocation.answer, None
        if answer is None:
            return
        if isinstance(outcome, DimseError):
            answer.errback(outcome)
        else:
            answer.callback(outcome)

    def _cancel(self, invocation: _Invocation) -> None:
        invocation.answer = None
        message = invocation.message
        if invocation in self._waiting:
            self._waiting.remove(invocation)
        elif message is not None and self._outbox.discard(message):
            del self._invoked[invocation.request.message_id]
            self._start()
            self._changed()
        elif message is None or not message.complete:
            self._give_up(
                AssociationAbortedError(
                    AbortSource.SERVICE_USER,
                    AbortReason.NOT_SPECIFIED,
                    by_peer=False,
                    why="a request was cancelled in the middle of its data set",
                )
            )
