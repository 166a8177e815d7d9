"""The association acceptor: `listen()`, its factory, and who may come in (PS3.8 7.1, 9.1)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from dimse.association import Association
from dimse.errors import (
    AssociationError,
    AssociationRejectedError,
    MisuseError,
    RejectResult,
    RejectSource,
)
from dimse.limits import Limits
from dimse.performing import SCP, Peer, escaped
from dimse.ul.negotiation import Policy, SupportedContext, is_ae_title, negotiate
from dimse.ul.pdu import AssociateAC, AssociateRJ, AssociateRQ
from dimse.ul.protocol import UpperLayerProtocol

_TEMPORARY_CONGESTION, _LOCAL_LIMIT_EXCEEDED = 1, 2  # PS3.8 9.3.4, source 3


class AcceptorFactory(ServerFactory):
    """Accepts associations for a set of SCPs.

    `ae_titles` are the called AE titles it answers to; any if there is none. A connection
    counts against `Limits.connections` until it is an association, then against
    `Limits.associations`; what is above is not accepted, or rejected as transient.
    """

    noisy = False
    log = Logger()

    def __init__(
        self,
        scps: Sequence[SCP],
        *,
        ae_titles: Iterable[str] = (),
        limits: Limits,
        clock: IReactorTime,
    ) -> None:
        titles = frozenset(title.strip() for title in ae_titles)
        for title in titles:
            if not is_ae_title(title):
                raise MisuseError(f"{title!r} is no AE title of 1 to 16 characters (PS3.5 6.2)")
        self.limits = limits
        self.clock = clock
        self.scps = tuple(scps)
        self.policy = Policy(
            contexts=_composed(self.scps),
            maximum_length=limits.maximum_length,
            ae_titles=titles or None,
            otherwise=self._otherwise,
            maximum_transfer_syntaxes=limits.transfer_syntaxes,
        )
        self._connections: set[_Connection] = set()
        self._waiting: Counter[str] = Counter()  # those without association, by address
        self._associated: Counter[str] = Counter()  # those with one, by address
        self._drained: Deferred[None] | None = None
        self._deadline: IDelayedCall | None = None

    def buildProtocol(self, addr: IAddress | None) -> UpperLayerProtocol | None:
        """The acceptor's side of a connection; None closes it at once."""
        host = _host(addr)
        if self._waiting.total() >= self.limits.connections or (
            host and self._waiting[host] >= self.limits.connections_per_address
        ):
            self.log.warn("{host}: too many connections without association", host=host)
            return None
        connection = _Connection(self, host)
        self._waiting[host] += 1
        self._connections.add(connection)
        connection.protocol.factory = self
        connection.protocol.when_closed().addCallback(lambda _: self._closed(connection))
        return connection.protocol

    def refusal(self, host: str) -> AssociateRJ | None:
        """Why no association from `host` can be taken now (PS3.8 9.3.4, source 3)."""
        if self._drained is not None:
            reason = _TEMPORARY_CONGESTION
        elif self._associated.total() >= self.limits.associations or (
            host and self._associated[host] >= self.limits.associations_per_address
        ):
            reason = _LOCAL_LIMIT_EXCEEDED
        else:
            return None
        return AssociateRJ(
            RejectResult.TRANSIENT, RejectSource.SERVICE_PROVIDER_PRESENTATION, reason
        )

    def established(self, waited_as: str, host: str) -> None:
        """A connection that was counted for one host became an association of `host`.

        They differ behind a proxy that says for whom it speaks.
        """
        _leave(self._waiting, waited_as)
        self._associated[host] += 1

    def drain(self, grace: float) -> Deferred[None]:
        """Take no more associations, and let the open ones end.

        Those that are left after `grace` seconds are aborted; another call can set a new time.
        Fires when all are gone.
        """
        if self._drained is None:
            self._drained = Deferred()
            self.log.info("stopping: {count} connections are open", count=len(self._connections))
        if not self._drained.called:
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = self.clock.callLater(grace, self._abort_all)
            for connection in list(self._connections):
                connection.end_unless_associated()
            self._fire_when_empty()
        waiter: Deferred[None] = Deferred()
        self._drained.addCallback(lambda _: waiter.callback(None))
        return waiter

    def _abort_all(self) -> None:
        self._deadline = None
        for connection in list(self._connections):
            connection.abort()

    def _closed(self, connection: "_Connection") -> None:
        counter = self._waiting if connection.association is None else self._associated
        _leave(counter, connection.host)
        self._connections.discard(connection)
        self._fire_when_empty()

    def _fire_when_empty(self) -> None:
        if self._drained is not None and not self._connections and not self._drained.called:
            if self._deadline is not None:
                self._deadline.cancel()
            self._drained.callback(None)

    def _otherwise(self, abstract_syntax: str) -> SupportedContext | None:
        answers = (scp.otherwise(abstract_syntax) for scp in self.scps)
        return next((answer for answer in answers if answer is not None), None)


