"""What a request came to: the log, and what a performer may do after its end."""

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.logger import LogLevel, formatEvent

from dimse.errors import StatusError
from dimse.message import command
from dimse.message.status import CANCEL
from dimse.ul.pdu import PDataTF
from tests.memory import Net, RawPeer, RecordingSink
from tests.scripted import COMMAND, ECHO, LAST, RELEASE_RQ, RQ, STORE, data, p_data
from tests.wire import CT_STORAGE


@pytest.fixture
def client(net: Net) -> RawPeer:
    """A scripted requestor in Sta6; what was logged so far is forgotten."""
    client = net.client()
    client.send(RQ)
    client.received.clear()
    net.events.clear()
    return client


def failing(comment: str) -> Callable[[RecordingSink], Deferred[int]]:
    return lambda sink: fail(StatusError(0xA700, comment))


def lines(net: Net) -> list[tuple[LogLevel, str]]:
    return [(event["log_level"], formatEvent(event)) for event in net.events]


class TestLog:
    """A line for each request, aloud for the first of those that failed alike, and their number."""

    def test_stored(self, net: Net, client: RawPeer):
        client.send(STORE, data(b"ab"))
        line = "MODALITY@10.0.0.1:4242: C-STORE-RQ of 1.2.3: 0x0000 (Stored)"
        assert lines(net) == [(LogLevel.debug, line)]

    def test_the_end_says_what_was_done(self, net: Net, client: RawPeer):
        client.send(STORE, data(b"ab"), ECHO, STORE, data(b"ab"))
        net.scp.on_finish = lambda sink: fail(StatusError(0x0111))
        client.send(STORE, data(b"ab"))
        client.send(RELEASE_RQ)
        *_, (level, line) = lines(net)
        assert level is LogLevel.info
        assert line.startswith(
            "MODALITY@10.0.0.1:4242: the peer released the association; 1 C-ECHO, "
            "2 instances stored, 1 refused with 0x0111; "
        )

    def test_the_end_counts_what_a_release_had_to_wait_for(self, net: Net, client: RawPeer):
        stored: Deferred[int] = Deferred()
        net.scp.on_finish = lambda sink: stored
        client.send(STORE, data(b"ab"), RELEASE_RQ)
        stored.callback(0)
        (_, first), (_, last) = lines(net)
        assert first.endswith("C-STORE-RQ of 1.2.3: 0x0000 (Stored)")
        assert "the peer released the association; 1 instance stored; " in last

    def test_one_aloud_of_those_that_fail_alike(self, net: Net, client: RawPeer):
        """What differs is told of eight times: peers have a say in the texts."""
        for comment, loud in (("full", 1), ("used up", 1), *((f"{n}", n < 6) for n in range(9))):
            net.scp.on_finish = failing(comment)
            for _ in range(3):
                client.send(STORE, data(b"ab"))
            levels = [level for level, _ in lines(net)]
            net.events.clear()
            assert levels == [LogLevel.warn if loud else LogLevel.debug, *[LogLevel.debug] * 2]

    def test_failed(self, net: Net, client: RawPeer):
        net.scp.on_finish = lambda sink: fail(StatusError(0xA700, "full"))
        client.send(STORE, data(b"ab"))
        ((level, line),) = lines(net)
        assert level is LogLevel.warn
        assert "C-STORE-RQ of 1.2.3: 0xA700" in line
        assert line.endswith(" full")

    def test_cancelled(self, net: Net, client: RawPeer):
        """It is what the peer wanted."""
        net.scp.on_finish = lambda sink: fail(StatusError(CANCEL))
        client.send(STORE, data(b"ab"))
        ((level, _),) = lines(net)
        assert level is LogLevel.debug

    def test_refused(self, net: Net, client: RawPeer):
        """A Command Field that nobody knows."""
        client.send(find_rq(CommandField=0x0002))
        ((level, line),) = lines(net)
        assert level is LogLevel.warn
        assert f": Command Field 0002H of {CT_STORAGE}: 0x0211" in line

    @pytest.mark.parametrize(
        ("status", "level", "said"),
        [
            (0, LogLevel.info, "0x0000 (Stored)"),
            (0xA900, LogLevel.warn, "0xA900 (Error: data set does not match the SOP Class)"),
        ],
    )
    def test_done_after_the_end(
        self, net: Net, client: RawPeer, status: int, level: Any, said: str
    ):
        done: Deferred[int] = Deferred()
        net.scp.on_finish = lambda sink: done
        client.send(STORE, data(b"ab"))
        client.link.cut()
        net.events.clear()
        done.callback(status)
        ((aloud, line),) = lines(net)
        assert aloud is level
        assert line.endswith(f"C-STORE-RQ of 1.2.3: {said}, but the peer was not told")


def find_rq(**more: command.Value) -> bytes:
    elements: dict[str, Any] = {
        "CommandField": 0x0020,
        "MessageID": 9,
        "CommandDataSetType": command.NO_DATA_SET,
        "AffectedSOPClassUID": CT_STORAGE,
    }
    return p_data((3, COMMAND | LAST, command.encode(elements | more)))


def test_a_refusal_repeats_the_uids(client: RawPeer):
    client.send(find_rq(AffectedSOPInstanceUID="1.2.3"))
    (pdu,) = client.news
    assert isinstance(pdu, PDataTF)
    elements = command.decode(bytes(pdu.pdvs[0].fragment))
    assert elements["AffectedSOPClassUID"] == CT_STORAGE
    assert elements["AffectedSOPInstanceUID"] == "1.2.3"


def test_pausing_after_the_end_has_no_effect(net: Net, client: RawPeer):
    """A late call of a sink that has finished must not stop the requests of others."""
    client.send(STORE, data(b"ab"))
    net.scp.sinks[0].operation.pauseProducing()
    client.received.clear()
    client.send(ECHO)
    assert client.received


def test_a_status_that_is_none(net: Net, client: RawPeer):
    """It is refused where it is made, and the peer hears of a processing failure."""

    def on_finish(sink: RecordingSink) -> Any:
        raise StatusError(0x10000)

    net.scp.on_finish = on_finish
    client.send(ECHO)
    (pdu,) = client.news
    assert isinstance(pdu, PDataTF)
    assert command.decode(bytes(pdu.pdvs[0].fragment))["Status"] == 0x0110
    (failure,) = net.failures
    assert failure.check(ValueError)
    net.failures.clear()


@pytest.mark.parametrize("junk", [None, 0, "sink"])
def test_what_is_no_sink(net: Net, client: RawPeer, monkeypatch: pytest.MonkeyPatch, junk: Any):
    """An SCP that returns none has failed, and the association lives."""
    with monkeypatch.context() as patch:
        patch.setattr(net.scp, "perform", lambda operation: junk)
        client.send(STORE, data(b"ab"))
    client.send(ECHO)
    statuses = [command.decode(bytes(pdu.pdvs[0].fragment))["Status"] for pdu in client.news]  # type: ignore[union-attr]
    assert statuses == [0x0110, 0]
    (failure,) = net.failures
    assert failure.check(TypeError)
    net.failures.clear()


@pytest.mark.parametrize("status", [-1, 0x10000])
def test_a_status_error_needs_a_status(status: int):
    with pytest.raises(ValueError, match="is no status"):
        StatusError(status)
