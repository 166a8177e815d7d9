"""Values of keys as typed: what a VR allows in an identifier (PS3.5 6.2, PS3.4 C.2.2.2)."""

from collections.abc import Callable
from typing import Any

from pydicom.config import RAISE
from pydicom.tag import Tag
from pydicom.valuerep import VR, validate_value

_MATCH = "* and ? match any characters"
_TEXT = f"no control characters; {_MATCH}"

ALLOWED = {
    "AE": f"at most 16 characters; {_MATCH}",
    "AS": "three digits and D, W, M or Y, such as 045Y",
    "AT": "a tag, such as 0010,0020",
    "CS": f"at most 16 capital letters, digits, spaces and underscores; {_MATCH}",
    "DA": "YYYYMMDD, or a range of two, YYYYMMDD- or -YYYYMMDD",
    "DS": "a decimal number of at most 16 characters",
    "DT": "YYYYMMDDHHMMSS.FFFFFF&ZZXX or the beginning of it, or a range",
    "FD": "a number",
    "FL": "a number",
    "IS": "a whole number of 32 bits",
    "LO": f"at most 64 characters, {_TEXT}",
    "LT": f"at most 10240 characters, {_TEXT}",
    "PN": f"at most 64 characters for each of three component groups, {_TEXT}",
    "SH": f"at most 16 characters, {_TEXT}",
    "SL": "a whole number of 32 bits",
    "SS": "a whole number of 16 bits",
    "ST": f"at most 1024 characters, {_TEXT}",
    "SV": "a whole number of 64 bits",
    "TM": "HHMMSS.FFFFFF or the beginning of it, or a range of two, HHMMSS- or -HHMMSS",
    "UC": _TEXT,
    "UI": "UIDs of at most 64 digits and dots, without wild cards, one or a list with \\ between",
    "UL": "a whole number of 32 bits that is not negative",
    "UR": "a URI",
    "US": "a whole number of 16 bits that is not negative",
    "UT": _TEXT,
    "UV": "a whole number of 64 bits that is not negative",
}
"""The VRs of which a key can have a value, and in words what that can be."""

_EMPTY_VALUE = '""'  # matches what is there and empty (PS3.4 C.2.2.2.7)
_SINGLE = ("LT", "ST", "UR", "UT")  # a \ in them is a character (PS3.5 6.2)
_LINES = ("LT", "ST", "UT")  # may hold line breaks and tabs
_NUMBERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("SL", "SS", "SV", "UL", "US", "UV"), int),
    **dict.fromkeys(("FD", "FL"), float),
}


def value_of(vr: str, text: str) -> Any:
    """The value that `text` is for an element of that VR; raises `ValueError` for what is none.

    The error says nothing of the text: `ALLOWED` says what could be.
    """
    if vr not in ALLOWED:
        raise ValueError
    parts = [text] if vr in _SINGLE else text.split("\\")
    if vr == "AT":
        return [Tag(part.strip("()").replace(",", "")) for part in parts]
    if vr in _NUMBERS:
        numbers = [_NUMBERS[vr](part) for part in parts]
        for number in numbers:
            validate_value(vr, number, RAISE)
        return numbers
    for part in parts:
        if part != _EMPTY_VALUE:
            _check(vr, part)
    return text


def _check(vr: str, part: str) -> None:
    printable = part.translate(dict.fromkeys(map(ord, "\t\n\f\r"))) if vr in _LINES else part
    if not printable.isprintable():
        raise ValueError
    if vr == VR.CS:  # pydicom takes no wild cards
        part = part.replace("*", "_").replace("?", "_")
    if vr == VR.IS and not -(2**31) <= int(part) < 2**31:
        raise ValueError
    validate_value(vr, part, RAISE)
