"""How requests of the peer are performed, from their command to their response (PS3.7 6.2)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from dimse.errors import AssociationError, DimseError, ProtocolError, StatusError
from dimse.message.command import NO_DATA_SET, Value, encode
from dimse.message.messages import MESSAGES, RESPONSE_BIT, Request
from dimse.message.status import (
    MISSING_ATTRIBUTE,
    MISTYPED_ARGUMENT,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    UNRECOGNIZED_OPERATION,
    Status,
)
from dimse.performing import SCP, Operation, Peer, Sink, escaped
from dimse.sending import Outbox
from dimse.ul.negotiation import AcceptedContext
from dimse.ul.pdv import MessageReader

_C_CANCEL_RQ = 0x0FFF  # has no response of its own (PS3.7 9.3.2.3)


class Host(Protocol):
    """The association that requests come in: `dimse.association.Association`."""

    contexts: dict[int, AcceptedContext]
    peer: Peer
    ae_title: str

    def set_paused(self, by: object, paused: bool) -> None:
        """Stop reading, or go on when nobody else wants it stopped."""

    def proceed(self) -> None:
        """A response is with the transport: do what had to wait for it."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request as it came: its context, and what its command set says."""

    context: AcceptedContext
    field: int
    message_id: int
    elements: dict[str, Value]
    has_data_set: bool

    def __str__(self) -> str:
        if uid := self.elements.get("AffectedSOPInstanceUID"):
            return f"instance {escaped(str(uid))}"
        sop_class = escaped(str(self.elements.get("AffectedSOPClassUID", "")))
        return f"Command Field {self.field:04X}H of {sop_class}"

    def checked(self) -> Request:
        """The request, or the `StatusError` that it earns (PS3.7 9.1, C.5)."""
        kind = MESSAGES.get(self.field)
        if kind is None or not issubclass(kind, Request):
            raise StatusError(UNRECOGNIZED_OPERATION)
        if missing := kind.missing(self.elements):
            raise StatusError(MISSING_ATTRIBUTE, "missing " + ", ".join(missing))
        if self.has_data_set != kind.HAS_DATA_SET:
            what = "a data set" if self.has_data_set else "no data set"
            raise StatusError(MISTYPED_ARGUMENT, f"{what} with this request (PS3.7 9.3)")
        request = kind.decode(self.elements)
        context = self.context
        if request.affected_sop_class_uid != context.abstract_syntax or not context.scp:
            raise StatusError(SOP_CLASS_NOT_SUPPORTED, "not the SOP class of the context")
        return request

    def refusal(self, status: int, comment: str) -> bytes:
        """The command set that answers a request which is not understood."""
        uids = {
            keyword: uid
            for keyword in ("AffectedSOPClassUID", "AffectedSOPInstanceUID")
            if (uid := str(self.elements.get(keyword, ""))) and uid.isascii()
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


class Performance:
    """One request on its way from its command to its response.

    It is answered once, unless the association ends before. When the SCP or its sink fails, what
    is left of the data set is dropped and the failure answered. A sink that has ended lets
    nobody wait any more.
    """

    _log = Logger()

    def __init__(self, performer: "Performer", asked: _Asked) -> None:
        self._performer = performer
        self._asked = asked
        self._request: Request | None = None
        self._sink: Sink | None = None
        self._failure: Failure | None = None
        self._ended = False
        try:
            self._sink = self._begin()
        except Exception:  # noqa: BLE001  a bug of a performer stays its own
            self._failure = Failure()
            self._end()

    def write(self, data: memoryview) -> None:
        """Pass a fragment on."""
        if self._sink is None:
            return
        try:
            self._sink.write(data)
        except Exception as error:  # noqa: BLE001  a bug of a performer stays its own
            self._failure = Failure()
            self._drop(error if isinstance(error, DimseError) else DimseError(repr(error)))

    def finish(self) -> None:
        """The request is complete: perform it to its end and respond."""
        sink, self._sink = self._sink, None
        if sink is None:
            assert self._failure is not None
            self._fail(self._failure)
        else:
            maybeDeferred(sink.finish).addCallback(_checked).addCallbacks(
                self._respond, self._fail
            ).addErrback(self._report).addCallback(lambda _: self._end())

    def abort(self, reason: AssociationError) -> None:
        """The association is over before the request was complete."""
        if self._sink is not None:
            self._say(f"not received, {reason}", failed=True)
        self._drop(reason)

    def _begin(self) -> Sink:
        context, host = self._asked.context, self._performer.host
        self._request = self._asked.checked()
        operation = Operation(self._request, context, host.peer, host.ae_title, self._set_paused)
        return self._performer.scp_for(context.abstract_syntax).perform(operation)

    def _set_paused(self, paused: bool) -> None:
        if not (paused and self._ended):  # what has ended cannot stop the others
            self._performer.host.set_paused(self, paused)

    def _end(self) -> None:
        self._ended = True
        self._set_paused(False)

    def _drop(self, reason: DimseError) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            try:
                sink.abort(reason)
            except Exception:  # noqa: BLE001  a bug of a performer stays its own
                self._report(Failure())
            self._end()

    def _fail(self, failure: Failure) -> None:
        if isinstance(failure.value, StatusError):
            error = failure.value
            self._respond(error.status, error.comment, error.offending)
        else:
            self._report(failure)
            self._respond(PROCESSING_FAILURE)

    def _respond(self, code: int, comment: str = "", offending: tuple[int, ...] = ()) -> None:
        status = Status(code)
        outcome = f"{status} {comment}".rstrip()
        if self._performer.over:
            self._say(f"{outcome}, but the peer was not told", failed=not status.is_success)
            return
        if self._request is not None:
            response = self._request.respond(status, comment, offending).encode()
        else:
            response = self._asked.refusal(status, comment)
        self._performer.respond(self, self._asked.context.context_id, response)
        self._say(outcome, failed=not status.is_success)  # the peer need not wait for that

    def _say(self, outcome: str, *, failed: bool) -> None:
        """A line in the log for each instance, and for each request that failed."""
        if failed or "AffectedSOPInstanceUID" in self._asked.elements:
            self._log.emit(
                LogLevel.warn if failed else LogLevel.info,
                "{peer}: {asked}: {outcome}",
                peer=self._performer.host.peer,
                asked=self._asked,
                outcome=outcome,
            )

    def _report(self, failure: Failure) -> None:
        """An exception that no contract names: a bug of whoever performs the request."""
        self._log.failure("a request could not be performed", failure)


def _checked(status: Any) -> int:
    """The status that a sink gave, if it is one."""
    if not isinstance(status, int) or not 0 <= status <= 0xFFFF:
        raise TypeError(f"{status!r} is no status")
    return status


class Performer:
    """Performs the requests of the peer, `window` at a time.

    One request above that stops reading until there is room again: its command is known, and
    nothing behind it is looked at. The same happens when responses pile up that the peer does
    not read.
    """

    def __init__(
        self,
        host: Host,
        outbox: Outbox,
        reader: MessageReader,
        scps: Iterable[SCP],
        *,
        window: int,
    ) -> None:
        self.host = host
        self._outbox = outbox
        self._reader = reader
        self._scps = tuple(scps)
        self._window = window
        self._performing: set[Performance] = set()  # until their response is sent
        self._receiving: Performance | None = None
        self._held: _Asked | None = None
        self.over = False

    @property
    def busy(self) -> bool:
        """Whether a request is being received or performed, or its response not yet sent."""
        return bool(self._performing)

    @property
    def _full(self) -> bool:
        return len(self._performing) >= self._window or self._outbox.clogged

    def begin(self, context_id: int, elements: dict[str, Value], *, has_data_set: bool) -> None:
        """A request came; raises `ProtocolError` when it cannot even be refused."""
        field, message_id = elements["CommandField"], elements.get("MessageID")
        if field == _C_CANCEL_RQ or self.over:
            return
        if not isinstance(field, int) or not isinstance(message_id, int):
            raise ProtocolError("a request without Message ID (PS3.7 9.3)")

        asked = _Asked(self.host.contexts[context_id], field, message_id, elements, has_data_set)
        if self._full:
            self._held = asked
            self._reader.hold()
            self.host.set_paused(self, True)
        else:
            self._start(asked)

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
        if self._held is not None and not self._full:
            asked, self._held = self._held, None
            self._start(asked)
            self._reader.go_on()
            if self._held is None:
                self.host.set_paused(self, False)

    def end(self, reason: AssociationError) -> None:
        """The association is over: what is half received is aborted, nothing is answered."""
        self.over = True
        self._held = None
        receiving, self._receiving = self._receiving, None
        self._performing.clear()
        if receiving is not None:
            receiving.abort(reason)

    def scp_for(self, abstract_syntax: str) -> SCP:
        """Whose it is; raises `StatusError` when nobody's."""
        for scp in self._scps:
            if abstract_syntax in scp.contexts:
                return scp
        for scp in self._scps:
            if scp.otherwise(abstract_syntax) is not None:
                return scp
        raise StatusError(SOP_CLASS_NOT_SUPPORTED)

    def respond(self, performance: Performance, context_id: int, response: bytes) -> None:
        """Send a response; the room of its request is free when the transport has it."""

        def sent() -> None:
            self._performing.discard(performance)
            self.host.proceed()

        self._outbox.send(context_id, response, None, sent=sent, failed=lambda _: None)

    def _start(self, asked: _Asked) -> None:
        performance = Performance(self, asked)
        self._performing.add(performance)
        if asked.has_data_set:
            self._receiving = performance
        else:
            performance.finish()
