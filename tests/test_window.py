"""The asynchronous operations window in both roles (PS3.7 D.3.3.3)."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom import Dataset
from twisted.internet.defer import Deferred

from dimse import (
    STUDY_ROOT,
    Admission,
    Instance,
    Limits,
    NormalizedSCP,
    Requesting,
    RetrieveSCP,
    VerificationSCP,
    associate,
    echo,
    n_event_report,
)
from dimse.message.base import Request
from dimse.message.messages import CCancelRQ, CEchoRQ, CEchoRSP, CGetRQ, CGetRSP, CStoreRQ
from dimse.services.dataset import encode
from dimse.sop_classes import STORAGE_COMMITMENT_PUSH
from dimse.testing import Network, ScriptedPeer
from dimse.ul.items import AsynchronousOperationsWindow, PresentationContextAC, RoleSelection
from dimse.ul.pdu import AssociateAC, UserInformation
from tests.memory import RecordingSCP
from tests.sides import SIDES, joined
from tests.wire import CT_STORAGE, IMPLICIT, VERIFICATION

CONTEXTS = [(VERIFICATION, [IMPLICIT])]


def window(invoked: int, performed: int) -> Limits:
    return Limits(operations_invoked=invoked, operations_performed=performed)


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


class Slow(RecordingSCP):
    """An SCP that answers when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[Deferred[int]] = []
        self.on_finish = self._wait

    def _wait(self, sink: object) -> "Deferred[int]":
        self.pending.append(Deferred())
        return self.pending[-1]


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        (window(1, 1), window(16, 16), (1, 1)),
        (window(16, 1), window(4, 8), (8, 1)),
        (window(16, 16), window(4, 8), (8, 4)),
        (window(16, 16), window(1, 1), (1, 1)),
        (window(3, 5), window(16, 16), (3, 5)),
    ],
)
def test_lowered_to_what_both_want(
    network: Network, ours: Limits, theirs: Limits, agreed: tuple[int, int]
):
    requestor, acceptor = network.associate(
        network.listen([Slow()], limits=theirs), CONTEXTS, limits=ours
    )
    assert requestor.window == agreed
    assert acceptor.window == agreed[::-1]


def test_off_by_default(network: Network):
    """Nothing is proposed: some peers fail when it is."""
    requestor, _ = network.associate(network.listen([Slow()], limits=window(9, 9)), CONTEXTS)
    for pdu in (requestor.request_pdu, requestor.answer_pdu):
        assert pdu.user_information is not None
        assert pdu.user_information.window is None


@pytest.mark.parametrize(
    ("offer", "answer"),
    [((0, 0), (5, 7)), ((65535, 65535), (5, 7)), ((2, 3), (2, 3)), ((0, 1), (5, 1))],
)
def test_h_p30_an_offer_without_limit(
    network: Network, offer: tuple[int, int], answer: tuple[int, int]
):
    """0 is no limit, and our own numbers are the most that is answered."""
    endpoint = network.listen([Slow()], limits=window(7, 5))
    client = network.scripted_requestor(endpoint)
    client.associate(CONTEXTS, window=offer)
    (accepted,) = client.pdus
    assert isinstance(accepted, AssociateAC)
    assert accepted.user_information is not None
    assert accepted.user_information.window == AsynchronousOperationsWindow(*answer)


def test_many_in_flight_answered_in_any_order(network: Network):
    slow = Slow()
    endpoint = network.listen([slow], limits=window(1, 4))
    ours, _ = network.associate(endpoint, CONTEXTS, limits=window(4, 1))
    fired: list[int] = []
    echoes = [echo(ours) for _ in range(6)]
    for number, each in enumerate(echoes):
        each.addCallback(lambda _, number: fired.append(number), number)
    network.run()
    assert len(slow.pending) == 4  # two wait for their turn
    for number in (2, 0, 3, 1):
        slow.pending[number].callback(0)
        network.run()
    assert fired == [2, 0, 3, 1]
    for late in slow.pending[4:]:
        late.callback(0)
    network.run()
    assert sorted(fired) == list(range(6))


