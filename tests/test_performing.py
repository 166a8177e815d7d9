"""Requests of the peer: their sinks, their responses, and who has to wait (PS3.7 6.2, 7.5)."""

from typing import Any, ClassVar

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import AlreadyCalledError, CancelledError, Deferred, fail, succeed

from dimse.errors import (
    AssociationAbortedError,
    ConnectionLostError,
    DimseError,
    MisuseError,
    StatusError,
)
from dimse.limits import Limits
from dimse.message import command
from dimse.message.base import Response
from dimse.message.messages import MESSAGES, CCancelRQ, CFindRQ
from dimse.performing import Outcome, Peer
from dimse.services.verification import VerificationSCP
from dimse.ul.pdu import PDataTF
from tests.memory import LIMITS, Net, RawPeer, RecordingSink
from tests.scripted import (
    ABORT,
    COMMAND,
    ECHO,
    INVALID,
    LAST,
    RELEASE_RQ,
    RQ,
    STORE,
    data,
    echo_rq,
    p_data,
    store_rq,
)
from tests.scripted import command as command_pdu
from tests.wire import CT_STORAGE, VERIFICATION


@pytest.fixture
def client(net: Net) -> RawPeer:
    """A scripted requestor in Sta6."""
    client = net.client()
    client.send(RQ)
    client.received.clear()
    return client


def responses(client: RawPeer) -> list[Response]:
    """The responses that came since the last look."""
    found = []
    for pdu in client.news:
        assert isinstance(pdu, PDataTF)
        for pdv in pdu.pdvs:
            elements = command.decode(bytes(pdv.fragment))
            field = elements["CommandField"]
            assert isinstance(field, int)
            message = MESSAGES[field].decode(elements)
            assert isinstance(message, Response)
            found.append(message)
    return found


def elements_of(client: RawPeer) -> dict[str, command.Value]:
    """The command elements of the one response that came."""
    (pdu,) = client.news
    assert isinstance(pdu, PDataTF)
    return command.decode(bytes(pdu.pdvs[0].fragment))


def find_rq() -> CFindRQ:
    return CFindRQ(message_id=1, affected_sop_class_uid=CT_STORAGE, priority=0)


def raw_command(context_id: int = 1, **elements: command.Value) -> bytes:
    return p_data((context_id, COMMAND | LAST, command.encode(elements)))


