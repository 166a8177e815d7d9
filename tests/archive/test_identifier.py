"""What each VR is matched by, and what is no key (PS3.4 C.2.2.2; hostile cases D21, K11, K12)."""

import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydicom import Dataset
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VM, keyword_for_tag
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from dimse.archive.attributes import Value
from dimse.archive.identifier import DEEPEST, LONGEST, MOST_UIDS, MOST_VALUES, Rules, keys_of
from dimse.archive.matching import (
    AnyValue,
    EmptyValue,
    Key,
    MultipleValues,
    PersonName,
    Range,
    SequenceKey,
    SingleValue,
    UIDList,
    Universal,
    WildCard,
)
from dimse.archive.query import texts_of
from dimse.errors import StatusError
from dimse.services.dataset import encode
from tests.archive.queries import element, item, read, received, refusal
from tests.tables import Row, rows

BY_VR = rows("matching_by_vr")
TEXTS = ("SmithA", "SmithB", "Jones")
VALUES: dict[str, tuple[str, str, str]] = {
    "AS": ("010Y", "011Y", "012Y"),
    "AT": ("00100010", "00100020", "00100030"),
    "DA": ("20240705", "20240706", "20240801"),
    "DS": ("1.50", "2.5", "-3"),
    "DT": ("20240705103000", "20240706", "20250101"),
    "FD": ("1.5", "2.25", "-3.0"),
    "FL": ("1.5", "2.25", "-3.0"),
    "IS": ("1", "2", "3"),
    "TM": ("1030", "1130", "1230"),
    "UI": ("1.2.3", "1.2.4", "1.3"),
}
"""Values of a VR: two that are near, and another."""
PACKED = {
    "FD": "<d", "FL": "<f", "SL": "<i", "SS": "<h", "SV": "<q", "UL": "<I", "US": "<H", "UV": "<Q",
}  # fmt: skip
BULK = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}


def tag_of(vr: str) -> int:
    """An attribute of this VR, with several values where there is one."""
    tags = [
        (entry[1] == "1", tag)
        for tag, entry in DicomDictionary.items()
        if entry[0] == vr and tag >> 16 > 0x0008 and tag != 0xFFFCFFFC
    ]
    # PS3.6 has no attribute of the VR UN, and one whose VR is open is as good.
    return min(tags)[1] if tags else 0x00287FE0


def values_of(vr: str) -> tuple[str, str, str]:
    if vr in BULK:
        return ("0102030405060708", "0102030405060709", "FF02030405060708")
    if vr in PACKED and vr not in VALUES:
        return ("1", "2", "3")
    return VALUES.get(vr, TEXTS)


def encoded(vr: str, text: str) -> bytes:
    if vr in BULK:
        return bytes.fromhex(text)
    if vr == "AT":
        return b"".join(
            struct.pack("<HH", int(each[:4], 16), int(each[4:], 16)) for each in text.split("\\")
        )
    if vr in PACKED:
        kind = float if vr in {"FD", "FL"} else int
        return b"".join(struct.pack(PACKED[vr], kind(each)) for each in text.split("\\"))
    return text.encode()


def key_of(vr: str, value: bytes, **rules: Any) -> Key:
    """The key of an attribute with this VR; raises StatusError when it is none."""
    tag = tag_of(vr)
    return keys_of(received(element(tag, vr, value)), Rules(**rules))[tag]


def answers(column: str) -> list[tuple[str, str]]:
    return [(row["vr"], row[column]) for row in BY_VR]


def no_key_or_not(vr: str, value: bytes, unwanted: Callable[[Key], bool], **rules: Any) -> None:
    """It is refused, or means something else."""
    try:
        key = key_of(vr, value, **rules)
    except StatusError as error:
        assert error.status == 0xA900  # noqa: PT017
    else:
        assert not unwanted(key)


@pytest.mark.parametrize(("vr", "answer"), answers("single_value"))
def test_single_value(vr: str, answer: str) -> None:
    if answer == "no":
        assert vr == "SQ"
        return
    one, other, third = values_of(vr)
    key = key_of(vr, encoded(vr, one))
    assert isinstance(key, SingleValue | PersonName)
    assert key.matches(one)
    others: list[Value | None] = [other, third, "", None, [{}]]
    assert not any(key.matches(each) for each in others)


@pytest.mark.parametrize(("vr", "answer"), answers("list_of_uid"))
def test_list_of_uid(vr: str, answer: str) -> None:
    if vr == "SQ":
        assert answer == "no"
        return
    one, other, third = values_of(vr)
    key = key_of(vr, encoded(vr, one if vr in BULK else f"{one}\\{other}"))
    assert isinstance(key, UIDList) is (answer == "yes")
    if answer == "yes":
        assert [key.matches(each) for each in (one, other, third)] == [True, True, False]


