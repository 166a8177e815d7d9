"""What is asked and reported in storage commitment, and its data sets (PS3.4 J.3).

The data sets are encoded and decoded without pydicom, for one may refer to 100,000 instances; with
a Dataset for each of them, everybody else would wait for many seconds.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from dimse.errors import DimseError, StatusError
from dimse.message.status import RESOURCE_LIMITATION
from dimse.performing import Peer

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"

TRANSACTION_UID = 0x00081195
REFERENCED_SOP_SEQUENCE = 0x00081199
FAILED_SOP_SEQUENCE = 0x00081198
REFERENCED_SOP_CLASS_UID = 0x00081150
REFERENCED_SOP_INSTANCE_UID = 0x00081155
FAILURE_REASON = 0x00081197
RETRIEVE_AE_TITLE = 0x00080054

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_DEEPEST = 8  # sequences in sequences; here there is one
_MOST_ELEMENTS = 16  # looked at for each instance that there may be

_TAG = Struct("<HH")
_LENGTH = Struct("<I")
_SHORT = Struct("<2sH")  # explicit VR (PS3.5 7.1.2)
_US = Struct("<H")
_LONG_VRS = frozenset((b"OB OD OF OL OV OW SQ SV UC UN UR UT UV").split())
_VRS = {RETRIEVE_AE_TITLE: b"AE", FAILURE_REASON: b"US"}


class Reference(NamedTuple):
    """A composite SOP instance, by its SOP Class UID and SOP Instance UID."""

    sop_class_uid: str
    sop_instance_uid: str


class FailureReason(IntEnum):
    """Why an instance is not committed (PS3.3 C.14.1.1); the names are those of the standard."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    REFERENCED_SOP_CLASS_NOT_SUPPORTED = 0x0122
    DUPLICATE_TRANSACTION_UID = 0x0131
    RESOURCE_LIMITATION = 0x0213


