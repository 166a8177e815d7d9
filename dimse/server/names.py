"""The addresses of host names that peers are bound to; nobody is looked up by his address."""

import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

LookUp = Callable[[str], "Deferred[Collection[str]]"]
"""Fires with the addresses of a name; fails with `OSError` when it has none."""

EVERY = 300.0
"""Seconds from one look at all names to the next."""


class Names(Service):
    """Host names and their addresses: looked up at the start, when they change, and again later.

    One name at a time, so that a name server that is silent holds up one thread. A name that does
    not resolve any more keeps the addresses that it had; the log says so once.
    """

    log = Logger()

    def __init__(self, clock: Any, look_up: LookUp | None = None) -> None:
        self._clock = clock
        self._look_up = look_up or _by_resolver
        self._wanted: tuple[str, ...] = ()
        self._addresses: Mapping[str, frozenset[str]] = {}
        self._failed: frozenset[str] = frozenset()
        self._waiting: list[Deferred[None]] = []
        self._looking: Deferred[None] | None = None
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
        done = self._addresses.keys() | self._failed
        if not self.running or set(names) <= done:
            return None
        waiter: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        return waiter

    def startService(self) -> None:
        """Begin to look."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's is untyped
        self._begin()

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's is untyped
        self._stop()
        self._fire()

    def _begin(self) -> None:
        self._stop()
        if self._wanted:
            self._looking = Deferred.fromCoroutine(self._look())
            self._looking.addErrback(lambda failure: failure.trap(CancelledError) and None)
        else:
            self._fire()

    def _stop(self) -> None:
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
        if self._next is not None and self._next.active():
            self._next.cancel()

    async def _look(self) -> None:
        for name in self._wanted:
            try:
                found = frozenset(await self._look_up(name))
            except (OSError, UnicodeError) as error:  # UnicodeError: it cannot be a name
                if name not in self._failed:
                    kept = ", ".join(sorted(self.addresses(name))) or "nobody"
                    self.log.warn(
                        "{name} does not resolve ({error}); its peer is taken from {kept}",
                        name=name,
                        error=getattr(error, "strerror", None) or error,
                        kept=kept,
                    )
                self._failed |= {name}
            else:
                self._failed -= {name}
                self._addresses = {**self._addresses, name: found}
        self._next = self._clock.callLater(EVERY, self._begin)
        self._fire()

    def _fire(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)


def _by_resolver(name: str) -> "Deferred[Collection[str]]":
    """As the machine resolves it, its own file of hosts included."""

    def look_up() -> Collection[str]:
        return {str(each[4][0]) for each in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}

    return deferToThread(look_up)
