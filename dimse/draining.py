"""The end of an acceptor: its connections end by themselves, or they are ended."""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

_MOMENT = 1.0  # s for a request under way when it begins: to close would reset it unanswered

FAREWELL = 0.5
"""Seconds for an A-ABORT to reach its peer when the server stops."""


class Drain:
    """The deadlines of one end, and who waits for it.

    `unanswered` is called when who has connected had a moment to ask for an association, and
    `late` when the grace is over.
    """

    def __init__(
        self, clock: IReactorTime, unanswered: Callable[[], None], late: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._unanswered = unanswered
        self._late = late
        self._deadlines: list[IDelayedCall] = []
        self._waiters: list[Deferred[None]] = []
        self.is_over = False

    def within(self, grace: float) -> None:
        """Set the time again, from now on."""
        self._drop()
        self._deadlines = [
            self._clock.callLater(min(_MOMENT, grace), self._unanswered),
            self._clock.callLater(grace, self._late),
        ]

    def when_over(self) -> Deferred[None]:
        """Fires when all connections are gone."""
        waiter: Deferred[None] = Deferred()
        if self.is_over:
            waiter.callback(None)
        else:
            self._waiters.append(waiter)
        return waiter

    def end(self) -> None:
        """All connections are gone."""
        self.is_over = True
        self._drop()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def _drop(self) -> None:
        for deadline in self._deadlines:
            if deadline.active():
                deadline.cancel()
