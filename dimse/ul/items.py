"""Items 10H to 59H of the A-ASSOCIATE PDUs (PS3.8 9.3.2, 9.3.3, D.1; PS3.7 D.3.3).

Every item is a frozen dataclass with its `ITEM_TYPE`, `encode()` to the whole item, and
`decode(body)` from the bytes behind its 4-byte header. A decoder reads inside its window only:
a length that leaves it is a `ProtocolError`. Reserved bytes are sent as zero and never tested.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import ClassVar, Self, TypeVar

from dimse.errors import AbortReason, MisuseError, ProtocolError

_T = TypeVar("_T")

_ITEM = Struct(">BxH")
_U16 = Struct(">H")
_U32 = Struct(">I")
_WINDOW = Struct(">HH")
_CONTEXT_HEADER = Struct(">BxBx")
_IDENTITY_HEADER = Struct(">BB")

# So many and one are kept of a context: enough to see that they are too many (four times what
# `Limits` takes), and 128 contexts full of short names cannot become ten times their size.
_TRANSFER_SYNTAXES = 256
_PADDING = "\0 "  # no padding is allowed here (PS3.8 F.1), yet the field sends both


def encode_item(item_type: int, body: bytes) -> bytes:
    """An item: type, reserved byte, 16-bit length, body (PS3.8 9.3.2.1)."""
    if len(body) > 0xFFFF:
        raise MisuseError(f"item {item_type:02X}H of {len(body)} bytes does not fit 65535")
    return _ITEM.pack(item_type, len(body)) + body


def split_items(window: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The (type, body) of each item in `window`, which they must fill exactly."""
    position, end = 0, len(window)
    while position < end:
        if end - position < _ITEM.size:
            raise ProtocolError(f"{end - position} stray bytes behind the last item (PS3.8 9.3.1)")
        item_type, length = _ITEM.unpack_from(window, position)
        position += _ITEM.size
        if length > end - position:
            raise ProtocolError(
                f"item {item_type:02X}H says {length} bytes, {end - position} are left (PS3.8 9.3)"
            )
        yield item_type, window[position : position + length]
        position += length


class _Reader:
    """Takes fields off the front of one item; never past its end."""

    __slots__ = ("_item", "_rest")

    def __init__(self, item: str, body: memoryview) -> None:
        self._item = item
        self._rest = body

    def take(self, count: int) -> memoryview:
        if count > len(self._rest):
            raise ProtocolError(f"{self._item}: a field overruns the item (PS3.8 9.3)")
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def unpack(self, fields: Struct) -> tuple[int, ...]:
        return fields.unpack(self.take(fields.size))

    def field(self) -> memoryview:
        """A field behind its own 16-bit length."""
        return self.take(*self.unpack(_U16))

    def rest(self) -> memoryview:
        return self.take(len(self._rest))

    def end(self) -> None:
        if self._rest:
            raise ProtocolError(f"{self._item}: {len(self._rest)} bytes too many (PS3.8 9.3)")

    def __bool__(self) -> bool:
        return bool(self._rest)


def decode_uid(body: memoryview) -> str:
    """A UID as text; what is no valid UID stays text too and is refused by negotiation."""
    return str(body, "latin-1").rstrip(_PADDING)


