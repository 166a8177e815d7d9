"""How much a peer has had: counters of operations, associations and bytes, no Twisted."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

_SLOTS = 60  # a period is counted in so many parts: that is all the memory there is


class Window:
    """What was counted in the last `period` seconds, and up to a sixtieth of it before."""

    def __init__(self, period: float) -> None:
        self._slot = period / _SLOTS
        self._counted: deque[tuple[int, int]] = deque()  # number of the slot, and amount
        self._sum = 0

    def used(self, now: float) -> int:
        """How much it is at `now`, in seconds of a clock that does not go back."""
        oldest = int(now // self._slot) - _SLOTS
        while self._counted and self._counted[0][0] < oldest:
            self._sum -= self._counted.popleft()[1]
        return self._sum

    def add(self, amount: int, now: float) -> None:
        """Count."""
        self.used(now)
        slot = int(now // self._slot)
        if self._counted and self._counted[-1][0] >= slot:
            last, before = self._counted.pop()
            self._counted.append((last, before + amount))
        else:
            self._counted.append((slot, amount))
        self._sum += amount


@dataclass(slots=True)
class Meter:
    """What one peer has had; bytes count that came in instances, when these are whole.

    `receiving` are the bytes of those that are not: they take room meanwhile.
    """

    associations: Window = field(default_factory=lambda: Window(MINUTE))
    operations: Window = field(default_factory=lambda: Window(MINUTE))
    hour: Window = field(default_factory=lambda: Window(HOUR))
    day: Window = field(default_factory=lambda: Window(DAY))
    receiving: int = 0

    def used_up(self, amount: int, now: float, per_hour: int | None, per_day: int | None) -> str:
        """Which quota of a peer, by its key, keeps `amount` bytes more from coming; "" if none."""
        amount += self.receiving
        if per_hour is not None and self.hour.used(now) + amount > per_hour:
            return "bytes_per_hour"
        if per_day is not None and self.day.used(now) + amount > per_day:
            return "bytes_per_day"
        return ""

    def received(self, amount: int, now: float) -> None:
        """An instance is whole."""
        self.receiving -= amount
        self.hour.add(amount, now)
        self.day.add(amount, now)


def take(window: Window, most: int | None, now: float) -> bool:
    """Count one more, if that keeps within `most`."""
    if most is not None and window.used(now) >= most:
        return False
    window.add(1, now)
    return True


class Refusals:
    """Counts refusals by address, and says when one is to be told of.

    Of each address the first `_KINDS` that differ are told of in `period` seconds, each once: who
    tries another AE title, because the first was wrong, finds that in the log, and who tries
    thousands does not fill it. Of the addresses the `_MOST` that came last are known.
    """

    _MOST = 1000
    _KINDS = 8

    def __init__(self, period: float = 10 * MINUTE) -> None:
        self._period = period
        self._known: OrderedDict[str, _Refused] = OrderedDict()

    def count(self, key: str, kind: str, now: float) -> int | None:
        """One more of the address `key`; None when it is not told of, else how many there were
        since one was, with this one."""
        known = self._known.pop(key, None) or _Refused(now)
        self._known[key] = known
        if len(self._known) > self._MOST:
            self._known.popitem(last=False)
        if now - known.since >= self._period:
            known.since, known.kinds = now, set()
        known.untold += 1
        if kind in known.kinds or len(known.kinds) >= self._KINDS:
            return None
        known.kinds.add(kind)
        number, known.untold = known.untold, 0
        return number


@dataclass(slots=True)
class _Refused:
    """What an address was refused `since` then."""

    since: float
    kinds: set[str] = field(default_factory=set)
    untold: int = 0
