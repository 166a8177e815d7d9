"""Command sets: the group 0000 codec over one table of elements (PS3.7 6.3.1, E.1).

A command set is always Implicit VR Little Endian, in ascending order of tags, whatever the
transfer syntax of its context is.
"""

from collections.abc import Mapping
from struct import Struct, error

from dimse.errors import MisuseError, ProtocolError

Value = int | str | tuple[int, ...] | bytes
"""Numbers are int, UIDs, AE titles and text are str, tags (VR AT) are tuples of int. What does not
fit its VR stays bytes: so an empty value is b"", of whatever element."""

ELEMENTS: dict[str, tuple[int, str]] = {
    "CommandGroupLength": (0x0000, "UL"),
    "AffectedSOPClassUID": (0x0002, "UI"),
    "RequestedSOPClassUID": (0x0003, "UI"),
    "CommandField": (0x0100, "US"),
    "MessageID": (0x0110, "US"),
    "MessageIDBeingRespondedTo": (0x0120, "US"),
    "MoveDestination": (0x0600, "AE"),
    "Priority": (0x0700, "US"),
    "CommandDataSetType": (0x0800, "US"),
    "Status": (0x0900, "US"),
    "OffendingElement": (0x0901, "AT"),
    "ErrorComment": (0x0902, "LO"),
    "ErrorID": (0x0903, "US"),
    "AffectedSOPInstanceUID": (0x1000, "UI"),
    "RequestedSOPInstanceUID": (0x1001, "UI"),
    "EventTypeID": (0x1002, "US"),
    "AttributeIdentifierList": (0x1005, "AT"),
    "ActionTypeID": (0x1008, "US"),
    "NumberOfRemainingSuboperations": (0x1020, "US"),
    "NumberOfCompletedSuboperations": (0x1021, "US"),
    "NumberOfFailedSuboperations": (0x1022, "US"),
    "NumberOfWarningSuboperations": (0x1023, "US"),
    "MoveOriginatorApplicationEntityTitle": (0x1030, "AE"),
    "MoveOriginatorMessageID": (0x1031, "US"),
}
"""Keyword to (element number in group 0000, VR) (PS3.7 E.1 Table E.1-1)."""

_KEYWORDS = {number: (keyword, vr) for keyword, (number, vr) in ELEMENTS.items()}

NO_DATA_SET = 0x0101  # Command Data Set Type; any other value announces one (PS3.7 E.1)
DATA_SET = 0x0001

_ELEMENT = Struct("<HHI")
_NUMBERS = {"US": Struct("<H"), "UL": Struct("<I")}
_TAG = Struct("<HH")
_LONGEST_COMMENT = 64  # VR LO (PS3.5 6.2)


def encode(elements: Mapping[str, Value]) -> bytes:
    """The command set of keywords and values; the group length is put in front.

    Bytes are encoded as they are. Raises `MisuseError` for a value that does not fit its VR.
    """
    body = b"".join(
        _encode_element(number, vr, elements[keyword])
        for keyword, (number, vr) in ELEMENTS.items()
        if keyword in elements and number
    )
    return _encode_element(0x0000, "UL", len(body)) + body


def _encode_element(number: int, vr: str, value: Value) -> bytes:
    try:
        if isinstance(value, int):
            encoded = _NUMBERS[vr].pack(value)
        elif isinstance(value, bytes):
            encoded = value
        elif isinstance(value, tuple):
            encoded = b"".join(_TAG.pack(tag >> 16, tag & 0xFFFF) for tag in value)
        else:
            encoded = _encode_text(vr, value)
    except error:
        raise MisuseError(f"{value!r} does not fit VR {vr} (PS3.7 E.1)") from None
    return _ELEMENT.pack(0x0000, number, len(encoded)) + encoded


def _encode_text(vr: str, text: str) -> bytes:
    if vr == "LO":  # a comment has to arrive, whatever an exception put into it
        encoded = text.encode("ascii", "replace")[:_LONGEST_COMMENT].replace(b"\\", b"/")
    else:
        try:
            encoded = text.encode("ascii")
        except UnicodeEncodeError:
            raise MisuseError(f"{text!r} is not ASCII (PS3.7 6.3.1)") from None
    padding = b"\0" if vr == "UI" else b" "
    return encoded + padding if len(encoded) % 2 else encoded


def decode(command: bytes) -> dict[str, Value]:
    """The elements of a command set by keyword.

    Elements that Table E.1-1 does not have (retired, private, of other groups) are skipped; the
    first of two with one tag counts. Raises `ProtocolError` when a length leaves the command set.
    """
    elements: dict[str, Value] = {}
    position = 0
    while position < len(command):
        if len(command) - position < _ELEMENT.size:
            raise ProtocolError("a command set ends inside an element (PS3.7 6.3.1)")
        group, number, length = _ELEMENT.unpack_from(command, position)
        position += _ELEMENT.size
        if length > len(command) - position:
            raise ProtocolError(
                f"command element ({group:04X},{number:04X}) says {length} bytes, "
                f"{len(command) - position} are left (PS3.7 6.3.1)"
            )
        value = command[position : position + length]
        position += length
        if group == 0x0000 and number in _KEYWORDS:
            keyword, vr = _KEYWORDS[number]
            elements.setdefault(keyword, _decode_value(vr, value))
    return elements


def _decode_value(vr: str, value: bytes) -> Value:
    if not value:
        return value
    if vr in _NUMBERS:
        number = _NUMBERS[vr]
        return int(number.unpack(value)[0]) if len(value) == number.size else value
    if vr == "AT":
        if len(value) % _TAG.size:
            return value
        return tuple(group << 16 | element for group, element in _TAG.iter_unpack(value))
    return value.decode("latin-1").strip("\0 ") or b""
