"""Storage commitment of the archive: requests outlive a restart (PS3.4 J.3)."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dimse.archive.index import Index
from dimse.archive.objects import StoredInstance
from dimse.archive.schema import COMMITMENTS
from dimse.errors import DimseError, StatusError
from dimse.message.status import (
    INVALID_ARGUMENT_VALUE,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
)
from dimse.performing import Operation, escaped
from dimse.security.trail import AuditTrail
from dimse.services.commitment import report
from dimse.services.commitment_information import (
    TRANSACTION_UID,
    CommitmentRequest,
    CommitmentResult,
    FailureReason,
    Reference,
)
from dimse.services.partial_file import InThread
from dimse.services.reporting import report_to
from dimse.services.retrieving import Destination, Place

ATTEMPTS = 30
"""To report one result; with the delays between them they take about a day."""

_FIRST_DELAY, _LONGEST_DELAY = 10, 3600  # seconds
_AFTER_A_FAILURE = 60  # seconds, when the archive failed and not the peer
_AT_ONCE = 4  # associations to report on; a peer that was away may have many results to hear
_A_FEW = 100  # instances that are verified before another request has its turn
_MOST = 1000  # requests of one peer that are not reported yet

Digest = Callable[[str, int], str]
"""`ObjectStore.digest`."""


class _Key(NamedTuple):
    """What tells requests apart: transaction UIDs are their peers' business."""

    peer: str
    transaction_uid: str


@dataclass(frozen=True, slots=True)
class _Request:
    """A request as the table has it. `failures` is None until it was looked at."""

    key: _Key
    ae_title: str
    references: Sequence[Reference]
    failures: dict[Reference, int] | None
    attempts: int

    def result(self) -> CommitmentResult:
        """What is to be reported."""
        failures = self.failures or {}
        committed = tuple(each for each in self.references if each not in failures)
        title = self.ae_title if committed else ""
        return CommitmentResult(self.key.transaction_uid, committed, failures, title)