class TestResponses:
    def test_success(self, net: Net, client: RawPeer):
        client.send(STORE, data(b"abcd"))
        (response,) = responses(client)
        assert (response.status, response.message_id_being_responded_to) == (0, 1)
        assert response.affected_sop_class_uid == CT_STORAGE
        assert net.scp.sinks[0].data == b"abcd"
        assert net.scp.sinks[0].endings == ["finish"]

    def test_the_status_of_the_sink(self, net: Net, client: RawPeer):
        net.scp.on_finish = lambda sink: succeed(0xB007)
        client.send(STORE, data(b"ab"))
        assert responses(client)[0].status == 0xB007

    def test_a_status_error(self, net: Net, client: RawPeer):
        net.scp.on_finish = lambda sink: fail(StatusError(0xA700, "no room"))
        client.send(STORE, data(b"ab"))
        (response,) = responses(client)
        assert (response.status, response.error_comment) == (0xA700, "no room")

    def test_offending_elements(self, net: Net, client: RawPeer):
        error = StatusError(0xA900, "two patients", (0x00100010, 0x00100020))
        net.scp.on_finish = lambda sink: fail(error)
        client.send(STORE, data(b"ab"))
        assert elements_of(client)["OffendingElement"] == (0x00100010, 0x00100020)

    @pytest.mark.parametrize("junk", [None, "0", b"\0\0", -1, 0x10000, 1.5])
    def test_h_r25_what_is_no_status(self, net: Net, client: RawPeer, junk: Any):
        """H-R25: a performer that returns junk has failed, and the association lives."""
        net.scp.on_finish = lambda sink: succeed(junk)
        client.send(STORE, data(b"ab"))
        assert responses(client)[0].status == 0x0110
        client.send(ECHO)
        assert client.received
        self.reported(net, TypeError, 2)

    @pytest.mark.parametrize(
        "outcome",
        [
            Outcome(0, elements={"affected_sop_instance_uid": "1.2.é"}),
            Outcome(0, elements={"message_id_being_responded_to": 70000}),
            Outcome(0, data="text"),  # type: ignore[arg-type]
            Outcome(0, comment=7),  # type: ignore[arg-type]
        ],
    )
    def test_an_outcome_that_cannot_be_encoded(self, net: Net, client: RawPeer, outcome: Outcome):
        on_finish: Any = lambda sink: succeed(outcome)  # noqa: E731
        self.answered_all_the_same(net, client, "on_finish", on_finish)

    @pytest.mark.parametrize("where", ["on_begin", "on_write", "on_finish"])
    @pytest.mark.parametrize("offending", ["PatientID", 1 << 40])
    def test_a_status_error_that_cannot_be_encoded(
        self, net: Net, client: RawPeer, where: str, offending: Any
    ):
        def refuse(_: object) -> Any:
            raise StatusError(0xA700, offending=(offending,))

        self.answered_all_the_same(net, client, where, refuse)

    @staticmethod
    def answered_all_the_same(net: Net, client: RawPeer, where: str, fault: Any) -> None:
        """With 0x0110, and the next request has its place in the window."""
        working = getattr(net.scp, where)
        setattr(net.scp, where, fault)
        client.send(STORE, data(b"ab"))
        assert [response.status for response in responses(client)] == [0x0110]
        assert len(net.failures) == 1
        net.failures.clear()
        setattr(net.scp, where, working)
        client.send(STORE, data(b"ab"))
        assert [response.status for response in responses(client)] == [0]

    @pytest.mark.parametrize("where", ["on_begin", "on_write", "on_finish"])
    def test_h_r25_an_exception(self, net: Net, client: RawPeer, where: str):
        """It becomes the response; the association lives, and the sink has one ending."""

        def crash(_: object) -> Any:
            raise ZeroDivisionError

        working = getattr(net.scp, where)
        setattr(net.scp, where, crash)
        client.send(STORE, data(b"ab", last=False))
        assert client.received == b""  # not before the request is whole
        client.send(data(b"cd"))
        assert responses(client)[0].status == 0x0110
        self.reported(net, ZeroDivisionError)
        setattr(net.scp, where, working)
        client.send(STORE, data(b"ab"))
        assert responses(client)[0].status == 0

    @pytest.mark.parametrize("where", ["on_begin", "on_write", "on_finish"])
    def test_a_status_error_raised(self, net: Net, client: RawPeer, where: str):
        def refuse(_: object) -> Any:
            raise StatusError(0xA700, "full")

        setattr(net.scp, where, refuse)
        client.send(STORE, data(b"ab", last=False), data(b"cd"))
        (response,) = responses(client)
        assert (response.status, response.error_comment) == (0xA700, "full")

    def test_a_failed_sink_hears_why_and_gets_no_more(self, net: Net, client: RawPeer):
        def refuse(_: RecordingSink) -> None:
            raise StatusError(0xA900)

        net.scp.on_write = refuse
        client.send(STORE, *[data(b"ab", last=False)] * 5, data(b"cd"))
        (sink,) = net.scp.sinks
        assert sink.data == b"ab"
        assert isinstance(sink.endings[0], StatusError)
        assert len(responses(client)) == 1

    def test_a_bug_in_write_reaches_abort_as_an_error_of_ours(self, net: Net, client: RawPeer):
        net.scp.on_write = lambda sink: 1 / 0
        client.send(STORE, data(b"cd"))
        assert isinstance(net.scp.sinks[0].endings[0], DimseError)
        self.reported(net, ZeroDivisionError)

    def test_a_bug_in_abort_stays_its_own(self, net: Net, client: RawPeer):
        net.scp.on_abort = lambda sink: 1 / 0
        client.send(STORE, data(b"cd", last=False), ABORT)
        assert client.closed
        self.reported(net, ZeroDivisionError)

    @staticmethod
    def reported(net: Net, kind: type[Exception], times: int = 1) -> None:
        """The log has it, so that somebody can mend it."""
        assert [failure.type for failure in net.failures] == [kind] * times
        net.failures.clear()


