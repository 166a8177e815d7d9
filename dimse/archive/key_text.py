"""Elements of an identifier as text, whatever a peer has put into them (PS3.5 6.2, 7).

Values are read from what pydicom left encoded: a value that is none costs a refusal, no warning
that quotes it, and one that is long is refused before it is decoded.
"""

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_sequence_item
from pydicom.tag import BaseTag
from pydicom.valuerep import TEXT_VR_DELIMS

from dimse.archive.matching import ONE_TEXT
from dimse.archive.values import undeclared

DEFAULT_ENCODINGS = ("iso8859",)
_CHARACTER_SET = 0x00080005
_MOST_CHARACTER_SETS = 32  # more than there are
_NUMBERS = {
    "FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q",
}  # fmt: skip
_LOCAL = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))  # Specific Character Set is theirs
_LEADING = ONE_TEXT | {"UC"}  # blanks in front are part of these
_TEXT = frozenset(
    (
        "AE",
        "AS",
        "CS",
        "DA",
        "DS",
        "DT",
        "IS",
        "LO",
        "LT",
        "PN",
        "SH",
        "ST",
        "TM",
        "UC",
        "UI",
        "UR",
        "UT",
    )
)
_ITEM = (b"\xff\xfe\xe0\x00", b"\xfe\xff\x00\xe0")  # (FFFE,E000), big and little endian
_SEVERAL = "several items (PS3.4 C.2.2.2.6)"
_BYTES = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))


class UnreadableError(ValueError):
    """An element cannot be read; the text says why, and no value."""


@lru_cache(maxsize=4096)
def vrs_of(tag: int) -> tuple[str, ...]:
    """The VRs that PS3.6 has for an attribute; none for private ones, group lengths and others.

    Nor for those of repeating groups, curves and overlays: nobody looks for them.
    """
    if tag >> 16 & 1 or not tag & 0xFFFF or not dictionary_has_tag(tag):
        return ()
    vrs = tuple(dictionary_VR(tag).split(" or "))
    return vrs if vrs[0] != "NONE" else ()  # that of delimiters


def vr_of(dataset: Dataset, tag: int) -> str:
    """The VR by which the element is read; raises `UnreadableError` when it came with another kind.

    A text of another VR of text is taken, and a number of another VR of numbers.
    """
    vrs = vrs_of(tag)
    given = _element(dataset, tag).VR
    if given is None or given == "UN" or " or " in given:
        return vrs[0]
    if given in vrs:
        return given
    if _kind(given) not in map(_kind, vrs):
        raise UnreadableError("another VR is expected (PS3.6 6)")
    return vrs[0]


def _element(dataset: Dataset, tag: int) -> DataElement | RawDataElement:
    element = dataset.get_item(tag, keep_deferred=True)
    assert isinstance(element, DataElement | RawDataElement)
    return element


def _kind(vr: str) -> str:
    """What can stand for each other; AT, SQ and what is no VR only for themselves."""
    if vr in _NUMBERS:
        return "number"
    return "text" if vr in _TEXT else "bytes" if vr in _BYTES else vr


def encodings_of(dataset: Dataset, inherited: Sequence[str]) -> Sequence[str]:
    """Python's names of the character sets of a data set (PS3.3 C.12.1.1.2).

    Only what DICOM names is taken: pydicom would go on to anything that Python has a codec for.
    Raises `UnreadableError` for others.
    """
    if _CHARACTER_SET not in dataset:
        return inherited
    vr = vr_of(dataset, _CHARACTER_SET)
    terms = text_of(dataset, _CHARACTER_SET, vr, DEFAULT_ENCODINGS, 1024).split("\\")
    terms = [term.replace("ISO-IR", "ISO_IR").replace("ISO IR", "ISO_IR") for term in terms]
    if len(terms) > _MOST_CHARACTER_SETS or not all(term in python_encoding for term in terms):
        raise UnreadableError("unknown character set (PS3.3 C.12.1.1.2)")
    return convert_encodings(terms)


