"""Retrieval as SCP: what C-GET and C-MOVE ask for is sent, one sub-operation after the other
(PS3.4 C.4.2.3, C.4.3.3)."""

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
    Sized,
)
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from inspect import isasyncgenfunction, isgeneratorfunction
from typing import Any

from pydicom import Dataset
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from dimse.errors import (
    AssociationError,
    ConnectionLostError,
    ContextError,
    DimseError,
    MisuseError,
    StatusError,
)
from dimse.events import Span
from dimse.limits import Limits
from dimse.message.messages import CGetRQ, CMoveRQ
from dimse.message.status import (
    CANCEL,
    IDENTIFIER_MISMATCH,
    MOVE_DESTINATION_UNKNOWN,
    PENDING,
    SUBOPERATIONS_WARNING,
    SUCCESS,
    UNABLE_TO_COUNT_MATCHES,
    UNABLE_TO_PERFORM_SUBOPERATIONS,
    UNRECOGNIZED_OPERATION,
    Category,
    Status,
)
from dimse.performing import Operation, Outcome, Performing, escaped
from dimse.requestor import DEFAULT_TRANSFER_SYNTAXES
from dimse.security.addresses import host_of
from dimse.security.audit import Study
from dimse.security.tls import ClientContext, ClientTLS
from dimse.security.trail import AuditTrail, Sending
from dimse.services.composite import without_bulk_data
from dimse.services.dataset import encode
from dimse.services.extended import Options, answers
from dimse.services.instance import UNCOMPRESSED, Instance, uid_of
from dimse.services.query import asked, received, say
from dimse.services.sending import Sendable, SendResult, one_by_one, send, to_its_end
from dimse.services.storage import store
from dimse.services.transcoding import in_thread
from dimse.sop_classes import (
    STORAGE_SOP_CLASSES,
    STUDY_ROOT,
    WITHOUT_BULK_DATA,
    InformationModel,
)
from dimse.ul.negotiation import SupportedContext, is_ae_title

_log = Logger()


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a C-MOVE sends to, and how.

    `place` is `"host:port"` or an endpoint. What is in none of `transfer_syntaxes` is converted to
    one of them where that can be; any is sent unless they are given. `limits` are the bounds of
    the association, those of the one that the C-MOVE came on unless given; with `tls` it is over
    TLS, as with `associate`.
    """

    place: str | IStreamClientEndpoint
    transfer_syntaxes: Sequence[str] = ()
    limits: Limits | None = None
    tls: ClientTLS | ClientContext | None = None


Place = str | IStreamClientEndpoint | Destination
Destinations = Mapping[str, Place] | Callable[[str], Place | None]


@dataclass(slots=True)
class _Count:
    """The numbers of a response (PS3.4 C.4.2.1.6 to C.4.2.1.9), and the UIDs of what failed."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_uids: list[str] = field(default_factory=list)
    reason: str = ""  # why the first of them failed

    def add(self, result: SendResult) -> None:
        """One sub-operation is done; a source may hold several."""
        self.remaining = max(self.remaining - 1, 0)
        if result.status is None:
            self.failed += 1
            self.reason = self.reason or _reason(result.error)
            if result.sop_instance_uid:
                self.failed_uids.append(result.sop_instance_uid)
        elif result.status.category is Category.WARNING:
            self.warning += 1
        else:
            self.completed += 1

    def elements(self, *, remaining: bool) -> dict[str, Any]:
        """As fields of C-GET-RSP and C-MOVE-RSP; 16 bits have to do."""
        numbers = {
            "number_of_completed_suboperations": self.completed,
            "number_of_failed_suboperations": self.failed,
            "number_of_warning_suboperations": self.warning,
        }
        if remaining:
            numbers["number_of_remaining_suboperations"] = self.remaining
        return {name: min(number, 0xFFFF) for name, number in numbers.items()}

    def outcome(self, transfer_syntax: str, status: int | None = None) -> Outcome:
        """The final response (PS3.4 C.4.2.3.1, C.4.3.3.1)."""
        if status is None:
            if self.failed and not (self.completed or self.warning):
                status = UNABLE_TO_PERFORM_SUBOPERATIONS
            else:
                status = SUBOPERATIONS_WARNING if self.failed or self.warning else SUCCESS
        data = None
        if self.failed_uids:
            listed = Dataset()
            listed.FailedSOPInstanceUIDList = self.failed_uids
            data = encode(listed, transfer_syntax)
        return Outcome(
            status, data, self.reason, elements=self.elements(remaining=status == CANCEL)
        )

    def __str__(self) -> str:
        return f"{self.completed} completed, {self.failed} failed, {self.warning} with warnings"


def _reason(error: DimseError | None) -> str:
    """For the peer: nothing of our paths."""
    if isinstance(error, ConnectionLostError):
        return "no connection with the destination"
    if isinstance(error, AssociationError):
        return str(error.args[0])  # which peer, it knows: an Error Comment has 64 characters
    if isinstance(error, StatusError | ContextError):
        return str(error)
    return "an instance could not be read"


