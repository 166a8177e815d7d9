"""What a configured peer may do, beside what everybody may; and that this can be renewed."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from twisted.logger import capturedLogs, formatEvent

import dimse
from dimse import (
    MODALITY_WORKLIST,
    STUDY_ROOT,
    AssociationRejectedError,
    ContextError,
    Limits,
    StatusError,
    VerificationSCP,
)
from dimse.archive.archive import Archive
from dimse.security.access import KnownPeer
from dimse.server.peer_keys import SERVICES
from dimse.server.peers import PeerBook
from dimse.services.retrieving import Destination
from dimse.sop_classes import (
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE,
    STORAGE_COMMITMENT_PUSH,
)
from dimse.testing import Network
from tests.archive.archives import data_set, open_archive
from tests.services.steps import begun
from tests.wire import EXPLICIT, IMPLICIT, VERIFICATION

PRIVATE = "1.2.3.4.5"
STUDY = data_set("1.2.1.1").StudyInstanceUID


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def archive(tmp_path: Path, network: Network) -> Iterator[Archive]:
    with open_archive(tmp_path, clock=network.clock) as archive:
        yield archive


class Node:
    """A node in memory that knows `peers`."""

    def __init__(
        self, network: Network, archive: Archive, unlisted: str = "all", **peers: KnownPeer
    ) -> None:
        self.network = network
        limits = Limits(disk_reserve=0, operations_performed=3)
        self.book = PeerBook(peers, limits, unlisted, clock=network.clock)
        scps = [
            VerificationSCP(),
            *archive.scps(destinations=self.book.destination, promiscuous=True),
        ]
        admit = partial(self.book.admission, scps)
        self.endpoint = network.listen(scps, limits=limits, admit=admit)

    def associate(self, ae_title: str, contexts: Any = (VERIFICATION,), **options: Any) -> Any:
        association, _ = self.network.associate(
            self.endpoint, contexts, calling_ae_title=ae_title, **options
        )
        return association

    def uses(self, ae_title: str) -> dict[str, bool]:
        """Whether a peer can use each service."""
        attempts = {
            "echo": self.echo,
            "store": self.store,
            "find": self.find,
            "get": self.get,
            "move": self.move,
            "worklist": self.worklist,
            "mpps": self.mpps,
            "commitment": self.commitment,
        }
        assert attempts.keys() == SERVICES.keys()
        used = {}
        for service, attempt in attempts.items():
            try:
                attempt(ae_title)
            except ContextError:
                used[service] = False
            else:
                used[service] = True
        return used

    def echo(self, ae_title: str) -> None:
        assert self.network.result(dimse.echo(self.associate(ae_title))) == 0

    def store(self, ae_title: str) -> None:
        association = self.associate(ae_title, [CTImageStorage])
        assert self.network.result(dimse.store(association, data_set("1.2.1.1"))) == 0

    def find(self, ae_title: str) -> None:
        association = self.associate(ae_title, [STUDY_ROOT.find])
        self.network.result(dimse.find(association, identifier()).result())

    def get(self, ae_title: str) -> None:
        contexts = dimse.get_contexts(sop_classes=[CTImageStorage])
        association = self.associate(ae_title, contexts)
        with dimse.MemoryStore() as store:
            self.network.result(dimse.get(association, identifier(), store).result())

    def move(self, ae_title: str) -> None:
        """0xA801: it got as far as to the destination, which is unknown."""
        association = self.associate(ae_title, [STUDY_ROOT.move])
        with pytest.raises(StatusError, match="0xA801"):
            self.network.result(dimse.move(association, identifier(), "NOBODY").result())

    def worklist(self, ae_title: str) -> None:
        association = self.associate(ae_title, [MODALITY_WORKLIST.find])
        self.network.result(dimse.find(association, Dataset(), MODALITY_WORKLIST).result())

    def mpps(self, ae_title: str) -> None:
        mpps = MODALITY_PERFORMED_PROCEDURE_STEP
        retrieve = MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE
        association = self.associate(ae_title, [mpps, retrieve])
        uid = self.network.result(dimse.begin_step(association, begun()))
        self.network.result(dimse.n_get(association, retrieve, uid))

    def commitment(self, ae_title: str) -> None:
        association = self.associate(ae_title, [STORAGE_COMMITMENT_PUSH])
        self.network.result(dimse.commit(association, [(CTImageStorage, "1.2.3")]))


def identifier() -> Dataset:
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyInstanceUID = STUDY
    return keys


def peer(ae_title: str = "PEER", **given: Any) -> KnownPeer:
    return KnownPeer(ae_title=ae_title, **given)


EVERYTHING = dict.fromkeys(SERVICES, True)


class TestServices:
    def test_an_unknown_peer_gets_all(self, network: Network, archive: Archive):
        node = Node(network, archive, PEER=peer(services=()))
        assert node.uses("OTHER") == EVERYTHING

    def test_a_known_one_without_services_gets_all(self, network: Network, archive: Archive):
        assert Node(network, archive, PEER=peer()).uses("PEER") == EVERYTHING

    @pytest.mark.parametrize("service", SERVICES)
    def test_one_alone(self, network: Network, archive: Archive, service: str):
        node = Node(network, archive, PEER=peer(services=(service,)))
        node.store("OTHER")
        assert node.uses("PEER") == {name: name == service for name in SERVICES}

    @pytest.mark.parametrize("service", SERVICES)
    def test_all_but_one(self, network: Network, archive: Archive, service: str):
        others = tuple(name for name in SERVICES if name != service)
        node = Node(network, archive, PEER=peer(services=others))
        node.store("OTHER")
        assert node.uses("PEER") == {name: name != service for name in SERVICES}

    def test_none(self, network: Network, archive: Archive):
        node = Node(network, archive, PEER=peer(services=()))
        assert not any(node.uses("PEER").values())

    @pytest.mark.parametrize("services", [("store",), ("find", "get")])
    def test_private_sop_classes_are_storage(
        self, network: Network, archive: Archive, services: tuple[str, ...]
    ):
        node = Node(network, archive, PEER=peer(services=services))
        accepted = node.associate("PEER", [PRIVATE]).contexts
        assert bool(accepted) is ("store" in services)

    def test_get_alone_does_not_store(self, network: Network, archive: Archive):
        """A context that is there for sub-operations to the peer brings nothing from it."""
        node = Node(network, archive, PEER=peer(services=("get",)))
        contexts = dimse.get_contexts(sop_classes=[CTImageStorage])
        association = node.associate("PEER", contexts, roles={CTImageStorage: (True, True)})
        assert any(each.scp for each in association.contexts.values())
        with pytest.raises(ContextError):
            network.result(dimse.store(association, data_set("1.2.1.1")))


class TestUnlisted:
    def test_echo_alone(self, network: Network, archive: Archive):
        node = Node(network, archive, "echo", PEER=peer())
        node.store("PEER")
        with capturedLogs() as events:
            uses = node.uses("OTHER")
        assert [name for name, used in uses.items() if used] == ["echo"]
        assert [line for line in lines(events) if line.endswith(" may only echo")]
        assert node.uses("PEER") == EVERYTHING

    def test_none(self, network: Network, archive: Archive):
        """Rejected for good, by the user, as a calling AE title not recognized (PS3.8 9.3.4)."""
        node = Node(network, archive, "none", PEER=peer())
        with pytest.raises(AssociationRejectedError) as caught:
            node.associate("OTHER")
        error = caught.value
        assert (error.result, error.source, error.reason) == (1, 1, 3)
        assert node.uses("PEER") == EVERYTHING


def lines(events: Any) -> list[str]:
    return [formatEvent(event) or "" for event in events]


class TestHeldBack:
    """What the log says of a peer that asks for more than its services."""

    def test_it_is_told_once_what_it_may(self, network: Network, archive: Archive):
        """And nothing of roles, to one that wants to store."""
        node = Node(network, archive, PEER=peer(services=("echo", "find", "get")))
        with capturedLogs() as events:
            node.associate("PEER", [VERIFICATION, CTImageStorage, STUDY_ROOT.move])
        (line,) = [each for each in lines(events) if "may" in each]
        assert line.startswith("PEER")
        assert line.endswith(" may only echo, find, get")
        assert not [each for each in lines(events) if "to be its SCP" in each]

    def test_one_that_may_nothing(self, network: Network, archive: Archive):
        node = Node(network, archive, PEER=peer(services=()))
        with capturedLogs() as events:
            node.associate("PEER")
        assert [each for each in lines(events) if each.endswith(" may do nothing here")]

    def test_one_that_asks_for_what_it_may(self, network: Network, archive: Archive):
        node = Node(network, archive, PEER=peer(services=("echo", "find")))
        with capturedLogs() as events:
            node.associate("PEER", [VERIFICATION, STUDY_ROOT.find])
        assert not [each for each in lines(events) if " may " in each]


class TestWindow:
    @pytest.mark.parametrize(
        ("given", "window"),
        [
            ({}, (3, 1)),
            ({"operations_performed": 2}, (2, 1)),
            ({"operations_performed": 8, "operations_invoked": 5}, (8, 5)),
        ],
    )
    def test_of_a_peer(
        self, network: Network, archive: Archive, given: dict[str, Any], window: tuple[int, int]
    ):
        """The smaller of what both can is negotiated (PS3.7 D.3.3.3)."""
        node = Node(network, archive, PEER=peer(**given))
        limits = Limits(operations_invoked=16, operations_performed=16)
        assert node.associate("PEER", limits=limits).window == window
        assert node.associate("OTHER", limits=limits).window == (3, 1)


class TestDestinations:
    def destination(self, network: Network, archive: Archive, **given: Any) -> Destination | None:
        return Node(network, archive, PEER=peer(**given)).book.destination("PEER")

    def test_where_and_how(self, network: Network, archive: Archive):
        found = self.destination(
            network,
            archive,
            host="::1",
            port=104,
            move_transfer_syntaxes=(IMPLICIT,),
            operations_invoked=7,
        )
        limits = Limits(disk_reserve=0, operations_performed=3, operations_invoked=7)
        assert found == Destination("[::1]:104", (IMPLICIT,), limits)

    @pytest.mark.parametrize("given", [{}, {"host": "h", "port": 1, "move_destination": False}])
    def test_no_destination(self, network: Network, archive: Archive, given: dict[str, Any]):
        assert self.destination(network, archive, **given) is None

    def test_no_destination_is_told_of_commitments_all_the_same(
        self, network: Network, archive: Archive
    ):
        known = peer(host="h", port=1, move_destination=False)
        place = Node(network, archive, PEER=known).book.place("PEER")
        assert place is not None
        assert place.place == "h:1"

    def test_who_is_notified_of_studies(self, network: Network, archive: Archive):
        at = {"host": "h", "port": 1}
        book = Node(
            network,
            archive,
            A=peer("A", availability=True, **at),
            B=peer("B", **at),
        ).book
        assert [(title, to.place) for title, to in book.notified().items()] == [("A", "h:1")]

    def test_an_unknown_one(self, network: Network, archive: Archive):
        assert Node(network, archive).book.destination("PEER") is None


class TestRenew:
    def test_for_the_next_association(self, network: Network, archive: Archive):
        """What is open goes on as it is."""
        node = Node(network, archive, PEER=peer(services=("echo",)))
        before = node.associate("PEER")
        after = {"PEER": peer(services=("find",)), "NEW": peer("NEW", host="h", port=1)}
        with capturedLogs() as events:
            node.book.renew(after)
        assert lines(events) == ["2 peers are known now"]
        assert network.result(dimse.echo(before)) == 0
        assert [name for name, used in node.uses("PEER").items() if used] == ["find"]
        destination = node.book.destination("NEW")
        assert destination is not None
        assert destination.place == "h:1"


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        ((), EXPLICIT),
        ((IMPLICIT,), IMPLICIT),
        ((EXPLICIT, IMPLICIT), EXPLICIT),
        (("1.2",), EXPLICIT),
    ],
)
def test_a_move_sends_in_the_transfer_syntaxes_of_its_destination(
    network: Network, archive: Archive, wanted: tuple[str, ...], sent: str
):
    """What can be in none of them goes as it is."""
    with dimse.MemoryStore() as store:
        place = network.listen([dimse.StorageSCP(store)])
        scps = archive.scps(destinations={"DEST": Destination(place, wanted)})
        endpoint = network.listen(scps)
        contexts: list[Any] = [(CTImageStorage, [EXPLICIT]), STUDY_ROOT.move]
        association, _ = network.associate(endpoint, contexts)
        network.result(dimse.store(association, data_set("1.2.1.1")))
        done = network.result(dimse.move(association, identifier(), "DEST").result())
        assert done.completed == 1
        (held,) = store.instances
        assert held.instance().transfer_syntax == sent


def test_a_move_has_the_window_of_its_destination(network: Network, archive: Archive):
    with dimse.MemoryStore() as store:
        limits = Limits(operations_performed=9)
        place = network.listen([dimse.StorageSCP(store)], limits=limits)
        ours = Limits(operations_invoked=4)
        endpoint = network.listen(
            archive.scps(destinations={"DEST": Destination(place, limits=ours)})
        )
        association, _ = network.associate(endpoint, [CTImageStorage, STUDY_ROOT.move])
        network.result(dimse.store(association, data_set("1.2.1.1")))
        network.result(dimse.move(association, identifier(), "DEST").result())
        assert len(store.instances) == 1
        seen = [
            link.far.protocol.user.window
            for link in network.links
            if getattr(link.far.protocol, "user", None) is not None
        ]
        assert (1, 4) in seen
