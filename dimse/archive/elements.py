"""The elements of a data set as its bytes pass (PS3.5 7): those wanted are kept, the rest skipped.

Nothing is recursive, and no more is held than what is kept and one value that is cut off.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from enum import Enum, auto
from struct import Struct
from typing import Any

from pydicom.charset import ESC

from dimse.archive.attributes import Attributes
from dimse.archive.values import (
    BYTES_VRS,
    NUMBER_VRS,
    SEQUENCE,
    SHORT_VRS,
    encodings_of,
    kind_of,
    number,
    text,
    tidy,
)
from dimse.errors import StatusError
from dimse.message.status import CANNOT_UNDERSTAND

SPECIFIC_CHARACTER_SET = 0x00080005
_PIXEL_DATA = 0x7FE00010
_ITEM = 0xFFFEE000
_END_OF_ITEM = 0xFFFEE00D
_END_OF_SEQUENCE = 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_FIRST_GROUP = 0x0008  # those before it are of command sets, file meta information, directories
_DELIMITERS = 0xFFFE
_FAR = 1 << 63  # the end of a data set that is not known yet

DEPTH = 64
"""Sequences in sequences: real ones have less than 10, and what reads the file may recurse."""

LONGEST_VALUE = 64 * 1024
"""Bytes of a value that is kept; LT has 10,240 characters, and nobody queries by a longer text."""

MOST_BYTES = 256 * 1024
"""Bytes of all values kept of an instance: a row of the index, which answers are made of."""

MOST_ELEMENTS = 4096
"""Elements and items kept of an instance: an empty one takes 8 bytes to send and 100 to keep."""

MOST_ESCAPES = 4096
"""Changes of the character set that are followed in an instance: one takes up to 15 us."""

_LONGEST_CHARSET = 128  # eight values of CS; it is kept for the next instance that has the same
_WINDOW = 16 * 1024  # bytes looked at in one piece: what is skipped is mostly not copied first

_NOTHING = frozenset[int]()
_CHARSET = frozenset((SPECIFIC_CHARACTER_SET,))
_EVERYTHING = range(1 << 32)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How elements are encoded: by their transfer syntax, or within UN (PS3.5 6.2.2)."""

    explicit: bool
    order: str
    header: Any  # a Struct of an element: group, element, [VR,] length
    length: Any  # of a length of 32 bits
    item: Any  # of an item: group, element, length


def _encoding(explicit: bool, order: str) -> Encoding:
    header = Struct(order + ("HH2sH" if explicit else "HHI"))
    return Encoding(explicit, order, header, Struct(order + "I"), Struct(order + "HHI"))


IMPLICIT = _encoding(False, "<")
EXPLICIT = _encoding(True, "<")
EXPLICIT_BIG_ENDIAN = _encoding(True, ">")


def cannot_understand(why: str, *tags: int) -> StatusError:
    """The refusal of a data set that cannot be read (PS3.4 Table B.2-1)."""
    return StatusError(CANNOT_UNDERSTAND, why, tags)


class _Kind(Enum):
    DATA_SET = auto()  # the whole one, or an item
    SEQUENCE = auto()
    FRAGMENTS = auto()  # encapsulated pixel data (PS3.5 A.4)


class Item:
    """A data set that something is kept of: the whole one, or an item of a sequence in `parent`."""

    __slots__ = ("attributes", "charset", "parent")

    def __init__(self, parent: "Item | None" = None) -> None:
        self.attributes: Attributes = {}
        self.charset = ""
        self.parent = parent

    def encodings(self) -> tuple[str, ...]:
        """Those of its text: its own, or those of what it is in (PS3.3 C.12.1.1.2)."""
        item: Item | None = self
        while item is not None and not item.charset:
            item = item.parent
        return encodings_of(item.charset if item is not None else "")


class _Level:
    """A data set, sequence or pixel data that has begun and not ended.

    `end` is the position that it cannot pass; `undefined` that a delimiter ends it. Of a data set
    `wanted` elements go into `item`; of a sequence the items go into `items`, of those in `item`.
    """

    __slots__ = ("encoding", "end", "item", "items", "kind", "tag", "undefined", "wanted")

    def __init__(
        self, kind: _Kind, encoding: Encoding, tag: int, end: int, undefined: bool
    ) -> None:
        self.kind = kind
        self.encoding = encoding
        self.tag = tag
        self.end = end
        self.undefined = undefined
        self.wanted: Set[int] | range = _NOTHING
        self.item: Item | None = None
        self.items: list[Attributes] | None = None


