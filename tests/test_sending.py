"""Messages on their way out: pieces, pauses, sources that fail (PS3.8 9.3.5, Annex E)."""

from collections.abc import Callable

import pytest

from dimse.errors import DimseError
from dimse.sending import WRITE_SIZE, Outbox, Whole
from dimse.ul.pdu import PDUS, PDataTF
from tests.scripted import Bytes
from tests.wire import framed

FRAGMENT = 1000


class Box:
    """An outbox, what it wrote, and what became of its messages."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.room = 1_000_000
        self.events: list[object] = []
        self.after_write: Callable[[], object] = lambda: None
        self.outbox = Outbox(
            self._write, lambda: len(self.writes) >= self.room, self.events.append, FRAGMENT
        )

    def _write(self, data: bytes) -> None:
        self.writes.append(data)
        self.after_write()

    def send(self, name: str, source: Bytes | None = None, context_id: int = 1):
        return self.outbox.send(
            context_id,
            name.encode(),
            source,
            sent=lambda: self.events.append(f"{name} sent"),
            failed=lambda error: self.events.append((name, error)),
        )

    @property
    def fragments(self) -> list[tuple[int, int, bytes]]:
        """(context id, control header, fragment) of all PDVs, each alone in its PDU."""
        found = []
        for kind, body in framed([b"".join(self.writes)]):
            pdu = PDUS[kind].decode(body)
            assert isinstance(pdu, PDataTF)
            ((context_id, control, fragment),) = pdu.pdvs
            found.append((context_id, control, bytes(fragment)))
        return found


@pytest.fixture
def box() -> Box:
    return Box()


class TestMessages:
    def test_a_command(self, box: Box):
        box.send("echo", context_id=7)
        assert box.fragments == [(7, 3, b"echo")]
        assert box.events == ["echo sent"]

    def test_a_small_message_is_one_write(self, box: Box):
        box.send("store", Bytes(b"abcdef"))
        assert len(box.writes) == 1
        assert box.fragments == [(1, 3, b"store"), (1, 2, b"abcdef")]

    @pytest.mark.parametrize("length", [0, 2, FRAGMENT, FRAGMENT + 2, 3 * WRITE_SIZE])
    def test_a_data_set_is_cut(self, box: Box, length: int):
        content = bytes(index % 251 for index in range(length))
        box.send("store", Bytes(content))
        _, *fragments = box.fragments
        assert b"".join(fragment for *_, fragment in fragments) == content
        assert all(len(fragment) <= FRAGMENT for *_, fragment in fragments)
        assert [control for _, control, _ in fragments] == [0] * (len(fragments) - 1) + [2]
        assert max(map(len, box.writes)) < 2 * WRITE_SIZE

    def test_one_after_the_other(self, box: Box):
        box.room = 0
        box.send("one", Bytes(bytes(2 * WRITE_SIZE)))
        box.send("two")
        assert box.events == []
        box.room = 1
        box.outbox.pump()
        assert box.events == []
        box.room = 100
        box.outbox.pump()
        assert box.events == ["one sent", "two sent"]
        assert box.fragments[-1] == (1, 3, b"two")

    def test_sending_from_inside_sent(self, box: Box):
        box.outbox.send(
            1, b"one", None, sent=lambda: (box.send("two"), None)[1], failed=box.events.append
        )
        assert [fragment for *_, fragment in box.fragments] == [b"one", b"two"]


class TestTakingBack:
    def test_what_was_not_begun(self, box: Box):
        box.room = 0
        message = box.send("one")
        assert box.outbox.discard(message)
        assert not box.outbox.discard(message)
        box.room = 9
        box.outbox.pump()
        assert box.writes == []

    def test_not_what_was_begun(self, box: Box):
        box.room = 1
        message = box.send("one", Bytes(bytes(3 * WRITE_SIZE)))
        assert not box.outbox.discard(message)

    def test_while_its_source_is_read(self, box: Box):
        """The one behind it is not mistaken for it."""
        box.room = 0
        source = Bytes(b"ab")
        message = box.send("one", source)
        box.send("two", Bytes(b"cd"))
        source.on_read = lambda: box.events.append(box.outbox.discard(message))
        box.room = 9
        box.outbox.pump()
        assert box.events == [True, "two sent"]
        assert [fragment for *_, fragment in box.fragments] == [b"two", b"cd"]

    def test_end_early(self, box: Box):
        box.room = 1
        message = box.send("one", Bytes(bytes(30 * WRITE_SIZE)))
        message.end_early()
        box.room = 99
        box.outbox.pump()
        assert box.events == ["one sent"]
        assert len(box.writes) == 2
        assert box.fragments[-1][:2] == (1, 2)


class TestEnd:
    def test_clear(self, box: Box):
        box.room = 0
        box.send("one")
        box.outbox.clear()
        box.room = 9
        box.outbox.pump()
        assert (box.writes, box.events) == ([], [])

    @pytest.mark.parametrize("source", [None, Bytes(b"ab"), Bytes(bytes(3 * WRITE_SIZE))])
    def test_a_write_that_ends_the_association(self, box: Box, source: Bytes | None):
        box.after_write = box.outbox.clear
        box.send("one", source)
        assert len(box.writes) == 1
        assert box.events == []

    def test_a_read_that_ends_the_association(self, box: Box):
        source = Bytes(b"ab")
        source.on_read = box.outbox.clear
        box.send("one", source)
        assert (box.writes, box.events) == ([], [])


class Short(Bytes):
    """A file that was cut after its length was taken."""

    def read(self, count: int) -> bytes:
        return super().read(count)[: count - 1]


class TestSourcesThatFail:
    def broken(self) -> None:
        raise OSError(5, "Input/output error")

    def test_before_anything_was_sent(self, box: Box):
        """Only that message fails."""
        source = Bytes(b"ab")
        source.on_read = self.broken
        box.send("one", source)
        box.send("two")
        assert isinstance(box.events[0], tuple)
        name, error = box.events[0]
        assert name == "one"
        assert isinstance(error, DimseError)
        assert "Input/output error" in str(error)
        assert box.events[1:] == ["two sent"]
        assert box.fragments == [(1, 3, b"two")]

    def test_later(self, box: Box):
        """The peer has a part that cannot be completed: `broken`."""
        source = Bytes(bytes(3 * WRITE_SIZE))
        box.after_write = lambda: setattr(source, "on_read", self.broken)
        box.send("one", source)
        (error,) = box.events
        assert isinstance(error, DimseError)

    def test_too_short(self, box: Box):
        box.send("one", Short(b"abcd"))
        assert "1 bytes early" in str(box.events[0])


def test_clogged(box: Box):
    """No message of ours waits, and yet the transport has enough."""
    assert not box.outbox.clogged
    box.room = 0
    assert box.outbox.clogged
    box.send("one")
    assert not box.outbox.clogged


@pytest.mark.parametrize("text", ["even", "odd"])
def test_a_data_set_is_bytes(text: str):
    """It is found out before anything is sent."""
    with pytest.raises(TypeError):
        Whole(text)  # type: ignore[arg-type]