def text_of(dataset: Dataset, tag: int, vr: str, encodings: Sequence[str], longest: int) -> str:
    """The value of an element, several values with a backslash between them, without padding.

    Binary numbers become decimal, an AT or bytes hexadecimal. Raises `UnreadableError` for what is
    longer than `longest` bytes and what cannot be read.
    """
    element = _element(dataset, tag)
    value: Any = element.value
    if value is None:
        return ""
    try:
        if not isinstance(element, RawDataElement):
            text = _of_python(value)
        elif len(value) <= longest:
            text = _decoded(element, vr, encodings)
        else:
            raise UnreadableError("too long")
    except UnreadableError:
        raise
    except Exception as error:  # whatever a codec says of it; the text may hold values
        raise UnreadableError(f"no {vr} (PS3.5 6.2)") from error
    if len(text) > longest:
        raise UnreadableError("too long")
    return _stripped(text, vr)


def _decoded(element: RawDataElement, vr: str, encodings: Sequence[str]) -> str:
    value = element.value or b""
    order = "<" if element.is_little_endian else ">"
    if vr in _BYTES:
        return value.hex().upper()
    if vr == "AT":
        return _joined(struct.iter_unpack(order + "HH", value), "{0[0]:04X}{0[1]:04X}")
    if vr in _NUMBERS:
        return _joined(struct.iter_unpack(order + _NUMBERS[vr], value), "{0[0]}")
    if vr in _LOCAL:
        if tuple(encodings) == DEFAULT_ENCODINGS:
            return undeclared(value)
        return decode_bytes(value, encodings, TEXT_VR_DELIMS)
    return value.decode("iso8859")


def _joined(values: Iterable[Any], form: str) -> str:
    return "\\".join(form.format(value) for value in values)


def _of_python(value: Any) -> str:
    """What pydicom has decoded, or who made the Dataset has put in."""
    if isinstance(value, bytes):
        return value.hex().upper()
    if isinstance(value, BaseTag):
        return f"{value:08X}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "\\".join(map(_of_python, value))
    return str(value)


def _stripped(text: str, vr: str) -> str:
    strip = str.rstrip if vr in _LEADING else str.strip
    if vr in ONE_TEXT or "\\" not in text:
        return strip(text, " \0")
    return "\\".join(strip(value, " \0") for value in text.split("\\"))


def item_of(dataset: Dataset, tag: int) -> Dataset | None:
    """The one item of a sequence, None without; raises `UnreadableError` for several."""
    element = _element(dataset, tag)
    if isinstance(element, RawDataElement):
        return _encoded_item(element)
    items = element.value
    if len(items) > 1:
        raise UnreadableError(_SEVERAL)
    return items[0] if items else None


def _encoded_item(element: RawDataElement) -> Dataset | None:
    """The first item; others, a hundred thousand of them perhaps, are not even read."""
    value = element.value
    if not value:
        return None
    # An UN is in Implicit VR Little Endian, whatever is around it (PS3.5 6.2.2).
    unknown = element.VR == "UN"
    little_endian = unknown or element.is_little_endian
    tag, length = struct.unpack_from("<4sI" if little_endian else ">4sI", value.ljust(8, b"\0"))
    stream = BytesIO(value)
    try:
        # pydicom would go on with whatever is there.
        if tag != _ITEM[little_endian] or (length != 0xFFFFFFFF and 8 + length > len(value)):
            raise ValueError("no item")
        item = read_sequence_item(
            stream, unknown or element.is_implicit_VR, little_endian, list(DEFAULT_ENCODINGS)
        )
    except Exception as error:  # whatever pydicom says of it; the text may hold values
        raise UnreadableError("no sequence (PS3.5 7.5)") from error
    if stream.tell() < len(value):
        raise UnreadableError(_SEVERAL)
    return item
