"""The audit trail of a node: what is told to it, and the records that come of that (PS3.15 A.5).

Whoever performs something tells it here. An instance costs two look-ups: what an association brings
of a study is counted, and is one record when the association ends or after a bound.
"""

import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from dimse.admission import Requesting
from dimse.errors import AssociationRejectedError, MisuseError, RejectSource
from dimse.performing import Operation, Peer
from dimse.security import audit
from dimse.security.addresses import host_of
from dimse.security.attempts import Failures
from dimse.security.audit import ActiveParticipant, AuditMessage, Code, Study
from dimse.security.syslog import syslog_message

_STUDY_UID, _PATIENT_ID = 0x0020000D, 0x00100020

_MOST_ALERTS = 100  # of an address within a minute: who knocks must not fill the disk
_MOST_STUDIES = 1000  # of one association that are counted at a time
_LONGEST = 300.0  # s from the first instance to the record, on an association that stays

_NOT_SENT = "not sent"

CREATED, THERE, ALTERED = "C", "R", "U"
"""The action of a transfer: the receiver did not have it, had it already, or had another one, which
it replaces (PS3.15 A.5.3.7)."""


class Outlet(Protocol):
    """Where records go: a `Forwarder` to a collector, or an `AuditFile`."""

    def open(self) -> None:
        """Get ready; raises `MisuseError` when that cannot be."""

    def take(self, message: bytes) -> None:
        """Keep or send a record, or count it as lost; never raises."""

    def close(self) -> "Deferred[None]":
        """Fires when what can be sent is sent."""


@dataclass(slots=True)
class _Count:
    """What came, or went, of a study: the instances by SOP class. `failure` says that they did
    not, and `action` is as in `AuditMessage`."""

    study: Study
    action: str
    failure: str = ""
    sop_classes: "Counter[str]" = field(default_factory=Counter)


class _Collected:
    """What an association brings."""

    __slots__ = ("counts", "operation", "timer")

    def __init__(self, operation: Operation, timer: Any) -> None:
        self.operation = operation
        self.timer = timer
        self.counts: dict[tuple[Any, ...], _Count] = {}


def _now() -> datetime:
    return datetime.now(UTC)


