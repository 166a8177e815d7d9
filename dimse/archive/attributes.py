"""What the index keeps of each instance, by level of the Query/Retrieve models (PS3.4 C.6).

The keys that PS3.4 lists, but for those that are computed, and of "all other attributes" those that
people ask for. One literal: header scan, index, answers and documentation read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

Value = str | list[dict[int, Any]]
"""Text, several values with a backslash between them; of a sequence its items."""

Attributes = dict[int, Value]
"""By tag. An empty element has the value "", one that is missing is not there."""


class Level(IntEnum):
    """The levels of the Patient Root model, from the root (PS3.4 C.6.1.1)."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    IMAGE = 3


_KEPT: Mapping[Level, str] = {
    Level.PATIENT: """
        PatientName PatientID IssuerOfPatientID ReferencedPatientSequence PatientBirthDate
        PatientBirthTime PatientSex OtherPatientIDsSequence OtherPatientNames EthnicGroup
        PatientComments OtherPatientIDs PatientSpeciesDescription PatientBreedDescription
        ResponsiblePerson""",
    Level.STUDY: """
        StudyDate StudyTime AccessionNumber StudyID StudyInstanceUID
        AnatomicRegionsInStudyCodeSequence ReferringPhysicianName StudyDescription
        ProcedureCodeSequence NameOfPhysiciansReadingStudy AdmittingDiagnosesDescription
        ReferencedStudySequence PatientAge PatientSize PatientWeight Occupation
        AdditionalPatientHistory OtherStudyNumbers TimezoneOffsetFromUTC
        IssuerOfAccessionNumberSequence PhysiciansOfRecord InstitutionalDepartmentName
        RequestingPhysician RequestedProcedureDescription PregnancyStatus""",
    Level.SERIES: """
        Modality SeriesNumber SeriesInstanceUID SeriesDescription SeriesDate SeriesTime
        BodyPartExamined Laterality PerformingPhysicianName OperatorsName ProtocolName
        InstitutionName StationName Manufacturer ManufacturerModelName DeviceSerialNumber
        SoftwareVersions PatientPosition FrameOfReferenceUID RequestAttributesSequence
        PerformedProcedureStepID PerformedProcedureStepStartDate PerformedProcedureStepStartTime
        PerformedProcedureStepDescription ReferencedPerformedProcedureStepSequence
        SeriesDescriptionCodeSequence PresentationIntentType SpacingBetweenSlices""",
    Level.IMAGE: """
        InstanceNumber SOPInstanceUID SOPClassUID RelatedGeneralSOPClassUID
        ConceptNameCodeSequence ContentTemplateSequence ContainerIdentifier
        SpecimenDescriptionSequence ImageType AcquisitionDate AcquisitionTime
        AcquisitionDateTime AcquisitionNumber ContentDate ContentTime InstanceCreationDate
        InstanceCreationTime NumberOfFrames Rows Columns BitsAllocated SamplesPerPixel
        PhotometricInterpretation SliceLocation ImageComments ContentLabel ContentDescription
        ContentCreatorName PresentationCreationDate PresentationCreationTime CompletionFlag
        VerificationFlag DocumentTitle MIMETypeOfEncapsulatedDocument""",
}

_REQUIRED = """
    PatientName PatientID StudyDate StudyTime AccessionNumber StudyID StudyInstanceUID Modality
    SeriesNumber SeriesInstanceUID InstanceNumber SOPInstanceUID"""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One that is kept: its level and how it is encoded."""

    tag: int
    keyword: str
    vr: str
    level: Level


def _attribute(keyword: str, level: Level) -> Attribute:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return Attribute(tag, keyword, dictionary_VR(tag), level)


KEPT: Mapping[int, Attribute] = {
    each.tag: each
    for level, keywords in _KEPT.items()
    for each in (_attribute(keyword, level) for keyword in keywords.split())
}
"""All that are kept, by tag."""

REQUIRED = frozenset(each.tag for each in KEPT.values() if each.keyword in _REQUIRED.split())
"""The unique and required keys of PS3.4 Tables C.6-1 to C.6-5."""

UNIQUE: Mapping[Level, int] = {
    Level.PATIENT: 0x00100020,
    Level.STUDY: 0x0020000D,
    Level.SERIES: 0x0020000E,
    Level.IMAGE: 0x00080018,
}
"""The unique key of each level."""


def name_of(tag: int) -> str:
    """An attribute, for an error or a log."""
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
