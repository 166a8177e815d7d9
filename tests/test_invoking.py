"""Requests of ours: answers matched by Message ID, the window, cancelling (PS3.7 6.2, 7.5)."""

from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID
from twisted.internet.defer import CancelledError

from dimse.errors import (
    AssociationAbortedError,
    ConnectionLostError,
    DimseError,
    MisuseError,
    ReleasedError,
    StatusError,
)
from dimse.message import command
from dimse.message.messages import CEchoRQ, CStoreRQ, CStoreRSP
from dimse.services.storage import store
from dimse.services.verification import echo
from dimse.ul.pdu import Abort, AssociateRQ, PDataTF
from tests.memory import Net, Outcome, RawPeer
from tests.scripted import (
    ABORT,
    AC,
    RELEASE_RQ,
    Bytes,
    data,
    echo_rq,
    echo_rsp,
    p_data,
    store_rq,
    store_rsp,
)
from tests.scripted import command as command_pdu
from tests.wire import CT_STORAGE, EXPLICIT

LARGE = 10_000_000


@pytest.fixture
def server(net: Net) -> RawPeer:
    """A scripted acceptor in Sta6."""
    server = net.server()
    server.send(AC)
    assert isinstance(server.news[0], AssociateRQ)
    return server


def association(server: RawPeer) -> Any:
    return server.outcome.value


def invoke(net: Net, server: RawPeer, request: CEchoRQ | CStoreRQ, source: Any = None) -> Outcome:
    """The outcome of a request, in the context that it belongs to."""
    ours = association(server)
    context = ours.contexts[3 if isinstance(request, CStoreRQ) else 1]
    outcome = net.outcome(ours.request(context, request, source))
    server.link.run()
    return outcome


def half_stored(net: Net, server: RawPeer) -> Outcome:
    """A C-STORE whose data set is stopped in the middle, by a peer that does not read on."""
    server.link.near.deaf = True
    return invoke(net, server, store_rq(), Bytes(bytes(LARGE)))


class TestResponses:
    @pytest.mark.parametrize("status", [0x0000, 0xB007, 0xA700, 0xFFFF])
    def test_whatever_the_status(self, net: Net, server: RawPeer, status: int):
        outcome = invoke(net, server, store_rq(), Bytes(b"ab"))
        server.send(store_rsp(1, status))
        assert outcome.value.response.status == status

    def test_ids_count_from_one(self, server: RawPeer):
        assert [association(server).next_message_id() for _ in range(3)] == [1, 2, 3]

    def test_ids_wrap_and_leave_out_what_is_outstanding(self, net: Net, server: RawPeer):
        """PS3.7 9.1.1.1.1: 1 to 65535, none twice among the outstanding ones."""
        ours = association(server)
        invoke(net, server, echo_rq(1))
        invoke(net, server, echo_rq(3))
        ids = [ours.next_message_id() for _ in range(65535)]
        assert ids[:2] == [2, 4]
        assert set(ids) == set(range(1, 65536)) - {1, 3}
        assert ids[65533] == 2

    @pytest.mark.parametrize("outstanding", [1, 2])
    def test_an_id_in_use(self, net: Net, server: RawPeer, outstanding: int):
        """Whether it was sent or waits: else one of the two would never be answered."""
        outcomes = [invoke(net, server, echo_rq(n + 1)) for n in range(outstanding)]
        assert isinstance(invoke(net, server, echo_rq(outstanding)).value, MisuseError)
        for n in range(outstanding):
            server.send(echo_rsp(n + 1))
        assert [outcome.value.response.status for outcome in outcomes] == [0] * outstanding
        again = invoke(net, server, echo_rq(outstanding))
        server.send(echo_rsp(outstanding))
        assert again.value.response.status == 0

    def test_an_id_that_was_taken_back(self, net: Net, server: RawPeer):
        first, second = (invoke(net, server, echo_rq(n)) for n in (1, 2))
        second.deferred.cancel()
        again = invoke(net, server, echo_rq(2))
        server.send(echo_rsp(1))
        server.send(echo_rsp(2))
        assert first.value.response.status == again.value.response.status == 0

    def test_no_id_is_left(self, server: RawPeer):
        """65535 requests wait, and the next one does not search for ever."""
        ours = association(server)
        context = ours.contexts[1]
        for _ in range(65535):
            ours.request(context, echo_rq(ours.next_message_id())).addErrback(lambda _: None)
        with pytest.raises(MisuseError):
            ours.next_message_id()

    def test_one_before_its_request(self, net: Net, server: RawPeer):
        server.link.near.deaf = True
        server.link.far.bufferSize = 0
        first = invoke(net, server, store_rq(1), Bytes(b"ab"))  # it fills the transport
        second = invoke(net, server, store_rq(2), Bytes(b"ab"))
        server.send(store_rsp(1), store_rsp(2))
        assert first.value.response.status == 0
        assert isinstance(second.value, AssociationAbortedError)
        assert "before its request" in str(second.value)

    def test_its_data_set_has_no_use(self, net: Net, server: RawPeer):
        outcome = invoke(net, server, store_rq(), Bytes(b"ab"))
        elements = {"CommandField": 0x8001, "MessageIDBeingRespondedTo": 1, "Status": 0}
        server.send(p_data((3, 3, command.encode(elements | {"CommandDataSetType": 1}))))
        server.send(data(b"ab"))
        assert outcome.value.response.status == 0
        assert association(server).ended is None


