"""DIMSE-N: N-EVENT-REPORT, N-GET, N-SET, N-ACTION, N-CREATE, N-DELETE, SCU and SCP (PS3.7 10).

For every service class that is made of them: Procedure Step, Storage Commitment, Print Management,
Unified Procedure Step and others (PS3.4).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydicom import Dataset
from pydicom.tag import Tag
from twisted.internet.defer import Deferred, maybeDeferred

from dimse.association import Association
from dimse.errors import DataSetError, DimseError, MisuseError, StatusError
from dimse.invoking import Answer
from dimse.message.base import Request
from dimse.message.messages import (
    NActionRQ,
    NCreateRQ,
    NDeleteRQ,
    NEventReportRQ,
    NGetRQ,
    NResponse,
    NSetRQ,
)
from dimse.message.status import (
    INVALID_ARGUMENT_VALUE,
    INVALID_ATTRIBUTE_VALUE,
    RESOURCE_LIMITATION,
    SUCCESS,
    UNRECOGNIZED_OPERATION,
    Status,
)
from dimse.performing import Operation, Outcome, Performing
from dimse.requestor import DEFAULT_TRANSFER_SYNTAXES
from dimse.sending import Whole
from dimse.services.dataset import decode, encode
from dimse.services.verification import succeeded
from dimse.uids import is_uid
from dimse.ul.negotiation import SupportedContext


@dataclass(frozen=True, slots=True)
class Reply:
    """What an operation of DIMSE-N brought: its status, a success or a warning, the response, and
    its data set, if it has one."""

    status: Status
    response: NResponse
    dataset: Dataset | None

    @property
    def sop_instance_uid(self) -> str | None:
        """The instance that the peer names; for N-CREATE the one it has made."""
        return self.response.affected_sop_instance_uid


async def _invoke(
    association: Association,
    sop_class: str,
    kind: type[Request],
    dataset: Dataset | None,
    timeout: float | None,
    **elements: Any,
) -> Reply:
    context = association.context_for(sop_class, as_scp=kind is NEventReportRQ)
    request = kind(message_id=association.next_message_id(), **elements)
    source = None
    if dataset is not None:
        source = Whole(encode(dataset, context.transfer_syntax))
    answer = await association.request(context, request, source, timeout=timeout)
    status = succeeded(answer)
    assert isinstance(answer.response, NResponse)
    return Reply(status, answer.response, _replied(association, answer))


def _replied(association: Association, answer: Answer) -> Dataset | None:
    if answer.data is None:
        return None
    try:
        return decode(answer.data, answer.context.transfer_syntax)
    except DataSetError as error:
        raise DataSetError(f"{association.peer}: a reply cannot be read: {error}") from error


def n_event_report(
    association: Association,
    sop_class: str,
    sop_instance: str,
    event_type: int,
    information: Dataset | None = None,
    *,
    timeout: float | None = None,
) -> "Deferred[Reply]":
    """Notify the SCU of an event, as the SCP of `sop_class` (PS3.7 10.1.1).

    Fires with the `Reply`, whose dataset is the Event Reply; fails as all verbs of DIMSE-N, with
    `StatusError`, `ContextError`, or the `AssociationError` that ended the association.
    """
    return Deferred.fromCoroutine(
        _invoke(
            association,
            sop_class,
            NEventReportRQ,
            information,
            timeout,
            affected_sop_class_uid=sop_class,
            affected_sop_instance_uid=sop_instance,
            event_type_id=event_type,
        )
    )


def n_get(
    association: Association,
    sop_class: str,
    sop_instance: str,
    attributes: Iterable[int | str | tuple[int, int]] = (),
    *,
    timeout: float | None = None,
) -> "Deferred[Reply]":
    """Read attributes of a SOP instance (PS3.7 10.1.2): those with the tags or keywords
    `attributes`, all without any. Fires with the `Reply`, whose dataset has them; raises
    `MisuseError` for what is no tag."""
    try:
        tags = tuple(int(Tag(each)) for each in attributes)
    except (TypeError, ValueError, OverflowError) as error:
        raise MisuseError(f"these are no tags or keywords: {error}") from None
    return Deferred.fromCoroutine(
        _invoke(
            association,
            sop_class,
            NGetRQ,
            None,
            timeout,
            requested_sop_class_uid=sop_class,
            requested_sop_instance_uid=sop_instance,
            attribute_identifier_list=tags or None,
        )
    )


def n_set(
    association: Association,
    sop_class: str,
    sop_instance: str,
    modifications: Dataset,
    *,
    timeout: float | None = None,
) -> "Deferred[Reply]":
    """Change attributes of a SOP instance (PS3.7 10.1.3). Fires with the `Reply`, whose dataset
    may have what was set."""
    return Deferred.fromCoroutine(
        _invoke(
            association,
            sop_class,
            NSetRQ,
            modifications,
            timeout,
            requested_sop_class_uid=sop_class,
            requested_sop_instance_uid=sop_instance,
        )
    )


def n_action(
    association: Association,
    sop_class: str,
    sop_instance: str,
    action_type: int,
    information: Dataset | None = None,
    *,
    timeout: float | None = None,
) -> "Deferred[Reply]":
    """Ask for an action on a SOP instance (PS3.7 10.1.4). Fires with the `Reply`, whose dataset
    is the Action Reply."""
    return Deferred.fromCoroutine(
        _invoke(
            association,
            sop_class,
            NActionRQ,
            information,
            timeout,
            requested_sop_class_uid=sop_class,
            requested_sop_instance_uid=sop_instance,
            action_type_id=action_type,
        )
    )


def n_create(
    association: Association,
    sop_class: str,
    attributes: Dataset | None = None,
    sop_instance: str | None = None,
    *,
    timeout: float | None = None,
) -> "Deferred[Reply]":
    """Create a SOP instance (PS3.7 10.1.5); without `sop_instance` the peer gives it its UID.
    Fires with the `Reply`, whose `sop_instance_uid` then says which."""
    return Deferred.fromCoroutine(
        _invoke(
            association,
            sop_class,
            NCreateRQ,
            attributes,
            timeout,
            affected_sop_class_uid=sop_class,
            affected_sop_instance_uid=sop_instance,
        )
    )


def n_delete(
    association: Association,
    sop_class: str,
    sop_instance: str,
    *,
    timeout: float | None = None,
) -> "Deferred[Reply]":
    """Delete a SOP instance (PS3.7 10.1.6). Fires with the `Reply`."""
    return Deferred.fromCoroutine(
        _invoke(
            association,
            sop_class,
            NDeleteRQ,
            None,
            timeout,
            requested_sop_class_uid=sop_class,
            requested_sop_instance_uid=sop_instance,
        )
    )


# What a request says besides its data set, for the response (PS3.7 10.3).
_REPEATED: dict[type[Request], str] = {
    NActionRQ: "action_type_id",
    NEventReportRQ: "event_type_id",
}


class NormalizedSCP:
    """Performs DIMSE-N for some SOP classes.

    The keyword arguments are functions of (operation, dataset), plain ones or coroutines;
    `dataset` is None where the request has none, and `operation.request` has the rest: the class
    and instance, `action_type_id`, `attribute_identifier_list`. A function returns a Dataset,
    None, a status, or a tuple of them, such as a status and a Dataset, or an `Outcome`; it raises
    `StatusError` to fail. For an `n_create` without SOP Instance UID it has to return one (str),
    alone or in the tuple (PS3.7 10.1.5.1.3). What has no function is refused with 0x0211.

    `sop_classes` may be Meta SOP classes: requests in their contexts name the members. With
    `n_event_report` it takes the SCU role too: it is notified by a peer that is the SCP. A peer
    that opens an association to notify us proposes that role (PS3.4 J.3.3); `without_roles` takes
    notifications also of one that does not, as some do for Storage Commitment.
    """

    def __init__(
        self,
        sop_classes: Iterable[str],
        *,
        n_get: Callable[[Operation, None], Any] | None = None,
        n_set: Callable[[Operation, Dataset], Any] | None = None,
        n_action: Callable[[Operation, Dataset | None], Any] | None = None,
        n_create: Callable[[Operation, Dataset | None], Any] | None = None,
        n_delete: Callable[[Operation, None], Any] | None = None,
        n_event_report: Callable[[Operation, Dataset | None], Any] | None = None,
        transfer_syntaxes: Sequence[str] = DEFAULT_TRANSFER_SYNTAXES,
        without_roles: bool = False,
    ) -> None:
        self._functions: dict[type[Request], Callable[[Operation, Any], Any] | None] = {
            NGetRQ: n_get,
            NSetRQ: n_set,
            NActionRQ: n_action,
            NCreateRQ: n_create,
            NDeleteRQ: n_delete,
            NEventReportRQ: n_event_report,
        }
        performs = any((n_get, n_set, n_action, n_create, n_delete))
        supported = SupportedContext(
            tuple(transfer_syntaxes),
            scp=performs,
            scu=n_event_report is not None,
            without_roles=without_roles,
        )
        self.contexts: Mapping[str, SupportedContext] = dict.fromkeys(sop_classes, supported)

    def otherwise(self, abstract_syntax: str) -> SupportedContext | None:
        """Nothing but its SOP classes."""
        return None

    def perform(self, operation: Operation) -> Performing:
        """Perform one request."""
        function = self._functions.get(type(operation.request))
        if function is None:
            raise StatusError(UNRECOGNIZED_OPERATION)

        async def answer(data: bytes) -> Outcome:
            dataset = _received(operation, data) if data else None
            returned = await maybeDeferred(function, operation, dataset)
            return _outcome(operation, returned)

        longest = operation.association.limits.dataset_length
        refused = RESOURCE_LIMITATION
        return Performing(operation, answer, longest, too_long=refused, no_room=refused)


def _received(operation: Operation, data: bytes) -> Dataset:
    arguments = isinstance(operation.request, NActionRQ | NEventReportRQ)
    try:
        return decode(data, operation.context.transfer_syntax)
    except DimseError as error:
        status = INVALID_ARGUMENT_VALUE if arguments else INVALID_ATTRIBUTE_VALUE
        raise StatusError(status, str(error)) from error


def _outcome(operation: Operation, returned: Any) -> Outcome:
    """What a function returned, as a response."""
    request = operation.request
    outcome = returned if isinstance(returned, Outcome) else _composed(operation, returned)
    elements: dict[str, Any] = dict(outcome.elements)
    if isinstance(request, NCreateRQ):
        uid = elements.get("affected_sop_instance_uid")
        named = request.sop_instance_uid if uid is None else is_uid(uid)
        if Status(outcome.status).is_success and not named:
            raise TypeError("n_create returned no SOP Instance UID (PS3.7 10.1.5.1.3)")
    if outcome.data is not None and (name := _REPEATED.get(type(request))):
        elements.setdefault(name, getattr(request, name))
    return replace(outcome, elements=elements)


def _composed(operation: Operation, returned: Any) -> Outcome:
    """Of a status, a Dataset and the UID of what was created, as far as they are there."""
    status: int = SUCCESS
    data, elements = None, {}
    parts = returned if isinstance(returned, tuple) else (returned,)
    for part in parts:
        if isinstance(part, int):
            status = part
        elif isinstance(part, Dataset):
            data = encode(part, operation.context.transfer_syntax)
        elif isinstance(part, str) and isinstance(operation.request, NCreateRQ):
            elements["affected_sop_instance_uid"] = part
        elif part is not None:
            raise TypeError(f"{type(part).__name__} is no answer to {operation.request.NAME}")
    return Outcome(status, data, elements=elements)
