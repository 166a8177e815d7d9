"""C-GET and C-MOVE as SCU: time, progress, numbers and errors (PS3.4 C.4.2, C.4.3)."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.uid import CTImageStorage
from twisted.internet.defer import Deferred

from dimse import (
    STUDY_ROOT,
    Admission,
    AssociationRejectedError,
    CallbackStore,
    Instance,
    Limits,
    MemoryStore,
    MisuseError,
    RetrieveSCP,
    StatusError,
    StorageSCP,
    SubOperations,
    TimedOutError,
    associate,
    get,
    move,
    move_here,
)
from dimse.message.messages import CStoreRQ
from dimse.services import sending
from dimse.testing import Network, ScriptedPeer
from dimse.ul.negotiation import SupportedContext
from dimse.ul.pdu import Abort
from tests.scripted import LAST, p_data
from tests.services.retrieving import CONTEXTS, DATA, KEYS, instance, joined
from tests.wire import EXPLICIT


def store_request(number: int) -> CStoreRQ:
    return CStoreRQ(
        message_id=number,
        affected_sop_class_uid=CTImageStorage,
        affected_sop_instance_uid=f"1.2.{number}",
        priority=0,
    )


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def archive(network: Network) -> tuple[ScriptedPeer, Any]:
    """One that sends no Pending responses, and our association with it."""
    endpoint = network.endpoint()
    archive = network.scripted_acceptor(endpoint)
    associating = associate(endpoint, CONTEXTS, reactor=network.clock)
    network.run()
    archive.accept(
        {
            STUDY_ROOT.get: SupportedContext((EXPLICIT,)),
            STUDY_ROOT.move: SupportedContext((EXPLICIT,)),
            CTImageStorage: SupportedContext((EXPLICIT,), scp=False, scu=True),
        }
    )
    return archive, network.result(associating)


class TestTimeOut:
    """`Limits.response` begins anew with what comes, for Pending responses are optional."""

    def test_of_a_c_get(self, network: Network, archive: tuple[ScriptedPeer, Any]):
        peer, ours = archive
        done = get(ours, KEYS, MemoryStore()).result()
        network.run()
        for number in range(1, 4):
            network.advance(50)
            peer.command(store_request(number), DATA, context_id=3)
        network.advance(50)
        assert ours.ended is None
        network.advance(20)
        with pytest.raises(TimedOutError):
            network.result(done)

    def test_of_a_c_get_whose_store_is_slow(
        self, network: Network, archive: tuple[ScriptedPeer, Any]
    ):
        peer, ours = archive
        stored: Deferred[int] = Deferred()
        done = get(ours, KEYS, CallbackStore(lambda *_: stored)).result()
        network.run()
        peer.command(store_request(1), DATA, context_id=3)
        network.advance(110)
        stored.callback(0)
        network.advance(50)
        assert ours.ended is None
        ours.abort()
        network.run()
        with pytest.raises(Exception, match="abort"):
            network.result(done)

    def test_of_a_move_here(self, network: Network, archive: tuple[ScriptedPeer, Any]):
        peer, ours = archive
        place = network.endpoint()
        done = move_here(ours, KEYS, MemoryStore(), place, destination="ME")
        network.run()
        mover = network.scripted_requestor(place)
        mover.associate([(CTImageStorage, [EXPLICIT])], called_ae_title="ME")
        for number in range(1, 3):
            network.advance(50)
            mover.command(store_request(number), DATA[:4], complete=False)
            network.advance(50)
            mover.send(p_data((1, LAST, DATA[4:])))
        network.advance(50)
        assert ours.ended is None
        peer.respond(0)
        mover.release()
        network.advance(1)
        assert network.result(done).status == 0

    def test_of_one_that_stops(self, network: Network, archive: tuple[ScriptedPeer, Any]):
        _, ours = archive
        done = move(ours, KEYS, "ME").result()
        network.run()
        network.advance(61)
        with pytest.raises(TimedOutError):
            network.result(done)


class TestMoveHere:
    def here(self, network: Network, **options: Any) -> "Deferred[SubOperations]":
        place = network.endpoint()
        ours, _ = joined(network, [instance(1)], destinations={"ME": place})
        return move_here(ours, KEYS, MemoryStore(), place, destination="ME", **options)

    def test_with_limits(self, network: Network):
        """Without any, those of the association."""
        done = self.here(network, limits=Limits(associations=1, maximum_length=5000))
        assert network.result(done).completed == 1
        answer = network.links[-1].near.protocol.user.answer_pdu
        assert answer.user_information.maximum_length == 5000

    def test_with_an_admission(self, network: Network):
        asked: list[str] = []

        def admit(requesting: Any) -> Admission:
            asked.append(requesting.peer.ae_title)
            raise AssociationRejectedError(1, 1, 3)

        done = self.here(network, admit=admit)
        with pytest.raises(StatusError, match="0xA702"):
            network.result(done)
        assert asked == ["ANY-SCP"]

    def test_does_not_wait_for_associations_that_stay(
        self, network: Network, archive: tuple[ScriptedPeer, Any]
    ):
        peer, ours = archive
        place = network.endpoint()
        done = move_here(ours, KEYS, MemoryStore(), place, destination="ME")
        network.run()
        mover = network.scripted_requestor(place)
        mover.associate([(CTImageStorage, [EXPLICIT])], called_ae_title="ME")
        peer.respond(0)
        network.advance(1)
        assert network.result(done).status == 0
        assert isinstance(mover.pdus[-1], Abort)


class Counted:
    """Instances made as they are asked for, and how many that was when each was stored."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.made = 0
        self.ahead: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Instance]:
        for number in range(self.count):
            self.made = number + 1
            yield instance(number)

    def store(self, *_: object) -> int:
        self.ahead.append(self.made - len(self.ahead))
        return 0


class TestManyInstances:
    """What is to be sent is taken as it is sent."""

    def test_of_a_c_get(self, network: Network):
        found = Counted(20)
        ours, _ = joined(network, found)
        done = network.result(get(ours, KEYS, CallbackStore(found.store)).result())
        assert done.completed == 20
        assert found.ahead == [1] * 20

    def test_of_a_c_move(self, network: Network, monkeypatch: pytest.MonkeyPatch):
        """On one association, of which only so many are known when it is requested."""
        monkeypatch.setattr(sending, "_AHEAD", 5)
        found = Counted(20)
        place = network.listen([StorageSCP(CallbackStore(found.store))])
        ours, _ = joined(network, found, destinations={"DEST": place})
        done = network.result(move(ours, KEYS, "DEST").result())
        assert done.completed == 20
        assert max(found.ahead) <= 6
        assert len(network.links) == 2

    def test_the_peer_hears_how_many_there_are(self, network: Network):
        ours, _ = joined(network, Counted(3))
        getting = get(ours, KEYS, MemoryStore())

        async def pending() -> list[int | None]:
            return [progress.remaining async for progress in getting]

        assert network.result(Deferred.fromCoroutine(pending())) == [2, 1]

    def test_one_that_has_no_length(self, network: Network):
        scp = RetrieveSCP(lambda *_: (instance(number) for number in range(3)))
        ours, _ = network.associate(network.listen([scp]), CONTEXTS)
        assert network.result(get(ours, KEYS, MemoryStore()).result()).completed == 3


def test_functions_that_yield_are_refused():
    """At once, and not with the first request."""

    async def later(*_: object):
        yield

    def now(*_: object):
        yield

    for function in (later, now):
        with pytest.raises(MisuseError, match="return"):
            RetrieveSCP(function)
