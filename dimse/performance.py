"""One request of the peer on its way from its command to its final response (PS3.7 6.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from dimse.errors import AssociationError, DimseError, MisuseError, StatusError
from dimse.events import Span
from dimse.message.base import RESPONSE_BIT, Request
from dimse.message.command import NO_DATA_SET, Value, encode
from dimse.message.messages import MESSAGES, CStoreRQ, NActionRQ, NEventReportRQ
from dimse.message.status import (
    CANCEL,
    MISTYPED_ARGUMENT,
    NO_SUCH_SOP_CLASS,
    PENDING_CODES,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    UNRECOGNIZED_OPERATION,
    Status,
)
from dimse.performing import SCP, Operation, Outcome, Sink, escaped
from dimse.sending import Whole
from dimse.sop_classes import serves, service_of
from dimse.ul.negotiation import AcceptedContext

if TYPE_CHECKING:
    from dimse.association import Association

_DIMSE_N = 0x0100  # the bit of the Command Field that DIMSE-N requests have (PS3.7 E.1)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came: its context, and what its command set says."""

    context: AcceptedContext
    field: int
    message_id: int
    elements: dict[str, Value]
    has_data_set: bool

    def __str__(self) -> str:
        kind = MESSAGES.get(self.field)
        name = kind.NAME if kind is not None else f"Command Field {self.field:04X}H"
        uid = self._uid("SOPInstanceUID")
        return f"{name} of {escaped(uid or self._uid('SOPClassUID'))}"

    def _uid(self, which: str) -> str:
        values = (self.elements.get(who + which) for who in ("Affected", "Requested"))
        return next((value for value in values if isinstance(value, str)), "")

    def checked(self) -> Request:
        """The request, or the `StatusError` that it earns (PS3.7 9.1, 10.1, C.5)."""
        kind = MESSAGES.get(self.field)
        if kind is None or not issubclass(kind, Request):
            raise StatusError(UNRECOGNIZED_OPERATION)
        if refusal := kind.refusal(self.elements):
            raise refusal
        if kind.HAS_DATA_SET not in (None, self.has_data_set):
            what = "a data set" if self.has_data_set else "no data set"
            raise StatusError(MISTYPED_ARGUMENT, f"{what} with this request (PS3.7 9.3)")
        request = kind.decode(self.elements)
        context = self.context
        # Whether we are the SCU that a notification is for, its SCP knows (`without_roles`).
        role = is_notification(request) or context.scp
        if not role or not serves(context.abstract_syntax, request.sop_class_uid):
            raise not_served(request, "not the SOP class and role of the context")
        return request

    def refusal(self, status: int, comment: str) -> bytes:
        """The command set that answers a request which is not understood."""
        uids = {
            "Affected" + which: uid
            for which in ("SOPClassUID", "SOPInstanceUID")
            if (uid := self._uid(which)) and uid.isascii()
        }
        return encode(
            {
                **uids,
                "CommandField": self.field | RESPONSE_BIT,
                "MessageIDBeingRespondedTo": self.message_id,
                "CommandDataSetType": NO_DATA_SET,
                "Status": status,
                "ErrorComment": comment or Status(status).meaning,
            }
        )


def is_notification(request: Request) -> bool:
    """Whether the SCP invokes it, and the SCU performs it (PS3.7 10.1.1)."""
    return isinstance(request, NEventReportRQ)


def not_served(request: Request, why: str = "") -> StatusError:
    """Nobody here has that SOP class: DIMSE-C and DIMSE-N each have a status for it (PS3.7 C.5)."""
    normalized = request.COMMAND_FIELD & _DIMSE_N
    return StatusError(NO_SUCH_SOP_CLASS if normalized else SOP_CLASS_NOT_SUPPORTED, why)


class Stage(Protocol):
    """Where a performance takes place: `dimse.performer.Performer`."""

    association: "Association"
    over: bool

    def scp_for(self, context: AcceptedContext, request: Request) -> SCP:
        """Whose it is; raises `StatusError` when nobody's."""

    def set_paused(self, performance: "Performance", paused: bool) -> None:
        """Stop reading for it, or go on."""

    def send_pending(
        self, context_id: int, command: bytes, source: Whole | None
    ) -> "Deferred[None]":
        """Send a Pending response; fires when there is room for the next."""

    def respond(
        self, performance: "Performance", context_id: int, command: bytes, source: Whole | None
    ) -> None:
        """Send the final response."""

    def call_later(self, expired: Callable[[], object]) -> IDelayedCall:
        """Call `expired` after `Limits.perform`."""

    def next_turn(self, call: Callable[[], object]) -> IDelayedCall:
        """Call it in the next turn of the reactor."""