def _encode_text(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise MisuseError(f"{text!r} has characters that PS3.8 9.3 cannot carry") from None


def _field(body: bytes) -> bytes:
    if len(body) > 0xFFFF:
        raise MisuseError(f"a field of {len(body)} bytes does not fit 65535")
    return _U16.pack(len(body)) + body


@dataclass(frozen=True, slots=True)
class PresentationContextRQ:
    """A proposed presentation context (PS3.8 9.3.2.2): an odd id, one abstract syntax, its
    transfer syntaxes in the order of the requestor."""

    ITEM_TYPE: ClassVar[int] = 0x20
    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]

    def encode(self) -> bytes:
        """The whole item."""
        syntaxes = [encode_item(0x30, _encode_text(self.abstract_syntax))]
        syntaxes += [encode_item(0x40, _encode_text(uid)) for uid in self.transfer_syntaxes]
        header = _CONTEXT_HEADER.pack(self.context_id, 0)
        return encode_item(self.ITEM_TYPE, header + b"".join(syntaxes))

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From the body; exactly one abstract syntax, an odd id, any number of others."""
        reader = _Reader("presentation context item", body)
        context_id, _ = reader.unpack(_CONTEXT_HEADER)
        if not context_id % 2:
            raise ProtocolError(f"presentation context id {context_id} is not odd (PS3.8 9.3.2.2)")
        abstract: list[str] = []
        transfer: list[str] = []
        for item_type, sub_item in split_items(reader.rest()):
            if item_type == 0x30:
                abstract.append(decode_uid(sub_item))
            elif item_type == 0x40 and len(transfer) <= _TRANSFER_SYNTAXES:
                transfer.append(decode_uid(sub_item))
        if len(abstract) != 1:
            raise ProtocolError(
                f"context {context_id} has {len(abstract)} abstract syntaxes (PS3.8 9.3.2.2)"
            )
        return cls(context_id, abstract[0], tuple(transfer))


@dataclass(frozen=True, slots=True)
class PresentationContextAC:
    """The answer to a proposed context (PS3.8 9.3.3.2): a result of 0 to 4, and the transfer
    syntax, significant only with result 0."""

    ITEM_TYPE: ClassVar[int] = 0x21
    context_id: int
    result: int
    transfer_syntax: str = ""

    def encode(self) -> bytes:
        """The whole item."""
        syntax = encode_item(0x40, _encode_text(self.transfer_syntax))
        return encode_item(
            self.ITEM_TYPE, _CONTEXT_HEADER.pack(self.context_id, self.result) + syntax
        )

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From the body; without a transfer syntax the text is empty."""
        reader = _Reader("presentation context item", body)
        context_id, result = reader.unpack(_CONTEXT_HEADER)
        syntaxes = [decode_uid(sub) for kind, sub in split_items(reader.rest()) if kind == 0x40]
        if result == 0 and len(syntaxes) != 1:
            raise ProtocolError(
                f"context {context_id} accepted with {len(syntaxes)} transfer syntaxes "
                "(PS3.8 9.3.3.2)"
            )
        return cls(context_id, result, syntaxes[0] if syntaxes else "")


@dataclass(frozen=True, slots=True)
class MaximumLength:
    """The longest P-DATA-TF that the sender of this takes; 0 is no limit (PS3.8 D.1)."""

    ITEM_TYPE: ClassVar[int] = 0x51
    length: int

    def encode(self) -> bytes:
        """The whole sub-item."""
        return encode_item(self.ITEM_TYPE, _U32.pack(self.length))

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From exactly four bytes."""
        reader = _Reader("maximum length sub-item", body)
        (length,) = reader.unpack(_U32)
        reader.end()
        return cls(length)


@dataclass(frozen=True, slots=True)
class ImplementationClassUID:
    """The UID of the implementation (PS3.7 D.3.3.2)."""

    ITEM_TYPE: ClassVar[int] = 0x52
    uid: str

    def encode(self) -> bytes:
        """The whole sub-item."""
        return encode_item(self.ITEM_TYPE, _encode_text(self.uid))

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From the UID."""
        return cls(decode_uid(body))


@dataclass(frozen=True, slots=True)
class AsynchronousOperationsWindow:
    """Outstanding operations invoked and performed by the requestor; 0 is unlimited
    (PS3.7 D.3.3.3)."""

    ITEM_TYPE: ClassVar[int] = 0x53
    invoked: int
    performed: int

    def encode(self) -> bytes:
        """The whole sub-item."""
        return encode_item(self.ITEM_TYPE, _WINDOW.pack(self.invoked, self.performed))

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From exactly four bytes."""
        reader = _Reader("asynchronous operations window sub-item", body)
        invoked, performed = reader.unpack(_WINDOW)
        reader.end()
        return cls(invoked, performed)


@dataclass(frozen=True, slots=True)
class RoleSelection:
    """Which roles the requestor supports, or the acceptor agrees to, for a SOP class
    (PS3.7 D.3.3.4)."""

    ITEM_TYPE: ClassVar[int] = 0x54
    sop_class_uid: str
    scu: bool
    scp: bool

    def encode(self) -> bytes:
        """The whole sub-item."""
        roles = bytes((self.scu, self.scp))
        return encode_item(self.ITEM_TYPE, _field(_encode_text(self.sop_class_uid)) + roles)

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From the body; any value but 1 is no role."""
        reader = _Reader("role selection sub-item", body)
        uid = decode_uid(reader.field())
        scu, scp = reader.take(2)
        reader.end()
        return cls(uid, scu == 1, scp == 1)


