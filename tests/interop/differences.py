"""Where DCMTK's dcmqrscp answers otherwise than our archive, and why.

The documentation prints `DIFFERENCES`.
"""

from collections.abc import Mapping

from tests.interop.rules import STEP

_NUMBER = (
    "Numbers compare as numbers here, as text there: how they do is left to an archive"
    " (PS3.4 C.2.2.2.1)"
)
_UNKNOWN = (
    "An optional key that it has not: such keys are ignored, and it does not tell so"
    " (PS3.4 C.2.2.1.3)"
)
_CASE = (
    "Here names match without regard to case and accents, there they do not: either is allowed"
    " (PS3.4 C.2.2.2.1.1, C.2.2.2.4)"
)
_TRAILING = "Trailing ^ say nothing, and may be left out (PS3.5 6.2.1)"
_GROUPS = (
    "Here a name matches by any of its component groups, there as one text"
    " (PS3.4 C.2.2.2.1.1, PS3.5 6.2.1)"
)
_STARS = "A date has no wild cards; an asterisk alone asks for any value here (PS3.4 C.2.2.2.4)"
_CHARACTER = "? is one character, however many bytes it has (PS3.4 C.2.2.2.4)"
_ESCAPES = (
    "Text of ISO 2022 IR 87 compares as characters here, byte by byte with its escape sequences"
    " there (PS3.4 C.2.2.2.4, PS3.5 6.1.2.5)"
)
_TELLS = "FF01H tells that a key was not supported, or not matched (PS3.4 C.4.1.1.4)"
_SET = (
    "Text that the set of the request has not is answered in UTF-8 here, in the set in which it was"
    " stored there (PS3.4 C.4.1.1.3.2)"
)

_STATUS = (
    "Refused here as an Identifier that does not match the SOP Class, and there as if the archive"
    " could not (PS3.4 C.4.1.1.4)"
)
_ABOVE = "Each level above that of the query needs its unique key (PS3.4 C.4.1.2.1)"
_NO_MATCH = (
    "What is no value of its VR is refused here, with the attribute: to find nothing would look as"
    " if nothing was there (PS3.5 6.2, PS3.4 C.4.1.1.4)"
)

