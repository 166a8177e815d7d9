"""The timers of one connection, each by the name of its limit."""

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dimse.limits import Limits


class Timers:
    """At most one running timer for each time-out of `limits`, on the injected clock."""

    def __init__(self, limits: Limits, clock: IReactorTime) -> None:
        self.clock = clock
        self.limits = limits
        self._running: dict[str, IDelayedCall] = {}

    def __contains__(self, limit: str) -> bool:
        return limit in self._running

    def start(
        self, limit: str, expired: Callable[[], object], seconds: float | None = None
    ) -> None:
        """Call `expired` after the time of `limit`, or after `seconds`; starts it again."""
        self.stop(limit)
        if seconds is None:
            seconds = getattr(self.limits, limit)

        def fire() -> None:
            del self._running[limit]
            expired()

        self._running[limit] = self.clock.callLater(seconds, fire)

    def keep_pace(
        self, limit: str, count: Callable[[], int], least: int, fell_short: Callable[[], object]
    ) -> None:
        """Call `fell_short` after the first time of `limit` in which `count()` grew by less."""
        enough = count() + least

        def judge() -> None:
            if count() < enough:
                fell_short()
            else:
                self.keep_pace(limit, count, least, fell_short)

        self.start(limit, judge)

    def stop(self, *limits: str) -> None:
        """Stop those of `limits` that run."""
        for limit in limits:
            timer = self._running.pop(limit, None)
            if timer is not None:
                timer.cancel()

    def stop_all(self) -> None:
        """Stop whatever runs."""
        self.stop(*list(self._running))
