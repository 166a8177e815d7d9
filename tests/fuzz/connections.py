"""Whole sessions: an `UpperLayerProtocol` and its `Association` against recorded bytes, no network.

Whatever comes, in whatever segments: a session ends in Sta1 with no timer left, each Deferred has
fired once, each sink has ended once, and no error was logged.
"""

import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from pydicom import Dataset
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
)
from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

import dimse
from dimse.acceptor import AcceptorFactory
from dimse.archive.identifier import keys_of
from dimse.association import Association
from dimse.errors import DimseError
from dimse.limits import Limits
from dimse.message import command
from dimse.message.base import Request
from dimse.message.messages import MESSAGES, CFindRQ, CGetRQ, CMoveRQ
from dimse.requestor import RequestorFactory
from dimse.testing import MemoryClock, Transport
from dimse.testing.transport import CLIENT, SERVER
from dimse.ul.pdu import AssociateRQ
from dimse.ul.protocol import UpperLayerProtocol
from dimse.ul.table import Sta
from tests.fuzz import corpus
from tests.scripted import Bytes

LIMITS = Limits(operations_invoked=5, operations_performed=5)
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
NORMALIZED = ["1.2.840.10008.3.1.2.3.3", "1.2.840.10008.1.20.1"]
DONE = 1000  # seconds end everything, by whichever time-outs
FOR_EVER = 10_000  # timers that run out in one session

KEYS = Dataset()
KEYS.QueryRetrieveLevel, KEYS.StudyInstanceUID = "STUDY", "1.2.3"


class Outcome(NamedTuple):
    """All that came of a session: what ours said, stored, with how that ended, and was told."""

    established: bool
    said: bytes
    stored: list[tuple[bytes, list[object]]]
    told: list[str]


