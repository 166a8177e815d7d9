"""The addresses of host names that peers are bound to; nobody is looked up by his address."""

import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

LookUp = Callable[[str], "Deferred[Collection[str]]"]
"""Fires with the addresses of a name; fails with `OSError` when it has none."""

EVERY = 300.0
"""Seconds from one look at all names to the next."""


class Names(Service):
    """Host names and their addresses: looked up at the start, when they change, and again later.

    One name at a time, whatever is asked meanwhile, so that a name server that is silent holds up
    one thread. A name that does not resolve any more keeps the addresses that it had; the log says
    so once.
    """

    log = Logger()

    def __init__(self, clock: Any, look_up: LookUp | None = None) -> None:
        self._clock = clock
        self._look_up = look_up or _by_resolver
        self._wanted: tuple[str, ...] = ()
        self._due: list[str] = []  # to be looked up, in this order
        self._looking: str | None = None
        self._addresses: Mapping[str, frozenset[str]] = {}
        self._failed: frozenset[str] = frozenset()
        self._waiting: dict[Deferred[None], frozenset[str]] = {}  # for these names
        self._next: Any = None

    def addresses(self, name: str) -> Collection[str]:
        """Those that a name has; none while it is not known."""
        return self._addresses.get(name, ())

    def watch(self, names: Iterable[str]) -> None:
        """These are wanted from now on; they are looked up at once if this runs."""
        self._wanted = tuple(sorted(set(names)))
        self._addresses = {n: a for n, a in self._addresses.items() if n in self._wanted}
        self._failed &= set(self._wanted)
        if self.running:
            self._begin()

    def known(self, names: Iterable[str]) -> "Deferred[None] | None":
        """Fires when all of them were looked up; None when that was done."""
        missing = frozenset(names) - self._done
        if not self.running or not missing:
            return None
        waiter: Deferred[None] = Deferred(self._waiting.__delitem__)
        self._waiting[waiter] = missing
        return waiter

    def startService(self) -> None:
        """Begin to look."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's is untyped
        self._begin()

    def stopService(self) -> None:
        """Look no more; what the resolver is asked already, it answers to nobody."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's is untyped
        self._due = []
        self._stop_timer()
        self._fire()

    @property
    def _done(self) -> frozenset[str]:
        return self._failed | self._addresses.keys()

    def _begin(self) -> None:
        """Look at all that is wanted, and first at what somebody may wait for."""
        self._stop_timer()
        due = [name for name in self._wanted if name != self._looking]
        self._due = sorted(due, key=self._done.__contains__)
        self._fire()
        if self._looking is None:
            Deferred.fromCoroutine(self._look())

    def _stop_timer(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()

    async def _look(self) -> None:
        while self._due:
            self._looking = name = self._due.pop(0)
            try:
                self._found(name, frozenset(await self._look_up(name)))
            except Exception as error:  # noqa: BLE001  whatever it is, the others are looked up
                self._not_found(name, error)
            self._fire()
        self._looking = None
        if self.running and self._wanted:
            self._next = self._clock.callLater(EVERY, self._begin)

    def _found(self, name: str, addresses: frozenset[str]) -> None:
        if name in self._wanted:
            self._failed -= {name}
            self._addresses = {**self._addresses, name: addresses}

    def _not_found(self, name: str, error: Exception) -> None:
        if name in self._wanted and name not in self._failed:
            self._failed |= {name}
            self.log.warn(
                "{name} does not resolve ({error}); its peer is taken from {kept}",
                name=name,
                error=getattr(error, "strerror", None) or error,
                kept=", ".join(sorted(self.addresses(name))) or "nobody",
            )

    def _fire(self) -> None:
        """Tell those who wait for nothing that will still be looked at."""
        missing = set(self._wanted) - self._done if self.running else set()
        for waiter in [each for each, names in self._waiting.items() if not names & missing]:
            if self._waiting.pop(waiter, None) is not None:  # another one may have cancelled it
                waiter.callback(None)


def _by_resolver(name: str) -> "Deferred[Collection[str]]":
    """As the machine resolves it, its own file of hosts included."""

    def look_up() -> Collection[str]:
        return {str(each[4][0]) for each in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}

    return deferToThread(look_up)