@dataclass(frozen=True, slots=True)
class CommitmentResult:
    """What became of a request: the instances that the SCP has committed itself to keep, and those
    that it has not, with a `FailureReason` each, or what else the SCP sent.

    `unanswered` are instances that were asked for and that the SCP did not mention.
    """

    transaction_uid: str
    committed: tuple[Reference, ...] = ()
    failed: Mapping[Reference, int] = field(default_factory=dict)
    retrieve_ae_title: str = ""
    unanswered: tuple[Reference, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all instances are committed."""
        return not (self.failed or self.unanswered)


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """What a peer asks to be kept, and how it called us, which is who should report it."""

    transaction_uid: str
    references: tuple[Reference, ...]
    peer: Peer
    ae_title: str

    def result(
        self,
        committed: Iterable[Reference],
        reasons: Mapping[Reference, int] | None = None,
        *,
        retrieve_ae_title: str = "",
    ) -> CommitmentResult:
        """The result of it: whatever is not `committed` has failed, with its reason in `reasons`,
        or else as one that is not here (PS3.4 J.3.3.1.2)."""
        kept, reasons = set(committed), reasons or {}
        default = FailureReason.NO_SUCH_OBJECT_INSTANCE
        return CommitmentResult(
            self.transaction_uid,
            tuple(each for each in self.references if each in kept),
            {each: reasons.get(each, default) for each in self.references if each not in kept},
            retrieve_ae_title,
        )


class Item(NamedTuple):
    """An item of one of the sequences; what it does not have is "" or None."""

    sop_class_uid: str
    sop_instance_uid: str
    failure_reason: int | None = None
    retrieve_ae_title: str = ""


class Information(NamedTuple):
    """An Action Information or Event Information; a sequence that is not there is None."""

    transaction_uid: str = ""
    referenced: tuple[Item, ...] | None = None
    failed: tuple[Item, ...] | None = None
    retrieve_ae_title: str = ""


MOST_INSTANCES = 100_000
"""That one message may refer to; they take about a second."""


def decode(data: bytes, transfer_syntax: str) -> Information:
    """The information in a data set; raises `DimseError` for what is none, and names no value,
    and `StatusError` for more than `MOST_INSTANCES`."""
    walk = _Walk(data, explicit=transfer_syntax == EXPLICIT_VR_LITTLE_ENDIAN)
    values: dict[int, str] = {}
    sequences: dict[int, tuple[Item, ...]] = {}
    for tag, start, end in walk.elements(0, len(data)):
        if tag in (REFERENCED_SOP_SEQUENCE, FAILED_SOP_SEQUENCE):
            sequences[tag] = tuple(_item(walk, *item) for item in walk.items(start, end, 1))
        elif tag in (TRANSACTION_UID, RETRIEVE_AE_TITLE):
            values[tag] = walk.text(start, end)
    return Information(
        values.get(TRANSACTION_UID, ""),
        sequences.get(REFERENCED_SOP_SEQUENCE),
        sequences.get(FAILED_SOP_SEQUENCE),
        values.get(RETRIEVE_AE_TITLE, ""),
    )


def _item(walk: "_Walk", start: int, end: int) -> Item:
    sop_class = instance = title = ""
    reason = None
    for tag, begin, behind in walk.elements(start, end, 1):
        if tag == REFERENCED_SOP_CLASS_UID:
            sop_class = walk.text(begin, behind)
        elif tag == REFERENCED_SOP_INSTANCE_UID:
            instance = walk.text(begin, behind)
        elif tag == RETRIEVE_AE_TITLE:
            title = walk.text(begin, behind)
        elif tag == FAILURE_REASON and behind - begin == _US.size:
            (reason,) = _US.unpack_from(walk.data, begin)
    return Item(sop_class, instance, reason, title)


class _Walk:
    """Through the elements and items of `data`, which it holds to their lengths."""

    def __init__(self, data: bytes, *, explicit: bool) -> None:
        self.data = data
        self._explicit = explicit
        self._items = MOST_INSTANCES
        self._headers = MOST_INSTANCES * _MOST_ELEMENTS

    def text(self, start: int, end: int) -> str:
        """A value that is ASCII, without its padding."""
        return self.data[start:end].decode("ascii", "replace").strip("\0 ")

    def elements(self, start: int, end: int, depth: int = 0) -> Iterator[tuple[int, int, int]]:
        """Tag, and where the value is, of each element up to `end`."""
        position = start
        while position < end:
            tag, position, length = self._header(position, end)
            if length == _UNDEFINED:
                behind = value_end = self._end_of_sequence(position, end, depth + 1)
                value_end -= 8  # its Sequence Delimitation Item
            else:
                behind = value_end = position + length
                if value_end > end:
                    raise _broken("an element leaves its data set")
            yield tag, position, value_end
            position = behind

    def items(self, start: int, end: int, depth: int) -> Iterator[tuple[int, int]]:
        """Where the elements of each item of a sequence are."""
        position = start
        while position < end:
            tag, length = self._item_header(position, end)
            if tag != _ITEM:
                raise _broken("no item in a sequence")
            self._items -= 1
            if self._items < 0:
                raise StatusError(RESOURCE_LIMITATION, f"more than {MOST_INSTANCES} instances")
            position += 8
            if length == _UNDEFINED:
                behind = self._end_of_item(position, end, depth)
                yield position, behind - 8
            else:
                behind = position + length
                if behind > end:
                    raise _broken("an item leaves its sequence")
                yield position, behind
            position = behind

    def _header(self, position: int, end: int) -> tuple[int, int, int]:
        """Tag, where the value begins, and its length."""
        self._headers -= 1
        if self._headers < 0:
            raise StatusError(RESOURCE_LIMITATION, "too many elements")
        if end - position < 8:
            raise _broken("it ends inside an element")
        group, element = _TAG.unpack_from(self.data, position)
        tag, position = group << 16 | element, position + 4
        if not self._explicit or group == 0xFFFE:
            return tag, position + 4, _LENGTH.unpack_from(self.data, position)[0]
        vr, length = _SHORT.unpack_from(self.data, position)
        position += 4
        if vr not in _LONG_VRS:
            return tag, position, length
        if end - position < 4:
            raise _broken("it ends inside an element")
        return tag, position + 4, _LENGTH.unpack_from(self.data, position)[0]

    def _item_header(self, position: int, end: int) -> tuple[int, int]:
        self._headers -= 1
        if self._headers < 0:
            raise StatusError(RESOURCE_LIMITATION, "too many elements")
        if end - position < 8:
            raise _broken("it ends inside a sequence")
        group, element = _TAG.unpack_from(self.data, position)
        return group << 16 | element, _LENGTH.unpack_from(self.data, position + 4)[0]

    def _end_of_sequence(self, position: int, end: int, depth: int) -> int:
        """Behind the delimitation item of a sequence of undefined length."""
        if depth > _DEEPEST:
            raise _broken(f"more than {_DEEPEST} sequences in sequences")
        while True:
            tag, length = self._item_header(position, end)
            position += 8
            if tag == _SEQUENCE_END:
                return position
            if tag != _ITEM:
                raise _broken("no item in a sequence")
            if length == _UNDEFINED:
                position = self._end_of_item(position, end, depth)
            else:
                position += length

    def _end_of_item(self, position: int, end: int, depth: int) -> int:
        """Behind the delimitation item of an item of undefined length."""
        while True:
            tag, position, length = self._header(position, end)
            if tag == _ITEM_END:
                return position
            if length == _UNDEFINED:
                position = self._end_of_sequence(position, end, depth + 1)
            else:
                position += length


def _broken(why: str) -> DimseError:
    return DimseError(f"{why} (PS3.5 7)")


def encode(information: Information, transfer_syntax: str) -> bytes:
    """The data set of it, in tag order, in explicit or implicit VR little endian."""
    explicit = transfer_syntax == EXPLICIT_VR_LITTLE_ENDIAN
    parts = []
    if information.retrieve_ae_title:
        title = information.retrieve_ae_title.encode("ascii")
        parts.append(_element(RETRIEVE_AE_TITLE, title, explicit))
    parts.append(_uid(TRANSACTION_UID, information.transaction_uid, explicit))
    for tag, items in (
        (FAILED_SOP_SEQUENCE, information.failed),
        (REFERENCED_SOP_SEQUENCE, information.referenced),
    ):
        if items is not None:
            parts.append(_sequence(tag, items, explicit))
    return b"".join(parts)


def _sequence(tag: int, items: Iterable[Item], explicit: bool) -> bytes:
    encoded = []
    for item in items:
        parts = [
            _uid(REFERENCED_SOP_CLASS_UID, item.sop_class_uid, explicit),
            _uid(REFERENCED_SOP_INSTANCE_UID, item.sop_instance_uid, explicit),
        ]
        if item.retrieve_ae_title:
            title = item.retrieve_ae_title.encode("ascii")
            parts.insert(0, _element(RETRIEVE_AE_TITLE, title, explicit))
        if item.failure_reason is not None:
            parts.append(_element(FAILURE_REASON, _US.pack(item.failure_reason), explicit))
        value = b"".join(parts)
        encoded.append(_tag(_ITEM) + _LENGTH.pack(len(value)) + value)
    value = b"".join(encoded)
    vr = b"SQ\0\0" if explicit else b""
    return _tag(tag) + vr + _LENGTH.pack(len(value)) + value


def _uid(tag: int, uid: str, explicit: bool) -> bytes:
    value = uid.encode("ascii")
    return _element(tag, value + b"\0" * (len(value) % 2), explicit)


def _element(tag: int, value: bytes, explicit: bool) -> bytes:
    value += b" " * (len(value) % 2)
    if explicit:
        return _tag(tag) + _SHORT.pack(_VRS.get(tag, b"UI"), len(value)) + value
    return _tag(tag) + _LENGTH.pack(len(value)) + value


def _tag(tag: int) -> bytes:
    return _TAG.pack(tag >> 16, tag & 0xFFFF)
