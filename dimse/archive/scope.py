"""What of an archive a peer may see: keys that are joined to whatever it asks for.

An instance is in the scope when its attributes, with those of its series, study and patient,
match all keys; an entity above is when an instance of it is, and it counts and tells of what it has
only that. What lacks an attribute of the scope is outside. All of it blocks: it is called in
threads.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dimse.archive.attributes import KEPT, Attributes, Level
from dimse.archive.index import Index
from dimse.archive.matching import matches
from dimse.archive.narrowing import Condition, conditions
from dimse.archive.rows import attributes_of
from dimse.archive.schema import INSTANCES, SERIES, STUDIES
from dimse.archive.scope_keys import scope_keys

_AT_ONCE = 500  # instances that are looked at

_SERIES = SERIES.join(STUDIES, STUDIES.c.study_uid == SERIES.c.study_uid)
_INSTANCES = INSTANCES.join(
    _SERIES,
    sa.and_(
        SERIES.c.study_uid == INSTANCES.c.study_uid, SERIES.c.series_uid == INSTANCES.c.series_uid
    ),
)


@dataclass(frozen=True, slots=True)
class _Seen:
    """Instances of a series and a SOP class that are in the scope."""

    study_uid: str
    series_uid: str
    modality: str
    sop_class_uid: str
    count: int


class Scope:
    """The scope that `keys` say, values by keyword; all is in one without keys.

    They are read, and `ValueError` is raised, as by `scope_keys`.
    """

    def __init__(self, keys: Mapping[str, Sequence[str]]) -> None:
        self.keys = scope_keys(keys)
        self.depth = max((KEPT[tag].level for tag in self.keys), default=Level.PATIENT)
        self._of_instances = {t: k for t, k in self.keys.items() if KEPT[t].level is Level.IMAGE}
        self._above = {t: k for t, k in self.keys.items() if t not in self._of_instances}

    def matches(self, attributes: Attributes) -> bool:
        """Whether an entity is in it, by its attributes down to the level `depth`."""
        return matches(self.keys, attributes)

    def conditions(self, level: Level) -> list[Condition]:
        """What of it a query at `level` can ask the database."""
        return conditions(self.keys, level)

    def within(self, index: Index, objects: Sequence[str]) -> Collection[str]:
        """Those of these instances, by the keys of their objects, that are in it."""
        if not self.keys:
            return objects
        found: set[str] = set()
        for start in range(0, len(objects), _AT_ONCE):
            some = INSTANCES.c.object.in_(objects[start : start + _AT_ONCE])
            found.update(
                row.object
                for row in index.fetch(_whole_instances().where(some))
                if self.matches(attributes_of(*row[1:]))
            )
        return found

    def shows(self, index: Index, patient: str) -> bool:
        """Whether anything of a patient is in it."""
        return any(self._seen(index, STUDIES.c.patient == patient))

    def counts(self, index: Index, row: Any, tags: Sequence[int]) -> Attributes:
        """Computed attributes of the patient, study or series of `row`, of what is in it alone."""
        computed: Attributes = {}
        seen: dict[Level, list[_Seen]] = {}
        for tag in tags:
            level, compute = _COUNTS[tag]
            if level not in seen:
                seen[level] = list(self._seen(index, _of(level, row)))
            computed[tag] = compute(seen[level])
        return computed

    def _seen(self, index: Index, where: Condition) -> Iterator[_Seen]:
        """What is in it of the studies or series that `where` says."""
        statement = (
            sa.select(
                SERIES.c.study_uid,
                SERIES.c.series_uid,
                SERIES.c.modality,
                STUDIES.c.attributes,
                SERIES.c.attributes,
            )
            .select_from(_SERIES)
            .where(where)
        )
        for study_uid, series_uid, modality, *texts in index.fetch(statement):
            above = attributes_of(*texts)
            if matches(self._above, above):
                for sop_class_uid, count in self._instances(index, study_uid, series_uid, above):
                    yield _Seen(study_uid, series_uid, modality, sop_class_uid, count)

    def _instances(
        self, index: Index, study_uid: str, series_uid: str, above: Attributes
    ) -> Iterator[tuple[str, int]]:
        """SOP classes of instances in it of a series that is, and how many they are."""
        of_series = (INSTANCES.c.study_uid == study_uid, INSTANCES.c.series_uid == series_uid)
        sop_class_uid = INSTANCES.c.sop_class_uid
        if not self._of_instances:
            grouped = sa.select(sop_class_uid, sa.func.count()).where(*of_series)
            yield from map(tuple, index.fetch(grouped.group_by(sop_class_uid)))
            return
        statement = (
            sa.select(INSTANCES.c.object, sop_class_uid, INSTANCES.c.attributes)
            .where(*of_series)
            .order_by(INSTANCES.c.object)
            .limit(_AT_ONCE)
        )
        rows = index.fetch(statement)
        while rows:
            for _, uid, text in rows:
                if matches(self._of_instances, above | attributes_of(text)):
                    yield uid, 1
            rows = index.fetch(statement.where(INSTANCES.c.object > rows[-1][0]))


EVERYTHING = Scope({})
"""That of a peer without one."""


def _whole_instances() -> "sa.Select[Any]":
    texts = (STUDIES.c.attributes, SERIES.c.attributes, INSTANCES.c.attributes)
    return sa.select(INSTANCES.c.object, *texts).select_from(_INSTANCES)


def _of(level: Level, row: Any) -> Condition:
    if level is Level.PATIENT:
        of_patient: Condition = STUDIES.c.patient == row.of_patient
        return of_patient
    of_study: Condition = SERIES.c.study_uid == row.study_uid
    return (
        of_study
        if level is Level.STUDY
        else sa.and_(of_study, SERIES.c.series_uid == row.series_uid)
    )


def _studies(seen: Sequence[_Seen]) -> str:
    return str(len({each.study_uid for each in seen}))


def _series(seen: Sequence[_Seen]) -> str:
    return str(len({(each.study_uid, each.series_uid) for each in seen}))


def _number(seen: Sequence[_Seen]) -> str:
    return str(sum(each.count for each in seen))


def _modalities(seen: Sequence[_Seen]) -> str:
    return "\\".join(sorted({each.modality for each in seen} - {""}))


def _sop_classes(seen: Sequence[_Seen]) -> str:
    return "\\".join(sorted({each.sop_class_uid for each in seen} - {""}))


_COUNTS: Mapping[int, tuple[Level, Any]] = {
    0x00201200: (Level.PATIENT, _studies),
    0x00201202: (Level.PATIENT, _series),
    0x00201204: (Level.PATIENT, _number),
    0x00080061: (Level.STUDY, _modalities),
    0x00080062: (Level.STUDY, _sop_classes),
    0x00201206: (Level.STUDY, _series),
    0x00201208: (Level.STUDY, _number),
    0x00201209: (Level.SERIES, _number),
}
COUNTED = frozenset(_COUNTS)
"""The attributes that `counts` computes."""
