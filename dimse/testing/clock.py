"""What stands for the reactor in a test."""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IReactorFromThreads)
class MemoryClock(Clock):
    """Twisted's `Clock`, and a thread pool that does everything at once, in the only thread."""

    def getThreadPool(self) -> "MemoryClock":
        """Itself."""
        return self

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """Call it."""
        callable(*args, **kwargs)

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], object], call: Callable[..., object], *args: Any
    ) -> None:
        """Call it, and `done` with whether that went well and with the result or `Failure`."""
        try:
            result = call(*args)
        except Exception:  # noqa: BLE001  as of a thread: whoever waits gets it
            done(False, Failure())
        else:
            done(True, result)
