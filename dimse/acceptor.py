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
from dimse.performing import SCP, Peer
from dimse.ul.negotiation import Policy, SupportedContext, is_ae_title, negotiate, settle
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
        host = getattr(addr, "host", "")
        if (
            self._waiting.total() >= self.limits.connections
            or self._waiting[host] >= self.limits.connections_per_address
        ):
            self.log.warn("{host}: too many connections without association", host=host)
            return None
        connection = _Connection(self, addr, host)
        self._waiting[host] += 1
        self._connections.add(connection)
        connection.protocol.factory = self
        connection.protocol.closed.addCallback(lambda _: self._closed(connection))
        return connection.protocol

    def refusal(self, host: str) -> AssociateRJ | None:
        """Why no association from `host` can be taken now (PS3.8 9.3.4, source 3)."""
        if self._drained is not None:
            reason = _TEMPORARY_CONGESTION
        elif (
            self._associated.total() >= self.limits.associations
            or self._associated[host] >= self.limits.associations_per_address
        ):
            reason = _LOCAL_LIMIT_EXCEEDED
        else:
            return None
        return AssociateRJ(
            RejectResult.TRANSIENT, RejectSource.SERVICE_PROVIDER_PRESENTATION, reason
        )

    def established(self, host: str) -> None:
        """A connection from `host` became an association."""
        _leave(self._waiting, host)
        self._associated[host] += 1

    def drain(self, grace: float) -> Deferred[None]:
        """Take no more associations, and let the open ones end.

        Those that are left after `grace` seconds are aborted. Fires when all are gone.
        """
        if self._drained is None:
            self._drained = Deferred()
            self._deadline = self.clock.callLater(grace, self._abort_all)
            self._fire_when_empty()
        waiter: Deferred[None] = Deferred()
        self._drained.addCallback(lambda _: waiter.callback(None))
        return waiter

    def _abort_all(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    def _closed(self, connection: "_Connection") -> None:
        counter = self._waiting if connection.association is None else self._associated
        _leave(counter, connection.host)
        self._connections.discard(connection)
        self._fire_when_empty()

    def _fire_when_empty(self) -> None:
        if self._drained is not None and not self._connections and not self._drained.called:
            if self._deadline is not None and self._deadline.active():
                self._deadline.cancel()
            self._drained.callback(None)

    def _otherwise(self, abstract_syntax: str) -> SupportedContext | None:
        answers = (scp.otherwise(abstract_syntax) for scp in self.scps)
        return next((answer for answer in answers if answer is not None), None)


class _Connection:
    """One connection of the acceptor: it decides about the request and logs what becomes of it."""

    def __init__(self, factory: AcceptorFactory, address: IAddress | None, host: str) -> None:
        self.host = host
        self.association: Association | None = None
        self.protocol = UpperLayerProtocol(self, factory.limits, factory.clock)
        self._factory = factory
        self._address = address

    def abort(self) -> None:
        """End it, whatever state it is in."""
        if self.association is not None:
            self.association.abort()
        self.protocol.close_transport()

    # Establisher

    def associate_indication(self, request: AssociateRQ) -> None:
        """Accept or reject at once."""
        factory = self._factory
        peer = Peer.at(request.calling_ae_title, self._address)
        answer = factory.refusal(self.host) or negotiate(request, factory.policy)
        if isinstance(answer, AssociateRJ):
            error = AssociationRejectedError(answer.result, answer.source, answer.reason)
            factory.log.info("{peer}: {error}", peer=peer, error=error)
            self.protocol.reject(answer)
            return
        user = request.user_information
        assert user is not None  # else it was rejected
        self.association = Association(
            self.protocol,
            settle(request, answer, requestor=False),
            peer=peer,
            ae_title=request.called_ae_title,
            is_requestor=False,
            peer_maximum_length=user.maximum_length or 0,
            limits=factory.limits,
            clock=factory.clock,
            scps=factory.scps,
        )
        self.protocol.user = self.association
        factory.established(self.host)
        factory.log.info(
            "{peer}: association established, {accepted} of {proposed} contexts accepted",
            peer=peer,
            accepted=len(self.association.contexts),
            proposed=len(request.contexts),
        )
        self.association.when_ended().addCallback(self._ended, peer)
        self.protocol.accept(answer)

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

    @property
    def address(self) -> Any:
        """The address it listens on, as Twisted gives it."""
        return self._port.getHost()

    def stop(self, grace: float | None = None) -> Deferred[None]:
        """Stop listening, let associations end within `grace` seconds, abort the others.

        `grace` is `Limits.grace` unless given. Fires when nothing is open any more.
        """
        grace = self._factory.limits.grace if grace is None else grace
        stopped = maybeDeferred(self._port.stopListening)
        return stopped.addCallback(lambda _: self._factory.drain(grace))


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

    Fires with the `Listener`; fails with what Twisted's `listen` fails with.
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


def _leave(counter: Counter[str], host: str) -> None:
    counter[host] -= 1
    if not counter[host]:
        del counter[host]
