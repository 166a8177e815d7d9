"""Messages to and from P-DATA-TF PDUs (PS3.8 9.3.5, Annex E)."""

from collections.abc import Container
from typing import Protocol

from dimse.errors import ProtocolError
from dimse.ul.pdu import (
    COMMAND_BIT,
    LAST_BIT,
    PDV,
    PDV_OVERHEAD,
    PDataTF,
    p_data_header,
)


def fragment_length(maximum_length: int) -> int:
    """The longest fragment, of even length, in a PDU of `maximum_length` bytes (PS3.8 E.1)."""
    return (maximum_length - PDV_OVERHEAD) & ~1


def cut(
    context_id: int, control: int, data: bytes | memoryview, fragment: int, *, last: bool
) -> list[bytes | memoryview]:
    """The pieces to write for a part of a command set or data set, each fragment in its own PDU.

    `control` is `COMMAND_BIT` or 0. `data` is cut every `fragment` bytes; `last` says that
    nothing comes behind it.
    """
    view = memoryview(data)
    pieces: list[bytes | memoryview] = []
    for start in range(0, len(view) or 1, fragment):
        piece = view[start : start + fragment]
        at_end = last and start + fragment >= len(view)
        header = p_data_header(context_id, control | (LAST_BIT if at_end else 0), len(piece))
        pieces += (header, piece)
    return pieces


class MessageUser(Protocol):
    """Who gets the messages that a `MessageReader` follows."""

    def command_received(self, context_id: int, command: bytes) -> bool:
        """A whole command set came; returns whether it says that a data set follows."""

    def data_received(self, fragment: memoryview) -> None:
        """A fragment of the data set, valid only during the call."""

    def data_ended(self) -> None:
        """The data set is complete."""


class MessageReader:
    """Follows the fragments of one message after the other (PS3.8 E.1, E.2).

    Fragments of odd length are taken, for nothing is lost by it; everything else that Annex E
    forbids is a `ProtocolError`. `contexts` are the ids of the accepted contexts.
    """

    __slots__ = (
        "_command",
        "_command_length",
        "_context_id",
        "_contexts",
        "_data_length",
        "_empty",
        "_empty_fragments",
        "_held",
        "_length",
        "_user",
    )

    def __init__(
        self,
        user: MessageUser,
        contexts: Container[int],
        *,
        command_length: int,
        data_length: int,
        empty_fragments: int,
    ) -> None:
        self._user = user
        self._contexts = contexts
        self._command_length = command_length
        self._data_length = data_length
        self._empty_fragments = empty_fragments
        self._context_id = 0  # of the message under way, 0 between two messages
        self._command: bytearray | None = None  # None while a data set comes
        self._length = 0  # of the data set so far
        self._empty = 0  # fragments without data in a row
        self._held: list[PDV] | None = None  # what came since `hold`

    @property
    def incomplete(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._context_id != 0

    def receive(self, data: PDataTF) -> None:
        """The PDVs of a P-DATA-TF, in order."""
        for pdv in data.pdvs:
            if self._held is None:
                self._follow(pdv)
            else:  # its bytes may not stay valid
                self._held.append(pdv._replace(fragment=bytes(pdv.fragment)))

    def hold(self) -> None:
        """Keep what comes until `go_on`: the rest of a PDU whose first message has to wait."""
        self._held = []

    def go_on(self) -> None:
        """Follow what was held; that may lead to the next `hold`."""
        held, self._held = self._held or [], None
        self.receive(PDataTF(tuple(held)))

    def _follow(self, pdv: PDV) -> None:
        self._check(pdv)
        if pdv.control & COMMAND_BIT:
            self._receive_command(pdv)
        else:
            self._receive_data(pdv)

    def _check(self, pdv: PDV) -> None:
        if self._context_id == 0:
            if pdv.context_id not in self._contexts:
                raise ProtocolError(f"context {pdv.context_id} was not accepted (PS3.8 9.3.5.1)")
            self._context_id = pdv.context_id
            self._command = bytearray()
        elif pdv.context_id != self._context_id:
            raise ProtocolError(
                f"context {pdv.context_id} inside a message of {self._context_id} (PS3.8 E.1)"
            )
        if len(pdv.fragment) or pdv.control & LAST_BIT:
            self._empty = 0
            return
        self._empty += 1
        if self._empty > self._empty_fragments:
            raise ProtocolError(f"{self._empty} fragments without data in a row (PS3.8 E.1)")

    def _receive_command(self, pdv: PDV) -> None:
        if self._command is None:
            raise ProtocolError("a command inside a data set (PS3.8 E.1)")
        self._command += pdv.fragment
        if len(self._command) > self._command_length:
            raise ProtocolError(f"a command set above {self._command_length} bytes (PS3.7 6.3.1)")
        if pdv.control & LAST_BIT:
            command, self._command = bytes(self._command), None
            if not self._user.command_received(self._context_id, command):
                self._context_id = 0

    def _receive_data(self, pdv: PDV) -> None:
        if self._command is not None:
            raise ProtocolError("a data set without its command (PS3.8 E.1)")
        fragment = memoryview(pdv.fragment)
        self._length += len(fragment)
        if self._length > self._data_length:
            raise ProtocolError(f"a data set above {self._data_length} bytes")
        if fragment:
            self._user.data_received(fragment)
        if pdv.control & LAST_BIT:
            self._context_id = self._length = 0
            self._user.data_ended()
