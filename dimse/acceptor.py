"""The association acceptor: its factory, and who may come in (PS3.8 7.1, 9.1)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from dimse.admission import Admission, Admit, Requesting, Share
from dimse.association import Association
from dimse.budget import Budget
from dimse.draining import FAREWELL, Drain
from dimse.errors import (
    AssociationError,
    AssociationRejectedError,
    MisuseError,
    RejectResult,
    RejectSource,
    TimedOutError,
)
from dimse.events import Span
from dimse.limits import Limits
from dimse.performing import SCP, Peer, escaped
from dimse.security.addresses import counted_as
from dimse.security.audit import NODE_AUTHENTICATION
from dimse.security.trail import AuditTrail
from dimse.ul import tcp, tracing
from dimse.ul.explanation import omissions
from dimse.ul.negotiation import Policy, SupportedContext, is_ae_title, negotiate
from dimse.ul.pdu import AssociateAC, AssociateRJ, AssociateRQ
from dimse.ul.protocol import UpperLayerProtocol
from dimse.ul.turns import Turns

_TEMPORARY_CONGESTION, _LOCAL_LIMIT_EXCEEDED = 1, 2  # PS3.8 9.3.4, source 3
_CONGESTION = AssociateRJ(
    RejectResult.TRANSIENT, RejectSource.SERVICE_PROVIDER_PRESENTATION, _TEMPORARY_CONGESTION
)


class AcceptorFactory(ServerFactory):
    """Accepts associations for a set of SCPs.

    `ae_titles` are the called AE titles it answers to; any if there is none. `admit` is asked
    about each requestor, and may take its time: it returns an `Admission` or None, or a Deferred
    or coroutine of one, and raises `AssociationRejectedError` to reject. A connection
    counts against `Limits.connections` until it is an association, then against
    `Limits.associations`; what is above is not accepted, or rejected as transient. `audit` is told
    who was kept out, by TLS too.
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
        admit: Admit | None = None,
        audit: AuditTrail | None = None,
    ) -> None:
        titles = frozenset(title.strip() for title in ae_titles)
        for title in titles:
            if not is_ae_title(title):
                raise MisuseError(f"{title!r} is no AE title of 1 to 16 characters (PS3.5 6.2)")
        self.limits = limits
        self.budget = Budget(limits.kept_length)
        self.clock = clock
        self.turns = Turns(clock)
        self.scps = tuple(scps)
        self.admit = admit
        self.audit = audit
        self._titles = titles or None
        self._policy = self._policy_of(self.scps, limits)
        self._connections: dict[_Connection, None] = {}  # in their order
        self._waiting: Counter[str] = Counter()  # those without association, by address
        self._associated: Counter[str] = Counter()  # those with one, by address
        self._shares: Counter[str] = Counter()  # those with one, by the name of their share
        self._drain: Drain | None = None

    def startFactory(self) -> None:
        """A port listens: take associations, again if it is after a `drain` that has ended."""
        if self._drain is not None and self._drain.is_over:
            self._drain = None

    def buildProtocol(self, addr: IAddress | None) -> UpperLayerProtocol | None:
        """The acceptor's side of a connection; None closes it at once."""
        host = _counted(addr)
        most = self.limits.connections_per_address
        if (host and self._waiting[host] >= most) or not self._has_room(host):
            who = _host(addr)
            self.log.warn("{host}: too many connections without association", host=who)
            return None
        connection = _Connection(self, host)
        self._waiting[host] += 1
        self._connections[connection] = None
        connection.protocol.factory = self
        connection.protocol.when_closed().addCallback(lambda _: self._closed(connection))
        return connection.protocol

    def _has_room(self, host: str) -> bool:
        """Whether one more may wait to ask for an association.

        When all places are taken, who has waited longest from the address that has most of them
        gives his to a newcomer whose address has fewer: no crowd keeps the others out.
        """
        if self._waiting.total() < self.limits.connections:
            return True
        [(crowd, waiting)] = self._waiting.most_common(1)
        if waiting <= self._waiting[host] + 1:
            return False
        for connection in self._connections:
            if connection.association is None and connection.host == crowd:
                break
        self._forget(connection)  # now, for its end may come later
        connection.give_way()
        return True

    def refusal(self, host: str, share: Share | None = None) -> AssociateRJ | None:
        """Why none from `host`, as limits count it, can be taken now (PS3.8 9.3.4, source 3)."""
        if self._drain is not None:
            reason, why = _TEMPORARY_CONGESTION, ""
        elif self._associated.total() >= self.limits.associations or (
            host and self._associated[host] >= self.limits.associations_per_address
        ):
            reason, why = _LOCAL_LIMIT_EXCEEDED, ""
        elif share and self._shares[share.name] >= share.associations:
            reason, why = _LOCAL_LIMIT_EXCEEDED, "its associations are used up"
        else:
            return None
        return AssociateRJ(
            RejectResult.TRANSIENT, RejectSource.SERVICE_PROVIDER_PRESENTATION, reason, why
        )

    def established(self, waited_as: str, host: str, share: Share | None) -> None:
        """A connection that was counted for one host became an association of another.

        They differ behind a proxy that says for whom it speaks.
        """
        _leave(self._waiting, waited_as)
        self._associated[host] += 1
        if share is not None:
            self._shares[share.name] += 1

    def drain(self, grace: float) -> Deferred[None]:
        """Take no more associations, and let the open ones end.

        Who has connected has a moment to ask for one, and is rejected as transient. Those that
        are left after `grace` seconds are aborted, and gone half a second later; another call can
        set a new time. Fires when all are gone.
        """
        if self._drain is None:
            self._drain = Drain(self.clock, self._close_unassociated, self._abort_all)
            self.log.info("stopping: {count} connections are open", count=len(self._connections))
        over = self._drain.when_over()
        if not self._drain.is_over:
            self._drain.within(grace)
            for connection in list(self._connections):
                connection.end_admission()
            self._end_when_empty()
        return over

    def _close_unassociated(self) -> None:
        for connection in list(self._connections):
            if connection.association is None:
                connection.protocol.close_transport()

    def _abort_all(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    def _closed(self, connection: "_Connection") -> None:
        if connection in self._connections:
            self._forget(connection)
        if self.audit is not None and (why := connection.protocol.handshake.failure):
            nobody = Peer.at("", connection.protocol.transport.getPeer())
            self.audit.alert(NODE_AUTHENTICATION, nobody, why)
        self._end_when_empty()

    def _forget(self, connection: "_Connection") -> None:
        counter = self._waiting if connection.association is None else self._associated
        _leave(counter, connection.host)
        if connection.share is not None:
            _leave(self._shares, connection.share.name)
        del self._connections[connection]

    def _end_when_empty(self) -> None:
        if self._drain is not None and not self._connections and not self._drain.is_over:
            self._drain.end()

    def policy(self, admission: Admission) -> Policy:
        """What is negotiated with a requestor that was admitted so."""
        if admission.scps is None and admission.limits is None:
            return self._policy
        scps = self.scps if admission.scps is None else admission.scps
        return self._policy_of(scps, admission.limits or self.limits)

    def _policy_of(self, scps: Sequence[SCP], limits: Limits) -> Policy:
        def otherwise(abstract_syntax: str) -> SupportedContext | None:
            answers = (scp.otherwise(abstract_syntax) for scp in scps)
            return next((answer for answer in answers if answer is not None), None)

        return Policy(
            contexts=_composed(scps),
            maximum_length=limits.maximum_length,
            ae_titles=self._titles,
            otherwise=otherwise,
            maximum_transfer_syntaxes=limits.transfer_syntaxes,
            window=(limits.operations_performed, limits.operations_invoked),
        )


class _Connection:
    """One connection of the acceptor: it decides about the request and logs what becomes of it."""

    def __init__(self, factory: AcceptorFactory, host: str) -> None:
        self.host = host
        self.association: Association | None = None
        self.share: Share | None = None
        self.protocol = UpperLayerProtocol(self, factory.limits, factory.clock, turns=factory.turns)
        self._factory = factory
        self._admitting: Deferred[Any] | None = None
        self._asked: tuple[AssociateRQ, Peer] | None = None
        self._span: Span | None = None
        self._proposed = 0  # contexts

    def abort(self) -> None:
        """End it, whatever state it is in."""
        if self.association is not None:
            self.association.abort("the server stops")
        self.protocol.close_transport(FAREWELL)

    def give_way(self) -> None:
        """End it at once; the factory knows nothing of it any more, whatever `admit` says."""
        self._drop_admission()
        self.protocol.transport.abortConnection()

    def end_admission(self) -> None:
        """Reject what `admit` has not decided yet, whatever it makes of its cancellation."""
        if self._admitting is not None:
            assert self._asked is not None
            self._reject(_CONGESTION, *self._asked)
            self._drop_admission()

    def _drop_admission(self) -> None:
        """Nobody needs to decide any more."""
        admitting, self._admitting = self._admitting, None
        if admitting is not None:
            admitting.cancel()

    # Establisher

    def associate_indication(self, request: AssociateRQ) -> None:
        """Accept or reject, at once unless `admit` takes its time."""
        factory, protocol = self._factory, self.protocol
        self._proposed = len(request.contexts)
        if protocol.events:
            self._span = tracing.negotiation(protocol.events, factory.clock, "scp", request)
        peer = Peer.at(request.calling_ae_title, protocol.transport.getPeer())
        if factory.admit is None or factory.refusal(self.host) is not None:
            self._decide(Admission(), request, peer)
            return
        encrypted, certificate = tcp.security_of(protocol.transport)
        host = _host(protocol.transport.getPeer())
        requesting = Requesting(peer, request, host, encrypted, certificate)
        admitting: Deferred[Any] = maybeDeferred(factory.admit, requesting)
        self._admitting = admitting
        self._asked = request, peer
        protocol.expect_answer(lambda: self._too_slow(peer))
        admitting.addCallbacks(self._admitted, self._refused, (request, peer), {}, (request, peer))
        admitting.addErrback(self._failed, request, peer)

    def _too_slow(self, peer: Peer) -> None:
        error = TimedOutError("associate", self._factory.limits.associate)
        self._factory.log.warn("{peer}: whether to admit it: {error}", peer=peer, error=error)
        self.end_admission()

    def _admitted(self, admission: Admission | None, request: AssociateRQ, peer: Peer) -> None:
        if self._admitting is not None:  # else the peer has gone, and the verdict is dropped
            self._admitting = None
            self._decide(admission or Admission(), request, peer)

    def _decide(self, admission: Admission, request: AssociateRQ, peer: Peer) -> None:
        factory, address = self._factory, self.protocol.transport.getPeer()
        host = _counted(address)
        answer = self._answer(request, host, admission)
        if isinstance(answer, AssociateRJ):
            self._reject(answer, request, peer)
            return
        if admission.limits is not None:
            self.protocol.live_by(admission.limits)
        self.association = Association(
            self.protocol,
            request,
            answer,
            is_requestor=False,
            address=address,
            limits=admission.limits or factory.limits,
            clock=factory.clock,
            scps=factory.scps if admission.scps is None else admission.scps,
            budget=factory.budget,
            user=admission.user,
        )
        self.protocol.user = self.association
        factory.established(self.host, host, admission.share)
        self.host, self.share = host, admission.share
        self._negotiated("accepted", len(self.association.contexts))
        self._say_established(request, self.association, factory.policy(admission))
        self.association.when_ended().addCallback(self._ended, peer)
        self.protocol.accept(answer)

    def _refused(self, failure: Failure, request: AssociateRQ, peer: Peer) -> None:
        """`admit` does not want it, is broken, or what it says comes too late."""
        if self._admitting is None:
            return
        self._admitting = None
        error = failure.value
        if isinstance(error, AssociationRejectedError):
            answer = AssociateRJ(error.result, error.source, error.reason, error.why or "")
            self._reject(answer, request, peer, say=error.why is not None)
        else:
            self._failed(failure, request, peer)

    def _failed(self, failure: Failure, request: AssociateRQ, peer: Peer) -> None:
        self._factory.log.failure("{peer}: whether to admit it is not known", failure, peer=peer)
        if self.association is not None:
            self.association.abort("its answer could not be sent")
        else:
            self._reject(_CONGESTION, request, peer)

    def _reject(
        self, answer: AssociateRJ, request: AssociateRQ, peer: Peer, *, say: bool = True
    ) -> None:
        error = AssociationRejectedError(answer.result, answer.source, answer.reason)
        if say:
            self._factory.log.warn(
                "{peer} called {called}: {error}{why}",
                peer=peer,
                called=escaped(request.called_ae_title),
                error=error,
                why=f": {answer.why}" if answer.why else "",
            )
        if self._factory.audit is not None:
            self._factory.audit.rejected(peer, request.called_ae_title, error)
        self._negotiated("rejected", 0)
        self.protocol.reject(answer)

    def _negotiated(self, result: str, accepted: int) -> None:
        if self._span is not None:
            tracing.negotiated(self._span, result, accepted, self._proposed)

    def _say_established(
        self, request: AssociateRQ, association: Association, policy: Policy
    ) -> None:
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
        for line in omissions(request, association.answer_pdu, policy.contexts):
            log.warn("{peer}: {line}", peer=association.peer, line=line)

    def _answer(
        self, request: AssociateRQ, host: str, admission: Admission
    ) -> AssociateAC | AssociateRJ:
        factory = self._factory
        try:
            return factory.refusal(host, admission.share) or negotiate(
                request, factory.policy(admission), admission.identity_response
            )
        except Exception:  # noqa: BLE001  an SCP is asked for what it supports
            factory.log.failure("an SCP failed in the negotiation")
            return _CONGESTION

    def associate_confirmation(self, answer: AssociateAC | AssociateRJ) -> None:
        """Never called: an acceptor gets no confirmation (PS3.8 Table 9-10, Sta5)."""

    def abort_indication(self, error: AssociationError) -> None:
        """The peer went before it got an answer."""
        self._negotiated("failed", 0)
        self._drop_admission()

    def _ended(self, reason: AssociationError, peer: Peer) -> None:
        assert self.association is not None
        performed = str(self.association.performed)
        self._factory.log.info(
            "{peer}: {reason}; {performed}{received} bytes received, {sent} sent",
            peer=peer,
            reason=reason.args[0],  # without the peer, once more
            performed=f"{performed}; " if performed else "",
            received=self.protocol.bytes_received,
            sent=self.protocol.bytes_sent,
        )


def _composed(scps: Iterable[SCP]) -> dict[str, SupportedContext]:
    """The contexts of all SCPs, joined where several list an abstract syntax."""
    contexts: dict[str, SupportedContext] = {}
    for scp in scps:
        for abstract_syntax, supported in scp.contexts.items():
            before = contexts.get(abstract_syntax)
            contexts[abstract_syntax] = before.joined(supported) if before else supported
    return contexts


def _host(address: object) -> str:
    """The host of an address; a UNIX socket has none."""
    return getattr(address, "host", None) or ""


def _counted(address: object) -> str:
    """What limits count as one host; a UNIX socket is none, and only the totals bound it."""
    return counted_as(_host(address))


def _leave(counter: Counter[str], host: str) -> None:
    counter[host] -= 1
    if not counter[host]:
        del counter[host]
