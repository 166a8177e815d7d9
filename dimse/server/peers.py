"""The peers that a node knows: what each may ask of it, and where a C-MOVE sends to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from twisted.logger import Logger

from dimse.admission import Admission, Requesting
from dimse.errors import AssociationRejectedError, MisuseError, RejectResult, RejectSource
from dimse.limits import Limits
from dimse.performing import SCP, Operation, Sink
from dimse.security.identity import IVerifiedUser
from dimse.security.tls import ClientContext
from dimse.server.config import KnownPeer, Peers
from dimse.server.keys import SERVICES
from dimse.services.retrieving import Destination
from dimse.sop_classes import (
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE,
    MODALITY_WORKLIST,
    SOP_CLASSES,
    STORAGE_COMMITMENT_PUSH,
)
from dimse.ul.negotiation import SupportedContext

_CALLING_AE_TITLE_NOT_RECOGNIZED = 3  # PS3.8 9.3.4, source 1

_SERVICE_OF = {
    MODALITY_WORKLIST.find: "worklist",
    MODALITY_PERFORMED_PROCEDURE_STEP: "mpps",
    MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE: "mpps",
    STORAGE_COMMITMENT_PUSH: "commitment",
}
_BY_OPERATION = {operation: service for service, operation in SERVICES.items()}


class Permitted:
    """An SCP as it is for a peer that may use some `services` alone."""

    def __init__(self, scp: SCP, services: Sequence[str]) -> None:
        self._scp = scp
        self._services = services
        self.contexts: Mapping[str, SupportedContext] = {
            uid: supported
            for uid, supported in scp.contexts.items()
            if _service(uid, supported) in services
        }

    def otherwise(self, abstract_syntax: str) -> SupportedContext | None:
        """What it supports of others, which are storage SOP classes."""
        return self._scp.otherwise(abstract_syntax) if "store" in self._services else None

    def perform(self, operation: Operation) -> Sink:
        """Perform what was negotiated."""
        return self._scp.perform(operation)


def _service(sop_class: str, supported: SupportedContext) -> str | None:
    """What a peer uses with it: where we are the SCU of storage, that is C-GET."""
    if sop_class in _SERVICE_OF:
        return _SERVICE_OF[sop_class]
    operations = SOP_CLASSES[sop_class].operations if sop_class in SOP_CLASSES else ""
    if operations == "C-STORE" and not supported.scp:
        operations = "C-GET"
    return _BY_OPERATION.get(operations)


def _of(scp: SCP, uid: str) -> SupportedContext | None:
    return scp.contexts.get(uid) or scp.otherwise(uid)


class PeerBook:
    """The peers by AE title, as they are now; `renew` reads them again.

    `limits` are those of everybody, which the operations window of a peer changes; `unlisted`, a
    key of `UNLISTED`, is what all others may do. `tls` is how peers are reached that need it.
    """

    log = Logger()

    def __init__(
        self,
        peers: Peers,
        limits: Limits,
        read: Callable[[], Peers],
        unlisted: str = "all",
        tls: Callable[[], ClientContext] | None = None,
    ) -> None:
        self._tls = tls
        self._peers = peers
        self._limits = limits
        self._read = read
        self._unlisted = unlisted

    def renew(self) -> None:
        """Take what is read from now on; associations that are open go on as they are.

        When it cannot be read all stays as it was, and the log says why.
        """
        try:
            peers = self._read()
        except MisuseError as error:
            self.log.error("{error}; the peers stay as they were", error=error)
            return
        self._peers = peers
        self.log.info(
            "{count} peers are known now; other changes of the file need a restart",
            count=len(peers),
        )

    def admission(
        self, scps: Sequence[SCP], requesting: Requesting, user: IVerifiedUser | None = None
    ) -> Admission | None:
        """What a requestor, whose verified `user` may be known, gets of `scps`; None is as
        everybody.

        Raises `AssociationRejectedError` (1, 1, 3) for one that may nothing as it is not listed.
        """
        peer = self._peers.get(requesting.peer.ae_title)
        if peer is None:
            if self._unlisted == "all":
                return None
            if self._unlisted == "none":
                raise AssociationRejectedError(
                    RejectResult.PERMANENT,
                    RejectSource.SERVICE_USER,
                    _CALLING_AE_TITLE_NOT_RECOGNIZED,
                )
            return Admission(scps=self._held_back(requesting, scps, (self._unlisted,)))
        permitted = None
        if peer.services is not None:
            permitted = self._held_back(requesting, scps, peer.services)
        return Admission(scps=permitted, limits=self._limits_of(peer))

    def _held_back(
        self, requesting: Requesting, scps: Sequence[SCP], services: Sequence[str]
    ) -> Sequence[SCP]:
        """The SCPs as they are for who may use `services`; the log says so if it wants more."""
        permitted = [Permitted(scp, services) for scp in scps]
        for uid in {context.abstract_syntax for context in requesting.request.contexts}:
            for whole, part in zip(scps, permitted, strict=True):
                if _of(whole, uid) != _of(part, uid):
                    what = f"only {', '.join(services)}" if services else "do nothing here"
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
        return Destination(peer.address, peer.transfer_syntaxes, self._limits_of(peer), tls)

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
