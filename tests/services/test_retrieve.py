"""C-GET and C-MOVE in both roles: counts, single failures, cancel, destinations (PS3.4 C.4)."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import UID, CTImageStorage, MRImageStorage
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from dimse import (
    MODALITY_WORKLIST,
    STUDY_ROOT,
    ContextError,
    DimseError,
    Instance,
    MisuseError,
    ReceivedInstance,
    RetrieveSCP,
    StatusError,
    StorageSCP,
    SubOperations,
    get,
    get_contexts,
    listen,
    move,
    move_here,
)
from dimse.message.messages import CCancelRQ, CGetRQ, CGetRSP, CStoreRQ
from dimse.services.dataset import encode
from dimse.testing import Network
from dimse.ul.items import RoleSelection
from dimse.ul.pdu import Abort, ReleaseRQ
from tests.wire import EXPLICIT

KEYS = Dataset()
KEYS.QueryRetrieveLevel = "STUDY"
KEYS.StudyInstanceUID = "1.2"

CONTEXTS = [*get_contexts(sop_classes=[CTImageStorage]), STUDY_ROOT.move]


def instance(number: int, sop_class: str = CTImageStorage) -> Instance:
    return Instance(sop_class, f"1.2.{number}", EXPLICIT, data=b"\x08\0\x18\0UI\2\0" + b"1\0")


class Store:
    """Answers with the statuses given, then with success; remembers what came, and who sent it."""

    def __init__(self, *statuses: int | Exception) -> None:
        self.statuses = list(statuses)
        self.received: list[ReceivedInstance] = []
        self.requests: list[Any] = []
        self.aborted: list[DimseError] = []
        self.waits: Deferred[int] | None = None

    def begin(self, instance: ReceivedInstance, operation: Any) -> "Store":
        self.received.append(instance)
        self.requests.append(operation.request)
        return self

    def write(self, data: memoryview) -> None:
        pass

    def finish(self) -> "Deferred[int]":
        if self.waits is not None:
            return self.waits
        status = self.statuses.pop(0) if self.statuses else 0
        return fail(status) if isinstance(status, Exception) else succeed(status)

    def abort(self, reason: DimseError) -> None:
        self.aborted.append(reason)

    @property
    def uids(self) -> list[str]:
        return [each.sop_instance_uid for each in self.received]


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


def joined(network: Network, found: list[Any], **places: Any) -> tuple[Any, Any]:
    scp = RetrieveSCP(lambda *_: found, destinations=places, reactor=network.clock)
    return network.associate(network.listen([scp]), CONTEXTS)


class TestGet:
    def test_all(self, network: Network):
        ours, _ = joined(network, [instance(1), instance(2)])
        store = Store()
        done = network.result(get(ours, KEYS, store).result())
        assert store.uids == ["1.2.1", "1.2.2"]
        assert done == SubOperations(done.status, None, 2, 0, 0)
        assert (done.status, done.status.meaning) == (
            0,
            "Sub-operations complete; no failure or warning",
        )

    def test_nothing(self, network: Network):
        ours, _ = joined(network, [])
        done = network.result(get(ours, KEYS, Store()).result())
        assert (done.status, done.completed, done.failed) == (0, 0, 0)

    def test_pending_responses_count_down(self, network: Network):
        ours, _ = joined(network, [instance(number) for number in range(3)])

        async def progress() -> list[tuple[Any, ...]]:
            return [
                (int(each.status), each.remaining, each.completed)
                async for each in get(ours, KEYS, Store())
            ]

        assert network.result(progress()) == [(0xFF00, 2, 1), (0xFF00, 1, 2)]

    def test_single_failures(self, network: Network):
        """The store's status answers; what failed is listed, and the others go on."""
        ours, _ = joined(network, [instance(1), instance(2), instance(3), instance(4)])
        store = Store(0, StatusError(0xA700, "full"), 0xB000)
        done = network.result(get(ours, KEYS, store).result())
        assert done.status == 0xB000
        assert (done.completed, done.failed, done.warning) == (2, 1, 1)
        assert done.failed_sop_instance_uids == ("1.2.2",)
        assert len(store.received) == 4

    def test_warnings_alone(self, network: Network):
        ours, _ = joined(network, [instance(1), instance(2)])
        done = network.result(get(ours, KEYS, Store(0xB000)).result())
        assert done == SubOperations(done.status, None, 1, 0, 1)
        assert done.status == 0xB000

    def test_without_context(self, network: Network):
        ours, _ = joined(network, [instance(1, MRImageStorage), instance(2)])
        done = network.result(get(ours, KEYS, Store()).result())
        assert done.status == 0xB000
        assert done.failed_sop_instance_uids == ("1.2.1",)

    def test_all_failed(self, network: Network):
        ours, _ = joined(network, [instance(1), instance(2)])
        store = Store(0xA700, 0xC000)
        with pytest.raises(StatusError) as caught:
            network.result(get(ours, KEYS, store).result())
        assert caught.value.status == 0xA702
        assert getattr(caught.value.response, "number_of_failed_suboperations", 0) == 2

    def test_a_file_that_is_gone(self, network: Network):
        ours, _ = joined(network, ["/nonexistent", instance(2)])
        done = network.result(get(ours, KEYS, Store()).result())
        assert (done.completed, done.failed) == (1, 1)

    def test_cancel(self, network: Network):
        store = Store()
        store.waits = Deferred()
        ours, theirs = joined(network, [instance(number) for number in range(5)])
        result = get(ours, KEYS, store).result()
        network.run()
        result.cancel()
        network.run()
        assert theirs.busy or ours.busy  # the sub-operation under way has no answer yet
        store.waits.callback(0)
        with pytest.raises(CancelledError):
            network.result(result)
        assert len(store.received) == 1
        assert ours.ended is None
        assert not ours.busy

    def test_cancelled_says_how_far_it_was(self, network: Network):
        ours, _ = joined(network, [instance(number) for number in range(500)])

        async def some() -> Any:
            answers = get(ours, KEYS, Store())
            async for _ in answers:
                answers.cancel()
            assert answers.status == 0xFE00

        network.result(some())

    def test_cancelled_with_what_remains(self, network: Network):
        """Nothing more is sent, and the final response accounts for all (PS3.4 C.4.3.3.1)."""
        found = [instance(number) for number in range(5)]
        client = network.scripted_requestor(network.listen([RetrieveSCP(lambda *_: found)]))
        contexts = [(STUDY_ROOT.get, [EXPLICIT]), (CTImageStorage, [EXPLICIT])]
        client.associate(contexts, roles=[RoleSelection(CTImageStorage, scu=False, scp=True)])
        request = CGetRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT.get, priority=0)
        client.command(request, encode(KEYS, EXPLICIT))
        client.respond()
        client.command(CCancelRQ(message_id_being_responded_to=1))
        client.respond()
        sent = [each for each in client.messages if isinstance(each.message, CStoreRQ)]
        last = client.messages[-1].message
        assert isinstance(last, CGetRSP)
        assert last.status == 0xFE00
        assert len(sent) == 2
        assert last.number_of_completed_suboperations == 2  # that under way ends first
        assert last.number_of_remaining_suboperations == 3
        assert last.number_of_failed_suboperations == 0
        assert not client.closed

    def test_h_d24_the_peer_does_not_answer_our_c_store(self, network: Network):
        endpoint = network.listen([RetrieveSCP(lambda *_: [instance(1)])])
        store = Store()
        store.waits = Deferred()
        ours, _ = network.associate(endpoint, CONTEXTS)
        result = get(ours, KEYS, store, timeout=1000).result()
        network.run()
        network.advance(61)
        assert ours.ended is not None
        with pytest.raises(DimseError):
            network.result(result)
        store.waits.callback(0)

    def test_needs_roles(self, network: Network):
        """An acceptor that agrees to send nothing is found out before anything is asked."""
        scp = RetrieveSCP(lambda *_: [], sop_classes=[MRImageStorage])
        ours, _ = network.associate(network.listen([scp]), CONTEXTS)
        with pytest.raises(ContextError, match="agreed to send us no SOP class"):
            network.result(get(ours, KEYS, Store()).result())

    def test_roles_are_proposed(self, network: Network):
        ours, theirs = joined(network, [])
        (ct,) = [c for c in ours.contexts.values() if c.abstract_syntax == CTImageStorage]
        assert (ct.scu, ct.scp) == (False, True)
        assert ours.request_pdu.user_information.roles[0].sop_class_uid == CTImageStorage
        assert theirs.contexts[ct.context_id].scu

    def test_roles_that_are_given_win(self, network: Network):
        endpoint = network.listen([RetrieveSCP(lambda *_: [])])
        given = {CTImageStorage: (True, False)}
        ours, _ = network.associate(endpoint, CONTEXTS, roles=given)
        user_information = ours.request_pdu.user_information
        assert user_information is not None
        (role,) = user_information.roles
        assert (role.sop_class_uid, role.scu, role.scp) == (CTImageStorage, True, False)

    def test_a_private_sop_class(self, network: Network):
        """Nobody knows that it is storage, and the role is asked for all the same."""
        private = "1.2.999.1"
        found = [instance(1, private)]
        scp = RetrieveSCP(lambda *_: found, sop_classes=[private])
        contexts = [*get_contexts(sop_classes=[private]), MODALITY_WORKLIST.find]
        ours, _ = network.associate(network.listen([scp]), contexts)
        user_information = ours.request_pdu.user_information
        assert user_information is not None
        assert [role.sop_class_uid for role in user_information.roles] == [private]
        store = Store()
        assert network.result(get(ours, KEYS, store).result()).completed == 1
        assert store.received[0].sop_class_uid == private

    def test_contexts_fit_an_association(self):
        first, *others = get_contexts()
        assert first == STUDY_ROOT.get
        assert len(others) == 127
        assert len({each[0] for each in others}) == 127

    def test_contexts_of_what_hospitals_send(self):
        """What falls off for want of contexts is what is rare, or about no patient."""
        proposed = {UID(each[0]).keyword for each in get_contexts()}
        often = "CTImage MRImage EnhancedPETImage PositronEmissionTomographyImage RTDose RTPlan"
        often += " RTStructureSet EncapsulatedPDF Segmentation KeyObjectSelectionDocument"
        assert {f"{each}Storage" for each in often.split()} <= proposed
        seldom = {"DICOSCTImageStorage", "EddyCurrentImageStorage", "HangingProtocolStorage"}
        assert seldom.isdisjoint(proposed)

    def test_more_contexts_than_an_association_holds(self):
        """Those that somebody names are never dropped in silence."""
        with pytest.raises(MisuseError, match="128 SOP classes"):
            get_contexts(sop_classes=[f"1.2.{number}" for number in range(128)])


