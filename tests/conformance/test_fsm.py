"""Table 9-10 (PS3.8 9.2): the code's literal cell by cell, and the machine really run."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from dimse.errors import AssociationAbortedError, ConnectionLostError, MisuseError, ProtocolError
from dimse.ul.machine import PDU_EVENTS, Machine
from dimse.ul.pdu import AssociateAC, AssociateRJ, AssociateRQ
from dimse.ul.table import EVENTS, STATES, TABLE, Action, Evt, Sta
from tests.provider import ARGUMENTS, REQUEST, RecordingProvider, machine_in
from tests.tables import Row, rows

TRANSITIONS = rows("fsm_transitions")
ACTIONS = {row["action"]: row for row in rows("fsm_actions")}
SIDES = {row["state"]: row["side"] for row in rows("fsm_states")}
SOURCES = {row["event"]: row["source"] for row in rows("fsm_events")}
PDU_TYPES = {row["name"].removesuffix(" PDU"): row["type_hex"] for row in rows("pdu_items")[:7]}

PRIMITIVES = {
    "": [],
    "TRANSPORT CONNECT request (to transport)": [],  # the column transport says it again
    "Transport connection response (to transport)": [],  # the listener has accepted already
    "A-ASSOCIATE indication (only when acceptable)": ["associate_indication"],
    "A-ASSOCIATE confirmation (accept)": ["associate_confirmation"],
    "A-ASSOCIATE confirmation (reject)": ["associate_confirmation"],
    "P-DATA indication": ["data_indication"],
    "A-RELEASE indication": ["release_indication"],
    "A-RELEASE confirmation": ["release_confirmation"],
    "A-ABORT indication or A-P-ABORT indication": ["abort_indication"],
    "A-P-ABORT indication": ["abort_indication"],
}
ARTIM = {
    "none": [],
    "none (keeps running)": [],
    "start": ["start_artim"],
    "start or restart": ["start_artim"],
    "stop": ["stop_artim"],
    "stop if running": ["stop_artim"],
}
TRANSPORT = {
    "": [],
    "open (request)": ["open_transport"],
    "open (accept)": [],
    "close": ["close_transport"],
    "already closed": [],
}


def sides(state: str) -> list[bool]:
    """Whether a machine in `state` may be the requestor, may be the acceptor, or both."""
    return {"either": [True, False], "requestor": [True], "acceptor": [False]}[SIDES[state]]


def cells(defined: str) -> list[object]:
    return [
        pytest.param(row, side, id=f"{row['event']}-{row['state']}-{'rq' if side else 'ac'}")
        for row in TRANSITIONS
        if row["defined"] == defined and "|" not in row["next_state"]  # those have tests below
        for side in sides(row["state"])
        # Only one of the two sides has this event at all, or this way out of Sta1.
        if not (row["state"] == "Sta1" and row["event"] == ("Evt5" if side else "Evt1"))
    ]


class TestTable:
    def test_the_grid_is_whole(self):
        """13 x 19 cells, of which 123 are defined and 124 blank."""
        assert Counter(row["defined"] for row in TRANSITIONS) == {"yes": 123, "no": 124}
        assert len({(row["event"], row["state"]) for row in TRANSITIONS}) == 247

    @pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: f"{row['event']}-{row['state']}")
    def test_cell(self, row: Row):
        cell = TABLE.get((Evt[row["event"]], Sta[row["state"]]))
        if row["defined"] == "no":
            assert cell is None
        else:
            assert cell is not None
            action, states = cell
            assert action.name.replace("_", "-") == row["action"]
            assert "|".join(state.name for state in states) == row["next_state"]

    def test_nothing_else(self):
        assert len(TABLE) == 123

    def test_states(self):
        assert [state.name for state in Sta] == list(SIDES)
        assert list(STATES) == list(Sta)
        assert [int(state) for state in Sta] == list(range(1, 14))

    def test_events(self):
        assert [event.name for event in Evt] == list(SOURCES)
        assert list(EVENTS) == list(Evt)
        assert [int(event) for event in Evt] == list(range(1, 20))

    def test_actions(self):
        assert {action.name.replace("_", "-") for action in Action} == set(ACTIONS)

    def test_pdu_types_of_events(self):
        expected = {
            int(row["pdu_type_hex"], 16): Evt[row["event"]]
            for row in rows("fsm_events")
            if re.fullmatch("[0-9A-F]{2}", row["pdu_type_hex"])
        }
        assert expected == PDU_EVENTS


def check(action: Row, provider: RecordingProvider) -> None:
    """That the provider was asked for all that the table of actions says, and for nothing else."""
    name, source = re.fullmatch(
        r"([\w-]*)(?: \((?:source (\d))?.*\))?", action["pdu_sent"]
    ).groups()  # type: ignore[union-attr]  # a cell of another form shall fail here
    expected = (
        PRIMITIVES[action["primitive_issued"]]
        + ARTIM[action["artim"]]
        + TRANSPORT[action["transport"]]
        + (["send"] if name else [])
    )
    assert Counter(provider.names) == Counter(expected)
    if name:
        [sent] = provider.sent
        assert isinstance(sent, bytes)
        assert sent[0] == int(PDU_TYPES[name], 16)
        assert source is None or sent[8] == int(source)


class TestMachine:
    """Every cell, from a state that real events led to, on each side that has the state."""

    @pytest.mark.parametrize(("row", "requestor"), cells("yes"))
    def test_defined(self, row: Row, requestor: bool):
        machine, provider = machine_in(Sta[row["state"]], requestor=requestor)
        event = Evt[row["event"]]
        machine.handle(event, ARGUMENTS.get(event))
        assert machine.state.name == row["next_state"] == ACTIONS[row["action"]]["next_state"]
        check(ACTIONS[row["action"]], provider)

    @pytest.mark.parametrize(("row", "requestor"), cells("no"))
    def test_blank(self, row: Row, requestor: bool):
        """Our own events are our mistake; what the peer does is harmless."""
        state, event = Sta[row["state"]], Evt[row["event"]]
        machine, provider = machine_in(state, requestor=requestor)
        if SOURCES[row["event"]] == "network PDU" or event is Evt.Evt17:
            machine.handle(event, ARGUMENTS.get(event))
            assert machine.state is Sta.Sta1
            assert provider.names == (["close_transport"] if state is Sta.Sta4 else [])
        else:
            with pytest.raises(MisuseError):
                machine.handle(event, ARGUMENTS.get(event))
            assert machine.state is state
            assert provider.calls == []

    @pytest.mark.parametrize("version", [1, 3, 0xFFFF])
    def test_ae_6_acceptable(self, version: int):
        machine, provider = machine_in(Sta.Sta2, requestor=False)
        request = replace(REQUEST, protocol_version=version)
        machine.handle(Evt.Evt6, request)
        assert machine.state is Sta.Sta3
        assert provider.calls == [("stop_artim", ()), ("associate_indication", (request,))]

    @pytest.mark.parametrize("version", [0, 2, 0xFFFE])
    def test_ae_6_not_acceptable(self, version: int):
        """No protocol version in common: rejected by the provider, without an indication."""
        machine, provider = machine_in(Sta.Sta2, requestor=False)
        machine.handle(Evt.Evt6, replace(REQUEST, protocol_version=version))
        assert machine.state is Sta.Sta13
        rejection = bytes.fromhex("03000000000400010202")
        assert provider.calls == [
            ("stop_artim", ()),
            ("send", (rejection,)),
            ("start_artim", ()),
        ]

    @pytest.mark.parametrize(("requestor", "state"), [(True, Sta.Sta9), (False, Sta.Sta10)])
    def test_ar_8(self, requestor: bool, state: Sta):
        machine, provider = machine_in(Sta.Sta7, requestor=requestor)
        machine.handle(Evt.Evt12, None)
        assert machine.state is state
        check(ACTIONS["AR-8"], provider)


class TestArguments:
    """What the table of actions says in words: which primitive, and what goes with it."""

    def run(self, state: Sta, event: Evt, argument: object, *, requestor: bool = True):
        machine, provider = machine_in(state, requestor=requestor)
        machine.handle(event, argument)
        return provider.calls

    @pytest.mark.parametrize(("event", "kind"), [(Evt.Evt3, AssociateAC), (Evt.Evt4, AssociateRJ)])
    def test_the_answer_reaches_the_user(self, event: Evt, kind: type):
        name, (given,) = self.run(Sta.Sta5, event, ARGUMENTS[event])[0]
        assert name == "associate_confirmation"
        assert isinstance(given, kind)

    @pytest.mark.parametrize("state", [Sta.Sta6, Sta.Sta7])
    def test_data_reaches_the_user(self, state: Sta):
        data = ARGUMENTS[Evt.Evt10]
        assert self.run(state, Evt.Evt10, data) == [("data_indication", (data,))]

    @pytest.mark.parametrize(
        ("state", "event", "requestor"),
        [
            (Sta.Sta4, Evt.Evt2, True),
            (Sta.Sta3, Evt.Evt7, False),
            (Sta.Sta3, Evt.Evt8, False),
        ],
    )
    def test_pdus_of_ours_are_sent_as_they_are(self, state: Sta, event: Evt, requestor: bool):
        argument = ARGUMENTS[event]
        assert isinstance(argument, AssociateRQ | AssociateAC | AssociateRJ)
        calls = self.run(state, event, argument, requestor=requestor)
        assert calls[0] == ("send", (argument.encode(),))

    @pytest.mark.parametrize("state", [Sta.Sta6, Sta.Sta8])
    def test_data_of_ours_is_sent_as_it_is(self, state: Sta):
        data = ARGUMENTS[Evt.Evt9]
        assert self.run(state, Evt.Evt9, data) == [("send", (data,))]

    def test_aa_3_tells_the_abort_of_the_peer(self):
        _, (error,) = self.run(Sta.Sta6, Evt.Evt16, ARGUMENTS[Evt.Evt16])[0]
        assert isinstance(error, AssociationAbortedError)
        assert (error.source, error.reason, error.by_peer) == (2, 6, True)

    def test_aa_4_tells_the_loss(self):
        _, (error,) = self.run(Sta.Sta6, Evt.Evt17, None)[0]
        assert isinstance(error, ConnectionLostError)

    def test_aa_8_sends_and_tells_the_reason(self):
        """The reason of a PDU that breaks a rule; of a mere wrong one, unexpected-PDU."""
        fault = ProtocolError("a fault")
        for event, argument, reason in (
            (Evt.Evt19, fault, int(fault.reason)),
            (Evt.Evt13, None, 2),
        ):
            calls = self.run(Sta.Sta6, event, argument)
            assert [name for name, _ in calls] == ["send", "start_artim", "abort_indication"]
            assert calls[0][1] == (bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, reason)),)
            [error] = calls[2][1]
            assert isinstance(error, AssociationAbortedError)
            assert (error.source, error.reason, error.by_peer) == (2, reason, False)

    def test_aa_1_has_no_reason(self):
        """With source 0 the reason is sent as 0 (PS3.8 9.3.8), whatever went wrong in Sta2."""
        calls = self.run(Sta.Sta2, Evt.Evt19, ProtocolError("a fault"), requestor=False)
        assert calls[0] == ("send", (bytes.fromhex("07000000000400000000"),))

    def test_aa_7(self):
        """Its source and reason are not stated; ours are those that other systems send."""
        calls = self.run(Sta.Sta13, Evt.Evt6, REQUEST)
        assert calls == [("send", (bytes.fromhex("07000000000400000202"),))]


class TestReentrancy:
    """The next state is set before the action runs, and an event inside an action waits."""

    def test_an_event_inside_an_action_waits_till_it_has_ended(self):
        provider = RecordingProvider()
        machine = Machine(provider, requestor=False)
        seen: list[Sta] = []

        def accept() -> None:
            seen.append(machine.state)
            machine.handle(Evt.Evt7, ARGUMENTS[Evt.Evt7])
            seen.append(machine.state)

        provider.then["associate_indication"] = accept
        machine.handle(Evt.Evt5)
        machine.handle(Evt.Evt6, REQUEST)
        assert seen == [Sta.Sta3, Sta.Sta3]
        assert machine.state is Sta.Sta6
        assert provider.names == ["start_artim", "stop_artim", "associate_indication", "send"]

    def test_the_action_ends_before_the_event_runs(self):
        """AA-8 starts ARTIM before a close, that came while it was sending, is looked at."""
        machine, provider = machine_in(Sta.Sta6, requestor=True)
        provider.then["send"] = lambda: machine.handle(Evt.Evt17)
        machine.handle(Evt.Evt19, ProtocolError("a fault"))
        assert provider.names == ["send", "start_artim", "abort_indication", "stop_artim"]
        assert machine.state is Sta.Sta1

    def test_several_events_wait_in_order(self):
        machine, provider = machine_in(Sta.Sta6, requestor=False)

        def answer() -> None:
            machine.handle(Evt.Evt9, b"data")
            machine.handle(Evt.Evt14)

        provider.then["release_indication"] = answer
        machine.handle(Evt.Evt12, None)
        assert provider.names == ["release_indication", "send", "send", "start_artim"]
        assert provider.sent[0] == b"data"
        assert machine.state is Sta.Sta13

    def test_misuse_inside_an_action_is_told_at_once(self):
        machine, provider = machine_in(Sta.Sta6, requestor=True)
        told: list[MisuseError] = []

        def release() -> None:
            with pytest.raises(MisuseError) as caught:
                machine.handle(Evt.Evt11)
            told.append(caught.value)

        provider.then["release_indication"] = release
        machine.handle(Evt.Evt12, None)
        assert len(told) == 1
        assert machine.state is Sta.Sta8

    def test_a_primitive_that_another_event_overtook_is_dropped(self):
        """The peer aborts, and our answer was already in the queue: nobody's mistake."""
        machine, provider = machine_in(Sta.Sta6, requestor=False)

        def late() -> None:
            machine.handle(Evt.Evt16, ARGUMENTS[Evt.Evt16])
            machine.handle(Evt.Evt14)

        provider.then["release_indication"] = late
        machine.handle(Evt.Evt12, None)
        assert provider.names == ["release_indication", "abort_indication", "close_transport"]
        assert machine.state is Sta.Sta1

    def test_the_machine_goes_on_after_an_exception_of_the_provider(self):
        machine, provider = machine_in(Sta.Sta6, requestor=True)

        def fail() -> None:
            raise RuntimeError

        provider.then["data_indication"] = fail
        with pytest.raises(RuntimeError):
            machine.handle(Evt.Evt10, ARGUMENTS[Evt.Evt10])
        machine.handle(Evt.Evt11)
        assert machine.state is Sta.Sta7