class Shelf:
    """A sink, and how it ended."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.endings: list[object] = []

    def write(self, data: memoryview) -> None:
        self.data += data

    def finish(self) -> "Deferred[int]":
        self.endings.append("finish")
        return succeed(0)

    def abort(self, reason: DimseError) -> None:
        self.endings.append(type(reason).__name__)


class _Refusing:
    """The endpoint of a destination where nobody listens."""

    def connect(self, protocolFactory: Factory) -> "Deferred[Any]":
        return fail(ConnectionRefusedError())


@implementer(ILogObserver)
class Stage:
    """A clock and what performs, for one session after the other.

    `shelves`, `outcomes` (what Deferreds gave, one list each) and `failures` (errors that were
    logged) are those of the present session.
    """

    def __init__(self) -> None:
        self.clock = MemoryClock()
        self.shelves: list[Shelf] = []
        self.outcomes: list[list[object]] = []
        self.failures: list[str] = []
        self.factory = AcceptorFactory(self._archive(), limits=LIMITS, clock=self.clock)

    def _archive(self) -> list[Any]:
        verbs = ("n_get", "n_set", "n_action", "n_create", "n_delete", "n_event_report")
        normalized: Any = dict.fromkeys(verbs, lambda *_: KEYS)
        return [
            dimse.VerificationSCP(),
            dimse.StorageSCP(self),
            dimse.QuerySCP(self._find, [dimse.STUDY_ROOT, dimse.MODALITY_WORKLIST]),
            dimse.RetrieveSCP(self._retrieve, destinations={"OTHER": _Refusing()}),  # type: ignore[dict-item]
            dimse.NormalizedSCP(NORMALIZED, **normalized),
        ]

    def begin(self, instance: Any, operation: Any) -> Shelf:
        """The store of C-STORE and C-GET."""
        self.shelves.append(Shelf())
        return self.shelves[-1]

    async def _find(self, identifier: Dataset, operation: Any) -> AsyncIterator[Dataset]:
        keys_of(identifier)
        for _ in range(3):
            yield KEYS

    def _retrieve(self, identifier: Dataset, operation: Any) -> list[Any]:
        keys_of(identifier)
        return [dimse.Instance(CT_STORAGE, "1.2.3", corpus.EXPLICIT, data=bytes(600))]

    def outcome(self, deferred: "Deferred[Any]") -> None:
        """Count what it gives."""
        given: list[object] = []
        self.outcomes.append(given)
        deferred.addCallbacks(given.append, lambda failure: given.append(failure.value))

    def __call__(self, event: LogEvent) -> None:
        """Observe what is logged."""
        failure = event.get("log_failure")
        if isinstance(failure, Failure):
            self.failures.append(failure.getTraceback())

    # What happens on a connection

    def acceptor(self, pieces: Sequence[bytes], fate: str) -> Outcome:
        """Ours accepts, and the peer says `pieces`."""
        protocol = self.factory.buildProtocol(CLIENT)
        assert protocol is not None
        return self._perform(protocol, Transport(CLIENT, SERVER), pieces, fate)

    def requestor(self, session: corpus.Session, pieces: Sequence[bytes], fate: str) -> Outcome:
        """Ours asks for what was asked for in a session, and the peer says `pieces`."""
        request, asked = _asked(session)
        factory = RequestorFactory(request, limits=LIMITS, clock=self.clock)
        factory.established.addCallback(self._ask, asked)
        self.outcome(factory.established)
        protocol = factory.buildProtocol(SERVER)
        return self._perform(protocol, Transport(SERVER, CLIENT), pieces, fate)

    def _perform(
        self, protocol: UpperLayerProtocol, transport: Transport, pieces: Sequence[bytes], fate: str
    ) -> Outcome:
        """One session; then nothing may be left of it."""
        globalLogPublisher.addObserver(self)
        self.clock.rightNow = 0.0
        try:
            with warnings.catch_warnings(action="ignore"):  # pydicom has its opinion of values
                self._play(protocol, transport, pieces, fate)
        finally:
            globalLogPublisher.removeObserver(self)
            shelves, self.shelves = self.shelves, []
            outcomes, self.outcomes = self.outcomes, []
            failures, self.failures = self.failures, []
        assert not failures, failures[0]
        assert [len(shelf.endings) for shelf in shelves] == [1] * len(shelves)
        assert [len(outcome) for outcome in outcomes] == [1] * len(outcomes)
        for (outcome,) in outcomes:
            assert not isinstance(outcome, Exception) or isinstance(outcome, DimseError)
        return Outcome(
            protocol.user is not None,
            b"".join(transport.writes),
            [(bytes(shelf.data), shelf.endings) for shelf in shelves],
            [_text(outcome) for (outcome,) in outcomes],
        )

    def _ask(self, association: Association, asked: list[tuple[Request, bytes]]) -> None:
        self.outcome(association.when_ended())
        for request, data in asked:
            with suppress(DimseError):  # the peer did not accept the context
                self.outcome(self._invoked(association, request, data))
        self.outcome(association.release())

    def _invoked(self, association: Association, request: Request, data: bytes) -> "Deferred[Any]":
        uid = request.sop_class_uid
        if isinstance(request, CFindRQ):
            return dimse.find(association, KEYS, uid).result()
        if isinstance(request, CGetRQ):
            return dimse.get(association, KEYS, self, uid).result()
        if isinstance(request, CMoveRQ):
            return dimse.move(association, KEYS, "OTHER", uid).result()
        request = replace(request, message_id=association.next_message_id())
        context = association.context_for(uid)
        return association.request(context, request, Bytes(data) if data else None)

    def _play(
        self, protocol: UpperLayerProtocol, transport: Transport, pieces: Sequence[bytes], fate: str
    ) -> None:
        transport.protocol = protocol
        protocol.makeConnection(transport)
        self.outcome(protocol.when_closed())
        self._settle(transport, fate)
        for piece in pieces:
            self._pass(transport, fate, lambda: transport.reading)
            if transport.lost:
                break
            protocol.dataReceived(piece)  # also behind a close, as Twisted's TLS does
            self._settle(transport, fate)
        if fate == "closes":
            transport.lose(ConnectionDone())
        elif fate == "is lost":
            transport.lose(ConnectionLost())
        self._pass(transport, fate, lambda: transport.lost)
        self._pass(transport, fate, lambda: not self.clock.getDelayedCalls())
        assert transport.lost
        assert protocol.state is Sta.Sta1

    def _settle(self, transport: Transport, fate: str) -> None:
        """What happens at once."""
        self.clock.advance(0)
        if fate != "does not read":
            while transport.buffer:
                transport.buffer.clear()
                transport.drained()
                self.clock.advance(0)
        if transport.aborted:
            transport.lose(ConnectionAborted())
        elif transport.disconnecting and not transport.buffer and transport.producer is None:
            transport.lose(ConnectionDone())

    def _pass(self, transport: Transport, fate: str, until: Callable[[], bool]) -> None:
        """Let time pass, from one timer to the next."""
        for _ in range(FOR_EVER):
            if until():
                return
            calls = self.clock.getDelayedCalls()
            assert calls or transport.lost, "nothing will ever happen again"
            if not calls:
                return
            self.clock.rightNow = min(call.getTime() for call in calls)
            assert self.clock.rightNow <= DONE, f"{calls[0]} is left"
            self._settle(transport, fate)
        raise AssertionError(f"{FOR_EVER} timers ran out, and it goes on")


def _text(outcome: object) -> str:
    try:
        return str(outcome)
    except Exception:  # noqa: BLE001  a Dataset decodes its elements late, and these are no good
        return type(outcome).__name__


FATES = ("closes", "closes", "is lost", "is silent", "is silent", "does not read")

_cache: dict[str, tuple[AssociateRQ, list[tuple[Request, bytes]]]] = {}


def _asked(session: corpus.Session) -> tuple[AssociateRQ, list[tuple[Request, bytes]]]:
    """The request for an association, and those that followed it."""
    if session.name not in _cache:
        asked = []
        for who, message in corpus.messages(session):
            elements = command.decode(message.command)
            field = elements["CommandField"]
            assert isinstance(field, int)
            request = MESSAGES[field].decode(elements)
            if who == "requestor" and isinstance(request, Request):
                asked.append((request, message.data))
        pdu = corpus.pdus(session.requestor)[0]
        _cache[session.name] = AssociateRQ.decode(memoryview(pdu)[6:]), asked
    return _cache[session.name]
