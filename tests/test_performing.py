"""Requests of the peer: their responses, and how what performs them ends (PS3.7 6.2, 7.5)."""

from errno import ENOSPC
from importlib.util import find_spec, module_from_spec
from typing import Any
from weakref import ref

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import AlreadyCalledError, CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

from dimse.errors import (
    AssociationAbortedError,
    ConnectionLostError,
    DimseError,
    MisuseError,
    StatusError,
)
from dimse.limits import Limits
from dimse.message.messages import CCancelRQ, CFindRQ
from dimse.performing import Outcome, Peer
from tests.memory import LIMITS, Net, RawPeer, RecordingSink
from tests.performers import elements_of, responses
from tests.scripted import (
    ABORT,
    COMMAND,
    ECHO,
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
from tests.wire import CT_STORAGE


@pytest.fixture
def client(net: Net) -> RawPeer:
    """A scripted requestor in Sta6."""
    return net.associated()


@pytest.fixture
def cleaning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are cleaned: pytest-twisted makes that do nothing, for the sake of its reports, and
    pytest keeps what they came of beside them where Twisted is old."""
    spec = find_spec("twisted.python.failure")
    assert spec is not None
    assert spec.loader is not None
    untouched = module_from_spec(spec)
    spec.loader.exec_module(untouched)
    for name in ("__init__", "cleanFailure"):
        monkeypatch.setattr(Failure, name, getattr(untouched.Failure, name))


def find_rq() -> CFindRQ:
    return CFindRQ(message_id=1, affected_sop_class_uid=CT_STORAGE, priority=0)


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

    @pytest.mark.parametrize("where", ["on_begin", "on_write"])
    def test_h_r09_a_failure_keeps_nothing_that_was_read(
        self, net: Net, client: RawPeer, where: str, cleaning: None
    ):
        """Until the request is complete: its frames, and of what it came, would hold a read."""
        held: list[Any] = []

        def refuse(_: object) -> None:
            read = type("Read", (), {})()
            held.append(ref(read))
            try:
                raise OSError(ENOSPC, "full")
            except OSError as error:
                raise StatusError(0xA900) from error

        setattr(net.scp, where, refuse)
        client.send(STORE, data(b"ab", last=False))
        assert [each() for each in held] == [None]
        client.send(data(b"cd"))
        assert responses(client)[0].status == 0xA900

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
        client.subject.transport.producer.pauseProducing()
        pending = net.outcome(operation.pending(0xFF00))
        pending.deferred.cancel()
        assert isinstance(pending.value, CancelledError)
        client.subject.transport.producer.resumeProducing()
        self.answered_in_time(net, client)

    @pytest.mark.parametrize("how", ["cut", "abort"])
    @pytest.mark.parametrize("waiting_for", ["peer", "turn"])
    def test_the_end_of_the_association(
        self, net: Net, client: RawPeer, operation: Any, how: str, waiting_for: str
    ):
        """H-R: it fires, though the response is never sent or others never had their turn."""
        if waiting_for == "peer":
            client.subject.transport.producer.pauseProducing()
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
