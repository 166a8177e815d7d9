"""Every matching rule as queries, with what they find in `collection`; and what is retrieved.

`matching_rules.csv` of tests/standard names the rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.interop.collection import IMPLICIT, ROOT

PATIENT, STUDY, SERIES, IMAGE = "PATIENT", "STUDY", "SERIES", "IMAGE"

UNIQUE = {
    PATIENT: "PatientID",
    STUDY: "StudyInstanceUID",
    SERIES: "SeriesInstanceUID",
    IMAGE: "SOPInstanceUID",
}

ALL = "1 2 3 4 5 6 7 8 9"
"""The studies of the collection."""


@dataclass(frozen=True, slots=True)
class Query:
    """The keys of a rule, and the names of what they find: numbers, or Patient IDs.

    `model` is the option of the tools for it, `options` are the fields of `QueryOptions` that are
    negotiated. `warned` when the answers say that a key is not supported (PS3.4 C.4.1.1.4).
    `answered` is the Specific Character Set of the answers, where the query is about that.
    """

    rule: str
    level: str
    keys: Mapping[str, Any]
    found: str
    model: str = "-S"
    options: tuple[str, ...] = ()
    warned: bool = False
    answered: str = ""

    @property
    def title(self) -> str:
        """What tells it from the others: its rule, its keys, and what else it has."""
        return " ".join((f"{self.rule}:", shown(self.keys), self.model, self.level, *self.options))


def shown(keys: Mapping[str, Any]) -> str:
    """Keys as one types them, UIDs by their names; without those of the levels above."""
    texts = []
    for keyword, value in keys.items():
        if isinstance(value, list):
            texts.append(f"{keyword}[0].{shown(value[0])}")
        elif keyword not in ("StudyInstanceUID", "SeriesInstanceUID") or "\\" in value:
            texts.append(f"{keyword}={value}".replace(f"{ROOT}.", ""))
    return " ".join(texts)


def _patient(rule: str, found: str, **keys: Any) -> Query:
    return Query(rule, PATIENT, keys, found, model="-P")


def _study(rule: str, found: str, *options: str, **keys: Any) -> Query:
    return Query(rule, STUDY, keys, found, options=options)


def _series(rule: str, found: str, **keys: Any) -> Query:
    """Of the first study."""
    return Query(rule, SERIES, {"StudyInstanceUID": f"{ROOT}.1", **keys}, found)


def _image(rule: str, found: str, **keys: Any) -> Query:
    """Of the first series of the first study."""
    above = {"StudyInstanceUID": f"{ROOT}.1", "SeriesInstanceUID": f"{ROOT}.1.1"}
    return Query(rule, IMAGE, above | keys, found)


_PATIENTS = "P1 P4 P5 P6 P7 P8 P9 p3"
_OF_P1 = {"PatientID": "P1"}
_SEPARATE = "range, date and time separate (default)"
_COMBINED = "range, date and time combined"
_MULTIPLE = "multi-valued entity attribute"
_NO_EXISTENCE = "optional key, existence not supported"
_NO_MATCHING = "optional key, matching not supported"

QUERIES = (
    _study("single value", "1", AccessionNumber="A1"),
    _study("single value", "3", AccessionNumber="a1"),
    _study("single value", "1 2", PatientID="P1"),
    _study("single value", "1", StudyDate="20240105"),
    _study("single value", "2", StudyTime="2230"),
    _study("single value", "2", StudyTime="223000"),
    _study("single value", "1", StudyDescription="Head routine"),
    _study("single value", "1", PatientSize="1.7"),
    _study("single value", "1 2", NumberOfStudyRelatedInstances="3"),
    _patient("single value", "p3", PatientID="p3"),
    _series("single value", "1.2", Modality="MR"),
    _series("single value", "1.2", SeriesNumber="02"),
    _image("single value", "1.1.2", InstanceNumber="2"),
    _image("single value", "1.1.1 1.1.2", Rows=8),
    _image("single value", "1.1.1", AcquisitionDateTime="20240105101112.500000"),
    _image("single value", "1.1.2", AcquisitionDateTime="20240105100000+0000"),
    _study("single value of PN", "1 2", PatientName="Doe^Jane"),
    _study("single value of PN", "1 2", PatientName="doe^jane"),
    _study("single value of PN", "1 2", PatientName="Doe^Jane^^"),
    _study("single value of PN", "4", PatientName="Muller^Jorg"),
    _study("list of UID", "1 3", StudyInstanceUID=f"{ROOT}.1\\{ROOT}.3\\{ROOT}.99"),
    _series("list of UID", "1.1 1.2", SeriesInstanceUID=f"{ROOT}.1.1\\{ROOT}.1.2"),
    _image("list of UID", "1.1.1", SOPInstanceUID=f"{ROOT}.1.1.1\\{ROOT}.2.1.1"),
    _patient("universal", _PATIENTS),
    _study("universal", ALL),
    _series("universal", "1.1 1.2"),
    _image("universal", "1.1.1 1.1.2"),
    Query("universal", STUDY, _OF_P1, "1 2", "-P"),
    Query("universal", SERIES, {**_OF_P1, "StudyInstanceUID": f"{ROOT}.2"}, "2.1 2.2", "-P"),
    Query(
        "universal",
        IMAGE,
        {**_OF_P1, "StudyInstanceUID": f"{ROOT}.2", "SeriesInstanceUID": f"{ROOT}.2.1"},
        "2.1.1 2.1.2",
        "-P",
    ),
    Query("universal", PATIENT, {}, _PATIENTS, "-O"),
    Query("universal", STUDY, _OF_P1, "1 2", "-O"),
    _study("wild card", "1 2 4 5 6 7 9", AccessionNumber="A*"),
    _study("wild card", "1 3", AccessionNumber="?1"),
    _study("wild card", ALL, AccessionNumber="*"),
    _study("wild card", ALL, StudyDate="*"),
    _study("wild card", "1", StudyDescription="*routine"),
    _study("wild card", "1", StudyDescription="H?ad*"),
    _study("wild card", "1 2 3", PatientName="Doe*"),
    _study("wild card", "1 2 3 8", PatientName="*^j*n*"),
    _series("wild card", "1.1", Modality="C?"),
    _study("range", "1 2", StudyDate="20240105-20240106"),
    _study("range", "4 5", StudyDate="-20230616"),
    _study("range", "3 9", StudyDate="20240107-"),
    _study("range", "1 3", StudyTime="0800-1012"),
    _study("range", "2 4 5 6 7", StudyTime="12-"),
    _image("range", "1.1.1", AcquisitionDateTime="20240105101112-20240105101113"),
    _image("range", "1.1.2", AcquisitionDateTime="-20240105100000"),
    _study(_SEPARATE, "1 2", StudyDate="20240105-20240107", StudyTime="1000-2300"),
    _study("sequence", "1", ProcedureCodeSequence=[{"CodeValue": "HEAD"}]),
    _study("sequence", "1 2", ProcedureCodeSequence=[{"CodeValue": "CH*"}]),
    _study("sequence, universal", ALL, ProcedureCodeSequence=[{"CodeValue": ""}]),
    _image(_MULTIPLE, "1.1.2", ImageType="LOCALIZER"),
    _image(_MULTIPLE, "1.1.1", ImageType="AX*"),
    _study(_MULTIPLE, "1 2", ModalitiesInStudy="MR"),
    _study("timezone", "9", TimezoneOffsetFromUTC="+0900"),
    _study("unknown value, Query/Retrieve", "4", AccessionNumber="A4"),
    Query(_NO_EXISTENCE, STUDY, _OF_P1 | {"PatientState": "X"}, "1 2", warned=True),
    Query(_NO_MATCHING, STUDY, _OF_P1 | {"RetrieveAETitle": "X"}, "1 2", warned=True),
)
"""What every tool can ask."""

NEGOTIATED = (
    _study("single value of PN", "8", "fuzzy_names", PatientName="Smith^John"),
    _study("single value of PN", "1 2 3", "fuzzy_names", PatientName="jane doe"),
    _study(
        _COMBINED,
        "2 3",
        "combined_date_time",
        StudyDate="20240105-20240107",
        StudyTime="2000-0900",
    ),
    _study("timezone", "9", "timezone", StudyDate="20240109", TimezoneOffsetFromUTC="+0000"),
    _study("universal", "1 2", "relational", SeriesNumber="2"),
    Query("universal", SERIES, {"Modality": "MR"}, "1.2 2.2", options=("relational",)),
    Query("universal", PATIENT, {"Modality": "MR"}, "P1", "-P", ("relational",)),
    _study("empty value", "8", "empty_value_matching", AccessionNumber='""'),
    Query(
        "multiple value",
        IMAGE,
        {"ImageType": "AXIAL\\ORIGINAL"},
        "1.1.1 1.2.1 2.1.1 2.2.1 3.1.1 4.1.1 5.1.1 6.1.1 7.1.1 8.1.1 9.1.1",
        options=("relational", "multiple_value_matching"),
    ),
)
"""What needs extended negotiation (PS3.4 C.5.1.1)."""

_REFUSED = "no query of the model"

REFUSED = (
    Query(_REFUSED, "FRAME", {}, ""),
    Query(_REFUSED, PATIENT, {}, ""),
    Query(_REFUSED, SERIES, {"Modality": "MR"}, ""),
    Query(_REFUSED, STUDY, {"StudyID": "S1"}, "", "-P"),
    _study("no key", "", StudyDate="2024-01-05"),
    _study("no key", "", StudyDate="2024*"),
    _study("no key", "", StudyTime="99"),
)
"""What is answered with A900H (PS3.4 C.4.1.1.4)."""

FLAGS = {
    "relational": "--relational-query",
    "combined_date_time": "--dt-matching",
    "fuzzy_names": "--fuzzy-names",
    "timezone": "--timezone-adj",
}
"""What pynetdicom's findscu can negotiate; DCMTK's can nothing of it."""

LATIN_1, UTF_8, CHINESE, JAPANESE = "ISO_IR 100", "ISO_IR 192", "GB18030", "\\ISO 2022 IR 87"


def _text(found: str, character_set: str, answered: str, **keys: Any) -> Query:
    named = {"SpecificCharacterSet": character_set} if character_set else {}
    return Query("character set", STUDY, named | keys, found, answered=answered)


CHARACTER_SETS = (
    _text("4", LATIN_1, LATIN_1, PatientName="Müller*"),
    _text("4", LATIN_1, LATIN_1, StudyDescription="Schä*"),
    _text("4", UTF_8, UTF_8, PatientName="MÜLLER*"),
    _text("4", UTF_8, UTF_8, StudyDescription="Sch?del"),
    _text("4", "", UTF_8, PatientName="Muller*"),
    _text("4", "", UTF_8, PatientName="Müller*"),
    _text("4", "", UTF_8, AccessionNumber="A4"),
    _text("6", JAPANESE, JAPANESE, PatientName="*=山田*"),
    _text("6", JAPANESE, JAPANESE, StudyDescription="頭?"),
    _text("6", UTF_8, UTF_8, PatientName="やまだ*"),
    _text("7", CHINESE, CHINESE, PatientName="张*"),
    _text("7", UTF_8, UTF_8, StudyDescription="胸部"),
    _text("5", CHINESE, CHINESE, PatientName="Wang*=王*"),
    _text("5 7", LATIN_1, UTF_8, PatientName="*XiaoDong"),
)
"""Queries in a character set, and that of their answers: the same, or UTF-8 where it has not all
that is to be said (PS3.4 C.4.1.1.3.2)."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The unique keys of what is retrieved, and the names of its instances."""

    model: str
    level: str
    keys: Mapping[str, str]
    found: str

    @property
    def title(self) -> str:
        """What tells it from the others."""
        keys = " ".join(self.keys.values()).replace(f"{ROOT}.", "")
        return f"{self.model} {self.level} {keys}"


