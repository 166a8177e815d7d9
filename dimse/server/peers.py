"""The peers that a node knows: what each may ask of it, and where a C-MOVE sends to."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from shlex import quote
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dimse.admission import Admission, Requesting, Share
from dimse.errors import AssociationRejectedError, RejectResult, RejectSource
from dimse.limits import Limits
from dimse.performing import SCP, escaped
from dimse.security.access import (
    LOOPBACK,
    UNIFORM,
    UNLISTED,
    Access,
    KnownPeer,
    Peers,
    Requestor,
    Verdict,
)
from dimse.security.addresses import counted_as
from dimse.security.certificate_names import names_of
from dimse.security.identity import IVerifiedUser
from dimse.security.quotas import Meter, Refusals, take
from dimse.security.tls import ClientContext
from dimse.server.names import Names
from dimse.server.permitted import Permitted, is_restricted
from dimse.services.retrieving import Destination
from dimse.ul.negotiation import SupportedContext

DELAY = 1.0
"""Seconds until a refusal that tells nothing: as long for each, whatever was wrong."""

_LOCAL_LIMIT_EXCEEDED = 2  # PS3.8 9.3.4, source 3


def _of(scp: SCP, uid: str) -> SupportedContext | None:
    return scp.contexts.get(uid) or scp.otherwise(uid)


def _remedies(key: str, peer: KnownPeer, who: Requestor) -> Iterator[str]:
    """How it is let in, where it was the `key` of the configuration that kept it out."""
    title, host = escaped(who.ae_title), who.host or LOOPBACK
    place = f"[{host}]" if ":" in host else host
    option = f"--peer {quote(f'{title}={place}')}"
    if key == "node.unlisted":
        yield f"{option} lets it in, --allow-any everybody"
    elif key == "peers.addresses":  # which an option does not change
        yield f'if it is {title} all the same, "{host}" among the addresses of that peer lets it in'
    elif key == "peers.host":
        both = f'addresses = ["{peer.host}", "{host}"] of that peer lets it come from both'
        yield f"if it is {title} all the same, {option} moves it there, {both}"


class PeerBook:
    """The peers by AE title, as they are now; `renew` takes others.

    `limits` are those of everybody, which the operations window of a peer changes. `unlisted`, a
    key of `UNLISTED`, is what all others may do, and `ae_titles` are the called AE titles, as in
    `Access`. With `uniform` refusals nobody learns which title was wrong. `names` resolves the
    hosts that peers are bound to, `tls` is how peers are reached that need it, and `clock` counts
    what they have had.
    """

    log = Logger()

    def __init__(
        self,
        peers: Peers,
        limits: Limits,
        unlisted: str | None = None,
        tls: Callable[[], ClientContext] | None = None,
        *,
        clock: Any,
        ae_titles: Collection[str] = (),
        uniform: bool = False,
        names: Names | None = None,
    ) -> None:
        self._tls = tls
        self._access = Access(ae_titles=ae_titles, unlisted=unlisted, peers=peers)
        self._limits = limits
        self._clock = clock
        self._uniform = uniform
        self.names = names or Names(clock)
        self._refusals = Refusals()
        self._meters: dict[str, Meter] = {}
        self._watch()

    @property
    def _peers(self) -> Peers:
        return self._access.peers

    def tell(self) -> None:
        """Say in the log who is served, as a warning where it is everybody."""
        rule = self._access.for_unlisted
        (self.log.warn if rule == "all" else self.log.info)(
            "{count} peers are listed; those that are not may do: {what} (node.unlisted is {rule})",
            count=len(self._peers),
            what=UNLISTED[rule],
            rule=rule,
        )

    def renew(self, peers: Peers) -> None:
        """Go by these from now on; associations that are open go on as they are."""
        self._access = replace(self._access, peers=peers)
        self._meters = {title: each for title, each in self._meters.items() if title in peers}
        self._watch()
        self.log.info("{count} peers are known now", count=len(peers))

    def _watch(self) -> None:
        self.names.watch(name for peer in self._peers.values() for name in peer.names)

    def admission(
        self, scps: Sequence[SCP], requesting: Requesting, user: IVerifiedUser | None = None
    ) -> "Admission | Deferred[Any] | None":
        """What a requestor gets of `scps`, whose `user` was verified; None is as everybody.

        Raises, or fires with, `AssociationRejectedError` for one that is not taken; the log tells
        once in ten minutes of each address and title why, and how it is let in, if not of many.
        """
        peer = self._peers.get(requesting.peer.ae_title)
        waiting = self.names.known(peer.names) if peer is not None else None
        if waiting is not None:
            decided: Deferred[Any] = waiting.addCallback(
                lambda _: self._decided(scps, requesting, user)
            )
            return decided
        return self._decided(scps, requesting, user)

    def _decided(
        self, scps: Sequence[SCP], requesting: Requesting, user: IVerifiedUser | None
    ) -> "Admission | Deferred[Any] | None":
        certificate = requesting.certificate
        who = Requestor(
            ae_title=requesting.peer.ae_title,
            called_ae_title=requesting.request.called_ae_title,
            host=requesting.host,
            encrypted=requesting.encrypted,
            certificate_names=names_of(certificate) if certificate is not None else frozenset(),
            user=user.name if user is not None else None,
        )
        verdict = self._access.decide(who, self.names.addresses)
        if verdict.rejection is not None:
            return self._refuse(verdict, who)
        listed = who.ae_title in self._peers
        if not listed and verdict.peer.services is None:
            return None
        return self._admitted(scps, requesting, verdict.peer, listed=listed)

    def _refuse(self, verdict: Verdict, who: Requestor) -> "Deferred[None]":
        assert verdict.rejection is not None
        why = self._why(verdict, who)
        answer = UNIFORM if self._uniform else verdict.rejection
        error = AssociationRejectedError(answer.result, answer.source, answer.reason, why)
        if not self._uniform:
            raise error

        def fail() -> None:
            raise error

        return deferLater(self._clock, DELAY, fail)

    def _why(self, verdict: Verdict, who: Requestor) -> str | None:
        """For the log; None for what was told of lately."""
        reason = verdict.reasons[-1]
        kind = f"{who.ae_title} {reason.key}"
        count = self._refusals.count(counted_as(who.host), kind, self._clock.seconds())
        if count is None:
            return None
        words = [f"{reason.text} ({reason.key})", *_remedies(reason.key, verdict.peer, who)]
        if count > 1:
            words.append(f"{count - 1} more of this address were refused before")
        return "; ".join(words)

    def _admitted(
        self, scps: Sequence[SCP], requesting: Requesting, peer: KnownPeer, *, listed: bool
    ) -> Admission:
        # Only of those that are listed something is kept: their number is known.
        meter = self._meters.setdefault(peer.ae_title, Meter()) if listed else Meter()
        if not take(meter.associations, peer.associations_per_minute, self._clock.seconds()):
            raise AssociationRejectedError(
                RejectResult.TRANSIENT,
                RejectSource.SERVICE_PROVIDER_PRESENTATION,
                _LOCAL_LIMIT_EXCEEDED,
                "its associations_per_minute are used up",
            )
        share = None
        if peer.associations is not None:
            share = Share(peer.ae_title, peer.associations)
        permitted = None
        if is_restricted(peer):
            permitted = self._held_back(requesting, scps, peer, meter)
        return Admission(
            scps=permitted, limits=self._limits_of(peer) if listed else None, share=share
        )

    def _held_back(
        self, requesting: Requesting, scps: Sequence[SCP], peer: KnownPeer, meter: Meter
    ) -> Sequence[SCP]:
        """The SCPs as they are for a peer; the log says so if it wants more."""
        permitted = [Permitted(scp, peer, meter, self._clock.seconds) for scp in scps]
        for uid in {context.abstract_syntax for context in requesting.request.contexts}:
            for whole, part in zip(scps, permitted, strict=True):
                if _of(whole, uid) != _of(part, uid):
                    what = "not use all of that, by its sop_classes and store_transfer_syntaxes"
                    if peer.services is not None:
                        services = ", ".join(peer.services)
                        what = f"only {services}" if services else "do nothing here"
                    self.log.info("{peer} may {what}", peer=requesting.peer, what=what)
                    return permitted
        return permitted

    def destination(self, ae_title: str) -> Destination | None:
        """Where a C-MOVE sends to; None for one that is unknown, or is no destination."""
        peer = self._peers.get(ae_title)
        return self.place(ae_title) if peer is not None and peer.move_destination else None

    def place(self, ae_title: str) -> Destination | None:
        """Where a peer is, to tell it something; None for one whose address is not known."""
        peer = self._peers.get(ae_title)
        if peer is None or peer.address is None:
            return None
        tls = self._tls() if peer.tls and self._tls is not None else None
        return Destination(peer.address, peer.move_transfer_syntaxes, self._limits_of(peer), tls)

    def notified(self) -> dict[str, Destination]:
        """The peers that are notified of studies, by AE title, and where they are."""
        titles = [title for title, peer in self._peers.items() if peer.availability]
        places = {title: self.place(title) for title in titles}
        return {title: place for title, place in places.items() if place is not None}

    def _limits_of(self, peer: KnownPeer) -> Limits:
        performed, invoked = peer.operations_performed, peer.operations_invoked
        limits = self._limits
        return replace(
            limits,
            operations_performed=performed or limits.operations_performed,
            operations_invoked=invoked or limits.operations_invoked,
        )
