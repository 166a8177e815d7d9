"""The threads of a node: real ones, of which one runs at a time, as far as it is let."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from threading import Semaphore, Thread, current_thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.simulation.draws import Draws

_LATE = 0.05  # of the steps, and of the results, come only after a while
_LATEST = 8.0  # seconds


class Crashed(BaseException):
    """The process of this thread is gone; nothing of the code that it runs may catch it."""


class Step(Thread):
    """What was given to a thread; it pauses where `Threads.pause` is called."""

    def __init__(self, step: Callable[[], Any], begins: float) -> None:
        super().__init__(name="simulated", daemon=True)
        self.result: Deferred[Any] = Deferred()
        self.outcome: Any = None
        self.over = self.crashed = False
        self.next = begins  # when it goes on, or, when it is over, when that is known
        self._step = step
        self._go, self._back = Semaphore(0), Semaphore(0)

    def turn(self) -> None:
        """Let it run until it pauses or ends."""
        if self.ident is None:
            self.start()
        else:
            self._go.release()
        self._back.acquire()

    def pause(self) -> None:
        """Called in the thread itself."""
        if not self.crashed:
            self._back.release()
            self._go.acquire()
        if self.crashed:
            raise Crashed

    def run(self) -> None:
        try:
            self.outcome = self._step()
        except Crashed:
            pass
        except BaseException:  # noqa: BLE001  as the threads of Twisted do
            self.outcome = Failure()
        self.over = True
        self._back.release()


class Threads:
    """An `InThread` on the clock of the simulation; each pause is a place to be overtaken at."""

    def __init__(self, draws: Draws, seconds: Callable[[], float]) -> None:
        self.steps: list[Step] = []
        self._draws = draws
        self._seconds = seconds

    def __call__(self, step: Callable[[], Any]) -> "Deferred[Any]":
        self.steps.append(Step(step, self._soon()))
        return self.steps[-1].result

    def _soon(self) -> float:
        late = self._draws.seconds(0, _LATEST) if self._draws.chance(_LATE) else 0
        return self._seconds() + late

    def turn(self, step: Step) -> None:
        """Let one go on, or tell who waits for it what came of it."""
        if step.over:
            self.steps.remove(step)
            outcome, step.outcome = step.outcome, None
            step.result.callback(outcome)
            return
        step.turn()
        if step.over:
            step.next = self._soon()

    def crash(self) -> None:
        """The process is gone: none of them does anything any more, and nobody hears of them."""
        for step in self.steps:
            step.crashed = True
            if step.ident is not None and not step.over:
                step.turn()
                assert step.over
        self.steps.clear()


def pause() -> None:
    """Let others go on, if a thread of the simulation is what runs."""
    thread = current_thread()
    if isinstance(thread, Step):
        thread.pause()


def stop_if_crashed() -> None:
    """What still runs in a thread of a process that is gone does nothing any more."""
    thread = current_thread()
    if isinstance(thread, Step) and thread.crashed:
        raise Crashed


class InTurn(Executor):
    """Does what others do at once in an order that is drawn."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> Any:
        calls = list(enumerate(zip(*iterables, strict=True)))
        results = {at: fn(*arguments) for at, arguments in self._draws.shuffled(calls)}
        return iter([results[at] for at in range(len(calls))])