class TestMove:
    def test_to_a_third_node(self, network: Network):
        """With the Move Originator, and the titles of the request (PS3.7 9.1.1.1)."""
        store = Store()
        place = network.listen([StorageSCP(store)])
        ours, _ = joined(network, [instance(1), instance(2)], DEST=place)
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
        ours, _ = joined(network, [instance(1), instance(2)], DEST=place)
        with pytest.raises(StatusError) as caught:
            network.result(move(ours, KEYS, "DEST").result())
        assert caught.value.status == 0xA702

    def test_h_d23_single_failures(self, network: Network):
        place = network.listen([StorageSCP(Store(0, 0xA700))])
        found = [instance(1), instance(2), instance(3)]
        ours, _ = joined(network, found, DEST=place)
        done = network.result(move(ours, KEYS, "DEST").result())
        assert (done.status, done.completed, done.failed) == (0xB000, 2, 1)
        assert done.failed_sop_instance_uids == ("1.2.2",)

    @pytest.mark.parametrize("done_before", [0, 1, 2])
    def test_h_d23_destination_that_aborts(self, network: Network, done_before: int):
        """What was on its way failed; the rest goes on an association of its own."""
        place, store = network.endpoint(), Store()
        ours, _ = joined(network, [instance(number) for number in range(3)], DEST=place)
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
        ours, _ = joined(network, [instance(number) for number in range(4)], DEST=place)
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
        ours, _ = joined(network, [instance(1)], DEST=place)
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
        ours, _ = joined(network, [instance(number) for number in range(5)], DEST=place)
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

    def test_cancelled_releases_the_destination(self, network: Network):
        place = network.endpoint()
        ours, _ = joined(network, [instance(1), instance(2)], DEST=place)
        destination = network.scripted_acceptor(place)
        answers = move(ours, KEYS, "DEST")
        result = answers.result()
        network.run()
        destination.accept()
        answers.cancel()
        network.run()
        destination.respond()
        assert isinstance(destination.pdus[-1], ReleaseRQ)
        destination.release_response()
        done = network.result(result)
        assert (done.status, done.remaining, done.completed) == (0xFE00, 1, 1)

    def test_cancelled_and_the_destination_aborts(self, network: Network):
        """What was under way failed, and nothing goes on a new association."""
        place = network.endpoint()
        ours, _ = joined(network, [instance(1), instance(2)], DEST=place)
        destination = network.scripted_acceptor(place)
        answers = move(ours, KEYS, "DEST")
        result = answers.result()
        network.run()
        destination.accept()
        answers.cancel()
        network.run()
        destination.abort()
        done = network.result(result)
        assert (done.status, done.remaining, done.failed) == (0xFE00, 1, 1)
        assert done.failed_sop_instance_uids == ("1.2.1",)
        assert len(network.links) == 2

    def test_cancelled_before_the_destination_answers(self, network: Network):
        """Nothing is under way, and nothing is waited for."""
        place = network.endpoint()
        ours, _ = joined(network, [instance(1)], DEST=place)
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
        ours, _ = joined(network, [instance(1)], ME=endpoint)
        done = network.result(move_here(ours, KEYS, store, endpoint, destination="ME"))
        assert done.completed == 1
        assert store.uids == ["1.2.1"]

    def test_here_tells_progress_and_of_a_failure_too(self, network: Network):
        """What failed is in the last numbers, though the operation raises."""
        store, endpoint = Store(0xA700, 0xA700), network.endpoint()
        ours, _ = joined(network, [instance(1), instance(2)], ME=endpoint)
        told: list[SubOperations] = []
        moving = move_here(ours, KEYS, store, endpoint, destination="ME", progress=told.append)
        with pytest.raises(StatusError, match="0xA702"):
            network.result(moving)
        assert [each.remaining for each in told] == [1, None]
        assert told[-1].failed_sop_instance_uids == ("1.2.1", "1.2.2")

    def test_outcome_of_a_loop(self, network: Network):
        """The final numbers, which are no item of the loop; None before."""
        place = network.listen([StorageSCP(Store(0, 0xA700))])
        ours, _ = joined(network, [instance(1), instance(2)], DEST=place)
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
