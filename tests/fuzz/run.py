"""Runs mutated inputs, and judges each: no error but ours, and work and memory within bounds.

Work is lines of Python that run: counted of some inputs, and of all that seem slow. Memory is the
peak that `tracemalloc` saw, of some inputs. So no verdict depends on how busy the machine is; only
what takes a second of CPU time whenever it is tried, or does not end, fails by time.
"""

import signal
import sys
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from traceback import format_exc
from types import FrameType
from typing import Any

from twisted.logger import ILogObserver, LogEvent, globalLogBeginner
from zope.interface import implementer

from tests.fuzz.decoders import DECODERS, Target
from tests.fuzz.mutation import Dice
from tests.fuzz.reading import READERS
from tests.fuzz.sessions import SESSIONS

TARGETS = DECODERS + READERS + SESSIONS
SHARES = [target for target in TARGETS for _ in range(target.share)]
BATCH = 2000  # cases that a process takes at a time
COUNT_EVERY, TRACE_EVERY = 500, 100  # inputs of which lines are counted, and memory is traced
SUSPECT = 0.05  # seconds after which the lines of an input are counted
SLOW, HANG = 1.0, 20.0  # seconds of CPU time that are too many for these small inputs
LINES, LINES_PER_BYTE = 50_000, 100  # that an input may run
FAILURES = 10  # and a batch goes no further


class Hang(BaseException):
    """An input does not end; no `except Exception` shall take this."""


@dataclass
class Tally:
    """What came of the inputs of one target; `work` and `memory` are the most, as a part of what
    they may be."""

    inputs: int = 0
    taken: int = 0
    seconds: float = 0.0
    work: float = 0.0
    memory: float = 0.0

    def add(self, other: "Tally") -> None:
        """Those of another batch."""
        self.inputs += other.inputs
        self.taken += other.taken
        self.seconds += other.seconds
        self.work = max(self.work, other.work)
        self.memory = max(self.memory, other.memory)


@dataclass
class Report:
    """Tallies by target, and the failures."""

    tallies: dict[str, Tally] = field(
        default_factory=lambda: {target.name: Tally() for target in TARGETS}
    )
    failures: list[str] = field(default_factory=list)

    def add(self, other: "Report") -> None:
        """That of another batch."""
        for name, tally in other.tallies.items():
            self.tallies[name].add(tally)
        self.failures += other.failures


@implementer(ILogObserver)
def _ignore(event: LogEvent) -> None:
    """What is wrong in it, a session finds itself."""


def log_nothing() -> None:
    """Before somebody begins it, Twisted keeps the log in memory."""
    globalLogBeginner.beginLoggingTo([_ignore], redirectStandardIO=False)


def make(seed: int, case: int) -> tuple[Target, tuple[Any, ...]]:
    """The target and the arguments of a case."""
    dice = Dice(seed, case)
    target = dice.of(SHARES)
    return target, target.make(dice)


def attempt(target: Target, arguments: tuple[Any, ...]) -> bool:
    """Whether the target takes the input; what it must not raise is raised."""
    try:
        return bool(target.run(*arguments))
    except target.errors:
        return False


def lines_of(target: Target, arguments: tuple[Any, ...]) -> int:
    """The lines of Python that an input runs."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        attempt(target, arguments)
    finally:
        sys.settrace(before)
    return lines


def memory_of(target: Target, arguments: tuple[Any, ...]) -> int:
    """The bytes that an input needs at most beyond what was there before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        attempt(target, arguments)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def _cpu_seconds(target: Target, arguments: tuple[Any, ...]) -> float:
    began = time.thread_time()
    attempt(target, arguments)
    return time.thread_time() - began


@contextmanager
def watched() -> Iterator[None]:
    """Raise `Hang` in what goes on when it takes too long."""

    def hang(number: int, frame: FrameType | None) -> None:
        raise Hang(f"more than {HANG:g} s of CPU time")

    before = signal.signal(signal.SIGPROF, hang)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def judge(seed: int, case: int, report: Report, *, thorough: bool = False) -> None:
    """One case; a failure goes into the report."""
    signal.setitimer(signal.ITIMER_PROF, HANG)
    target, arguments = make(seed, case)
    tally = report.tallies[target.name]
    tally.inputs += 1
    began = time.perf_counter()
    try:
        tally.taken += attempt(target, arguments)
        seconds = time.perf_counter() - began
        tally.seconds += seconds
        size = target.size(*arguments)
        if thorough or seconds > SUSPECT or case % COUNT_EVERY == 0:
            _judge_work(target.once(), arguments, size, tally)
        if thorough or case % TRACE_EVERY == 1:
            peak = memory_of(target.once(), arguments) / (target.memory * size + target.fixed)
            tally.memory = max(tally.memory, peak)
            assert peak <= 1, f"{peak:.2f} times the memory that {size} bytes may need"
    except (Exception, Hang):  # noqa: BLE001  whatever it is, it is a finding
        signal.setitimer(signal.ITIMER_PROF, 0)
        report.failures.append(f"{seed}:{case} {target.name}\n{format_exc()}")


def _judge_work(target: Target, arguments: tuple[Any, ...], size: int, tally: Tally) -> None:
    lines = lines_of(target, arguments)
    work = lines / (LINES + LINES_PER_BYTE * size)
    tally.work = max(tally.work, work)
    assert work <= 1, f"{lines} lines for {size} bytes"
    seconds = min(_cpu_seconds(target, arguments) for _ in range(3))
    assert seconds <= SLOW, f"{seconds:.1f} s of CPU time for {size} bytes"


def batch(seed: int, cases: range) -> Report:
    """Some cases, in this process."""
    report = Report()
    with watched():
        for case in cases:
            judge(seed, case, report)
            if len(report.failures) >= FAILURES:
                break
    return report


def run(seed: int, inputs: int, processes: int) -> Report:
    """So many cases, in some processes."""
    report = Report()
    batches = [range(start, min(start + BATCH, inputs)) for start in range(0, inputs, BATCH)]
    # Not by fork: a test has threads, and a lock that one of them held would stay shut.
    spawn = get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=log_nothing) as pool:
        for done in pool.map(batch, [seed] * len(batches), batches):
            report.add(done)
            if len(report.failures) >= FAILURES:
                pool.shutdown(cancel_futures=True)
                break
    return report
