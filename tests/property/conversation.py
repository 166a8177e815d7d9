"""A real protocol on a transport in memory, held against the model after each event.

`python -m tests.property.conversation --steps 2000000 --seed 1` is a long walk, on all cores.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock

from dimse.errors import DimseError, MisuseError
from dimse.limits import Limits
from dimse.testing import Transport
from dimse.testing.transport import CLIENT, SERVER
from dimse.ul.pdu import AssociateAC, AssociateRJ, AssociateRQ, PDataTF
from dimse.ul.protocol import UpperLayerProtocol
from dimse.ul.table import Evt, Sta
from tests.fuzz.corpus import pdus
from tests.fuzz.mutation import Dice
from tests.property.model import ARTIM, CELLS, EVENTS, STATES, Model
from tests.provider import ACCEPT, DATA, REJECT, REQUEST, way_to

FAR = 1e9  # seconds: the time-outs that the standard does not know have their own tests
LIMITS = Limits(
    artim=ARTIM, associate=FAR, idle=FAR, progress=FAR, write_stall=FAR, close=FAR, response=FAR
)

PDUS = {
    "Evt3": [ACCEPT.encode()],
    "Evt4": [REJECT.encode(), AssociateRJ(1, 1, 1).encode()],
    "Evt6": [REQUEST.encode(), replace(REQUEST, protocol_version=3).encode()],
    "Evt10": [DATA.encode(), PDataTF(DATA.pdvs * 3).encode()],
    "Evt12": [bytes.fromhex("05000000000400000000"), bytes.fromhex("05ff00000004ffffffff")],
    "Evt13": [bytes.fromhex("06000000000400000000")],
    "Evt16": [bytes.fromhex("07000000000400000000"), bytes.fromhex("07000000000400000206")],
}
"""What a peer sends for an event."""
UNACCEPTABLE = replace(REQUEST, protocol_version=2).encode()
BROKEN_BODY = {
    "Sta2": REQUEST.encode()[:5] + b"\x44" + REQUEST.encode()[6:74],
    "Sta5": ACCEPT.encode()[:5] + b"\x48" + ACCEPT.encode()[6:74] + b"\x21\0\0\x09",
    "Sta6": bytes.fromhex("04000000000600000001" + "0103"),
    "Sta7": bytes.fromhex("04000000000600000009" + "0103"),
}
"""Invalid PDUs of a valid length, by the state that looks at them."""
BROKEN_HEADERS = [bytes.fromhex(text) for text in ("080000000000", "ff4745542f20", "050000000005")]
"""After these nobody knows where the next PDU begins, so nothing more is heard."""


class Recorder:
    """Establisher and user: it only writes down what it is told."""

    busy = receiving = False

    def __init__(self, subject: "Conversation") -> None:
        self.told: list[str] = []
        self._subject = subject

    def associate_indication(self, request: AssociateRQ) -> None:
        self.told.append("associate_indication")

    def associate_confirmation(self, answer: AssociateAC | AssociateRJ) -> None:
        self.told.append("associate_confirmation")
        if isinstance(answer, AssociateAC):
            self._subject.protocol.user = self

    def data_indication(self, data: PDataTF) -> None:
        self.told.append("data_indication")

    def release_indication(self) -> None:
        self.told.append("release_indication")

    def release_confirmation(self) -> None:
        self.told.append("release_confirmation")

    def abort_indication(self, error: object) -> None:
        self.told.append("abort_indication")

    def sending_resumed(self) -> None:
        """Nothing waits."""


class _SlowlyOpened(UpperLayerProtocol):
    """Its connection is confirmed when the test says so, which makes Sta4 last."""

    def open_transport(self) -> None:
        """Not yet."""


class Conversation:
    """Events for one protocol, each of which has to lead to what the model says.

    `cells` are those that were reached, as pairs of event and state.
    """

    def __init__(self, *, requestor: bool) -> None:
        self.cells: Counter[tuple[str, str]] = Counter()
        self.requestor = requestor
        self._clock = Clock()
        self._model = Model(requestor=requestor)
        self._recorder = Recorder(self)
        request = REQUEST if requestor else None
        self.protocol = _SlowlyOpened(self._recorder, LIMITS, self._clock, request)
        self._transport = Transport(SERVER if requestor else CLIENT, CLIENT)
        self._transport.protocol = self.protocol
        self._connected = self._deaf = False

    @property
    def state(self) -> str:
        """Where it is, as the model says."""
        return self._model.state

    def go(self, state: str) -> None:
        """By the shortest way, as far as this side can."""
        target = Sta[state]
        for number in way_to(target, requestor=self.requestor):
            if f"Evt{number}" in self.events():
                self.happen(f"Evt{number}")

    def wait(self, seconds: float) -> None:
        """Time passes, but not so much that ARTIM expires."""
        deadline = self._model.deadline
        if deadline is None or self._model.now + seconds < deadline:
            self._clock.advance(seconds)
            self._model.now += seconds
            self._compare([], [])

    def events(self) -> list[str]:
        """Those that can be made now."""
        return [event for event, source in EVENTS.items() if self._possible(event, source)]

    def happen(self, event: str, variant: int = 0, segment: int = 0) -> None:
        """One event; `variant` chooses among its kinds, `segment` is the length of the segments
        of a PDU."""
        source = EVENTS[event]
        self.cells[event, self.state] += 1
        acceptable = event != "Evt6" or self.state != "Sta2" or variant % 3 < 2
        if source == "network PDU":
            self._receive(event, variant, segment, acceptable)
        elif event == "Evt17":
            expected = self._model.happen(event)
            self._model.lost = True
            self._transport.lose(ConnectionDone())
            self._compare(expected.sent, expected.told)
        elif event == "Evt18" and self._model.deadline is not None:
            self._clock.advance(self._model.deadline - self._model.now)
            self._model.now = self._model.deadline
            expected = self._model.happen(event)
            self._compare(expected.sent, expected.told)
        else:
            self._call(event)

    def _possible(self, event: str, source: str) -> bool:
        """A connection begins once, nothing comes before it and nothing after it."""
        begins = event in ("Evt1", "Evt5") and self.state == "Sta1"
        if begins:
            return not self._connected and self.requestor == (event == "Evt1")
        if source == "network PDU" or event == "Evt17":
            return self._connected and not self._model.lost
        return True

    def _receive(self, event: str, variant: int, segment: int, acceptable: bool) -> None:
        if event == "Evt19":
            broken = BROKEN_BODY.get(self.state)
            in_step = broken is not None and variant % 2 == 0
            data = broken if broken and in_step else BROKEN_HEADERS[variant % len(BROKEN_HEADERS)]
        else:
            in_step = True
            data = PDUS[event][variant % len(PDUS[event])] if acceptable else UNACCEPTABLE
        sent: list[tuple[int, int | None]] = []
        told: list[str] = []
        if not self._deaf:
            expected = self._model.happen(event, acceptable=acceptable)
            sent, told = expected.sent, expected.told
        step = segment or len(data)
        for start in range(0, len(data), step):
            self.protocol.dataReceived(data[start : start + step])
        self._deaf |= not in_step
        self._compare(sent, told)

    def _call(self, event: str) -> None:
        quiet = event == "Evt15" and self.state in ("Sta1", "Sta2", "Sta13")
        expected = self._model.happen(event)
        if expected.misuse and not quiet:  # abort() where nothing is to be aborted does nothing
            try:
                self._make(event)
            except MisuseError:
                pass
            else:
                raise AssertionError(f"{event} in {self.state} is no error")
        else:
            self._make(event)
        self._compare(expected.sent, expected.told)

    def _make(self, event: str) -> None:
        """What our own side does; what only the transport or a timer does, at the machine."""
        protocol: Any = self.protocol
        begins = "Evt1" if self.requestor else "Evt5"
        if event == begins and not self._connected:
            self._connected = True
            protocol.makeConnection(self._transport)
        elif event == "Evt7":
            if self.state == "Sta6":  # as it will be
                protocol.user = self._recorder
            protocol.accept(ACCEPT)
        elif event in _CALLS:
            name, *arguments = _CALLS[event]
            getattr(protocol, name)(*arguments)
        else:
            protocol._machine.handle(Evt[event], REQUEST if event == "Evt2" else None)

    def _compare(self, sent: list[tuple[int, int | None]], told: list[str]) -> None:
        """Everything that can be seen, with what the model says."""
        model, transport = self._model, self._transport
        assert self.protocol.state.name == model.state
        found = pdus(bytes(transport.buffer))
        transport.buffer.clear()
        assert [pdu[0] for pdu in found] == [kind for kind, _ in sent]
        for pdu, (kind, source) in zip(found, sent, strict=True):
            assert kind != 7 or source is None or pdu[8] == source
        assert self._recorder.told == told
        self._recorder.told.clear()
        assert transport.disconnecting == (model.closing and self._connected)
        timers: Any = self.protocol._timers
        running = None if model.lost else model.deadline
        assert ("artim" in timers) == (running is not None)
        if running is not None:
            assert timers._running["artim"].getTime() == running

    def end(self) -> None:
        """The connection goes, and with it every timer."""
        if "Evt17" in self.events():
            self.happen("Evt17")
        assert self.protocol.state is Sta.Sta1
        assert self._clock.getDelayedCalls() == []


_CALLS: dict[str, tuple[Any, ...]] = {
    "Evt8": ("reject", REJECT),
    "Evt9": ("send_data", DATA.encode()),
    "Evt11": ("release",),
    "Evt14": ("release_response",),
    "Evt15": ("abort",),
}
_LENGTH = 20  # events of one conversation


def walk(seed: int, conversations: range) -> Counter[tuple[str, str]]:
    """Conversations at random; the cells that were reached."""
    cells: Counter[tuple[str, str]] = Counter()
    for number in conversations:
        dice = Dice(seed, number)
        conversation = Conversation(requestor=bool(dice.below(2)))
        try:
            conversation.go(dice.of(STATES))
            for _ in range(_LENGTH):
                if not dice.below(8):
                    conversation.wait(dice.of((0.5, 3.0, 9.0)))
                event = dice.of(conversation.events())
                conversation.happen(event, dice.below(6), dice.of((0, 0, 1, 7)))
            conversation.end()
        except (AssertionError, DimseError) as error:
            raise AssertionError(f"seed {seed}, conversation {number}: {error!r}") from error
        cells += conversation.cells
    return cells


def unreached(cells: Counter[tuple[str, str]]) -> set[tuple[str, str]]:
    """The cells of the table that were not."""
    return CELLS.keys() - cells.keys()


def main(arguments: Sequence[str] | None = None) -> int:
    """Walk; returns the exit code, 1 when a cell was not reached. A difference raises."""
    parser = argparse.ArgumentParser(prog="python -m tests.property.conversation")
    parser.add_argument("--steps", type=int, default=100_000, help="events (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (%(default)s)")
    options = parser.parse_args(arguments)
    conversations, part, began = options.steps // _LENGTH, 1000, time.monotonic()
    parts = [
        range(start, min(start + part, conversations)) for start in range(0, conversations, part)
    ]
    cells: Counter[tuple[str, str]] = Counter()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for reached in pool.map(walk, [options.seed] * len(parts), parts):
            cells += reached
    missing = sorted(unreached(cells))
    sys.stdout.write(
        f"{cells.total():,} events in {time.monotonic() - began:.0f} s, 0 differences; "
        f"{len(CELLS) - len(missing)} of {len(CELLS)} cells, each at least "
        f"{min(cells.values())} times{'; not ' if missing else ''}{missing or ''}\n"
    )
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main())
