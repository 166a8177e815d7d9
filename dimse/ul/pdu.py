"""The seven PDUs of the Upper Layer (PS3.8 9.3), as frozen dataclasses that encode and decode.

`encode()` gives the whole PDU, `decode(body)` reads what is behind its 6-byte header.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from typing import ClassVar, NamedTuple, Protocol, Self, TypeVar

from dimse.errors import AbortReason, MisuseError, ProtocolError
from dimse.ul.framing import HEADER
from dimse.ul.items import (
    AsynchronousOperationsWindow,
    ImplementationClassUID,
    ImplementationVersionName,
    MaximumLength,
    PresentationContextAC,
    PresentationContextRQ,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityAC,
    UserIdentityRQ,
    decode_uid,
    encode_item,
    only,
    split_items,
)

APPLICATION_CONTEXT_NAME = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1
MAXIMUM_CONTEXTS = 128  # the odd ids of one byte (PS3.8 9.3.2.2)
ECHO_LENGTH = 64  # both AE titles and the 32 reserved bytes (PS3.8 9.3.3)

_FIXED = Struct(">H2x16s16s32s")  # of A-ASSOCIATE-RQ and -AC, before the items (PS3.8 9.3.2)
_FOUR = Struct(">4B")  # the body of the four short PDUs
ABORT_LENGTH = _FOUR.size
_PDV = Struct(">IBB")  # item length, presentation context id, message control header

PDV_OVERHEAD = _PDV.size
_CONTROL = 2  # the context id and control header, counted by the item length (PS3.8 9.3.5.1)
COMMAND_BIT, LAST_BIT = 1, 2  # of the message control header (PS3.8 E.2)

_APPLICATION_CONTEXT, _USER_INFORMATION = 0x10, 0x50


class PDUType(IntEnum):
    """The first byte of a PDU (PS3.8 9.3.1)."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA_TF = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


def _encode_pdu(pdu_type: PDUType, body: bytes) -> bytes:
    return HEADER.pack(pdu_type, len(body)) + body


class _Item(Protocol):
    def encode(self) -> bytes: ...


_SubItem = (
    MaximumLength
    | ImplementationClassUID
    | AsynchronousOperationsWindow
    | RoleSelection
    | ImplementationVersionName
    | SOPClassExtendedNegotiation
    | SOPClassCommonExtendedNegotiation
    | UserIdentityRQ
    | UserIdentityAC
)
_SUB_ITEMS: dict[int, type[_SubItem]] = {kind.ITEM_TYPE: kind for kind in _SubItem.__args__}
_S = TypeVar("_S", bound=_SubItem)


