"""Values of elements as the index has them: decoded text (PS3.5 6)."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import Struct, unpack

from pydicom.charset import (
    ESC,
    STAND_ALONE_ENCODINGS,
    decode_bytes,
    default_encoding,
    python_encoding,
)
from pydicom.datadict import dictionary_VR

SEQUENCE = "SQ"

_TEXT = frozenset(
    (
        *("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT"),
        *("PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"),
    )
)
# In these a leading space means nothing either, and a backslash parts values (PS3.5 6.2).
_STRIPPED = frozenset(("AE", "CS", "DS", "IS", "LO", "SH"))
_SINGLE = frozenset(("LT", "ST", "UT", "UR"))

_NUMBERS = {
    **{"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"},
    "AT": "I",  # of two numbers: see `number`
}
_ONE = {f"{order}{vr}": Struct(order + code) for order in "<>" for vr, code in _NUMBERS.items()}
_BYTES = ("OB", "OD", "OF", "OL", "OV", "OW")
_LONG = (*_BYTES, SEQUENCE, "SV", "UC", "UN", "UR", "UT", "UV")


def _as_encoded(vrs: Iterable[str]) -> frozenset[bytes]:
    return frozenset(vr.encode("ascii") for vr in vrs)


KNOWN_VRS = _as_encoded((*_TEXT, *_NUMBERS, *_LONG))
"""Every VR of the standard, as explicit VR has it (PS3.5 6.2)."""

SHORT_VRS = KNOWN_VRS - _as_encoded(_LONG)
"""Those with a length of 16 bits; every other, also one not known yet, has 32 (PS3.5 7.1.2)."""

BYTES_VRS = _as_encoded(_BYTES)
"""What can be encapsulated pixel data, when its length is undefined (PS3.5 A.4)."""

NUMBER_VRS = frozenset(_NUMBERS)
"""Those that `number` reads."""


@lru_cache(8192)  # more than the dictionary has of what is wanted; peers choose the tags
def kind_of(vr: bytes, tag: int) -> str:
    """As what an element is kept: the VR of its text or number, "SQ", or "" for not at all.

    `vr` is what the data set says, b"" in implicit VR. The dictionary decides where that says
    nothing (UN, PS3.5 6.2.2), and what is a sequence by one of them alone is not kept: so a tag of
    the dictionary always has the same kind of value. Nor are binary values and group lengths.
    """
    defined, stated = _dictionary_vr(tag), vr.decode("latin-1")
    if vr not in KNOWN_VRS or stated == "UN":
        stated = defined
    if defined and (stated == SEQUENCE) != (defined == SEQUENCE):
        return ""
    kept = stated in _TEXT or stated in _NUMBERS or stated == SEQUENCE
    return stated if kept and tag & 0xFFFF else ""


def _dictionary_vr(tag: int) -> str:
    try:
        defined = dictionary_VR(tag)
    except KeyError:  # private, or newer than pydicom
        return ""
    # "US or SS" depends on the pixels; they are the same below 32768.
    return "OW" if "OW" in defined else defined[:2]


def number(raw: bytes, vr: str, order: str) -> str:
    """Numbers as decimal text, tags in hexadecimal; `order` is that of `struct`.

    What is left behind the last whole number is not looked at.
    """
    if vr == "AT":
        halves = unpack(f"{order}{len(raw) // 4 * 2}H", raw[: len(raw) // 4 * 4])
        pairs = zip(halves[::2], halves[1::2], strict=True)
        return "\\".join(f"{group:04X}{element:04X}" for group, element in pairs)
    one = _ONE[order + vr]
    if len(raw) == one.size:
        return str(one.unpack(raw)[0])
    whole = raw[: len(raw) // one.size * one.size]
    return "\\".join(str(value) for (value,) in one.iter_unpack(whole))


def tidy(text: str, vr: str) -> str:
    """Decoded text without its padding, each value of it (PS3.5 6.2).

    Other NULs, which databases do not take, become U+FFFD.
    """
    if "\\" in text and vr not in _SINGLE:
        return "\\".join(_stripped(value, vr) for value in text.split("\\"))
    return _stripped(text, vr)


def _stripped(text: str, vr: str) -> str:
    text = text.strip("\0 ") if vr in _STRIPPED else text.rstrip("\0 ")
    return text.replace("\0", "\ufffd") if "\0" in text else text


def _letters(term: str) -> str:
    return re.sub("[^A-Z0-9]", "", term.upper())


# By their letters and digits alone: ISO-IR 100 and ISO_IR_100 are common. No other codec of Python
# can be named, some of which take time in the square of the length.
_ENCODINGS = {_letters(term): encoding for term, encoding in python_encoding.items()}
_STAND_ALONE = frozenset(python_encoding[term] for term in STAND_ALONE_ENCODINGS)


@lru_cache(256)
def encodings_of(charset: str) -> tuple[str, ...]:
    """The Python encodings of a Specific Character Set (0008,0005) (PS3.3 C.12.1.1.2).

    One unknown is the default, which is read as Latin-1 by pydicom as by many others.
    """
    terms = charset.split("\\", 8)[:8]
    encodings = tuple(_ENCODINGS.get(_letters(term), default_encoding) for term in terms)
    if encodings[0] in _STAND_ALONE:  # it takes no code extensions
        return encodings[:1]
    return tuple(encoding for encoding in encodings if encoding not in _STAND_ALONE)


# Where the first encoding is in force again (PS3.5 6.1.2.5.3).
_DELIMITERS = set(b"\t\n\f\r\\")
_NAME_DELIMITERS = _DELIMITERS | set(b"^=")


def text(raw: bytes, vr: str, encodings: Sequence[str]) -> str:
    """Decoded text that is not all ASCII; what cannot be decoded becomes U+FFFD, or behind escapes
    what pydicom makes of it."""
    if ESC in raw and len(encodings) > 1:
        delimiters = _NAME_DELIMITERS if vr == "PN" else _DELIMITERS
        try:
            return tidy(decode_bytes(raw, encodings, delimiters), vr)
        except (ValueError, LookupError, Warning):  # where pydicom or Python is told to be strict
            pass
    if encodings[0] == default_encoding:
        return tidy(undeclared(raw), vr)
    return tidy(raw.decode(encodings[0], "replace"), vr)


def undeclared(raw: bytes) -> str:
    """Text without a Specific Character Set, which should be ASCII and is not (PS3.5 6.1.2.2).

    What can be UTF-8 is: it is what terminals send, and by chance nothing is. Else it is Latin-1.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode(default_encoding, "replace")
