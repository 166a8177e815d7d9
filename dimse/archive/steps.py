"""Performed procedure steps of the archive, in its index (PS3.4 F.7)."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import sqlalchemy as sa
from pydicom import Dataset
from sqlalchemy.exc import IntegrityError
from twisted.internet.defer import Deferred

from dimse.archive.index import Index
from dimse.archive.schema import SCHEDULED, STEPS
from dimse.performing import Operation
from dimse.services.dataset import decode, encode
from dimse.services.partial_file import InThread
from dimse.services.procedure_step import COMPLETED

_SYNTAX = "1.2.840.10008.1.2.1"  # that steps are kept in

_KEYWORDS = ("StudyInstanceUID", "ScheduledProcedureStepID", "AccessionNumber")


class Steps:
    """A `ProcedureStepStore` in the index, with what each step was scheduled as."""

    def __init__(self, index: Index, in_thread: InThread) -> None:
        self._index = index
        self._in_thread = in_thread

    def create(self, uid: str, step: Dataset, operation: Operation) -> "Deferred[bool]":
        """Keep a new one, and what it was scheduled as."""
        inserts = [STEPS.insert().values(step_uid=uid, **_columns(step))]
        inserts += [SCHEDULED.insert().values(step_uid=uid, **link) for link in _links(step)]
        return self._in_thread(partial(self._create, inserts))

    def get(self, uid: str, operation: Operation) -> "Deferred[Dataset | None]":
        """One of them."""
        return self._in_thread(partial(self._get, uid))

    def update(
        self, uid: str, change: Callable[[Dataset], Dataset], operation: Operation
    ) -> "Deferred[bool]":
        """Change one."""
        return self._in_thread(partial(self._update, uid, change))

    def _create(self, inserts: Sequence[sa.Insert]) -> bool:
        try:
            self._index.change(*inserts)
        except IntegrityError:
            return False
        return True

    def _get(self, uid: str) -> Dataset | None:
        encoded = self._encoded(uid)
        return decode(encoded, _SYNTAX) if encoded is not None else None

    def _encoded(self, uid: str) -> bytes | None:
        rows = self._index.fetch(sa.select(STEPS.c.attributes).where(STEPS.c.step_uid == uid))
        return bytes(rows[0].attributes) if rows else None

    def _update(self, uid: str, change: Callable[[Dataset], Dataset]) -> bool:
        """Begin anew when somebody else has changed it in the meantime."""
        while (before := self._encoded(uid)) is not None:
            columns = _columns(change(decode(before, _SYNTAX)))
            unchanged = STEPS.update().where(STEPS.c.step_uid == uid, STEPS.c.attributes == before)
            if self._index.change(unchanged.values(columns)):
                return True
        return False


def _columns(step: Dataset) -> dict[str, str | bytes]:
    return {
        "status": step.PerformedProcedureStepStatus,
        "attributes": encode(step, _SYNTAX),
    }


def _links(step: Dataset) -> list[dict[str, str]]:
    """What a step was scheduled as, each once (PS3.4 Table F.7.2-1)."""
    links = {
        tuple(str(item.get(keyword) or "") for keyword in _KEYWORDS)
        for item in step.ScheduledStepAttributesSequence
    }
    names = ("study_uid", "step_id", "accession_number")
    return [dict(zip(names, link, strict=True)) for link in sorted(links)]


def steps_of(index: Index, study_uid: str) -> list[str]:
    """The SOP Instance UIDs of the steps of a study."""
    statement = sa.select(SCHEDULED.c.step_uid).where(SCHEDULED.c.study_uid == study_uid)
    return sorted({uid for (uid,) in index.fetch(statement)})


def completed(index: Index, step_ids: Iterable[str]) -> "set[tuple[str, str, str]]":
    """What of these Scheduled Procedure Step IDs is done: study, step ID, accession number."""
    columns = SCHEDULED.c
    statement = (
        sa.select(columns.study_uid, columns.step_id, columns.accession_number)
        .join(STEPS, STEPS.c.step_uid == columns.step_uid)
        .where(STEPS.c.status == COMPLETED, columns.step_id.in_(list(step_ids)))
    )
    return {(row.study_uid, row.step_id, row.accession_number) for row in index.fetch(statement)}
