"""The requests of the peer: which are performed, which wait, which are cancelled (PS3.7 6.2)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dimse.errors import AssociationError, ProtocolError, StatusError
from dimse.limits import Limits
from dimse.message.base import Request
from dimse.message.command import Value
from dimse.message.messages import CCancelRQ
from dimse.message.status import DUPLICATE_INVOCATION, RESOURCE_LIMITATION
from dimse.performance import Asked, Performance, is_notification, not_served
from dimse.performing import SCP
from dimse.sending import Outbox, Whole
from dimse.ul.negotiation import AcceptedContext, SupportedContext
from dimse.ul.pdv import MessageReader

if TYPE_CHECKING:
    from dimse.association import Association

# So many Pending responses go out before other associations, and a C-CANCEL, have their turn.
_BATCH = 32
# So many requests are refused at a time, until their responses are sent.
_REFUSALS = 16


class Performer:
    """Performs the requests of the peer, `window` at a time.

    One request above that stops reading until there is room again: its command is known, and
    nothing behind it is looked at. The same happens when responses pile up that the peer does
    not read. While we wait for a response ourselves, as in a C-GET, it is refused instead with
    0x0213: that response, or a C-CANCEL, stands behind it. `scps` may grow while it works.
    """

    def __init__(
        self,
        association: "Association",
        outbox: Outbox,
        reader: MessageReader,
        scps: list[SCP],
        clock: IReactorTime,
        limits: Limits,
        *,
        window: int,
    ) -> None:
        self.association = association
        self.scps = scps
        self.over = False
        self._outbox = outbox
        self._reader = reader
        self._clock = clock
        self._limits = limits
        self._window = window
        self._performing: set[Performance] = set()  # until their response is sent
        self._receiving: Performance | None = None
        self._held: Asked | None = None
        self._in_a_row = 0  # Pending responses since others had a turn
        self._pending: set[Deferred[None]] = set()  # responses that the transport has not taken
        self._yielding: list[Deferred[None]] = []
        self._turn: IDelayedCall | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is being received or performed, or its response not yet sent."""
        return bool(self._performing)

    def begin(self, context_id: int, elements: dict[str, Value], *, has_data_set: bool) -> None:
        """A request came; raises `ProtocolError` when it cannot even be refused."""
        field, message_id = elements["CommandField"], elements.get("MessageID")
        if self.over:
            return
        if field == CCancelRQ.COMMAND_FIELD:
            self._cancel(elements.get("MessageIDBeingRespondedTo"))
            return
        if not isinstance(field, int) or not isinstance(message_id, int):
            raise ProtocolError("a request without Message ID (PS3.7 9.3)")

        context = self.association.contexts[context_id]
        asked = Asked(context, field, message_id, elements, has_data_set)
        if not self._start(asked):
            self._held = asked
            self._reader.hold()
            self.association.set_paused(self, True)

    def write(self, data: memoryview) -> None:
        """A fragment of the data set of the request that began last."""
        receiving = self._receiving
        if receiving is not None:
            receiving.write(data)

    def finish(self) -> None:
        """The data set is complete."""
        receiving, self._receiving = self._receiving, None
        if receiving is not None:
            receiving.finish()

    def go_on(self) -> None:
        """There may be room for the request that waits; raises `ProtocolError` as `begin`."""
        held, self._held = self._held, None
        if held is None:
            return
        if not self._start(held):
            self._held = held
            return
        self._reader.go_on()
        if self._held is None:
            self.association.set_paused(self, False)

    def end(self, reason: AssociationError) -> None:
        """The association is over: what is half received is aborted, what performs is cancelled,
        nothing is answered."""
        self.over = True
        self._held = self._receiving = None
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        performing, self._performing = self._performing, set()
        for performance in performing:
            performance.abort(reason)
        pending, self._pending = self._pending, set()
        for taken in pending:
            if not taken.called:  # else it was cancelled meanwhile
                taken.errback(CancelledError())

    # Stage

    def scp_for(self, context: AcceptedContext, request: Request) -> SCP:
        """Whose it is; raises `StatusError` when nobody's."""
        for scp in self.scps:
            if _performs(scp.contexts.get(context.abstract_syntax), context, request):
                return scp
        for scp in self.scps:
            if _performs(scp.otherwise(context.abstract_syntax), context, request):
                return scp
        no_role = is_notification(request) and not context.scu
        raise not_served(
            request, "the SCP role was not proposed (PS3.7 D.3.3.4)" if no_role else ""
        )

    def set_paused(self, performance: Performance, paused: bool) -> None:
        """Stop reading for it, or go on."""
        self.association.set_paused(performance, paused)

    def send_pending(
        self, context_id: int, command: bytes, source: Whole | None
    ) -> "Deferred[None]":
        """Send a Pending response; fires when the transport has it, and others had their turn."""
        taken: Deferred[None] = Deferred()
        self._pending.add(taken)

        def sent() -> None:
            self._in_a_row += 1
            if self._in_a_row < _BATCH:
                self._pending.discard(taken)
                taken.callback(None)
            else:
                self._yielding.append(taken)
                if self._turn is None:
                    self._turn = self._clock.callLater(0, self._next_turn)

        self._outbox.send(context_id, command, source, sent=sent, failed=lambda _: None)
        return taken

    def respond(
        self, performance: Performance, context_id: int, command: bytes, source: Whole | None
    ) -> None:
        """Send a response; the room of its request is free when the transport has it."""

        def sent() -> None:
            self._performing.discard(performance)
            self.association.proceed()

        self._outbox.send(context_id, command, source, sent=sent, failed=lambda _: None)

    def call_later(self, expired: Callable[[], object]) -> IDelayedCall:
        """Call `expired` after `Limits.perform`."""
        return self._clock.callLater(self._limits.perform, expired)

    def next_turn(self, call: Callable[[], object]) -> IDelayedCall:
        """Call it in the next turn of the reactor."""
        return self._clock.callLater(0, call)

    # Inside

    def _is_outstanding(self, asked: Asked) -> bool:
        return any(each.asked.message_id == asked.message_id for each in self._performing)

    def _cancel(self, message_id: Value | None) -> None:
        """C-CANCEL; for an operation that is unknown or finished it means nothing."""
        for performance in list(self._performing):
            if performance.asked.message_id == message_id:
                performance.cancel()

    def _start(self, asked: Asked) -> bool:
        """Perform it or refuse it; returns whether there is room for either."""
        performing, refusal = len(self._performing), None
        if self._outbox.clogged or performing >= self._window + _REFUSALS:
            return False
        if self._is_outstanding(asked):
            refusal = StatusError(DUPLICATE_INVOCATION)
        elif performing >= self._window:
            if not self.association.invoking:
                return False
            refusal = StatusError(RESOURCE_LIMITATION, "above the operations window")
        performance = Performance(self, asked, refusal)
        if self.association.ended is not None:  # by what performs it
            performance.abort(self.association.ended)
            return True
        self._performing.add(performance)
        if asked.has_data_set:
            self._receiving = performance
        else:
            performance.finish()
        return True

    def _next_turn(self) -> None:
        self._turn, self._in_a_row = None, 0
        yielding, self._yielding = self._yielding, []
        self._pending.difference_update(yielding)
        for taken in yielding:
            if not taken.called:  # else it was cancelled meanwhile
                taken.callback(None)


def _performs(
    supported: SupportedContext | None, context: AcceptedContext, request: Request
) -> bool:
    if supported is None:
        return False
    if is_notification(request):
        return supported.scu and (context.scu or supported.without_roles)
    return supported.scp