@dataclass(frozen=True, slots=True)
class UserInformation:
    """The user information item 50H (PS3.8 9.3.2.3, D.1; PS3.7 D.3.3).

    `maximum_length` is None when the peer, against D.1, did not send it.
    """

    maximum_length: int | None = None
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    window: AsynchronousOperationsWindow | None = None
    roles: tuple[RoleSelection, ...] = ()
    extended: tuple[SOPClassExtendedNegotiation, ...] = ()
    common_extended: tuple[SOPClassCommonExtendedNegotiation, ...] = ()
    user_identity: UserIdentityRQ | None = None
    user_identity_response: UserIdentityAC | None = None

    def encode(self) -> bytes:
        """The whole item, sub-items in ascending order, as old peers expect them."""
        return encode_item(_USER_INFORMATION, b"".join(item.encode() for item in self._items()))

    def _items(self) -> Iterator[_Item]:
        if self.maximum_length is not None:
            yield MaximumLength(self.maximum_length)
        if self.implementation_class_uid:
            yield ImplementationClassUID(self.implementation_class_uid)
        if self.window is not None:
            yield self.window
        yield from self.roles
        if self.implementation_version_name:
            yield ImplementationVersionName(self.implementation_version_name)
        yield from self.extended
        yield from self.common_extended
        if self.user_identity is not None:
            yield self.user_identity
        if self.user_identity_response is not None:
            yield self.user_identity_response

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From the sub-items in any order; unknown types are skipped (PS3.8 D.2)."""
        found: list[_SubItem] = []
        for item_type, sub_item in split_items(body):
            if kind := _SUB_ITEMS.get(item_type):
                found.append(kind.decode(sub_item))

        def each(kind: type[_S]) -> list[_S]:
            return [item for item in found if isinstance(item, kind)]

        length = only(each(MaximumLength), "maximum length")
        uid = only(each(ImplementationClassUID), "implementation class UID")
        name = only(each(ImplementationVersionName), "implementation version name")
        return cls(
            maximum_length=length.length if length else None,
            implementation_class_uid=uid.uid if uid else "",
            implementation_version_name=name.name if name else "",
            window=only(each(AsynchronousOperationsWindow), "asynchronous operations window"),
            roles=tuple(each(RoleSelection)),
            extended=tuple(each(SOPClassExtendedNegotiation)),
            common_extended=tuple(each(SOPClassCommonExtendedNegotiation)),
            user_identity=only(each(UserIdentityRQ), "user identity"),
            user_identity_response=only(each(UserIdentityAC), "user identity response"),
        )


def _encode_ae_title(title: str) -> bytes:
    try:
        encoded = title.encode("ascii")
    except UnicodeEncodeError:
        raise MisuseError(f"AE title {title!r} is not ASCII (PS3.8 9.3.2)") from None
    if len(encoded) > 16:
        raise MisuseError(f"AE title {title!r} has more than 16 characters (PS3.8 9.3.2)")
    return encoded.ljust(16)


def _decode_ae_title(field_bytes: bytes) -> str:
    # Spaces around it are not significant; some peers pad with NUL (PS3.8 9.3.2).
    return field_bytes.decode("latin-1").rstrip("\0 ").lstrip(" ")


def _decode_items(
    window: memoryview, context_type: int
) -> tuple[str, list[memoryview], memoryview | None]:
    """The application context name, the bodies of the contexts, and of the user information."""
    names, contexts, users = [], [], []
    for item_type, body in split_items(window):
        if item_type == _APPLICATION_CONTEXT:
            names.append(decode_uid(body))
        elif item_type == context_type:
            contexts.append(body)
            if len(contexts) > MAXIMUM_CONTEXTS:  # at once: a view costs more than an empty item
                raise ProtocolError("more than 128 presentation contexts (PS3.8 9.3.2.2)")
        elif item_type == _USER_INFORMATION:
            users.append(body)
            only(users, "user information")
    name = only(names, "application context")
    if name is None:
        raise ProtocolError("no application context item (PS3.8 9.3.2.1)")
    return name, contexts, only(users, "user information")


def _decode_fixed(body: memoryview, name: str) -> tuple[int, bytes, memoryview]:
    """The protocol version, the 64 bytes that an acceptor echoes, and the items."""
    if len(body) < _FIXED.size:
        raise ProtocolError(f"{name} of {len(body)} bytes, {_FIXED.size} are fixed (PS3.8 9.3.2)")
    version, called, calling, reserved = _FIXED.unpack_from(body)
    return version, called + calling + reserved, body[_FIXED.size :]


@dataclass(frozen=True, slots=True)
class AssociateRQ:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2). AE titles are without padding; `echo` holds the 64 bytes
    of both titles and of the reserved field as they came, for the answer."""

    PDU_TYPE: ClassVar[PDUType] = PDUType.ASSOCIATE_RQ
    called_ae_title: str
    calling_ae_title: str
    contexts: tuple[PresentationContextRQ, ...]
    user_information: UserInformation | None
    application_context_name: str = APPLICATION_CONTEXT_NAME
    protocol_version: int = 1
    echo: bytes = field(default=b"", compare=False, repr=False)

    def encode(self) -> bytes:
        """The whole PDU."""
        called, calling = map(_encode_ae_title, (self.called_ae_title, self.calling_ae_title))
        fixed = _FIXED.pack(self.protocol_version, called, calling, b"")
        return _encode_pdu(self.PDU_TYPE, fixed + _encode_items(self))

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From the body; unknown items are skipped, a repeated context id is refused."""
        version, echo, items = _decode_fixed(body, "A-ASSOCIATE-RQ")
        name, bodies, user = _decode_items(items, PresentationContextRQ.ITEM_TYPE)
        contexts = tuple(map(PresentationContextRQ.decode, bodies))
        if len({context.context_id for context in contexts}) < len(contexts):
            raise ProtocolError("a presentation context id occurs twice (PS3.8 9.3.2.2)")
        return cls(
            called_ae_title=_decode_ae_title(echo[:16]),
            calling_ae_title=_decode_ae_title(echo[16:32]),
            contexts=contexts,
            user_information=None if user is None else UserInformation.decode(user),
            application_context_name=name,
            protocol_version=version,
            echo=echo,
        )


@dataclass(frozen=True, slots=True)
class AssociateAC:
    """A-ASSOCIATE-AC (PS3.8 9.3.3); `echo` repeats 64 bytes of the request, never tested."""

    PDU_TYPE: ClassVar[PDUType] = PDUType.ASSOCIATE_AC
    contexts: tuple[PresentationContextAC, ...]
    user_information: UserInformation | None
    echo: bytes
    application_context_name: str = APPLICATION_CONTEXT_NAME
    protocol_version: int = 1

    def encode(self) -> bytes:
        """The whole PDU."""
        echo = self.echo.ljust(ECHO_LENGTH, b"\0")
        fixed = _FIXED.pack(self.protocol_version, echo[:16], echo[16:32], echo[32:])
        return _encode_pdu(self.PDU_TYPE, fixed + _encode_items(self))

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From the body; what the contexts answer is judged by `negotiation.settle`."""
        version, echo, items = _decode_fixed(body, "A-ASSOCIATE-AC")
        name, bodies, user = _decode_items(items, PresentationContextAC.ITEM_TYPE)
        return cls(
            contexts=tuple(map(PresentationContextAC.decode, bodies)),
            user_information=None if user is None else UserInformation.decode(user),
            echo=echo,
            application_context_name=name,
            protocol_version=version,
        )