_FIRST = "1.1.1 1.1.2 1.2.1"
_STUDY_1 = {"StudyInstanceUID": f"{ROOT}.1"}
_SERIES_1 = {**_STUDY_1, "SeriesInstanceUID": f"{ROOT}.1.1"}
_IMAGE_2 = {**_SERIES_1, "SOPInstanceUID": f"{ROOT}.1.1.2"}

RETRIEVALS = (
    Retrieval("-P", PATIENT, _OF_P1, f"{_FIRST} 2.1.1 2.1.2 2.2.1"),
    Retrieval("-P", STUDY, _OF_P1 | _STUDY_1, _FIRST),
    Retrieval("-P", SERIES, _OF_P1 | _SERIES_1, "1.1.1 1.1.2"),
    Retrieval("-P", IMAGE, _OF_P1 | _IMAGE_2, "1.1.2"),
    Retrieval("-S", STUDY, _STUDY_1, _FIRST),
    Retrieval("-S", STUDY, {"StudyInstanceUID": f"{ROOT}.3\\{ROOT}.4"}, "3.1.1 3.1.2 4.1.1 4.1.2"),
    Retrieval("-S", SERIES, _SERIES_1, "1.1.1 1.1.2"),
    Retrieval("-S", IMAGE, _IMAGE_2, "1.1.2"),
    Retrieval("-O", PATIENT, {"PatientID": "P7"}, "7.1.1 7.1.2"),
    Retrieval("-O", STUDY, _OF_P1 | _STUDY_1, _FIRST),
    Retrieval("-S", STUDY, {"StudyInstanceUID": f"{ROOT}.{IMPLICIT}"}, "9.1.1 9.1.2"),
)
"""Of each model and level; the last is in Implicit VR Little Endian."""

