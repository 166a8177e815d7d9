"""A DICOM node as a Twisted service, for `twistd dimse` or an application of yours."""

import signal
from collections.abc import Callable, Iterable
from enum import Enum
from importlib.metadata import version
from threading import current_thread, main_thread
from typing import Any, Protocol

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.error import AlreadyListened, CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from dimse.acceptor import AcceptorFactory
from dimse.errors import MisuseError
from dimse.listening import server_endpoint


class NotStartedError(MisuseError, SystemExit):
    """Why a node does not start.

    Where nobody catches it, under twistd say, it ends the process with that one line and code 1.
    """

    def __init__(self, why: object) -> None:
        super().__init__(str(why))
        self.code = f"dimse does not start: {why}"


class State(Enum):
    """What a node is at, in words for whoever looks after it."""

    READY = "takes associations"
    RELOADING = "reads its configuration again"
    STOPPING = "lets open associations end"
    STOPPED = "has stopped"


class Store(Protocol):
    """What a node opens and closes: `FileStore`, or the archive."""

    def open(self) -> object:
        """Get ready; raises `MisuseError` when that cannot be."""

    def close(self) -> "Deferred[None]":
        """Fires when what was begun is done."""


class Node(MultiService):
    """Listens on some endpoints for one acceptor and its store, an archive mostly.

    The ports are bound with the privileges that `twistd --uid` gives up afterwards; the store is
    opened without them, and only then connections are taken. Stopping lets open associations
    finish, for `Limits.grace` seconds; a node that has stopped can be started again.
    `renew` is called in the reactor for each SIGHUP, where the platform has that; without it the
    signal does what it always did. `on_state` hears of each `State`.
    """

    _log = Logger()

    def __init__(
        self,
        factory: AcceptorFactory,
        store: Store,
        endpoints: Iterable[str | IStreamServerEndpoint],
        *,
        renew: Callable[[], object] | None = None,
        on_state: Callable[[State], object] = lambda state: None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's is untyped
        self._factory = factory
        self._store = store
        self._endpoints = [_endpoint(endpoint) for endpoint in endpoints]
        self._renew = renew
        self._on_state = on_state
        self._hangup: Any = None  # what SIGHUP did before
        self._ports: list[Deferred[Any]] = []  # None where it cannot listen
        self._open = False
        self._stopping: Deferred[None] | None = None

    def privilegedStartService(self) -> None:
        """Bind the ports; raises `NotStartedError`, a `MisuseError`, where one is not to be had."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]  # Twisted's is untyped
        if self._stopping is not None:
            raise NotStartedError("it still stops")
        try:
            for endpoint in self._endpoints:
                self._bind(endpoint)
        except (CannotListenError, AlreadyListened, OSError) as error:
            self._unbind()
            raise NotStartedError(error) from error

    def startService(self) -> None:
        """Open the store, then take associations; raises `NotStartedError` if there is no store."""
        if self._stopping is not None:
            raise NotStartedError("it still stops")
        try:
            self._store.open()
        except MisuseError as error:
            self._unbind()
            raise NotStartedError(error) from error
        self._open = True
        if not self._ports:
            self._bind_or_close()
        self._hear_hangups()
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's is untyped
        for port in self._ports:
            port.addCallback(_take)
        self._log.info("dimse {version}: {store}", version=version("dimse"), store=str(self._store))
        self._on_state(State.READY)

    def stopService(self) -> Deferred[None]:
        """Stop listening, drain, close the store; fires when all is done."""
        waiter: Deferred[None] = Deferred()
        if self._stopping is not None:
            self._stopping.addBoth(_pass_on, waiter)
            return waiter
        self._stopping = Deferred().addBoth(_pass_on, waiter)
        self._on_state(State.STOPPING)
        parts: Deferred[Any] = maybeDeferred(super().stopService)
        stopped = self._unbind().addCallback(
            lambda _: self._factory.drain(self._factory.limits.grace)
        )
        stopped.addCallback(lambda _: parts)
        stopped.addCallback(lambda _: self._close()).addBoth(self._stopped)
        return waiter

    def _close(self) -> Deferred[None]:
        self._open, was_open = False, self._open
        return self._store.close() if was_open else succeed(None)

    def _stopped(self, outcome: Any) -> None:
        """SIGHUP is heard until the end: it would kill a node that still commits."""
        if self._hangup is not None:
            signal.signal(signal.SIGHUP, self._hangup)
            self._hangup = None
        self._on_state(State.STOPPED)
        assert self._stopping is not None
        stopping, self._stopping = self._stopping, None
        stopping.callback(outcome)

    def _bind(self, endpoint: IStreamServerEndpoint) -> None:
        """Listen, without taking connections while the store is not open."""
        failed: list[Failure] = []
        port: Deferred[Any] = endpoint.listen(self._factory)
        port.addErrback(failed.append)
        if failed:  # at once, as sockets of ours do
            failed[0].raiseException()
        port.addCallback(self._bound, failed)
        self._ports.append(port)

    def _bound(self, port: Any, failed: list[Failure]) -> Any:
        if failed and not failed[0].check(CancelledError):
            self._log.critical("{error}", error=failed[0].value)
        elif not self._open and hasattr(port, "stopReading"):
            port.stopReading()  # who connects waits; the ports of Twisted can do this
        return port

    def _bind_or_close(self) -> None:
        try:
            self.privilegedStartService()
        except NotStartedError:
            self._close()
            raise

    def _unbind(self) -> Deferred[Any]:
        ports, self._ports = self._ports, []
        for port in ports:
            port.cancel()  # where it does not listen yet
        return gatherResults([port.addCallback(_stop) for port in ports])

    def _hear_hangups(self) -> None:
        can = hasattr(signal, "SIGHUP") and current_thread() is main_thread()
        if self._renew is not None and can:
            self._hangup = signal.signal(signal.SIGHUP, self._hung_up)

    def _hung_up(self, *_: object) -> None:
        from twisted.internet import reactor  # late, for whoever imports it installs it

        anywhere: Any = reactor
        anywhere.callFromThread(self._renew_now)  # a signal comes at any time

    def _renew_now(self) -> None:
        if self._renew is None or not self.running:
            return
        self._on_state(State.RELOADING)
        renewed: Deferred[Any] = maybeDeferred(self._renew)
        renewed.addErrback(lambda why: self._log.failure("what SIGHUP renews stays as it was", why))
        renewed.addCallback(lambda _: self._on_state(State.READY) if self.running else None)


def _endpoint(endpoint: str | IStreamServerEndpoint) -> Any:
    if not isinstance(endpoint, str):
        return endpoint
    from twisted.internet import reactor  # late, for whoever imports it installs it

    return server_endpoint(endpoint, reactor)


def _take(port: Any) -> Any:
    if hasattr(port, "startReading"):
        port.startReading()
    return port


def _stop(port: Any) -> Any:
    return port.stopListening() if port is not None else None


def _pass_on(outcome: Any, waiter: Deferred[None]) -> None:
    waiter.callback(outcome)