@pytest.mark.parametrize(("vr", "answer"), answers("universal"))
def test_universal(vr: str, answer: str) -> None:
    assert answer == "yes"
    assert key_of(vr, b"") == Universal()


@pytest.mark.parametrize(("vr", "answer"), answers("wild_card"))
def test_wild_card(vr: str, answer: str) -> None:
    one, other, third = values_of(vr)
    if answer == "yes":
        key = key_of(vr, b"Smit*")
        assert isinstance(key, WildCard | PersonName)
        assert [key.matches(each) for each in (one, other, third)] == [True, True, False]
        assert key_of(vr, b"Smith?").matches(one)
        assert not key_of(vr, b"Smith?").matches("Smith")
    elif vr not in PACKED and vr not in BULK and vr not in {"AT", "SQ"}:
        wild = f"{one[:-1] or one}*".encode()
        no_key_or_not(vr, wild, lambda key: key.matches(one))


@pytest.mark.parametrize(("vr", "answer"), answers("range"))
def test_range(vr: str, answer: str) -> None:
    one, other, third = values_of(vr)
    if answer == "yes":
        key = key_of(vr, f"{one}-{other}".encode())
        assert isinstance(key, Range)
        assert [key.matches(each) for each in (one, other, third)] == [True, True, False]
    elif vr not in PACKED and vr not in BULK and vr not in {"AT", "SQ"}:
        no_key_or_not(vr, f"{one}-{other}".encode(), lambda key: key.matches(one))


@pytest.mark.parametrize(("vr", "answer"), answers("sequence"))
def test_sequence(vr: str, answer: str) -> None:
    inside = item(element(0x00100020, "LO", b"A"))
    if answer == "yes":
        assert key_of(vr, inside) == SequenceKey({0x00100020: SingleValue("A", "LO")})
    else:
        no_key_or_not(vr, inside, lambda key: isinstance(key, SequenceKey))


@pytest.mark.parametrize(("vr", "answer"), answers("empty_value_if_negotiated"))
def test_empty_value(vr: str, answer: str) -> None:
    if answer == "yes":
        assert key_of(vr, b'""', empty_value=True) == EmptyValue()
    else:
        no_key_or_not(vr, b'""', lambda key: isinstance(key, EmptyValue), empty_value=True)
    no_key_or_not(vr, b'""', lambda key: isinstance(key, EmptyValue))


@pytest.mark.parametrize(("vr", "answer"), answers("multiple_value_if_negotiated"))
def test_multiple_value(vr: str, answer: str) -> None:
    if vr == "SQ":
        assert answer == "no"
        return
    one, other, third = values_of(vr)
    both = encoded(vr, one if vr in BULK else f"{one}\\{other}")
    several = vr != "UN" and dictionary_VM(tag_of(vr)) != "1"
    key = key_of(vr, both, multiple_value=True)
    assert isinstance(key, MultipleValues) is (answer == "yes (VM > 1)" and several)
    if isinstance(key, MultipleValues):
        assert key.matches(f"{other}\\{third}\\{one}")
        assert not key.matches(f"{one}\\{third}")
        assert isinstance(key_of(vr, both), AnyValue)


@pytest.mark.parametrize(("vr", "answer"), answers("case_sensitive"))
def test_case_sensitive(vr: str, answer: str) -> None:
    one = values_of(vr)[0]
    meant = {
        "DA": "2024.07.05",
        "DT": "202407051030",
        "TM": "103000.000",
        "DS": "15E-1",
        "IS": "+01",
    }
    if answer == "exact":
        assert vr not in meant
        if one.swapcase() != one and vr not in BULK:
            assert not key_of(vr, one.encode()).matches(one.swapcase())
    elif answer == "implementation choice":
        assert key_of(vr, one.encode()).matches(one.swapcase())
    elif answer:
        assert answer in {"by meaning", "implementation dependent number comparison"}
        assert key_of(vr, one.encode()).matches(meant[vr])


@pytest.mark.parametrize("row", BY_VR, ids=lambda row: str(row["vr"]))
def test_all_columns_have_a_test(row: Row) -> None:
    columns = {name.removesuffix("_if_negotiated") for name in row} - {"vr", "clause"}
    assert all(callable(globals()[f"test_{column}"]) for column in columns)


@pytest.mark.parametrize("expected", [row["vr"] for row in BY_VR if row["vr"] != "UN"])
def test_wrong_vr(expected: str) -> None:
    """Text is taken for text and a number for a number, all else is refused (hostile case K11)."""
    numbers, others = set(PACKED), {*PACKED, *BULK, "AT", "SQ"}
    tag = tag_of(expected)
    for given in [row["vr"] for row in BY_VR]:
        both = {expected, given}
        alike = expected == given or both <= numbers or both <= BULK or not both & others
        if alike or given == "UN":
            assert keys_of(received(element(tag, given, b""))) == {tag: Universal()}
        else:
            assert "PS3.6" in str(refusal(tag, given, b""))


