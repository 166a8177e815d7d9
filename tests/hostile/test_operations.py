"""H-D06 to H-D12 and H-D28: requests and responses out of place, from both sides.

H-D08, H-D10, H-D11 of C-FIND are in tests/services/test_query.py, H-D09 in tests/test_window.py.
"""

from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogLevel

from dimse import StorageSCP, VerificationSCP, echo
from dimse.errors import AssociationAbortedError
from dimse.message.messages import CCancelRQ, CEchoRSP
from dimse.testing import ScriptedPeer
from dimse.ul.negotiation import SupportedContext
from tests.conformance.messages import KINDS, build
from tests.memory import Net
from tests.scripted import COMMAND, INVALID, LAST, echo_rq, p_data, store_rq
from tests.sides import SIDES, joined
from tests.wire import CT_STORAGE, VERIFICATION

SHUTDOWN = "1.2.276.0.7230010.3.4.1915765545.18030.917282194.0"  # that of DCMTK's dcmqrscp
ANY = SupportedContext(None)


@pytest.fixture(params=SIDES)
def side(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def statuses(peer: ScriptedPeer) -> list[tuple[int, int]]:
    """Message ID and status of each response that came."""
    found: list[Any] = [each.message for each in peer.messages]
    return [(each.message_id_being_responded_to, each.status) for each in found]


@pytest.mark.parametrize("data", [None, b"ab" * 5000])
def test_h_d06_a_response_to_nothing(net: Net, side: str, data: bytes | None):
    """Logged once and ignored, with its data set: before any request, beside one, behind one."""
    ours, peer = joined(net, side, [net.scp])
    strays = [build(name, "M") for name in KINDS if name.endswith("RSP") and name != "C-ECHO-RSP"]
    strays.append(CEchoRSP(message_id_being_responded_to=77, status=0))

    def stray() -> None:
        for each in strays:
            takes = each.HAS_DATA_SET is not False
            peer.command(each, data if takes else None)

    net.events.clear()
    stray()
    warnings = [event for event in net.events if event["log_level"] is LogLevel.warn]
    assert len(warnings) == len(strays)
    outcome = net.outcome(echo(ours))
    stray()
    assert outcome.firings == []
    peer.respond()
    assert outcome.value == 0
    stray()
    peer.command(CEchoRSP(message_id_being_responded_to=1, status=0))
    assert ours.ended is None


@pytest.mark.parametrize(
    "name", [name for name in KINDS if name.endswith("RSP") and name != "C-ECHO-RSP"]
)
def test_h_d07_a_response_of_another_type(net: Net, side: str, name: str):
    """The request fails, and so does all that waits behind it: A-ABORT."""
    ours, peer = joined(net, side, [net.scp])
    ids = [ours.next_message_id() for _ in range(6)]
    outcome = net.outcome(ours.request(ours.contexts[1], echo_rq(7)))
    waiting = net.outcome(echo(ours))
    net.run()
    peer.received.clear()
    assert ids[-1] == 6
    peer.command(build(name, "M"))
    assert peer.pdus == [INVALID]
    for each in (outcome, waiting):
        assert isinstance(each.value, AssociationAbortedError)
        assert not each.value.by_peer


def test_h_d08_the_message_id_of_what_is_performed(net: Net, side: str):
    """0x0210, though there is no room for a second one; the first is answered all the same."""
    _, peer = joined(net, side, [net.scp])
    done: Deferred[int] = Deferred()
    net.scp.on_finish = lambda sink: done if sink is net.scp.sinks[0] else succeed(0)
    peer.command(store_rq(5), b"ab", context_id=3)
    peer.command(store_rq(5), b"cd", context_id=3)
    peer.command(echo_rq(5))
    assert statuses(peer) == [(5, 0x0210), (5, 0x0210)]
    assert [bytes(sink.data) for sink in net.scp.sinks] == [b"ab"]
    done.callback(0)
    net.run()
    assert statuses(peer)[2:] == [(5, 0)]
    peer.command(store_rq(5), b"ef", context_id=3)
    assert statuses(peer)[3:] == [(5, 0)]


def test_h_d09_a_flood_of_stores(net: Net, side: str):
    """The second waits for the first, its data set and all behind it in the socket of the peer."""
    _, peer = joined(net, side, [net.scp])
    pending: list[Deferred[int]] = []

    def begun(sink: object) -> Deferred[int]:
        pending.append(Deferred())
        return pending[-1]

    net.scp.on_finish = begun
    for number in range(1, 301):
        peer.command(store_rq(number), bytes(4000), context_id=3)
    assert (len(net.scp.sinks), len(pending)) == (1, 1)
    assert len(peer.transport.buffer) > 298 * 4000
    for done in pending:  # it grows
        done.callback(0)
        net.run()
    assert [number for number, _ in statuses(peer)] == list(range(1, 301))


@pytest.mark.parametrize("data", [None, b"ab" * 5000])
@pytest.mark.parametrize("message_id", [1, 7])
@pytest.mark.parametrize("what", ["C-STORE", "C-ECHO"])
def test_h_d10_a_cancel_of_what_cannot_be_cancelled(
    net: Net, side: str, what: str, message_id: int, data: bytes | None
):
    """For a C-STORE or C-ECHO under way, or nothing at all, even with a data set: ignored."""
    _, peer = joined(net, side, [net.scp])
    done: Deferred[int] = Deferred()
    net.scp.on_finish = lambda sink: done if sink is net.scp.sinks[0] else succeed(0)
    if what == "C-STORE":
        peer.command(store_rq(1), b"ab", context_id=3)
    else:
        peer.command(echo_rq(1))
    cancel = CCancelRQ(message_id_being_responded_to=message_id)
    for _ in range(3):
        send_cancel(peer, cancel, data)
    assert not done.called
    done.callback(0)
    net.run()
    send_cancel(peer, cancel, data)
    assert statuses(peer) == [(1, 0)]
    peer.command(echo_rq(2))
    assert statuses(peer) == [(1, 0), (2, 0)]


def send_cancel(peer: ScriptedPeer, cancel: CCancelRQ, data: bytes | None) -> None:
    """With a data set, if there is one: the message class would not announce it."""
    if data is None:
        peer.command(cancel)
        return
    announced = cancel.encode().replace(b"\0\x08\2\0\0\0\1\1", b"\0\x08\2\0\0\0\1\0")
    assert announced != cancel.encode()
    peer.send(p_data((1, COMMAND | LAST, announced)))
    for fragment, control in ((data[:5000], 0), (data[5000:], LAST)):
        peer.send(p_data((1, control, fragment)))


@pytest.mark.parametrize(
    "name", [name for name in KINDS if name.endswith("RQ") and name != "C-CANCEL-RQ"]
)
def test_h_d12_another_sop_class_than_that_of_the_context(net: Net, side: str, name: str):
    """0x0122, or what DIMSE-N has for it, 0x0118 (PS3.7 C.5): nothing is performed."""
    _, peer = joined(net, side, [net.scp])
    request: Any = build(name, "M")  # of Verification
    peer.command(request, b"ab" if request.HAS_DATA_SET else None, context_id=3)
    assert statuses(peer) == [(7, 0x0118 if name.startswith("N-") else 0x0122)]
    assert net.scp.sinks == []
    peer.command(echo_rq())
    assert statuses(peer)[1:] == [(1, 0)]


def test_h_d12_a_role_that_was_not_agreed(net: Net):
    """A C-ECHO to a requestor that is no SCP: 0x0122, though an SCP for it is there."""
    server = net.server(scps=[net.scp])
    server.accept(contexts={VERIFICATION: ANY, CT_STORAGE: ANY})
    server.received.clear()
    server.command(echo_rq())
    assert statuses(server) == [(1, 0x0122)]
    assert net.scp.sinks == []


class TestHD28:
    """There is no service but those that were given, and nothing that ends the node."""

    SERVICES: list[Any] = [VerificationSCP()]  # noqa: RUF012  never changed

    @pytest.mark.parametrize(
        "name", [n for n in KINDS if n.endswith("RQ") and n not in ("C-CANCEL-RQ", "C-ECHO-RQ")]
    )
    def test_h_d28_a_service_that_its_sop_class_does_not_have(self, net: Net, side: str, name: str):
        """Of Verification, which has C-ECHO alone."""
        _, peer = joined(net, side, self.SERVICES, [VERIFICATION])
        request: Any = build(name, "M")
        peer.command(request, b"ab" if request.HAS_DATA_SET else None)
        expected = 0x0118 if name == "N-EVENT-REPORT-RQ" else 0x0211  # that needs an SCU of it
        assert statuses(peer) == [(7, expected)]
        peer.command(echo_rq())
        assert statuses(peer)[1:] == [(1, 0)]

    def test_h_d28_a_private_sop_class_in_a_known_context(self, net: Net, side: str):
        _, peer = joined(net, side, self.SERVICES, [VERIFICATION])
        private: Any = build("N-ACTION-RQ", "M")
        peer.command(replace(private, requested_sop_class_uid=SHUTDOWN))
        peer.command(replace(echo_rq(), affected_sop_class_uid=SHUTDOWN))
        assert statuses(peer) == [(7, 0x0118), (1, 0x0122)]
        assert not peer.closed

    @pytest.mark.parametrize("promiscuous", [False, True])
    def test_h_d28_nobody_can_shut_it_down(self, net: Net, promiscuous: bool):
        """A node does not accept the SOP class that some have for it; as any private one it is
        taken for storage by a promiscuous node, and then for storage alone."""
        nowhere: Any = object()
        services = [VerificationSCP(), StorageSCP(nowhere, promiscuous=promiscuous)]
        ours, peer = joined(net, "server", services, [VERIFICATION, SHUTDOWN])
        assert ours.contexts.keys() == ({1, 3} if promiscuous else {1})
        if promiscuous:
            peer.command(replace(echo_rq(), affected_sop_class_uid=SHUTDOWN), context_id=3)
            assert statuses(peer) == [(1, 0x0211)]
