"""A C-FIND whose loop is slow holds back its own answers, and nothing else."""

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from dimse import (
    AssociationAbortedError,
    Limits,
    MisuseError,
    QuerySCP,
    ReleasedError,
    TimedOutError,
    VerificationSCP,
    associate,
    echo,
    find,
)
from dimse.services.dataset import encode
from dimse.testing import Network
from tests.services.queries import FIND, KEYS, Index, connected, joined, study
from tests.wire import IMPLICIT, VERIFICATION

LIMITS = Limits()


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


class TestPace:
    def test_h_d22_a_peer_that_does_not_read_stops_the_generator(self, network: Network):
        index = Index(100_000)
        ours, theirs = joined(network, index)
        network.links[0].near.deaf = True
        find(ours, KEYS).result().addErrback(lambda _: None)
        for _ in range(50):
            network.run()
            network.clock.advance(0)
        stopped = index.yielded
        assert stopped < 5_000
        network.run()
        network.clock.advance(0)
        assert index.yielded == stopped
        theirs.abort()

    def test_h_d22_a_slow_loop_stops_the_generator(self, network: Network):
        index = Index(100_000)
        ours, _ = joined(network, index, limits=Limits(answers=8))
        answers = find(ours, KEYS)
        network.result(answers.__anext__())
        for _ in range(50):
            network.advance(0)
        stopped = index.yielded
        assert stopped < 5_000
        network.advance(0)
        assert index.yielded == stopped
        for _ in range(1000):
            network.result(answers.__anext__())
        assert index.yielded > 1000
        network.result(answers.aclose())

    def test_time_out_starts_again_with_each_response(self, network: Network):
        endpoint = network.endpoint()
        server = network.scripted_acceptor(endpoint)
        ours = connected(network, endpoint, server)
        result = find(ours, KEYS, timeout=10).result()
        network.run()
        for _ in range(3):
            network.advance(9)
            server.respond(0xFF00, encode(study(1), IMPLICIT))
        network.advance(9)
        assert ours.ended is None
        network.advance(2)
        with pytest.raises(TimedOutError):
            network.result(result)


class TestBesideOthers:
    """The user of a loop does something else on its association, or leaves it."""

    COUNTS = (10, 100, 1000)  # below and above `Limits.answers`

    def both(self, network: Network, count: int, window: int = 1) -> tuple[Any, Any]:
        limits = Limits(operations_invoked=window, operations_performed=window)
        endpoint = network.listen([QuerySCP(Index(count)), VerificationSCP()], limits=limits)
        return network.associate(endpoint, [FIND, VERIFICATION], limits=limits)

    @pytest.mark.parametrize("window", [1, 4])
    @pytest.mark.parametrize("count", COUNTS)
    def test_an_echo_for_each_match(self, network: Network, count: int, window: int):
        """Its response comes behind matches that nobody takes meanwhile."""
        ours, _ = self.both(network, count, window)

        async def user() -> list[int]:
            return [await echo(ours) async for _ in find(ours, KEYS)]

        assert network.result(user()) == [0] * count

    def test_the_loop_is_slow_again_afterwards(self, network: Network):
        """What is read for the sake of the other operation does not open the gates for ever."""
        index = Index(100_000)
        limits = Limits(operations_invoked=2, operations_performed=2)
        endpoint = network.listen([QuerySCP(index), VerificationSCP()], limits=limits)
        ours, _ = network.associate(endpoint, [FIND, VERIFICATION], limits=limits)
        answers = find(ours, KEYS)
        network.result(answers.__anext__())
        assert not network.links[0].near.reading
        network.result(echo(ours))
        network.result(answers.__anext__())
        assert not network.links[0].near.reading
        network.result(answers.aclose())

    def test_two_slow_loops(self, network: Network):
        """Neither waits for what the other one does not take: both make the peer wait."""
        index = Index(100_000)
        limits = Limits(operations_invoked=2, operations_performed=2)
        endpoint = network.listen([QuerySCP(index)], limits=limits)
        ours, _ = network.associate(endpoint, [FIND], limits=limits)
        one, other = find(ours, KEYS), find(ours, KEYS)
        first = one.__anext__()
        network.result(other.__anext__())
        network.result(first)
        for _ in range(10):
            network.advance(0)
        assert not network.links[0].near.reading
        assert index.yielded < 10_000
        for _ in range(200):
            network.result(one.__anext__())
        network.result(one.aclose())
        network.result(other.aclose())

    @pytest.mark.parametrize("count", COUNTS)
    def test_release_in_the_loop(self, network: Network, count: int):
        """It waits for nobody who would have to take the answers first."""
        index = Index(count)
        ours, _ = joined(network, index)

        async def user() -> None:
            async for _ in find(ours, KEYS):
                await ours.release()

        if count > LIMITS.answers:
            with pytest.raises(MisuseError, match="released before all answers"):
                network.result(user())
        else:
            network.result(user())
        assert isinstance(ours.ended, ReleasedError)
        assert index.closed == 1

    @pytest.mark.parametrize("count", COUNTS)
    def test_release_after_a_loop_over_a_variable(self, network: Network, count: int):
        endpoint = network.listen([QuerySCP(Index(count))])

        async def user() -> str:
            async with associate(endpoint, [FIND], reactor=network.clock) as ours:
                matches = find(ours, KEYS)
                async for match in matches:
                    return str(match.StudyInstanceUID)
            raise AssertionError

        assert network.result(user()) == "1.2.0"

    def test_release_lets_others_take_what_they_asked_for(self, network: Network):
        """A query whose matches are taken ends as if nobody had asked for the release."""
        ours, _ = joined(network, Index(1000))
        matches, released = find(ours, KEYS).result(), ours.release()
        assert len(network.result(matches)) == 1000
        network.result(released)

    def test_the_abort_of_the_peer_is_heard(self, network: Network):
        endpoint = network.endpoint()
        server = network.scripted_acceptor(endpoint)
        ours = connected(network, endpoint, server, [VERIFICATION])

        async def user() -> None:
            async for _ in find(ours, KEYS):
                await echo(ours)

        using = Deferred.fromCoroutine(user())
        network.run()
        for _ in range(100):
            server.respond(0xFF00, encode(study(1), IMPLICIT))
        server.abort()
        with pytest.raises(AssociationAbortedError):
            network.result(using)