OPEN = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
CLOSED = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
REFUSED = {
    "date 99999999-": (0x00080020, "DA", b"99999999-"),
    "no such day": (0x00080020, "DA", b"20230229"),
    "three ends": (0x00080020, "DA", b"20240101-20240102-20240103"),
    "no end": (0x00080020, "DA", b"-"),
    "a time is no date": (0x00080020, "DA", b"1030"),
    "no such time": (0x00080030, "TM", b"2460"),
    "garbage to a time": (0x00080030, "TM", b"x-1030"),
    "no moment": (0x0008002A, "DT", b"20241301"),
    "two hyphens": (0x0008002A, "DT", b"2024--2025"),
    "before all years": (0x0008002A, "DT", b"00010101+1400"),
    "after all years": (0x0008002A, "DT", b"-99991231235959-1200"),
    "a word for a number": (0x00200013, "IS", b"one"),
    "a number beyond all": (0x00101030, "DS", b"1e99999999999999999999"),
    "half a number": (0x00081161, "UL", b"\1\2"),
    "a long text": (0x00104000, "LT", b"A" * (LONGEST + 2)),
    "a long pattern": (0x00104000, "UT", b"A?" * 600),
    "a long name": (0x00100010, "PN", b"A" * 2000),
    "a long UID": (0x0020000D, "UI", b"1." + b"2" * 64),
    "many values": (0x00080061, "CS", b"\\".join([b"CT"] * (MOST_VALUES + 1))),
    "a hundred thousand items": (0x00400100, "SQ", item(b"") * 100_000),
    "two items without length": (0x00400100, "SQ", OPEN + CLOSED + OPEN + CLOSED),
    "several items": (0x00400100, "SQ", item(b"") * 2),
    "no item": (0x00400100, "SQ", b"garbage!"),
    "half an item": (0x00400100, "SQ", item(b"")[:6]),
    "half of an item": (0x00400100, "SQ", item(element(0x00100020, "LO", b"AB"))[:-2]),
    "an item in the other byte order": (0x00400100, "SQ", b"\xff\xfe\xe0\0\0\0\0\0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_key_is_refused(name: str) -> None:
    """A900H, with the attribute and without its value (hostile case D21)."""
    tag, vr, value = REFUSED[name]
    if len(value) > 0xFFFF and vr == "LT":
        head = struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value))
        sent = read(head + value, ImplicitVRLittleEndian)
        with pytest.raises(StatusError, match="too long") as refused:
            keys_of(sent)
        assert refused.value.offending == (tag,)
        return
    error = refusal(tag, vr, value)
    assert keyword_for_tag(tag) in error.comment
    assert len(value) < 3 or value.decode("latin-1")[:4] not in error.comment
    assert len(error.comment) <= 64, "an Error Comment is an LO (PS3.7 C.4.2)"


def test_ten_thousand_uids_and_one_more() -> None:
    """Hostile case D21; so many in one list are found as fast as one."""
    uids = [f"1.2.{number}" for number in range(MOST_UIDS)]
    dataset = Dataset()
    dataset.StudyInstanceUID = uids
    implicit = read(encode(dataset, ImplicitVRLittleEndian), ImplicitVRLittleEndian)
    assert keys_of(implicit) == {0x0020000D: UIDList(frozenset(uids))}
    dataset.StudyInstanceUID = [*uids, "1"]
    implicit = read(encode(dataset, ImplicitVRLittleEndian), ImplicitVRLittleEndian)
    with pytest.raises(StatusError, match="too many UIDs"):
        keys_of(implicit)


@pytest.mark.parametrize("vr", ["LO", "PN", "UT"])
@pytest.mark.parametrize("storm", ["*" * 65_000, "*A" * 128, "?" * 256, "*?" * 128, "A*" * 127])
def test_wild_card_storm(vr: str, storm: str) -> None:
    """Hostile case D21: a pattern takes time in proportion to the text, however many * it has."""
    tag = tag_of(vr)
    sent = read(
        struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(storm)) + storm.encode(),
        ImplicitVRLittleEndian,
    )
    start = time.process_time()
    for fuzzy in (False, True):
        key = keys_of(sent, Rules(fuzzy=fuzzy))[tag]
        key.matches("A" * 1000 + "B")
        key.matches("AB" * 1000)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("depth", [1, DEEPEST - 1, DEEPEST, DEEPEST + 1])