class RetrieveSCP:
    """Sends what C-GET and C-MOVE ask for.

    `retrieve(identifier, operation)` returns, or is a coroutine that returns, what is to be sent:
    paths, Datasets and Instances. It raises `StatusError` to refuse. What has a length is not
    copied, and for C-GET taken one by one: an object that makes its Instances as it is iterated
    over, in an `async for` if it has to wait for them, keeps the memory flat, however many there
    are; so does a C-MOVE, which takes up to 10,000 ahead (`send`). An Instance says who it is,
    so its file is not opened before it is sent. What the peer does not take in its transfer syntax
    is converted (`transcode`), and for `WITHOUT_BULK_DATA` bulk data is left out
    (`without_bulk_data`). `destinations` maps the AE titles of C-MOVE destinations to where they
    are, `"host:port"`, an endpoint or a `Destination`, or is a function that does, with None for
    one unknown: no other place is ever connected to, as the AE title `ae_title`, or else as what
    the peer called us.
    `models` are the information models it answers for, `options` what it supports of the extended
    negotiation of those that have these. For C-GET it takes the SCU role of `sop_classes`, with
    `transfer_syntaxes`; unless they are given any, but of those in one context first what is not
    compressed, for that is what can always be sent.

    An instance that cannot be sent counts as failed, and the others go on; the log says why, and
    the Error Comment of the final response why the first did. `audit` is told what was sent, and
    of destinations that are not who they should be.
    """

    def __init__(
        self,
        retrieve: Callable[[Dataset, Operation], Any],
        models: Iterable[InformationModel] = (STUDY_ROOT,),
        *,
        destinations: Destinations = {},  # noqa: B006  never changed
        options: Options | None = None,
        sop_classes: Iterable[str] = STORAGE_SOP_CLASSES,
        transfer_syntaxes: tuple[str, ...] | None = None,
        ae_title: str | None = None,
        audit: AuditTrail | None = None,
        reactor: Any = None,
    ) -> None:
        if ae_title is not None and not is_ae_title(ae_title):
            raise MisuseError(f"{ae_title!r} is no AE title (PS3.5 6.2)")
        self._ae_title = ae_title
        self._audit = audit
        if isgeneratorfunction(retrieve) or isasyncgenfunction(retrieve):
            raise MisuseError("retrieve has to return what is to be sent, and not to yield it")
        self._retrieve = retrieve
        self._resolve = destinations if callable(destinations) else destinations.get
        self._reactor = reactor
        # Of several in one context: to these nearly everything can be converted.
        preferred = UNCOMPRESSED if transfer_syntaxes is None else ()
        sent = SupportedContext(transfer_syntaxes, scp=False, scu=True, preferred=preferred)
        models = tuple(models)
        getting = any(model.get for model in models)
        uids = [uid for model in models for uid in (model.get, model.move) if uid]
        self.contexts: Mapping[str, SupportedContext] = {
            **dict.fromkeys(sop_classes if getting else (), sent),
            **{
                uid: SupportedContext(DEFAULT_TRANSFER_SYNTAXES, extended=answer)
                for uid, answer in answers(options, uids).items()
            },
        }

    def otherwise(self, abstract_syntax: str) -> SupportedContext | None:
        """Nothing but its models and SOP classes."""
        return None

    def perform(self, operation: Operation) -> Performing:
        """Answer one C-GET or C-MOVE."""
        request = operation.request
        if not isinstance(request, CGetRQ | CMoveRQ):
            raise StatusError(UNRECOGNIZED_OPERATION)

        async def answer(data: bytes) -> Outcome:
            identifier = received(data, operation)
            place, title, to = None, "", ""
            if isinstance(request, CMoveRQ):
                title = request.move_destination
                to = f", to {escaped(title)}"
                place = self._resolve(title)
                if place is None:
                    comment = f"destination {escaped(title)} is not known here"
                    raise StatusError(MOVE_DESTINATION_UNKNOWN, comment)
            found = await maybeDeferred(self._retrieve, identifier, operation)
            if not isinstance(found, Sized):
                found = list(found)
            total, sending = len(found), None
            if self._audit is not None:
                host = "" if place is None else _host(place)
                sending = self._audit.sending(operation, title, host)
                found = _announced(found, sending)
            results = self._get(operation, found)
            if place is not None:
                results = self._move(operation, found, place)
            if sending is not None:
                results = _counted(results, sending)
            return await _count(operation, asked(identifier) + to, total, results)

        longest = operation.association.limits.identifier_length
        too_long, no_room = IDENTIFIER_MISMATCH, UNABLE_TO_COUNT_MATCHES
        return Performing(operation, answer, longest, too_long=too_long, no_room=no_room)

    async def _get(
        self, operation: Operation, found: Iterable[Sendable] | AsyncIterable[Sendable]
    ) -> AsyncGenerator[SendResult, None]:
        """Send on the association of the request, which ends with it.

        The sub-operation that is under way when it is cancelled ends first, so that it counts.
        """
        async for source in one_by_one(found):
            try:
                instance = Instance.of(source)
            except DimseError as error:
                yield SendResult(source, error=error, sop_instance_uid=uid_of(source))
                continue
            outcome, cancelled = await to_its_end(
                Deferred.fromCoroutine(self._store(operation, instance))
            )
            uid = instance.sop_instance_uid
            if not isinstance(outcome, Failure):
                yield SendResult(source, sop_instance_uid=uid, status=outcome)
            elif isinstance(outcome.value, AssociationError):
                raise outcome.value
            elif isinstance(outcome.value, DimseError):
                yield SendResult(source, sop_instance_uid=uid, error=outcome.value)
            else:
                outcome.raiseException()
            if cancelled:
                raise CancelledError

    async def _store(self, operation: Operation, instance: Instance) -> Status:
        request: Any = operation.request
        if operation.context.abstract_syntax == WITHOUT_BULK_DATA.get:
            step = partial(without_bulk_data, instance)
            instance = await in_thread(step, operation.association.clock)
        return await store(
            operation.association,
            instance,
            priority=request.priority,
            progress=lambda _: operation.progressed(),
        )

    def _move(
        self,
        operation: Operation,
        found: Iterable[Sendable] | AsyncIterable[Sendable],
        place: Place,
    ) -> AsyncGenerator[SendResult, None]:
        """Send on associations of our own; cancelled, as `_get`."""
        request: Any = operation.request
        to = place if isinstance(place, Destination) else Destination(place)
        return send(
            to.place,
            found,
            called_ae_title=request.move_destination,
            calling_ae_title=self._ae_title or operation.ae_title,
            priority=request.priority,
            limits=to.limits or operation.association.limits,
            transfer_syntaxes=to.transfer_syntaxes,
            progress=lambda _: operation.progressed(),
            move_originator=(operation.peer.ae_title, request.message_id),
            tls=to.tls,
            audit=self._audit,
            reactor=self._reactor or operation.association.clock,
        )


