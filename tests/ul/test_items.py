"""Items and sub-items: what the layout table does not say, and what is refused."""

from typing import Any

import pytest

from dimse.errors import AbortReason, MisuseError, ProtocolError
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
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT, VERIFICATION, item, uid_item

GOOD: dict[type, Any] = {
    PresentationContextRQ: PresentationContextRQ(255, CT_STORAGE, (EXPLICIT, IMPLICIT)),
    PresentationContextAC: PresentationContextAC(1, 0, EXPLICIT),
    MaximumLength: MaximumLength(0xFFFFFFFF),
    ImplementationClassUID: ImplementationClassUID("1.2"),
    AsynchronousOperationsWindow: AsynchronousOperationsWindow(0, 65535),
    RoleSelection: RoleSelection(CT_STORAGE, scu=True, scp=False),
    ImplementationVersionName: ImplementationVersionName("0123456789ABCDEF"),
    SOPClassExtendedNegotiation: SOPClassExtendedNegotiation(CT_STORAGE, b""),
    SOPClassCommonExtendedNegotiation: SOPClassCommonExtendedNegotiation(CT_STORAGE, "1.2"),
    UserIdentityRQ: UserIdentityRQ(5, b"token"),
    UserIdentityAC: UserIdentityAC(b"response"),
}
# Kinds of which a part may be a whole one: text up to the end, or one syntax fewer.
OPEN_ENDED = {
    ImplementationClassUID,
    ImplementationVersionName,
    SOPClassExtendedNegotiation,
    PresentationContextRQ,
}


def body(*parts: bytes) -> memoryview:
    return memoryview(b"".join(parts))


@pytest.mark.parametrize("kind", GOOD, ids=lambda kind: kind.__name__)
class TestEach:
    def test_round_trip(self, kind):
        wire = GOOD[kind].encode()
        [(item_type, window)] = split_items(memoryview(wire))
        assert item_type == wire[0] == kind.ITEM_TYPE
        assert kind.decode(window) == GOOD[kind]

    def test_cut_anywhere(self, kind):
        """A shorter body is refused, or is a whole item of its own."""
        wire = GOOD[kind].encode()[4:]
        for length in range(len(wire)):
            short = wire[:length]
            try:
                decoded = kind.decode(memoryview(short))
            except ProtocolError:
                continue
            assert kind in OPEN_ENDED
            assert decoded.encode()[4:] == short


class TestSplit:
    def test_empty_window(self):
        assert list(split_items(body())) == []

    @pytest.mark.parametrize("stray", [1, 2, 3])
    def test_stray_bytes(self, stray: int):
        with pytest.raises(ProtocolError, match="stray"):
            list(split_items(body(item(0x51, b"abcd"), bytes(stray))))

    @pytest.mark.parametrize("claim", [1, 5, 0x7FFF, 0xFFFF])
    def test_overrun(self, claim: int):
        wire = b"\x51\0" + claim.to_bytes(2, "big") + bytes(claim - 1 if claim < 9 else 4)
        with pytest.raises(ProtocolError, match="51H"):
            list(split_items(body(wire)))


class TestContextRQ:
    ABSTRACT, TRANSFER = uid_item(0x30, VERIFICATION), uid_item(0x40, IMPLICIT)

    @pytest.mark.parametrize("context_id", [0, 2, 254])
    def test_even_id(self, context_id: int):
        with pytest.raises(ProtocolError, match="odd"):
            PresentationContextRQ.decode(
                body(bytes((context_id, 0, 0, 0)), self.ABSTRACT, self.TRANSFER)
            )

    @pytest.mark.parametrize("count", [0, 2])
    def test_abstract_syntaxes(self, count: int):
        with pytest.raises(ProtocolError, match="abstract syntax"):
            PresentationContextRQ.decode(body(b"\1\0\0\0", self.ABSTRACT * count, self.TRANSFER))

    def test_no_transfer_syntax(self):
        """It is negotiation that answers it."""
        context = PresentationContextRQ.decode(body(b"\1\0\0\0", self.ABSTRACT))
        assert context == PresentationContextRQ(1, VERIFICATION, ())

    def test_any_order_and_unknown_sub_items(self):
        context = PresentationContextRQ.decode(
            body(b"\1\0\0\0", self.TRANSFER, item(0x41, b"x"), self.ABSTRACT)
        )
        assert context == PresentationContextRQ(1, VERIFICATION, (IMPLICIT,))