class TestPending:
    """Pending responses of an operation, and the time that it has (`Limits.perform`)."""

    @pytest.fixture
    def operation(self, net: Net, client: RawPeer) -> Any:
        """One that is performed for ever."""
        net.scp.on_finish = lambda sink: Deferred()
        client.send(command_pdu(find_rq(), 3), data(b"ab"))
        return net.scp.sinks[0].operation

    def answered_in_time(self, net: Net, client: RawPeer) -> None:
        net.advance(LIMITS.perform + 1)
        assert responses(client)[-1].status == 0x0110

    @pytest.mark.parametrize("status", [0x0000, 0xA700, 0xFE00, 0xFF02, "0xFF00", None])
    def test_a_status_that_is_not(self, net: Net, client: RawPeer, operation: Any, status: Any):
        """A final status would be followed by another one."""
        assert isinstance(net.outcome(operation.pending(status)).value, MisuseError)
        assert client.received == b""
        self.answered_in_time(net, client)

    @pytest.mark.parametrize(
        ("what", "kind"),
        [
            ({"data": "text"}, TypeError),
            ({"affected_sop_class_uid": "1.é"}, MisuseError),
        ],
    )
    def test_what_cannot_be_encoded(
        self, net: Net, client: RawPeer, operation: Any, what: dict[str, Any], kind: type[Exception]
    ):
        """Whoever sends it hears of it, and has no more time than before."""
        assert isinstance(net.outcome(operation.pending(0xFF00, **what)).value, kind)
        assert client.received == b""
        self.answered_in_time(net, client)

    def test_cancelled(self, net: Net, client: RawPeer, operation: Any):
        """It has the time again that was the peer's while it did not read."""
        client.subject.sending_paused = True
        pending = net.outcome(operation.pending(0xFF00))
        pending.deferred.cancel()
        assert isinstance(pending.value, CancelledError)
        client.subject.resumeProducing()
        self.answered_in_time(net, client)

    @pytest.mark.parametrize("how", ["cut", "abort"])
    @pytest.mark.parametrize("waiting_for", ["peer", "turn"])
    def test_the_end_of_the_association(
        self, net: Net, client: RawPeer, operation: Any, how: str, waiting_for: str
    ):
        """H-R: it fires, though the response is never sent or others never had their turn."""
        client.subject.sending_paused = waiting_for == "peer"
        for _ in range(40):
            pending = net.outcome(operation.pending(0xFF00, b"ab"))
        assert pending.firings == []
        if how == "cut":
            client.link.cut()
        else:
            operation.association.abort()
        assert isinstance(pending.value, CancelledError)
        assert isinstance(net.outcome(operation.pending(0xFF00)).value, CancelledError)


def test_a_second_c_cancel_means_nothing(net: Net, client: RawPeer):
    """What the first one left to end in order, as a sub-operation under way, does so."""
    done: Deferred[int] = Deferred()

    async def to_its_end() -> int:
        with pytest.raises(CancelledError):
            await Deferred()
        return await done

    net.scp.on_finish = lambda sink: Deferred.fromCoroutine(to_its_end())
    client.send(command_pdu(find_rq(), 3), data(b"ab"))
    for _ in range(2):
        client.send(command_pdu(CCancelRQ(message_id_being_responded_to=1), 3))
        net.advance(0)
    assert client.received == b""
    done.callback(0xB000)
    net.run()
    assert [response.status for response in responses(client)] == [0xB000]