DIFFERENCES: Mapping[str, tuple[str, str]] = {
    "single value: PatientSize=1.7 -S STUDY": ("finds nothing", _NUMBER),
    "single value: NumberOfStudyRelatedInstances=3 -S STUDY": (
        "finds 1 2 3 4 5 6 7 8 9, without NumberOfStudyRelatedInstances",
        _UNKNOWN,
    ),
    "single value: SeriesNumber=02 -S SERIES": ("finds nothing", _NUMBER),
    "single value: Rows=8 -S IMAGE": ("without Rows", _UNKNOWN),
    "single value: AcquisitionDateTime=20240105101112.500000 -S IMAGE": (
        "finds 1.1.1 1.1.2, without AcquisitionDateTime",
        _UNKNOWN,
    ),
    "single value: AcquisitionDateTime=20240105100000+0000 -S IMAGE": (
        "finds 1.1.1 1.1.2, without AcquisitionDateTime",
        _UNKNOWN,
    ),
    "single value of PN: PatientName=doe^jane -S STUDY": ("finds nothing", _CASE),
    "single value of PN: PatientName=Doe^Jane^^ -S STUDY": ("finds nothing", _TRAILING),
    "single value of PN: PatientName=Muller^Jorg -S STUDY": ("finds nothing", _CASE),
    "wild card: StudyDate=* -S STUDY": ("finds nothing", _STARS),
    "wild card: PatientName=Doe* -S STUDY": ("finds 1 2", _CASE),
    "wild card: PatientName=*^j*n* -S STUDY": ("finds nothing", _CASE),
    "range: AcquisitionDateTime=20240105101112-20240105101113 -S IMAGE": (
        "finds 1.1.1 1.1.2, without AcquisitionDateTime",
        _UNKNOWN,
    ),
    "range: AcquisitionDateTime=-20240105100000 -S IMAGE": (
        "finds 1.1.1 1.1.2, without AcquisitionDateTime",
        _UNKNOWN,
    ),
    "sequence: ProcedureCodeSequence[0].CodeValue=HEAD -S STUDY": (
        "finds 1 2 3 4 5 6 7 8 9, without ProcedureCodeSequence",
        _UNKNOWN,
    ),
    "sequence: ProcedureCodeSequence[0].CodeValue=CH* -S STUDY": (
        "finds 1 2 3 4 5 6 7 8 9, without ProcedureCodeSequence",
        _UNKNOWN,
    ),
    "sequence, universal: ProcedureCodeSequence[0].CodeValue= -S STUDY": (
        "without ProcedureCodeSequence",
        _UNKNOWN,
    ),
    "multi-valued entity attribute: ImageType=LOCALIZER -S IMAGE": (
        "finds 1.1.1 1.1.2, without ImageType",
        _UNKNOWN,
    ),
    "multi-valued entity attribute: ImageType=AX* -S IMAGE": (
        "finds 1.1.1 1.1.2, without ImageType",
        _UNKNOWN,
    ),
    "multi-valued entity attribute: ModalitiesInStudy=MR -S STUDY": (
        "finds 1 2 3 4 5 6 7 8 9, without ModalitiesInStudy",
        _UNKNOWN,
    ),
    "timezone: TimezoneOffsetFromUTC=+0900 -S STUDY": (
        "finds 1 2 3 4 5 6 7 8 9, without TimezoneOffsetFromUTC",
        _UNKNOWN,
    ),
    "optional key, existence not supported: PatientID=P1 PatientState=X -S STUDY": (
        "no FF01H",
        _TELLS,
    ),
    "optional key, matching not supported: PatientID=P1 RetrieveAETitle=X -S STUDY": (
        "no FF01H",
        _TELLS,
    ),
    "character set: SpecificCharacterSet=ISO_IR 192 PatientName=MÜLLER* -S STUDY": (
        "finds nothing",
        _CASE,
    ),
    "character set: PatientName=Muller* -S STUDY": ("finds nothing", _CASE),
    "character set: PatientName=Müller* -S STUDY": ("in ISO_IR 100", _SET),
    "character set: AccessionNumber=A4 -S STUDY": ("in ISO_IR 100", _SET),
    "character set: SpecificCharacterSet=ISO_IR 192 StudyDescription=Sch?del -S STUDY": (
        "finds nothing",
        _CHARACTER,
    ),
    "character set: SpecificCharacterSet=\\ISO 2022 IR 87 StudyDescription=頭? -S STUDY": (
        "finds nothing",
        _ESCAPES,
    ),
    "character set: SpecificCharacterSet=ISO_IR 192 PatientName=やまだ* -S STUDY": (
        "finds nothing",
        _ESCAPES,
    ),
    "character set: SpecificCharacterSet=GB18030 PatientName=张* -S STUDY": (
        "finds nothing",
        _GROUPS,
    ),
    "character set: SpecificCharacterSet=ISO_IR 100 PatientName=*XiaoDong -S STUDY": (
        "finds nothing",
        _GROUPS,
    ),
    "no query of the model:  -S FRAME": ("(Failed: UnableToProcess)", _STATUS),
    "no query of the model:  -S PATIENT": ("(Failed: UnableToProcess)", _STATUS),
    "no query of the model: Modality=MR -S SERIES": ("(Failed: UnableToProcess)", _STATUS),
    "no query of the model: StudyID=S1 -P STUDY": ("(Success), finds 1", _ABOVE),
    "no key: StudyDate=2024-01-05 -S STUDY": ("(Success)", _NO_MATCH),
    "no key: StudyDate=2024* -S STUDY": ("(Success)", _NO_MATCH),
    "no key: StudyTime=99 -S STUDY": ("(Success)", _NO_MATCH),
}

_NO_WILD_CARDS = (
    "Every key of text takes wild cards here, some do there: Table K.6-1 asks for them in names"
    " alone, PS3.4 C.2.2.2.4 allows them"
)
_NO_KEY_THERE = "It does not match this key, and ignores it (PS3.4 C.2.2.1.3)"

WORKLIST_DIFFERENCES: Mapping[str, tuple[str, str]] = {
    "PatientID=P?": ("", _NO_WILD_CARDS),
    "PatientID=*3": ("", _NO_WILD_CARDS),
    "PatientName=doe*": ("", _CASE),
    "StudyInstanceUID=1.2.3": ("1 2 3 4 5", _NO_KEY_THERE),
    f"{STEP}Modality=M*": ("", _NO_WILD_CARDS),
    f"{STEP}ScheduledStationAETitle=CT?": ("", _NO_WILD_CARDS),
    f"{STEP}ScheduledProcedureStepID=S5": ("1 2 3 4 5", _NO_KEY_THERE),
    f"{STEP}ScheduledPerformingPhysicianName=strange*": ("", _CASE),
}
"""Query of the worklist to what wlmscpfs finds of items 1 to 5, and why that is another answer."""
