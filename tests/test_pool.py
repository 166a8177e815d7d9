"""A pool of associations with one peer: who gets which, and what is left at the end."""

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from pydicom import Dataset
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from dimse.association import Association
from dimse.errors import (
    AssociationAbortedError,
    ConnectionLostError,
    ContextError,
    MisuseError,
    ReleasedError,
    StatusError,
)
from dimse.performing import Operation
from dimse.pool import AssociationPool
from dimse.requestor import associate
from dimse.retrying import retry
from dimse.services.query import QuerySCP, find
from dimse.services.verification import echo
from dimse.sop_classes import STUDY_ROOT
from dimse.testing import Network, ScriptedPeer
from dimse.ul.pdu import Abort, ReleaseRP, ReleaseRQ
from tests.memory import Outcome, RecordingSCP

MANY = 2000  # more than Python has room for on its stack


class Archive:
    """A peer in memory, a pool of associations with it, and those that were established."""

    def __init__(self, network: Network, limit: int = 1, **options: Any) -> None:
        self.network = network
        self.limit = limit
        self.scp = RecordingSCP()
        self.endpoint = network.endpoint()
        self.associations: list[Association] = []
        self.when_ended: Callable[[], object] = lambda: None
        self.pool = AssociationPool(self.connect, limit=limit, clock=network.clock, **options)

    def connect(self) -> "Deferred[Association]":
        return associate(self.endpoint, reactor=self.network.clock).addCallback(self.established)

    def established(self, association: Association) -> Association:
        self.associations.append(association)
        assert sum(each.ended is None for each in self.associations) <= self.limit
        association.when_ended().addCallback(lambda _: self.when_ended())  # before the pool
        return association

    def user(self) -> "User":
        return User(self)

    def users(self, count: int) -> "list[User]":
        return [User(self) for _ in range(count)]


class User(Outcome):
    """Has an `association` of the pool from when it gets one until `done`."""

    def __init__(self, archive: Archive) -> None:
        self.association: Any = None
        self._network = archive.network
        self._work: Deferred[Any] = Deferred()
        super().__init__(archive.pool.run(self._begin))
        archive.network.run()

    def _begin(self, association: Association) -> "Deferred[Any]":
        self.association = association
        return self._work

    def done(self, result: object = None) -> "User":
        self._work.callback(result)
        self._network.run()
        return self

    def failed(self, error: Exception) -> "User":
        self._work.errback(error)
        self._network.run()
        return self


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


def listening(network: Network, **options: Any) -> Archive:
    archive = Archive(network, **options)
    archive.endpoint = network.listen([archive.scp])
    return archive


@pytest.fixture
def archive(network: Network) -> Archive:
    """Two associations at a time."""
    return listening(network, limit=2, linger=30)


@pytest.fixture
def single(network: Network) -> Archive:
    """One association at a time."""
    return listening(network)


class Connecting:
    """A pool whose associations are established, or not, when the test says so."""

    def __init__(self, network: Network, limit: int) -> None:
        self.attempts: list[Deferred[Association]] = []
        self.pool = AssociationPool(self.connect, limit=limit, clock=network.clock)

    def connect(self) -> "Deferred[Association]":
        self.attempts.append(Deferred())
        return self.attempts[-1]


def scripted(network: Network) -> tuple[Archive, ScriptedPeer]:
    """A pool of one association, which a scripted peer has accepted; it is idle."""
    archive = Archive(network)
    peer = network.scripted_acceptor(archive.endpoint)
    user = archive.user()
    peer.accept()
    user.done()
    peer.received.clear()
    return archive, peer


class TestLending:
    def test_as_a_context_manager(self, network: Network, archive: Archive):
        async def use() -> Any:
            async with archive.pool.association() as association:
                return await echo(association)

        assert [network.result(use()) for _ in range(3)] == [0, 0, 0]
        assert len(archive.associations) == 1

    def test_the_result_of_the_user(self, archive: Archive):
        assert archive.user().done("result").value == "result"

    def test_each_to_one_user(self, archive: Archive):
        first, second = archive.users(2)
        assert first.association is not second.association

    def test_no_more_than_the_limit_and_in_order(self, archive: Archive):
        users = archive.users(5)
        assert [user.association is not None for user in users] == [True, True, False, False, False]
        users[1].done()
        assert users[2].association is users[1].association
        assert users[3].association is None
        users[0].done()
        assert users[3].association is users[0].association
        assert users[4].association is None

    def test_the_last_one_first(self, archive: Archive):
        first, second = archive.users(2)
        second.done()
        first.done()
        assert archive.user().association is first.association

    def test_those_being_established_count(self, network: Network):
        connecting = Connecting(network, limit=2)
        users = [Outcome(connecting.pool.run(succeed)) for _ in range(3)]
        assert len(connecting.attempts) == 2
        for user in users:
            user.deferred.cancel()

    def test_those_being_released_count(self, network: Network):
        archive, peer = scripted(network)
        network.advance(30)
        assert peer.pdus == [ReleaseRQ()]
        user = archive.user()
        assert network.links[1:] == []
        archive.endpoint = network.listen([archive.scp])
        peer.release_response()
        assert user.association.ended is None

    def test_many_who_are_done_at_once(self, single: Archive):
        """However many wait, and whatever they do with it, each has its turn."""
        first = single.user()
        refused = [Outcome(single.pool.run(lambda _: fail(ContextError("")))) for _ in range(MANY)]
        first.done()
        assert all(isinstance(user.value, ContextError) for user in refused)
        assert len(single.associations) == 1

    @pytest.mark.parametrize("options", [{"limit": 0}, {"maximum_uses": 0}])
    def test_nothing_to_lend(self, network: Network, options: dict[str, int]):
        with pytest.raises(MisuseError):
            Archive(network, **options)

    def test_on_the_reactor_unless_given(self):
        user = Outcome(AssociationPool(lambda: fail(ConnectionLostError("none"))).run(succeed))
        assert isinstance(user.value, ConnectionLostError)


