"""Bytes to PDUs (PS3.8 9.3.1): a PDU is refused on its 6-byte header, and bodies are bounded."""

from collections.abc import Callable
from struct import Struct

HEADER = Struct(">BxI")
"""PDU-type, a reserved byte that is never tested, PDU-length."""

HEADER_LENGTH = HEADER.size
_NOTHING = memoryview(b"")


class Framer:
    """Cuts a stream into PDUs without ever holding more than one.

    `admit(pdu_type, length)` sees each header as soon as it is complete. It returns whether the
    body is wanted, or raises a `ProtocolError`; then nothing of that body is kept. An unwanted
    body is skipped as it arrives, however long it says it is.
    """

    __slots__ = ("_admit", "_chunk", "_need", "_partial", "_position", "_skip", "_type")

    def __init__(self, admit: Callable[[int, int], bool]) -> None:
        self._admit = admit
        self._chunk = _NOTHING  # what the transport gave last
        self._position = 0  # of the first byte of it not yet used
        self._partial = bytearray()  # the beginning of a PDU whose end has not come
        self._need = 0  # its whole length, once its header was admitted
        self._type = 0
        self._skip = 0  # bytes of an unwanted body still to come

    @property
    def incomplete(self) -> bool:
        """Whether the peer is in the middle of a PDU."""
        return bool(self._partial) or self._skip > 0

    def feed(self, data: bytes) -> None:
        """Take what the transport received; it is kept until `next_pdu` has used it up."""
        rest = self._chunk[self._position :]
        # A rest exists only when reading was paused with bytes at hand, so this copy is rare.
        self._chunk = memoryview(bytes(rest) + data if rest else data)
        self._position = 0

    def next_pdu(self) -> tuple[int, memoryview] | None:
        """The type and body of the next PDU, or None when more bytes are needed.

        The body is a view of a buffer of ours and stays valid as long as it is held. An unwanted
        body is reported empty. Raises what `admit` raises.
        """
        if self._skip:
            skipped = min(self._skip, len(self._chunk) - self._position)
            self._position += skipped
            self._skip -= skipped
            if self._skip:
                self._chunk, self._position = _NOTHING, 0
                return None
        if self._partial:
            return self._complete()
        start = self._position
        if len(self._chunk) - start >= HEADER_LENGTH:
            pdu_type, length = HEADER.unpack_from(self._chunk, start)
            body = start + HEADER_LENGTH
            if not self._admit(pdu_type, length):
                self._position = body
                self._skip = length
                return pdu_type, _NOTHING
            if len(self._chunk) - body >= length:
                self._position = body + length
                return pdu_type, self._chunk[body : body + length]
            self._type, self._need = pdu_type, HEADER_LENGTH + length
        self._take(self._need or HEADER_LENGTH)
        return None

    def _take(self, upto: int) -> bool:
        """Move bytes into the partial PDU until it has `upto`; returns whether it has."""
        missing = upto - len(self._partial)
        self._partial += self._chunk[self._position : self._position + missing]
        self._position += missing
        if self._position >= len(self._chunk):  # an idle association keeps no buffer
            self._chunk, self._position = _NOTHING, 0
        return len(self._partial) == upto

    def _complete(self) -> tuple[int, memoryview] | None:
        if not self._need:
            if not self._take(HEADER_LENGTH):
                return None
            self._type, length = HEADER.unpack_from(self._partial)
            if not self._admit(self._type, length):
                self._partial = bytearray()
                self._skip = length
                return self._type, _NOTHING
            self._need = HEADER_LENGTH + length
        if not self._take(self._need):
            return None
        body = memoryview(self._partial)[HEADER_LENGTH:]
        self._partial = bytearray()
        self._need = 0
        return self._type, body
