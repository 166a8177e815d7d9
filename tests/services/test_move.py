"""C-MOVE: all three ends in memory (PS3.4 C.4.2, PS3.7 9.1.4)."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom import Dataset
from twisted.internet.defer import Deferred

from dimse import (
    RetrieveSCP,
    StatusError,
    StorageSCP,
    SubOperations,
    get,
    listen,
    move,
    move_here,
)
from dimse.message.messages import CStoreRQ
from dimse.testing import Network, ScriptedPeer
from dimse.ul.pdu import Abort, ReleaseRQ
from tests.services.retrieving import CONTEXTS, KEYS, Store, instance, joined


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


class TestMove:
    def test_to_a_third_node(self, network: Network):
        """With the Move Originator, and the titles of the request (PS3.7 9.1.1.1)."""
        store = Store()
        place = network.listen([StorageSCP(store)])
        ours, _ = joined(network, [instance(1), instance(2)], destinations={"DEST": place})
        done = network.result(move(ours, KEYS, "DEST").result())
        assert (done.status, done.completed) == (0, 2)
        assert store.uids == ["1.2.1", "1.2.2"]
        assert store.received[0].receiving_ae_title == "DEST"
        request = store.requests[0]
        assert isinstance(request, CStoreRQ)
        assert request.move_originator_application_entity_title == ours.ae_title
        assert request.move_originator_message_id == 1

    def test_h_d23_unknown_destination(self, network: Network):
        """Its name is in the answer, and so in both logs."""
        ours, _ = joined(network, [instance(1)])
        with pytest.raises(StatusError, match="0xA801") as caught:
            network.result(move(ours, KEYS, "ELSEWHERE").result())
        assert "ELSEWHERE" in caught.value.comment
        assert len(network.links) == 1  # and nothing was connected to

    def test_h_d23_destination_that_refuses(self, network: Network):
        place = network.listen([StorageSCP(Store())], ae_titles=["OTHER"])
        ours, _ = joined(network, [instance(1), instance(2)], destinations={"DEST": place})
        with pytest.raises(StatusError) as caught:
            network.result(move(ours, KEYS, "DEST").result())
        assert caught.value.status == 0xA702

    def test_h_d23_single_failures(self, network: Network):
        place = network.listen([StorageSCP(Store(0, 0xA700))])
        found = [instance(1), instance(2), instance(3)]
        ours, _ = joined(network, found, destinations={"DEST": place})
        done = network.result(move(ours, KEYS, "DEST").result())
        assert (done.status, done.completed, done.failed) == (0xB000, 2, 1)
        assert done.failed_sop_instance_uids == ("1.2.2",)

    @pytest.mark.parametrize("done_before", [0, 1, 2])
    def test_h_d23_destination_that_aborts(self, network: Network, done_before: int):
        """What was on its way failed; the rest goes on an association of its own."""
        place, store = network.endpoint(), Store()
        ours, _ = joined(
            network, [instance(number) for number in range(3)], destinations={"DEST": place}
        )
        destination = network.scripted_acceptor(place)
        result = move(ours, KEYS, "DEST").result()
        network.run()
        destination.accept()
        for _ in range(done_before):
            destination.respond()
        scps = [StorageSCP(store)]
        network.result(listen(place, scps, ae_titles=["DEST"], reactor=network.clock))
        destination.abort()
        done = network.result(result)
        assert (done.status, done.completed, done.failed) == (0xB000, 2, 1)
        assert done.failed_sop_instance_uids == (f"1.2.{done_before}",)
        assert store.uids == [f"1.2.{number}" for number in range(done_before + 1, 3)]

    def test_h_d23_destination_that_is_gone(self, network: Network):
        place = network.endpoint()
        ours, _ = joined(
            network, [instance(number) for number in range(4)], destinations={"DEST": place}
        )
        destination = network.scripted_acceptor(place)
        result = move(ours, KEYS, "DEST").result()
        network.run()
        destination.accept()
        destination.respond()
        destination.abort()
        done = network.result(result)
        assert (done.status, done.completed, done.failed) == (0xB000, 1, 3)
        assert done.failed_sop_instance_uids == ("1.2.1", "1.2.2", "1.2.3")

    def test_h_d23_destination_that_hangs(self, network: Network):
        place = network.endpoint()
        ours, _ = joined(network, [instance(1)], destinations={"DEST": place})
        destination = network.scripted_acceptor(place)
        result = move(ours, KEYS, "DEST", timeout=1000).result()
        network.run()
        destination.accept()
        network.advance(300)
        with pytest.raises(StatusError, match="0xA702"):
            network.result(result)
        assert ours.ended is None

    def test_cancel(self, network: Network):
        store, place = Store(), network.endpoint()
        store.waits = Deferred()
        ours, _ = joined(
            network, [instance(number) for number in range(5)], destinations={"DEST": place}
        )
        scps = [StorageSCP(store)]
        network.result(listen(place, scps, ae_titles=["DEST"], reactor=network.clock))
        answers = move(ours, KEYS, "DEST")
        result = answers.result()
        network.run()
        answers.cancel()
        network.run()
        store.waits.callback(0)
        done = network.result(result)
        assert done.status == 0xFE00
        assert (done.remaining, done.completed, done.failed) == (4, 1, 0)  # that under way counts
        assert len(store.received) == 1
        assert ours.ended is None

    def cancelled(self, network: Network) -> "tuple[ScriptedPeer, Deferred[Any]]":
        """The destination, which has the first of two instances, and what the C-MOVE comes to."""
        place = network.endpoint()
        ours, _ = joined(network, [instance(1), instance(2)], destinations={"DEST": place})
        destination = network.scripted_acceptor(place)
        answers = move(ours, KEYS, "DEST")
        result = answers.result()
        network.run()
        destination.accept()
        answers.cancel()
        network.run()
        return destination, result

    def test_cancelled_releases_the_destination(self, network: Network):
        destination, result = self.cancelled(network)
        destination.respond()
        assert isinstance(destination.pdus[-1], ReleaseRQ)
        destination.release_response()
        done = network.result(result)
        assert (done.status, done.remaining, done.completed) == (0xFE00, 1, 1)

    def test_cancelled_and_the_destination_aborts(self, network: Network):
        """What was under way failed, and nothing goes on a new association."""
        destination, result = self.cancelled(network)
        destination.abort()
        done = network.result(result)
        assert (done.status, done.remaining, done.failed) == (0xFE00, 1, 1)
        assert done.failed_sop_instance_uids == ("1.2.1",)
        assert len(network.links) == 2

    def test_cancelled_before_the_destination_answers(self, network: Network):
        """Nothing is under way, and nothing is waited for."""
        place = network.endpoint()
        ours, _ = joined(network, [instance(1)], destinations={"DEST": place})
        destination = network.scripted_acceptor(place)
        answers = move(ours, KEYS, "DEST")
        result = answers.result()
        network.run()
        answers.cancel()
        done = network.result(result)
        assert (done.status, done.remaining, done.completed) == (0xFE00, 1, 0)
        assert isinstance(destination.pdus[-1], Abort)

    def test_here(self, network: Network):
        store, endpoint = Store(), network.endpoint()
        ours, _ = joined(network, [instance(1)], destinations={"ME": endpoint})
        done = network.result(move_here(ours, KEYS, store, endpoint, destination="ME"))
        assert done.completed == 1
        assert store.uids == ["1.2.1"]

    def test_here_tells_progress_and_of_a_failure_too(self, network: Network):
        """What failed is in the last numbers, though the operation raises."""
        store, endpoint = Store(0xA700, 0xA700), network.endpoint()
        ours, _ = joined(network, [instance(1), instance(2)], destinations={"ME": endpoint})
        told: list[SubOperations] = []
        moving = move_here(ours, KEYS, store, endpoint, destination="ME", progress=told.append)
        with pytest.raises(StatusError, match="0xA702"):
            network.result(moving)
        assert [each.remaining for each in told] == [1, None]
        assert told[-1].failed_sop_instance_uids == ("1.2.1", "1.2.2")

    def test_outcome_of_a_loop(self, network: Network):
        """The final numbers, which are no item of the loop; None before."""
        place = network.listen([StorageSCP(Store(0, 0xA700))])
        ours, _ = joined(network, [instance(1), instance(2)], destinations={"DEST": place})
        answers = move(ours, KEYS, "DEST")
        assert answers.outcome is None

        async def loop() -> None:
            async for _ in answers:
                assert answers.outcome is None

        network.result(Deferred.fromCoroutine(loop()))
        assert answers.outcome is not None
        assert (answers.outcome.completed, answers.outcome.failed) == (1, 1)

    def test_an_identifier_that_is_none(self, network: Network):
        asked: list[Dataset] = []

        def refuse(identifier: Dataset, _: object) -> list[Any]:
            asked.append(identifier)
            raise StatusError(0xA900, "no unique key", (0x0020000D,))

        ours, _ = network.associate(network.listen([RetrieveSCP(refuse)]), CONTEXTS)
        with pytest.raises(StatusError, match=r"0xA900: .* \(0020,000D\)") as caught:
            network.result(get(ours, KEYS, Store()).result())
        assert caught.value.offending == (0x0020000D,)
        assert asked == [KEYS]
