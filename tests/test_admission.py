"""Who is admitted as a requestor, with what, and when the verdict takes its time (H-S03, H-S04)."""

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, TimeoutError

from dimse import (
    Admission,
    AssociationError,
    AssociationRejectedError,
    Limits,
    Requesting,
    VerificationSCP,
    associate,
    username_and_passcode,
)
from dimse.testing import Network
from dimse.ul.pdu import Abort, AssociateAC, AssociateRJ
from tests.scripted import ECHO, RELEASE_RQ, RQ
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


def test_other_scps_and_limits(network: Network):
    """What this requestor gets, and no other one."""
    limits = Limits(maximum_length=8192)
    association = network.result(request(network, lambda _: Admission(scps=[], limits=limits)))
    assert association.contexts == {}
    assert association.peer_information.maximum_length == 8192


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
    assert network.flush_logged_errors(TimeoutError)
    network.advance(10)  # ARTIM


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


def test_the_server_stops_while_it_waits(network: Network):
    verdict = Verdict()
    pending = request(network, verdict, contexts=[VERIFICATION])
    network.cut()
    with pytest.raises(AssociationError):
        network.result(pending)
    assert verdict.cancelled == 1