class TestContextAC:
    @pytest.mark.parametrize("count", [0, 2])
    def test_accepted_needs_one_transfer_syntax(self, count: int):
        with pytest.raises(ProtocolError, match="transfer syntaxes"):
            PresentationContextAC.decode(body(b"\1\0\0\0", uid_item(0x40, IMPLICIT) * count))

    @pytest.mark.parametrize(
        ("sub_items", "text"),
        [(b"", ""), (uid_item(0x40, IMPLICIT) * 2, IMPLICIT), (uid_item(0x40, "\0\xff"), "\0\xff")],
    )
    @pytest.mark.parametrize("result", [1, 2, 3, 4, 5, 255])
    def test_otherwise_it_is_not_significant(self, sub_items: bytes, text: str, result: int):
        context = PresentationContextAC.decode(body(bytes((1, 0, result, 0)), sub_items))
        assert context == PresentationContextAC(1, result, text)


@pytest.mark.parametrize(
    ("wire", "text"),
    [(b"1.2\0", "1.2"), (b"1.2 ", "1.2"), (b"1.2\0\0 ", "1.2"), (b"", ""), (b"1\x002", "1\x002"),
     (b"\xe9", "\xe9")],
)  # fmt: skip
def test_decode_uid(wire: bytes, text: str):
    """Padding goes; what is wrong stays, for negotiation to refuse."""
    assert decode_uid(memoryview(wire)) == text


class TestRoles:
    @pytest.mark.parametrize("value", [2, 0x80, 0xFF])
    def test_any_value_but_1_is_no_role(self, value: int):
        wire = body(b"\0\x031.2", bytes((value, 1)))
        assert RoleSelection.decode(wire) == RoleSelection("1.2", scu=False, scp=True)

    @pytest.mark.parametrize("length", [0xFFFF, 6, 4])
    def test_uid_overruns(self, length: int):
        with pytest.raises(ProtocolError):
            RoleSelection.decode(body(length.to_bytes(2, "big"), b"1.2\1\1"))

    def test_too_long(self):
        with pytest.raises(ProtocolError, match="too many"):
            RoleSelection.decode(body(b"\0\x031.2\1\1\0"))


@pytest.mark.parametrize("kind", [MaximumLength, AsynchronousOperationsWindow])
@pytest.mark.parametrize("length", [0, 1, 3, 5, 100])
def test_four_bytes_exactly(kind, length: int):
    with pytest.raises(ProtocolError):
        kind.decode(memoryview(bytes(length)))


@pytest.mark.parametrize(
    ("wire", "name"),
    [(b"", ""), (b"N" * 17, "N" * 16), (b"N" * 65535, "N" * 16), (b"A\nB\0 ", "A\nB")],
)
def test_version_name(wire: bytes, name: str):
    """Cut to what it may have; PS3.7 D.3.3.2."""
    assert ImplementationVersionName.decode(memoryview(wire)).name == name


class TestUserIdentity:
    def test_repr_hides_secrets(self):
        identity = UserIdentityRQ(2, b"operator", b"secret", response_requested=True)
        assert "operator" not in repr(identity)
        assert "secret" not in repr(identity)
        assert "2" in repr(identity)

    @pytest.mark.parametrize("requested", [0, 2, 255])
    def test_any_value_but_1_asks_for_nothing(self, requested: int):
        identity = UserIdentityRQ.decode(body(bytes((1, requested)), b"\0\1A\0\0"))
        assert identity == UserIdentityRQ(1, b"A")

    @pytest.mark.parametrize("wire", [b"\1\1\0\2A\0\0", b"\1\1\0\1A\0\1", b"\1\1\0\1A\0\0\0"])
    def test_lengths(self, wire: bytes):
        with pytest.raises(ProtocolError):
            UserIdentityRQ.decode(memoryview(wire))

    @pytest.mark.parametrize("wire", [b"\0\2A", b"\0\1AB"])
    def test_lengths_of_the_response(self, wire: bytes):
        with pytest.raises(ProtocolError):
            UserIdentityAC.decode(memoryview(wire))


def test_related_classes_overrun():
    """The inner list has a length of its own."""
    with pytest.raises(ProtocolError):
        SOPClassCommonExtendedNegotiation.decode(body(b"\0\x011\0\x012\0\x03\0\x021"))


class TestEncode:
    def test_an_item_is_16_bit_long(self):
        assert len(encode_item(0x50, bytes(65535))) == 65539
        with pytest.raises(MisuseError, match="65536"):
            encode_item(0x50, bytes(65536))

    def test_a_field_is_16_bit_long(self):
        with pytest.raises(MisuseError, match="65536"):
            UserIdentityRQ(1, bytes(65536)).encode()

    def test_text_that_is_not_latin(self):
        with pytest.raises(MisuseError):
            ImplementationVersionName("\u0444").encode()


def test_only():
    assert only([], "thing") is None
    assert only([7], "thing") == 7
    with pytest.raises(ProtocolError, match="thing occurs 2") as caught:
        only([7, 8], "thing")
    assert caught.value.reason == AbortReason.UNEXPECTED_PARAMETER
