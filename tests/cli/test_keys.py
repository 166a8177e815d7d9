"""Keys as they are typed, and the query that they make; without a peer."""

from pathlib import Path
from typing import Any

import click
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dimse.cli.keys import KeyInvalid, Keys
from dimse.cli.query import RETURN_KEYS, Query, make_query
from dimse.cli.values import ALLOWED
from dimse.services.dataset import decode, encode
from dimse.sop_classes import (
    MODALITY_WORKLIST,
    PATIENT_ROOT,
    PATIENT_STUDY_ONLY,
    STUDY_ROOT,
    InformationModel,
)
from tests.wire import EXPLICIT

SECRET = "Secret"
STEP = "ScheduledProcedureStepSequence"


def keys(*texts: str) -> Keys:
    made = Keys()
    for text in texts:
        made.add(text)
    return made


def complaint(*texts: str) -> str:
    with pytest.raises(KeyInvalid) as caught:
        keys(*texts)
    return str(caught.value)


class TestNames:
    @pytest.mark.parametrize(
        "name", ["PatientID", "0010,0020", "(0010,0020)", "00100020", "(00100020)"]
    )
    def test_keyword_and_tag_are_one(self, name: str):
        made = keys(f"{name}=A=B")
        assert made.dataset.PatientID == "A=B"
        assert [str(path) for path in made.paths] == ["PatientID"]

    def test_hexadecimal_digits_of_either_case(self):
        assert keys("0020,000d=1.2").dataset.StudyInstanceUID == "1.2"

    def test_path_into_a_sequence(self):
        made = keys(f"{STEP}[0].Modality=CT", "(0040,0100)[0].0040,0001=ROOM1")
        (item,) = made.dataset.ScheduledProcedureStepSequence
        assert (item.Modality, item.ScheduledStationAETitle) == ("CT", "ROOM1")
        assert [str(path) for path in made.paths] == [
            f"{STEP}[0].Modality",
            f"{STEP}[0].ScheduledStationAETitle",
        ]

    def test_path_through_two_sequences(self):
        made = keys(f"{STEP}[0].ScheduledProtocolCodeSequence[0].CodeValue=X")
        (item,) = made.dataset.ScheduledProcedureStepSequence
        assert item.ScheduledProtocolCodeSequence[0].CodeValue == "X"

    def test_sequence_and_item_without_a_key_in_them(self):
        assert len(keys(STEP).dataset.ScheduledProcedureStepSequence) == 0
        assert len(keys(f"{STEP}[0]").dataset.ScheduledProcedureStepSequence) == 1

    def test_the_last_of_a_key_counts(self):
        made = keys("PatientID=1", "0010,0020=2")
        assert made.dataset.PatientID == "2"
        assert len(made.paths) == 1

    def test_sequence_replaces_its_items_and_an_item_the_sequence(self):
        whole = keys(f"{STEP}[0].Modality=CT", STEP)
        assert [str(path) for path in whole.paths] == [STEP]
        parts = keys(STEP, f"{STEP}[0].Modality=CT")
        assert [str(path) for path in parts.paths] == [f"{STEP}[0].Modality"]

    def test_private_attributes(self):
        made = keys("0009,0010=ACME", "0009,1001")
        assert made.dataset[0x00090010].value == "ACME"
        assert made.dataset[0x00091001].VR == "UN"

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("PatientNam=x", "PatientNam is no keyword of PS3.6; did you mean PatientName"),
            ("Qqqq", "Qqqq is no keyword of PS3.6"),
            ("", "KEYWORD, GGGG,EEEE or Sequence[0].KEYWORD"),
            ("0010", "KEYWORD, GGGG,EEEE"),
            ("0010,002", "KEYWORD, GGGG,EEEE"),
            ("Patient Name", "KEYWORD, GGGG,EEEE"),
            ("0010,00F3=1", "0010,00F3 is no tag of PS3.6"),
            ("0000,0100=1", "is no attribute of an identifier"),
            ("TransferSyntaxUID=1.2", "is no attribute of an identifier"),
            ("0010,0000=4", "is no attribute of an identifier"),
            ("PatientID[0]=1", "PatientID[0]: it is no sequence"),
            ("PatientID.Modality=CT", "PatientID: it is no sequence, so nothing is in it"),
            (f"{STEP}.Modality=CT", f"write {STEP}[0] to go into its first item"),
            (f"{STEP}=CT", f"{STEP}[0].KEYWORD=VALUE is a key in it"),
            (f"{STEP}[0]=CT", "an item has no value of its own"),
            (f"{STEP}[1].Modality", f"{STEP}[1] comes before {STEP}[0]"),
            ("PixelData=1", "VR OB takes no value as a key"),
            ("0009,1001=1", "VR UN takes no value as a key"),
        ],
    )
    def test_what_is_no_key(self, text: str, says: str):
        assert says in complaint(text)


