"""The Storage Commitment Push Model: N-ACTION and N-EVENT-REPORT, SCU and SCP (PS3.4 J.3)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from pydicom.uid import generate_uid
from twisted.internet.defer import Deferred, maybeDeferred

from dimse.association import Association
from dimse.errors import (
    AssociationError,
    ContextError,
    DimseError,
    MisuseError,
    StatusError,
    TimedOutError,
)
from dimse.message.base import Request
from dimse.message.messages import NActionRQ, NEventReportRQ
from dimse.message.status import (
    INVALID_ARGUMENT_VALUE,
    NO_SUCH_ACTION,
    NO_SUCH_EVENT_TYPE,
    NO_SUCH_SOP_INSTANCE,
    RESOURCE_LIMITATION,
    SUCCESS,
    UNRECOGNIZED_OPERATION,
    Status,
)
from dimse.performing import Operation, Outcome, Performing
from dimse.requestor import DEFAULT_TRANSFER_SYNTAXES
from dimse.sending import Whole
from dimse.services.commitment_information import (
    FAILED_SOP_SEQUENCE,
    REFERENCED_SOP_SEQUENCE,
    TRANSACTION_UID,
    CommitmentRequest,
    CommitmentResult,
    FailureReason,
    Information,
    Item,
    Reference,
    decode,
    encode,
)
from dimse.services.instance import Instance
from dimse.services.verification import succeeded
from dimse.sop_classes import SOP_CLASSES, STORAGE_COMMITMENT_PUSH
from dimse.uids import is_uid
from dimse.ul.negotiation import AcceptedContext, SupportedContext

_INSTANCE = SOP_CLASSES[STORAGE_COMMITMENT_PUSH].instance  # the well-known one (PS3.4 J.3.5)
_REQUEST_STORAGE_COMMITMENT = 1  # the action (PS3.4 J.3.2.1.1)
_SUCCESSFUL, _FAILURES_EXIST = 1, 2  # the events (PS3.4 J.3.3.1.1)


Referring = Reference | tuple[str, str] | Instance


def commit(
    association: Association,
    instances: Iterable[Referring],
    *,
    transaction_uid: str | None = None,
    timeout: float | None = None,
    wait: float | None = None,
) -> "Deferred[CommitmentResult]":
    """Ask the peer to keep instances, and wait for its result on this association (PS3.4 J.3.2).

    `instances` are pairs of SOP Class and SOP Instance UID, or Instances. `timeout` is that of the
    response to the request, `wait` that of the result behind it, in seconds; without `wait` the
    association lives for `Limits.idle`. Many SCPs report on an association of their own: then use
    a `CommitmentSCU`, and listen with it.

    Fires with the `CommitmentResult`. Fails with `StatusError` when the peer refuses the request,
    with `ContextError`, with `TimedOutError` after `wait`, with the `AssociationError` that ended
    the association, or with `MisuseError` for no instance, and while another `commit` waits on
    this association.
    """

    async def asking() -> CommitmentResult:
        scu = CommitmentSCU()
        with association.performing(scu):
            ended = association.when_ended().addCallback(scu.fail)
            try:
                return await scu.commit(
                    association,
                    instances,
                    transaction_uid=transaction_uid,
                    timeout=timeout,
                    wait=wait,
                )
            finally:
                ended.addErrback(lambda _: None).cancel()

    return Deferred.fromCoroutine(asking())


def request_commitment(
    association: Association,
    instances: Iterable[Referring],
    *,
    transaction_uid: str | None = None,
    timeout: float | None = None,
) -> "Deferred[str]":
    """Ask the peer to keep instances, and do not wait for the result (PS3.4 J.3.2).

    Arguments and errors are those of `commit`. Fires with the Transaction UID, which the result
    will have.
    """

    async def asking() -> str:
        uid = transaction_uid or generate_uid()
        await _request(association, _references(instances), uid, timeout)
        return uid

    return Deferred.fromCoroutine(asking())


async def _request(
    association: Association, references: Iterable[Reference], uid: str, timeout: float | None
) -> None:
    items = tuple(Item(*each) for each in references)
    context = _encodable(association.context_for(STORAGE_COMMITMENT_PUSH))
    request = NActionRQ(
        message_id=association.next_message_id(),
        requested_sop_class_uid=STORAGE_COMMITMENT_PUSH,
        requested_sop_instance_uid=_INSTANCE,
        action_type_id=_REQUEST_STORAGE_COMMITMENT,
    )
    data = encode(Information(uid, items), context.transfer_syntax)
    succeeded(await association.request(context, request, Whole(data), timeout=timeout))


def _references(instances: Iterable[Referring]) -> tuple[Reference, ...]:
    references: dict[Reference, None] = {}
    for each in instances:
        pair = (each.sop_class_uid, each.sop_instance_uid) if isinstance(each, Instance) else each
        reference = Reference(*map(str, pair))
        if not all(map(is_uid, reference)):
            raise MisuseError(f"{pair!r} is no pair of SOP Class UID and SOP Instance UID")
        references[reference] = None
    if not references:
        raise MisuseError("no instance to commit (PS3.4 J.3.2.1.1)")
    return tuple(references)


def _encodable(context: AcceptedContext) -> AcceptedContext:
    if context.transfer_syntax not in DEFAULT_TRANSFER_SYNTAXES:
        raise ContextError(
            f"storage commitment in {context.transfer_syntax}, and not in explicit or implicit VR "
            "little endian"
        )
    return context


def report(
    association: Association, result: CommitmentResult, *, timeout: float | None = None
) -> "Deferred[Status]":
    """Tell the SCU the result of its request, as the SCP (N-EVENT-REPORT, PS3.4 J.3.3).

    `association` is that of the request, once that has been answered, or another one, on which
    we are the requestor and propose `roles={STORAGE_COMMITMENT_PUSH: (False, True)}`, with the AE
    title that the SCU knows. An SCU that negotiates no roles is taken to agree.

    Fires with the `Status` of the SCU, a success or a warning; after that the Transaction UID is
    not used any more. Fails with `StatusError`, `ContextError`, or the `AssociationError` that
    ended the association; then the result is not known to have come.
    """
    return Deferred.fromCoroutine(_report(association, result, timeout))


async def _report(
    association: Association, result: CommitmentResult, timeout: float | None
) -> Status:
    committed = tuple(Item(*each) for each in result.committed)
    failed = tuple(Item(*each, reason) for each, reason in result.failed.items())
    if not (committed or failed):
        raise MisuseError("the result of no instance (PS3.4 J.3.3.1.2)")
    context = _encodable(_reporting_context(association))
    request = NEventReportRQ(
        message_id=association.next_message_id(),
        affected_sop_class_uid=STORAGE_COMMITMENT_PUSH,
        affected_sop_instance_uid=_INSTANCE,
        event_type_id=_FAILURES_EXIST if failed else _SUCCESSFUL,
    )
    information = Information(
        result.transaction_uid, committed or None, failed or None, result.retrieve_ae_title
    )
    data = encode(information, context.transfer_syntax)
    return succeeded(await association.request(context, request, Whole(data), timeout=timeout))


def _reporting_context(association: Association) -> AcceptedContext:
    try:
        return association.context_for(STORAGE_COMMITMENT_PUSH, as_scp=True)
    except ContextError:
        answered = any(
            role.sop_class_uid == STORAGE_COMMITMENT_PUSH
            for role in association.peer_information.roles
        )
        if answered or not association.is_requestor:
            raise
        return association.context_for(STORAGE_COMMITMENT_PUSH)


class _CommitmentPerformer(ABC):
    """What both roles have in common: one kind of request, to the well-known instance."""

    _PERFORMED: type[Request]

    def __init__(self, supported: SupportedContext) -> None:
        self.contexts: Mapping[str, SupportedContext] = {STORAGE_COMMITMENT_PUSH: supported}

    def otherwise(self, abstract_syntax: str) -> SupportedContext | None:
        """Nothing but Storage Commitment."""
        return None

    def perform(self, operation: Operation) -> Performing:
        """Perform one request."""
        request = operation.request
        if not isinstance(request, self._PERFORMED):
            raise StatusError(UNRECOGNIZED_OPERATION)
        if request.sop_instance_uid != _INSTANCE:
            raise StatusError(NO_SUCH_SOP_INSTANCE)
        self._check_type(request)

        async def answer(data: bytes) -> int | Outcome:
            try:
                information = decode(data, operation.context.transfer_syntax)
            except StatusError:
                raise
            except DimseError as error:
                raise StatusError(INVALID_ARGUMENT_VALUE, str(error)) from error
            if not is_uid(information.transaction_uid):
                raise _invalid("no Transaction UID", TRANSACTION_UID)
            returned = await self._perform(operation, information)
            return SUCCESS if returned is None else returned

        longest = operation.association.limits.dataset_length
        refused = RESOURCE_LIMITATION
        return Performing(operation, answer, longest, too_long=refused, no_room=refused)

    @abstractmethod
    def _check_type(self, request: Any) -> None:
        """Raise the `StatusError` of an action or event that there is not."""

    @abstractmethod
    async def _perform(self, operation: Operation, information: Information) -> Any:
        """Perform it; None is success."""


def _invalid(why: str, tag: int) -> StatusError:
    return StatusError(INVALID_ARGUMENT_VALUE, f"{why} (PS3.4 J.3)", (tag,))


def _checked(items: Iterable[Item], tag: int) -> Iterable[Item]:
    for item in items:
        if not (is_uid(item.sop_class_uid) and is_uid(item.sop_instance_uid)):
            raise _invalid("an item without its UIDs", tag)
        yield item


class CommitmentSCP(_CommitmentPerformer):
    """Takes requests for storage commitment (PS3.4 J.3.2).

    `request` is a function of (`CommitmentRequest`, operation), a plain one or a coroutine. When
    it returns, the peer is told that the request was received, which is a promise to `report` its
    result. It raises `StatusError` to refuse, with 0x0115 for a Transaction UID that is in use.
    What has no Transaction UID or no instance is refused without it, and so is a Transaction UID
    that `request` is busy with.
    """

    _PERFORMED = NActionRQ

    def __init__(self, request: Callable[[CommitmentRequest, Operation], Any]) -> None:
        super().__init__(SupportedContext(DEFAULT_TRANSFER_SYNTAXES))
        self._request = request
        self._busy: set[str] = set()

    def _check_type(self, request: NActionRQ) -> None:
        if request.action_type_id != _REQUEST_STORAGE_COMMITMENT:
            raise StatusError(NO_SUCH_ACTION)

    async def _perform(self, operation: Operation, information: Information) -> Any:
        uid = information.transaction_uid
        references = dict.fromkeys(
            Reference(item.sop_class_uid, item.sop_instance_uid)
            for item in _checked(information.referenced or (), REFERENCED_SOP_SEQUENCE)
        )
        if not references:
            raise _invalid("no instance", REFERENCED_SOP_SEQUENCE)
        if uid in self._busy:
            raise _invalid("the Transaction UID is in use", TRANSACTION_UID)
        request = CommitmentRequest(uid, tuple(references), operation.peer, operation.ae_title)
        self._busy.add(uid)
        try:
            return await maybeDeferred(self._request, request, operation)
        finally:
            self._busy.remove(uid)


class CommitmentSCU(_CommitmentPerformer):
    """Receives the results of storage commitment, on whatever association they come (PS3.4 J.3.3).

    Give it to `associate(scps=[...])` for those on the same association, and to `listen` for those
    on another one, also from an SCP that negotiates no roles there. A result that no `commit`
    waits for, as after a restart, goes to `result`, a function of (`CommitmentResult`, operation),
    a plain one or a coroutine, which may raise `StatusError`; without it, it is refused with
    0x0115.
    """

    _PERFORMED = NEventReportRQ

    def __init__(self, result: Callable[[CommitmentResult, Operation], Any] | None = None) -> None:
        super().__init__(
            SupportedContext(DEFAULT_TRANSFER_SYNTAXES, scp=False, scu=True, without_roles=True)
        )
        self._result = result
        self._awaited: dict[str, Deferred[CommitmentResult]] = {}

    def commit(
        self,
        association: Association,
        instances: Iterable[Referring],
        *,
        transaction_uid: str | None = None,
        timeout: float | None = None,
        wait: float | None = None,
    ) -> "Deferred[CommitmentResult]":
        """Ask the peer to keep instances, and wait for the result, wherever it comes.

        As the function `commit`, but it goes on waiting when the association has ended, for ever
        without `wait`, and any number of them wait at a time.
        """
        return Deferred.fromCoroutine(
            self._commit(association, instances, transaction_uid, timeout, wait)
        )

    def fail(self, reason: AssociationError) -> None:
        """Let nobody wait any more: every `commit` fails with `reason`."""
        for awaited in list(self._awaited.values()):
            if not awaited.called:
                awaited.errback(reason)

    async def _commit(
        self,
        association: Association,
        instances: Iterable[Referring],
        transaction_uid: str | None,
        timeout: float | None,
        wait: float | None,
    ) -> CommitmentResult:
        uid = transaction_uid or generate_uid()
        if uid in self._awaited:
            raise MisuseError(f"Transaction UID {uid} is in use (PS3.4 J.3.2.1.2)")
        references = _references(instances)
        awaited: Deferred[CommitmentResult] = Deferred()
        self._awaited[uid] = awaited
        try:
            await _request(association, references, uid, timeout)
            if wait is not None:
                awaited.addTimeout(wait, association.clock, onTimeoutCancel=_waited)
            result = await awaited
        finally:
            del self._awaited[uid]
            awaited.addErrback(lambda _: None)  # of an association whose end _request raises too
        answered = {*result.committed, *result.failed}
        return replace(
            result, unanswered=tuple(each for each in references if each not in answered)
        )

    def _check_type(self, request: NEventReportRQ) -> None:
        if request.event_type_id not in (_SUCCESSFUL, _FAILURES_EXIST):
            raise StatusError(NO_SUCH_EVENT_TYPE)

    async def _perform(self, operation: Operation, information: Information) -> Any:
        result = _result_of(information)
        awaited = self._awaited.get(result.transaction_uid)
        if awaited is not None and not awaited.called:
            awaited.callback(result)
            return SUCCESS
        if self._result is None:
            raise _invalid("this Transaction UID is not awaited", TRANSACTION_UID)
        return await maybeDeferred(self._result, result, operation)


def _waited(_: object, seconds: float) -> None:
    raise TimedOutError("storage commitment", seconds)


def _result_of(information: Information) -> CommitmentResult:
    """What is in both sequences has failed; a reason that is missing is a general failure."""
    failed = {
        Reference(item.sop_class_uid, item.sop_instance_uid): (
            item.failure_reason or FailureReason.PROCESSING_FAILURE
        )
        for item in _checked(information.failed or (), FAILED_SOP_SEQUENCE)
    }
    referenced = tuple(_checked(information.referenced or (), REFERENCED_SOP_SEQUENCE))
    titles = {item.retrieve_ae_title for item in referenced}
    title = information.retrieve_ae_title or (titles.pop() if len(titles) == 1 else "")
    references = (Reference(item.sop_class_uid, item.sop_instance_uid) for item in referenced)
    committed = tuple(each for each in dict.fromkeys(references) if each not in failed)
    return CommitmentResult(information.transaction_uid, committed, failed, title)