class TestCancelledWhileItRuns:
    """A coroutine that runs hears of its cancellation when it waits the next time."""

    @pytest.mark.parametrize("first", [True, False])
    def test_it_ends_its_association(self, net: Net, client: RawPeer, first: bool):
        events: list[str] = []
        begin: Deferred[None] = Deferred()

        async def perform(operation: Any) -> int:
            if not first:
                await begin
            operation.association.abort()
            try:
                return await Deferred[int]()
            finally:
                events.append("cleaned up")

        net.scp.on_finish = lambda sink: Deferred.fromCoroutine(perform(sink.operation))
        client.send(command_pdu(find_rq(), 3), data(b"ab"))
        begin.callback(None)
        net.run()
        assert events == ["cleaned up"]

    def test_it_reads_on_and_there_is_a_c_cancel(self, net: Net, client: RawPeer):
        begin: Deferred[None] = Deferred()

        async def perform(operation: Any) -> int:
            operation.pauseProducing()
            await begin
            operation.resumeProducing()
            return await Deferred[int]()

        net.scp.on_finish = lambda sink: Deferred.fromCoroutine(perform(sink.operation))
        cancel = CCancelRQ(message_id_being_responded_to=1)
        client.send(command_pdu(find_rq(), 3) + data(b"ab") + command_pdu(cancel, 3))
        begin.callback(None)
        net.run()
        assert [response.status for response in responses(client)] == [0xFE00]

    def test_it_is_done_before_it_hears_of_it(self, net: Net, client: RawPeer):
        """Then no timer is left either."""

        async def perform(operation: Any) -> int:
            operation.association.abort()
            return 0

        net.scp.on_finish = lambda sink: Deferred.fromCoroutine(perform(sink.operation))
        client.send(command_pdu(find_rq(), 3), data(b"ab"))
        client.link.cut()
        assert net.clock.getDelayedCalls() == []


class TestEndings:
    """Exactly one of `finish` and `abort`, whatever happens; `net` checks that there is one."""

    @pytest.mark.parametrize(
        ("last", "kind"),
        [(ABORT, AssociationAbortedError), (b"\xff" * 6, AssociationAbortedError)],
    )
    def test_in_the_middle(self, net: Net, client: RawPeer, last: bytes, kind: type[Exception]):
        client.send(STORE, data(b"ab", last=False), last)
        assert isinstance(net.scp.sinks[0].endings[0], kind)

    @pytest.mark.parametrize("then", ["goes on", "raises"])
    def test_by_the_one_who_performs(self, net: Net, client: RawPeer, then: str):
        """Before he has even returned his sink, or instead of that."""

        def on_begin(operation: Any) -> None:
            operation.association.abort()
            if then == "raises":
                raise StatusError(0xA700)

        net.scp.on_begin = on_begin
        client.send(STORE, data(b"ab"))
        endings = [ending for sink in net.scp.sinks for ending in sink.endings]
        assert [type(each) for each in endings] == (
            [AssociationAbortedError] if then == "goes on" else []
        )
        assert not client.subject.user.busy

    def test_connection_lost(self, net: Net, client: RawPeer):
        client.send(STORE)
        client.link.cut()
        assert isinstance(net.scp.sinks[0].endings[0], ConnectionLostError)

    def test_release_inside_a_message(self, net: Net, client: RawPeer):
        client.send(STORE, data(b"ab", last=False), RELEASE_RQ)
        assert isinstance(net.scp.sinks[0].endings[0], AssociationAbortedError)
        assert client.news[0].encode()[:1] == b"\x07"

    @pytest.mark.parametrize("outcome", [0, StatusError(0xA700), ZeroDivisionError()])
    def test_the_association_ends_while_it_finishes(
        self, net: Net, client: RawPeer, outcome: int | Exception
    ):
        """Nothing is answered, and nothing breaks, when the sink is done too late."""
        done: Deferred[int] = Deferred()
        net.scp.on_finish = lambda sink: done
        client.send(STORE, data(b"ab"), ABORT)
        if isinstance(outcome, int):
            done.callback(outcome)
        else:
            done.errback(outcome)
        client.link.run()
        assert client.received == b""
        assert net.scp.sinks[0].endings == ["finish"]
        net.failures.clear()

    def test_nothing_begins_after_the_end(self, net: Net, client: RawPeer):
        """Though its request is in the PDU that was being read when the association ended."""
        net.scp.on_finish = lambda sink: (client.subject.user.abort(), succeed(0))[1]
        echo = (1, COMMAND | LAST, echo_rq().encode())
        store = (3, COMMAND | LAST, store_rq().encode())
        client.send(p_data(echo, store, (3, 0, b"ab")))
        assert len(net.scp.sinks) == 1


