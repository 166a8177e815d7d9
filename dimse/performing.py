"""What a service class provider is, and how requests of the peer are performed (PS3.7 6.2)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

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
from dimse.sending import Outbox
from dimse.ul.negotiation import AcceptedContext, SupportedContext
from dimse.ul.pdv import MessageReader

_C_CANCEL_RQ = 0x0FFF  # has no response of its own (PS3.7 9.3.2.3)


@dataclass(frozen=True, slots=True)
class Peer:
    """The application entity at the other end: its AE title and its transport address."""

    ae_title: str
    address: str

    @classmethod
    def at(cls, ae_title: str, address: object) -> Self:
        """With the address as Twisted gives it: host and port, or what else it is."""
        if isinstance(address, IPv4Address):
            return cls(ae_title, f"{address.host}:{address.port}")
        if isinstance(address, IPv6Address):
            return cls(ae_title, f"[{address.host}]:{address.port}")
        return cls(ae_title, type(address).__name__)

    def __str__(self) -> str:
        """Fit for a log."""
        return f"{_escaped(self.ae_title)}@{self.address}"


class Sink(Protocol):
    """Takes the data set of one request and ends in one way: `finish` or `abort`.

    Exactly one of the two is called, once, whatever happens. An exception from `write` or
    `finish` becomes the response: `StatusError` gives its status, any other one 0x0110.
    """

    def write(self, data: memoryview) -> None:
        """The next bytes of the data set; the view is valid only during the call."""

    def finish(self) -> "Deferred[int]":
        """The data set is complete; fires with the status of the response."""

    def abort(self, reason: DimseError) -> None:
        """The data set will not be complete; nothing is answered any more, or a failure."""


@implementer(IPushProducer)
class Operation:
    """A request that is being performed, as an SCP sees it.

    `request` is the message, `context` the presentation context it came in, `peer` who asks and
    `ae_title` how it called us. It is an `IPushProducer`: a sink that cannot keep up calls
    `pauseProducing`, and the peer waits until `resumeProducing`.
    """

    def __init__(
        self,
        request: Request,
        context: AcceptedContext,
        peer: Peer,
        ae_title: str,
        set_paused: Callable[[bool], None],
    ) -> None:
        self.request = request
        self.context = context
        self.peer = peer
        self.ae_title = ae_title
        self._set_paused = set_paused

    def pauseProducing(self) -> None:
        """Let the peer wait."""
        self._set_paused(True)

    def resumeProducing(self) -> None:
        """Go on."""
        self._set_paused(False)

    def stopProducing(self) -> None:
        """A sink that wants no more raises from `write` instead."""


class SCP(Protocol):
    """A service class provider: what it supports, and how it performs it."""

    @property
    def contexts(self) -> Mapping[str, SupportedContext]:
        """What it supports, by abstract syntax."""

    def otherwise(self, abstract_syntax: str) -> SupportedContext | None:
        """What it supports of an abstract syntax that no SCP here lists; mostly None."""

    def perform(self, operation: Operation) -> Sink:
        """Begin to perform a request. The sink takes its data set; without one, `finish` follows.

        Must return at once; what takes time belongs behind the Deferred of `finish`.
        """


class Performance:
    """One request on its way from its command to its response.

    `respond(status, comment)` is called once, unless the association ends before. When `begin`
    or the sink fails, what is left of the data set is dropped and the failure answered. Once the
    sink has ended, `resume()` is called: one that is gone lets nobody wait. `dropped(reason)`
    hears of a sink that was aborted.
    """

    _log = Logger()

    def __init__(
        self,
        begin: Callable[[], Sink],
        respond: Callable[[int, str], None],
        resume: Callable[[], None],
        dropped: Callable[[DimseError], None],
    ) -> None:
        self._respond = respond
        self._dropped = dropped
        self._resume = resume
        self._sink: Sink | None = None
        self._failure: Failure | None = None
        try:
            self._sink = begin()
        except Exception:  # noqa: BLE001  a bug of a performer stays its own
            self._failure = Failure()
            self._resume()

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
                lambda status: self._respond(status, ""), self._fail
            ).addErrback(self._report).addCallback(lambda _: self._resume())

    def abort(self, reason: AssociationError) -> None:
        """The association is over before the request was complete."""
        self._drop(reason)

    def _drop(self, reason: DimseError) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            try:
                sink.abort(reason)
            except Exception:  # noqa: BLE001  a bug of a performer stays its own
                self._report(Failure())
            self._resume()
            self._dropped(reason)

    def _fail(self, failure: Failure) -> None:
        if isinstance(failure.value, StatusError):
            self._respond(failure.value.status, failure.value.comment)
        else:
            self._report(failure)
            self._respond(PROCESSING_FAILURE, "")

    def _report(self, failure: Failure) -> None:
        """An exception that no contract names: a bug of whoever performs the request."""
        self._log.failure("a request could not be performed", failure)


class Performer:
    """Performs the requests of the peer, `window` at a time.

    One request above that stops reading until there is room again: its command is known, and
    nothing behind it is looked at. The same happens when responses pile up that the peer does
    not read. `changed()` is told when a response is with the transport.
    """

    _log = Logger()

    def __init__(
        self,
        contexts: Mapping[int, AcceptedContext],
        scps: Iterable[SCP],
        outbox: Outbox,
        reader: MessageReader,
        set_paused: Callable[[object, bool], None],
        changed: Callable[[], None],
        *,
        peer: Peer,
        ae_title: str,
        window: int,
    ) -> None:
        self._contexts = contexts
        self._scps = tuple(scps)
        self._outbox = outbox
        self._reader = reader
        self._set_paused = set_paused
        self._changed = changed
        self._peer = peer
        self._ae_title = ae_title
        self._window = window
        self._performing: set[Performance] = set()  # until their response is sent
        self._receiving: Performance | None = None
        self._held: Callable[[], None] | None = None
        self._over = False

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
        if field == _C_CANCEL_RQ or self._over:
            return
        if not isinstance(field, int) or not isinstance(message_id, int):
            raise ProtocolError("a request without Message ID (PS3.7 9.3)")

        def start() -> None:
            self._start(self._contexts[context_id], field, message_id, elements, has_data_set)

        if self._full:
            self._held = start
            self._reader.hold()
            self._set_paused(self, True)
        else:
            start()

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
            start, self._held = self._held, None
            start()
            self._reader.go_on()
            if self._held is None:
                self._set_paused(self, False)

    def end(self, reason: AssociationError) -> None:
        """The association is over: what is half received is aborted, nothing is answered."""
        self._over = True
        self._held = None
        receiving, self._receiving = self._receiving, None
        self._performing.clear()
        if receiving is not None:
            receiving.abort(reason)

    def _start(
        self,
        context: AcceptedContext,
        field: int,
        message_id: int,
        elements: dict[str, Value],
        has_data_set: bool,
    ) -> None:
        request: Request | None = None

        def begin() -> Sink:
            nonlocal request
            request = _check(context, field, elements, has_data_set)
            operation = Operation(request, context, self._peer, self._ae_title, set_paused)
            return self._scp(context.abstract_syntax).perform(operation)

        def set_paused(paused: bool) -> None:
            self._set_paused(begin, paused)  # whoever else pauses, this is about one request

        def respond(status: int, comment: str) -> None:
            if self._over:
                return
            if request is not None:
                response = request.respond(status, comment).encode()
            else:
                response = _refuse(field, message_id, status, comment)
            self._outbox.send(
                context.context_id,
                response,
                None,
                sent=lambda: self._sent(performance),
                failed=lambda _: None,
            )
            self._say(request, f"{Status(status)} {comment}".rstrip())  # the peer need not wait

        def dropped(reason: DimseError) -> None:
            if self._over:
                self._say(request, f"not received, {reason}")

        performance = Performance(begin, respond, lambda: set_paused(False), dropped)
        self._performing.add(performance)
        if has_data_set:
            self._receiving = performance
        else:
            performance.finish()

    def _say(self, request: Request | None, outcome: object) -> None:
        """A line in the log for each instance, whatever becomes of it."""
        if uid := getattr(request, "affected_sop_instance_uid", None):
            self._log.info(
                "{peer}: instance {uid}: {outcome}",
                peer=self._peer,
                uid=_escaped(uid),
                outcome=outcome,
            )

    def _sent(self, performance: Performance) -> None:
        self._performing.discard(performance)
        self._changed()

    def _scp(self, abstract_syntax: str) -> SCP:
        for scp in self._scps:
            if abstract_syntax in scp.contexts:
                return scp
        for scp in self._scps:
            if scp.otherwise(abstract_syntax) is not None:
                return scp
        raise StatusError(SOP_CLASS_NOT_SUPPORTED)


def _escaped(text: str) -> str:
    """What a peer sent, fit for a log: control and other characters are escaped."""
    return text.encode("unicode_escape").decode("ascii")


def _checked(status: Any) -> int:
    """The status that a sink gave, if it is one."""
    if not isinstance(status, int) or not 0 <= status <= 0xFFFF:
        raise TypeError(f"{status!r} is no status")
    return status


def _check(
    context: AcceptedContext, field: int, elements: dict[str, Value], has_data_set: bool
) -> Request:
    """The request, or the `StatusError` that it earns (PS3.7 9.1, C.5)."""
    kind = MESSAGES.get(field)
    if kind is None or not issubclass(kind, Request):
        raise StatusError(UNRECOGNIZED_OPERATION)
    if missing := kind.missing(elements):
        raise StatusError(MISSING_ATTRIBUTE, "missing " + ", ".join(missing))
    if has_data_set != kind.HAS_DATA_SET:
        raise StatusError(MISTYPED_ARGUMENT, "data set where there is none, or the reverse")
    request = kind.decode(elements)
    if request.affected_sop_class_uid != context.abstract_syntax or not context.scp:
        raise StatusError(SOP_CLASS_NOT_SUPPORTED, "not the SOP class of the context")
    return request


def _refuse(field: int, message_id: int, status: int, comment: str) -> bytes:
    """The command set that answers a request which is not understood."""
    answer: dict[str, Value] = {
        "CommandField": field | RESPONSE_BIT,
        "MessageIDBeingRespondedTo": message_id,
        "CommandDataSetType": NO_DATA_SET,
        "Status": status,
        "ErrorComment": comment or Status(status).meaning,
    }
    return encode(answer)
