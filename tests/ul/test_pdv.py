"""Messages to P-DATA-TF and back (PS3.8 Annex E), with the hostile cases of fragmentation."""

import pytest

from dimse.errors import AbortReason, ProtocolError
from dimse.ul.pdu import PDV, PDataTF
from dimse.ul.pdv import MessageReader, cut, fragment_length
from tests.wire import framed, single_bytes

COMMAND, LAST = 1, 2
WITH_DATA, WITHOUT_DATA = b"with data", b"without.."

Seen = list[tuple[str, bytes]]


class Messages:
    """Whoever gets the messages: keeps them, and holds the reader at a command if told to."""

    def __init__(self) -> None:
        self.seen: Seen = []
        self.hold_at = b"never"
        self.reader = MessageReader(
            self, {1, 3}, command_length=20, data_length=40, empty_fragments=3
        )

    def command_received(self, context_id: int, command: bytes) -> bool:
        self.seen.append((f"command {context_id}", command))
        if command == self.hold_at:
            self.reader.hold()
        return command == WITH_DATA

    def data_received(self, fragment: memoryview) -> None:
        self.seen.append(("data", bytes(fragment)))

    def data_ended(self) -> None:
        self.seen.append(("end", b""))

    def receive(self, *pdvs: tuple[int, int, bytes]) -> Seen:
        """PDVs as (context id, message control header, fragment), in one P-DATA-TF."""
        self.reader.receive(PDataTF(tuple(PDV(*pdv) for pdv in pdvs)))
        return self.seen

    def refused(self, *pdvs: tuple[int, int, bytes]) -> None:
        """The last of the PDVs is refused with AB(2,6), those before it are not."""
        if pdvs[:-1]:
            self.receive(*pdvs[:-1])
        with pytest.raises(ProtocolError) as caught:
            self.receive(pdvs[-1])
        assert caught.value.reason == AbortReason.INVALID_PARAMETER_VALUE


@pytest.fixture
def messages() -> Messages:
    return Messages()


STORE = [(1, COMMAND | LAST, WITH_DATA), (1, 0, b"da"), (1, LAST, b"ta")]
STORED = [("command 1", WITH_DATA), ("data", b"da"), ("data", b"ta"), ("end", b"")]
ECHO = (1, COMMAND | LAST, WITHOUT_DATA)
BEGUN = (1, COMMAND | LAST, WITH_DATA)


class TestReader:
    def test_in_one_pdu_and_in_many(self, messages: Messages):
        assert messages.receive(*STORE) == STORED
        for pdv in STORE:
            messages.receive(pdv)
        assert messages.seen == STORED * 2

    def test_a_command_in_fragments(self, messages: Messages):
        seen = messages.receive((3, COMMAND, b"with"), (3, COMMAND | LAST, b" data"))
        assert seen == [("command 3", WITH_DATA)]

    def test_messages_follow_each_other_in_any_context(self, messages: Messages):
        messages.receive(ECHO, (3, COMMAND | LAST, WITHOUT_DATA))
        assert [name for name, _ in messages.seen] == ["command 1", "command 3"]

    def test_incomplete(self, messages: Messages):
        assert not messages.reader.incomplete
        for pdv, incomplete in zip(STORE, (True, True, False), strict=True):
            messages.receive(pdv)
            assert messages.reader.incomplete is incomplete
        messages.receive((1, COMMAND, b"with"))
        assert messages.reader.incomplete

    def test_the_context_is_free_when_the_end_is_told(self, messages: Messages):
        """So that an answer given inside the call finds the reader between two messages."""
        state = []
        messages.data_ended = lambda: state.append(messages.reader.incomplete)  # type: ignore[method-assign]  # to look inside
        messages.receive(*STORE)
        assert state == [False]

    def test_the_length_is_that_of_one_data_set(self, messages: Messages):
        for _ in range(3):
            messages.receive(BEGUN, (1, 0, bytes(20)), (1, LAST, bytes(20)))
        assert messages.seen.count(("end", b"")) == 3


