"""H-S: the wrong PDU for the state; each test is named by its case."""

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from dimse.errors import (
    AssociationAbortedError,
    AssociationError,
    ConnectionLostError,
    MisuseError,
    ReleasedError,
)
from dimse.services.verification import echo
from dimse.ul.pdu import Abort, PDataTF, ReleaseRP, ReleaseRQ
from dimse.ul.protocol import UpperLayerProtocol
from dimse.ul.table import Sta
from tests.hostile.connections import LIMITS, aborted, header
from tests.memory import Net, RawPeer
from tests.scripted import (
    ABORT,
    AC,
    ECHO,
    RELEASE_RP,
    RELEASE_RQ,
    REQUEST,
    RJ,
    RQ,
    STORE,
    UNEXPECTED,
    data,
    p_data,
)
from tests.sides import BOTH_SIDES, joined

pytestmark = pytest.mark.usefixtures("bystander")
USER_ABORT = Abort(0, 0)  # AA-1


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
    def test_h_s03_nothing_may_come(self, client: RawPeer, undecided: Undecided, early: bytes):
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


@BOTH_SIDES
def test_h_s07_release_while_a_response_is_pending(net: Net, side: str):
    """What is whole is completed and answered, then comes the confirmation."""
    done: Deferred[int] = Deferred()
    net.scp.on_finish = lambda sink: done
    _, peer = joined(net, side, [net.scp], limits=LIMITS)
    peer.send(STORE, data(b"ab"), RELEASE_RQ)
    assert peer.pdus == []
    done.callback(0)
    net.run()
    assert [type(pdu) for pdu in peer.pdus] == [PDataTF, ReleaseRP]


@BOTH_SIDES
def test_h_s07_release_inside_a_data_set(net: Net, side: str):
    """What is not whole is aborted: no object is half stored."""
    ours, peer = joined(net, side, [net.scp], limits=LIMITS)
    peer.send(STORE, data(b"ab", last=False), RELEASE_RQ)
    assert isinstance(net.scp.sinks[0].endings[0], AssociationAbortedError)
    assert isinstance(ours.ended, AssociationAbortedError)
    assert peer.pdus == [UNEXPECTED]
    net.advance(LIMITS.artim)
    assert peer.closed


@BOTH_SIDES
def test_h_s07_release_instead_of_a_response(net: Net, side: str):
    """Our own requests have failed: the release is confirmed, and nothing waits for ever."""
    ours, peer = joined(net, side, [net.scp], limits=LIMITS)
    outcomes = [net.outcome(echo(ours)) for _ in range(2)]
    net.run()
    peer.received.clear()
    peer.send(RELEASE_RQ)
    assert peer.pdus == [ReleaseRP()]
    assert [type(each.value) for each in outcomes] == [ReleasedError] * 2
    net.advance(LIMITS.artim)
    assert peer.closed


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
