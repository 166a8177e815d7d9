"""H-P: malformed PDUs at the level of one connection; each test is named by its case."""

import pytest
from twisted.logger import LogLevel

from dimse.acceptor import AcceptorFactory
from dimse.errors import (
    AssociationAbortedError,
    AssociationRejectedError,
    ConnectionLostError,
    TimedOutError,
)
from dimse.ul.pdu import Abort, AssociateAC, AssociateRJ, PDataTF, ReleaseRP
from tests.hostile.connections import LIMITS, aborted, header
from tests.memory import Net, RawPeer
from tests.scripted import (
    AC,
    COMMAND,
    ECHO,
    INVALID,
    RELEASE_RQ,
    RQ,
    UNEXPECTED,
    p_data,
)
from tests.wire import APPLICATION, CONTEXT, USER, VERIFICATION, item, request, uid_item

pytestmark = pytest.mark.usefixtures("bystander")
USER_ABORT = Abort(0, 0)  # AA-1: what an acceptor answers to nonsense before the request
HUGE = [0xFFFFFFFF, 0x80000000, 2**20 + 1]


def test_h_p01_nothing_then_close(net: Net, client: RawPeer):
    client.link.near.loseConnection()
    client.link.run()
    assert client.link.far.lost
    assert all(event["log_level"] <= LogLevel.info for event in net.events)
    assert client.received == b""


@pytest.mark.parametrize("count", range(1, 6))
def test_h_p02_part_of_a_header(client: RawPeer, server: RawPeer, count: int):
    client.send(RQ[:count])
    client.link.advance(LIMITS.artim)
    assert client.closed
    assert client.received == b""
    server.send(AC[:count])
    server.link.advance(LIMITS.associate)
    assert isinstance(server.outcome.value, TimedOutError)


@pytest.mark.parametrize("length", HUGE)
def test_h_p05_a_length_beyond_the_limit(client: RawPeer, server: RawPeer, length: int):
    """Refused on the header: not a byte behind it is waited for, or kept."""
    client.send(header(1, length))
    aborted(client, USER_ABORT)
    server.send(header(2, length))
    aborted(server, INVALID)
    assert isinstance(server.outcome.value, AssociationAbortedError)


def test_h_p06_truncated_at_every_byte(net: Net, factory: AcceptorFactory):
    for count in range(len(RQ)):
        client = net.client(factory)
        client.send(RQ[:count])
        client.link.near.loseConnection()
        client.link.run()
        assert client.link.far.lost
        assert client.received == b""
    for count in range(len(AC)):
        server = net.server()
        server.send(AC[:count])
        server.link.near.loseConnection()
        server.link.run()
        assert isinstance(server.outcome.value, ConnectionLostError)


@pytest.mark.parametrize("rest", [b"\0", b"\x10\0\0", b"\x04\0\0\0\0\x06\0"])
def test_h_p07_bytes_behind_the_last_item(client: RawPeer, server: RawPeer, rest: bytes):
    client.send(request(APPLICATION, CONTEXT, USER, rest))
    aborted(client, USER_ABORT)
    server.send(header(2, len(AC) - 6 + len(rest)) + AC[6:] + rest)
    aborted(server, INVALID)


@pytest.mark.parametrize("length", range(6))
def test_h_p08_p_data_without_a_pdv(peer: RawPeer, length: int):
    peer.send(header(4, length) + bytes(length))
    aborted(peer, INVALID)


def test_h_p09_p_data_above_our_maximum(peer: RawPeer):
    """On the header; one of exactly the maximum is fine (PS3.8 D.1)."""
    most = LIMITS.maximum_length
    peer.send(p_data((1, COMMAND, bytes(most - 6)))[:-1])
    assert peer.received == b""
    peer.send(b"\0", header(4, most + 1))
    aborted(peer, INVALID)


@pytest.mark.parametrize("length", [0, 3, 5, 0xFFFFFFFF])
@pytest.mark.parametrize("pdu_type", [3, 5, 6])
def test_h_p10_short_pdus_of_another_length(peer: RawPeer, pdu_type: int, length: int):
    peer.send(header(pdu_type, length) + bytes(min(length, 5)))
    aborted(peer, INVALID)


@pytest.mark.parametrize("length", [0, 3, 5, 2**20, 0xFFFFFFFF])
def test_h_p10_an_abort_of_another_length_aborts(peer: RawPeer, length: int):
    """At once: what it says it brings is not waited for."""
    peer.send(header(7, length))
    assert peer.closed
    assert peer.received == b""
    assert isinstance(peer.subject.user.ended, AssociationAbortedError)
    assert len(peer.subject._framer._partial) == 0


@pytest.mark.parametrize("length", [0, 3, 5])
def test_h_p10_a_rejection_of_another_length(server: RawPeer, length: int):
    server.send(header(3, length) + bytes(length))
    aborted(server, INVALID)
    assert isinstance(server.outcome.value, AssociationAbortedError)