class TestWindow:
    """One operation at a time: the next request waits, and with it the transport."""

    @pytest.fixture
    def slow(self, net: Net) -> list[Deferred[int]]:
        """The Deferreds of what is being performed."""
        pending: list[Deferred[int]] = []

        def on_finish(_: RecordingSink) -> Deferred[int]:
            pending.append(Deferred())
            return pending[-1]

        net.scp.on_finish = on_finish
        return pending

    def test_a_second_request_waits(self, net: Net, client: RawPeer, slow: list[Deferred[int]]):
        second, third = command_pdu(store_rq(2), 3), command_pdu(echo_rq(3))
        client.send(STORE, data(b"ab"), second, data(b"cd"), third)
        assert len(net.scp.sinks) == 1
        assert not client.link.far.reading
        slow[0].callback(0)
        net.run()
        assert [len(net.scp.sinks), len(slow), len(responses(client))] == [2, 2, 1]
        slow[1].callback(0)
        net.run()
        slow[2].callback(0)
        net.run()
        assert len(responses(client)) == 2
        assert client.link.far.reading
        assert [bytes(sink.data) for sink in net.scp.sinks] == [b"ab", b"cd", b""]

    def test_what_is_in_the_same_pdu_waits_too(
        self, net: Net, client: RawPeer, slow: list[Deferred[int]]
    ):
        store = (3, COMMAND | LAST, store_rq(3).encode())
        echo, again, last = ((1, COMMAND | LAST, echo_rq(id).encode()) for id in (1, 2, 4))
        client.send(p_data(echo, again, store, (3, 0, b"ab"), (3, LAST, b"cd"), last))
        for performed in range(1, 5):
            assert len(net.scp.sinks) == performed
            slow[-1].callback(0)
            net.run()
        assert net.scp.sinks[2].data == b"abcd"
        assert len(responses(client)) == 4
        assert client.link.far.reading

    def test_a_fault_in_what_waited(self, net: Net, client: RawPeer, slow: list[Deferred[int]]):
        echo, again = ((1, COMMAND | LAST, echo_rq(id).encode()) for id in (1, 2))
        client.send(p_data(echo, again, (1, LAST, b"no data set belongs here")))
        assert client.received == b""
        slow[0].callback(0)
        slow[1].callback(0)
        net.run()
        assert client.news[-1] == INVALID

    def test_it_ends_with_the_association(
        self, net: Net, client: RawPeer, slow: list[Deferred[int]]
    ):
        client.send(STORE, data(b"ab"), STORE, data(b"cd"))
        client.link.cut()
        slow[0].callback(0)
        assert len(net.scp.sinks) == 1


