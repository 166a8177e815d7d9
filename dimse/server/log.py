"""From which level on a node logs: `[log] level`, `--log-level`."""

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogBeginner,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
)

LEVELS: Mapping[str, str] = {
    "debug": "every request",
    "info": "every association, with what was done on it",
    "warn": "what a peer may not do, or what may need somebody",
    "error": "what cannot be done",
    "critical": "what nobody has foreseen",
}
"""The levels of `twisted.logger` and what each adds to those below it here."""


class Threshold:
    """Keeps what is logged at a level or above it; `set` another one while it runs.

    What is printed to stderr is kept at any level: with twistd the log has it, as an error, and why
    a node does not start is there alone.
    """

    def __init__(self, level: str) -> None:
        self._predicate = LogLevelFilterPredicate(LogLevel.levelWithName(level))
        self._predicate.setLogLevelForNamespace("stderr", LogLevel.error)

    def set(self, level: str) -> None:
        """Keep what is at this level of `LEVELS` or above it from now on."""
        self._predicate.setLogLevelForNamespace("", LogLevel.levelWithName(level))

    def kept(self, observer: ILogObserver) -> ILogObserver:
        """An observer of all that passes on what is kept."""
        return FilteringLogObserver(observer, [self._predicate])

    def before(self, beginner: LogBeginner = globalLogBeginner) -> None:
        """Let nothing else reach the observers that logging will begin with.

        twistd makes its own, by its options, after the service is made, and asks nobody: what it
        begins with is all there is to hold on to.
        """
        begin = beginner.beginLoggingTo

        def begin_with_kept(observers: Iterable[ILogObserver], *args: Any, **options: Any) -> None:
            begin([self.kept(each) for each in observers], *args, **options)

        beginner.beginLoggingTo = begin_with_kept  # type: ignore[method-assign]  # as it says
