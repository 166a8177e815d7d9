"""How often somebody at an address failed lately, in bounded memory."""

from collections import OrderedDict, deque
from ipaddress import IPv6Address, ip_address

from twisted.internet.interfaces import IReactorTime

WINDOW = 60.0
"""Seconds for which a failure counts."""

ADDRESSES = 10_000
"""Of which failures are known: those of the one that failed the longest ago are forgotten."""

_SUBSCRIBER = 64  # bits of an IPv6 address that one subscriber has all to himself (RFC 6177)


class Failures:
    """Counts failures by address; of IPv6 it is the network of 64 bits that counts."""

    def __init__(self, most: int, clock: IReactorTime) -> None:
        self._most = most
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._times)

    def too_many(self, host: str) -> bool:
        """Whether as many as there may be came from there within the `WINDOW`."""
        times = self._times.get(_counted_as(host))
        if times is None or len(times) < self._most:
            return False
        return times[0] > self._clock.seconds() - WINDOW

    def add(self, host: str) -> None:
        """One more."""
        key = _counted_as(host)
        self._times.setdefault(key, deque(maxlen=self._most)).append(self._clock.seconds())
        self._times.move_to_end(key)
        if len(self._times) > ADDRESSES:
            self._times.popitem(last=False)


def _counted_as(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:  # a UNIX socket, or what a proxy says
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{int(address) >> _SUBSCRIBER:x}::/{_SUBSCRIBER}"
