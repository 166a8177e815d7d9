"""Scripted peers: a client and an SCP against all that they do."""

from collections.abc import Callable

import pytest
from twisted.internet.address import IPv4Address

import dimse
from dimse.invoking import Answer
from dimse.message.messages import CEchoRQ, CEchoRSP, CFindRQ, CStoreRQ, CStoreRSP
from dimse.sending import Whole
from dimse.testing import Network, ScriptedPeer
from dimse.ul.negotiation import SupportedContext
from dimse.ul.pdu import (
    PDV,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    ReleaseRP,
    ReleaseRQ,
)
from tests.memory import RecordingSCP
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT, VERIFICATION

LIMITS = dimse.Limits(connect=3, associate=4, response=5, idle=6)
ECHO = CEchoRQ(message_id=1, affected_sop_class_uid=VERIFICATION)
STORE = CStoreRQ(
    message_id=7,
    affected_sop_class_uid=CT_STORAGE,
    affected_sop_instance_uid="1.2.3",
    priority=0,
)


class Client:
    """A client that is tested against a scripted acceptor."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.endpoint = network.endpoint()
        self.peer = network.scripted_acceptor(self.endpoint)
        self.associating = dimse.associate(
            self.endpoint,
            [VERIFICATION, (CT_STORAGE, [EXPLICIT, IMPLICIT])],
            limits=LIMITS,
            reactor=network.clock,
        )

    def accepted(self) -> dimse.Association:
        self.peer.accept()
        return self.network.result(self.associating)


@pytest.fixture
def client(network: Network) -> Client:
    return Client(network)


class TestScriptedAcceptor:
    def test_it_waits_for_one_connection(self, network: Network, client: Client):
        with pytest.raises(dimse.ConnectionLostError, match="refused"):
            network.associate(client.endpoint)
        again = network.scripted_acceptor(client.endpoint)
        second = dimse.associate(client.endpoint, reactor=network.clock)
        again.reject()
        with pytest.raises(dimse.AssociationRejectedError):
            network.result(second)
        assert not client.associating.called
        client.accepted()

    def test_it_does_nothing_by_itself(self, network: Network, client: Client):
        network.run()
        [request] = client.peer.pdus
        assert isinstance(request, AssociateRQ)
        network.advance(4)
        with pytest.raises(dimse.TimedOutError, match="associate"):
            network.result(client.associating)

    def test_it_accepts_what_is_proposed(self, client: Client):
        contexts = client.accepted().contexts
        assert [each.transfer_syntax for each in contexts.values()] == [EXPLICIT, EXPLICIT]

    def test_it_accepts_what_it_is_told_to(self, network: Network, client: Client):
        client.peer.accept({CT_STORAGE: SupportedContext((IMPLICIT,))}, maximum_length=5000)
        ours = network.result(client.associating)
        assert [each.transfer_syntax for each in ours.contexts.values()] == [IMPLICIT]
        assert ours.peer_information.maximum_length == 5000

    def test_it_accepts_no_request_that_has_not_come(self, network: Network):
        with pytest.raises(AssertionError, match="A-ASSOCIATE-RQ"):
            network.scripted_acceptor(network.endpoint()).accept()

    def test_it_rejects(self, network: Network, client: Client):
        client.peer.reject(2, 3, 1)
        with pytest.raises(dimse.AssociationRejectedError, match="temporary congestion"):
            network.result(client.associating)

    def test_it_responds(self, network: Network, client: Client):
        ours = client.accepted()
        echo = dimse.echo(ours)
        with pytest.raises(AssertionError, match="no whole request"):
            ScriptedPeer(lambda: None).respond()
        client.peer.respond()
        assert network.result(echo) == 0
        [request] = client.peer.messages
        assert isinstance(request.message, CEchoRQ)
        assert (request.context_id, request.data) == (1, b"")

    def test_it_fails_an_operation(self, network: Network, client: Client):
        echo = dimse.echo(client.accepted())
        client.peer.respond(0x0110, comment="no idea")
        with pytest.raises(dimse.StatusError, match="0x0110") as caught:
            network.result(echo)
        assert caught.value.comment == "no idea"

    def test_it_goes_between_two_of_many_responses(self, network: Network, client: Client):
        ours = client.accepted()
        answers: list[Answer] = []
        request = CFindRQ(message_id=1, affected_sop_class_uid=VERIFICATION, priority=0)
        finding = ours.invoke(ours.contexts[1], request, Whole(b"ab"), answers.append)
        client.peer.respond(0xFF00, b"cd")
        client.peer.respond(0xFF01, b"ef")
        client.peer.abort()
        assert [answer.data for answer in answers] == [b"cd", b"ef"]
        with pytest.raises(dimse.AssociationAbortedError):
            network.result(finding.answer)

    def test_it_gets_data_sets(self, network: Network, client: Client):
        ours = client.accepted()
        data = bytes(50_000)
        stored = dimse.store(ours, dimse.Instance(CT_STORAGE, "1.2.3", EXPLICIT, data=data))
        client.peer.respond()
        assert network.result(stored) == 0
        [request] = client.peer.messages
        assert isinstance(request.message, CStoreRQ)
        assert (request.context_id, request.data) == (3, data)

    def test_it_releases(self, network: Network, client: Client):
        ours = client.accepted()
        released = ours.release()
        network.run()
        assert client.peer.pdus[-1] == ReleaseRQ()
        assert not released.called
        client.peer.release_response()
        network.result(released)
        assert client.peer.closed

    @pytest.mark.parametrize(
        ("misbehave", "error"),
        [
            (lambda peer: peer.abort(), dimse.AssociationAbortedError),
            (lambda peer: peer.abort(2, 6), dimse.AssociationAbortedError),
            (lambda peer: peer.close(), dimse.ConnectionLostError),
            (lambda peer: peer.send(b"junk and more junk"), dimse.AssociationAbortedError),
            (lambda peer: peer.send(ReleaseRP()), dimse.AssociationAbortedError),
            (
                lambda peer: peer.send(PDataTF((PDV(1, 1, b"half"),)), Abort(0, 0)),
                dimse.AssociationAbortedError,
            ),
            (
                lambda peer: peer.command(
                    CEchoRSP(message_id_being_responded_to=1, status=0), context_id=99
                ),
                dimse.AssociationAbortedError,
            ),
        ],
        ids=["abort", "abort 2 6", "close", "junk", "release", "half a response", "context"],
    )
    def test_it_misbehaves_instead_of_a_response(
        self,
        network: Network,
        client: Client,
        misbehave: Callable[[ScriptedPeer], None],
        error: type[Exception],
    ):
        echo = dimse.echo(client.accepted())
        misbehave(client.peer)
        with pytest.raises(error):
            network.result(echo)

    def test_it_never_responds(self, network: Network, client: Client):
        echo = dimse.echo(client.accepted())
        network.advance(5)
        with pytest.raises(dimse.TimedOutError, match="response"):
            network.result(echo)
        assert client.peer.pdus[-1] == Abort(0, 0)

    def test_it_stops_reading(self, network: Network, client: Client):
        ours = client.accepted()
        client.peer.stop_reading()
        echo = dimse.echo(ours)
        network.run()
        assert client.peer.messages == []
        client.peer.start_reading()
        client.peer.respond()
        assert network.result(echo) == 0

    def test_the_network_is_cut(self, network: Network, client: Client):
        echo = dimse.echo(client.accepted())
        network.cut()
        with pytest.raises(dimse.ConnectionLostError):
            network.result(echo)
        assert client.peer.closed


@pytest.fixture
def peer(network: Network, scp: RecordingSCP) -> ScriptedPeer:
    """A requestor at an acceptor that is tested."""
    return network.scripted_requestor(network.listen([scp], limits=LIMITS))


@pytest.fixture
def associated(peer: ScriptedPeer) -> ScriptedPeer:
    peer.associate([VERIFICATION, (CT_STORAGE, [EXPLICIT])])
    return peer


class TestScriptedRequestor:
    def test_what_it_proposes(self, peer: ScriptedPeer):
        peer.associate([CT_STORAGE], called_ae_title="ARCHIVE", maximum_length=5000)
        [answer] = peer.pdus
        assert isinstance(answer, AssociateAC)
        assert [each.result for each in answer.contexts] == [0]
        assert answer.echo[:16] == b"ARCHIVE".ljust(16)

    def test_it_is_rejected(self, network: Network, scp: RecordingSCP):
        peer = network.scripted_requestor(network.listen([scp], ae_titles=["ARCHIVE"]))
        peer.associate(called_ae_title="OTHER")
        assert peer.pdus == [AssociateRJ(1, 1, 7)]

    def test_its_address(self, network: Network, scp: RecordingSCP):
        endpoint = network.listen([scp], limits=dimse.Limits(connections_per_address=1))
        hosts = ("10.0.0.7", "10.0.0.7", "10.0.0.8")
        peers = [network.scripted_requestor(endpoint, host) for host in hosts]
        assert [peer.closed for peer in peers] == [False, True, False]
        assert network.links[0].far.getPeer() == IPv4Address("TCP", "10.0.0.7", 4242)

    def test_its_requests_are_answered(self, associated: ScriptedPeer, scp: RecordingSCP):
        associated.command(ECHO)
        associated.command(STORE, b"abcd", context_id=3)
        echoed, stored = associated.messages
        assert isinstance(echoed.message, CEchoRSP)
        assert (echoed.context_id, stored.context_id) == (1, 3)
        assert scp.sinks[1].data == b"abcd"
        assert scp.sinks[1].endings == ["finish"]

    @pytest.mark.parametrize("segments", [[], [1], [7, 1, 100]])
    def test_a_data_set_comes_whole(self, scp: RecordingSCP, segments: list[int]):
        with Network(segments) as network:
            peer = network.scripted_requestor(network.listen([scp]))
            peer.associate([CT_STORAGE])
            peer.command(STORE, bytes(range(200)) * 100)
            assert scp.sinks[0].data == bytes(range(200)) * 100
            [response] = peer.messages
            assert isinstance(response.message, CStoreRSP)
            assert response.message.status == 0

    def test_what_came_can_be_forgotten(self, associated: ScriptedPeer):
        associated.received.clear()
        associated.command(ECHO)
        assert len(associated.pdus) == len(associated.messages) == 1

    @pytest.mark.parametrize(
        ("end", "reason"),
        [
            (ScriptedPeer.abort, dimse.AssociationAbortedError),
            (ScriptedPeer.close, dimse.ConnectionLostError),
            (ScriptedPeer.release, dimse.AssociationAbortedError),  # not inside a message
        ],
    )
    def test_it_goes_in_the_middle_of_a_data_set(
        self,
        associated: ScriptedPeer,
        scp: RecordingSCP,
        end: Callable[[ScriptedPeer], None],
        reason: type[Exception],
    ):
        associated.command(STORE, b"ab", context_id=3, complete=False)
        associated.send(PDataTF((PDV(3, 0, b"cd"),)))
        end(associated)
        [sink] = scp.sinks
        assert sink.data == b"abcd"
        assert isinstance(sink.endings[0], reason)

    def test_it_releases(self, associated: ScriptedPeer):
        associated.release()
        assert associated.pdus[-1] == ReleaseRP()

    def test_it_sends_junk(self, associated: ScriptedPeer):
        associated.send(b"junk and more junk")
        assert isinstance(associated.pdus[-1], Abort)

    def test_it_says_nothing(self, network: Network, associated: ScriptedPeer):
        network.advance(6)
        assert associated.pdus[-1] == Abort(0, 0)
