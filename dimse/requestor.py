"""The association requestor: `associate()` (PS3.8 7.1)."""

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, SupportsBytes

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IReactorTime,
    ISSLTransport,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from dimse.association import Association
from dimse.errors import (
    AbortReason,
    AbortSource,
    AssociationAbortedError,
    AssociationError,
    AssociationRejectedError,
    ConnectionLostError,
    MisuseError,
    TimedOutError,
    TLSError,
)
from dimse.events import Span, Subscriber
from dimse.implementation import CALLED_AE_TITLE, CALLING_AE_TITLE
from dimse.limits import Limits
from dimse.performing import SCP, Peer, escaped
from dimse.security.audit import NODE_AUTHENTICATION
from dimse.security.tls import ClientContext, ClientTLS
from dimse.security.trail import AuditTrail
from dimse.sop_classes import GET_SOP_CLASSES, SOP_CLASSES, STORAGE_SOP_CLASSES
from dimse.ul import tracing
from dimse.ul.identity import is_secret
from dimse.ul.items import RoleSelection, SOPClassCommonExtendedNegotiation, UserIdentityRQ
from dimse.ul.negotiation import IMPLICIT_VR_LITTLE_ENDIAN, propose
from dimse.ul.pdu import TLS_ALERT, AssociateAC, AssociateRJ, AssociateRQ
from dimse.ul.protocol import UpperLayerProtocol

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
VERIFICATION = "1.2.840.10008.1.1"

# For an abstract syntax without transfer syntaxes: what everybody reads (PS3.5 10).
DEFAULT_TRANSFER_SYNTAXES = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)

_STORAGE = frozenset(STORAGE_SOP_CLASSES)

ProposedContext = str | tuple[str, Sequence[str]]


class RequestorFactory(ClientFactory):
    """Makes the connection of one association; `established` fires with the `Association`.

    It fails with an `AssociationError`: rejected, aborted, lost, timed out. Cancelling it aborts.
    `audit` is told when TLS comes to nothing.
    """

    noisy = False

    def __init__(
        self,
        request: AssociateRQ,
        *,
        limits: Limits,
        clock: IReactorTime,
        scps: Iterable[SCP] = (),
        subscriber: Subscriber | None = None,
        audit: AuditTrail | None = None,
    ) -> None:
        self.established: Deferred[Association] = Deferred(lambda _: self._cancelled())
        self.called_ae_title = request.called_ae_title
        self._request = request
        self._limits = limits
        self._clock = clock
        self._scps = scps
        self._subscriber = subscriber
        self._audit = audit
        self._span: Span | None = None
        self._protocol: UpperLayerProtocol | None = None
        self._address: IAddress | None = None

    def buildProtocol(self, addr: IAddress | None) -> UpperLayerProtocol:
        """The requestor's side of the connection."""
        self._address = addr
        self._protocol = UpperLayerProtocol(self, self._limits, self._clock, self._request)
        self._protocol.factory = self
        events = self._protocol.events
        if self._subscriber is not None:
            events.subscribe(self._subscriber)
        if events:
            self._span = tracing.negotiation(events, self._clock, "scu", self._request)
        return self._protocol

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """There is no connection; an endpoint says so itself."""
        self.abort_indication(ConnectionLostError(f"no connection: {reason.getErrorMessage()}"))

    # Establisher

    def associate_indication(self, request: AssociateRQ) -> None:
        """Never called: a requestor gets no indication (PS3.8 Table 9-10, Sta2)."""

    def associate_confirmation(self, answer: AssociateAC | AssociateRJ) -> None:
        """The acceptor has answered."""
        if isinstance(answer, AssociateRJ):
            error = AssociationRejectedError(answer.result, answer.source, answer.reason)
            if self._protocol is not None:
                self._protocol.outcome = error
            self.abort_indication(error)
            return
        assert self._protocol is not None
        if self.established.called:  # cancelled, by somebody whose endpoint went on
            self._protocol.abort()
            return
        association = Association(
            self._protocol,
            self._request,
            answer,
            is_requestor=True,
            address=self._address,
            limits=self._limits,
            clock=self._clock,
            scps=self._scps,
        )
        self._protocol.user = association
        self._negotiated("accepted", len(association.contexts))
        self.established.callback(association)

    def abort_indication(self, error: AssociationError) -> None:
        """There is no association."""
        rejected = isinstance(error, AssociationRejectedError)
        self._negotiated("rejected" if rejected else "failed", 0)
        if not self.established.called:
            error.may_expect_tls = self._may_expect_tls(error)
            self._say_unauthenticated(error)
            self.established.errback(error)

    def _may_expect_tls(self, error: AssociationError) -> bool:
        """Whether it may be for want of TLS that there was no answer, or a strange one.

        Some send an alert to who does not speak TLS, others close the connection.
        """
        protocol = self._protocol
        if protocol is None or ISSLTransport.providedBy(protocol.transport):
            return False
        if isinstance(error, AssociationAbortedError):
            return error.why == TLS_ALERT
        return isinstance(error, ConnectionLostError) and not protocol.bytes_received

    def _say_unauthenticated(self, error: AssociationError) -> None:
        """Whoever is there, it is not known to be the peer (PS3.15 A.5.3.11)."""
        if self._audit is None or self._protocol is None:
            return
        # With TLS 1.3 it may refuse our certificate when the handshake is over for us.
        why = error.args[0] if isinstance(error, TLSError) else self._protocol.handshake.failure
        if why:
            peer = Peer.at(self.called_ae_title, self._address)
            self._audit.alert(NODE_AUTHENTICATION, peer, f"when we connected to it: {why}")

    def _negotiated(self, result: str, accepted: int) -> None:
        if self._span is not None:
            tracing.negotiated(self._span, result, accepted, len(self._request.contexts))

    def _cancelled(self) -> None:
        self._negotiated("failed", 0)
        if self._protocol is not None:
            self._protocol.outcome = AssociationAbortedError(
                AbortSource.SERVICE_USER,
                AbortReason.NOT_SPECIFIED,
                by_peer=False,
                why="associate() was cancelled",
            )
            self._protocol.abort()


