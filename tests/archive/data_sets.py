"""Encoded data sets, built by hand from their bytes (PS3.5 7), and what a scan makes of them."""

import struct
import zlib
from collections.abc import Iterable
from itertools import pairwise

from dimse.archive.attributes import Attributes
from dimse.archive.header import HeaderScan
from dimse.errors import StatusError
from dimse.services.storage import ReceivedInstance
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT

BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG = "1.2.840.10008.1.2.4.50"
UID = "1.2.3.4"

SOP_CLASS, SOP_INSTANCE = 0x00080016, 0x00080018
STUDY, SERIES = 0x0020000D, 0x0020000E
CHARSET, MODALITY, NAME, ROWS = 0x00080005, 0x00080060, 0x00100010, 0x00280010
PATIENT_ID = 0x00100020
REQUEST, STEP_ID, CODES, MEANING = 0x00400275, 0x00400009, 0x00400008, 0x00080104
PIXELS = 0x7FE00010
PRIVATE = 0x00091001
UNDEFINED = 0xFFFFFFFF
ITEM, END_OF_ITEM, END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

WANTED = frozenset(
    {SOP_CLASS, SOP_INSTANCE, STUDY, SERIES, CHARSET, MODALITY, NAME, PATIENT_ID, ROWS, REQUEST}
)
UIDS = {SOP_CLASS: CT_STORAGE, SOP_INSTANCE: UID, STUDY: "1.2.3", SERIES: "1.2.3.5"}
_LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV", "ZZ"}


def order_of(syntax: str) -> str:
    return ">" if syntax == BIG_ENDIAN else "<"


def element(
    tag: int, vr: str, value: bytes = b"", syntax: str = EXPLICIT, length: int | None = None
) -> bytes:
    """An element, with the length of its value unless another is said."""
    size = len(value) if length is None else length
    order, parts = order_of(syntax), (tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT:
        return struct.pack("<HHI", *parts, size) + value
    if vr in _LONG:
        return struct.pack(f"{order}HH2s2xI", *parts, vr.encode(), size) + value
    return struct.pack(f"{order}HH2sH", *parts, vr.encode(), size) + value


def delimiter(tag: int, length: int = 0, syntax: str = EXPLICIT) -> bytes:
    """The header of an item, or what ends it or a sequence."""
    return struct.pack(f"{order_of(syntax)}HHI", tag >> 16, tag & 0xFFFF, length)


def sequence(
    tag: int, *items: bytes, syntax: str = EXPLICIT, undefined: bool = False, vr: str = "SQ"
) -> bytes:
    """A sequence of encoded items; with `undefined`, lengths of it and of its items."""
    if not undefined:
        body = b"".join(delimiter(ITEM, len(item), syntax) + item for item in items)
        return element(tag, vr, body, syntax)
    end = delimiter(END_OF_ITEM, 0, syntax)
    body = b"".join(delimiter(ITEM, UNDEFINED, syntax) + item + end for item in items)
    body += delimiter(END_OF_SEQUENCE, 0, syntax)
    return element(tag, vr, body, syntax, UNDEFINED)


def padded(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def data_set(*elements: bytes, syntax: str = EXPLICIT, uids: dict[int, str] | None = None) -> bytes:
    """A data set with its UIDs and, behind those of group 0008, other elements."""
    encoded = {
        tag: element(tag, "UI", padded(uid), syntax)
        for tag, uid in (UIDS if uids is None else uids).items()
    }
    first = [encoded[tag] for tag in (SOP_CLASS, SOP_INSTANCE) if tag in encoded]
    last = [encoded[tag] for tag in (STUDY, SERIES) if tag in encoded]
    return b"".join((*first, *elements, *last))


def deflate(data: bytes, level: int = 6) -> bytes:
    compress = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
    return compress.compress(data) + compress.flush()


def received(
    syntax: str = EXPLICIT, uid: str = UID, sop_class: str = CT_STORAGE
) -> ReceivedInstance:
    return ReceivedInstance(sop_class, uid, syntax, "MODALITY", "ARCHIVE")


def scan(
    data: bytes,
    syntax: str = EXPLICIT,
    wanted: frozenset[int] = WANTED,
    cuts: Iterable[int] = (),
    instance: ReceivedInstance | None = None,
) -> Attributes:
    """What comes of a data set that is fed in fragments cut at `cuts`."""
    header = HeaderScan(instance or received(syntax), wanted)
    places = [0, *sorted(cuts), len(data)]
    for begin, end in pairwise(places):
        # A view of a buffer that is overwritten after the call, as that of a connection is.
        buffer = bytearray(data[begin:end])
        header.feed(memoryview(buffer))
        buffer[:] = b"\xee" * len(buffer)
    return header.finish()


def outcome(
    data: bytes, syntax: str = EXPLICIT, cuts: Iterable[int] = (), **others: ReceivedInstance
) -> Attributes | tuple[int, tuple[int, ...]]:
    """The same, or the status and the offending elements of the refusal."""
    try:
        return scan(data, syntax, WANTED, cuts, **others)
    except StatusError as error:
        return error.status, error.offending