def _encode_items(pdu: AssociateRQ | AssociateAC) -> bytes:
    items = [encode_item(_APPLICATION_CONTEXT, pdu.application_context_name.encode("latin-1"))]
    items += [context.encode() for context in pdu.contexts]
    if pdu.user_information is not None:
        items.append(pdu.user_information.encode())
    return b"".join(items)


def _decode_four(body: memoryview) -> tuple[int, int, int]:
    if len(body) != _FOUR.size:
        raise ProtocolError(f"a PDU of {len(body)} bytes instead of 4 (PS3.8 9.3)")
    _, first, second, third = _FOUR.unpack(body)
    return first, second, third


@dataclass(frozen=True, slots=True)
class AssociateRJ:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4); values outside the table are kept as they came.

    `why` is for our own log; it is not sent.
    """

    PDU_TYPE: ClassVar[PDUType] = PDUType.ASSOCIATE_RJ
    result: int
    source: int
    reason: int
    why: str = field(default="", compare=False)

    def encode(self) -> bytes:
        """The whole PDU."""
        return _encode_pdu(self.PDU_TYPE, _FOUR.pack(0, self.result, self.source, self.reason))

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From exactly four bytes."""
        return cls(*_decode_four(body))


@dataclass(frozen=True, slots=True)
class ReleaseRQ:
    """A-RELEASE-RQ (PS3.8 9.3.6)."""

    PDU_TYPE: ClassVar[PDUType] = PDUType.RELEASE_RQ

    def encode(self) -> bytes:
        """The whole PDU."""
        return _encode_pdu(self.PDU_TYPE, bytes(4))

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From four reserved bytes."""
        _decode_four(body)
        return cls()


@dataclass(frozen=True, slots=True)
class ReleaseRP(ReleaseRQ):
    """A-RELEASE-RP (PS3.8 9.3.7)."""

    PDU_TYPE: ClassVar[PDUType] = PDUType.RELEASE_RP


@dataclass(frozen=True, slots=True)
class Abort:
    """A-ABORT (PS3.8 9.3.8); values outside the table are kept as they came."""

    PDU_TYPE: ClassVar[PDUType] = PDUType.ABORT
    source: int
    reason: int

    def encode(self) -> bytes:
        """The whole PDU."""
        return _encode_pdu(self.PDU_TYPE, _FOUR.pack(0, 0, self.source, self.reason))

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From four bytes; of any other length it aborts as well, without saying why."""
        if len(body) != _FOUR.size:
            return cls(0, 0)
        _, source, reason = _decode_four(body)
        return cls(source, reason)


