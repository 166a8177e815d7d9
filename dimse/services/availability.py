"""Instance Availability Notification: N-CREATE, SCU and SCP (PS3.4 R.3)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from pydicom import Dataset
from pydicom.uid import generate_uid
from twisted.internet.defer import Deferred, maybeDeferred

from dimse.association import Association
from dimse.errors import MisuseError, StatusError
from dimse.message.status import INVALID_ATTRIBUTE_VALUE, INVALID_SOP_INSTANCE
from dimse.performing import Operation
from dimse.services.attributes import N_CREATE, Attribute, Attributes, check
from dimse.services.commitment_information import Reference
from dimse.services.normalized import NormalizedSCP, Reply, n_create
from dimse.sop_classes import INSTANCE_AVAILABILITY_NOTIFICATION
from dimse.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP as MPPS
from dimse.uids import is_uid

_INSTANCE_AVAILABILITY = 0x00080056
_REFERENCED_SOP_SEQUENCE = 0x00081199

_REFERENCE = {
    "ReferencedSOPClassUID": Attribute("1"),
    "ReferencedSOPInstanceUID": Attribute("1"),
}
NOTIFICATION: Attributes = {
    "ReferencedPerformedProcedureStepSequence": Attribute(
        "2", items=_REFERENCE | {"PerformedWorkitemCodeSequence": Attribute("2")}
    ),
    "StudyInstanceUID": Attribute("1"),
    "ReferencedSeriesSequence": Attribute(
        "1",
        items={
            "SeriesInstanceUID": Attribute("1"),
            "ReferencedSOPSequence": Attribute(
                "1",
                items=_REFERENCE
                | {"InstanceAvailability": Attribute("1"), "RetrieveAETitle": Attribute("1")},
            ),
        },
    ),
}
"""By keyword, the types in N-CREATE (PS3.4 Table R.3.2-1)."""


class Availability(StrEnum):
    """Instance Availability (0008,0056): how soon an instance can be had (PS3.4 C.4.1.1.3.2)."""

    ONLINE = "ONLINE"
    NEARLINE = "NEARLINE"
    OFFLINE = "OFFLINE"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class AvailableInstance:
    """An instance of a series, how available it is, and the AE title to retrieve it from."""

    series_instance_uid: str
    reference: Reference
    retrieve_ae_title: str
    availability: Availability = Availability.ONLINE


@dataclass(frozen=True, slots=True)
class AvailabilityNotification:
    """The instances of a study that are available, or not, and the performed procedure steps that
    they come from, by SOP Instance UID."""

    study_instance_uid: str
    instances: tuple[AvailableInstance, ...]
    procedure_steps: tuple[str, ...] = ()

    def dataset(self) -> Dataset:
        """As attributes of N-CREATE."""
        made = Dataset()
        made.StudyInstanceUID = self.study_instance_uid
        made.ReferencedPerformedProcedureStepSequence = [
            _referring(Reference(MPPS, uid), PerformedWorkitemCodeSequence=[])
            for uid in self.procedure_steps
        ]
        series: dict[str, list[Dataset]] = {}
        for each in self.instances:
            item = _referring(
                each.reference,
                InstanceAvailability=str(each.availability),
                RetrieveAETitle=each.retrieve_ae_title,
            )
            series.setdefault(each.series_instance_uid, []).append(item)
        made.ReferencedSeriesSequence = [
            _with(SeriesInstanceUID=uid, ReferencedSOPSequence=items)
            for uid, items in series.items()
        ]
        return made

    @classmethod
    def of(cls, attributes: Dataset) -> Self:
        """From attributes of N-CREATE; raises the `StatusError` that they earn."""
        check(attributes, NOTIFICATION, N_CREATE)
        return cls(
            str(attributes.StudyInstanceUID),
            tuple(
                AvailableInstance(
                    str(series.SeriesInstanceUID),
                    _reference(item),
                    str(item.RetrieveAETitle),
                    _availability(item),
                )
                for series in attributes.ReferencedSeriesSequence
                for item in series.ReferencedSOPSequence
            ),
            tuple(
                str(item.ReferencedSOPInstanceUID)
                for item in attributes.ReferencedPerformedProcedureStepSequence or ()
            ),
        )


def _with(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def _referring(reference: Reference, **values: Any) -> Dataset:
    return _with(
        ReferencedSOPClassUID=reference.sop_class_uid,
        ReferencedSOPInstanceUID=reference.sop_instance_uid,
        **values,
    )


def _reference(item: Dataset) -> Reference:
    reference = Reference(str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
    if not all(map(is_uid, reference)):
        why = "ReferencedSOPSequence: not a UID (PS3.5 9.1)"
        raise StatusError(INVALID_ATTRIBUTE_VALUE, why, (_REFERENCED_SOP_SEQUENCE,))
    return reference


def _availability(item: Dataset) -> Availability:
    try:
        return Availability(str(item.InstanceAvailability))
    except ValueError:
        why = "InstanceAvailability: not a term of PS3.4 C.4.1.1.3.2"
        raise StatusError(INVALID_ATTRIBUTE_VALUE, why, (_INSTANCE_AVAILABILITY,)) from None


def notify_availability(
    association: Association,
    study_instance_uid: str,
    instances: Iterable[AvailableInstance],
    procedure_steps: Iterable[str] = (),
    *,
    timeout: float | None = None,
) -> "Deferred[Reply]":
    """Tell a peer that instances of a study are available, or are not any more (PS3.4 R.3.2).

    `procedure_steps` are the SOP Instance UIDs of the performed procedure steps that they come
    from, if they are known. Fires with the `Reply`; raises `MisuseError` for no instance; fails as
    all verbs of DIMSE-N.
    """
    notification = AvailabilityNotification(
        study_instance_uid, tuple(instances), tuple(procedure_steps)
    )
    if not notification.instances:
        raise MisuseError("a notification of no instance (PS3.4 Table R.3.2-1)")
    return n_create(
        association,
        INSTANCE_AVAILABILITY_NOTIFICATION,
        notification.dataset(),
        generate_uid(),
        timeout=timeout,
    )


class AvailabilitySCP(NormalizedSCP):
    """Takes notifications of availability (PS3.4 R.3.2).

    `notified` is a function of (`AvailabilityNotification`, operation), a plain one or a
    coroutine, which may raise `StatusError`, 0x0111 for a notification that it has already. What
    lacks an attribute, or has an invalid one, is refused without it.
    """

    def __init__(self, notified: Callable[[AvailabilityNotification, Operation], Any]) -> None:
        super().__init__([INSTANCE_AVAILABILITY_NOTIFICATION], n_create=self._create)
        self._notified = notified

    async def _create(self, operation: Operation, attributes: Dataset | None) -> Any:
        if not is_uid(operation.request.sop_instance_uid or ""):
            raise StatusError(INVALID_SOP_INSTANCE, "the SCU gives the UID (PS3.4 R.3)")
        notification = AvailabilityNotification.of(attributes or Dataset())
        return await maybeDeferred(self._notified, notification, operation)
