"""Malformed PDUs, case by case, as far as decoding and negotiation decide them.

H-P13 to H-P33 and H-P37 are in test_negotiation.py; what needs a connection (a close, a timer, a
second PDU) is in test_connection.py, and answers to our requestor are in test_answers.py. Where a
case leaves a choice, the test says which is ours.
"""

import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest

from dimse.errors import AbortReason, AssociationRejectedError, ProtocolError
from dimse.ul.pdu import (
    PDUS,
    Abort,
    AssociateRJ,
    PDataTF,
    UserInformation,
    check_length,
)
from tests.wire import (
    APPLICATION,
    CLASS_UID,
    CONTEXT,
    LIMITS,
    MAXIMUM,
    USER,
    VERIFICATION,
    answer,
    context,
    fixed,
    item,
    pdu,
    receive,
    receive_request,
    refused,
    request,
    syntaxes,
    with_contexts,
    with_user,
)


def answer_with_user(*sub_items: bytes) -> bytes:
    """An A-ASSOCIATE-AC with these user data sub-items."""
    return answer(item(0x50, b"".join(sub_items)))


def peak(wire: bytes) -> int:
    """The memory that decoding takes at most, in bytes."""
    body = memoryview(wire)[6:]
    tracemalloc.start()
    try:
        with suppress(ProtocolError):
            PDUS[wire[0]].decode(body)
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return most


@pytest.mark.parametrize("pdu_type", [0, *range(8, 256)])
def test_h_p03_unknown_type(pdu_type: int):
    refused(pdu(pdu_type, bytes(68)), AbortReason.UNRECOGNIZED_PDU)


@pytest.mark.parametrize("length", [0, 1, 67, 68])
def test_h_p04_short_request(length: int):
    """68 bytes are the fixed part only: there is no application context."""
    refused(pdu(1, fixed()[:length]))


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x80000000, LIMITS.associate_length + 1])
def test_h_p05_huge_request(length: int):
    """On the header, of which Framer keeps six bytes (test_framing)."""
    refused(b"\x01\0" + length.to_bytes(4, "big"))


def test_h_p06_truncated_everywhere():
    """With a PDU-length that fits, each cut is refused by the decoder."""
    body = request()[6:]
    for length in range(len(body)):
        if length not in (68 + len(APPLICATION), 68 + len(APPLICATION) + len(CONTEXT)):
            refused(pdu(1, body[:length]))


@pytest.mark.parametrize("trailing", [b"\0", b"\0\0\0", request(), b"\x50\0\0\1"])
def test_h_p07_trailing_bytes(trailing: bytes):
    """Ours: refused, whether an item or a second PDU seems to begin there."""
    with pytest.raises(ProtocolError):
        receive(request(APPLICATION, CONTEXT, USER, trailing))


@pytest.mark.parametrize("length", range(6))
def test_h_p08_p_data_without_a_pdv(length: int):
    refused(pdu(4, bytes(length)))


def test_h_p09_p_data_above_our_maximum():
    """On the header; of just the maximum it is taken."""
    most = LIMITS.maximum_length
    check_length(4, most, associate=LIMITS.associate_length, p_data=most)
    refused(b"\x04\0" + (most + 1).to_bytes(4, "big"))


@pytest.mark.parametrize("pdu_type", [3, 5, 6])
@pytest.mark.parametrize("length", [0, 3, 5, 1000])
def test_h_p10_wrong_length(pdu_type: int, length: int):
    refused(pdu(pdu_type, bytes(length)))


@pytest.mark.parametrize("length", [0, 3, 5, 1000])
def test_h_p10_an_abort_is_an_abort(length: int):
    assert receive(pdu(7, bytes(length))) == Abort(0, 0)


