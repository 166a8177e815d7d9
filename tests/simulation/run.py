"""One run: everything that happens in it is drawn from its seed."""

import gc
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

import dimse
from dimse.archive import files, reconciliation
from dimse.archive.objects import ABOVE_ALL, LOWEST, key_of
from dimse.ul.protocol import UpperLayerProtocol
from dimse.ul.table import Sta
from tests.simulation.database import STEPS
from tests.simulation.disk import CALLS, Disk, Trouble
from tests.simulation.draws import Draws, Violation
from tests.simulation.ledger import STUDIES, UIDS, Ledger, content
from tests.simulation.network import SimulatedNetwork
from tests.simulation.node import LIMITS, TITLE, Node
from tests.simulation.replacing import ReplacingLedger
from tests.simulation.requestors import _CONTEXTS, Requestor

ENDLESS = 200_000  # steps; so many has no run that ends
DAY = 24 * 3600.0  # seconds in which the last result of a storage commitment is reported
_BUFFERED = 512 * 1024  # bytes that may wait for a peer: a write of a data set beside the buffer
_QUEUED = 100  # instances that may wait for their commit
_LOOKS = 64  # steps between two looks at what is bounded
_PLACES = ("/dev/shm", None)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run: the hash and the lines of its trace, and how often what happened."""

    digest: str
    lines: int
    steps: int
    seconds: float
    counts: Counter[str]


class Simulation:
    """The archive, those who use it, and what happens to all of them."""

    def __init__(self, seed: int, folder: Path, *, echo: bool = False) -> None:
        self.draws = draws = Draws(seed)
        self.network = SimulatedNetwork(draws, echo=echo)
        self.clock = self.network.clock
        self.trace = self.network.trace
        self.trace.root = str(folder)
        replaces = draws.chance(0.5)
        draws.counts[f"archives that {'replace' if replaces else 'keep'}"] += 1
        self.ledger = ReplacingLedger(self.trace) if replaces else Ledger(self.trace)
        self.disk = Disk(folder, draws, self.trace)
        self.node = Node(self.network, self.disk, draws, self.ledger, replaces=replaces)
        self.requestors = [
            Requestor(f"REQUESTOR{number}", self.network, self.node, draws, self.ledger)
            for number in range(1, draws.number(3, 6))
        ]
        self.steps = 0
        self.healed = False
        self._misfortune = draws.pick([0.0, 0.002, 0.006])  # of the node, in each step
        self._rots = draws.chance(0.2)
        self._begin_a_time()

    # What happens next

    def _begin_a_time(self) -> None:
        """For a while, so much is wrong with the disk, the database and the network."""
        draws, now = self.draws, self.clock.seconds()
        self.network.bad = draws.pick([0.0, 0.2, 1.0])
        self.disk.trouble = Trouble(
            disk=draws.pick([0, 0, 0.02, 0.1, 0.2]),
            calls=draws.pick([CALLS, CALLS, (draws.pick(CALLS),), ("fsync",)]),
            database=draws.pick([0, 0, 0, 0.05, 0.2]),
            statements=draws.pick([STEPS, (draws.pick(STEPS),), ("do_commit",)]),
            full=draws.chance(0.1),
        )
        self._until = now + draws.seconds(0.5, 30)
        self.trace.say(f"network {self.network.bad}, {self.disk.trouble}")
        if self._rots and draws.chance(0.3):
            self.node.rot()

    def step(self) -> bool:
        """Let one thing happen; returns whether anything still can."""
        self.steps += 1
        if self.steps > ENDLESS:
            raise Violation(f"{ENDLESS} things happened, and it goes on")
        self.clock.advance(0)
        now = self.clock.seconds()
        if not self.healed and now >= self._until:
            self._begin_a_time()
        if not self.healed and self.draws.chance(self._misfortune):
            self._befall_the_node()
        if self.steps % _LOOKS == 0:
            self._look()
        if self.trace.violations:
            raise Violation(self.trace.violations[0])
        return self._move(now) or self._wait(now)

    def _befall_the_node(self) -> None:
        what = self.draws.number(0, 4)
        if what < 4:
            self.node.crash(power=what % 2 == 0)
        elif self.node.is_up:
            self.node.stop().addCallback(lambda _: self.clock.callLater(1, self.node.start))

    def _move(self, now: float) -> bool:
        """One segment of a connection, or one stretch of a thread, each in its turn, or so."""
        threads = self.node.threads
        steps = [each for each in threads.steps if each.next <= now]
        wires = self.network.wires
        count = 2 * len(wires) + len(steps)
        if not count:
            return False
        first = self.draws.number(0, count - 1)
        for at in chain(range(first, count), range(first)):
            if at >= 2 * len(wires):
                threads.turn(steps[at - 2 * len(wires)])
                return True
            if wires[at // 2].move(at % 2, now):
                return True
        self.network.forget_what_is_over()
        return False

    def _wait(self, now: float) -> bool:
        """Let time pass until something can happen."""
        times = [call.getTime() for call in self.clock.getDelayedCalls()]
        times += [step.next for step in self.node.threads.steps if step.next > now]
        times += [time for wire in self.network.wires for time in wire.times(now)]
        if not times:
            return False
        self.clock.rightNow = max(now, min(times))
        return True

    def _look(self) -> None:
        """Nothing that waits grows without bound."""
        self._fail_for_what_was_logged()
        for wire in self.network.wires:
            for end in wire.ends:
                if len(end.buffer) > _BUFFERED:
                    self.trace.violate(f"{len(end.buffer)} bytes wait for a peer")
        self.node.compare()
        if self.node.is_up and (waiting := len(self.node.archive._commits._queue)) > _QUEUED:
            self.trace.violate(f"{waiting} instances wait to be committed")

    # From the beginning to the end

    def run(self) -> Report:
        self.node.start()
        lives = [each.begin(each.live()) for each in self.requestors]
        self.until(lambda: all(each.called for each in lives), "all requestors are done", DAY)
        self._heal()
        self._verify()
        self._end()
        self._bury()
        digest = self.trace.digest
        return Report(digest, self.trace.lines, self.steps, self.clock.seconds(), self.draws.counts)

    def until(self, condition: Any, what: str, seconds: float = 600.0) -> None:
        end = self.clock.seconds() + seconds
        while not condition():
            goes_on = self.step() and self.clock.seconds() < end
            if not (goes_on or condition()):
                raise Violation(f"{what}: not in {seconds} s, or nothing happens any more")

    def result(self, deferred: "Deferred[Any]", what: str) -> Any:
        results: list[Any] = []
        failures: list[Any] = []
        deferred.addCallbacks(results.append, failures.append)
        self.until(lambda: results or failures, what)
        if failures:
            raise Violation(f"{what}: {failures[0].getTraceback()}")
        return results[0]

    def _heal(self) -> None:
        """From now on all is well, and so everything has to work again."""
        self.healed = True
        self.network.bad = 0.0
        self.disk.trouble = Trouble()
        self.trace.say("all is well from now on")
        self.until(lambda: self.node.is_up, "the node starts")
        for wire in self.network.wires:
            wire.deaf_until = [0.0, 0.0]

    def _verify(self) -> None:
        """As a requestor sees it: all that was promised is there, and more can come."""
        requestor = self.requestors[0]

        async def verifying() -> None:
            associating = dimse.associate(
                requestor._route,
                _CONTEXTS,
                calling_ae_title=requestor.name,
                called_ae_title=TITLE,
                roles={content(UIDS[0], 1, 0).sop_class_uid: (True, True)},
                limits=dimse.Limits(**LIMITS),
                reactor=requestor.process,
            )
            async with associating as association:
                for uid in UIDS:
                    await requestor._store(association, content(uid, 1, 0))
                for study in STUDIES:
                    shelves = requestor._new_shelves("in the end", 0)
                    await requestor.get_study(association, study, shelves)
                    self.ledger.missing(self.ledger.promised_of(study), shelves.found, "the end")

        # Associations of before have their time to end: there may be as many as are allowed.
        self.until(lambda: not self.node.listener._factory._connections, "all connections end")
        self.result(Deferred.fromCoroutine(verifying()), "verifying")
        owed = self.ledger.accepted.keys() - self.ledger.unsure
        self.until(lambda: owed <= self.ledger.committed.keys(), "commitments are reported", DAY)
        self.until(lambda: not (owed & self.node.unreported()), "commitments are over", DAY)

    def _end(self) -> None:
        """Everything stops in order, and nothing is left."""
        self.result(self.node.stop(), "the node stops")
        for requestor in self.requestors:
            self.result(requestor.listener.stop(), f"{requestor.name} stops")
        self.until(lambda: not self.clock.getDelayedCalls() and not self._open(), "all is quiet")
        if self.disk.open_files:
            self.trace.violate("descriptors are open in the end")
        for wire in self.network.all_wires:
            for end, process in wire.processes.items():
                protocol = end.protocol
                known = isinstance(protocol, UpperLayerProtocol)
                if known and process.alive and protocol.state is not Sta.Sta1:
                    self.trace.violate(f"an association of {process.name} is in {protocol.state}")
        for requestor in self.requestors:
            if wrong := [each for each in requestor.watched if len(each) != 1]:
                self.trace.violate(f"{requestor.name}: a Deferred fired {len(wrong[0])} times")
            for shelf in (shelf for shelves in requestor.shelves for shelf in shelves.all):
                if shelf.endings != 1:
                    self.trace.violate(f"a sink of {requestor.name} ended {shelf.endings} times")
        self.node.start()
        self.until(lambda: self.node.is_up, "the node starts once more")
        self.result(self.node.stop(), "the node stops once more")
        if self.trace.violations:
            raise Violation(self.trace.violations[0])

    def _bury(self) -> None:
        """What nobody holds any more is heard of, if it failed."""
        self.requestors.clear()
        self.network.links.clear()
        self.network.all_wires.clear()
        gc.collect()
        self._fail_for_what_was_logged()

    def finalized(self, what: Any) -> None:
        """An error where nobody can hear of it."""
        text = "".join(traceback.format_exception(what.exc_value))
        self.trace.violate(f"{what.err_msg} {what.object}: {text}")

    def _fail_for_what_was_logged(self) -> None:
        if failures := self.network.failures:
            raise Violation(f"an error was logged: {failures[0].getTraceback()}")

    def _open(self) -> bool:
        self.network.forget_what_is_over()
        return any(
            not end.lost and process.alive
            for wire in self.network.wires
            for end, process in wire.processes.items()
        )


def scale_down(patch: pytest.MonkeyPatch) -> None:
    """There are few instances: 256 folders, and as many parts of a start, would be most of it."""
    patch.setattr(files, "_SHARDS", sorted({key_of(uid)[:2] for uid in UIDS}))
    bounds = [LOWEST, "4", "8", "c", ABOVE_ALL]
    patch.setattr(reconciliation, "_ranges", lambda: pairwise(bounds))


@contextmanager
def in_memory() -> Iterator[Path]:
    """A folder that is nowhere else, where that can be: SQLite syncs what it writes."""
    place = next((place for place in _PLACES if place is None or Path(place).is_dir()), None)
    with tempfile.TemporaryDirectory(prefix="dimse-", dir=place) as folder:
        yield Path(folder)


def simulate(seed: int, *, echo: bool = False) -> Report:
    """Run a seed; raises `Violation`, which tells how to run it again."""
    with _collecting_when_told(), pytest.MonkeyPatch.context() as patch:
        # What is finalized of processes that crashed is no part of any run.
        patch.setattr(sys, "unraisablehook", lambda _: None)
        scale_down(patch)
        # Until a log begins, Twisted keeps what it would have: all objects that events name.
        patch.setattr(globalLogPublisher, "_observers", [])
        with in_memory() as folder:
            report = _run(seed, folder, echo=echo)
        while gc.collect():  # what is finalized may hold what is finalized then
            continue
    if isinstance(report, str):
        raise Violation(f"{report}\nseed {seed}: python -m tests.simulation --seed {seed} --trace")
    return report


def _run(seed: int, folder: Path, *, echo: bool) -> Report | str:
    """What came of it, or what was violated: nothing that holds anything of the run."""
    simulation = Simulation(seed, folder, echo=echo)
    with simulation.disk.installed(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", simulation.finalized)
        try:
            return simulation.run()
        except Violation as violation:
            return str(violation)
        finally:
            simulation.network.close()


@contextmanager
def _collecting_when_told() -> Iterator[None]:
    """What is collected, and when, would depend on what ran before."""
    was_enabled = gc.isenabled()
    gc.freeze()  # so that it is not looked at again and again
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
