"""Bytes to PDUs: every cut, the refusal on the header, and what is never kept."""

import tracemalloc

import pytest

from dimse.errors import ProtocolError
from dimse.ul.framing import Framer
from tests.wire import pdu, single_bytes

STREAM = pdu(4, b"0123456789") + pdu(5, bytes(4)) + pdu(4, b"") + pdu(7, b"abcd")
PDUS = [(4, b"0123456789"), (5, bytes(4)), (4, b""), (7, b"abcd")]
KIB = 1024


def everything(framer: Framer) -> list[tuple[int, bytes]]:
    found = []
    while (each := framer.next_pdu()) is not None:
        found.append((each[0], bytes(each[1])))
    return found


def one(framer: Framer) -> tuple[int, bytes]:
    found = framer.next_pdu()
    assert found is not None
    return found[0], bytes(found[1])


def taking() -> Framer:
    return Framer(lambda *_: True)


class Refusing:
    """An `admit` that refuses every PDU and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def __call__(self, pdu_type: int, length: int) -> bool:
        self.asked.append((pdu_type, length))
        raise ProtocolError("refused")


class TestCuts:
    @pytest.mark.parametrize("first", range(len(STREAM) + 1))
    def test_one_cut_anywhere(self, first: int):
        framer = taking()
        found = []
        for chunk in (STREAM[:first], STREAM[first:]):
            framer.feed(chunk)
            found += everything(framer)
        assert found == PDUS
        assert not framer.incomplete

    @pytest.mark.parametrize("size", range(1, 12))
    def test_equal_chunks(self, size: int):
        framer = taking()
        found = []
        for start in range(0, len(STREAM), size):
            framer.feed(STREAM[start : start + size])
            found += everything(framer)
        assert found == PDUS

    def test_incomplete_says_whether_a_pdu_has_begun(self):
        framer = taking()
        ends = {sum(len(body) + 6 for _, body in PDUS[: count + 1]) for count in range(4)}
        for position, byte in enumerate(single_bytes(STREAM), start=1):
            framer.feed(byte)
            everything(framer)
            assert framer.incomplete == (position not in ends)

    def test_nothing_fed(self):
        framer = taking()
        assert framer.next_pdu() is None
        framer.feed(b"")
        assert framer.next_pdu() is None
        assert not framer.incomplete

    def test_the_reserved_byte_is_not_tested(self):
        framer = taking()
        framer.feed(b"\x05\xff\0\0\0\4abcd")
        assert everything(framer) == [(5, b"abcd")]


class TestBodies:
    def test_stay_valid_as_long_as_they_are_held(self):
        """Whatever is fed later, and whether the PDU came in one piece or in many."""
        framer = taking()
        held = []
        for chunk in (pdu(4, b"whole"), *single_bytes(pdu(4, b"parts")), pdu(4, b"other")):
            framer.feed(chunk)
            while (found := framer.next_pdu()) is not None:
                held.append(found[1])
        assert [bytes(body) for body in held] == [b"whole", b"parts", b"other"]


class TestPause:
    """Reading was paused: bytes are at hand, and the transport brings more."""

    def test_what_was_fed_waits_in_order(self):
        framer = taking()
        framer.feed(pdu(4, b"one") + pdu(4, b"two"))
        assert one(framer) == (4, b"one")
        framer.feed(pdu(4, b"three"))
        assert everything(framer) == [(4, b"two"), (4, b"three")]

    @pytest.mark.parametrize("cut", range(1, len(STREAM)))
    def test_nothing_taken_in_between(self, cut: int):
        framer = taking()
        framer.feed(STREAM[:cut])
        framer.feed(STREAM[cut:])
        assert everything(framer) == PDUS

    def test_in_the_middle_of_a_pdu(self):
        framer = taking()
        whole = pdu(4, b"0123456789")
        framer.feed(whole[:8])
        assert framer.next_pdu() is None
        framer.feed(whole[8:12])
        framer.feed(whole[12:] + whole)
        assert everything(framer) == [(4, b"0123456789")] * 2


class TestRefusal:
    @pytest.mark.parametrize("cut", range(7))
    def test_on_the_sixth_byte(self, cut: int):
        """Not before it, and without a byte of the body."""
        refusing = Refusing()
        framer = Framer(refusing)
        header = b"\x04\0\xff\xff\xff\xff"
        framer.feed(header[:cut])
        if cut < 6:
            assert framer.next_pdu() is None
            assert refusing.asked == []
            framer.feed(header[cut:])
        with pytest.raises(ProtocolError):
            framer.next_pdu()
        assert refusing.asked == [(4, 0xFFFFFFFF)]

    def test_length_is_unsigned(self):
        refusing = Refusing()
        framer = Framer(refusing)
        framer.feed(b"\x01\0\x80\0\0\0")
        with pytest.raises(ProtocolError):
            framer.next_pdu()
        assert refusing.asked == [(1, 0x80000000)]

    def test_pdus_before_it_come_first(self):
        """And no call of `admit` for what the reader has not asked for yet."""
        asked: list[int] = []

        def admit(pdu_type: int, length: int) -> bool:
            asked.append(pdu_type)
            if pdu_type == 9:
                raise ProtocolError("refused")
            return True

        framer = Framer(admit)
        framer.feed(pdu(4, b"good") + pdu(9, b"bad"))
        assert one(framer) == (4, b"good")
        assert asked == [4]
        with pytest.raises(ProtocolError):
            framer.next_pdu()

    def test_refused_again_when_asked_again(self):
        framer = Framer(Refusing())
        for byte in single_bytes(b"\x04\0\0\0\0\x0a"):
            framer.feed(byte)
            if byte != b"\x0a":
                assert framer.next_pdu() is None
        for _ in range(2):
            with pytest.raises(ProtocolError):
                framer.next_pdu()


class TestUnwanted:
    """`admit` returned False: the header says it all."""

    def admit(self, pdu_type: int, length: int) -> bool:
        return pdu_type != 1

    @pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 50])
    def test_reported_empty_and_skipped(self, size: int):
        stream = pdu(1, bytes(20)) + pdu(4, b"data") + pdu(1, b"") + pdu(4, b"more")
        framer = Framer(self.admit)
        found = []
        for start in range(0, len(stream), size):
            framer.feed(stream[start : start + size])
            found += everything(framer)
        assert found == [(1, b""), (4, b"data"), (1, b""), (4, b"more")]
        assert not framer.incomplete

    def test_incomplete_until_its_end(self):
        framer = Framer(self.admit)
        framer.feed(pdu(1, bytes(2))[:-1])
        assert one(framer) == (1, b"")
        assert framer.next_pdu() is None
        assert framer.incomplete
        framer.feed(b"\0")
        assert framer.next_pdu() is None
        assert not framer.incomplete

    def test_4_gib_are_not_kept(self):
        """The whole body, in chunks of one buffer, takes no memory; then the next PDU is seen."""
        framer = Framer(self.admit)
        framer.feed(b"\x01\0\xff\xff\xff\xff")
        assert one(framer) == (1, b"")
        chunk = bytes(1024 * KIB)
        tracemalloc.start()
        try:
            for _ in range(4095):
                framer.feed(chunk)
                assert framer.next_pdu() is None
            framer.feed(chunk[1:])
            assert framer.next_pdu() is None
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # The last chunk differs from the others, and it alone is held.
        assert peak < 1024 * KIB + 64 * KIB
        assert not framer.incomplete
        framer.feed(pdu(4, b"next"))
        assert one(framer) == (4, b"next")


class TestMemory:
    def test_a_claim_allocates_nothing(self):
        """A length of 4 GiB that was admitted costs what has come, not what was said."""
        framer = taking()
        tracemalloc.start()
        try:
            framer.feed(b"\x04\0\xff\xff\xff\xff")
            for _ in range(64):
                framer.feed(bytes(KIB))
                assert framer.next_pdu() is None
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * 64 * KIB

    def test_one_pdu_at_most(self):
        """A thousand PDUs, each in two chunks, cost no more than one."""
        framer = taking()
        whole = pdu(4, bytes(32 * KIB))
        tracemalloc.start()
        try:
            for _ in range(1000):
                framer.feed(whole[:KIB])
                assert framer.next_pdu() is None
                framer.feed(whole[KIB:])
                found = framer.next_pdu()
                assert found is not None
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * len(whole)