def _host(place: Place) -> str:
    """The host of a destination, as far as it tells."""
    place = place.place if isinstance(place, Destination) else place
    return host_of(place) if isinstance(place, str) else ""


def _study(source: Sendable) -> tuple[Study, str]:
    """What an audit trail hears of a source: its study, if it says so, and its SOP class."""
    if not isinstance(source, Instance):
        return Study(""), ""
    return source.study or Study(""), source.sop_class_uid


async def _announced(
    found: Iterable[Sendable] | AsyncIterable[Sendable], sending: Sending
) -> AsyncGenerator[Sendable, None]:
    """What is to be sent, past the audit trail."""
    async for source in one_by_one(found):
        sending.begin(_study(source)[0])
        yield source


async def _counted(
    results: AsyncGenerator[SendResult, None], sending: Sending
) -> AsyncGenerator[SendResult, None]:
    """The results, past the audit trail."""
    try:
        async with aclosing(results):
            async for result in results:
                sending.sent(*_study(result.source), ok=result.ok)
                yield result
    finally:
        sending.end()


async def _count(
    operation: Operation, asked_for: str, total: int, results: AsyncGenerator[SendResult, None]
) -> Outcome:
    """Take the results one by one, tell the peer how far it is, and say how it went."""
    association, syntax = operation.association, operation.context.transfer_syntax
    count = _Count(total)
    what = {"type": operation.request.NAME.removesuffix("-RQ"), "total_instances": total}
    span = None
    if association.events:
        span = Span(association.events, association.seconds, "sub_operation", what)
    status = None
    ended: set[str] = set()  # why associations with the destination did, as the log has it
    try:
        async with aclosing(results):
            async for result in results:
                count.add(result)
                if isinstance(result.error, AssociationError):
                    if str(result.error) not in ended:
                        ended.add(str(result.error))
                        _say_ended(operation, result.error)
                elif result.error is not None:
                    _say_failed(operation, result)
                if association.events:
                    association.events.emit(
                        "sub_operation.progress",
                        {},
                        **what,
                        completed=count.completed,
                        failed=count.failed,
                        remaining=count.remaining,
                    )
                if count.remaining:
                    await operation.pending(PENDING, **count.elements(remaining=True))
    except CancelledError:
        status = CANCEL  # which nobody hears when the association has ended
    finally:
        if span is not None:
            span.stop(completed=count.completed, failed=count.failed, warning=count.warning)
    say(operation, asked_for, str(count) if status is None else f"{count}, cancelled")
    return count.outcome(syntax, status)


def _say_ended(operation: Operation, error: AssociationError) -> None:
    """Once, and not for each of the instances that were to go there; the end counts them."""
    request: Any = operation.request
    _log.warn(
        "{peer}: C-MOVE to {destination}: instances are not sent: {error}",
        peer=operation.peer,
        destination=escaped(request.move_destination),
        error=error,
    )


def _say_failed(operation: Operation, result: SendResult) -> None:
    """Aloud for the first of those that failed alike; the end counts them."""
    name = operation.request.NAME.removesuffix("-RQ")
    news = operation.association.performed.is_news(f"{name} {result.error}")
    _log.emit(
        LogLevel.warn if news else LogLevel.debug,
        "{peer}: {operation} of {uid}: not sent: {error}",
        peer=operation.peer,
        operation=name,
        uid=result.sop_instance_uid or "an unknown instance",
        error=result.error,
    )
