"""The attributes that the index needs, from a data set as it passes (PS3.5 7)."""

import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from dimse.archive.attributes import Attributes
from dimse.archive.elements import (
    EXPLICIT,
    EXPLICIT_BIG_ENDIAN,
    IMPLICIT,
    SPECIFIC_CHARACTER_SET,
    ElementScan,
    Encoding,
    cannot_understand,
)
from dimse.errors import StatusError
from dimse.message.status import DATA_SET_MISMATCH
from dimse.sop_classes import service_of
from dimse.uids import is_uid

if TYPE_CHECKING:
    from dimse.services.storage import ReceivedInstance

_SOP_CLASS = 0x00080016
_SOP_INSTANCE = 0x00080018
_STUDY = 0x0020000D
_SERIES = 0x0020000E
_OF_ALL = (_SOP_CLASS, _SOP_INSTANCE)
_OF_PATIENTS = (_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES)
_NON_PATIENT = "Non-Patient Object Storage"
_READ_ANYWAY = frozenset((SPECIFIC_CHARACTER_SET, *_OF_PATIENTS))

# Every other transfer syntax is explicit VR little endian (PS3.5 10, A.4), private ones too.
_ENCODINGS: Mapping[str, Encoding] = {
    ImplicitVRLittleEndian: IMPLICIT,
    ExplicitVRBigEndian: EXPLICIT_BIG_ENDIAN,
}

INFLATED = 4 * 1024 * 1024
"""Bytes of a deflated data set that are looked at: if all are empty elements, for 0.2 seconds."""

_DEFLATED_PIECE = 4 * 1024  # zlib copies what it leaves of its input, again and again
_TRAILER = 9  # bytes behind it: that of gzip, which some writers leave there, and one of padding
_INFLATED_PIECE = 64 * 1024  # what a piece may become at a time: in memory, and no more


class HeaderScan:
    """Follows the data set of one C-STORE, and keeps the `wanted` attributes (PS3.4 B.4.1).

    Each fragment goes to `feed`, then `finish` gives what was wanted: text without padding, and
    of a sequence all that is not binary. What the bounds of `dimse.archive.elements` leave out, and
    what is a sequence where the dictionary has none, is not there. The order of the tags does not
    matter; of an element that comes twice, the last value counts.

    Of a deflated data set no more than `INFLATED` bytes are looked at, and what comes later is
    taken unseen; sequences that are not wanted are skipped unseen where they have a length.

    Raises `StatusError`, from `feed` as soon as it is certain: 0xA900 when the data set is not of
    the SOP class or instance that the command says; 0xC000 when it cannot be read, is cut off, or
    is without a valid UID of itself, its study or its series. Non-patient objects (PS3.4 GG) have
    no study and series.
    """

    def __init__(self, instance: "ReceivedInstance", wanted: frozenset[int]) -> None:
        syntax = instance.transfer_syntax
        non_patient = service_of(instance.sop_class_uid) == _NON_PATIENT
        self._required = _OF_ALL if non_patient else _OF_PATIENTS
        self._wanted = wanted
        self._scan = ElementScan(
            _ENCODINGS.get(syntax, EXPLICIT),
            _with_what_is_read_anyway(wanted),
            {
                _SOP_CLASS: partial(_check_same, _SOP_CLASS, instance.sop_class_uid),
                _SOP_INSTANCE: partial(_check_same, _SOP_INSTANCE, instance.sop_instance_uid),
                **(_NO_CHECKS if non_patient else _PATIENT_CHECKS),
            },
        )
        deflated = syntax == DeflatedExplicitVRLittleEndian
        self._inflation = _Inflation(self._scan.feed) if deflated else None

    def feed(self, data: bytes | memoryview) -> None:
        """The next bytes of the data set, valid during the call."""
        (self._inflation or self._scan).feed(memoryview(data))

    def finish(self) -> Attributes:
        """The attributes that were wanted, of the data set that is now complete."""
        if self._inflation is None or self._inflation.end():
            self._scan.end()
        attributes = self._scan.attributes()
        missing = [tag for tag in self._required if tag not in attributes]
        if missing:
            raise cannot_understand("UIDs are missing (PS3.3 C.12.1)", *missing)
        for tag in _READ_ANYWAY - self._wanted:
            attributes.pop(tag, None)
        return attributes


class _Inflation:
    """Gives a deflated data set (PS3.5 A.5) to `feed_inflated`, as far as it is looked at."""

    def __init__(self, feed_inflated: Callable[[memoryview], None]) -> None:
        self._feed_inflated = feed_inflated
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._left = INFLATED
        self._behind = 0

    def feed(self, data: memoryview) -> None:
        """The next bytes."""
        for start in range(0, len(data), _DEFLATED_PIECE):
            if not self._left:
                return
            piece = bytes(data[start : start + _DEFLATED_PIECE])
            if self._inflate.eof:
                self._behind += len(piece)
            else:
                self._feed_piece(piece)
                self._behind = len(self._inflate.unused_data)
            if self._behind > _TRAILER:
                raise cannot_understand("more than a deflated data set (PS3.5 A.5)")

    def _feed_piece(self, piece: bytes) -> None:
        while self._left and not self._inflate.eof:  # zlib goes on for ever with what is behind it
            most = min(self._left, _INFLATED_PIECE)
            try:
                inflated = self._inflate.decompress(piece, most)
            except zlib.error as error:
                raise cannot_understand("the data set is not deflated (PS3.5 A.5)") from error
            self._left -= len(inflated)
            self._feed_inflated(memoryview(inflated))
            piece = self._inflate.unconsumed_tail
            if not piece and len(inflated) < most:  # else zlib may hold more of it
                return

    def end(self) -> bool:
        """Whether all of it was looked at."""
        if self._left and not self._inflate.eof:
            raise cannot_understand("the deflated data set is cut off (PS3.5 A.5)")
        return self._left > 0


@lru_cache(8)  # a server has one set
def _with_what_is_read_anyway(wanted: frozenset[int]) -> frozenset[int]:
    return wanted | _READ_ANYWAY


def _check_same(tag: int, expected: str, uid: str) -> None:
    """A UID that the command has too; `expected` was judged when it came."""
    if uid != expected.rstrip("\0 "):
        _check(tag, uid)
        raise StatusError(DATA_SET_MISMATCH, "not what the C-STORE-RQ says (PS3.4 B.2.3)", (tag,))


def _check(tag: int, uid: str) -> None:
    if not is_uid(uid):
        raise cannot_understand("not a UID (PS3.5 9.1)", tag)


_PATIENT_CHECKS: Mapping[int, Callable[[str], None]] = {
    tag: partial(_check, tag) for tag in (_STUDY, _SERIES)
}
_NO_CHECKS: Mapping[int, Callable[[str], None]] = {}