class TestPausing:
    """A sink that cannot keep up pauses the transport (`Operation` is its producer)."""

    def test_it_pauses_and_resumes(self, net: Net, client: RawPeer):
        net.scp.on_write = lambda sink: sink.operation.pauseProducing()
        client.send(STORE, data(b"ab", last=False), data(b"cd", last=False), data(b"ef"))
        (sink,) = net.scp.sinks
        for received in (b"ab", b"abcd"):
            assert bytes(sink.data) == received
            assert client.received == b""
            sink.operation.resumeProducing()
            net.run()
        assert sink.data == b"abcdef"

    def test_memory_is_bounded_while_it_pauses(self, net: Net, client: RawPeer):
        net.scp.on_write = lambda sink: sink.operation.pauseProducing()
        client.send(STORE, data(bytes(1000), last=False))
        client.send(*[data(bytes(1000), last=False)] * 1000)
        assert len(client.link.near.buffer) > 1_000_000  # they stay with the peer

    def test_resuming_after_the_last_fragment(self, net: Net, client: RawPeer):
        """Paused by the write of the last fragment, while the request is finished already."""
        net.scp.on_write = lambda sink: sink.operation.pauseProducing()
        client.send(STORE, data(b"ab"))
        net.scp.sinks[0].operation.resumeProducing()
        client.send(ECHO)
        assert len(responses(client)) == 2

    def test_whoever_resumes_is_not_interrupted(self, net: Net, client: RawPeer):
        """What has come is looked at in a turn of its own, and not inside the call."""
        net.scp.on_begin = lambda operation: operation.pauseProducing()
        client.send(STORE, data(b"ab"))
        (sink,) = net.scp.sinks
        sink.operation.resumeProducing()
        assert sink.data == b""
        sink.operation.pauseProducing()
        net.run()
        assert sink.data == b""
        sink.operation.resumeProducing()
        net.run()
        assert sink.data == b"ab"

    def test_resumed_when_all_is_over(self, net: Net, client: RawPeer):
        """No timer outlives the association."""
        net.scp.on_begin = lambda operation: operation.pauseProducing()
        client.send(STORE, data(b"ab"))
        net.scp.sinks[0].operation.resumeProducing()
        client.link.cut()
        assert net.clock.getDelayedCalls() == []

    def test_pausing_from_the_beginning(self, net: Net, client: RawPeer):
        net.scp.on_begin = lambda operation: operation.pauseProducing()
        client.send(STORE, data(b"ab"))
        assert net.scp.sinks[0].data == b""
        net.scp.sinks[0].operation.resumeProducing()
        net.run()
        assert len(responses(client)) == 1

    @pytest.mark.parametrize("where", ["on_begin", "on_write", "on_finish"])
    def test_a_sink_that_is_gone_lets_nobody_wait(self, net: Net, client: RawPeer, where: str):
        def pause_and_fail(what: Any) -> Any:
            getattr(what, "operation", what).pauseProducing()
            raise StatusError(0xA700)

        working = getattr(net.scp, where)
        setattr(net.scp, where, pause_and_fail)
        client.send(STORE, data(b"ab"))
        setattr(net.scp, where, working)
        client.send(ECHO)
        assert [response.status for response in responses(client)] == [0xA700, 0]

    def test_a_sink_that_forgot_to_resume(self, net: Net, client: RawPeer):
        def on_finish(sink: RecordingSink) -> Deferred[int]:
            sink.operation.pauseProducing()
            return succeed(0)

        net.scp.on_finish = on_finish
        client.send(ECHO)
        client.send(ECHO)
        assert len(responses(client)) == 2

    def test_stop_producing_does_nothing(self, net: Net, client: RawPeer):
        client.send(STORE)
        net.scp.sinks[0].operation.stopProducing()
        client.send(data(b"ab"))
        assert len(responses(client)) == 1


def test_a_flood_of_c_echo_that_reads_nothing(net: Net, client: RawPeer):
    """Responses pile up to the mark of the transport; then the peer has to wait."""
    client.link.near.deaf = True
    client.link.far.bufferSize = 1000
    client.send(ECHO * 5000)
    assert len(client.link.far.buffer) < 2000
    assert not client.link.far.reading
    client.link.near.deaf = False
    net.run()
    assert len(responses(client)) == 5000
    assert client.link.far.reading