class ElementScan:
    """Follows a data set in `encoding` and keeps its `wanted` elements.

    Of a wanted sequence all is kept but what is binary. What the bounds above leave out is no
    error. `checks` are of elements of the data set itself, which are wanted outside of the bounds:
    each is called with every value of its element, "" for one that is too long, and may raise.

    Raises `StatusError` (0xC000) for what cannot be read.
    """

    def __init__(
        self,
        encoding: Encoding,
        wanted: frozenset[int],
        checks: Mapping[int, Callable[[str], None]],
    ) -> None:
        self._root = Item()
        level = _Level(_Kind.DATA_SET, encoding, 0, _FAR, undefined=False)
        level.wanted = wanted
        level.item = self._root
        self._levels = [level]
        self._checks = checks
        self._always = checks.keys() | _CHARSET
        self._position = 0  # of the window in the data set
        self._skip = 0  # bytes to come that nobody looks at
        self._rest = bytearray()  # of an element that is cut off, until there are
        self._need = 0  # so many bytes of it
        self._tag = 0  # of the element whose value is cut off
        self._bytes = self._elements = 0  # kept
        self._undecoded: list[tuple[Item, int, str, bytes]] = []

    def feed(self, data: memoryview) -> None:
        """The next bytes."""
        position, size = self._skip, len(data)
        while position < size:
            piece = data[position : position + _WINDOW]
            position += len(piece)
            if self._rest:
                self._rest += piece
                if len(self._rest) < self._need:
                    continue
                window = bytes(self._rest)
                self._rest.clear()
            else:
                window = bytes(piece)
            read = self._read(window)
            if read < len(window):
                self._rest += window[read:]
            else:
                position += read - len(window)
        self._skip = position - size
        if not self._skip and not self._rest:
            self._tag = 0  # nothing of a value is missing

    def end(self) -> None:
        """All bytes were fed."""
        while (level := self._levels[-1]).end == self._position and not level.undefined:
            self._levels.pop()
        if self._tag:
            raise cannot_understand("the data set ends within a value (PS3.5 7.1)", self._tag)
        if len(self._levels) > 1:
            raise cannot_understand("the data set ends within a sequence (PS3.5 7.5)", level.tag)
        if bytes(self._rest) not in (b"", b"\0"):  # old writers make an odd length even by a NUL
            raise cannot_understand("the data set ends within an element (PS3.5 7.1)")

    def attributes(self) -> Attributes:
        """What was kept."""
        escapes = 0
        for item, tag, kind, raw in self._undecoded:
            encodings = item.encodings()
            escapes += raw.count(ESC)
            if escapes > MOST_ESCAPES:
                encodings = encodings[:1]
            item.attributes[tag] = text(raw, kind, encodings)
        return self._root.attributes

    def _read(self, window: bytes) -> int:
        """How many bytes of `window` need no second look; more than it has when some to come need
        none either."""
        position, size = 0, len(window)
        self._need = self._tag = 0
        while position < size and not self._need:
            level = self._levels[-1]
            limit = level.end - self._position
            if position >= limit:
                if position > limit or level.undefined:  # also when a delimiter leaves it
                    raise cannot_understand("a sequence leaves another (PS3.5 7.5)", level.tag)
                self._levels.pop()
            elif level.kind is _Kind.DATA_SET:
                position = self._read_elements(level, window, position, limit)
            else:
                position = self._read_items(level, window, position, limit)
        self._position += position
        return position

    def _read_elements(self, level: _Level, window: bytes, position: int, limit: int) -> int:
        size, wanted, explicit = len(window), level.wanted, level.encoding.explicit
        unpack = level.encoding.header.unpack_from
        stop = min(size, limit)
        vr = b""
        while position < stop:
            start = position + 8
            if start > size:
                self._need = 8
                return position
            if explicit:
                group, element, vr, length = unpack(window, position)
            else:
                group, element, length = unpack(window, position)
            tag = group << 16 | element
            if not _FIRST_GROUP <= group < _DELIMITERS:
                return self._end_item(level, tag, start)
            if explicit and vr not in SHORT_VRS:
                if not (vr.isalpha() and vr.isupper()):
                    raise cannot_understand("no VR where one must be (PS3.5 7.1.2)", tag)
                start += 4
                if start > size:
                    self._need = 12
                    return position
                (length,) = level.encoding.length.unpack_from(window, start - 4)
            end = start + length
            if length == _UNDEFINED or end > limit:
                self._open_undefined(level, tag, vr, length)
                return start
            if tag in wanted:
                if (kind := kind_of(vr, tag)) == SEQUENCE:
                    self._open(level, tag, vr, self._position + end, undefined=False)
                    return start
                if kind and not self._take(level, tag, kind, window, start, end):
                    self._need, self._tag = end - position, tag
                    return position
                wanted = level.wanted  # less, if there is no more room
            position = end
        self._tag = tag if position > size else 0
        return position

    def _take(
        self, level: _Level, tag: int, kind: str, window: bytes, start: int, end: int
    ) -> bool:
        """The value of a wanted element; False when `window` has not all of it."""
        if end - start > LONGEST_VALUE:
            if level.item is self._root and (check := self._checks.get(tag)):
                check("")
        elif end > len(window):
            return False
        else:
            self._keep(level, tag, kind, window[start:end])
        return True

    def _open_undefined(self, level: _Level, tag: int, vr: bytes, length: int) -> None:
        if length != _UNDEFINED:
            raise cannot_understand("an element leaves its sequence (PS3.5 7.5)", tag)
        self._open(level, tag, vr, level.end, undefined=True)

    def _end_item(self, level: _Level, tag: int, position: int) -> int:
        """Behind the header of an element of a group that no data set has (PS3.5 7.1, 7.5)."""
        if tag != _END_OF_ITEM or level.kind is not _Kind.DATA_SET or not level.undefined:
            raise cannot_understand("not allowed here (PS3.5 7.1, 7.5)", tag)
        self._levels.pop()
        return position

    def _read_items(self, level: _Level, window: bytes, position: int, limit: int) -> int:
        size = len(window)
        stop = min(size, limit)
        while position < stop:
            start = position + 8
            if start > size:
                self._need = 8
                return position
            group, element, length = level.encoding.item.unpack_from(window, position)
            tag = group << 16 | element
            if tag == _END_OF_SEQUENCE and level.undefined:
                self._levels.pop()
                return start
            undefined = length == _UNDEFINED
            end = limit if undefined else start + length
            if tag != _ITEM or end > limit or (undefined and level.kind is _Kind.FRAGMENTS):
                raise cannot_understand("no item where one must be (PS3.5 7.5)", level.tag)
            if undefined or level.items is not None:
                self._open_item(level, self._position + end, undefined)
                return start
            position = end
        if position > size:
            self._tag = level.tag
        return position

    def _open(self, level: _Level, tag: int, vr: bytes, end: int, *, undefined: bool) -> None:
        """A sequence, or the fragments of encapsulated pixel data, in the data set `level`."""
        fragments = tag == _PIXEL_DATA or vr in BYTES_VRS
        encoding = IMPLICIT if vr == b"UN" else level.encoding
        kind = _Kind.FRAGMENTS if fragments else _Kind.SEQUENCE
        inner = _Level(kind, encoding, tag, end, undefined)
        if len(self._levels) // 2 >= DEPTH:  # each is followed by an item
            raise cannot_understand("sequences in sequences, 64 are the most", tag)
        wanted = tag in level.wanted and kind_of(vr, tag) == SEQUENCE
        if wanted and level.item is not None and self._room(level, 0):
            inner.item, inner.items = level.item, []
            level.item.attributes[tag] = inner.items
        self._levels.append(inner)

    def _open_item(self, level: _Level, end: int, undefined: bool) -> None:
        inner = _Level(_Kind.DATA_SET, level.encoding, level.tag, end, undefined)
        if level.items is not None and self._room(level, 0):
            inner.item, inner.wanted = Item(level.item), _EVERYTHING
            level.items.append(inner.item.attributes)
        self._levels.append(inner)

    def _room(self, level: _Level, length: int) -> bool:
        """Whether `level` may keep one more, of `length` bytes; else it looks for no more."""
        self._elements += 1
        self._bytes += length
        if self._elements <= MOST_ELEMENTS and self._bytes <= MOST_BYTES:
            return True
        level.wanted = self._always if level.item is self._root else _CHARSET
        level.items = None
        return False

    def _keep(self, level: _Level, tag: int, kind: str, raw: bytes) -> None:
        item = level.item
        assert item is not None
        if kind in NUMBER_VRS:
            value, decoded = number(raw, kind, level.encoding.order), True
        else:
            value = tidy(raw.decode("ascii", "replace"), kind)
            decoded = raw.isascii() and ESC not in raw
        if item is self._root and tag in self._checks:
            self._checks[tag](value)
        elif tag == SPECIFIC_CHARACTER_SET:
            item.charset = value = value[:_LONGEST_CHARSET]
            if item is not self._root:  # the text of the items is decoded, so it says nothing more
                return
        elif not self._room(level, len(raw)):
            return
        elif not decoded:
            self._undecoded.append((item, tag, kind, raw))
        item.attributes[tag] = value