@dataclass(frozen=True, slots=True)
class ImplementationVersionName:
    """A name of 1 to 16 characters (PS3.7 D.3.3.2); what comes longer is cut."""

    ITEM_TYPE: ClassVar[int] = 0x55
    name: str

    def encode(self) -> bytes:
        """The whole sub-item."""
        return encode_item(self.ITEM_TYPE, _encode_text(self.name))

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From the name."""
        return cls(str(body[:16], "latin-1").rstrip(_PADDING))


@dataclass(frozen=True, slots=True)
class SOPClassExtendedNegotiation:
    """Service class application information for a SOP class (PS3.7 D.3.3.5)."""

    ITEM_TYPE: ClassVar[int] = 0x56
    sop_class_uid: str
    information: bytes

    def encode(self) -> bytes:
        """The whole sub-item."""
        return encode_item(
            self.ITEM_TYPE, _field(_encode_text(self.sop_class_uid)) + self.information
        )

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From the body; what is behind the UID is the information."""
        reader = _Reader("extended negotiation sub-item", body)
        return cls(decode_uid(reader.field()), bytes(reader.rest()))


@dataclass(frozen=True, slots=True)
class SOPClassCommonExtendedNegotiation:
    """The service class and the related general SOP classes of a SOP class (PS3.7 D.3.3.6)."""

    ITEM_TYPE: ClassVar[int] = 0x57
    sop_class_uid: str
    service_class_uid: str
    related_general_sop_classes: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The whole sub-item, in version 0 of its definition."""
        related = b"".join(_field(_encode_text(uid)) for uid in self.related_general_sop_classes)
        uids = _field(_encode_text(self.sop_class_uid)) + _field(
            _encode_text(self.service_class_uid)
        )
        return encode_item(self.ITEM_TYPE, uids + _field(related))

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From the body; what later versions may add at its end is ignored."""
        reader = _Reader("common extended negotiation sub-item", body)
        sop_class_uid, service_class_uid = decode_uid(reader.field()), decode_uid(reader.field())
        pairs = _Reader("related general SOP classes", reader.field())
        related = []
        while pairs:
            related.append(decode_uid(pairs.field()))
        return cls(sop_class_uid, service_class_uid, tuple(related))


@dataclass(frozen=True, slots=True)
class UserIdentityRQ:
    """Who the user is (PS3.7 D.3.3.7.1): a type of 1 to 5, a primary field, and the passcode as
    secondary field of type 2. The fields never show in a repr: they may be secrets."""

    ITEM_TYPE: ClassVar[int] = 0x58
    identity_type: int
    primary: bytes
    secondary: bytes = b""
    response_requested: bool = False

    def encode(self) -> bytes:
        """The whole sub-item."""
        header = _IDENTITY_HEADER.pack(self.identity_type, self.response_requested)
        return encode_item(self.ITEM_TYPE, header + _field(self.primary) + _field(self.secondary))

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From the body."""
        reader = _Reader("user identity sub-item", body)
        identity_type, requested = reader.unpack(_IDENTITY_HEADER)
        primary, secondary = bytes(reader.field()), bytes(reader.field())
        reader.end()
        return cls(identity_type, primary, secondary, requested == 1)

    def __repr__(self) -> str:
        return f"UserIdentityRQ(identity_type={self.identity_type})"


@dataclass(frozen=True, slots=True)
class UserIdentityAC:
    """The server's response to a user identity (PS3.7 D.3.3.7.2)."""

    ITEM_TYPE: ClassVar[int] = 0x59
    response: bytes = field(default=b"", repr=False)  # it may be a ticket

    def encode(self) -> bytes:
        """The whole sub-item."""
        return encode_item(self.ITEM_TYPE, _field(self.response))

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From the body."""
        reader = _Reader("user identity response sub-item", body)
        response = bytes(reader.field())
        reader.end()
        return cls(response)


def only(items: list[_T], name: str) -> _T | None:
    """The one item of a kind that may occur once, None without it; two are refused."""
    if len(items) > 1:
        raise ProtocolError(
            f"{name} occurs {len(items)} times (PS3.8 9.3.2)", AbortReason.UNEXPECTED_PARAMETER
        )
    return items[0] if items else None
