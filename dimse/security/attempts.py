"""How often somebody at an address failed lately, in bounded memory."""

from collections import OrderedDict, deque

from twisted.internet.interfaces import IReactorTime

from dimse.security.addresses import counted_as

WINDOW = 60.0
"""Seconds for which a failure counts."""

ADDRESSES = 10_000
"""Of which failures are known: those of the one that failed the longest ago are forgotten."""


class Failures:
    """Counts failures by address, as `counted_as` has it."""

    def __init__(self, most: int, clock: IReactorTime) -> None:
        self._most = most
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._times)

    def too_many(self, host: str) -> bool:
        """Whether as many as there may be came from there within the `WINDOW`."""
        times = self._times.get(counted_as(host))
        if times is None or len(times) < self._most:
            return False
        return times[0] > self._clock.seconds() - WINDOW

    def add(self, host: str) -> None:
        """One more."""
        key = counted_as(host)
        self._times.setdefault(key, deque(maxlen=self._most)).append(self._clock.seconds())
        self._times.move_to_end(key)
        if len(self._times) > ADDRESSES:
            self._times.popitem(last=False)