class TestPeer:
    """A scripted peer of who performs two at a time, be that the acceptor or the requestor."""

    @pytest.fixture
    def slow(self) -> Slow:
        return Slow()

    @pytest.fixture(params=SIDES)
    def peer(self, network: Network, slow: Slow, request: pytest.FixtureRequest) -> ScriptedPeer:
        options: dict[str, Any] = {"limits": window(1, 2), "window": 2}
        return joined(network, request.param, [slow], [VERIFICATION], **options)[1]

    def echo(self, message_id: int) -> Request:
        return CEchoRQ(message_id=message_id, affected_sop_class_uid=VERIFICATION)

    def answered(self, peer: ScriptedPeer) -> list[tuple[int, int]]:
        responses = [each.message for each in peer.messages]
        return [
            (each.message_id_being_responded_to, each.status)
            for each in responses
            if isinstance(each, CEchoRSP)
        ]

    def test_h_d09_what_is_above_waits(self, network: Network, peer: ScriptedPeer, slow: Slow):
        """Two are performed, the third is known, and nothing behind it is read."""
        for number in range(1, 101):
            peer.command(self.echo(number))
        assert len(slow.pending) == 2
        assert len(peer.transport.buffer) >= 97 * 68  # they stay with the peer
        performed = 0
        while performed < len(slow.pending):
            slow.pending[performed].callback(0)
            performed += 1
            network.run()
            assert len(slow.pending) <= performed + 2
        assert [number for number, _ in self.answered(peer)] == list(range(1, 101))

    def test_h_d08_the_same_message_id(self, network: Network, peer: ScriptedPeer, slow: Slow):
        peer.command(self.echo(5))
        peer.command(self.echo(5))
        assert self.answered(peer) == [(5, 0x0210)]
        slow.pending[0].callback(0)
        network.run()
        assert self.answered(peer)[-1] == (5, 0)
        peer.command(self.echo(5))
        assert len(slow.pending) == 2
        slow.pending[1].callback(0)
        network.run()


class TestBesideSubOperations:
    """A C-GET is performed, and its requestor sends one more request than was agreed to."""

    GET = STUDY_ROOT.get

    @pytest.fixture
    def found(self) -> "Deferred[list[Instance]]":
        return Deferred()

    @pytest.fixture
    def client(self, network: Network, found: "Deferred[Any]") -> ScriptedPeer:
        scp = RetrieveSCP(lambda identifier, operation: found)
        client = network.scripted_requestor(network.listen([scp, VerificationSCP()]))
        roles = [RoleSelection(CT_STORAGE, False, True)]
        uids = (self.GET, CT_STORAGE, VERIFICATION)
        client.associate([(uid, [IMPLICIT]) for uid in uids], roles=roles)
        request = CGetRQ(message_id=1, affected_sop_class_uid=self.GET, priority=0)
        client.command(request, encode(Dataset(), IMPLICIT))
        return client

    def echo(self, client: ScriptedPeer, message_id: int = 2) -> None:
        request = CEchoRQ(message_id=message_id, affected_sop_class_uid=VERIFICATION)
        client.command(request, context_id=5)

    def instances(self, count: int) -> list[Instance]:
        return [Instance(CT_STORAGE, f"1.2.{n}", IMPLICIT, data=b"") for n in range(count)]

    def last(self, client: ScriptedPeer, kind: type[Any]) -> Any:
        return [each.message for each in client.messages if isinstance(each.message, kind)][-1]

    @pytest.mark.parametrize("early", [True, False])
    def test_it_is_refused(
        self, network: Network, client: ScriptedPeer, found: "Deferred[Any]", early: bool
    ):
        """Held, it would keep the response to our C-STORE from being read, and both would wait."""
        if early:
            self.echo(client)
        found.callback(self.instances(3))
        network.run()
        if not early:
            self.echo(client)
        assert self.last(client, CEchoRSP).status == 0x0213
        for _ in range(3):
            client.command(self.last(client, CStoreRQ).respond(0), context_id=3)
        final = self.last(client, CGetRSP)
        assert (final.status, final.number_of_completed_suboperations) == (0, 3)
        self.echo(client)
        assert self.last(client, CEchoRSP).status == 0

    def test_c_cancel_behind_it(
        self, network: Network, client: ScriptedPeer, found: "Deferred[Any]"
    ):
        found.callback(self.instances(3))
        network.run()
        self.echo(client)
        client.command(CCancelRQ(message_id_being_responded_to=1))
        client.command(self.last(client, CStoreRQ).respond(0), context_id=3)
        final = self.last(client, CGetRSP)
        assert (final.status, final.number_of_completed_suboperations) == (0xFE00, 1)

    def test_a_flood_of_them(self, network: Network, client: ScriptedPeer, found: "Deferred[Any]"):
        """Refusals that are not read pile up to a bound; then the peer has to wait."""
        link = network.links[-1]
        found.callback([Instance(CT_STORAGE, "1.2.3", IMPLICIT, data=bytes(10_000_000))])
        link.near.deaf = True
        network.run()
        for message_id in range(2, 1000):
            self.echo(client, message_id)
        theirs: Any = link.far.protocol
        assert not link.far.reading
        assert theirs.user.busy
        assert len(link.near.buffer) > 50_000  # they stay with the peer
        link.near.deaf = False
        network.run()
        client.command(self.last(client, CStoreRQ).respond(0), context_id=3)
        network.run()
        answers = [each.message for each in client.messages if isinstance(each.message, CEchoRSP)]
        assert len(answers) == 998