class TestEarlyResponses:
    """A performer may answer before the data set has ended (PS3.7 9.3.1.2)."""

    def test_a_failure_ends_the_data_set(self, net: Net, server: RawPeer):
        outcome = half_stored(net, server)
        server.send(store_rsp(1, 0xA700))
        assert outcome.firings == []
        server.link.near.deaf = False
        server.link.run()
        assert outcome.value.response.status == 0xA700
        assert len(server.received) < LARGE / 5
        last = server.pdus[-1]
        assert isinstance(last, PDataTF)
        assert last.pdvs[-1].control == 2  # in order, so the association goes on
        again = invoke(net, server, echo_rq(2))
        server.send(echo_rsp(2))
        assert again.value.response.status == 0

    @pytest.mark.parametrize("status", [0x0000, 0xB000])
    def test_a_success_is_a_lie(self, net: Net, server: RawPeer, status: int):
        """Nobody can have stored what was not sent; to believe it loses an instance."""
        outcome = half_stored(net, server)
        server.send(store_rsp(1, status))
        assert isinstance(outcome.value, AssociationAbortedError)
        assert "success before the end" in str(outcome.value)


class TestWindow:
    def test_one_at_a_time(self, net: Net, server: RawPeer):
        """PS3.7 D.3.3.3: without negotiation there is one operation outstanding."""
        outcomes = [invoke(net, server, echo_rq(number)) for number in (1, 2, 3)]
        for number, outcome in enumerate(outcomes, 1):
            assert len(server.news) == 1
            server.send(echo_rsp(number))
            assert outcome.value.response.status == 0

    def test_a_request_from_the_callback_of_another(self, net: Net, server: RawPeer):
        ours = association(server)
        first = ours.request(ours.contexts[1], echo_rq(1))
        second = net.outcome(
            first.addCallback(lambda _: ours.request(ours.contexts[1], echo_rq(2)))
        )
        server.link.run()
        server.send(echo_rsp(1))
        server.send(echo_rsp(2))
        assert second.value.response.message_id_being_responded_to == 2


class TestEnd:
    @pytest.mark.parametrize("how", [ABORT, b"\xff" * 6, None])
    def test_all_that_is_outstanding_fails(self, net: Net, server: RawPeer, how: bytes | None):
        outcomes = [invoke(net, server, echo_rq(number)) for number in (1, 2, 3)]
        if how is None:
            server.link.cut()
        else:
            server.send(how)
        kind = ConnectionLostError if how is None else AssociationAbortedError
        assert all(isinstance(outcome.value, kind) for outcome in outcomes)
        late = invoke(net, server, echo_rq(4))
        assert late.value is association(server).ended

    def test_an_abort_from_the_callback_of_a_response(self, net: Net, server: RawPeer):
        ours = association(server)
        first = ours.request(ours.contexts[1], echo_rq(1))
        net.outcome(first.addCallback(lambda _: ours.abort()))
        second = invoke(net, server, echo_rq(2))
        server.received.clear()
        server.send(echo_rsp(1))
        assert isinstance(second.value, AssociationAbortedError)
        assert server.news == [Abort(0, 0)]


