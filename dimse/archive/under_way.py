"""The steps that run in threads, counted: what they use is closed when none is under way."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed

from dimse.archive.waiting import Waiting
from dimse.services.partial_file import InThread


class UnderWay:
    """Runs steps as `in_thread` does, and tells when all have ended.

    A step goes on in its thread when its Deferred is cancelled, and is under way until it ends.
    """

    def __init__(self, in_thread: InThread) -> None:
        self._in_thread = in_thread
        self._count = 0
        self._waiting = Waiting()

    def __call__(self, step: Callable[[], Any]) -> "Deferred[Any]":
        """Run a step."""
        result: Deferred[Any] = Deferred()
        self._count += 1
        maybeDeferred(self._in_thread, step).addBoth(self._ended).addBoth(result.callback)
        return result

    def idle(self, seconds: float, clock: Any) -> "Deferred[int]":
        """Fires when no step is under way; after `seconds`, with the number of those that are."""
        if not self._count:
            return succeed(0)
        return self._waiting.wait(seconds, clock).addCallback(lambda _: self._count)

    def _ended(self, outcome: Any) -> Any:
        self._count -= 1
        if not self._count:
            self._waiting.is_over()
        return outcome