class Commitments:
    """Performs requests for storage commitment: `request` is what a `CommitmentSCP` is given.

    A request is in the index before it is answered, and until its result was reported: on its
    own association while that is open, else on a new one to where `place(ae_title)` says, again
    and again until `ATTEMPTS` are over. What is committed is in the index, and its object was read
    and is whole. `go_on_with` what an earlier run has `kept`. `audit` is told of peers that
    are not who they should be.
    """

    log = Logger()

    def __init__(
        self,
        index: Index,
        digest: Digest,
        in_thread: InThread,
        place: Callable[[str], Place | None],
        clock: Any,
        audit: AuditTrail | None = None,
    ) -> None:
        self._index = index
        self._digest = digest
        self._in_thread = in_thread
        self._place = place
        self._clock = clock
        self._audit = audit
        self._verifying = DeferredSemaphore(1)
        self._connecting = DeferredSemaphore(_AT_ONCE)
        self._running: dict[_Key, Deferred[None]] = {}

    async def request(self, request: CommitmentRequest, operation: Operation) -> None:
        """Keep a request, and report its result when it was answered.

        Raises `StatusError` 0x0115 for a Transaction UID of the peer that is in use, 0x0213 when
        too many requests of the peer wait, and 0x0110 when the database fails.
        """
        key = _Key(request.peer.ae_title, request.transaction_uid)
        if key in self._running:
            why = "the Transaction UID is in use (PS3.4 J.3)"
            raise StatusError(INVALID_ARGUMENT_VALUE, why, (TRANSACTION_UID,))
        try:
            await self._in_thread(partial(self._keep, key, request))
        except SQLAlchemyError as error:
            raise self._index.failed(error, PROCESSING_FAILURE) from error
        self._run(key, operation)

    def kept(self) -> Sequence[Any]:
        """The requests of an earlier run; raises what the database raises."""
        columns = (COMMITMENTS.c.peer, COMMITMENTS.c.transaction_uid)
        return self._index.fetch(sa.select(*columns))

    def go_on_with(self, kept: Sequence[Any]) -> None:
        """Report their results; the index is open."""
        for key in sorted({_Key(*row) for row in kept} - self._running.keys()):
            self._run(key, None)

    def stop(self) -> None:
        """Leave the rest to the next start."""
        for running in list(self._running.values()):
            running.cancel()

    def _run(self, key: _Key, operation: Operation | None) -> None:
        running = Deferred.fromCoroutine(self._until_reported(key, operation))
        self._running[key] = running
        running.addErrback(lambda failure: failure.trap(CancelledError) and None)
        running.addCallback(lambda _: self._running.pop(key, None) and None)

    async def _until_reported(self, key: _Key, operation: Operation | None) -> None:
        while True:
            try:
                await self._reported(key, operation)
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  of the disk, say: the request stays kept
                if isinstance(error, SQLAlchemyError):
                    self._index.failed(error, PROCESSING_FAILURE)
                else:
                    self.log.failure(
                        "commitment {uid}: the archive failed", uid=key.transaction_uid
                    )
                await deferLater(self._clock, _AFTER_A_FAILURE)
            else:
                return

    def _keep(self, key: _Key, request: CommitmentRequest) -> None:
        waiting = sa.select(sa.func.count()).where(COMMITMENTS.c.peer == key.peer)
        ((count,),) = self._index.fetch(waiting)
        if count >= _MOST:
            raise StatusError(RESOURCE_LIMITATION, "too many requests wait to be reported")
        row = {
            **key._asdict(),
            "ae_title": request.ae_title,
            "instances": json.dumps(request.references),
            "failures": "",
            "attempts": 0,
        }
        # What is there is of a request that was refused: its commit had failed, or seemed to.
        self._index.change(_of(COMMITMENTS.delete(), key), COMMITMENTS.insert().values(row))

    async def _reported(self, key: _Key, operation: Operation | None) -> None:
        """From a request that is kept to its end."""
        await deferLater(self._clock, 0)  # it is answered first
        request: _Request | None = await self._in_thread(partial(self._load, key))
        if request is None:
            return
        if request.failures is None:
            request = await self._verified(request)
        while request.attempts < ATTEMPTS:
            error = await self._attempt(request, operation)
            if error is None:
                await self._in_thread(partial(self._index.change, _of(COMMITMENTS.delete(), key)))
                return
            operation = None
            request = replace(request, attempts=request.attempts + 1)
            count = _of(COMMITMENTS.update(), key).values(attempts=request.attempts)
            await self._in_thread(partial(self._index.change, count))
            self._say(request, error)
            await deferLater(self._clock, _delay(request.attempts))
        await self._in_thread(partial(self._index.change, _of(COMMITMENTS.delete(), key)))
        self.log.error(
            "{peer}: the result of commitment {uid} was not reported in {attempts} attempts: "
            "given up",
            peer=escaped(key.peer),
            uid=key.transaction_uid,
            attempts=request.attempts,
        )

    def _load(self, key: _Key) -> _Request | None:
        rows = self._index.fetch(_of(sa.select(COMMITMENTS), key))
        if not rows:
            return None
        (row,) = rows
        references = [Reference(*each) for each in json.loads(row.instances)]
        failures = None
        if row.failures:
            found = json.loads(row.failures)
            failures = {Reference(*pair): reason for *pair, reason in found}
        return _Request(key, row.ae_title, references, failures, row.attempts)

    async def _verified(self, request: _Request) -> _Request:
        """With what cannot be committed; the result is kept, so that it stays the same."""
        failures: dict[Reference, int] = {}
        for some in _parts(request.references):
            failures |= await self._verifying.run(
                self._in_thread, partial(_failures, self._index, self._digest, some)
            )
        text = json.dumps([(*each, reason) for each, reason in failures.items()])
        change = _of(COMMITMENTS.update(), request.key).values(failures=text)
        await self._in_thread(partial(self._index.change, change))
        self.log.info(
            "{peer}: commitment {uid}: {committed} instances committed, {failed} failed",
            peer=escaped(request.key.peer),
            uid=request.key.transaction_uid,
            committed=len(request.references) - len(failures),
            failed=len(failures),
        )
        return replace(request, failures=failures)

    async def _attempt(self, request: _Request, operation: Operation | None) -> DimseError | None:
        """Report once; why the peer did not take it."""
        association = operation.association if operation is not None else None
        if association is not None and association.ended is None and not association.releasing:
            try:
                await report(association, request.result())
            except DimseError as error:
                self._say(request, error)  # it may listen for an association of ours
            else:
                return None
        peer = request.key.peer
        place = self._place(peer)
        if place is None:
            return DimseError("no address of it is known")
        to = place if isinstance(place, Destination) else Destination(place)
        try:
            await self._connecting.run(
                report_to,
                to.place,
                request.result(),
                called_ae_title=peer,
                calling_ae_title=request.ae_title,
                limits=to.limits,
                tls=to.tls,
                audit=self._audit,
                reactor=self._clock,
            )
        except DimseError as error:
            return error
        return None

    def _say(self, request: _Request, error: DimseError) -> None:
        self.log.warn(
            "{peer}: the result of commitment {uid} was not reported: {error}",
            peer=escaped(request.key.peer),
            uid=request.key.transaction_uid,
            error=error,
        )


def _of(statement: Any, key: _Key) -> Any:
    columns = COMMITMENTS.c
    return statement.where(columns.peer == key.peer, columns.transaction_uid == key.transaction_uid)


def _delay(failed: int) -> float:
    """Seconds after so many attempts that failed."""
    return float(min(_FIRST_DELAY * 2 ** (failed - 1), _LONGEST_DELAY))


def _parts(references: Sequence[Reference]) -> Iterator[Sequence[Reference]]:
    return (references[at : at + _A_FEW] for at in range(0, len(references), _A_FEW))


def _failures(
    index: Index, digest: Digest, references: Sequence[Reference]
) -> dict[Reference, int]:
    """Those that cannot be committed, and why (PS3.3 C.14.1.1); runs in a thread."""
    known = index.stored(each.sop_instance_uid for each in references)
    failures: dict[Reference, int] = {}
    for each in references:
        stored = known.get(each.sop_instance_uid)
        if stored is None:
            failures[each] = FailureReason.NO_SUCH_OBJECT_INSTANCE
        elif stored.received.sop_class_uid != each.sop_class_uid:
            failures[each] = FailureReason.CLASS_INSTANCE_CONFLICT
        elif not _is_whole(digest, stored):
            failures[each] = FailureReason.PROCESSING_FAILURE
    return failures


def _is_whole(digest: Digest, stored: StoredInstance) -> bool:
    """Whether its object has the data set that was acknowledged."""
    try:
        found = digest(stored.key, stored.offset)
    except OSError as error:
        Commitments.log.error("object {key}: {error}", key=stored.key, error=error)
        return False
    if found != stored.digest:
        Commitments.log.error("object {key} is damaged", key=stored.key)
    return found == stored.digest