class TestValues:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("StudyDate=20240229", "20240229"),
            ("StudyDate=20240101-20241231", "20240101-20241231"),
            ("StudyDate=20240101-", "20240101-"),
            ("StudyDate=-20240101", "-20240101"),
            ("StudyTime=10-1130", "10-1130"),
            ("AcquisitionDateTime=2024-202406", "2024-202406"),
            ("PatientName=Sm?th*^J", "Sm?th*^J"),
            ("PatientName=山*", "山*"),
            ("Modality=C*", "C*"),
            ("ModalitiesInStudy=CT\\MR", ["CT", "MR"]),
            ("StudyInstanceUID=1.2\\1.3", ["1.2", "1.3"]),
            ('AccessionNumber=""', '""'),  # PS3.4 C.2.2.2.7
            ("PatientComments=a\\b\tc", "a\\b\tc"),
            ("PatientAge=045Y", "045Y"),
            ("SeriesNumber=-7", -7),
            ("PatientWeight=71.5", 71.5),
            ("Rows=512", 512),
            ("FrameAcquisitionDuration=1.5", 1.5),
            ("FrameIncrementPointer=0018,1063", 0x00181063),
            ("StudyDate=", None),
            ("PatientID", ""),
        ],
    )
    def test_value_goes_out_as_typed(self, text: str, value: Any):
        """And comes back, from the bytes on the wire."""
        identifier = keys(text).identifier()
        received = decode(encode(identifier, EXPLICIT), EXPLICIT)
        (element,) = (each for each in received if each.keyword != "SpecificCharacterSet")
        assert (element.value or "") == (value or "")

    @pytest.mark.parametrize(
        ("keyword", "value", "vr"),
        [
            ("StudyDate", "29.2.2024", "DA"),
            ("StudyDate", "2024*", "DA"),
            ("StudyDate", "20241301", "DA"),
            ("StudyTime", "2500", "TM"),
            ("AcquisitionDateTime", "yesterday", "DT"),
            ("Modality", "ct", "CS"),
            ("Modality", "C" * 17, "CS"),
            ("StudyInstanceUID", "1.2.*", "UI"),
            ("StudyInstanceUID", "1.02", "UI"),
            ("StudyInstanceUID", "1" * 65, "UI"),
            ("PatientID", "1" * 65, "LO"),
            ("PatientID", "a\x1b[2J", "LO"),
            ("PatientComments", "a\x1bb", "LT"),
            ("PatientName", "a" * 65, "PN"),
            ("PatientAge", "45", "AS"),
            ("SeriesNumber", "one", "IS"),
            ("SeriesNumber", "2147483648", "IS"),
            ("PatientWeight", "heavy", "DS"),
            ("Rows", "65536", "US"),
            ("Rows", "-1", "US"),
            ("Rows", "ten", "US"),
            ("FrameAcquisitionDuration", "soon", "FD"),
            ("FrameIncrementPointer", "here", "AT"),
            ("StationAETitle", "SEVENTEEN LETTERS", "AE"),
        ],
    )
    def test_wrong_value_is_named_by_its_key_and_what_is_allowed(
        self, keyword: str, value: str, vr: str
    ):
        """And not repeated, for it may be of a patient."""
        said = complaint(f"{keyword}={value}")
        assert said == f"{keyword}: VR {vr} allows {ALLOWED[vr]} (PS3.5 6.2)"

    def test_what_is_not_ascii_goes_in_utf_8(self):
        identifier = keys("PatientName=Müller").identifier()
        assert identifier.SpecificCharacterSet == "ISO_IR 192"
        assert "Müller".encode() in encode(identifier, EXPLICIT)

    def test_character_set_that_is_given_is_used(self):
        identifier = keys("SpecificCharacterSet=ISO_IR 100", "PatientName=Müller").identifier()
        assert "Müller".encode("latin-1") in encode(identifier, EXPLICIT)

    def test_character_set_that_cannot_hold_a_value(self):
        made = keys("SpecificCharacterSet=ISO_IR 100", "PatientName=山")
        with pytest.raises(KeyInvalid, match="SpecificCharacterSet"):
            made.identifier()

    def test_ascii_needs_no_character_set(self):
        assert "SpecificCharacterSet" not in keys("PatientName=Mueller").identifier()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A DICOM file with pixels, and a sequence."""
    instance, item = Dataset(), Dataset()
    instance.SOPClassUID, instance.SOPInstanceUID = CTImageStorage, "1.2.3"
    instance.PatientName, instance.PatientID = SECRET, "1"
    item.Modality = "CT"
    instance.ScheduledProcedureStepSequence = [item]
    instance.PixelData = bytes(4)
    instance["PixelData"].VR = "OW"
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = tmp_path / "image.dcm"
    instance.save_as(path, enforce_file_format=True)
    return path


class TestFiles:
    def test_dicom_file(self, image: Path):
        """All of it but the pixels, in the order of the tags."""
        made = Keys()
        made.add_file(image)
        assert made.dataset.PatientName == SECRET
        assert [str(path) for path in made.paths] == [
            "SOPClassUID",
            "SOPInstanceUID",
            "PatientName",
            "PatientID",
            f"{STEP}[0].Modality",
        ]

    @pytest.mark.parametrize("around", ["{}", "[{}]", "\n [\n{}\n] "])
    def test_dicom_json(self, tmp_path: Path, around: str):
        """An object, or the only one in an array, as DICOMweb has it."""
        file = tmp_path / "keys.json"
        file.write_text(
            around.replace(
                "{}", '{"00100020": {"vr": "LO", "Value": ["7"]}, "0020000D": {"vr": "UI"}}'
            )
        )
        made = Keys()
        made.add_file(file)
        assert made.dataset.PatientID == "7"
        assert [str(path) for path in made.paths] == ["PatientID", "StudyInstanceUID"]
        assert made.returns

    def test_key_wins_over_files_and_a_later_file_over_an_earlier(
        self, image: Path, tmp_path: Path
    ):
        other = tmp_path / "other.json"
        other.write_text('{"00100020": {"vr": "LO", "Value": ["2"]}}')
        made = Keys()
        made.add_file(image)
        made.add_file(other)
        assert made.dataset.PatientID == "2"
        made.add("PatientID=3")
        made.add(f"{STEP}[0].Modality=MR")
        assert made.dataset.PatientID == "3"
        assert made.dataset.ScheduledProcedureStepSequence[0].Modality == "MR"

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "neither a DICOM file nor DICOM JSON"),
            (b"Secret^Name", "neither a DICOM file nor DICOM JSON"),
            (b'{"00100020": {"vr": "LO", "Value": "Secret"', "cannot be read as keys"),
            (b'{"Secret": 1}', "cannot be read as keys"),
            (b'[{"00100020": {"vr": "LO"}}, {"00100020": {"vr": "LO"}}]', "cannot be read"),
        ],
    )
    def test_what_is_no_file_of_keys(self, tmp_path: Path, content: bytes, says: str):
        file = tmp_path / "keys"
        file.write_bytes(content)
        with pytest.raises(KeyInvalid, match=says) as caught:
            Keys().add_file(file)
        assert SECRET not in str(caught.value)


def query(model: InformationModel, *texts: str, level: str | None = None) -> Query:
    return make_query(
        model, level, [], [("-k", text) for text in texts], ask=lambda keys: not keys.returns
    )


class TestQuery:
    @pytest.mark.parametrize(
        ("model", "level", "becomes"),
        [
            (STUDY_ROOT, None, "STUDY"),
            (PATIENT_ROOT, None, "PATIENT"),
            (PATIENT_STUDY_ONLY, None, "STUDY"),
            (STUDY_ROOT, "IMAGE", "IMAGE"),
            (PATIENT_ROOT, "SERIES", "SERIES"),
        ],
    )
    def test_level(self, model: InformationModel, level: str | None, becomes: str):
        made = query(model, "PatientID", level=level)
        assert made.identifier.QueryRetrieveLevel == made.level == becomes

    def test_level_by_key(self):
        made = query(STUDY_ROOT, "QueryRetrieveLevel=SERIES")
        assert made.level == "SERIES"
        assert "QueryRetrieveLevel" not in map(str, made.columns)

    @pytest.mark.parametrize(
        ("model", "key", "level", "says"),
        [
            (STUDY_ROOT, "PatientID", "PATIENT", "STUDY, SERIES, IMAGE"),
            (PATIENT_STUDY_ONLY, "PatientID", "IMAGE", "PATIENT, STUDY"),
            (STUDY_ROOT, "QueryRetrieveLevel=SERIES", "IMAGE", "SERIES"),
            (STUDY_ROOT, "QueryRetrieveLevel=ALL", None, "STUDY, SERIES, IMAGE"),
            (MODALITY_WORKLIST, "PatientID", "STUDY", "worklist has no"),
            (MODALITY_WORKLIST, "QueryRetrieveLevel=STUDY", None, "worklist has no"),
        ],
    )
    def test_wrong_level(self, model: InformationModel, key: str, level: str | None, says: str):
        with pytest.raises(click.BadParameter, match=says) as caught:
            query(model, key, level=level)
        assert caught.value.param_hint == "-L"

    @pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
    def test_asks_for_the_usual_when_nothing_is_asked_for(self, level: str):
        """In that order, and what is to be matched goes along."""
        made = query(PATIENT_ROOT, "PatientID=1", level=level)
        asked = [str(path) for path in made.columns]
        assert asked == [*dict.fromkeys((*RETURN_KEYS[level], "PatientID"))]
        assert made.identifier.PatientID == "1"

    def test_the_usual_of_a_study_has_the_patient_in_the_study_root(self):
        made = query(STUDY_ROOT)
        assert [str(path) for path in made.columns[:2]] == ["PatientName", "PatientID"]
        assert "PatientName" in made.identifier

    def test_character_set_and_level_ask_for_nothing(self):
        made = query(STUDY_ROOT, "SpecificCharacterSet", "PatientID=1")
        assert "StudyInstanceUID" in made.identifier

    def test_asks_for_nothing_else_when_something_is_asked_for(self):
        made = query(STUDY_ROOT, "PatientID=1", "StudyDate")
        assert [str(path) for path in made.columns] == ["PatientID", "StudyDate"]
        assert len(made.identifier) == 3

    def test_the_usual_of_a_worklist_is_in_one_item(self):
        made = query(MODALITY_WORKLIST, f"{STEP}[0].Modality=CT")
        (item,) = made.identifier.ScheduledProcedureStepSequence
        assert item.Modality == "CT"
        assert item.ScheduledStationAETitle is None
        assert "QueryRetrieveLevel" not in made.identifier
