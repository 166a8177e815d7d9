"""Those who wait until something is over, but not for ever."""

from typing import Any

from twisted.internet.defer import Deferred


class Waiting:
    """Deferreds that fire when it `is_over`, or their time is."""

    def __init__(self) -> None:
        self._waiters: list[Deferred[None]] = []

    def wait(self, seconds: float, clock: Any) -> "Deferred[None]":
        """One of them; after `seconds` on `clock`, or on the reactor, it fires in any case."""
        if clock is None:  # late, for whoever imports it installs it
            from twisted.internet import reactor as clock
        waiter: Deferred[None] = Deferred()
        waiter.addTimeout(seconds, clock, onTimeoutCancel=lambda *_: None)
        self._waiters.append(waiter)
        return waiter

    def is_over(self) -> None:
        """Fire all that have not fired."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)  # ignored by one whose time was over