class TestRetiring:
    def test_after_it_lingered(self, network: Network, archive: Archive):
        association = archive.user().done().association
        network.advance(29.9)
        assert association.ended is None
        network.advance(0.1)
        assert isinstance(association.ended, ReleasedError)
        assert archive.user().association is archive.associations[1]

    def test_a_use_begins_the_time_again(self, network: Network, archive: Archive):
        association = archive.user().done().association
        network.advance(29)
        user = archive.user()
        network.advance(100)
        user.done()
        network.advance(29)
        assert user.association is association
        assert association.ended is None

    def test_after_so_many_uses(self, network: Network):
        archive = listening(network, maximum_uses=2)
        users = archive.users(5)
        for user in users:
            user.done()
        used = [archive.associations.index(user.association) for user in users]
        assert used == [0, 0, 1, 1, 2]
        assert [each.ended is None for each in archive.associations] == [False, False, True]


class TestErrors:
    @pytest.mark.parametrize("error", [StatusError(0xA700), CancelledError(), ValueError()])
    def test_one_that_leaves_nothing_under_way(self, archive: Archive, error: Exception):
        user = archive.user().failed(error)
        assert user.value is error
        assert archive.user().association is user.association

    def test_one_in_the_middle_of_an_operation(self, network: Network):
        archive, peer = scripted(network)
        first = Outcome(archive.pool.run(echo))
        waiting = archive.user()
        archive.endpoint = network.listen([archive.scp])
        first.deferred.cancel()
        network.run()
        assert isinstance(first.value, CancelledError)
        assert peer.pdus[-1] == Abort(0, 0)
        assert waiting.association is archive.associations[1]

    def test_the_end_of_the_association(self, network: Network, single: Archive):
        user, waiting = single.users(2)
        network.links[0].cut()
        network.run()
        assert waiting.association is single.associations[1]
        user.failed(user.association.ended)
        assert single.user().association is None

    def test_the_end_while_it_is_idle(self, network: Network, archive: Archive):
        archive.user().done()
        network.cut()
        assert network.clock.getDelayedCalls() == []
        assert archive.user().association is archive.associations[1]

    def test_the_end_a_moment_ago(self, archive: Archive):
        """Somebody hears of it before the pool does, and asks it for another at once."""
        users: list[User] = []

        def another() -> None:
            archive.when_ended = lambda: None
            users.append(archive.user())

        archive.when_ended = another
        archive.user().done().association.abort()
        assert users[0].association is archive.associations[1]

    def test_the_end_at_the_first_request(self, network: Network):
        """The pool cannot know; who wants to do without knowing it too tries again."""
        archive, peer = scripted(network)
        archive.endpoint = network.listen([archive.scp])
        again = Outcome(retry(lambda: archive.pool.run(echo), clock=network.clock))
        peer.abort()
        network.advance(3)
        assert again.value == 0

    def test_of_connecting(self, network: Network):
        """It is the error of the user who asked for it; the next one tries anew."""
        connecting = Connecting(network, limit=1)
        first, second = (Outcome(connecting.pool.run(succeed)) for _ in range(2))
        connecting.attempts[0].errback(ConnectionLostError("no connection"))
        assert isinstance(first.value, ConnectionLostError)
        assert second.firings == []
        connecting.attempts[1].errback(ConnectionLostError("no connection"))
        assert isinstance(second.value, ConnectionLostError)

    def test_of_arguments_that_cannot_be_proposed(self, network: Network):
        pool = AssociationPool(lambda: associate("nowhere"), limit=1, clock=network.clock)
        assert [type(Outcome(pool.run(echo)).value) for _ in range(2)] == [MisuseError] * 2


def test_run_that_is_forgotten_in_the_middle(archive: Archive):
    """Whatever of it the garbage collector takes first, generators before coroutines."""
    generators: list[AsyncGenerator[object, None]] = []
    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=generators.append)
    try:
        running: Any = archive.pool._run(lambda _: Deferred())
        Deferred.fromCoroutine(running)
        archive.network.run()
    finally:
        sys.set_asyncgen_hooks(*before)
    for each in generators:
        with suppress(StopIteration):
            each.aclose().send(None)
    running.close()
    assert archive.user().association is archive.associations[0]