class Performance:
    """One request on its way from its command to its response.

    It is answered once, unless the association ends before. When the SCP or its sink fails, what
    is left of the data set is dropped and the failure answered; so it is when it takes too long.
    A sink that has ended lets nobody wait any more. It is the `Control` of its operation.
    """

    _log = Logger()

    def __init__(self, stage: Stage, asked: Asked, refusal: StatusError | None = None) -> None:
        """Begin; with a `refusal` nothing is performed, and that is the answer."""
        self.asked = asked
        self._stage = stage
        self._request: Request | None = None
        self._sink: Sink | None = None
        self._finishing: Deferred[Any] | None = None
        self._failure: Failure | None = None
        self._cancelled = self._answered = self._ended = False
        self._timer: IDelayedCall | None = None
        self._cancelling: IDelayedCall | None = None
        self._handler: Span | None = None
        self._command = self._span("command", message_id=asked.message_id)
        try:
            if refusal is not None:
                raise refusal
            self._request = asked.checked()
            self._handler = self._span("handler", callback=self._request.NAME)
            self._sink = self._begin(self._request)
        except Exception:  # noqa: BLE001  a bug of a performer stays its own
            self._failure = _bare(Failure())
            self._end()

    def write(self, data: memoryview) -> None:
        """Pass a fragment on."""
        if self._sink is None:
            return
        try:
            self._sink.write(data)
        except Exception as error:  # noqa: BLE001  a bug of a performer stays its own
            self._failure = _bare(Failure())
            self._drop(error if isinstance(error, DimseError) else DimseError(repr(error)))

    def finish(self) -> None:
        """The request is complete: perform it to its end and respond."""
        sink, self._sink = self._sink, None
        if sink is None:
            assert self._failure is not None
            self._fail(self._failure)
            return
        finishing: Deferred[Any] = maybeDeferred(sink.finish)
        finishing.addCallback(_checked).addCallbacks(self._respond, self._fail)
        finishing.addErrback(self._report).addCallback(lambda _: self._end())
        if not self._ended:
            self._finishing = finishing
            self.progress()
            if self._stage.over:  # it has ended the association itself
                self._cancel_finishing()

    def cancel(self) -> None:
        """The peer sent C-CANCEL; what performs answers, with FE00H unless it knows better."""
        if self._cancelled:
            return  # a second one must not end what the first one left to end in order
        if self._request is not None and self._request.HAS_MANY_RESPONSES:
            self._cancelled = True
            self._cancel_finishing()

    def abort(self, reason: AssociationError) -> None:
        """The association is over."""
        if self._sink is not None:
            self._say(f"not received, {reason.args[0]}", LogLevel.warn)
        self._stop_timer()
        self._drop(reason)
        self._cancel_finishing()
        for span in (self._handler, self._command):
            if span is not None:
                span.fail(reason)

    # Control

    def set_paused(self, paused: bool) -> None:
        """The sink cannot keep up, or can again."""
        if paused and self._ended:
            return  # what has ended cannot stop the others
        self._stage.set_paused(self, paused)
        if self._finishing is None:
            self._stop_timer()
            if paused:
                self.progress()

    def pend(self, outcome: Outcome) -> "Deferred[None]":
        """A Pending response; the time until the peer takes it is the peer's."""
        if self._answered or self._stage.over or self._request is None:
            return fail(CancelledError())  # it was told to end, and goes on
        if outcome.status not in PENDING_CODES:
            return fail(MisuseError(f"{outcome.status!r} is no Pending status (PS3.7 C.2)"))
        try:
            command, source = self._encoded(outcome)
        except Exception:  # noqa: BLE001  a bug of whoever waits for it
            return fail()
        self._stop_timer()
        sent = self._stage.send_pending(self.asked.context.context_id, command, source)
        return sent.addBoth(self._went_on)

    def progress(self) -> None:
        """It has `Limits.perform` from now on."""
        self._stop_timer()
        if not (self._answered or self._stage.over):
            self._timer = self._stage.call_later(self._take_too_long)

    # Inside

    def _begin(self, request: Request) -> Sink:
        context = self.asked.context
        operation = Operation(request, context, self._stage.association, self)
        sink = self._stage.scp_for(context, request).perform(operation)
        if not all(hasattr(sink, name) for name in ("write", "finish", "abort")):
            raise TypeError(f"{type(sink).__name__} is no sink")
        return sink

    def _span(self, name: str, **metadata: Any) -> Span | None:
        association = self._stage.association
        if not association.events:
            return None
        metadata["command_field"] = self.asked.field
        return Span(association.events, association.seconds, name, metadata)

    def _went_on(self, taken: Failure | None) -> Failure | None:
        self.progress()
        return taken

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _take_too_long(self) -> None:
        """Answer for it; whatever it still brings comes too late."""
        self._timer = None
        error = StatusError(PROCESSING_FAILURE, "it took too long")
        self._log.error("{asked} took too long: answered with 0x0110", asked=self.asked)
        if self._finishing is None:  # it paused while it received
            self._failure = Failure(error)
            self._drop(error)
            return
        self._fail(Failure(error))
        self._end()
        self._cancel_finishing()

    def _cancel_finishing(self) -> None:
        """In the next turn: it may be what runs now, and a coroutine that runs cannot hear it."""
        if self._finishing is None or isinstance(self._request, CStoreRQ):
            return
        if self._cancelling is None or not self._cancelling.active():
            self._cancelling = self._stage.next_turn(self._finishing.cancel)

    def _end(self) -> None:
        self._ended = True
        self._stop_timer()
        if self._cancelling is not None and self._cancelling.active():
            self._cancelling.cancel()
        self._stage.set_paused(self, False)

    def _drop(self, reason: DimseError) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            try:
                sink.abort(reason)
            except Exception:  # noqa: BLE001  a bug of a performer stays its own
                self._report(Failure())
            self._end()

    def _fail(self, failure: Failure) -> None:
        error: Any = failure.value
        if self._handler is not None:
            self._handler.fail(error)
        if isinstance(error, StatusError):
            elements = {"error_id": error.error_id}
            self._respond(
                Outcome(error.status, error.data, error.comment, error.offending, elements)
            )
        elif self._is_the_end(error):
            self._respond(CANCEL)
        else:
            self._report(failure)
            self._respond(PROCESSING_FAILURE)

    def _is_the_end(self, error: Exception) -> bool:
        """Whether it ended because it was told to, or lost its association."""
        told = self._cancelled or self._answered or self._stage.over
        lost = self._stage.over and isinstance(error, AssociationError)
        return lost or (told and isinstance(error, CancelledError))

    def _respond(self, outcome: int | Outcome) -> None:
        if self._answered:
            return
        if isinstance(outcome, int):
            outcome = Outcome(outcome)
        status = self._status(outcome.status)
        text = f"{status} {outcome.comment}".rstrip()
        if self._stage.over:
            text += ", but the peer was not told"
            self._say(text, LogLevel.info if status.is_success else LogLevel.warn)
            return
        try:
            command, source = self._encoded(outcome)
        except Exception:  # noqa: BLE001  a bug of a performer stays its own
            self._report(Failure())
            status = Status(PROCESSING_FAILURE)
            text, command, source = str(status), self.asked.refusal(status, ""), None
        if self._handler is not None:
            self._handler.stop(status=int(status))
        self._answered = True
        self._stop_timer()
        self._count(status, text)  # before it is sent: a release may wait for that, and ends it all
        self._stage.respond(self, self.asked.context.context_id, command, source)
        if self._command is not None:
            self._command.stop(status=int(status))

    def _encoded(self, outcome: Outcome) -> tuple[bytes, Whole | None]:
        """The command set and the data set of a response."""
        if self._request is None:
            return self.asked.refusal(self._status(outcome.status), outcome.comment), None
        response = self._request.respond(
            outcome.status, outcome.comment, offending=outcome.offending, **outcome.elements
        )
        source = None if outcome.data is None else Whole(outcome.data)
        command = response.encode(has_data_set=source is not None)
        return command, None if response.HAS_DATA_SET is False else source

    def _status(self, code: int) -> Status:
        kind, request = MESSAGES.get(self.asked.field), self._request
        operation = kind.NAME.removesuffix("-RQ") if kind is not None else ""
        if isinstance(request, NActionRQ):
            operation += f" {request.action_type_id}"
        syntax = self.asked.context.abstract_syntax if request is None else request.sop_class_uid
        return Status(code, operation, service_of(syntax))

    def _count(self, status: Status, outcome: str) -> None:
        """The end of the association tells how many there were; aloud the log tells the first of
        those that failed alike, for there may be a hundred thousand."""
        performed = self._stage.association.performed
        performed.count(status)
        fine = status.is_success or status == CANCEL
        news = not fine and performed.is_news(f"{status.operation} {outcome}")
        self._say(outcome, LogLevel.warn if news else LogLevel.debug)

    def _say(self, outcome: str, level: Any) -> None:
        self._log.emit(
            level,
            "{peer}: {asked}: {outcome}",
            peer=self._stage.association.peer,
            asked=self.asked,
            outcome=outcome,
        )

    def _report(self, failure: Failure) -> None:
        """An exception that no contract names: a bug of whoever performs the request."""
        self._log.failure("a request could not be performed", failure)


def _bare(failure: Failure) -> Failure:
    """Fit to be kept until the request is complete: its frames hold what was read from the peer,
    and so do those of the exceptions that it came of."""
    failure.cleanFailure()
    errors: list[Any] = [failure.value]
    for error in errors:
        error.__traceback__ = None
        for cause in (error.__cause__, error.__context__):
            if cause is not None and not any(cause is each for each in errors):
                errors.append(cause)
    return failure


def _checked(outcome: Any) -> int | Outcome:
    """The outcome that a sink gave, if it is one of a final response."""
    status = outcome.status if isinstance(outcome, Outcome) else outcome
    if not isinstance(status, int) or not 0 <= status <= 0xFFFF:
        raise TypeError(f"{status!r} is no status")
    if status in PENDING_CODES:
        raise TypeError("a Pending status cannot be final (PS3.7 C.2)")
    return outcome  # type: ignore[no-any-return]  # an int or an Outcome, as looked at above
