"""Hostile peers at the level of one connection; each test is named by its case."""

import random
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher

from dimse.acceptor import AcceptorFactory
from dimse.errors import (
    AssociationAbortedError,
    AssociationError,
    AssociationRejectedError,
    ConnectionLostError,
    MisuseError,
    TimedOutError,
)
from dimse.limits import Limits
from dimse.ul.pdu import Abort, AssociateAC, AssociateRJ, PDataTF, ReleaseRP, ReleaseRQ
from dimse.ul.protocol import UpperLayerProtocol
from dimse.ul.table import Sta
from tests.memory import Net, RawPeer
from tests.scripted import (
    ABORT,
    AC,
    COMMAND,
    ECHO,
    INVALID,
    LAST,
    RELEASE_RP,
    RELEASE_RQ,
    REQUEST,
    RJ,
    RQ,
    STORE,
    UNEXPECTED,
    data,
    echo_rq,
    echo_rsp,
    p_data,
    store_rq,
)
from tests.wire import APPLICATION, CONTEXT, CT_STORAGE, USER, VERIFICATION, item, request, uid_item

LIMITS = Limits(artim=10, associate=30, close=5, maximum_length=16384, empty_fragments=16)
USER_ABORT = Abort(0, 0)  # AA-1: what an acceptor answers to nonsense before the request
HUGE = [0xFFFFFFFF, 0x80000000, 2**20 + 1]
COMMAND_SET = echo_rq().encode()
STORE_SET = store_rq().encode()


@pytest.fixture
def factory(net: Net) -> AcceptorFactory:
    return net.acceptor(limits=LIMITS)


@pytest.fixture(autouse=True)
def bystander(net: Net, factory: AcceptorFactory) -> Iterator[RawPeer]:
    """Another association of the acceptor, which notices nothing of all this."""
    bystander = net.client(factory, "10.0.0.99")
    bystander.send(RQ)
    bystander.received.clear()
    on_finish = net.scp.on_finish
    yield bystander
    net.scp.on_finish = on_finish
    bystander.send(ECHO)
    assert isinstance(bystander.news[0], PDataTF)


@pytest.fixture
def client(net: Net, factory: AcceptorFactory) -> RawPeer:
    """A hostile requestor that has connected (Sta2)."""
    return net.client(factory)


@pytest.fixture
def associated(client: RawPeer) -> RawPeer:
    """The same in Sta6."""
    client.send(RQ)
    client.received.clear()
    return client


@pytest.fixture
def server(net: Net) -> RawPeer:
    """A hostile acceptor that was asked for an association (Sta5)."""
    server = net.server(limits=LIMITS, scps=[net.scp])
    server.received.clear()
    return server


@pytest.fixture(params=["server", "client"])
def peer(request: pytest.FixtureRequest) -> RawPeer:
    """The hostile side of an association: against our server, and against our client."""
    if request.param == "server":
        found: RawPeer = request.getfixturevalue("associated")
    else:
        found = request.getfixturevalue("server")
        found.send(AC)
    assert found.subject.state is Sta.Sta6
    return found


def header(pdu_type: int, length: int) -> bytes:
    return bytes((pdu_type, 0)) + length.to_bytes(4, "big")


def aborted(peer: RawPeer, expected: Abort) -> None:
    """One A-ABORT, nothing kept, deaf to what follows, and closed at the end of ARTIM."""
    assert peer.news == [expected]
    assert peer.subject.state is Sta.Sta13
    assert len(peer.subject._framer._partial) == 0
    user = peer.subject.user
    assert user is None or isinstance(user.ended, AssociationAbortedError)
    peer.send(bytes(100_000))
    peer.link.advance(LIMITS.artim)
    assert peer.closed
    assert peer.subject._framer._partial == b""


# P: malformed PDUs


def test_h_p01_nothing_then_close(client: RawPeer):
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    client.link.near.loseConnection()
    client.link.run()
    globalLogPublisher.removeObserver(events.append)
    assert client.link.far.lost
    assert all(event["log_level"] <= LogLevel.info for event in events)
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
    server.send(dirty(header(2, 0), 1)[:2] + dirty(request(APPLICATION, answer, user), *reserved)[2:])
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


# S: the wrong PDU for the state


@pytest.mark.parametrize("wrong", [AC, RJ, ECHO, RELEASE_RQ, RELEASE_RP])
def test_h_s01_before_the_request(client: RawPeer, wrong: bytes):
    client.send(wrong)
    aborted(client, USER_ABORT)


def test_h_s02_abort_before_the_request(client: RawPeer):
    client.send(ABORT)
    assert client.closed
    assert client.received == b""