def test_depth(depth: int) -> None:
    """Sequences in sequences, up to 64 (hostile case K12)."""
    data = element(0x00100020, "LO", b"A")
    for _ in range(depth):
        inside = item(data)
        data = struct.pack("<HH2sHI", 0x0040, 0x0100, b"SQ", 0, len(inside)) + inside
    if depth > DEEPEST:
        with pytest.raises(StatusError, match="too deep") as refused:
            keys_of(received(data))
        assert refused.value.offending == (0x00400100,)
        return
    key = keys_of(received(data))[0x00400100]
    for _ in range(depth):
        assert isinstance(key, SequenceKey)
        key = next(iter(key.keys.values()))
    assert key == SingleValue("A", "LO")


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, ImplicitVRLittleEndian])
def test_other_encodings(syntax: str) -> None:
    """Numbers and tags have the byte order of their transfer syntax."""
    dataset = Dataset()
    dataset.Rows = 512
    dataset.FrameIncrementPointer = 0x00181063
    dataset.PixelPaddingValue = 5
    dataset["PixelPaddingValue"].VR = "US"
    dataset.PatientName = "A^B"
    keys = keys_of(read(encode(dataset, syntax), syntax))
    assert keys[0x00280010].matches("512")
    assert keys[0x00280009].matches("00181063")
    assert keys[0x00280120].matches("5")
    assert keys[0x00100010].matches("a^b")


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, ImplicitVRLittleEndian])
def test_items_in_other_encodings(syntax: str) -> None:
    """Also one of undefined length, which pydicom has read already, and one in an UN."""
    inside = Dataset()
    inside.Modality = "CT"
    dataset = Dataset()
    dataset.ScheduledProcedureStepSequence = [inside]
    expected = {0x00400100: SequenceKey({0x00080060: SingleValue("CT", "CS")})}
    assert keys_of(read(encode(dataset, syntax), syntax)) == expected
    dataset["ScheduledProcedureStepSequence"].is_undefined_length = True
    assert keys_of(read(encode(dataset, syntax), syntax)) == expected
    unknown = item(encode(inside, ImplicitVRLittleEndian))
    assert keys_of(received(element(0x00400100, "UN", unknown))) == expected
    dataset.ScheduledProcedureStepSequence = [inside, inside]
    dataset["ScheduledProcedureStepSequence"].is_undefined_length = True
    with pytest.raises(StatusError, match="several items"):
        keys_of(read(encode(dataset, syntax), syntax))


def test_padding_is_no_part_of_a_key() -> None:
    """Blanks around most texts, those at the end of long ones, a zero byte after a UID."""
    for vr, value, text in (
        ("LO", b" A B ", "A B"),
        ("CS", b"CT \\ MR ", "MR"),
        ("UC", b" A \\ B ", " A"),
        ("LT", b" A ", " A"),
        ("UI", b"1.2.3\0", "1.2.3"),
        ("DA", b"20240705 - 20240706", "20240705"),
    ):
        assert key_of(vr, value).matches(text), vr


def test_a_dataset_that_was_made_here() -> None:
    """Values that pydicom has decoded, or never had encoded."""
    dataset = Dataset()
    dataset.PatientName = "A^B"
    dataset.PatientWeight = "70.50"
    dataset.ModalitiesInStudy = ["CT", "MR"]
    dataset.Rows = 5
    dataset.FrameIncrementPointer = 0x00181063
    dataset.PixelData = b"\1\2"
    dataset.StudyDate = None
    dataset.ReferencedStudySequence = []
    keys = keys_of(dataset)
    assert keys[0x00101030] == SingleValue("70.5", "DS")
    assert isinstance(keys[0x00080061], AnyValue)
    assert keys[0x00280009].matches("00181063")
    assert keys[0x7FE00010] == SingleValue("0102", "OB")
    assert keys[0x00080020] == keys[0x00081110] == Universal()
    dataset.PixelData = bytes(LONGEST)
    with pytest.raises(StatusError, match="PixelData: too long"):
        keys_of(dataset)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_text_without_a_character_set(encoding: str) -> None:
    """As people type it: UTF-8 where it can be, else Latin-1."""
    key = keys_of(received(element(0x00081030, "LO", "Schädel".encode(encoding))))
    assert key == {0x00081030: SingleValue("Schädel", "LO")}


@pytest.mark.parametrize(
    ("vr", "value", "texts"),
    [
        ("SH", b"+0100 ", ["+0100"]),
        ("SH", b"", []),
        ("US", b"\1\0", []),
        ("SQ", b"", []),
        ("KS", b"+0100 ", []),  # no VR of the standard
    ],
)
def test_k11_an_attribute_that_is_not_matched(vr: str, value: bytes, texts: list[str]) -> None:
    """It has text, or none whatever its VR is."""
    assert texts_of(received(element(0x00080201, vr, value)), "TimezoneOffsetFromUTC") == texts
