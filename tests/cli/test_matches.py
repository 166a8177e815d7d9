"""How matches are shown; without a peer."""

import io
import sys

import pytest
from pydicom import Dataset

from dimse.cli.keys import KeyPath
from dimse.cli.matches import Csv, Lines
from dimse.services.dataset import decode
from tests.archive.data_sets import element
from tests.wire import EXPLICIT

STEP = "ScheduledProcedureStepSequence"


def shown(match: Dataset, *names: str) -> str:
    """What a line of it looks like."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", output)
        Lines(tuple(map(KeyPath.of, names))).add(match, 1)
        output.flush()
    assert isinstance(output.buffer, io.BytesIO)
    return output.buffer.getvalue().decode("ascii")


@pytest.fixture
def match() -> Dataset:
    match = Dataset()
    match.SpecificCharacterSet = "ISO_IR 192"
    match.PatientName = "Müller"
    match.ScheduledProcedureStepSequence = [Dataset(), Dataset()]
    match.ReferencedStudySequence = []
    match.EncryptedContent = b"key\0"
    match.PatientID = None
    return match


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PatientName", "M\\xfcller"),  # for this output is ASCII
        (STEP, "2 items"),
        ("ReferencedStudySequence", "0 items"),
        ("ReferencedStudySequence[0].ReferencedSOPInstanceUID", ""),
        (f"{STEP}[0].Modality", ""),
        ("EncryptedContent", "key"),
        ("PatientID", ""),
        ("StudyDate", ""),
    ],
)
def test_each_kind_of_value(match: Dataset, name: str, text: str) -> None:
    assert shown(match, name) == f"{text}\n"


SEQUENCE = 0x00400100
PATIENT = 0x00100010


@pytest.mark.parametrize(
    ("data", "name", "text"),
    [
        (element(SEQUENCE, "LO", b"AB"), f"{STEP}[0].Modality", ""),
        (element(SEQUENCE, "US", b"\1\0"), f"{STEP}[0].Modality", ""),
        (element(PATIENT, "US", b"\1\0\2"), "PatientName", "\\x01\\x00\\x02"),
    ],
)
def test_k11_values_of_another_vr(data: bytes, name: str, text: str) -> None:
    """What pydicom cannot convert is shown as it came, and what is no sequence has no items."""
    assert shown(decode(data, EXPLICIT), name) == f"{text}\n"


def test_line_breaks_do_not_make_lines(match: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """In CSV neither, where they could."""
    match.PatientComments = "a\r\nb"
    output = Csv((KeyPath.of("PatientComments"),))
    output.add(match, 1)
    assert capsys.readouterr().out == "PatientComments\na\\r\\nb\n"