def dirty(wire: bytes, *positions: int) -> bytes:
    """With these bytes set to FFH."""
    changed = bytearray(wire)
    for position in positions:
        changed[position] = 0xFF
    return bytes(changed)


def test_h_p12_reserved_bytes_are_not_tested(client: RawPeer, server: RawPeer):
    def ff(kind: int, body: bytes) -> bytes:
        return dirty(item(kind, body), 1)

    abstract, transfer = uid_item(0x30, VERIFICATION), uid_item(0x40, "1.2.840.10008.1.2")
    user = ff(0x50, ff(0x51, bytes((0, 0, 0x40, 0))) + ff(0x52, b"1.2.3"))
    context = ff(0x20, b"\1\xff\xff\xff" + dirty(abstract, 1) + dirty(transfer, 1))
    rq = request(dirty(APPLICATION, 1), context, user)
    reserved = (1, 8, 9, *range(42, 74))  # of the PDU; 10 to 41 are the AE titles
    client.send(dirty(rq, *reserved))
    assert isinstance(client.news[0], AssociateAC)
    client.send(dirty(ECHO, 1))
    assert isinstance(client.news[0], PDataTF)
    client.send(dirty(RELEASE_RQ, 1, 6, 7, 8, 9))
    assert client.news == [ReleaseRP()]
    answer = ff(0x21, b"\1\xff\0\xff" + dirty(transfer, 1))
    ac = b"\2" + dirty(request(APPLICATION, answer, user), *reserved)[1:]
    server.send(ac)
    assert server.outcome.value.contexts.keys() == {1}


def test_h_p16_128_contexts(client: RawPeer):
    def context(number: int) -> bytes:
        body = bytes((number, 0, 0, 0)) + uid_item(0x30, VERIFICATION)
        return item(0x20, body + uid_item(0x40, "1.2.840.10008.1.2"))

    client.send(request(APPLICATION, *map(context, range(1, 256, 2)), USER))
    (answer,) = client.news
    assert isinstance(answer, AssociateAC)
    assert [(c.context_id, c.result) for c in answer.contexts] == [(i, 0) for i in range(1, 256, 2)]


@pytest.mark.parametrize("size", [0, 1, 1000, 65535])
def test_h_p23_unknown_items(client: RawPeer, server: RawPeer, size: int):
    """PS3.8 9.3.1, D.2: they are ignored."""
    strange = item(0x99, bytes(size))
    user = item(0x50, item(0x51, bytes((0, 0, 0x40, 0))) + item(0x77, bytes(min(size, 65000))))
    client.send(request(strange, APPLICATION, CONTEXT, strange, user, strange))
    assert isinstance(client.news[0], AssociateAC)
    body = AC[6:] + strange
    server.send(header(2, len(body)) + body)
    assert server.outcome.value.contexts.keys() == {1, 3}


def test_h_p35_two_requests_in_one_segment(client: RawPeer):
    client.send(RQ + RQ)
    answer, *rest = client.news
    assert isinstance(answer, AssociateAC)
    assert rest == [UNEXPECTED]


def test_h_p36_p_data_before_our_answer(client: RawPeer):
    """Our acceptor decides at once, so what was pipelined finds Sta6. One that decides later is
    in Sta3, where nothing may come: `test_h_s03_...`."""
    client.send(RQ + ECHO)
    assert [type(pdu) for pdu in client.news] == [AssociateAC, PDataTF]


@pytest.mark.parametrize(
    ("answers", "usable"),
    [
        ([(5, 0, "1.2.840.10008.1.2"), (2, 0, "1.2.840.10008.1.2")], set()),
        ([(1, 0, "1.2.3.4.5"), (3, 0, "1.2.840.10008.1.2")], {3}),
        ([(3, 0, "1.2.840.10008.1.2.1")], {3}),
        ([(1, 4, "1.2.840.10008.1.2"), (3, 77, "1.2.840.10008.1.2")], set()),
        ([], set()),
    ],
)
def test_h_p37_an_answer_to_what_was_not_asked(
    server: RawPeer, answers: list[tuple[int, int, str]], usable: set[int]
):
    """Such a context is not usable; the others are."""
    contexts = [
        item(0x21, bytes((number, 0, result, 0)) + uid_item(0x40, syntax))
        for number, result, syntax in answers
    ]
    body = request(APPLICATION, *contexts, USER)[6:]
    server.send(header(2, len(body)) + body)
    assert server.outcome.value.contexts.keys() == usable


@pytest.mark.parametrize("values", [(0, 0, 0), (255, 255, 255), (1, 3, 9), (2, 77, 1)])
def test_h_p38_a_rejection_outside_the_tables(server: RawPeer, values: tuple[int, int, int]):
    server.send(AssociateRJ(*values).encode())
    error = server.outcome.value
    assert isinstance(error, AssociationRejectedError)
    assert (error.result, error.source, error.reason) == values
    assert server.closed