class TestHold:
    """A message has to wait, and what follows it in the PDU waits with it."""

    def test_what_follows_waits_until_go_on(self, messages: Messages):
        messages.hold_at = WITH_DATA
        assert messages.receive(*STORE) == STORED[:1]
        messages.receive(ECHO)
        assert messages.seen == STORED[:1]
        messages.reader.go_on()
        assert messages.seen == [*STORED, ("command 1", WITHOUT_DATA)]

    def test_held_bytes_are_copies(self, messages: Messages):
        messages.hold_at = WITH_DATA
        buffer = bytearray(b"da")
        messages.receive(BEGUN)
        messages.reader.receive(PDataTF((PDV(1, LAST, memoryview(buffer)),)))
        buffer[:] = b"XX"
        messages.reader.go_on()
        assert ("data", b"da") in messages.seen

    def test_go_on_may_lead_to_the_next_hold(self, messages: Messages):
        messages.hold_at = WITHOUT_DATA
        messages.receive(ECHO, ECHO, ECHO)
        for count in (1, 2, 3):
            assert len(messages.seen) == count
            messages.reader.go_on()
        assert len(messages.seen) == 3

    def test_go_on_without_hold_does_nothing(self, messages: Messages):
        messages.reader.go_on()
        assert messages.receive(ECHO) == [("command 1", WITHOUT_DATA)]


class TestHostile:
    """Section F; every refusal is AB(2,6)."""

    @pytest.mark.parametrize("begun", [(1, COMMAND, b"w"), BEGUN])
    def test_h_f03_empty_fragments(self, messages: Messages, begun: tuple[int, int, bytes]):
        """As many as the limit in a row are taken; data in between starts the count again."""
        control = begun[1] & COMMAND if begun is not BEGUN else 0
        empty, some = (1, control, b""), (1, control, b"w")
        messages.receive(begun, empty, empty, empty, some, empty, empty, empty)
        messages.refused(empty)

    def test_h_f03_of_a_first_command_fragment(self, messages: Messages):
        messages.refused(*[(1, COMMAND, b"")] * 4)

    def test_h_f04_odd_fragments_are_tolerated(self, messages: Messages):
        messages.receive(BEGUN, (1, 0, b"a"), (1, 0, b"bcd"), (1, LAST, b"e"))
        assert b"".join(data for name, data in messages.seen if name == "data") == b"abcde"

    def test_h_f05_100_pdvs_in_one_pdu(self, messages: Messages):
        messages.receive(BEGUN, *[(1, 0, b"d")] * 30, (1, LAST, b""))
        messages.receive(*[ECHO] * 68)
        assert [name for name, _ in messages.seen].count("command 1") == 69

    def test_h_f05_two_messages_in_one_pdu(self, messages: Messages):
        """The second only when the first is complete."""
        messages.receive(*STORE, ECHO)
        messages.refused(BEGUN, (1, 0, b"da"), ECHO)

    @pytest.mark.parametrize("begun", [(1, COMMAND, b"with"), BEGUN])
    def test_h_f06_interleaved_contexts(self, messages: Messages, begun: tuple[int, int, bytes]):
        messages.refused(begun, (3, COMMAND, b"with"))

    def test_h_f07_context_changes_between_command_and_data(self, messages: Messages):
        messages.refused(BEGUN, (3, LAST, b"data"))

    @pytest.mark.parametrize("control", [0, LAST])
    def test_h_f08_data_without_a_command(self, messages: Messages, control: int):
        messages.refused((1, control, b"data"))

    def test_h_f08_data_inside_a_command(self, messages: Messages):
        messages.refused((1, COMMAND, b"with"), (1, 0, b"data"))

    @pytest.mark.parametrize("control", [COMMAND, COMMAND | LAST])
    def test_h_f09_command_after_data_began(self, messages: Messages, control: int):
        messages.refused(BEGUN, (1, 0, b"da"), (1, control, b"with"))

    def test_h_f10_data_that_was_not_announced(self, messages: Messages):
        messages.refused(ECHO, (1, LAST, b"data"))

    def test_h_f11_new_command_in_place_of_data(self, messages: Messages):
        messages.refused(BEGUN, ECHO)

    def test_h_f12_command_without_end(self, messages: Messages):
        messages.refused(*[(1, COMMAND, b"0123456789")] * 3)

    def test_h_f12_command_of_just_the_limit(self, messages: Messages):
        messages.receive((1, COMMAND, bytes(19)), (1, COMMAND | LAST, bytes(1)))
        assert messages.seen == [("command 1", bytes(20))]

    def test_h_f12_data_without_end(self, messages: Messages):
        messages.refused(BEGUN, *[(1, 0, bytes(20))] * 2, (1, 0, b"!"))
        assert len(messages.seen) == 3  # what is above the limit is not given to the user

    @pytest.mark.parametrize("context_id", [0, 2, 5, 255])
    def test_h_f13_context_unknown_or_refused(self, messages: Messages, context_id: int):
        messages.refused((context_id, COMMAND | LAST, WITHOUT_DATA))

    @pytest.mark.parametrize("bits", [0x04, 0x80, 0xFC])
    def test_h_f14_other_bits_are_ignored(self, messages: Messages, bits: int):
        pdvs = [(context_id, control | bits, data) for context_id, control, data in STORE]
        assert messages.receive(*pdvs) == STORED

    def test_h_f15_empty_last_fragment(self, messages: Messages):
        seen = messages.receive(BEGUN, (1, 0, b"data"), (1, LAST, b""))
        assert seen[1:] == [("data", b"data"), ("end", b"")]

    def test_h_f15_empty_data_set(self, messages: Messages):
        assert messages.receive(BEGUN, (1, LAST, b""))[1:] == [("end", b"")]

    def test_h_f15_empty_command(self, messages: Messages):
        assert messages.receive((1, COMMAND | LAST, b"")) == [("command 1", b"")]


