"""Answers as pydicom reads them (PS3.5 7.1, PS3.4 C.4.1.1.3.2)."""

import pytest

from dimse.archive.answers import AnswerEncoding
from dimse.archive.attributes import Attributes
from dimse.services.dataset import decode
from tests.wire import EXPLICIT, IMPLICIT

NAME, STUDY_UID, MODALITIES, ROWS, CODES, COMMENTS, CHARACTER_SET = (
    0x00100010,
    0x0020000D,
    0x00080061,
    0x00280010,
    0x00081032,
    0x00104000,
    0x00080005,
)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_every_kind_of_value(syntax: str):
    """In the order of the tags, padded, empty values empty; pydicom reads what went in."""
    items: Attributes = {0x00080100: "A1", 0x00080104: "Meaning"}
    answer: Attributes = {
        STUDY_UID: "1.2.3",
        NAME: "Doe^Jane",
        MODALITIES: "CT\\PT",
        ROWS: "512",
        COMMENTS: "",
        CODES: [items, {}],
    }
    data = AnswerEncoding(syntax).encode(answer)
    assert len(data) % 2 == 0
    found = decode(data, syntax)
    assert [int(element.tag) for element in found] == sorted(answer)
    assert found.StudyInstanceUID == "1.2.3"
    assert found.PatientName == "Doe^Jane"
    assert found.ModalitiesInStudy == ["CT", "PT"]
    assert found.Rows == 512
    assert found.PatientComments is None or found.PatientComments == ""
    assert found.ProcedureCodeSequence[0].CodeMeaning == "Meaning"
    assert len(found.ProcedureCodeSequence) == 2


@pytest.mark.parametrize(
    ("asked", "name", "told"),
    [
        ([], "Doe^Jane", None),
        (["ISO_IR 100"], "Doe^Jane", None),
        (["ISO_IR 100"], "Müller^Jörg", "ISO_IR 100"),
        (["ISO_IR 100"], "Διονυσιος", "ISO_IR 192"),
        ([], "Müller^Jörg", "ISO_IR 192"),
        (["ISO_IR 126"], "Διονυσιος", "ISO_IR 126"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎", ["", "ISO 2022 IR 87"]),
        (["ISO_IR 192"], "Müller^Jörg", "ISO_IR 192"),
        (["ISO_IR 6"], "Müller^Jörg", "ISO_IR 192"),
        ([""], "Müller^Jörg", "ISO_IR 192"),
        (["nonsense"], "Müller^Jörg", "ISO_IR 192"),
    ],
)
def test_in_the_character_set_of_the_request_if_it_can_say_it(
    asked: list[str], name: str, told: object
):
    found = decode(AnswerEncoding(EXPLICIT, asked).encode({NAME: name}), EXPLICIT)
    assert found.get("SpecificCharacterSet") == told
    assert str(found.PatientName) == name


def test_the_character_set_holds_for_items_too():
    found = decode(AnswerEncoding(IMPLICIT).encode({CODES: [{0x00080104: "Schädel"}]}), IMPLICIT)
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert found.ProcedureCodeSequence[0].CodeMeaning == "Schädel"


def test_a_number_that_is_none_is_empty():
    found = decode(AnswerEncoding(EXPLICIT).encode({ROWS: "many"}), EXPLICIT)
    assert found.Rows is None
