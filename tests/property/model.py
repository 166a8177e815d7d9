"""Table 9-10 as a model (PS3.8 9.2), from tests/standard: it knows nothing of the code."""

import re
from dataclasses import dataclass, field

from tests.tables import Row, rows

CELLS = {(row["event"], row["state"]): row for row in rows("fsm_transitions")}
EVENTS = {row["event"]: row["source"] for row in rows("fsm_events")}
STATES = [row["state"] for row in rows("fsm_states")]
_ACTIONS = {row["action"]: row for row in rows("fsm_actions")}
_PDU_TYPES = {
    row["name"].removesuffix(" PDU"): int(row["type_hex"], 16) for row in rows("pdu_items")[:7]
}

_TOLD = {
    "A-ASSOCIATE indication (only when acceptable)": "associate_indication",
    "A-ASSOCIATE confirmation (accept)": "associate_confirmation",
    "A-ASSOCIATE confirmation (reject)": "associate_confirmation",
    "P-DATA indication": "data_indication",
    "A-RELEASE indication": "release_indication",
    "A-RELEASE confirmation": "release_confirmation",
    "A-ABORT indication or A-P-ABORT indication": "abort_indication",
    "A-P-ABORT indication": "abort_indication",
}
ARTIM = 10.0  # seconds; the standard leaves it open


@dataclass
class Expected:
    """What an event leads to: PDUs sent, as pairs of type and source (of A-ABORT, where the table
    says one), and what the user is told. With `misuse` it is an error of its own user."""

    sent: list[tuple[int, int | None]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    misuse: bool = False


class Model:
    """One side of one connection.

    `deadline` is when ARTIM expires, None while it does not run; `closing` tells that the
    connection is to be closed, `lost` that it is gone.
    """

    def __init__(self, *, requestor: bool) -> None:
        self.state = "Sta1"
        self.now = 0.0
        self.deadline: float | None = None
        self.closing = self.lost = False
        self._requestor = requestor

    def happen(self, event: str, *, acceptable: bool = True) -> Expected:
        """An event of the table; `acceptable` is what AE-6 asks."""
        cell = CELLS[event, self.state]
        if cell["defined"] == "no":
            return self._blank(event)
        action = _ACTIONS[cell["action"]]
        states = cell["next_state"].split("|")
        second = not acceptable if cell["action"] == "AE-6" else not self._requestor
        self.state = states[second and len(states) > 1]
        return self._perform(action, acceptable)

    def _blank(self, event: str) -> Expected:
        """What we have chosen for a cell without action.

        A primitive, or a timer, is a mistake of ours. Bytes before there is a connection end it,
        and where it has ended nothing of it matters.
        """
        if EVENTS[event] == "network PDU" or event == "Evt17":
            if self.state == "Sta4":
                self.state, self.closing = "Sta1", True
            return Expected()
        return Expected(misuse=True)

    def _perform(self, action: Row, acceptable: bool) -> Expected:
        name, source = re.fullmatch(
            r"([\w-]*)(?: \((?:source (\d))?.*\))?", action["pdu_sent"]
        ).groups()  # type: ignore[union-attr]  # a cell of another form shall fail here
        expected = Expected()
        primitive, artim = action["primitive_issued"], action["artim"]
        if action["action"] == "AE-6":
            name, primitive = ("", primitive) if acceptable else (name, "")
            artim = "stop" if acceptable else "start"
        if name:
            expected.sent.append((_PDU_TYPES[name], None if source is None else int(source)))
        if primitive in _TOLD:
            expected.told.append(_TOLD[primitive])
        if artim.startswith("start"):
            self.deadline = self.now + ARTIM
        elif artim.startswith("stop"):
            self.deadline = None
        self.closing |= action["transport"] == "close"
        return expected