class Associating(Deferred[Association]):
    """The Deferred of `associate()`: to be awaited, or entered with `async with`."""

    def __init__(self, coroutine: Coroutine[Deferred[Any], Any, Association]) -> None:
        attempt = Deferred.fromCoroutine(coroutine)
        super().__init__(lambda _: attempt.cancel())
        self._association: Association | None = None
        attempt.addCallbacks(self._associated, self._failed)

    # An endpoint may go on after it was cancelled; then this has failed already.

    def _associated(self, association: Association) -> None:
        if self.called:
            association.abort("it was cancelled")
        else:
            self.callback(association)

    def _failed(self, failure: Failure) -> None:
        if not self.called:
            self.errback(failure)

    async def __aenter__(self) -> Association:
        self._association = await self
        return self._association

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._association is not None
        await self._association.__aexit__(kind, error, traceback)


def associate(
    peer: str | IStreamClientEndpoint,
    contexts: Iterable[ProposedContext] = (VERIFICATION,),
    *,
    called_ae_title: str = CALLED_AE_TITLE,
    calling_ae_title: str = CALLING_AE_TITLE,
    limits: Limits | None = None,
    roles: Mapping[str, tuple[bool, bool]] | None = None,
    extended: Mapping[str, SupportsBytes] | None = None,
    common_extended: Iterable[SOPClassCommonExtendedNegotiation] = (),
    user_identity: UserIdentityRQ | None = None,
    allow_plain_identity: bool = False,
    scps: Iterable[SCP] = (),
    subscriber: Subscriber | None = None,
    tls: ClientTLS | ClientContext | None = None,
    audit: AuditTrail | None = None,
    reactor: Any = None,
) -> Associating:
    """Request an association (PS3.8 7.1, PS3.7 D.3).

    `peer` is `"host:port"`, or any client endpoint (a proxy, a UNIX socket). `contexts`
    are abstract syntaxes, or pairs of one and its transfer syntaxes; without those, explicit and
    implicit VR little endian are proposed. `limits` also holds the operations window to propose,
    `operations_invoked` and `operations_performed`.

    `roles` maps SOP classes to the (SCU, SCP) roles that we want to take; with a C-GET model
    among `contexts`, the SCP role is proposed for each storage SOP class, and each unknown one,
    that `roles` does not name. `extended` maps SOP classes to options of
    `dimse.services.extended`, or to raw bytes. A `user_identity` that is a secret, all but a
    user name, goes over TLS, over an endpoint of yours, which is yours to encrypt, or with
    `allow_plain_identity`. `scps` perform requests of the peer; `subscriber` gets the events of
    this association. With `tls` all is over TLS (PS3.15 B.12); through an endpoint its
    `server_name` says whom to expect, and `audit` is told when that comes to nothing.

    Fires with an `Association`, and can be entered: `async with associate(...) as association`
    releases it at the end, or aborts it for an exception. Fails with `AssociationRejectedError`,
    `AssociationAbortedError`, `ConnectionLostError`, `TLSError` or `TimedOutError`; raises
    `MisuseError` for arguments that cannot be proposed, or a file of `tls` that cannot be used.
    """
    if reactor is None:  # late, for whoever imports it installs it
        from twisted.internet import reactor
    limits = limits or Limits()
    proposals = [_with_transfer_syntaxes(context) for context in contexts]
    request = propose(
        proposals,
        called_ae_title=called_ae_title,
        calling_ae_title=calling_ae_title,
        maximum_length=limits.maximum_length,
        window=(limits.operations_invoked, limits.operations_performed),
        roles=_roles(proposals, roles or {}),
        extended={uid: bytes(options) for uid, options in (extended or {}).items()},
        common_extended=common_extended,
        user_identity=user_identity,
    )
    plain = isinstance(peer, str) and tls is None and not allow_plain_identity
    if plain and user_identity is not None and is_secret(user_identity):
        raise MisuseError(
            f"the user identity is a secret, and {peer} is plain TCP (allow_plain_identity)"
        )
    endpoint = _endpoint(peer, tls, limits, reactor)
    factory = RequestorFactory(
        request, limits=limits, clock=reactor, scps=scps, subscriber=subscriber, audit=audit
    )
    return Associating(_establish(peer, endpoint, factory, limits, reactor))


