"""The turns of the reactor, of which every peer has its share: no flood makes others wait."""

from collections.abc import Callable, Hashable
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime

SHARE = 20
"""PDUs of one peer that are taken in a turn.

A read holds 1,700 C-ECHO-RQ, and others wait. It holds 16 PDUs of 16 KiB, as instances often come
in: to pause after each of these reads cost them a tenth of their rate.
"""

_RECENT = 0.05  # seconds; between the reads of one who stores and waits for each answer lies less


class Turns:
    """Those who have had their share and have more to do: in each turn one of them goes on.

    It takes its share again, or one PDU if there are others: those who ask, wait for the answer and
    ask again lose in each of their turns what is taken here.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: dict[Hashable, Callable[[], None]] = {}  # in their order
        self._next: IDelayedCall | None = None
        self._last: Hashable = None  # who needed no more than a share
        self._served = self._served_before = -inf  # when it was so, and when with another one

    def share(self, who: Hashable) -> int:
        """PDUs for one who has waited."""
        # Its own short reads do not count: alone it would take a PDU a turn between them.
        served = self._served_before if who is self._last else self._served
        return 1 if self._clock.seconds() < served + _RECENT else SHARE

    def served(self, who: Hashable) -> None:
        """It needed no more than a share."""
        if who is not self._last:
            self._last, self._served_before = who, self._served
        self._served = self._clock.seconds()

    def wait(self, who: Hashable, go_on: Callable[[], None]) -> None:
        """Call `go_on` when it is the turn of `who`."""
        self._waiting[who] = go_on
        if self._next is None:
            self._next = self._clock.callLater(0, self._go_on)

    def leave(self, who: Hashable) -> None:
        """It has nothing to do any more."""
        if who is self._last:
            self._last = None
        self._waiting.pop(who, None)
        if not self._waiting and self._next is not None:
            self._next.cancel()
            self._next = None

    def _go_on(self) -> None:
        who = next(iter(self._waiting))
        go_on = self._waiting.pop(who)
        self._next = self._clock.callLater(0, self._go_on) if self._waiting else None
        go_on()
