"""The attributes of the Modality Worklist (PS3.4 Table K.6-1): one literal.

Each with its matching key type, `-` where it is never matched, and its return key type.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydicom.datadict import tag_for_keyword

from dimse.archive.attributes import Attributes, name_of

STEP_SEQUENCE = 0x00400100
"""Scheduled Procedure Step Sequence, which has exactly one item."""

_OF_STEP = """
    ScheduledStationAETitle R 1, ScheduledProcedureStepStartDate R 1,
    ScheduledProcedureStepStartTime R 1, Modality R 1, ScheduledPerformingPhysicianName R 2,
    ScheduledProcedureStepDescription O 1C, ScheduledStationName O 2,
    ScheduledProcedureStepLocation O 2, ReferencedDefinedProtocolSequence O 3,
    ReferencedPerformedProtocolSequence O 3, ScheduledProtocolCodeSequence O 1C,
    PreMedication O 2C, ScheduledProcedureStepID O 1, RequestedContrastAgent O 2C,
    ScheduledProcedureStepStatus O 3"""

_OTHERS = """
    ScheduledProcedureStepSequence R 1, ScheduledSpecimenSequence O 3, BarcodeValue O 3,
    RequestedProcedureID O 1, RequestedProcedureDescription O 1C,
    RequestedProcedureCodeSequence O 1C, RequestedLateralityCodeSequence O 3,
    StudyInstanceUID O 1, StudyDate O 3, StudyTime O 3, ReferencedStudySequence O 2,
    RequestedProcedurePriority O 2, PatientTransportArrangements O 2, AccessionNumber O 2,
    IssuerOfAccessionNumberSequence O 3, RequestingPhysician O 2, ReferringPhysicianName O 2,
    AdmissionID O 2, IssuerOfAdmissionIDSequence O 3, CurrentPatientLocation O 2,
    ReferencedPatientSequence O 2, PatientName R 1, PatientID R 1, IssuerOfPatientID O 3,
    IssuerOfPatientIDQualifiersSequence O 3, OtherPatientIDsSequence O 3, PatientBirthDate O 2,
    PatientSex O 2, PatientPrimaryLanguageCodeSequence O 3, PatientWeight O 2, PatientSize O 3,
    ConfidentialityConstraintOnPatientDataDescription O 2, PatientState O 2, PregnancyStatus O 2,
    MedicalAlerts O 2, Allergies O 2, SpecialNeeds O 2, PertinentDocumentsSequence O 3"""

_UNIVERSAL_ONLY = frozenset((0x00380100,))  # Pertinent Documents Sequence


@dataclass(frozen=True, slots=True)
class WorklistKey:
    """How an attribute is matched, and what an answer has of it."""

    tag: int
    matching: str
    returned: str


def _keys(text: str) -> Iterator[WorklistKey]:
    for row in text.split(","):
        keyword, matching, returned = row.split()
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        yield WorklistKey(tag, matching, returned)


OF_STEP: Mapping[int, WorklistKey] = {each.tag: each for each in _keys(_OF_STEP)}
"""Those inside the Scheduled Procedure Step Sequence, by tag."""

OTHERS: Mapping[int, WorklistKey] = {each.tag: each for each in _keys(_OTHERS)}
"""Those beside it, and itself, by tag."""

NEVER_MATCHED = _UNIVERSAL_ONLY
"""Sequences whose keys are only asked for."""


def step_of(item: Attributes) -> Attributes:
    """The one item of the Scheduled Procedure Step Sequence; nothing where there is not one."""
    steps = item.get(STEP_SEQUENCE)
    return steps[0] if isinstance(steps, list) and len(steps) == 1 else {}


def missing(item: Attributes) -> list[str]:
    """What a worklist item has to have, and has not: the keywords of type 1."""
    step = step_of(item)
    lacks = [tag for tag, key in OTHERS.items() if key.returned == "1" and not item.get(tag)]
    lacks += [tag for tag, key in OF_STEP.items() if key.returned == "1" and not step.get(tag)]
    return [name_of(tag) for tag in lacks]
