"""H-F: fragments of messages; each test is named by its case."""

import random
from collections.abc import Iterator
from itertools import repeat

import pytest

from dimse.acceptor import AcceptorFactory
from dimse.limits import Limits
from dimse.ul.pdu import PDataTF
from tests.hostile.connections import LIMITS, aborted
from tests.memory import Net, RawPeer
from tests.scripted import (
    COMMAND,
    ECHO,
    INVALID,
    LAST,
    RELEASE_RQ,
    RQ,
    STORE,
    data,
    echo_rq,
    p_data,
    store_rq,
)

pytestmark = pytest.mark.usefixtures("bystander")
COMMAND_SET = echo_rq().encode()
STORE_SET = store_rq().encode()
SESSION = b"".join(
    (RQ, ECHO, STORE, data(b"abcd", last=False), data(b""), STORE, data(b"ef"), ECHO, RELEASE_RQ)
)


def replies(net: Net, factory: AcceptorFactory, sizes: Iterator[int]) -> tuple[bytes, list[bytes]]:
    """What a whole session brings, cut into segments of `sizes`: on the wire, and in the sinks."""
    before = len(net.scp.sinks)
    client = net.client(factory)
    client.link.sizes = sizes
    client.send(SESSION)
    client.link.cut()
    return bytes(client.received), [bytes(sink.data) for sink in net.scp.sinks[before:]]


def test_h_f01_one_byte_per_segment(net: Net, factory: AcceptorFactory):
    whole = replies(net, factory, repeat(1 << 20))
    assert whole[1] == [b"", b"abcd", b"ef", b""]
    assert replies(net, factory, repeat(1)) == whole


def test_h_f02_segments_of_any_size(net: Net, factory: AcceptorFactory):
    whole = replies(net, factory, repeat(1 << 20))
    for seed in range(300):
        sizes = map(random.Random(seed).choice, repeat((1, 2, 7, 90)))
        assert replies(net, factory, sizes) == whole


def test_h_f03_empty_fragments(peer: RawPeer):
    """Some are taken (PS3.8 E.1 asks receivers to), a flood of them is not."""
    peer.send(*[p_data((1, COMMAND, b""))] * LIMITS.empty_fragments)
    assert peer.received == b""
    peer.send(p_data((1, COMMAND, b"")))
    aborted(peer, INVALID)


def test_h_f03_empty_fragments_in_a_data_set(net: Net, associated: RawPeer):
    associated.send(STORE)
    for _ in range(10):
        associated.send(*[data(b"", last=False)] * LIMITS.empty_fragments, data(b"ab", last=False))
    assert net.scp.sinks[0].data == b"ab" * 10
    associated.send(*[data(b"", last=False)] * (LIMITS.empty_fragments + 1))
    aborted(associated, INVALID)


def test_h_f04_fragments_of_odd_length(net: Net, associated: RawPeer):
    """Against PS3.8 E.1, but nothing is lost by taking them."""
    associated.send(p_data((3, COMMAND, STORE_SET[:7])), p_data((3, COMMAND | LAST, STORE_SET[7:])))
    associated.send(data(b"a", last=False), data(b"bcd", last=False), data(b"e"))
    assert net.scp.sinks[0].data == b"abcde"
    assert isinstance(associated.news[0], PDataTF)


def test_h_f05_many_pdvs_in_one_pdu(net: Net, associated: RawPeer):
    command = [(3, COMMAND, STORE_SET[n : n + 1]) for n in range(len(STORE_SET))]
    command[-1] = (3, COMMAND | LAST, STORE_SET[-1:])
    message = [*command, *[(3, 0, b"ab")] * 100, (3, LAST, b"")]
    associated.send(p_data(*message, *message, (1, COMMAND | LAST, COMMAND_SET)))
    assert [bytes(sink.data) for sink in net.scp.sinks] == [b"ab" * 100] * 2 + [b""]
    assert len(associated.news) == 3


def test_h_f05_a_second_message_inside_the_first(net: Net, associated: RawPeer):
    associated.send(
        p_data((3, COMMAND | LAST, STORE_SET), (3, 0, b"ab"), (1, COMMAND | LAST, COMMAND_SET))
    )
    aborted(associated, INVALID)
    assert len(net.scp.sinks[0].endings) == 1


def test_h_f06_contexts_interleaved(peer: RawPeer):
    peer.send(p_data((1, COMMAND, COMMAND_SET[:8])), p_data((3, COMMAND, STORE_SET[:8])))
    aborted(peer, INVALID)


def test_h_f07_context_changes_behind_the_command(net: Net, associated: RawPeer):
    associated.send(STORE, p_data((1, LAST, b"ab")))
    aborted(associated, INVALID)
    assert net.scp.sinks[0].data == b""


def test_h_f08_data_without_command(peer: RawPeer):
    peer.send(data(b"ab"))
    aborted(peer, INVALID)


def test_h_f09_a_command_inside_the_data_set(net: Net, associated: RawPeer):
    associated.send(STORE, data(b"ab", last=False), p_data((3, COMMAND | LAST, STORE_SET)))
    aborted(associated, INVALID)
    assert len(net.scp.sinks) == 1


def test_h_f10_data_where_none_was_announced(net: Net, associated: RawPeer):
    associated.send(ECHO)
    associated.received.clear()
    associated.send(p_data((1, LAST, b"ab")))
    aborted(associated, INVALID)


def test_h_f11_a_command_instead_of_the_announced_data(net: Net, associated: RawPeer):
    associated.send(STORE, ECHO)
    aborted(associated, INVALID)


def test_h_f12_a_command_without_end(peer: RawPeer):
    piece = p_data((1, COMMAND, bytes(16000)))
    for _ in range(4):
        peer.send(piece)
    assert peer.received == b""
    peer.send(piece)  # above Limits.command_length
    aborted(peer, INVALID)


def test_h_f12_a_data_set_without_end(net: Net):
    client = net.client(net.acceptor(limits=Limits(instance_length=10_000, artim=LIMITS.artim)))
    client.send(RQ, STORE, *[data(bytes(1000), last=False)] * 10)
    client.received.clear()
    client.send(data(b"a"))
    aborted(client, INVALID)
    assert len(net.scp.sinks[0].data) == 10_000


@pytest.mark.parametrize("context_id", [0, 2, 5, 255])
def test_h_f13_a_context_that_was_not_accepted(peer: RawPeer, context_id: int):
    peer.send(p_data((context_id, COMMAND | LAST, COMMAND_SET)))
    aborted(peer, INVALID)


def test_h_f14_other_bits_of_the_control_header(net: Net, associated: RawPeer):
    """PS3.8 E.2: bits 2 to 7 are never checked."""
    associated.send(
        p_data((3, 0xFC | COMMAND | LAST, STORE_SET)),
        p_data((3, 0xFC, b"ab")),
        p_data((3, 0xFC | LAST, b"cd")),
    )
    assert net.scp.sinks[0].data == b"abcd"
    assert isinstance(associated.news[0], PDataTF)


def test_h_f15_an_empty_last_fragment(net: Net, associated: RawPeer):
    associated.send(STORE, data(b"ab", last=False), data(b""))
    assert net.scp.sinks[0].data == b"ab"
    assert net.scp.sinks[0].endings == ["finish"]
    assert isinstance(associated.news[0], PDataTF)


def test_h_f15_an_empty_data_set(net: Net, associated: RawPeer):
    associated.send(STORE, data(b""))
    assert net.scp.sinks[0].endings == ["finish"]
