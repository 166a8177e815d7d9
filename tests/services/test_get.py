"""C-GET: both ends in memory (PS3.4 C.4.3, PS3.7 9.1.3)."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.uid import UID, CTImageStorage, MRImageStorage
from twisted.internet.defer import CancelledError, Deferred

from dimse import (
    MODALITY_WORKLIST,
    STUDY_ROOT,
    ContextError,
    DimseError,
    MisuseError,
    RetrieveSCP,
    StatusError,
    SubOperations,
    get,
    get_contexts,
)
from dimse.message.messages import CCancelRQ, CGetRQ, CGetRSP, CStoreRQ
from dimse.services.dataset import encode
from dimse.testing import Network
from dimse.ul.items import RoleSelection
from tests.services.retrieving import CONTEXTS, KEYS, Store, instance, joined
from tests.wire import EXPLICIT


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


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
