"""Who is admitted as a requestor, with what, and when the verdict takes its time (H-S03, H-S04)."""

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import formatEvent

from dimse import (
    Admission,
    AssociationAbortedError,
    AssociationError,
    AssociationRejectedError,
    Limits,
    MisuseError,
    Requesting,
    StatusError,
    VerificationSCP,
    associate,
    echo,
    listen,
    username_and_passcode,
)
from dimse.testing import Network
from dimse.ul.pdu import Abort, AssociateAC, AssociateRJ
from tests.memory import RecordingSCP
from tests.scripted import ECHO, RELEASE_RQ, RQ, STORE, data
from tests.wire import VERIFICATION


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


class Verdict:
    """Decides when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Requesting] = []
        self.cancelled = 0
        self.verdict: Deferred[Admission | None] = Deferred(lambda _: self._cancel())

    def _cancel(self) -> None:
        self.cancelled += 1

    def __call__(self, requesting: Requesting) -> "Deferred[Admission | None]":
        self.asked.append(requesting)
        return self.verdict


def request(network: Network, admit: Any, **options: Any) -> Any:
    endpoint = network.listen([VerificationSCP()], admit=admit)
    pending = associate(endpoint, reactor=network.clock, **options)
    network.run()
    return pending


def test_refused(network: Network):
    def admit(requesting: Requesting) -> None:
        raise AssociationRejectedError(1, 1, 3)

    with pytest.raises(AssociationRejectedError) as caught:
        network.result(request(network, admit))
    assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 3)


def test_who_asks(network: Network):
    """The address without its port; and what came in clear has no certificate."""
    verdict = Verdict()
    pending = request(network, verdict)
    verdict.verdict.callback(None)
    network.result(pending)
    (asked,) = verdict.asked
    assert asked.peer.address.rpartition(":")[0] == asked.host != ""
    assert (asked.encrypted, asked.certificate) == (False, None)


def test_other_scps_and_limits(network: Network):
    """What this requestor gets, and no other one."""
    limits = Limits(maximum_length=8192)
    association = network.result(request(network, lambda _: Admission(scps=[], limits=limits)))
    assert association.contexts == {}
    assert association.peer_information.maximum_length == 8192


def test_other_scps_perform(network: Network):
    """They do not only take part in the negotiation."""
    scp = RecordingSCP()
    association = network.result(request(network, lambda _: Admission(scps=[scp])))
    assert network.result(echo(association)) == 0
    assert [sink.endings for sink in scp.sinks] == [["finish"]]


def test_other_limits_bound_what_is_performed(network: Network):
    scp = RecordingSCP()
    scp.on_finish = lambda sink: Deferred()
    admission = Admission(scps=[scp], limits=Limits(perform=5))
    association = network.result(request(network, lambda _: admission))
    echoed = echo(association)
    network.advance(5)
    with pytest.raises(StatusError, match="0x0110"):
        network.result(echoed)


@pytest.mark.parametrize(
    ("usual", "admitted", "length", "taken"),
    [
        (16384, 65536, 20_000, True),
        (65536, 16384, 20_000, False),
        (65536, 16384, 16_000, True),
    ],
)
def test_other_limits_bound_the_connection(
    network: Network, usual: int, admitted: int, length: int, taken: bool
):
    """The maximum length that is announced is the one that holds (PS3.8 D.1)."""
    admission = Admission(limits=Limits(maximum_length=admitted))
    endpoint = network.listen(
        [RecordingSCP()], limits=Limits(maximum_length=usual), admit=lambda _: admission
    )
    client = network.scripted_requestor(endpoint)
    client.send(RQ)
    (answer,) = client.pdus
    assert isinstance(answer, AssociateAC)
    assert answer.user_information is not None
    assert answer.user_information.maximum_length == admitted
    client.send(STORE, data(bytes(length)))
    assert (client.pdus[-1] == Abort(2, 6)) is not taken
    network.cut()


@pytest.mark.parametrize(("usual", "admitted"), [(300, 10), (10, 300)])
def test_other_limits_time_the_connection(network: Network, usual: int, admitted: int):
    admission = Admission(limits=Limits(idle=admitted))
    endpoint = network.listen(
        [RecordingSCP()], limits=Limits(idle=usual), admit=lambda _: admission
    )
    ours = network.result(associate(endpoint, limits=Limits(idle=9999), reactor=network.clock))
    network.advance(admitted - 1)
    assert ours.ended is None
    network.advance(2)
    assert ours.ended is not None


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("response", [b"", b"ticket", None])
def test_identity(network: Network, wanted: bool, response: bytes | None):
    """It reaches `admit`; the answer goes out when it was asked for (PS3.7 D.3.3.7.2)."""
    seen: list[Any] = []

    async def admit(requesting: Requesting) -> Admission:
        seen.append(requesting.user_identity)
        return Admission(identity_response=response)

    identity = username_and_passcode("user", "secret", response=wanted)
    association = network.result(request(network, admit, user_identity=identity))
    assert seen == [identity]
    assert "secret" not in repr(seen)
    answer = association.peer_information.user_identity_response
    if wanted and response is not None:
        assert answer.response == response
    else:
        assert answer is None


def test_an_exception(network: Network):
    """RJ(2,3,1), and the bug is in the log."""
    with pytest.raises(AssociationRejectedError) as caught:
        network.result(request(network, lambda _: 1 / 0))
    assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 1)
    assert network.flush_logged_errors(ZeroDivisionError)


def test_too_slow(network: Network):
    verdict = Verdict()
    endpoint = network.listen([VerificationSCP()], admit=verdict)
    client = network.scripted_requestor(endpoint)
    client.send(RQ)
    network.advance(29)
    assert client.pdus == []
    network.advance(2)
    assert client.pdus == [AssociateRJ(2, 3, 1)]
    assert verdict.cancelled == 1
    assert any("the associate time-out of 30 s" in formatEvent(event) for event in network.events)
    network.advance(10)  # ARTIM


@pytest.mark.parametrize("late", [None, Admission(), ZeroDivisionError()])
def test_deaf_to_its_cancellation(network: Network, late: Any):
    """The requestor is answered all the same, and its place is free; a late verdict is dropped."""
    verdicts: list[Deferred[Any]] = []

    async def admit(requesting: Requesting) -> Admission:
        while True:
            verdicts.append(Deferred())
            try:
                return await verdicts[-1]  # type: ignore[no-any-return]
            except CancelledError:
                continue

    one = Limits(connections=1)
    endpoint = network.listen([VerificationSCP()], admit=admit, limits=one)
    client = network.scripted_requestor(endpoint)
    client.send(RQ)
    network.advance(one.associate)
    assert client.pdus == [AssociateRJ(2, 3, 1)]
    network.advance(one.artim)
    assert client.closed
    if isinstance(late, Exception):
        verdicts[-1].errback(late)
    elif late is not None:
        verdicts[-1].callback(late)
    assert not network.scripted_requestor(endpoint).closed


@pytest.mark.parametrize("gone_after", [1, 40])
def test_no_timer_outlives_its_connection(network: Network, gone_after: float):
    """Nor does that of an `admit` that goes on when nobody waits any more."""

    async def admit(requesting: Requesting) -> Admission:
        try:
            await Deferred()
        except CancelledError:
            await Deferred()
        raise AssertionError

    client = network.scripted_requestor(network.listen([VerificationSCP()], admit=admit))
    client.send(RQ)
    network.advance(gone_after)
    client.close()
    network.run()
    assert network.clock.getDelayedCalls() == []


@pytest.mark.parametrize("response", ["text", bytes(0xFFFE), Deferred()])
def test_an_identity_response_that_cannot_be(response: Any):
    with pytest.raises(MisuseError):
        Admission(identity_response=response)


def test_an_identity_response_that_does_not_fit_the_answer(network: Network):
    """With all else that the answer holds it is too long: the requestor does not wait for ever."""
    verdict = Verdict()
    identity = username_and_passcode("user", "secret", response=True)
    pending = request(network, verdict, user_identity=identity)
    verdict.verdict.callback(Admission(identity_response=bytes(0xFFFD)))
    with pytest.raises(AssociationAbortedError):
        network.result(pending)
    assert len(network.failures) == 1
    network.failures.clear()
    network.advance(10)
    assert network.clock.getDelayedCalls() == []


class TestWaiting:
    @pytest.fixture
    def verdict(self) -> Verdict:
        return Verdict()

    @pytest.fixture
    def client(self, network: Network, verdict: Verdict) -> Any:
        endpoint = network.listen([VerificationSCP()], admit=verdict)
        client = network.scripted_requestor(endpoint)
        client.send(RQ)
        assert client.pdus == []
        return client

    def test_admitted_later(self, network: Network, client: Any, verdict: Verdict):
        network.advance(20)
        verdict.verdict.callback(None)
        network.run()
        assert isinstance(client.pdus[0], AssociateAC)
        assert verdict.asked[0].peer.ae_title == "MODALITY"

    @pytest.mark.parametrize("early", [RQ, ECHO, RELEASE_RQ])
    def test_h_s03_nothing_may_come(
        self, network: Network, client: Any, verdict: Verdict, early: bytes
    ):
        """H-P36 too: A-ABORT, and a verdict that comes too late is dropped."""
        client.send(early)
        assert client.pdus == [Abort(2, 2)]
        assert verdict.cancelled == 1
        network.advance(10)
        assert client.closed

    def test_h_s04_the_peer_goes(self, network: Network, client: Any, verdict: Verdict):
        client.close()
        network.run()
        assert verdict.cancelled == 1


@pytest.mark.parametrize("early", [ECHO, None])
def test_a_verdict_in_spite_of_the_cancellation(network: Network, early: bytes | None):
    """H-S03 and H-S04: it is dropped, and the place of the connection is free again."""
    verdicts: list[Admission] = []

    async def admit(requesting: Requesting) -> Admission:
        try:
            await Deferred()
        except CancelledError:
            verdicts.append(Admission())
        return verdicts[-1]

    one = Limits(connections=1, associations=1)
    endpoint = network.listen([VerificationSCP()], admit=admit, limits=one)
    for number in (1, 2):
        client = network.scripted_requestor(endpoint)
        client.send(RQ)
        assert not client.closed
        if early is None:
            client.close()
        else:
            client.send(early)
        network.advance(10)  # ARTIM
        assert len(verdicts) == number
        assert client.pdus == ([] if early is None else [Abort(2, 2)])


class TestLimits:
    """They hold for those who are to be admitted too."""

    @pytest.fixture
    def verdict(self) -> Verdict:
        return Verdict()

    @pytest.fixture
    def clients(self, network: Network, verdict: Verdict) -> list[Any]:
        """Two requestors, of whom there is room for one."""
        options: dict[str, Any] = {"admit": verdict, "limits": Limits(associations=1)}
        endpoint = network.listen([VerificationSCP()], **options)
        return [network.scripted_requestor(endpoint) for _ in range(2)]

    def test_nobody_is_asked_when_there_is_no_room(
        self, network: Network, clients: list[Any], verdict: Verdict
    ):
        first, second = clients
        first.send(RQ)
        verdict.verdict.callback(None)
        network.run()
        second.send(RQ)
        assert second.pdus == [AssociateRJ(2, 3, 2)]
        assert len(verdict.asked) == 1
        network.advance(10)

    def test_the_room_may_be_gone_when_the_verdict_comes(
        self, network: Network, clients: list[Any], verdict: Verdict
    ):
        for client in clients:
            client.send(RQ)
        assert len(verdict.asked) == 2
        verdict.verdict.callback(None)
        network.run()
        first, second = clients
        assert isinstance(first.pdus[0], AssociateAC)
        assert second.pdus == [AssociateRJ(2, 3, 2)]
        network.advance(10)


def test_the_connection_is_lost_while_it_waits(network: Network):
    verdict = Verdict()
    pending = request(network, verdict, contexts=[VERIFICATION])
    network.cut()
    with pytest.raises(AssociationError):
        network.result(pending)
    assert verdict.cancelled == 1


def test_the_server_stops_while_it_waits(network: Network):
    """Nobody has to decide about what is refused; the peer may come again (PS3.8 9.3.4)."""
    verdict, endpoint = Verdict(), network.endpoint()
    options: dict[str, Any] = {"admit": verdict, "reactor": network.clock}
    listener = network.result(listen(endpoint, [VerificationSCP()], **options))
    client = network.scripted_requestor(endpoint)
    client.send(RQ)
    assert verdict.cancelled == 0
    stopped = listener.stop()
    network.run()
    assert verdict.cancelled == 1
    assert client.pdus == [AssociateRJ(2, 3, 1)]
    client.close()
    network.result(stopped)