class PDV(NamedTuple):
    """A presentation data value: one fragment of a command set or data set (PS3.8 9.3.5.1)."""

    context_id: int
    control: int
    """The message control header; `COMMAND_BIT` and `LAST_BIT` count (PS3.8 E.2)."""
    fragment: bytes | memoryview


@dataclass(frozen=True, slots=True)
class PDataTF:
    """P-DATA-TF (PS3.8 9.3.5): one or more PDVs. A decoded fragment is a view of the body."""

    PDU_TYPE: ClassVar[PDUType] = PDUType.P_DATA_TF
    pdvs: tuple[PDV, ...]

    def encode(self) -> bytes:
        """The whole PDU."""
        body = b"".join(
            _PDV.pack(len(fragment) + _CONTROL, context_id, control) + fragment
            for context_id, control, fragment in self.pdvs
        )
        return _encode_pdu(self.PDU_TYPE, body)

    @classmethod
    def decode(cls, body: memoryview) -> Self:
        """From PDVs that fill the body exactly; there is at least one."""
        pdvs = []
        position, end = 0, len(body)
        while end - position >= _PDV.size:
            length, context_id, control = _PDV.unpack_from(body, position)
            begin, position = position + _PDV.size, position + _PDV.size - _CONTROL + length
            if length < _CONTROL or position > end:
                raise ProtocolError(f"a PDV says {length} bytes (PS3.8 9.3.5.1)")
            pdvs.append(PDV(context_id, control, body[begin:position]))
        if position != end or not pdvs:
            raise ProtocolError(f"{end - position} bytes are no PDV (PS3.8 9.3.5)")
        return cls(tuple(pdvs))


def p_data_header(context_id: int, control: int, length: int) -> bytes:
    """The 12 bytes before a fragment of `length` bytes that is alone in its P-DATA-TF."""
    pdu = HEADER.pack(PDUType.P_DATA_TF, length + PDV_OVERHEAD)
    return pdu + _PDV.pack(length + _CONTROL, context_id, control)


PDU = AssociateRQ | AssociateAC | AssociateRJ | PDataTF | ReleaseRQ | ReleaseRP | Abort
PDUS: dict[int, type[PDU]] = {kind.PDU_TYPE: kind for kind in PDU.__args__}


TLS_ALERT = "PDU type 15H, a TLS alert (PS3.8 9.3.1)"
"""What is wrong with what comes from who was spoken to without TLS, and expects it."""

_STRANGERS = {
    0x15: TLS_ALERT,
    0x16: "PDU type 16H, TLS on a plain port? (PS3.8 9.3.1)",
    **{each: f"PDU type {each:02X}H, HTTP? (PS3.8 9.3.1)" for each in b"DGHOP"},
}
"""What else knocks, by its first byte: TLS, and DELETE, GET, HEAD, OPTIONS, POST, PUT."""


def check_length(pdu_type: int, length: int, *, associate: int, p_data: int) -> None:
    """Refuse a PDU on its header: an unknown type, or a length that no such PDU may have.

    `associate` and `p_data` are the longest A-ASSOCIATE-RQ or -AC and P-DATA-TF that we take.
    An A-ABORT aborts whatever its length is.
    """
    if pdu_type not in PDUS:
        raise ProtocolError(
            _STRANGERS.get(pdu_type, f"PDU type {pdu_type:02X}H (PS3.8 9.3.1)"),
            AbortReason.UNRECOGNIZED_PDU,
            in_step=False,
        )
    if pdu_type in (PDUType.ASSOCIATE_RQ, PDUType.ASSOCIATE_AC):
        allowed = range(_FIXED.size, associate + 1)
    elif pdu_type == PDUType.P_DATA_TF:
        allowed = range(PDV_OVERHEAD, p_data + 1)
    elif pdu_type == PDUType.ABORT:
        allowed = range(2**32)
    else:
        allowed = range(_FOUR.size, _FOUR.size + 1)
    if length not in allowed:
        raise ProtocolError(
            f"{PDUType(pdu_type).name} PDU of {length} bytes, allowed are "
            f"{allowed.start} to {allowed.stop - 1} (PS3.8 9.3)",
            in_step=False,
        )
