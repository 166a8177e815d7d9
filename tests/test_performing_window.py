"""Requests of the peer: who has to wait, and what is refused (PS3.7 7.5, D.3.3.3)."""

from typing import Any, ClassVar

import pytest
from twisted.internet.defer import Deferred, succeed

from dimse.errors import (
    StatusError,
)
from dimse.message import command
from dimse.services.verification import VerificationSCP
from tests.memory import Net, RawPeer, RecordingSink
from tests.performers import elements_of, responses
from tests.scripted import (
    COMMAND,
    ECHO,
    INVALID,
    LAST,
    RQ,
    STORE,
    data,
    echo_rq,
    p_data,
    store_rq,
)
from tests.scripted import command as command_pdu
from tests.wire import VERIFICATION


@pytest.fixture
def client(net: Net) -> RawPeer:
    """A scripted requestor in Sta6."""
    return net.associated()


def raw_command(context_id: int = 1, **elements: command.Value) -> bytes:
    return p_data((context_id, COMMAND | LAST, command.encode(elements)))


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