STEP = "ScheduledProcedureStepSequence[0]."

WORKLIST_QUERIES = {
    "": "1 2 3 4 5",
    "PatientID=P2": "2",
    "PatientID=P?": "1 2 3 4 5",
    "PatientID=*3": "3",
    "PatientID=p2": "",
    "PatientName=Doe^Jane": "1 5",
    "PatientName=Doe*": "1 3 5",
    "PatientName=doe*": "1 3 5",
    "PatientName=?oe^Jane": "1 4 5",
    "AccessionNumber=A1": "1",
    "AccessionNumber=A*": "1 2 3 4",
    "RequestedProcedureID=R4": "4",
    "StudyInstanceUID=1.2.3": "3",
    f"{STEP}Modality=MR": "2",
    f"{STEP}Modality=M*": "2",
    f"{STEP}ScheduledStationAETitle=CT2": "3",
    f"{STEP}ScheduledStationAETitle=CT?": "1 2 3 4 5",
    f"{STEP}ScheduledProcedureStepStartDate=20260102": "2",
    f"{STEP}ScheduledProcedureStepStartDate=20260102-20260103": "2 3",
    f"{STEP}ScheduledProcedureStepStartDate=20260104-": "4 5",
    f"{STEP}ScheduledProcedureStepStartDate=-20260102": "1 2",
    f"{STEP}ScheduledProcedureStepStartTime=120000": "1 2 3 5",
    f"{STEP}ScheduledProcedureStepStartTime=1300-": "4",
    f"{STEP}ScheduledProcedureStepID=S5": "5",
    f"{STEP}ScheduledPerformingPhysicianName=Strange*": "5",
    f"{STEP}ScheduledPerformingPhysicianName=strange*": "5",
}
"""A query for each key and each kind of matching it has (PS3.4 K.6.1.2), and what it finds."""
