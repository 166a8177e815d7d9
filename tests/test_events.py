"""Events: each documented name is emitted, with its measurements and metadata."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from twisted.internet.defer import CancelledError, Deferred, succeed

import dimse.events
from dimse import (
    STUDY_ROOT,
    AssociationError,
    Event,
    Instance,
    RetrieveSCP,
    StatusError,
    VerificationSCP,
    associate,
    echo,
    get,
    get_contexts,
    store,
    subscribe,
)
from dimse.events import NAMES, Events, Span
from dimse.limits import Limits
from dimse.testing import Network, ScriptedPeer
from dimse.ul.protocol import UpperLayerProtocol
from tests.memory import RecordingSCP
from tests.scripted import RQ, STORE, data
from tests.wire import CT_STORAGE, EXPLICIT, VERIFICATION


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def heard() -> Iterator[list[Event]]:
    events: list[Event] = []
    unsubscribe = subscribe(events.append)
    yield events
    unsubscribe()


def released(network: Network, *, contexts: Any = (VERIFICATION,), scps: Any = None) -> Any:
    endpoint = network.listen([RecordingSCP()] if scps is None else scps)
    ours, theirs = network.associate(endpoint, contexts)
    return ours, theirs


class Forgetting:
    """A store that keeps nothing."""

    def begin(self, *_: object) -> "Forgetting":
        return self

    def write(self, data: memoryview) -> None:
        pass

    def finish(self) -> Deferred[int]:
        return succeed(0)

    def abort(self, reason: object) -> None:
        pass


def refuse(_: object) -> Any:
    raise StatusError(0xA700)


def everything(network: Network) -> None:
    """Something of each kind happens."""
    ours, _ = released(network)
    network.result(echo(ours))
    network.result(ours.release())
    lost, _ = released(network, contexts=[CT_STORAGE])
    lost.abort()
    network.run()

    scp = RecordingSCP()
    scp.on_finish = lambda sink: Deferred()
    lost, _ = released(network, scps=[scp])
    pending = echo(lost)
    network.run()
    lost.abort()
    network.run()
    with pytest.raises(AssociationError):
        network.result(pending)

    scp = RecordingSCP()
    scp.on_finish = refuse
    ours, _ = released(network, contexts=[(CT_STORAGE, [EXPLICIT])], scps=[scp])
    with pytest.raises(StatusError):
        network.result(store(ours, Instance(CT_STORAGE, "1.2.3", EXPLICIT, data=b"ab")))
    network.result(ours.release())

    found = [Instance(CTImageStorage, f"1.2.{n}", EXPLICIT, data=b"ab") for n in (1, 2)]
    contexts = get_contexts(sop_classes=[CTImageStorage])
    ours, _ = released(network, contexts=contexts, scps=[RetrieveSCP(lambda *_: found)])
    keys = Dataset()
    keys.StudyInstanceUID = "1.2"
    network.result(get(ours, keys, Forgetting(), STUDY_ROOT).result())
    network.result(ours.release())


class FakeTLS:
    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def get_cipher_name(self) -> str:
        return "TLS_AES_256_GCM_SHA384"


def test_there_are_17():
    assert len(NAMES) == 17


@pytest.mark.parametrize("name", [name for name in NAMES if name != "tls.handshake"])
def test_each(network: Network, heard: list[Event], name: str):
    """With exactly the measurements and metadata that are documented, whenever it is emitted."""
    everything(network)
    measurements, metadata = NAMES[name]
    found = [event for event in heard if event.name == name]
    assert found
    for event in found:
        assert set(event.measurements) == set(measurements)
        assert set(event.metadata) == {"association_id", *metadata}
        assert all(isinstance(value, int | float) for value in event.measurements.values())


def test_tls_handshake(network: Network, heard: list[Event], monkeypatch: pytest.MonkeyPatch):
    protocol = UpperLayerProtocol(None, Limits(), network.clock)  # type: ignore[arg-type]
    protocol.transport = type("Transport", (), {"getHandle": lambda self: FakeTLS()})()
    protocol.handshakeCompleted()
    (event,) = heard
    assert event.name == "tls.handshake"
    assert event.measurements == {}
    assert event.metadata.pop("association_id") == protocol.events.association_id
    assert event.metadata == {
        "protocol_version": "TLSv1.3",
        "cipher_suite": "TLS_AES_256_GCM_SHA384",
    }


class TestValues:
    def test_negotiation(self, network: Network, heard: list[Event]):
        released(network, contexts=[VERIFICATION, "1.2.3.4"])
        (stop, _) = [event for event in heard if event.name == "negotiation.stop"]
        assert stop.metadata["result"] == "accepted"
        assert stop.metadata["accepted_contexts_count"] == 1
        assert stop.metadata["rejected_contexts_count"] == 1
        assert {e.metadata["mode"] for e in heard if e.name == "negotiation.start"} == {
            "scu",
            "scp",
        }

    def test_rejected(self, network: Network, heard: list[Event]):
        endpoint = network.listen([VerificationSCP()], ae_titles=["OTHER"])
        pending = associate(endpoint, reactor=network.clock)
        with pytest.raises(AssociationError):
            network.result(pending)
        network.advance(10)
        results = [e.metadata["result"] for e in heard if e.name == "negotiation.stop"]
        assert results == ["rejected", "rejected"]
        reasons = [e.metadata["reason"] for e in heard if e.name == "association.stop"]
        assert all("called AE title not recognized" in reason for reason in reasons)

    def test_cancelled(self, network: Network, heard: list[Event]):
        """A negotiation that was cancelled, or whose peer has gone, has failed at both ends."""
        endpoint = network.listen([VerificationSCP()], admit=lambda _: Deferred())
        pending = associate(endpoint, reactor=network.clock)
        network.run()
        pending.cancel()
        with pytest.raises(CancelledError):
            network.result(pending)
        network.advance(10)
        results = [e.metadata["result"] for e in heard if e.name == "negotiation.stop"]
        assert results == ["failed", "failed"]

    def test_a_handler_ends_with_its_association(self, network: Network, heard: list[Event]):
        scp = RecordingSCP()
        scp.on_finish = lambda sink: Deferred()
        ours, _ = released(network, contexts=[(CT_STORAGE, [EXPLICIT])], scps=[scp])
        pending = store(ours, Instance(CT_STORAGE, "1.2.3", EXPLICIT, data=b"ab"))
        network.run()
        ours.abort()
        with pytest.raises(AssociationError):
            network.result(pending)
        (handler,) = [e for e in heard if e.name == "handler.exception"]
        assert handler.metadata["kind"] == "AssociationAbortedError"

    def test_sizes(self, network: Network, heard: list[Event]):
        """What one side sends, the other receives, PDU by PDU."""
        ours, _ = released(network)
        network.result(echo(ours))
        network.result(ours.release())
        sent, received = (
            [e.measurements["byte_size"] for e in heard if e.name == name]
            for name in ("pdu.sent", "pdu.received")
        )
        assert sorted(sent) == sorted(received)
        totals = {e.metadata["mode"]: e.measurements for e in heard if e.name == "association.stop"}
        assert totals["scu"]["bytes_sent"] == totals["scp"]["bytes_received"] > 0

    def test_statuses(self, network: Network, heard: list[Event]):
        everything(network)
        failed = [e for e in heard if e.name == "command.stop" and e.metadata["status"] == 0xA700]
        assert [e.metadata["command_field"] for e in failed] == [1, 1]  # at either end
        (handler,) = [e for e in heard if e.name == "handler.exception" and "A700" in str(e)]
        assert handler.metadata["callback"] == "C-STORE-RQ"

    def test_an_exception_of_a_performer_has_no_text(self, network: Network, heard: list[Event]):
        """It may be about a patient; only errors of dimse are known not to be."""
        scp = RecordingSCP()

        def fail(_: object) -> Any:
            raise KeyError("DOE^JOHN")

        scp.on_finish = fail
        ours, _ = released(network, scps=[scp])
        with pytest.raises(StatusError):
            network.result(echo(ours))
        network.result(ours.release())
        (handler,) = [e for e in heard if e.name == "handler.exception"]
        assert (handler.metadata["kind"], handler.metadata["reason"]) == ("KeyError", "")
        assert "DOE" not in str(heard)
        assert network.flush_logged_errors(KeyError)


class TestEnds:
    """A span that has begun ends, whatever happens: else a trace waits for it for ever."""

    @pytest.fixture(autouse=True)
    def _all_spans_end(self, network: Network, heard: list[Event]) -> Iterator[None]:
        yield
        network.cut()
        begun, ended = (
            Counter(
                (event.name.partition(".")[0], event.metadata["association_id"])
                for event in heard
                if event.name.endswith(endings)
            )
            for endings in (".start", (".stop", ".exception"))
        )
        assert begun == ended
        assert begun

    @pytest.fixture
    def scp(self) -> RecordingSCP:
        return RecordingSCP()

    def storing(self, network: Network, scp: RecordingSCP, fragment: bytes) -> ScriptedPeer:
        client = network.scripted_requestor(network.listen([scp]))
        client.send(RQ)
        client.send(STORE, fragment)
        return client

    @pytest.mark.parametrize("fault", [False, True])
    def test_lost_inside_a_data_set(self, network: Network, scp: RecordingSCP, fault: bool):
        if fault:
            scp.on_write = refuse
        self.storing(network, scp, data(b"ab", last=False))
        assert len(scp.sinks) == 1
        network.cut()

    def test_associate_is_cancelled(self, network: Network, heard: list[Event]):
        """And nobody says that no association was asked for."""
        endpoint = network.endpoint()
        network.scripted_acceptor(endpoint)
        pending = associate(endpoint, reactor=network.clock)
        network.run()
        pending.cancel()
        with pytest.raises(CancelledError):
            network.result(pending)
        network.cut()
        (exception,) = [event for event in heard if event.name == "association.exception"]
        assert "associate() was cancelled" in exception.metadata["reason"]

    def test_a_request_is_taken_back(self, network: Network, heard: list[Event]):
        """It has its place in the window, and the transport takes nothing now."""
        endpoint = network.listen([VerificationSCP()], limits=Limits(operations_performed=2))
        ours, _ = network.associate(endpoint, limits=Limits(operations_invoked=2))
        near: Any = network.links[0].near
        near.producer.pauseProducing()
        pending = echo(ours)
        pending.cancel()
        with pytest.raises(CancelledError):
            network.result(pending)
        (exception,) = [event for event in heard if event.name == "command.exception"]
        assert exception.metadata["kind"] == "CancelledError"


class TestSubscribing:
    def test_to_one_association(self, network: Network):
        heard: list[Event] = []
        endpoint = network.listen([VerificationSCP()])
        ours, _ = network.associate(endpoint, subscriber=heard.append)
        other, _ = network.associate(endpoint)
        network.result(echo(other))
        before = len(heard)
        network.result(echo(ours))
        assert len(heard) > before
        assert {e.metadata["association_id"] for e in heard} == {ours.events.association_id}

    def test_no_more(self, network: Network):
        heard: list[Event] = []
        unsubscribe = subscribe(heard.append)
        unsubscribe()
        unsubscribe()
        released(network)
        assert heard == []

    def test_one_that_raises_is_harmless(self, network: Network):
        unsubscribe = subscribe(lambda event: 1 / 0)
        ours, _ = released(network)
        assert network.result(echo(ours)) == 0
        unsubscribe()
        assert network.flush_logged_errors(ZeroDivisionError)

    def test_nobody_listens(self, network: Network, monkeypatch: pytest.MonkeyPatch):
        """Then nothing is made: no event, and no span on the way of an instance."""

        def made(*_: object, **__: object) -> None:
            raise AssertionError

        monkeypatch.setattr(Events, "emit", made)
        monkeypatch.setattr(dimse.events, "Event", made)
        monkeypatch.setattr(Span, "__init__", made)
        everything(network)
