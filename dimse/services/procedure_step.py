"""Modality Performed Procedure Step: N-CREATE, N-SET and N-GET, SCU and SCP (PS3.4 F.7, F.8)."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import deepcopy
from datetime import datetime
from typing import Any, Protocol
from warnings import catch_warnings

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.uid import generate_uid
from twisted.internet.defer import Deferred, maybeDeferred

from dimse.association import Association
from dimse.errors import MisuseError, StatusError
from dimse.message.messages import NGetRQ
from dimse.message.status import (
    DUPLICATE_SOP_INSTANCE,
    INVALID_ATTRIBUTE_VALUE,
    INVALID_SOP_INSTANCE,
    NO_SUCH_SOP_INSTANCE,
    PROCESSING_FAILURE,
    SUCCESS,
    Status,
)
from dimse.performing import Operation, Outcome, Sink
from dimse.services.attributes import FINAL, N_CREATE, N_SET, Rule, add_empty, check
from dimse.services.dataset import encode
from dimse.services.normalized import NormalizedSCP, Reply, n_create, n_set
from dimse.services.procedure_step_attributes import PROCEDURE_STEP
from dimse.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP as MPPS
from dimse.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE as MPPS_RETRIEVE
from dimse.uids import is_uid
from dimse.ul.negotiation import SupportedContext

IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"
"""Performed Procedure Step Status (PS3.4 F.7.2)."""

_STATUS = 0x00400252
_CHARACTER_SET = 0x00080005
_UTF_8 = "ISO_IR 192"
_NO_LONGER = 0xA710  # the Error ID of PS3.4 Table F.7.2-2
_REQUESTED_ATTRIBUTES_NOT_SUPPORTED = Status(0x0001)


class ProcedureStepStore(Protocol):
    """Where the SCP keeps the steps, by SOP Instance UID.

    Each function may return a Deferred or be a coroutine, and may raise `StatusError`.
    """

    def create(self, uid: str, step: Dataset, operation: Operation) -> bool | Awaitable[bool]:
        """Keep a new step, for good; False when there is one with that UID."""

    def get(self, uid: str, operation: Operation) -> Dataset | Awaitable[Dataset | None] | None:
        """The step with that UID, None for no such."""

    def update(
        self, uid: str, change: Callable[[Dataset], Dataset], operation: Operation
    ) -> bool | Awaitable[bool]:
        """Put what `change` makes of a step in its place, in one transaction; False for no such.

        `change` leaves its argument alone; when it raises, the step stays, and so does the
        exception.
        """


class MemorySteps:
    """A `ProcedureStepStore` in memory: `steps`, by UID."""

    def __init__(self) -> None:
        self.steps: dict[str, Dataset] = {}

    def create(self, uid: str, step: Dataset, operation: Operation) -> bool:
        """Keep a new one."""
        return self.steps.setdefault(uid, step) is step

    def get(self, uid: str, operation: Operation) -> Dataset | None:
        """One of them."""
        return self.steps.get(uid)

    def update(self, uid: str, change: Callable[[Dataset], Dataset], operation: Operation) -> bool:
        """Change one."""
        if uid not in self.steps:
            return False
        self.steps[uid] = change(self.steps[uid])
        return True


class ProcedureStepSCP:
    """Performs N-CREATE, N-SET and, for the Retrieve SOP class, N-GET of procedure steps.

    Attributes are held to their types (PS3.4 Table F.7.2-1), and the refusal names those that are
    wrong: 0x0105 not allowed, 0x0120 missing, 0x0121 without value, 0x0106 invalid. A step begins
    IN PROGRESS; one that is COMPLETED or DISCONTINUED, and then has all that it needs, stays as it
    is (0x0110 with Error ID A710H). `steps` is a `ProcedureStepStore`.
    """

    def __init__(self, steps: ProcedureStepStore) -> None:
        self._steps = steps
        self._scps = {
            MPPS: NormalizedSCP([MPPS], n_create=self._create, n_set=self._set),
            MPPS_RETRIEVE: NormalizedSCP([MPPS_RETRIEVE], n_get=self._get),
        }
        self.contexts: Mapping[str, SupportedContext] = {
            uid: scp.contexts[uid] for uid, scp in self._scps.items()
        }

    def otherwise(self, abstract_syntax: str) -> SupportedContext | None:
        """Nothing but procedure steps."""
        return None

    def perform(self, operation: Operation) -> Sink:
        """Perform one request."""
        return self._scps[operation.context.abstract_syntax].perform(operation)

    async def _create(self, operation: Operation, attributes: Dataset | None) -> None:
        uid, step = operation.request.sop_instance_uid or "", attributes or Dataset()
        if not is_uid(uid):
            raise StatusError(INVALID_SOP_INSTANCE, "the SCU gives the UID (PS3.4 F.7.2.1)")
        check(step, PROCEDURE_STEP, N_CREATE)
        _check_status(step, (IN_PROGRESS,))
        if not await maybeDeferred(self._steps.create, uid, step, operation):
            raise StatusError(DUPLICATE_SOP_INSTANCE)

    async def _set(self, operation: Operation, modifications: Dataset) -> None:
        uid = operation.request.sop_instance_uid or ""
        check(modifications, PROCEDURE_STEP, N_SET)
        _check_status(modifications, (IN_PROGRESS, COMPLETED, DISCONTINUED))

        def change(step: Dataset) -> Dataset:
            return changed(step, modifications)

        if not await maybeDeferred(self._steps.update, uid, change, operation):
            raise StatusError(NO_SUCH_SOP_INSTANCE)

    async def _get(self, operation: Operation, _: None) -> Outcome:
        request = operation.request
        assert isinstance(request, NGetRQ)
        uid = request.requested_sop_instance_uid
        get: Callable[[str, Operation], Any] = self._steps.get
        step: Dataset | None = await maybeDeferred(get, uid, operation)
        if step is None:
            raise StatusError(NO_SUCH_SOP_INSTANCE)
        wanted = request.attribute_identifier_list
        if wanted is not None:
            step = _part(step, (*wanted, _CHARACTER_SET))
        known = {*map(tag_for_keyword, PROCEDURE_STEP), *step.keys()}
        unknown = tuple(tag for tag in wanted or () if tag not in known)
        status = _REQUESTED_ATTRIBUTES_NOT_SUPPORTED if unknown else SUCCESS
        data = encode(step, operation.context.transfer_syntax)
        return Outcome(status, data, offending=unknown)


def _part(step: Dataset, tags: Iterable[int]) -> Dataset:
    part = Dataset()
    for tag in tags:
        if tag in step:
            part[tag] = step[tag]
    return part


def _check_status(attributes: Dataset, allowed: Iterable[str]) -> None:
    if _STATUS in attributes and attributes[_STATUS].value not in allowed:
        why = f"PerformedProcedureStepStatus is not {' or '.join(allowed)}"
        raise StatusError(INVALID_ATTRIBUTE_VALUE, why, (_STATUS,))


def changed(step: Dataset, modifications: Dataset) -> Dataset:
    """What N-SET makes of a step (PS3.4 F.7.2.2); raises `StatusError` when it is final, or would
    be without having what it needs."""
    if step.PerformedProcedureStepStatus != IN_PROGRESS:
        why = "Performed Procedure Step Object may no longer be updated"
        raise StatusError(PROCESSING_FAILURE, why, error_id=_NO_LONGER)
    before, after = deepcopy(step), deepcopy(modifications)
    if before.get(_CHARACTER_SET) != after.get(_CHARACTER_SET):
        try:
            with catch_warnings(action="ignore"):  # pydicom's, which quote values
                for dataset in (before, after):
                    dataset.decode()
                    dataset.SpecificCharacterSet = _UTF_8
        except Exception as error:  # whatever pydicom says of it; the text may hold values
            why = "SpecificCharacterSet: cannot be converted (PS3.4 F.7.2.2.3)"
            raise StatusError(INVALID_ATTRIBUTE_VALUE, why, (_CHARACTER_SET,)) from error
    before.update(after)
    if before.PerformedProcedureStepStatus != IN_PROGRESS:
        check(before, PROCEDURE_STEP, FINAL)
    return before


# SCU


def begin_step(
    association: Association,
    step: Dataset,
    uid: str | None = None,
    *,
    timeout: float | None = None,
) -> "Deferred[str]":
    """Report that a procedure step has begun (N-CREATE, PS3.4 F.7.2.1).

    `step` has what is known of it; the status, our AE title, the time and what may be without
    value are added. Fires with the SOP Instance UID, which is `uid` if there is one. Raises
    `MisuseError` when an attribute is missing that has to have a value; fails otherwise as all
    verbs of DIMSE-N.
    """
    begun = deepcopy(step)
    _default(begun, PerformedProcedureStepStatus=IN_PROGRESS)
    _default(begun, PerformedStationAETitle=association.ae_title)
    _set_time(begun, "Start")
    add_empty(begun, PROCEDURE_STEP)
    _check(begun, N_CREATE)
    reply = n_create(association, MPPS, begun, uid or generate_uid(), timeout=timeout)
    return reply.addCallback(lambda reply: str(reply.sop_instance_uid))


def complete_step(
    association: Association, uid: str, results: Dataset, *, timeout: float | None = None
) -> "Deferred[Reply]":
    """Report that a procedure step was completed (N-SET, PS3.4 F.7.2.2).

    `results` has what came of it, the Performed Series Sequence above all, unless that was set
    before; status and time are added. Fires with the `Reply`; raises `MisuseError` for attributes
    that are missing in it, or not allowed; fails as all verbs of DIMSE-N.
    """
    return _end(association, uid, results, COMPLETED, timeout)


def discontinue_step(
    association: Association, uid: str, results: Dataset, *, timeout: float | None = None
) -> "Deferred[Reply]":
    """Report that a procedure step was given up; as `complete_step`, with what there is of it."""
    return _end(association, uid, results, DISCONTINUED, timeout)


def _end(
    association: Association, uid: str, results: Dataset, status: str, timeout: float | None
) -> "Deferred[Reply]":
    ended = deepcopy(results)
    ended.PerformedProcedureStepStatus = status
    _set_time(ended, "End")
    _check(ended, N_SET)
    return n_set(association, MPPS, uid, ended, timeout=timeout)


def _check(dataset: Dataset, rule: Rule) -> None:
    try:
        check(dataset, PROCEDURE_STEP, rule)
    except StatusError as error:
        raise MisuseError(f"{error.comment} (PS3.4 Table F.7.2-1)") from None


def _default(dataset: Dataset, **values: Any) -> None:
    for keyword, value in values.items():
        if not dataset.get(keyword):
            setattr(dataset, keyword, value)


def _set_time(dataset: Dataset, which: str) -> None:
    now = datetime.now()  # local, as the standard has it (PS3.5 6.2)
    prefix = f"PerformedProcedureStep{which}"
    if not dataset.get(f"{prefix}Date"):
        _default(dataset, **{f"{prefix}Date": f"{now:%Y%m%d}", f"{prefix}Time": f"{now:%H%M%S}"})
