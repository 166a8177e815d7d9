"""An SCP as it is for one peer: what it may ask for, how much, and of what."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogLevel

from dimse.errors import DimseError, StatusError
from dimse.message.messages import CFindRQ, CMoveRQ, CStoreRQ
from dimse.message.status import MOVE_DESTINATION_UNKNOWN, OUT_OF_RESOURCES, RESOURCE_LIMITATION
from dimse.performing import SCP, Operation, Sink, escaped
from dimse.security.access import KnownPeer
from dimse.security.quotas import Meter, take
from dimse.server.peer_keys import SERVICES
from dimse.sop_classes import (
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE,
    MODALITY_WORKLIST,
    SOP_CLASSES,
    STORAGE_COMMITMENT_PUSH,
)
from dimse.ul.negotiation import SupportedContext

_SERVICE_OF = {
    MODALITY_WORKLIST.find: "worklist",
    MODALITY_PERFORMED_PROCEDURE_STEP: "mpps",
    MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE: "mpps",
    STORAGE_COMMITMENT_PUSH: "commitment",
}
_BY_OPERATION = {operation: service for service, operation in SERVICES.items()}

_log = Logger()


class Permitted:
    """An SCP as it is for `peer`, whose `meter` counts what it has had until `seconds()`."""

    def __init__(
        self, scp: SCP, peer: KnownPeer, meter: Meter, seconds: Callable[[], float]
    ) -> None:
        self._scp = scp
        self._peer = peer
        self._meter = meter
        self._seconds = seconds
        narrowed = {uid: permitted(peer, uid, each) for uid, each in scp.contexts.items()}
        self.contexts: Mapping[str, SupportedContext] = {
            uid: supported for uid, supported in narrowed.items() if supported is not None
        }

    def otherwise(self, abstract_syntax: str) -> SupportedContext | None:
        """What it supports of others, which are storage SOP classes."""
        supported = self._scp.otherwise(abstract_syntax)
        return supported and _storage(self._peer, abstract_syntax, supported, "store")

    def perform(self, operation: Operation) -> Sink:
        """Perform what was negotiated, within the quotas of the peer and its scope."""
        peer, request, now = self._peer, operation.request, self._seconds()
        if not take(self._meter.operations, peer.operations_per_minute, now):
            listed = isinstance(request, CStoreRQ | CFindRQ)  # PS3.4 B.2.3, C.4.1.1.4
            status = OUT_OF_RESOURCES if listed else RESOURCE_LIMITATION
            raise StatusError(status, "operations_per_minute of this peer is used up")
        if isinstance(request, CMoveRQ) and peer.destinations is not None:
            title = request.move_destination
            if title not in peer.destinations:  # the answer tells nothing of who is known
                _say_elsewhere(operation, title)
                comment = f"destination {escaped(title)} is not known here"
                raise StatusError(MOVE_DESTINATION_UNKNOWN, comment)
        operation.scope = peer.scope
        if isinstance(request, CStoreRQ) and (peer.bytes_per_hour or peer.bytes_per_day):
            self._check_room(1)
            return _Metered(
                self._scp.perform(operation), self._meter, self._check_room, self._seconds
            )
        return self._scp.perform(operation)

    def _check_room(self, amount: int) -> None:
        peer, now = self._peer, self._seconds()
        if key := self._meter.used_up(amount, now, peer.bytes_per_hour, peer.bytes_per_day):
            raise StatusError(OUT_OF_RESOURCES, f"{key} of this peer is used up")


def _say_elsewhere(operation: Operation, title: str) -> None:
    """The log tells what the answer does not: else somebody looks for a peer that is there."""
    why = f"C-MOVE to {escaped(title)}: it is not among the destinations of this peer"
    news = operation.association.performed.is_news(why)
    _log.emit(
        LogLevel.warn if news else LogLevel.debug,
        "{peer}: {why} (peers.destinations)",
        peer=operation.peer,
        why=why,
    )


class _Metered:
    """A sink whose bytes count."""

    def __init__(
        self,
        sink: Sink,
        meter: Meter,
        check_room: Callable[[int], None],
        seconds: Callable[[], float],
    ) -> None:
        self._sink = sink
        self._meter = meter
        self._check_room = check_room
        self._seconds = seconds
        self._length = 0

    def write(self, data: memoryview) -> None:
        """Raises `StatusError` 0xA700 for more than there is room for."""
        self._check_room(len(data))
        self._length += len(data)
        self._meter.receiving += len(data)
        self._sink.write(data)

    def finish(self) -> "Deferred[Any]":
        """It is whole."""
        self._meter.received(self._length, self._seconds())
        self._length = 0
        return self._sink.finish()

    def abort(self, reason: DimseError) -> None:
        """It counts for nothing."""
        self._meter.receiving -= self._length
        self._length = 0
        self._sink.abort(reason)


def permitted(
    peer: KnownPeer, sop_class: str, supported: SupportedContext
) -> SupportedContext | None:
    """What of a context is for `peer`; None for nothing."""
    if sop_class == MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE and peer.scope:
        return None  # it would tell of any patient, by the UID of a step
    service = service_of(sop_class, supported)
    if service is None:
        return supported if peer.services is None else None
    operations = SOP_CLASSES[sop_class].operations if sop_class in SOP_CLASSES else ""
    if operations == "C-STORE":
        return _storage(peer, sop_class, supported, service)
    return supported if peer.may(service) else None


def _storage(
    peer: KnownPeer, sop_class: str, supported: SupportedContext, service: str
) -> SupportedContext | None:
    if not peer.may(service):
        return None
    if peer.sop_classes is not None and sop_class not in peer.sop_classes:
        return None
    wanted, ours = peer.store_transfer_syntaxes, supported.transfer_syntaxes
    if wanted is None or not supported.scp:
        return supported
    taken = tuple(uid for uid in wanted if ours is None or uid in ours)
    return replace(supported, transfer_syntaxes=taken)


def service_of(sop_class: str, supported: SupportedContext) -> str | None:
    """What a peer uses with it: where we are the SCU of storage, that is C-GET."""
    if sop_class in _SERVICE_OF:
        return _SERVICE_OF[sop_class]
    operations = SOP_CLASSES[sop_class].operations if sop_class in SOP_CLASSES else ""
    if operations == "C-STORE" and not supported.scp:
        operations = "C-GET"
    return _BY_OPERATION.get(operations)


def is_restricted(peer: KnownPeer) -> bool:
    """Whether anything is not for it that is for everybody, or is counted."""
    restrictions: Sequence[object] = (
        peer.services,
        peer.sop_classes,
        peer.store_transfer_syntaxes,
        peer.destinations,
        peer.operations_per_minute,
        peer.bytes_per_hour,
        peer.bytes_per_day,
    )
    return bool(peer.scope) or any(each is not None for each in restrictions)