def test_per_peer(network: Network):
    """By what `admit` gives one requestor."""

    def admit(requesting: Requesting) -> Admission | None:
        fast = requesting.peer.ae_title == "FAST"
        return Admission(limits=window(1, 8)) if fast else None

    endpoint = network.listen([Slow()], admit=admit)
    for title, performed in (("FAST", 8), ("OTHER", 1)):
        ours, _ = network.associate(
            endpoint, CONTEXTS, limits=window(16, 1), calling_ae_title=title
        )
        assert ours.window == (performed, 1)


@pytest.mark.parametrize("raised", [(9, 1), (0, 1)])
def test_h_p30_an_answer_that_raises_our_offer(network: Network, raised: tuple[int, int]):
    """Does not count: what we offered is the most that we do."""
    endpoint = network.endpoint()
    server = network.scripted_acceptor(endpoint)
    pending: Any = associate(endpoint, CONTEXTS, limits=window(4, 1), reactor=network.clock)
    network.run()
    server.send(
        AssociateAC(
            contexts=(PresentationContextAC(1, 0, IMPLICIT),),
            user_information=UserInformation(
                16384, "1.2.3", window=AsynchronousOperationsWindow(*raised)
            ),
            echo=bytes(64),
        )
    )
    assert network.result(pending).window == (4, 1)


def requests(peer: ScriptedPeer) -> list[Any]:
    return [each.message for each in peer.messages if isinstance(each.message, Request)]


def test_no_more_than_the_acceptor_agreed_to(network: Network):
    """It counts: each response lets one more request out."""
    endpoint = network.endpoint()
    server = network.scripted_acceptor(endpoint)
    pending: Any = associate(endpoint, CONTEXTS, limits=window(16, 1), reactor=network.clock)
    server.accept(window=(3, 1))  # performed, invoked
    ours = network.result(pending)
    echoes = [echo(ours) for _ in range(7)]
    network.run()
    for answered in range(7):
        assert len(requests(server)) == min(answered + 3, 7)
        server.command(requests(server)[answered].respond(0))
    for each in echoes:
        assert network.result(each) == 0


def test_no_more_than_the_requestor_agreed_to(network: Network):
    """The acceptor invokes too: N-EVENT-REPORT, as many at a time as the requestor performs."""
    scp = NormalizedSCP([STORAGE_COMMITMENT_PUSH], n_action=lambda *_: None)
    endpoint = network.listen([scp], limits=window(8, 1))
    client = network.scripted_requestor(endpoint)
    client.associate([(STORAGE_COMMITMENT_PUSH, [IMPLICIT])], window=(1, 3))
    theirs: Any = network.links[-1].far.protocol
    reports = [n_event_report(theirs.user, STORAGE_COMMITMENT_PUSH, "1.2.3", 1) for _ in range(7)]
    network.run()
    for answered in range(7):
        assert len(requests(client)) == min(answered + 3, 7)
        client.command(requests(client)[answered].respond(0))
    for each in reports:
        assert network.result(each).status == 0
