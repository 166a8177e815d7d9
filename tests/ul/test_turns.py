"""Every peer has its share of a turn of the reactor, whatever another one sends."""

from functools import partial
from typing import Any
from weakref import ref

import pytest
from twisted.internet.task import Clock

from dimse.ul.pdu import PDataTF
from dimse.ul.turns import SHARE, Turns
from tests.memory import Net, RecordingSink
from tests.scripted import ECHO, STORE, data, p_data


def test_one_call_at_a_time_in_their_order():
    """A reactor makes the next one in its next turn."""
    clock, told = Clock(), list[tuple[str, int]]()
    turns = Turns(clock)
    for who in "abc":
        turns.wait(who, partial(lambda who: told.append((who, len(clock.getDelayedCalls()))), who))
    turns.leave("b")
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(0)
    assert told == [("a", 1), ("c", 0)]


def test_nobody_is_left():
    clock = Clock()
    turns = Turns(clock)
    turns.wait("a", lambda: None)
    turns.leave("a")
    turns.leave("a")
    assert clock.getDelayedCalls() == []


def test_k20_a_flood_does_not_hold_up_another(net: Net):
    """A thousand requests in one read: another peer has its answer before they are done."""
    factory = net.acceptor()
    flood, other = net.associated(factory, "10.0.0.1"), net.associated(factory, "10.0.0.2")
    flood.transport.write(ECHO * 1000)
    flood.link.run()
    answered = len(flood.news)
    other.transport.write(ECHO)
    other.link.run()
    assert isinstance(other.news[0], PDataTF)
    assert answered < 100
    net.run()
    assert answered + len(flood.news) == 1000
    assert not flood.closed


def test_k20_who_waits_takes_little_while_others_are_served(
    net: Net, monkeypatch: pytest.MonkeyPatch
):
    """A PDU in each turn as long as somebody else asks and waits; its share again soon after."""
    shares, factory = list[int](), net.acceptor()
    flood, other = net.associated(factory, "10.0.0.1"), net.associated(factory, "10.0.0.2")
    parse = flood.subject._parse

    def parse_and_note(share: int = SHARE) -> None:
        shares.append(share)
        parse(share)

    monkeypatch.setattr(flood.subject, "_parse", parse_and_note)
    flood.transport.write(ECHO * 100)
    flood.link.run()
    other.transport.write(ECHO)
    other.link.run()
    net.clock.advance(0)
    assert shares == [SHARE, *81 * [1]]  # the last one finds nothing
    net.clock.advance(0.1)
    flood.transport.write(ECHO * 100)
    net.run()
    assert shares[82:] == 6 * [SHARE]


def test_k20_short_reads_of_its_own_leave_it_its_share():
    """A sender of small PDUs who is alone: between two reads that hold more comes one with less."""
    clock = Clock()
    turns = Turns(clock)
    turns.served("a")
    turns.served("a")
    assert (turns.share("a"), turns.share("b")) == (SHARE, 1)
    clock.advance(0.01)
    turns.served("b")
    assert (turns.share("a"), turns.share("b")) == (1, 1)
    clock.advance(0.045)
    turns.served("a")  # which was served alone for longer than counts
    assert (turns.share("a"), turns.share("b")) == (1, 1)
    clock.advance(0.01)
    assert (turns.share("a"), turns.share("b")) == (SHARE, 1)


def test_of_who_was_served_nothing_is_kept():
    turns = Turns(Clock())
    peer: Any = type("Peer", (), {})()
    kept = ref(peer)
    turns.served(peer)
    turns.leave(peer)
    del peer
    assert kept() is None


def test_what_was_read_is_taken_before_a_pause_ends(net: Net):
    """Reading that is paused and goes on in the middle of a share takes nothing twice or early."""
    client = net.associated()
    client.transport.write(ECHO * 100)
    client.link.run()
    client.subject.pause_reading()
    net.run()
    paused = len(client.news)
    assert paused < 100
    client.subject.resume_reading()
    net.run()
    assert paused + len(client.news) == 100


def test_a_pause_between_two_shares_is_no_share(net: Net):
    """Who pauses and goes on while others have their turn waits for its own."""
    client = net.associated()
    client.transport.write(ECHO * 100)
    client.link.run()
    answered = len(client.news)
    assert answered < 100
    client.subject.pause_reading()
    client.subject.resume_reading()
    assert not client.subject.transport.reading
    assert client.news == []
    net.run()
    assert answered + len(client.news) == 100


def test_a_pause_while_a_pdu_is_taken(net: Net):
    """Nothing behind that PDU is taken, though reading went on for a moment in the middle of it."""
    client = net.associated()

    def write(_: RecordingSink) -> None:
        client.subject.pause_reading()
        client.subject.resume_reading()
        client.subject.pause_reading()

    net.scp.on_write = write
    client.send(STORE + p_data((3, 0, b"12"), (3, 0, b"34")) + data(b"56"))
    (sink,) = net.scp.sinks
    assert sink.data == b"1234"
    net.scp.on_write = lambda _: None
    client.subject.resume_reading()
    net.run()
    assert (bytes(sink.data), *sink.endings) == (b"123456", "finish")
