"""The structure of data sets: what is one, and what is refused before anything is made of it."""

from pathlib import Path
from struct import pack
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence
from pydicom.uid import UID

from dimse.services.dataset import encode
from dimse.services.structure import check_structure
from tests.wire import EXPLICIT, IMPLICIT

BIG_ENDIAN = "1.2.840.10008.1.2.2"
UNDEFINED = 0xFFFFFFFF
END = pack("<HHI", 0xFFFE, 0xE0DD, 0)
ITEM_END = pack("<HHI", 0xFFFE, 0xE00D, 0)
NAME = pack("<HHI", 0x10, 0x10, 4) + b"A^B "


UNKNOWN = (b"??", b"ZZ", b"aa", b"\0\0")  # ZZ looks like a VR, and may be one some day


def check(data: bytes, syntax: str = IMPLICIT, **options: Any) -> None:
    uid = UID(syntax)
    implicit, little_endian = uid.is_implicit_VR, uid.is_little_endian
    check_structure(data, implicit=implicit, little_endian=little_endian, **options)


def element(value: bytes, tag: int = 0x00081110, length: int | None = None) -> bytes:
    return pack("<HHI", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def item(value: bytes, length: int | None = None) -> bytes:
    return element(value, 0xFFFEE000, length)


def explicit(vr: bytes, value: bytes, tag: int = 0x00081110, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    header = pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    is_long = vr in (b"SQ", b"UN", b"OB", b"UT")
    return header + (pack("<HI", 0, size) if is_long else pack("<H", size)) + value


def nested(depth: int, *, undefined: bool) -> bytes:
    if undefined:
        begin = element(b"", length=UNDEFINED) + item(b"", UNDEFINED)
        return begin * depth + NAME + (ITEM_END + END) * depth
    data = NAME
    for _ in range(depth):
        data = element(item(data))
    return data


class TestWhatIsOne:
    @pytest.mark.parametrize("undefined", [False, True])
    @pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
    def test_what_pydicom_writes(self, syntax: str, undefined: bool):
        inner, outer = Dataset(), Dataset()
        inner.ReferencedSOPInstanceUID = "1.2.3"
        outer.PatientName = "A^B"
        outer.ReferencedStudySequence = Sequence([inner, Dataset()])
        outer.ReferencedStudySequence.is_undefined_length = undefined
        outer.ReferencedStudySequence[0].is_undefined_length_sequence_item = undefined
        outer.ReferencedSeriesSequence = []
        outer.PixelData = b"ab"
        outer["PixelData"].VR = "OW"
        outer.LUTExplanation = ""
        check(encode(outer, syntax), syntax)

    @pytest.mark.parametrize("name", ["CT_small.dcm", "rtplan.dcm", "reportsi.dcm"])
    def test_instances(self, name: str):
        dataset = dcmread(Path(str(get_testdata_file(name))))
        for syntax in (IMPLICIT, EXPLICIT):
            check(encode(dataset, syntax), syntax)

    def test_nothing(self):
        check(b"")

    @pytest.mark.parametrize("undefined", [False, True])
    def test_as_deep_as_may_be(self, undefined: bool):
        check(nested(64, undefined=undefined))

    def test_unknown_sequences(self):
        """UN of undefined length holds implicit VR (PS3.5 6.2.2), and private ones may nest."""
        inside = item(NAME + ITEM_END, UNDEFINED) + END
        check(explicit(b"UN", inside, 0x00091010, UNDEFINED), EXPLICIT)
        check(explicit(b"UN", item(NAME)), EXPLICIT)
        check(element(item(NAME), 0x00091010))

    def test_unknown_bytes(self):
        check(element(b"bytes.", 0x00091010))
        check(explicit(b"UN", b"bytes.", 0x00091010), EXPLICIT)
        check(explicit(b"ZZ", b"a new VR", 0x00091010), EXPLICIT, any_vr=True)

    def test_as_many_as_may_be(self):
        check(NAME * 10, most=10)
        with pytest.raises(ValueError, match="more than 10"):
            check(NAME * 11, most=10)

    def test_pixel_data_in_fragments_where_it_may_be(self):
        """With an empty offset table, in the data set and in an item; elsewhere it is none."""
        fragments = item(b"") + item(b"abcd") + item(b"") + END
        pixels = explicit(b"OB", b"", 0x7FE00010, UNDEFINED) + fragments
        data = explicit(b"SQ", item(pixels), 0x00880200) + pixels
        check(data, EXPLICIT, encapsulated=True)
        with pytest.raises(ValueError, match="without end"):
            check(data, EXPLICIT)

    @pytest.mark.parametrize(
        ("fragments", "why"),
        [
            (b"", "ends inside"),
            (item(b"abcd"), "ends inside"),
            (item(b"abcd")[:-1], "ends inside"),
            (item(b"abcd", UNDEFINED) + END, "something else"),
            (NAME + END, "something else"),
        ],
    )
    def test_fragments_that_are_none(self, fragments: bytes, why: str):
        pixels = explicit(b"OB", b"", 0x7FE00010, UNDEFINED)
        with pytest.raises(ValueError, match=why):
            check(pixels + fragments, EXPLICIT, encapsulated=True)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (NAME[:-1], "ends inside"),
        (NAME[:7], "ends inside"),
        (NAME + b"\0", "ends inside"),
        (element(b"abcd", 0x00100010, 100), "ends inside"),
        (element(b"abcd", 0x00100010, 0x80000000), "ends inside"),
        (element(b"abcd", 0x00100010, UNDEFINED), "ends inside"),
        (element(NAME), "something else than items"),
        (element(b"", length=8), "behind its data set"),
        (element(item(NAME, 500)), "behind its data set"),
        (element(item(NAME[:-1])), "ends inside"),
        (element(item(NAME, UNDEFINED), length=UNDEFINED), "ends inside"),
        (element(item(NAME)[:6], length=UNDEFINED), "ends inside"),
        (element(item(NAME) + ITEM_END, length=UNDEFINED), "something else than items"),
        (element(item(NAME) + END), "something else than items"),
        (END, "outside of a sequence"),
        (element(item(NAME + ITEM_END)), "outside of a sequence"),
        (item(NAME), "outside of a sequence"),
        (nested(65, undefined=False), "deeper than 64"),
        (nested(100_000, undefined=True), "deeper than 64"),
        (bytes(128) + b"DICM" + NAME, "ends inside"),
        (explicit(b"PN", b"A^B ", 0x00100010), "ends inside"),
    ],
)
def test_what_is_none(data: bytes, why: str):
    with pytest.raises(ValueError, match=why):
        check(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (NAME, "unknown VR"),
        *((explicit(vr, b"abcd"), r"\(0008,1110\) has an unknown VR") for vr in UNKNOWN),
        (explicit(b"SQ", item(explicit(b"ZZ", b"", 0x00081150))), r"\(0008,1150\) has an unknown"),
        (explicit(b"OB", b"abcd", 0x7FE00010, UNDEFINED), "without end"),
        (explicit(b"UT", b"abcd", 0x00100010, 100), "ends inside"),
        (explicit(b"UT", b"")[:-1], "ends inside"),
        (explicit(b"SQ", item(NAME)), "unknown VR"),
        (explicit(b"SQ", b"junk in a sequence"), "something else than items"),
    ],
)
def test_what_is_none_in_explicit_vr(data: bytes, why: str):
    with pytest.raises(ValueError, match=why):
        check(data, EXPLICIT)


def test_it_is_fast_with_what_is_large():
    """A value is stepped over, whatever it holds."""
    check(element(bytes(100_000_000), 0x7FE00010))