class _Connection:
    """One connection of the acceptor: it decides about the request and logs what becomes of it."""

    def __init__(self, factory: AcceptorFactory, host: str) -> None:
        self.host = host
        self.association: Association | None = None
        self.protocol = UpperLayerProtocol(self, factory.limits, factory.clock)
        self._factory = factory

    def abort(self) -> None:
        """End it, whatever state it is in."""
        if self.association is not None:
            self.association.abort("the server stops")
        self.protocol.close_transport()

    def end_unless_associated(self) -> None:
        """Let it not wait for a request that would be refused."""
        if self.association is None:
            self.protocol.close_transport()

    # Establisher

    def associate_indication(self, request: AssociateRQ) -> None:
        """Accept or reject at once."""
        factory = self._factory
        address = self.protocol.transport.getPeer()
        peer = Peer.at(request.calling_ae_title, address)
        answer = self._answer(request, _host(address))
        if isinstance(answer, AssociateRJ):
            factory.log.warn(
                "{peer} called {called}: {error}{why}",
                peer=peer,
                called=escaped(request.called_ae_title),
                error=AssociationRejectedError(answer.result, answer.source, answer.reason),
                why=f": {answer.why}" if answer.why else "",
            )
            self.protocol.reject(answer)
            return
        self.association = Association(
            self.protocol,
            request,
            answer,
            is_requestor=False,
            address=address,
            limits=factory.limits,
            clock=factory.clock,
            scps=factory.scps,
        )
        self.protocol.user = self.association
        factory.established(self.host, _host(address))
        self.host = _host(address)
        self._say_established(request, self.association)
        self.association.when_ended().addCallback(self._ended, peer)
        self.protocol.accept(answer)

    def _say_established(self, request: AssociateRQ, association: Association) -> None:
        log = self._factory.log
        log.info(
            "{peer} called {called}: association established, "
            "{accepted} of {proposed} contexts accepted",
            peer=association.peer,
            called=escaped(request.called_ae_title),
            accepted=len(association.contexts),
            proposed=len(request.contexts),
        )
        for refused in association.refused:
            log.info(
                "{peer}: refused {refused}", peer=association.peer, refused=escaped(str(refused))
            )

    def _answer(self, request: AssociateRQ, host: str) -> AssociateAC | AssociateRJ:
        try:
            return self._factory.refusal(host) or negotiate(request, self._factory.policy)
        except Exception:  # noqa: BLE001  an SCP is asked for what it supports
            self._factory.log.failure("an SCP failed in the negotiation")
            return AssociateRJ(
                RejectResult.TRANSIENT,
                RejectSource.SERVICE_PROVIDER_PRESENTATION,
                _TEMPORARY_CONGESTION,
            )

    def associate_confirmation(self, answer: AssociateAC | AssociateRJ) -> None:
        """Never called: an acceptor gets no confirmation (PS3.8 Table 9-10, Sta5)."""

    def abort_indication(self, error: AssociationError) -> None:
        """The peer went before it got an answer; there is nothing to undo."""

    def _ended(self, reason: AssociationError, peer: Peer) -> None:
        self._factory.log.info(
            "{peer}: {reason}; {received} bytes received, {sent} sent",
            peer=peer,
            reason=reason,
            received=self.protocol.bytes_received,
            sent=self.protocol.bytes_sent,
        )


class Listener:
    """A listening port and its associations; `address` is where it listens."""

    def __init__(self, port: IListeningPort, factory: AcceptorFactory) -> None:
        self._port = port
        self._factory = factory
        self._stopped = False

    @property
    def address(self) -> Any:
        """The address it listens on, as Twisted gives it."""
        return self._port.getHost()

    def stop(self, grace: float | None = None) -> Deferred[None]:
        """Stop listening, let associations end within `grace` seconds, abort the others.

        `grace` is `Limits.grace` unless given; calling again can shorten it. Fires when nothing
        is open any more.
        """
        seconds = self._factory.limits.grace if grace is None else grace
        if not self._stopped:
            self._stopped = True
            stopped = maybeDeferred(self._port.stopListening)
            return stopped.addCallback(lambda _: self._factory.drain(seconds))
        return self._factory.drain(seconds)


def listen(
    endpoint: str | IStreamServerEndpoint,
    scps: Sequence[SCP],
    *,
    ae_titles: Iterable[str] = (),
    limits: Limits | None = None,
    reactor: Any = None,
) -> Deferred[Listener]:
    """Accept associations (PS3.8 7.1).

    `endpoint` is a server endpoint or its string, such as `tcp:11112` or
    `tcp:11112:interface=127.0.0.1`. `scps` say what is supported and perform it. `ae_titles` are
    the called AE titles to answer to, any if there is none.

    Fires with the `Listener`; fails with what the `listen` of the endpoint fails with. Raises
    `MisuseError` for a wrong AE title and `ValueError` for a wrong endpoint string.
    """
    if reactor is None:  # late, for whoever imports it installs it
        from twisted.internet import reactor
    factory = AcceptorFactory(scps, ae_titles=ae_titles, limits=limits or Limits(), clock=reactor)
    server: Any = serverFromString(reactor, endpoint) if isinstance(endpoint, str) else endpoint
    listening: Deferred[IListeningPort] = server.listen(factory)
    return listening.addCallback(Listener, factory)


def _composed(scps: Iterable[SCP]) -> dict[str, SupportedContext]:
    """The contexts of all SCPs; the first that lists an abstract syntax has it."""
    contexts: dict[str, SupportedContext] = {}
    for scp in scps:
        for abstract_syntax, supported in scp.contexts.items():
            contexts.setdefault(abstract_syntax, supported)
    return contexts


def _host(address: object) -> str:
    """The host that limits count; a UNIX socket has none, and only the totals bound it."""
    return getattr(address, "host", None) or ""


def _leave(counter: Counter[str], host: str) -> None:
    counter[host] -= 1
    if not counter[host]:
        del counter[host]