class TestCut:
    def read_back(self, wire: bytes) -> tuple[bytes, list[int], list[int]]:
        """The data, the controls, and the lengths of the PDUs in it."""
        data, controls, lengths = b"", [], []
        for pdu_type, body in framed(single_bytes(wire)):
            assert pdu_type == 4
            [(context_id, control, fragment)] = PDataTF.decode(body).pdvs
            assert context_id == 7
            data += fragment
            controls.append(control)
            lengths.append(len(body))
        return data, controls, lengths

    @pytest.mark.parametrize("maximum", [8, 9, 16, 100])
    @pytest.mark.parametrize("length", [1, 2, 9, 10, 11, 94, 95])
    @pytest.mark.parametrize("kind", [0, COMMAND])
    def test_read_back(self, maximum: int, length: int, kind: int):
        """Nothing is longer than the peer takes, and only the last fragment may be odd."""
        data = bytes(range(length))
        pieces = cut(7, kind, data, fragment_length(maximum), last=True)
        read, controls, lengths = self.read_back(b"".join(pieces))
        assert read == data
        assert controls == [kind] * (len(controls) - 1) + [kind | LAST]
        assert max(lengths) <= maximum
        assert all(each % 2 == 0 for each in lengths[:-1])

    def test_not_the_last_part(self):
        pieces = cut(7, 0, bytes(10), 4, last=False)
        assert self.read_back(b"".join(pieces))[1] == [0, 0, 0]

    def test_nothing_left_but_the_end(self):
        """An empty last fragment ends a data set whose length was not known."""
        data, controls, lengths = self.read_back(b"".join(cut(7, 0, b"", 4, last=True)))
        assert (data, controls, lengths) == (b"", [LAST], [6])

    def test_data_is_not_copied(self):
        data = bytes(100)
        fragments = cut(7, 0, data, 40, last=True)[1::2]
        assert all(isinstance(each, memoryview) and each.obj is data for each in fragments)
