"""A DICOM node as a Twisted service, for `twistd dimse` or an application of yours."""

import signal
from collections.abc import Callable, Iterable
from importlib.metadata import version
from threading import current_thread, main_thread
from typing import Any, Protocol

from twisted.application.internet import StreamServerEndpointService as _Listening
from twisted.application.service import MultiService
from twisted.application.strports import service as listening_service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger

from dimse.acceptor import AcceptorFactory
from dimse.errors import MisuseError


class Store(Protocol):
    """What a node opens and closes: `FileStore`, or the archive."""

    def open(self) -> object:
        """Get ready; raises `MisuseError` when that cannot be."""

    def close(self) -> "Deferred[None]":
        """Fires when what was begun is done."""


class Node(MultiService):
    """Listens on some endpoints for one acceptor and its store, an archive mostly.

    The ports are bound with the privileges that `twistd --uid` gives up afterwards; the store is
    opened without them. Stopping lets open associations finish, for `Limits.grace` seconds.
    `renew` is called in the reactor for each SIGHUP, where the platform has that; without it the
    signal does what it always did.
    """

    _log = Logger()

    def __init__(
        self,
        factory: AcceptorFactory,
        store: Store,
        endpoints: Iterable[str | IStreamServerEndpoint],
        *,
        renew: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's is untyped
        self._factory = factory
        self._store = store
        self._renew = renew
        self._hangup: Any = None  # what SIGHUP did before
        self._bound = False  # a port that never listened cannot be stopped
        for endpoint in endpoints:
            listening: Any = listening_service if isinstance(endpoint, str) else _Listening
            listening(endpoint, factory).setServiceParent(self)

    def privilegedStartService(self) -> None:
        """Bind the ports."""
        self._bound = True
        super().privilegedStartService()  # type: ignore[no-untyped-call]  # Twisted's is untyped

    def startService(self) -> None:
        """Open the store, then take associations; raises `MisuseError` if there is no store."""
        try:
            self._store.open()
        except MisuseError:
            self._unbind()
            raise
        self._bound = True
        self._hear_hangups()
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's is untyped
        self._log.info("dimse {version}: {store}", version=version("dimse"), store=str(self._store))

    def stopService(self) -> Deferred[None]:
        """Stop listening, drain, close the store; fires when all is done."""
        stopped = self._unbind().addCallback(
            lambda _: self._factory.drain(self._factory.limits.grace)
        )
        stopped.addCallback(lambda _: self._store.close())
        return stopped.addBoth(self._hear_no_hangups)

    def _hear_no_hangups(self, outcome: Any) -> Any:
        """Not before the end: the signal would kill a node that still commits."""
        if self._hangup is not None:
            signal.signal(signal.SIGHUP, self._hangup)
            self._hangup = None
        return outcome

    def _unbind(self) -> Deferred[Any]:
        if not self._bound:
            return succeed(None)
        self._bound = False
        return maybeDeferred(super().stopService)

    def _hear_hangups(self) -> None:
        can = hasattr(signal, "SIGHUP") and current_thread() is main_thread()
        if self._renew is not None and can:
            self._hangup = signal.signal(signal.SIGHUP, self._hung_up)

    def _hung_up(self, *_: object) -> None:
        from twisted.internet import reactor  # late, for whoever imports it installs it

        anywhere: Any = reactor
        anywhere.callFromThread(self._renew)  # a signal comes at any time