class AuditTrail:
    """Makes records of what it is told, and gives them to `outlets`.

    `source_id` is who reports them; `ae_titles` are those that the node answers to, if it has its
    own. `clock` is the reactor, `now` the time of day. No method but `start` raises: a record that
    cannot be made or kept is counted by the outlet, or told in the log, and the service goes on.
    """

    _log = Logger()

    def __init__(
        self,
        outlets: Sequence[Outlet],
        source_id: str,
        *,
        clock: Any,
        ae_titles: Sequence[str] = (),
        host: str | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._outlets = outlets
        self._source_id = source_id
        self._clock = clock
        self._ae_titles = ae_titles
        self._host = host or socket.gethostname()
        self._now = now
        self._received: dict[Any, _Collected] = {}  # by association
        self._alerts = Failures(_MOST_ALERTS, clock)
        self._left_out = 0  # alerts of addresses with too many

    def start(self) -> None:
        """Open the outlets, and record that the node starts; raises `MisuseError`."""
        opened: list[Outlet] = []
        try:
            for outlet in self._outlets:
                outlet.open()
                opened.append(outlet)
        except MisuseError:
            for outlet in opened:
                outlet.close()
            raise
        self._record(self._activity, audit.APPLICATION_START)

    def stop(self) -> "Deferred[None]":
        """Record what is left, and that the node stops; fires when the outlets are closed."""
        for association in list(self._received):
            self._emit_received(association)
        self._record(self._activity, audit.APPLICATION_STOP)
        closed = DeferredList([outlet.close() for outlet in self._outlets])
        return closed.addCallback(lambda _: None)

    # What the acceptor tells, and who decides about admission

    def rejected(self, peer: Peer, called: str, error: AssociationRejectedError) -> None:
        """An association was rejected; for want of room alone that is no matter of security."""
        if error.source != RejectSource.SERVICE_PROVIDER_PRESENTATION:
            self.alert(audit.NODE_AUTHENTICATION, peer, f"called {called}: {error.args[0]}")

    def alert(self, event_type: Code, peer: Peer, description: str) -> None:
        """A peer was kept from something: `audit.NODE_AUTHENTICATION`, if it is not who it should
        be, or `audit.RESTRICTED_FUNCTION`. `description` says what, without secrets.

        Those of an address above 100 within a minute are counted, and the next one says how many.
        """
        if (left_out := self._bounded(host_of(peer.address))) is not None:
            self._record(self._security_alert, event_type, peer, description + left_out)

    def authenticated(self, requesting: Requesting, user: str, failure: str = "") -> None:
        """The user identity of a requestor was verified, or refused because of `failure`.

        `user` is who it is or claims to be; never a passcode or a token. Failures are bounded as
        alerts are.
        """
        left_out = self._bounded(requesting.host) if failure else ""
        if left_out is not None:
            self._record(self._authentication, requesting, user, failure + left_out)

    # What services and the archive tell

    def queried(self, operation: Operation, identifier: bytes) -> None:
        """A C-FIND came, with an Identifier as it is encoded."""
        self._record(self._query, operation, identifier)

    def received(
        self,
        operation: Operation,
        sop_class_uid: str,
        attributes: Mapping[int, Any],
        action: str = CREATED,
        failure: str = "",
    ) -> None:
        """An instance came by C-STORE, with attributes by tag, and was `CREATED`, was `THERE`
        already, or `ALTERED` what was; with a `failure` it was not stored."""
        association = operation.association
        collected = self._received.get(association)
        if collected is None:
            collected = self._collect(operation)
        key = (attributes.get(_STUDY_UID), attributes.get(_PATIENT_ID), action, failure)
        count = collected.counts.get(key)
        if count is None:
            count = collected.counts[key] = _Count(Study.of(attributes), action, failure)
        count.sop_classes[sop_class_uid] += 1
        if association.ended is not None or len(collected.counts) >= _MOST_STUDIES:
            self._emit_received(association)

    def sending(self, operation: Operation, destination: str = "", host: str = "") -> "Sending":
        """Instances are going to be sent to who asks, or with C-MOVE to an AE title at `host`."""
        us = self._us(operation.ae_title, role=audit.SOURCE)
        if destination:
            there = audit.application_entity(destination, host, role=audit.DESTINATION)
            return Sending(self._transfer, (us, there, *self._asking(operation)))
        return Sending(self._transfer, (us, *self._asking(operation, audit.DESTINATION)))

    # Inside

    def _bounded(self, host: str) -> str | None:
        """How many were left out before this one, in words; None if it is one of those."""
        if self._alerts.too_many(host):
            self._left_out += 1
            return None
        self._alerts.add(host)
        left_out, self._left_out = self._left_out, 0
        return f" (and {left_out} of who does that all the time)" if left_out else ""

    def _collect(self, operation: Operation) -> _Collected:
        association = operation.association
        timer = self._clock.callLater(_LONGEST, self._emit_received, association)
        collected = self._received[association] = _Collected(operation, timer)
        if association.ended is None:
            association.when_ended().addCallback(lambda _: self._emit_received(association))
        return collected

    def _emit_received(self, association: Any) -> None:
        collected = self._received.pop(association, None)
        if collected is None:
            return
        if collected.timer.active():
            collected.timer.cancel()
        operation = collected.operation
        participants = (
            *self._asking(operation, audit.SOURCE),
            self._us(operation.ae_title, role=audit.DESTINATION),
        )
        for count in collected.counts.values():
            self._transfer(audit.INSTANCES_TRANSFERRED, participants, count)

    def _transfer(
        self, event_id: Code, participants: tuple[ActiveParticipant, ...], count: _Count
    ) -> None:
        what = (count.action, participants, count.study, count.sop_classes, count.failure)
        self._record(audit.transfer, event_id, *what)

    def _activity(self, event_type: Code) -> AuditMessage:
        return audit.application_activity(event_type, self._node(audit.APPLICATION))

    def _security_alert(self, event_type: Code, peer: Peer, description: str) -> AuditMessage:
        subject = audit.application_entity(peer.ae_title, host_of(peer.address))
        return audit.security_alert(event_type, self._node(), subject, description)

    def _authentication(self, requesting: Requesting, user: str, failure: str) -> AuditMessage:
        who = ActiveParticipant(
            user_id=user,
            alternative_user_id=f"AETITLES={requesting.peer.ae_title}",
            is_requestor=True,
            access_point=requesting.host or requesting.peer.address,
        )
        us = self._us(requesting.request.called_ae_title.strip())
        return audit.user_authentication(who, us, failure)

    def _query(self, operation: Operation, identifier: bytes) -> AuditMessage:
        participants = (
            *self._asking(operation, audit.SOURCE),
            self._us(operation.ae_title, role=audit.DESTINATION),
        )
        syntax = operation.context.transfer_syntax
        return audit.query(participants, operation.request.sop_class_uid, identifier, syntax)

    def _node(self, *roles: Code) -> ActiveParticipant:
        titles = f"AETITLES={';'.join(self._ae_titles)}" if self._ae_titles else ""
        return ActiveParticipant(
            user_id=self._source_id,
            alternative_user_id=titles,
            roles=roles,
            access_point=self._host,
        )

    def _us(self, ae_title: str, role: Code | None = None) -> ActiveParticipant:
        return audit.application_entity(ae_title, self._host, role=role)

    def _asking(
        self, operation: Operation, role: Code | None = None
    ) -> Iterator[ActiveParticipant]:
        """The peer, and its user, if one was verified."""
        peer, user = operation.peer, operation.association.user
        host = host_of(peer.address)
        yield audit.application_entity(peer.ae_title, host, requestor=True, role=role)
        if user is not None:
            yield ActiveParticipant(user_id=user, is_requestor=True, access_point=host)

    def _record(self, make: Callable[..., AuditMessage], *what: Any) -> None:
        try:
            time = self._now()
            xml = make(*what).encode(time, self._source_id)
            message = syslog_message(xml, time, self._host)
            for outlet in self._outlets:
                outlet.take(message)
        except Exception as error:  # noqa: BLE001  a bug of ours must not stop a transfer
            kind = type(error).__name__  # alone: its text may hold what the record should
            self._log.error("an audit record could not be made: {kind}", kind=kind)


_Emit = Callable[[Code, tuple[ActiveParticipant, ...], _Count], None]


class Sending:
    """What is sent for one C-GET or C-MOVE: a record for each study before its first instance is,
    and one, or two if some were not sent, when all has ended."""

    def __init__(self, emit: _Emit, participants: tuple[ActiveParticipant, ...]) -> None:
        self._emit = emit
        self._participants = participants
        self._begun: set[Study] = set()
        self._counts: dict[tuple[Study, bool], _Count] = {}

    def begin(self, study: Study) -> None:
        """One of that study is going to be sent."""
        if study not in self._begun:
            self._begun.add(study)
            self._emit(audit.BEGIN_TRANSFERRING, self._participants, _Count(study, "E"))

    def sent(self, study: Study, sop_class_uid: str, *, ok: bool) -> None:
        """One was sent, or could not be."""
        count = self._counts.get((study, ok))
        if count is None:  # whether they had it, we do not know
            count = self._counts[study, ok] = _Count(study, THERE, "" if ok else _NOT_SENT)
        count.sop_classes[sop_class_uid] += 1

    def end(self) -> None:
        """Nothing more comes; what is in no record now was never tried."""
        for count in self._counts.values():
            self._emit(audit.INSTANCES_TRANSFERRED, self._participants, count)
