"""The protocol against the model of Table 9-10: every cell is reached, nothing differs (G02)."""

from collections import Counter
from itertools import product
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from dimse.ul.table import TABLE, Action, Evt, Sta
from tests.property.conversation import Conversation, unreached, walk
from tests.property.model import CELLS, STATES

Cells = Counter[tuple[str, str]]

# Their actions open what is open, and stop what ends with the connection in any case.
WITHOUT_EFFECT = {(Evt.Evt1, Sta.Sta1), (Evt.Evt17, Sta.Sta2), (Evt.Evt17, Sta.Sta13)}


class Talking(RuleBasedStateMachine):
    """Any events, from any state."""

    cells: ClassVar[Cells] = Counter()  # of all that ran

    @initialize(requestor=st.booleans(), state=st.sampled_from(STATES))
    def begin(self, requestor: bool, state: str) -> None:
        self.conversation = Conversation(requestor=requestor)
        self.conversation.go(state)

    @rule(data=st.data(), variant=st.integers(0, 5), segment=st.sampled_from([0, 0, 1, 7]))
    def happen(self, data: st.DataObject, variant: int, segment: int) -> None:
        event = data.draw(st.sampled_from(self.conversation.events()))
        self.conversation.happen(event, variant, segment)

    @rule(seconds=st.sampled_from([0.5, 3.0, 9.0]))
    def wait(self, seconds: float) -> None:
        self.conversation.wait(seconds)

    def teardown(self) -> None:
        self.conversation.end()
        type(self).cells += self.conversation.cells


def test_conversations_that_hypothesis_makes_up():
    run_state_machine_as_test(
        Talking,
        settings=settings(max_examples=settings().max_examples, stateful_step_count=30),
    )
    assert Talking.cells.total() > 1000


def test_every_cell_is_reached():
    """In conversations that are the same each time; a difference would raise."""
    cells = walk(1, range(3000))
    print(f"{cells.total()} events, {len(cells)} of {len(CELLS)} cells")  # noqa: T201
    assert unreached(cells) == set()
    assert len(CELLS) == 247


@pytest.mark.parametrize("cell", TABLE, ids=lambda cell: f"{cell[0].name}-{cell[1].name}")
def test_a_cell_that_is_wrong_makes_a_difference(
    cell: tuple[Evt, Sta], monkeypatch: pytest.MonkeyPatch
):
    """Another next state, and another action, each by itself."""
    event, state = cell
    action, states = TABLE[cell]
    other = Sta.Sta6 if states[0] is Sta.Sta13 else Sta.Sta13
    ignores = Action.AA_6 if action is not Action.AA_6 else Action.AA_7
    wrong = {(action, (other,) * len(states)), (ignores, states[:1])}
    if cell in WITHOUT_EFFECT:
        wrong.remove((ignores, states[:1]))
    found = set()
    for requestor, change in product((True, False), wrong):
        conversation = Conversation(requestor=requestor)
        conversation.go(state.name)
        if conversation.state == state.name and event.name in conversation.events():
            with monkeypatch.context() as patched:
                patched.setitem(TABLE, cell, change)
                with pytest.raises(AssertionError):
                    conversation.happen(event.name)
            found.add(change)
    assert found == wrong
