"""Messages on their way out: one after the other, in pieces, as the transport takes them."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from dimse.errors import DimseError
from dimse.ul.pdu import COMMAND_BIT
from dimse.ul.pdv import cut

# About what one write holds of a data set. A message that fits goes out in one write, so that
# neither Nagle's algorithm nor a delayed ACK can come between its parts.
WRITE_SIZE = 256 * 1024


class Source(Protocol):
    """Where the data set of a message comes from: `length` bytes, read front to back."""

    @property
    def length(self) -> int:
        """Bytes in all."""

    def read(self, count: int) -> bytes | memoryview:
        """The next `count` bytes; fewer than that, or an `OSError`, ends the association."""


class Whole:
    """A data set in memory as a `Source`; an odd one gets a zero byte behind it (PS3.5 A.5).

    Raises `TypeError` for what is no bytes.
    """

    __slots__ = ("_data", "_position", "length")

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data + b"\0" if len(data) % 2 else data)
        self._position = 0
        self.length = len(self._data)

    def read(self, count: int) -> memoryview:
        """The next `count` bytes."""
        start, self._position = self._position, self._position + count
        return self._data[start : self._position]


class OutgoingMessage:
    """A command set and its data set; `begun` tells whether the peer has a part of it."""

    def __init__(
        self,
        context_id: int,
        command: bytes,
        source: Source | None,
        fragment: int,
        sent: Callable[[], None],
        failed: Callable[[DimseError], None],
    ) -> None:
        self.begun = False
        self.sent = sent
        self.failed = failed
        self._context_id = context_id
        self._command = command
        self._source = source
        self._fragment = fragment
        self._left = source.length if source is not None else 0

    @property
    def complete(self) -> bool:
        """Whether nothing is left to send."""
        return self.begun and not self._left

    def end_early(self) -> None:
        """End with the next piece: the performer has failed already (PS3.7 9.3.1.3)."""
        self._left = min(self._left, self._fragment)

    def next_piece(self) -> bytes:
        """The PDUs of the next write; raises `DimseError` when the source fails."""
        pieces: list[bytes | memoryview] = []
        if not self.begun:
            pieces += cut(self._context_id, COMMAND_BIT, self._command, self._fragment, last=True)
        if self._source is not None:
            whole = max(WRITE_SIZE // self._fragment, 1) * self._fragment
            data = self._read(min(self._left, whole))
            self._left -= len(data)
            pieces += cut(self._context_id, 0, data, self._fragment, last=not self._left)
        self.begun = True
        return b"".join(pieces)

    def _read(self, count: int) -> bytes | memoryview:
        assert self._source is not None
        try:
            data = self._source.read(count)
        except Exception as error:  # of a file, a source of the user's, or its progress callback
            why = error.strerror if isinstance(error, OSError) else type(error).__name__
            raise DimseError(f"the data set cannot be read: {why}") from error
        if len(data) != count:
            raise DimseError(f"the data set ended {count - len(data)} bytes early")
        return data


class Outbox:
    """The messages that wait to be sent, in fragments of `fragment` bytes.

    `write(data)` hands PDUs to the transport, `has_enough()` tells whether it wants no more, and
    `broken(error)` is told when a message that the peer has a part of cannot be completed.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        has_enough: Callable[[], bool],
        broken: Callable[[DimseError], None],
        fragment: int,
    ) -> None:
        self._write = write
        self._has_enough = has_enough
        self._broken = broken
        self._fragment = fragment
        self._messages: deque[OutgoingMessage] = deque()
        self._pumping = False

    @property
    def clogged(self) -> bool:
        """Whether what was sent is not read, and none of our own messages is the reason."""
        return not self._messages and self._has_enough()

    def send(
        self,
        context_id: int,
        command: bytes,
        source: Source | None,
        *,
        sent: Callable[[], None],
        failed: Callable[[DimseError], None],
    ) -> OutgoingMessage:
        """Send a message after those before it.

        `sent()` is called when its last piece was handed over, `failed(error)` instead when its
        source fails before the first.
        """
        message = OutgoingMessage(context_id, command, source, self._fragment, sent, failed)
        self._messages.append(message)
        self.pump()
        return message

    def discard(self, message: OutgoingMessage) -> bool:
        """Take back a message of which nothing was sent; returns whether that was possible."""
        if message.begun or message not in self._messages:
            return False
        self._messages.remove(message)
        return True

    def clear(self) -> None:
        """The association is over."""
        self._messages.clear()

    def pump(self) -> None:
        """Write until the transport has enough; called again when it has room."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._messages and not self._has_enough():
                self._send_piece(self._messages[0])
        finally:
            self._pumping = False

    def _send_piece(self, message: OutgoingMessage) -> None:
        try:
            piece = message.next_piece()
        except DimseError as error:
            self._messages.popleft()
            if message.begun:
                self._broken(error)
            else:
                message.failed(error)
            return
        if not self._messages or self._messages[0] is not message:
            return  # taken back, or the association ended, while its source was read
        self._write(piece)
        if message.complete and self._messages:  # the write may have ended the association
            self._messages.popleft()
            message.sent()