class TestLeftBehind:
    """What a user gives back is no burden to the next one."""

    def test_an_operation_under_way(self, network: Network, single: Archive):
        """It is aborted: else the next user waits for it, and gets what it still brings."""
        single.scp.on_finish = lambda sink: Deferred()
        first = single.user()
        echoed = Outcome(echo(first.association))
        network.run()
        first.done("all is well")
        assert first.value == "all is well"
        assert isinstance(echoed.value, AssociationAbortedError)
        second = single.user()
        assert second.association is not first.association
        second.done()
        network.result(single.pool.close())

    def test_an_answer_that_is_held_by_a_variable(self, network: Network):
        """The loop over it is left, and nobody else takes the rest."""

        async def many(identifier: Dataset, operation: Operation) -> AsyncIterator[Dataset]:
            for _ in range(1000):
                yield identifier

        endpoint = network.listen([QuerySCP(many)])
        pool = AssociationPool(
            lambda: associate(endpoint, [STUDY_ROOT.find], reactor=network.clock),
            limit=1,
            clock=network.clock,
        )
        kept: list[object] = []

        async def first(association: Association) -> None:
            matches = find(association, Dataset())
            kept.append(matches)
            async for _ in matches:
                return

        network.result(pool.run(first))
        assert len(network.result(pool.run(lambda each: find(each, Dataset()).result()))) == 1000
        assert len(network.links) == 2  # not on the first association
        network.result(pool.close())

    def test_a_release_that_has_begun(self, network: Network):
        """It ends on its own, and is lent to nobody."""
        archive, peer = scripted(network)
        archive.endpoint = network.listen([archive.scp])
        user = archive.user()
        released = Outcome(user.association.release())
        user.done()
        waiting = archive.user()
        assert waiting.association is None
        peer.send(ReleaseRP())
        assert released.value is None
        assert waiting.association is archive.associations[1]


class TestCancel:
    def test_one_who_waits(self, single: Archive):
        first, second, third = single.users(3)
        second.deferred.cancel()
        assert isinstance(second.value, CancelledError)
        first.done()
        assert second.association is None
        assert third.association is first.association

    def test_one_whose_association_is_being_established(self, network: Network):
        connecting = Connecting(network, limit=1)
        first, second = (Outcome(connecting.pool.run(succeed)) for _ in range(2))
        first.deferred.cancel()
        assert isinstance(first.value, CancelledError)
        assert connecting.attempts[0].called
        assert len(connecting.attempts) == 2
        second.deferred.cancel()


class TestClose:
    def test_of_nothing(self, archive: Archive):
        assert Outcome(archive.pool.close()).value is None

    def test_releases_what_is_idle(self, network: Network, archive: Archive):
        for user in archive.users(2):
            user.done()
        closed = Outcome(archive.pool.close())
        assert closed.firings == []
        network.run()
        assert closed.value is None
        assert all(isinstance(each.ended, ReleasedError) for each in archive.associations)
        assert network.clock.getDelayedCalls() == []

    def test_waits_for_what_is_lent(self, network: Network, archive: Archive):
        user = archive.user()
        closed = [Outcome(archive.pool.close()) for _ in range(2)]
        network.run()
        assert [each.firings for each in closed] == [[], []]
        assert user.association.ended is None
        user.done("result")
        assert user.value == "result"
        assert isinstance(user.association.ended, ReleasedError)
        assert [each.value for each in closed] == [None, None]
        assert network.clock.getDelayedCalls() == []

    def test_waits_for_what_is_being_established(self, network: Network):
        connecting = Connecting(network, limit=1)
        user = Outcome(connecting.pool.run(succeed))
        closed = Outcome(connecting.pool.close())
        assert closed.firings == []
        connecting.attempts[0].errback(ConnectionLostError("no connection"))
        assert isinstance(user.value, ConnectionLostError)
        assert closed.value is None

    def test_refuses_users(self, network: Network, single: Archive):
        user, waiting = single.users(2)
        single.pool.close()
        assert isinstance(waiting.value, MisuseError)
        assert isinstance(single.user().value, MisuseError)
        assert user.firings == []
        user.done()
        assert isinstance(single.user().value, MisuseError)

    def test_is_over_with_a_release_that_is_not_confirmed(self, network: Network):
        archive, peer = scripted(network)
        closed = Outcome(archive.pool.close())
        peer.abort()
        assert closed.value is None
        assert isinstance(archive.associations[0].ended, AssociationAbortedError)

    def test_cancelled_goes_on(self, network: Network, archive: Archive):
        user = archive.user()
        closed = Outcome(archive.pool.close())
        closed.deferred.cancel()
        assert isinstance(closed.value, CancelledError)
        user.done()
        assert isinstance(user.association.ended, ReleasedError)
