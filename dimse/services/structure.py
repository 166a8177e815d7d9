"""The structure of an encoded data set, looked at before objects are made of it (PS3.5 7).

pydicom takes what ends early as it is, guesses another VR encoding, recurses with each nested
sequence, and works for as long as there are elements. A peer must not decide any of that.
"""

from dataclasses import dataclass
from struct import Struct

from pydicom._dicom_dict import DicomDictionary
from pydicom.valuerep import VR

DEEPEST = 64  # sequences in sequences; the deepest of the standard are below 10

# Items and elements together; a commitment request for 100,000 instances has 300,000.
MOST = 400_000

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV"))
_LONG |= frozenset((b"UC", b"UN", b"UR", b"UT", b"UV"))  # 32 bits of length (PS3.5 7.1.2)

# pydicom raises an error of its own for the value of another one, once that is looked at; it has
# names of several in one, too.
_KNOWN = frozenset(vr.encode() for vr in VR if len(vr) == 2)

_SEQUENCES = frozenset(tag for tag, (vr, *_) in DicomDictionary.items() if vr == "SQ")


@dataclass(frozen=True, slots=True)
class _Level:
    """A sequence or an item (or the whole); without `end` it ends with a delimiter."""

    end: int | None
    most: int  # where it has ended in any case
    implicit: bool
    is_sequence: bool


class _Scan:
    def __init__(
        self, data: bytes, most: int, *, little_endian: bool, encapsulated: bool, any_vr: bool
    ) -> None:
        order = "<" if little_endian else ">"
        self._tag = Struct(order + "HH")
        self._short = Struct(order + "H")
        self._length = Struct(order + "I")
        self._item = self._tag.pack(_ITEM >> 16, _ITEM & 0xFFFF)
        self._data = data
        self._most = most
        self._encapsulated = encapsulated
        self._any_vr = any_vr
        self._position = 0
        self._levels: list[_Level] = []
        self._count = 0

    def run(self, *, implicit: bool) -> None:
        """Look at all of it, iteratively."""
        size = len(self._data)
        self._levels.append(_Level(size, size, implicit, is_sequence=False))
        while self._levels:
            level = self._levels[-1]
            if self._position == level.end:
                self._levels.pop()
            elif level.is_sequence:
                self._next_item(level)
            else:
                self._next_element(level)

    def _take(self, level: _Level, count: int) -> bytes:
        start, self._position = self._position, self._position + count
        if self._position > level.most:
            raise ValueError("it ends inside an element")
        return self._data[start : self._position]

    def _header(self, level: _Level) -> tuple[int, bytes]:
        self._count += 1
        if self._count > self._most:
            raise ValueError(f"more than {self._most} elements")
        header = self._take(level, 8)
        group, number = self._tag.unpack_from(header)
        return group << 16 | number, header

    def _next_item(self, level: _Level) -> None:
        tag, header = self._header(level)
        (length,) = self._length.unpack_from(header, 4)
        if tag == _SEQUENCE_END and level.end is None and not length:
            self._levels.pop()
        elif tag == _ITEM:
            self._enter(level, length, level.implicit, is_sequence=False)
        else:
            raise ValueError("a sequence with something else than items (PS3.5 7.5)")

    def _next_element(self, level: _Level) -> None:
        tag, header = self._header(level)
        if tag == _ITEM_END and level.end is None:
            self._levels.pop()
            return
        if tag >> 16 == 0xFFFE:
            raise ValueError("an item outside of a sequence (PS3.5 7.5)")
        vr, length = self._vr_and_length(level, tag, header)
        # What is UN to its sender is in implicit VR, if it is a sequence (PS3.5 6.2.2).
        implicit = level.implicit or vr == b"UN"
        if vr == b"SQ" or (implicit and self._is_sequence(tag, length)):
            self._enter(level, length, implicit, is_sequence=True)
        elif length != _UNDEFINED:
            self._position += length  # behind the end, nothing can be taken any more
        elif self._encapsulated and vr in (b"OB", b"OW"):
            self._skip_fragments(level)
        else:
            raise ValueError("an element without end (PS3.5 7.1)")

    def _skip_fragments(self, level: _Level) -> None:
        """Of encapsulated pixel data (PS3.5 A.4)."""
        while True:
            tag, header = self._header(level)
            (length,) = self._length.unpack_from(header, 4)
            if tag == _SEQUENCE_END and not length:
                return
            if tag != _ITEM or length == _UNDEFINED:
                raise ValueError("pixel data with something else than fragments (PS3.5 A.4)")
            self._position += length

    def _vr_and_length(self, level: _Level, tag: int, header: bytes) -> tuple[bytes, int]:
        if level.implicit:
            return b"", int(self._length.unpack_from(header, 4)[0])
        vr = header[4:6]
        if vr not in _KNOWN and not (self._any_vr and vr.isalpha() and vr.isupper()):
            raise ValueError(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) has an unknown VR (PS3.5 6.2)")
        if vr in _LONG:
            return vr, int(self._length.unpack(self._take(level, 4))[0])
        return vr, int(self._short.unpack_from(header, 6)[0])

    def _is_sequence(self, tag: int, length: int) -> bool:
        """Whether pydicom may take the value for items: by its tag, or by what it looks like."""
        if length == _UNDEFINED or self._data.startswith(self._item, self._position):
            return True
        return bool(length) and tag in _SEQUENCES

    def _enter(self, level: _Level, length: int, implicit: bool, *, is_sequence: bool) -> None:
        end = None if length == _UNDEFINED else self._position + length
        if end is not None and end > level.most:
            raise ValueError("a sequence ends behind its data set (PS3.5 7.5)")
        if len(self._levels) > 2 * DEEPEST:
            raise ValueError(f"sequences are nested deeper than {DEEPEST}")
        most = level.most if end is None else end
        self._levels.append(_Level(end, most, implicit, is_sequence))


def check_structure(
    data: bytes,
    *,
    implicit: bool,
    little_endian: bool,
    most: int = MOST,
    encapsulated: bool = False,
    any_vr: bool = False,
) -> None:
    """Raise `ValueError` for what is no data set, has too many elements or nests too deep.

    `most` items and elements may be in it, and, if it may be `encapsulated`, pixel data in
    fragments, and with `any_vr` also what looks like a VR of a later standard. Values are not
    looked at, and the text of the error names none (PS3.5 7.1, 7.5).
    """
    scan = _Scan(data, most, little_endian=little_endian, encapsulated=encapsulated, any_vr=any_vr)
    scan.run(implicit=implicit)