class TestRefusals:
    """What is no request of the context (PS3.7 9.1, Annex C)."""

    GOOD: ClassVar[dict[str, Any]] = {
        "MessageID": 9,
        "CommandDataSetType": 0x0101,
        "AffectedSOPClassUID": VERIFICATION,
    }

    def test_data_set_where_there_is_none(self, client: RawPeer):
        client.send(raw_command(**self.GOOD | {"CommandField": 0x0030, "CommandDataSetType": 0}))
        assert client.received == b""
        client.send(p_data((1, LAST, b"ab")))
        assert elements_of(client)["Status"] == 0x0212

    def test_an_instance_uid_that_is_not_ascii(self, net: Net, client: RawPeer):
        """It cannot be repeated in the response, which has to go out all the same."""
        net.scp.on_begin = lambda operation: (_ for _ in ()).throw(StatusError(0x0117))
        wire = store_rq(uid="1.2.333").encode().replace(b"1.2.333", "1.2.3é3".encode("latin-1"))
        client.send(p_data((3, COMMAND | LAST, wire)), data(b"ab"))
        (response,) = responses(client)
        assert response.status == 0x0117

    def test_a_context_of_nobody(self, net: Net):
        """An SCP that accepts by `otherwise` performs, after those that list a SOP class."""

        class Otherwise(VerificationSCP):
            def __init__(self) -> None:
                self.contexts = {}

            def otherwise(self, abstract_syntax: str) -> Any:
                return net.scp.contexts[VERIFICATION]

        client = net.client(net.acceptor([Otherwise()]))
        client.send(RQ)
        client.received.clear()
        client.send(ECHO)
        assert responses(client)[0].status == 0


class TestPeer:
    @pytest.mark.parametrize(
        ("address", "text"),
        [
            (IPv4Address("TCP", "10.1.2.3", 104), "CT@10.1.2.3:104"),
            (IPv6Address("TCP", "::1", 104), "CT@[::1]:104"),
            (UNIXAddress("/run/x"), "CT@UNIXAddress"),
            (None, "CT@NoneType"),
        ],
    )
    def test_address(self, address: object, text: str):
        assert str(Peer.at("CT", address)) == text

    def test_control_characters_do_not_reach_a_log(self):
        assert str(Peer("A\x1b[2J\n", "x")) == r"A\x1b[2J\n@x"


class TestPerformersThatFail:
    """H-R25: each is a matter of its own association."""

    def test_h_r25_one_that_never_answers(self, net: Net):
        """After `Limits.perform` that is the answer; the association lives, and so do others."""
        working, net.scp.on_finish = net.scp.on_finish, lambda sink: Deferred()
        factory = net.acceptor(limits=Limits(perform=5))
        client, other = net.client(factory), net.client(factory)
        for each in (client, other):
            each.send(RQ)
            each.received.clear()
        client.send(STORE, data(b"ab"))
        client.link.advance(4.9)
        assert client.news == []
        client.link.advance(0.1)
        assert [response.status for response in responses(client)] == [0x0110]
        net.scp.on_finish = working
        for each in (client, other):
            each.send(ECHO)
            assert responses(each)[0].status == 0

    def test_h_r25_one_that_fires_twice(self, net: Net, client: RawPeer):
        """The second time is its own error, and nothing goes out."""
        done: Deferred[int] = Deferred()
        working, net.scp.on_finish = net.scp.on_finish, lambda sink: done
        client.send(STORE, data(b"ab"))
        done.callback(0)
        with pytest.raises(AlreadyCalledError):
            done.callback(0xA700)
        net.run()
        assert [response.status for response in responses(client)] == [0]
        net.scp.on_finish = working
        client.send(ECHO)
        assert responses(client)[0].status == 0

    def test_h_r25_one_that_answers_too_late(self, net: Net):
        """What it says then is dropped."""
        done: Deferred[int] = Deferred()
        net.scp.on_finish = lambda sink: done
        client = net.client(net.acceptor(limits=Limits(perform=5)))
        client.send(RQ, STORE, data(b"ab"))
        client.received.clear()
        client.link.advance(5)
        assert [response.status for response in responses(client)] == [0x0110]
        if not done.called:  # it was not cancelled: it may be a thread
            done.callback(0)
        net.run()
        assert client.news == []
