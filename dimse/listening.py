"""Listening for associations: `listen()`, with TLS or without (PS3.8 7.1, 9.1.4)."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint

from dimse.acceptor import AcceptorFactory
from dimse.admission import Admit
from dimse.errors import MisuseError
from dimse.limits import Limits
from dimse.performing import SCP
from dimse.security.tls import ServerContext, ServerTLS
from dimse.security.trail import AuditTrail

# Connections that wait in the kernel until they are accepted. Twisted's 50 are full in a moment of
# a flood; then whoever connects waits for TCP to try again, a second at first.
BACKLOG = 1024

_TCP = re.compile(r"(?:haproxy:)?tcp6?:(?!.*backlog=)")


class Listener:
    """A listening port and its associations; `address` is where it listens."""

    def __init__(
        self,
        port: IListeningPort,
        factory: AcceptorFactory,
        context: ServerContext | None = None,
    ) -> None:
        self._port = port
        self._factory = factory
        self._stopped = False
        self._grace = factory.limits.grace
        self._context = context

    @property
    def address(self) -> Any:
        """The address it listens on, as Twisted gives it."""
        return self._port.getHost()

    def reload_tls(self) -> None:
        """Read the files of `ServerTLS` again, for the connections that come from now on.

        Raises `MisuseError` when something is wrong with them; then all stays as it was.
        """
        if self._context is None:
            raise MisuseError("what listens without TLS has no certificates to read")
        self._context.reload()

    def stop(self, grace: float | None = None) -> Deferred[None]:
        """Stop listening, let associations end within `grace` seconds, abort the others.

        `grace` is `Limits.grace` unless given; calling again can shorten it. Fires when nothing
        is open any more.
        """
        self._grace = self._factory.limits.grace if grace is None else grace
        if not self._stopped:  # another call may come before the port is closed
            self._stopped = True
            stopped = maybeDeferred(self._port.stopListening)
            return stopped.addCallback(lambda _: self._factory.drain(self._grace))
        return self._factory.drain(self._grace)


def server_endpoint(description: str, reactor: Any) -> IStreamServerEndpoint:
    """The server endpoint of a string; one of TCP without a backlog of its own has `BACKLOG`."""
    if _TCP.match(description):
        description += f":backlog={BACKLOG}"
    endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    return endpoint


def listen(
    endpoint: str | IStreamServerEndpoint,
    scps: Sequence[SCP],
    *,
    ae_titles: Iterable[str] = (),
    limits: Limits | None = None,
    admit: Admit | None = None,
    audit: AuditTrail | None = None,
    tls: ServerTLS | ServerContext | None = None,
    reactor: Any = None,
) -> Deferred[Listener]:
    """Accept associations (PS3.8 7.1).

    `endpoint` is a server endpoint or its string, such as `tcp:11112` or
    `tcp:11112:interface=127.0.0.1`. `scps` say what is supported and perform it. `ae_titles` are
    the called AE titles to answer to, any if there is none. `admit` decides about each
    requestor, and `audit` is told who was kept out, as `AcceptorFactory` says. With `tls` all is
    over TLS (PS3.15 B.12), and nothing else is heard there; its port is 2762 as a rule.

    Fires with the `Listener`; fails with what the `listen` of the endpoint fails with. Raises
    `MisuseError` for a wrong AE title or a file of `tls` that cannot be used, and `ValueError` for
    a wrong endpoint string.
    """
    if reactor is None:  # late, for whoever imports it installs it
        from twisted.internet import reactor
    factory = AcceptorFactory(
        scps,
        ae_titles=ae_titles,
        limits=limits or Limits(),
        clock=reactor,
        admit=admit,
        audit=audit,
    )
    context = tls.load() if isinstance(tls, ServerTLS) else tls
    server: Any = server_endpoint(endpoint, reactor) if isinstance(endpoint, str) else endpoint
    if context is not None:
        server = context.secured(server, reactor)
    listening: Deferred[IListeningPort] = server.listen(factory)
    return listening.addCallback(Listener, factory, context)