def _endpoint(
    peer: str | IStreamClientEndpoint,
    tls: ClientTLS | ClientContext | None,
    limits: Limits,
    reactor: Any,
) -> IStreamClientEndpoint:
    host: str | None = None
    endpoint: Any = peer
    if isinstance(peer, str):
        host, port = parse_address(peer)
        endpoint = HostnameEndpoint(reactor, host, port, timeout=limits.connect)
    if tls is not None:
        context = tls.load() if isinstance(tls, ClientTLS) else tls
        endpoint = context.secured(endpoint, host, reactor)
    return endpoint  # type: ignore[no-any-return]  # Twisted's HostnameEndpoint is untyped


def _roles(
    proposals: Sequence[tuple[str, Sequence[str]]], wanted: Mapping[str, tuple[bool, bool]]
) -> list[RoleSelection]:
    """The roles that are asked for, and those that C-GET needs (PS3.4 C.5.3)."""
    proposed = dict.fromkeys(uid for uid, _ in proposals)
    roles = dict(wanted)
    if not GET_SOP_CLASSES.isdisjoint(proposed):
        storage = (uid for uid in proposed if uid in _STORAGE or uid not in SOP_CLASSES)
        roles = dict.fromkeys(storage, (False, True)) | roles
    return [RoleSelection(uid, scu, scp) for uid, (scu, scp) in roles.items()]


async def _establish(
    peer: object,
    endpoint: IStreamClientEndpoint,
    factory: RequestorFactory,
    limits: Limits,
    clock: IReactorTime,
) -> Association:
    connecting = endpoint.connect(factory)
    connecting.addTimeout(limits.connect, clock, onTimeoutCancel=_connect_timed_out)
    try:
        await _connected(connecting, factory)
        return await factory.established
    except ConnectingCancelledError as error:
        raise CancelledError from error
    except AssociationError as error:
        error.peer = f"{escaped(factory.called_ae_title)}@{peer}"
        raise
    except (ConnectError, DNSLookupError, OSError, ValueError) as error:  # no host name: ValueError
        raise ConnectionLostError(f"no connection to {peer}: {error}") from error


async def _connected(connecting: Deferred[Any], factory: RequestorFactory) -> None:
    """Wait for the connection; an association that is or comes all the same has no user."""
    try:
        await connecting
    except BaseException:
        unwanted = factory.established.addCallbacks(lambda each: each.abort(), lambda _: None)
        unwanted.cancel()
        raise


def _connect_timed_out(_: object, seconds: float) -> None:
    raise TimedOutError("connect", seconds)


def _with_transfer_syntaxes(context: ProposedContext) -> tuple[str, Sequence[str]]:
    return (context, DEFAULT_TRANSFER_SYNTAXES) if isinstance(context, str) else context


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[IPv6 address]:port`; raises `MisuseError`."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
        raise MisuseError(f"{text!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)