class TestCancel:
    def test_not_sent(self, net: Net, server: RawPeer):
        """It is taken back, and the peer never hears of it."""
        first = invoke(net, server, echo_rq(1))
        second = invoke(net, server, echo_rq(2))
        server.received.clear()
        second.deferred.cancel()
        server.send(echo_rsp(1))
        assert isinstance(second.value, CancelledError)
        assert first.value.response.status == 0
        assert server.news == []

    def test_not_begun(self, net: Net, server: RawPeer):
        """It has its place in the window, but the transport takes nothing now."""
        server.link.near.deaf = True
        server.link.far.bufferSize = 0
        first = invoke(net, server, store_rq(1), Bytes(b"ab"))
        second = invoke(net, server, store_rq(2), Bytes(b"ab"))
        server.send(store_rsp(1))
        second.deferred.cancel()
        assert isinstance(second.value, CancelledError)
        third = invoke(net, server, echo_rq(3))
        server.link.near.deaf = False
        server.link.run()
        server.send(echo_rsp(3))
        assert first.value.response.status == third.value.response.status == 0

    def test_sent(self, net: Net, server: RawPeer):
        """Its response is still waited for, because it keeps its place in the window."""
        first = invoke(net, server, echo_rq(1))
        second = invoke(net, server, echo_rq(2))
        first.deferred.cancel()
        assert isinstance(first.value, CancelledError)
        server.received.clear()
        server.link.run()
        assert server.news == []
        server.send(echo_rsp(1))
        server.send(echo_rsp(2))
        assert second.value.response.status == 0

    def test_sent_and_never_answered(self, net: Net, server: RawPeer):
        outcome = invoke(net, server, echo_rq(1))
        outcome.deferred.cancel()
        server.link.advance(60)
        assert association(server).ended.which == "response"

    def test_in_the_middle_of_the_data_set(self, net: Net, server: RawPeer):
        """Nothing short of an abort ends it, for the peer would take the part for the whole."""
        outcome = half_stored(net, server)
        outcome.deferred.cancel()
        assert isinstance(outcome.value, CancelledError)
        server.link.near.deaf = False
        server.link.run()
        assert server.pdus[-1] == Abort(0, 0)
        ended = association(server).ended
        assert isinstance(ended, AssociationAbortedError)
        assert not ended.by_peer
        assert "cancelled" in str(ended)

    @pytest.mark.parametrize("clogged", [False, True])
    def test_while_its_data_set_is_read(self, net: Net, server: RawPeer, clogged: bool):
        """As a progress callback does: no part of it may be sent, or all ends."""
        server.link.far.bufferSize = 0 if clogged else 1_000_000
        server.link.near.deaf = clogged
        source = Bytes(b"abcd")
        first = invoke(net, server, store_rq(1), Bytes(b"ab"))
        second = invoke(net, server, store_rq(2), source)
        source.on_read = second.deferred.cancel
        server.send(store_rsp(1))
        server.link.near.deaf = False
        server.link.run()
        assert first.value.response.status == 0
        assert isinstance(second.value, CancelledError)
        assert b"abcd" not in server.received


class TestSources:
    def test_one_that_fails_at_once(self, net: Net, server: RawPeer):
        """Only its request fails."""

        def broken() -> None:
            raise OSError(5, "Input/output error")

        source = Bytes(b"ab")
        source.on_read = broken
        outcome = invoke(net, server, store_rq(1), source)
        assert isinstance(outcome.value, DimseError)
        after = invoke(net, server, echo_rq(2))
        server.send(echo_rsp(2))
        assert after.value.response.status == 0

    def test_one_that_fails_in_the_middle(self, net: Net, server: RawPeer):
        def broken() -> None:
            raise OSError(5, "Input/output error")

        server.link.near.deaf = True
        source = Bytes(bytes(LARGE))
        outcome = invoke(net, server, store_rq(1), source)
        source.on_read = broken
        server.link.near.deaf = False
        server.link.run()
        assert isinstance(outcome.value, AssociationAbortedError)
        assert "Input/output error" in str(outcome.value)
        assert server.pdus[-1] == Abort(0, 0)


class TestEcho:
    def test_success(self, net: Net, server: RawPeer):
        echoed = net.outcome(echo(association(server)))
        server.link.run()
        server.send(echo_rsp(1))
        assert echoed.value == 0

    def test_failure(self, net: Net, server: RawPeer):
        echoed = net.outcome(echo(association(server)))
        server.link.run()
        server.send(echo_rsp(1, 0x0122))
        assert isinstance(echoed.value, StatusError)
        assert echoed.value.status == 0x0122

    def test_offending_elements(self, net: Net, server: RawPeer):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = CT_STORAGE, "1.2.3"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = UID(EXPLICIT)
        stored = net.outcome(store(association(server), dataset))
        server.link.run()
        response = CStoreRSP(
            message_id_being_responded_to=1,
            status=0xA900,
            error_comment="two patients",
            offending_element=(0x00100010, 0x00100020),
        )
        server.send(command_pdu(response, 3))
        assert stored.value.comment == "two patients"
        assert stored.value.offending == (0x00100010, 0x00100020)

    def test_after_release(self, net: Net, server: RawPeer):
        server.send(RELEASE_RQ)
        assert isinstance(net.outcome(echo(association(server))).value, ReleasedError)
