"""What a department has of an archive beside images: worklist, steps, commitment, study ends."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import Deferred, maybeDeferred, succeed

from dimse.archive.availability import Notifier
from dimse.archive.commitment import Commitments, Digest
from dimse.archive.index import Index
from dimse.archive.objects import StoredInstance
from dimse.archive.schema import OPEN_STUDIES
from dimse.archive.steps import Steps
from dimse.archive.studies import EndedStudy, Studies
from dimse.archive.worklist import SUPPORTED, StoredWorklist, WorklistFinder, WorklistItems
from dimse.archive.worklist_files import WorklistFolder
from dimse.performing import SCP, Operation, Peer
from dimse.security.trail import AuditTrail
from dimse.services.commitment import CommitmentSCP
from dimse.services.partial_file import InThread
from dimse.services.procedure_step import ProcedureStepSCP
from dimse.services.query import QuerySCP
from dimse.services.retrieving import Destination, Destinations, Place
from dimse.sop_classes import MODALITY_WORKLIST

_STUDY_UID = 0x0020000D
_EARLIER = "an earlier run"  # in place of the address of a peer

Notified = Callable[[], Mapping[str, Destination]]
"""Peers to notify of a study that has ended, as they are now: where they are, by AE title."""


class Department:
    """These services over an index and the `digest` of its objects; the rest as in `Archive`."""

    def __init__(
        self,
        index: Index,
        digest: Digest,
        in_thread: InThread,
        *,
        worklist: str | os.PathLike[str] | None = None,
        study_timeout: float = 60,
        on_study_end: Callable[[EndedStudy], Any] | None = None,
        notified: Notified | None = None,
        clock: Any = None,
        audit: AuditTrail | None = None,
    ) -> None:
        if clock is None:  # late, for whoever imports it installs it
            from twisted.internet import reactor as clock
        self._resolve: Callable[[str], Place | None] = lambda ae_title: None
        self._ae_title: str | None = None
        self._open = self._serves = False
        self._audit = audit
        self._commitments = Commitments(index, digest, in_thread, self._place_of, clock, audit)
        self._steps = Steps(index, in_thread)
        items: list[WorklistItems] = [StoredWorklist(index)]
        if worklist is not None:
            items.append(WorklistFolder(worklist))
        self._finder = WorklistFinder(items, index, in_thread)
        self._on_study_end = on_study_end
        self._notifier = Notifier(index, in_thread, notified, clock, audit) if notified else None
        self._studies: Studies | None = None
        if on_study_end is not None or notified is not None:
            end = partial(_end_study, index, in_thread)
            self._studies = Studies(study_timeout, self._study_ended, clock, end)
        self._index = index

    def open(self) -> None:
        """Go on with what an earlier run has left, once there are `scps`; the index is open.

        Raises `MisuseError` when it fails.
        """
        self._open = True
        self._start()

    def abandon(self) -> None:
        """Leave all of it to the next run, for this one does not begin."""
        self._open = False
        self._commitments.stop()
        if self._studies is not None:
            self._studies.abandon()

    def close(self) -> "Deferred[None]":
        """Let studies end, and leave the rest to the next run; fires when that is done."""
        self._open = False
        self._commitments.stop()
        ended = self._studies.close() if self._studies is not None else succeed(None)
        notifier = self._notifier
        return ended.addCallback(lambda _: notifier.stop() if notifier is not None else None)

    @property
    def hears_of_ends(self) -> bool:
        """Whether anybody wants to know when a study has ended."""
        return self._studies is not None

    def received(self, stored: StoredInstance, operation: Operation, *, is_new: bool) -> None:
        """An instance was committed, which was not there before if it `is_new`."""
        study_uid = stored.attributes.get(_STUDY_UID)
        if self._studies is not None and isinstance(study_uid, str) and study_uid:
            self._studies.received(study_uid, operation, is_new=is_new)

    def scps(self, destinations: Destinations, ae_title: str | None = None) -> list[SCP]:
        """Commitment, with results to `destinations`, procedure steps and worklist.

        Peers that are notified of studies know us as `ae_title`, or as what the sender called us.
        """
        self._ae_title = ae_title
        self._resolve = destinations if callable(destinations) else destinations.get
        self._serves = True
        self._start()
        return [
            CommitmentSCP(self._commitments.request),
            ProcedureStepSCP(self._steps),
            QuerySCP(self._finder.find, [MODALITY_WORKLIST], options=SUPPORTED, audit=self._audit),
        ]

    def _place_of(self, ae_title: str) -> Place | None:
        return self._resolve(ae_title)

    def _start(self) -> None:
        if not (self._open and self._serves):
            return
        try:
            requests, studies = self._commitments.kept(), self._index.fetch(sa.select(OPEN_STUDIES))
        except SQLAlchemyError as error:
            raise self._index.unusable(error) from error
        self._commitments.go_on_with(requests)
        if self._studies is not None:
            for row in studies:
                peer = Peer(row.peer, _EARLIER)
                self._studies.resume(row.study_uid, row.instances, peer, row.ae_title)

    def _study_ended(self, study: EndedStudy) -> "Deferred[Any]":
        hook = self._on_study_end or (lambda _: None)
        ended = maybeDeferred(hook, study)
        if self._notifier is not None:
            notified = self._notifier.notify(
                replace(study, ae_title=self._ae_title or study.ae_title)
            )
            ended.addCallback(lambda _: notified)
        return ended


def _end_study(index: Index, in_thread: InThread, study_uid: str, news: int) -> "Deferred[int]":
    return in_thread(partial(index.end_study, study_uid, news))