class TestHP11Lengths:
    """Every length field of a full request, set to what it is not."""

    WIRE = request(
        APPLICATION,
        CONTEXT,
        item(
            0x50,
            MAXIMUM
            + CLASS_UID
            + item(0x54, b"\0\x031.2\1\0")
            + item(0x56, b"\0\x031.2\1")
            + item(0x57, b"\0\x031.2\0\x031.2\0\5\0\x031.2")
            + item(0x58, b"\2\0\0\4user\0\4pass"),
        ),
    )

    def positions(self) -> list[int]:
        """Where the 16-bit lengths are: of items, sub-items and their fields."""
        found = []
        end = len(self.WIRE)
        position = 74
        while position < end:
            found.append(position + 2)
            kind = self.WIRE[position]
            length = int.from_bytes(self.WIRE[position + 2 : position + 4], "big")
            inside = {0x20: 8, 0x50: 4}.get(kind)  # what stands before its sub-items
            fields = {0x54: [4], 0x56: [4], 0x57: [4, 9, 14, 16], 0x58: [6, 12]}
            found += [position + field for field in fields.get(kind, [])]
            position += inside if inside is not None else 4 + length
        return found

    def test_all_are_found(self):
        assert len(self.positions()) == 19

    @pytest.mark.parametrize("change", ["0", "1", "-2", "-1", "+1", "+2", "0x7FFF", "0xFFFF"])
    def test_h_p11_length(self, change: str):
        """Refused, or another request altogether; never an error that is not ours."""
        good = receive(self.WIRE)
        refusals = 0
        for position in self.positions():
            old = int.from_bytes(self.WIRE[position : position + 2], "big")
            new = old + int(change) if change[0] in "+-" else int(change, 0)
            wire = bytearray(self.WIRE)
            wire[position : position + 2] = new.to_bytes(2, "big", signed=False)
            try:
                assert receive(bytes(wire)) != good or new == old
            except ProtocolError:
                refusals += 1
        assert refusals >= (19 if new > 0x7000 else 12)

    @pytest.mark.parametrize("missing", [1, 2, 3])
    def test_h_p11_ends_short(self, missing: int):
        """A sub-item whose header is cut, inside items whose own lengths are right."""
        refused(with_contexts(context(1, syntaxes(VERIFICATION.encode()), b"\x40\0\0"[:missing])))
        refused(with_user(MAXIMUM, b"\x52\0\0"[:missing]))


def test_h_p12_reserved_bytes():
    """All of them FFH at once; one by one they are in the conformance tests."""
    wire = bytearray(request())
    offsets = [1, 8, 9, *range(42, 74)]
    position = 74
    while position < len(wire):
        offsets.append(position + 1)
        if wire[position] == 0x20:
            offsets += [position + 5, position + 6, position + 7]
            position += 8
        elif wire[position] == 0x50:
            position += 4
        else:
            position += 4 + int.from_bytes(wire[position + 2 : position + 4], "big")
    for offset in offsets:
        assert wire[offset] == 0
        wire[offset] = 0xFF
    assert receive(bytes(wire)) == receive(request())


class TestHP34Memory:
    """At most four times what came, whatever the lengths in it claim."""

    @pytest.mark.parametrize("whole", [with_user, answer_with_user])
    @pytest.mark.parametrize("kind", [0x50, 0x51, 0x52, 0x54, 0x55, 0x56, 0x58, 0x59, 0x5F])
    def test_h_p34_sub_items_that_claim_64_kib(self, kind: int, whole: Callable[[bytes], bytes]):
        """4-byte sub-items, 16000 of them, each claiming 65535, to the acceptor and to the
        requestor."""
        wire = whole(bytes((kind, 0, 0xFF, 0xFF)) * 16000)
        refused(wire)
        assert peak(wire) <= 4 * len(wire)

    @pytest.mark.parametrize("whole", [request, answer])
    @pytest.mark.parametrize("kind", [0x10, 0x20, 0x21, 0x50, 0x7F])
    def test_h_p34_empty_items(self, kind: int, whole: Callable[..., bytes]):
        """4-byte items that are right, as many as the longest request or answer holds."""
        room = LIMITS.associate_length - 1000
        wire = whole(APPLICATION, item(kind, b"") * (room // 4), USER)
        assert peak(wire) <= 4 * len(wire)


@pytest.mark.parametrize("values", [(0, 0, 0), (3, 1, 1), (1, 9, 9), (255, 255, 255)])
def test_h_p38_rejection_outside_the_tables(values: tuple[int, int, int]):
    """Rejected all the same, and the values are kept."""
    decoded = receive(pdu(3, bytes((0, *values))))
    assert decoded == AssociateRJ(*values)
    error = AssociationRejectedError(*values)
    assert (error.result, error.source, error.reason) == values


def test_good_wire():
    """What the cases change is good."""
    decoded = receive_request(request())
    assert decoded.user_information == UserInformation(16384, "1.2.3.4")
    assert isinstance(receive(pdu(4, b"\0\0\0\2\1\3")), PDataTF)
