"""What is mutated: captured sessions of DCMTK and pynetdicom, and what they are made of."""

from collections.abc import Iterator
from pathlib import Path
from struct import unpack_from
from typing import NamedTuple

FOLDER = Path(__file__).parent / "corpus"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
_LONG = frozenset((b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC"))  # 32 bits of length (PS3.5 7.1.2)


class Field(NamedTuple):
    """A PDU, item, PDV or element from `start` to `end`; its length has `size` bytes at `at`."""

    start: int
    at: int
    size: int
    order: str  # "big" or "little"
    end: int


class Seed(NamedTuple):
    """Bytes that are valid, and where things with a length are in them."""

    data: bytes
    fields: tuple[Field, ...]


class Message(NamedTuple):
    """A DIMSE message: its command set, its data set, and the transfer syntax of its context."""

    command: bytes
    data: bytes
    syntax: str


class Session(NamedTuple):
    """What was said on one connection, as the two streams of PDUs."""

    name: str
    requestor: bytes
    acceptor: bytes


def sessions() -> list[Session]:
    """All of the corpus."""
    return [_session(path) for path in sorted(FOLDER.glob("*.txt"))]


def _session(path: Path) -> Session:
    said = {"requestor": b"", "acceptor": b""}
    for line in path.read_text(encoding="ascii").splitlines():
        who, _, data = line.partition(" ")
        said[who] += bytes.fromhex(data)
    return Session(path.stem, **said)


def pdus(stream: bytes) -> list[bytes]:
    """A stream cut into PDUs (PS3.8 9.3.1)."""
    found, position = [], 0
    while position < len(stream):
        end = position + 6 + int.from_bytes(stream[position + 2 : position + 6], "big")
        found.append(stream[position:end])
        position = end
    return found


def messages(session: Session) -> Iterator[tuple[str, Message]]:
    """Who sends, and each whole message."""
    syntaxes = dict(_accepted(session.acceptor))
    for who, stream in (("requestor", session.requestor), ("acceptor", session.acceptor)):
        command = data = b""
        for context_id, control, fragment in _pdvs(stream):
            if control & 1:
                command += fragment
            else:
                data += fragment
            alone = control & 1 and b"\0\0\0\x08\2\0\0\0\1\1" in command  # no data set follows
            if control & 2 and (alone or not control & 1):
                yield who, Message(command, data, syntaxes[context_id])
                command = data = b""


def _accepted(stream: bytes) -> Iterator[tuple[int, str]]:
    """Context ids and transfer syntaxes of an A-ASSOCIATE-AC."""
    if stream[:1] == b"\2":
        for field in _items(stream, 74, len(pdus(stream)[0])):
            if stream[field.start] == 0x21:
                syntax = stream[field.start + 12 : field.end].decode("ascii").rstrip("\0 ")
                yield stream[field.start + 4], syntax


def _pdvs(stream: bytes) -> Iterator[tuple[int, int, bytes]]:
    for pdu in pdus(stream):
        if pdu[0] == 4:
            for field in _p_data_fields(pdu, 0, len(pdu)):
                yield pdu[field.start + 4], pdu[field.start + 5], pdu[field.start + 6 : field.end]


# Where lengths are


def stream_seed(stream: bytes) -> Seed:
    """Of whole PDUs, with their items and PDVs."""
    fields, start = [], 0
    for pdu in pdus(stream):
        end = start + len(pdu)
        fields.append(Field(start, start + 2, 4, "big", end))
        if pdu[0] in (1, 2):
            fields += _items(stream, start + 74, end)
        elif pdu[0] == 4:
            fields += _p_data_fields(stream, start, end)
        start = end
    return Seed(stream, tuple(fields))


_INSIDE = {0x20: 8, 0x21: 8, 0x50: 4}  # where the items of an item begin
_NAMED = {0x54: 4, 0x56: 4, 0x57: 4, 0x58: 6, 0x59: 4}  # where a length within an item is


def _items(stream: bytes, position: int, end: int) -> list[Field]:
    fields = []
    while position < end:
        kind, length = unpack_from(">BxH", stream, position)
        behind = position + 4 + length
        fields.append(Field(position, position + 2, 2, "big", behind))
        if kind in _INSIDE:
            fields += _items(stream, position + _INSIDE[kind], behind)
        elif kind in _NAMED:
            at = position + _NAMED[kind]
            (inner,) = unpack_from(">H", stream, at)
            fields.append(Field(at, at, 2, "big", at + 2 + inner))
        position = behind
    return fields


def _p_data_fields(stream: bytes, start: int, end: int) -> list[Field]:
    fields, position = [], start + 6
    while position < end:
        (length,) = unpack_from(">I", stream, position)
        fields.append(Field(position, position, 4, "big", position + 4 + length))
        position += 4 + length
    return fields


def elements_seed(data: bytes, syntax: str) -> Seed:
    """Of a command set or data set, with its elements and items; in big endian without them."""
    if syntax not in (EXPLICIT, IMPLICIT):
        return Seed(data, ())
    return Seed(data, tuple(_elements(data, 0, len(data), syntax != IMPLICIT)))


def _elements(data: bytes, position: int, end: int, explicit: bool) -> list[Field]:
    fields = []
    while end - position >= 8:
        start, at, size = position, position + 4, 4
        group, vr = unpack_from("<H2x2s", data, position)
        if explicit and group != 0xFFFE:
            at, size = (position + 8, 4) if vr in _LONG else (position + 6, 2)
        length = int.from_bytes(data[at : at + size], "little")
        position = at + size
        if length == 0xFFFFFFFF:  # its items are the next to be looked at
            fields.append(Field(start, at, size, "little", position))
            continue
        behind = min(position + length, end)
        fields.append(Field(start, at, size, "little", behind))
        if group == 0xFFFE or vr == b"SQ":
            fields += _elements(data, position, behind, explicit)
        position = behind
    return fields