class Undecided:
    """An establisher that answers later."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.errors: list[Exception] = []

    def associate_indication(self, request: Any) -> None:
        self.requests.append(request)

    def associate_confirmation(self, answer: Any) -> None:
        raise AssertionError

    def abort_indication(self, error: Exception) -> None:
        self.errors.append(error)


class TestSta3:
    """The request is here, and the verdict is not."""

    @pytest.fixture
    def undecided(self) -> Undecided:
        return Undecided()

    @pytest.fixture
    def client(self, net: Net, undecided: Undecided) -> RawPeer:
        client = net.raw(UpperLayerProtocol(undecided, LIMITS, net.clock))
        client.send(RQ)
        assert client.subject.state is Sta.Sta3
        assert undecided.requests == [REQUEST]
        return client

    @pytest.mark.parametrize("early", [RQ, AC, ECHO, RELEASE_RQ, RELEASE_RP])
    def test_h_s03_nothing_may_come(
        self, client: RawPeer, undecided: Undecided, early: bytes
    ):
        client.send(early)
        assert client.news == [UNEXPECTED]
        (error,) = undecided.errors
        assert isinstance(error, AssociationAbortedError)
        assert not error.by_peer
        with pytest.raises(MisuseError):
            client.subject.accept(AC)
        with pytest.raises(MisuseError):
            client.subject.reject(AC)
        client.link.run()
        assert client.received == b""

    def test_h_s03_but_an_abort(self, client: RawPeer, undecided: Undecided):
        client.send(ABORT)
        assert client.closed
        assert client.received == b""
        assert isinstance(undecided.errors[0], AssociationAbortedError)

    def test_h_s04_or_a_close(self, net: Net, client: RawPeer, undecided: Undecided):
        client.link.cut()
        assert isinstance(undecided.errors[0], ConnectionLostError)


@pytest.mark.parametrize("wrong", [RQ, ECHO, RELEASE_RQ, RELEASE_RP])
def test_h_s05_instead_of_an_answer(server: RawPeer, wrong: bytes):
    server.send(wrong)
    assert isinstance(server.outcome.value, AssociationAbortedError)
    aborted(server, UNEXPECTED)


@pytest.mark.parametrize("wrong", [RQ, AC, RJ, RELEASE_RP])
def test_h_s06_in_an_association(peer: RawPeer, wrong: bytes):
    peer.send(wrong)
    aborted(peer, UNEXPECTED)


def test_h_s07_release_while_a_response_is_pending(net: Net, associated: RawPeer):
    """What is whole is completed and answered, then comes the confirmation."""
    done: Deferred[int] = Deferred()
    net.scp.on_finish = lambda sink: done
    associated.send(STORE, data(b"ab"), RELEASE_RQ)
    assert associated.received == b""
    done.callback(0)
    associated.link.run()
    assert [type(pdu) for pdu in associated.news] == [PDataTF, ReleaseRP]


def test_h_s07_release_inside_a_data_set(net: Net, associated: RawPeer):
    """What is not whole is aborted: no object is half stored."""
    associated.send(STORE, data(b"ab", last=False), RELEASE_RQ)
    assert isinstance(net.scp.sinks[0].endings[0], AssociationAbortedError)
    aborted(associated, UNEXPECTED)


class Silent:
    """A user that answers nothing by itself."""

    busy = receiving = False
    ended: AssociationError | None = None

    def __init__(self) -> None:
        self.heard: list[str] = []

    def data_indication(self, data: PDataTF) -> None:
        self.heard.append("data")

    def release_indication(self) -> None:
        self.heard.append("release")

    def release_confirmation(self) -> None:
        self.heard.append("confirmed")

    def abort_indication(self, error: AssociationError) -> None:
        self.heard.append("abort")
        self.ended = error

    def sending_resumed(self) -> None:
        raise AssertionError


@pytest.fixture
def releasing(peer: RawPeer) -> RawPeer:
    """Against both of our sides, in Sta7: the user has asked for release."""
    peer.subject.user = Silent()
    peer.subject.release()
    peer.link.run()
    assert peer.news == [ReleaseRQ()]
    return peer


def test_h_s08_data_before_the_confirmation(releasing: RawPeer):
    releasing.send(ECHO, RELEASE_RP)
    assert releasing.subject.user.heard == ["data", "confirmed"]
    assert releasing.closed


def test_h_s08_collision(releasing: RawPeer):
    """AR-8: the requestor answers first, the acceptor last."""
    subject = releasing.subject
    releasing.send(RELEASE_RQ)
    if subject.state is Sta.Sta10:  # ours is the acceptor
        with pytest.raises(MisuseError):
            subject.release_response()
        releasing.send(RELEASE_RP)
        subject.release_response()
    else:
        subject.release_response()
        releasing.link.run()
        assert releasing.pdus == [ReleaseRP()]
        releasing.send(RELEASE_RP)
    releasing.link.run()
    assert releasing.news == [ReleaseRP()]
    assert subject.user.heard == ["release", "confirmed"]
    releasing.link.advance(LIMITS.artim)
    assert releasing.closed


def test_h_s09_data_after_the_release_request(net: Net, associated: RawPeer):
    net.scp.on_finish = lambda sink: Deferred()
    associated.send(STORE, data(b"ab"), RELEASE_RQ)
    assert associated.subject.state is Sta.Sta8
    associated.send(ECHO)
    aborted(associated, UNEXPECTED)


@pytest.mark.parametrize("wrong", [RQ, AC, RJ, ECHO, RELEASE_RQ, RELEASE_RP])
@pytest.mark.parametrize("second", [False, True])
def test_h_s10_in_a_release_collision(releasing: RawPeer, wrong: bytes, second: bool):
    subject = releasing.subject
    releasing.send(RELEASE_RQ)
    if second and subject.state is Sta.Sta9:
        subject.release_response()
        releasing.link.run()
    elif second:
        releasing.send(RELEASE_RP)
    state = subject.state
    assert state in ((Sta.Sta11, Sta.Sta12) if second else (Sta.Sta9, Sta.Sta10))
    if wrong == RELEASE_RP and state in (Sta.Sta10, Sta.Sta11):
        return  # there it is the right one
    releasing.received.clear()
    releasing.send(wrong)
    aborted(releasing, UNEXPECTED)
    assert subject.user.heard[-1] == "abort"


def test_h_s11_after_the_end(peer: RawPeer):
    """Only a request is answered, with one more A-ABORT; a peer that stays is closed."""
    peer.subject.user.abort()
    peer.link.run()
    peer.received.clear()
    peer.send(AC, RJ, ECHO, RELEASE_RQ, RELEASE_RP, p_data((9, 0, b"")))
    assert peer.received == b""
    peer.send(RQ)
    assert peer.news == [UNEXPECTED]
    peer.link.advance(LIMITS.artim - 0.1)
    peer.send(RQ)
    assert peer.news == [UNEXPECTED]
    peer.link.advance(0.1)
    assert peer.closed


@pytest.mark.parametrize("start", [header(4, 16000), header(1, 2**20), b"\xff" * 6])
def test_h_s12_a_flood_after_the_end(peer: RawPeer, start: bytes):
    """1 GiB, whatever it pretends to be: dropped as it comes."""
    peer.subject.user.abort()
    peer.link.run()
    peer.send(start)
    flood = bytes(2**24)
    for _ in range(64):
        peer.subject.dataReceived(flood)
        assert len(peer.subject._framer._partial) == 0
    peer.link.advance(LIMITS.artim)
    assert peer.closed
    assert len(peer.received) < 100


@pytest.mark.parametrize("values", [(1, 0), (77, 99), (2, 3)])
def test_h_s13_an_abort_with_strange_values(peer: RawPeer, values: tuple[int, int]):
    peer.send(Abort(*values).encode())
    assert peer.closed
    assert peer.received == b""
    error = peer.subject.user.ended
    assert (error.source, error.reason, error.by_peer) == (*values, True)


BEFORE_RESET = [
    b"",
    RQ[:40],
    RQ,
    RQ + ECHO[:9],
    RQ + STORE + data(b"ab", last=False),
    RQ + STORE + data(b"ab"),
    RQ + STORE + data(b"ab") + RELEASE_RQ,
    RQ + STORE + data(b"ab") + ECHO,
    RQ + RELEASE_RQ,
    RQ + RQ,
]


@pytest.mark.parametrize("wire", BEFORE_RESET)
def test_h_s14_reset_in_every_state(net: Net, client: RawPeer, wire: bytes):
    net.scp.on_finish = lambda sink: Deferred()
    client.send(wire)
    written = len(client.link.far.writes)
    client.link.cut()
    assert client.subject.state is Sta.Sta1
    assert len(client.link.far.writes) == written
    client.link.advance(100)


@pytest.mark.parametrize("wire", [b"", ECHO, STORE, STORE + data(b"ab") + ECHO])
def test_h_s15_a_half_close(net: Net, associated: RawPeer, wire: bytes):
    """The FIN of a peer is the end, for nobody there can answer any more."""
    done: Deferred[int] = Deferred()
    net.scp.on_finish = lambda sink: done
    associated.send(wire)
    associated.link.near.loseConnection()
    associated.subject.resume_reading()  # as soon as it is looked at
    associated.link.run()
    assert isinstance(associated.subject.user.ended, ConnectionLostError)
    written = len(associated.link.far.writes)
    done.callback(0)
    assert len(associated.link.far.writes) == written


# F: fragmentation

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
    associated.send(
        p_data((3, COMMAND, STORE_SET[:7])), p_data((3, COMMAND | LAST, STORE_SET[7:]))
    )
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
