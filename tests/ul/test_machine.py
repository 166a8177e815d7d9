"""The machine beyond Table 9-10, which tests/conformance/test_fsm.py holds cell by cell."""

import pytest

from dimse.errors import MisuseError, ProtocolError
from dimse.ul.machine import Machine
from dimse.ul.pdu import ReleaseRP
from dimse.ul.table import STATES, Evt, Sta
from tests.provider import ACCEPT, DATA, REJECT, REQUEST, RecordingProvider, machine_in
from tests.wire import LIMITS

RQ, AC, RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)


class TestWants:
    """A body is read only where the action gives it to somebody; PS3.8 9.2.2."""

    WANTED = {  # noqa: RUF012  a constant
        Sta.Sta2: {RQ},
        Sta.Sta3: {ABORT},
        Sta.Sta5: {AC, RJ, ABORT},
        Sta.Sta6: {P_DATA, ABORT},
        Sta.Sta7: {P_DATA, ABORT},
        **{state: {ABORT} for state in (Sta.Sta8, Sta.Sta9, Sta.Sta10, Sta.Sta11, Sta.Sta12)},
    }

    @pytest.mark.parametrize("state", list(Sta), ids=lambda state: state.name)
    def test_wants(self, state: Sta):
        requestor = state in (Sta.Sta4, Sta.Sta5, Sta.Sta9, Sta.Sta11)
        machine, _ = machine_in(state, requestor=requestor)
        wanted = {each for each in range(1, 8) if machine.wants(each)}
        assert wanted == self.WANTED.get(state, set())

    @pytest.mark.parametrize("pdu_type", range(1, 8))
    @pytest.mark.parametrize("state", list(Sta), ids=lambda state: state.name)
    def test_what_is_not_wanted_is_not_needed(self, state: Sta, pdu_type: int):
        """Such a PDU goes through the machine without a body, and nothing is raised."""
        for requestor in (True, False):
            try:
                machine, _ = machine_in(state, requestor=requestor)
            except (AssertionError, MisuseError):  # a state of the other side
                continue
            if not machine.wants(pdu_type):
                machine.receive(pdu_type, None)


class TestSessions:
    """From Sta1 and back, on both sides."""

    def test_requestor(self):
        provider = RecordingProvider()
        machine = Machine(provider, requestor=True)
        machine.handle(Evt.Evt1)
        machine.handle(Evt.Evt2, REQUEST)
        machine.receive(AC, ACCEPT)
        machine.handle(Evt.Evt9, DATA.encode())
        machine.receive(P_DATA, DATA)
        machine.handle(Evt.Evt11)
        machine.receive(RELEASE_RP, ReleaseRP())
        assert machine.state is Sta.Sta1
        assert provider.names == [
            "open_transport",
            "send",
            "associate_confirmation",
            "send",
            "data_indication",
            "send",
            "release_confirmation",
            "close_transport",
        ]
        machine.handle(Evt.Evt17)
        assert len(provider.calls) == 8

    def test_acceptor(self):
        provider = RecordingProvider()
        machine = Machine(provider, requestor=False)
        machine.handle(Evt.Evt5)
        machine.receive(RQ, REQUEST)
        machine.handle(Evt.Evt7, ACCEPT)
        machine.receive(RELEASE_RQ, None)
        machine.handle(Evt.Evt14)
        machine.handle(Evt.Evt17)
        assert machine.state is Sta.Sta1
        assert provider.names == [
            "start_artim",
            "stop_artim",
            "associate_indication",
            "send",
            "release_indication",
            "send",
            "start_artim",
            "stop_artim",
        ]

    def test_rejected_by_us(self):
        machine, provider = machine_in(Sta.Sta3, requestor=False)
        machine.handle(Evt.Evt8, REJECT)
        assert provider.calls == [("send", (REJECT.encode(),)), ("start_artim", ())]
        machine.handle(Evt.Evt18)
        assert machine.state is Sta.Sta1
        assert provider.names[-2:] == ["stop_artim", "close_transport"]

    def test_a_machine_serves_the_next_connection(self):
        machine, _ = machine_in(Sta.Sta1, requestor=False)
        for _ in range(2):
            machine.handle(Evt.Evt5)
            machine.handle(Evt.Evt17)
            assert machine.state is Sta.Sta1


def test_misuse_names_the_primitive_and_the_state():
    machine, _ = machine_in(Sta.Sta7, requestor=True)
    with pytest.raises(MisuseError, match=r"P-DATA request.*awaiting A-RELEASE-RP"):
        machine.handle(Evt.Evt9, b"")
    assert STATES[Sta.Sta7] == "awaiting A-RELEASE-RP"


def test_bytes_after_an_abort_change_nothing():
    """H-S12: in Sta13 everything but another A-ASSOCIATE-RQ or a broken PDU is ignored."""
    machine, provider = machine_in(Sta.Sta13, requestor=False)
    for pdu_type in (AC, RJ, P_DATA, RELEASE_RQ, RELEASE_RP) * LIMITS.empty_fragments:
        machine.receive(pdu_type, None)
    assert provider.calls == []
    machine.handle(Evt.Evt19, ProtocolError("a fault"))
    assert provider.names == ["send"]
    assert machine.state is Sta.Sta13


def test_data_sent_from_inside_an_action_leaves_at_once():
    """Else who sends it would not see that the transport has enough, and send all of a file."""
    machine, provider = machine_in(Sta.Sta6, requestor=True)
    seen: list[list[str]] = []

    def respond() -> None:
        machine.handle(Evt.Evt9, b"data")
        seen.append(provider.names)

    provider.then["data_indication"] = respond
    machine.handle(Evt.Evt10, DATA)
    assert seen == [["data_indication", "send"]]


def test_data_does_not_overtake_what_waits():
    """Data sent behind an abort, from inside an action, stays behind it: and is not sent."""
    machine, provider = machine_in(Sta.Sta6, requestor=True)

    def abort_and_send() -> None:
        machine.handle(Evt.Evt15)
        machine.handle(Evt.Evt9, b"data")

    provider.then["data_indication"] = abort_and_send
    machine.handle(Evt.Evt10, DATA)
    assert b"data" not in provider.sent
    assert machine.state is Sta.Sta13
