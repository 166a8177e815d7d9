"""Group commit: what several associations want on the disk goes there in one go."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from dimse.archive.waiting import Waiting
from dimse.errors import StatusError
from dimse.message.status import Status
from dimse.services.partial_file import InThread, refused

T = TypeVar("T")


class GroupCommit(Generic[T]):
    """Runs `commit(items)` in a thread, for all that wait at once; one outcome an item, in order.

    `failed(items)` cleans up when `commit` itself breaks.
    """

    log = Logger()

    def __init__(
        self,
        commit: Callable[[list[T]], list[Status | Failure]],
        failed: Callable[[list[T]], None],
        in_thread: InThread,
    ) -> None:
        self._commit = commit
        self._failed = failed
        self._in_thread = in_thread
        self._queue: list[tuple[T, Deferred[int]]] = []
        self._under_way: list[T] = []
        self._busy = False
        self._waiting = Waiting()

    def add(self, item: T) -> "Deferred[int]":
        """Commit an item with the next group; fires with its status."""
        result: Deferred[int] = Deferred()
        self._queue.append((item, result))
        self._next()
        return result

    def idle(self, seconds: float, clock: Any, name: Callable[[T], str]) -> "Deferred[bool]":
        """Fires with true when nothing is being committed.

        After `seconds` it fires with false, and the log has the names of what is not done yet.
        """
        if not self._busy:
            return succeed(True)
        return self._waiting.wait(seconds, clock).addCallback(lambda _: self._is_idle(name))

    def _is_idle(self, name: Callable[[T], str]) -> bool:
        hanging = [*self._under_way, *(item for item, _ in self._queue)]
        if hanging:
            self.log.critical(
                "the disk hangs: {count} instances are not committed: {names}",
                count=len(hanging),
                names=", ".join(map(name, hanging)),
            )
        return not hanging

    def _next(self) -> None:
        if self._busy or not self._queue:
            return
        group, self._queue = self._queue, []
        self._busy = True
        items = self._under_way = [item for item, _ in group]

        def done(outcomes: list[Status | Failure]) -> None:
            self._busy = False
            self._under_way = []
            self._next()
            if not self._busy:
                self._waiting.is_over()
            for (_, result), outcome in zip(group, outcomes, strict=True):
                settle(result, outcome)

        def crashed(failure: Failure) -> None:
            try:
                self._failed(items)
            finally:  # whoever waits is told, and the next group comes
                done([failure] * len(group))

        # There may be no thread to be had; the next group tries again.
        maybeDeferred(self._in_thread, lambda: self._commit(items)).addCallbacks(done, crashed)


class CommitThread:
    """A thread for commits alone: they do not wait for queries, which have those of the reactor."""

    def __init__(self) -> None:
        self._pool: ThreadPool | None = None
        self._trigger: Any = None

    def __call__(self, step: Callable[[], Any]) -> "Deferred[Any]":
        """Run a step in it."""
        from twisted.internet import reactor  # late, for whoever imports it installs it

        running: Any = reactor
        if self._pool is None:
            pool = ThreadPool(minthreads=1, maxthreads=1, name="dimse commits")
            pool.start()  # one that cannot have its thread is not to be stopped either
            self._pool = pool
            self._trigger = running.addSystemEventTrigger("during", "shutdown", self.stop)
        return deferToThreadPool(running, self._pool, step)

    def stop(self) -> None:
        """End it, after the step that it is at."""
        from twisted.internet import reactor

        running: Any = reactor
        pool, self._pool = self._pool, None
        if pool is not None:
            with suppress(ValueError):  # the shutdown has taken it away already
                running.removeSystemEventTrigger(self._trigger)
            pool.stop()


def outcome_of(step: Callable[[], Any]) -> Any:
    """What a step returns, or a Failure with the status that it, or its `OSError`, earns."""
    try:
        return step()
    except StatusError:
        return Failure()
    except OSError as error:
        return Failure(refused(error))


def settle(result: "Deferred[int]", outcome: Any) -> None:
    """Fire with a status or fail with a Failure."""
    if isinstance(outcome, Failure):
        result.errback(outcome)
    else:
        result.callback(outcome)
