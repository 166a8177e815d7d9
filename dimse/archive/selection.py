"""The entities that keys ask for, page by page, with what is computed of each (PS3.4 C.6).

All of it blocks: it is called in threads. Nothing of the database is held between two pages, so a
peer that takes its time keeps nobody waiting.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import sqlalchemy as sa

from dimse.archive.attributes import KEPT, Attributes, Level
from dimse.archive.index import Index
from dimse.archive.matching import Key, is_universal, matches
from dimse.archive.narrowing import conditions
from dimse.archive.rows import attributes_of
from dimse.archive.schema import INSTANCES, PATIENTS, SERIES, STUDIES, Select
from dimse.archive.scope import COUNTED, EVERYTHING, Scope

COMPUTED: Mapping[int, Level] = {
    0x00201200: Level.PATIENT,
    0x00201202: Level.PATIENT,
    0x00201204: Level.PATIENT,
    0x00080061: Level.STUDY,
    0x00080062: Level.STUDY,
    0x00201206: Level.STUDY,
    0x00201208: Level.STUDY,
    0x0008041F: Level.STUDY,
    0x00201209: Level.SERIES,
    0x00083002: Level.IMAGE,
}
"""Attributes that the index computes, and the level they belong to."""

LEVELS: Mapping[int, Level] = {**{tag: each.level for tag, each in KEPT.items()}, **COMPUTED}
"""All attributes that can be asked for, and the level of each."""

_PAGE = 500  # rows at a time: some 500 kB
_LISTED = 10_000  # entities whose keys are listed first, in 4 MB; more are walked in order

_PATIENT = (PATIENTS.c.patient,)
_STUDY = (STUDIES.c.study_uid,)
_SERIES = (SERIES.c.study_uid, SERIES.c.series_uid)
_INSTANCE = (INSTANCES.c.study_uid, INSTANCES.c.series_uid, INSTANCES.c.object)
_IDENTITY: Mapping[Level, Sequence["sa.Column[str]"]] = {
    Level.PATIENT: _PATIENT,
    Level.STUDY: _STUDY,
    Level.SERIES: _SERIES,
    Level.IMAGE: _INSTANCE,
}
_STUDY_OF_SERIES = SERIES.join(STUDIES, STUDIES.c.study_uid == SERIES.c.study_uid)
_FROM: Mapping[Level, sa.FromClause] = {
    Level.PATIENT: PATIENTS,
    Level.STUDY: STUDIES,
    Level.SERIES: _STUDY_OF_SERIES,
    Level.IMAGE: INSTANCES.join(
        _STUDY_OF_SERIES,
        sa.and_(
            SERIES.c.study_uid == INSTANCES.c.study_uid,
            SERIES.c.series_uid == INSTANCES.c.series_uid,
        ),
    ),
}
_TEXTS = {
    Level.PATIENT: [PATIENTS.c.attributes],
    Level.STUDY: [STUDIES.c.attributes],
    Level.SERIES: [STUDIES.c.attributes, SERIES.c.attributes],
    Level.IMAGE: [STUDIES.c.attributes, SERIES.c.attributes, INSTANCES.c.attributes],
}

Row = Any


class Selection:
    """The entities of `level` that match `keys`; `matching` says which do, exactly.

    With keys of lower levels, as relational queries have them, an entity is found through what is
    below it, and once (PS3.4 C.4.1.3.2). Nothing is found but what is in the `scope`.
    """

    def __init__(
        self, index: Index, level: Level, keys: Mapping[int, Key], scope: Scope = EVERYTHING
    ) -> None:
        self._index = index
        self._level = level
        self._keys = keys
        asked = [tag for tag, key in keys.items() if not is_universal(key)]
        self._scope = scope
        self._depth = max([level, scope.depth, *(LEVELS[tag] for tag in asked if tag in LEVELS)])
        self._identity = _IDENTITY[self._depth]
        self._conditions = [*conditions(keys, self._depth), *scope.conditions(self._depth)]
        self._computed = [tag for tag in keys if tag in COMPUTED and COMPUTED[tag] <= level]
        self._seen: set[tuple[str, ...]] = set()

    def pages(self) -> Iterator[list[Attributes]]:
        """The entities that match, some at a time; a page may be empty."""
        for rows in self._row_pages():
            yield self._matching(rows)

    def _row_pages(self) -> Iterator[Sequence[Row]]:
        listed = self._index.fetch(self._select(*self._identity).limit(_LISTED + 1))
        if len(listed) <= _LISTED:
            keys = iter(sorted(map(tuple, listed)))
            del listed  # twice the memory of the keys, for as long as the peer takes to read
            while page := list(islice(keys, _PAGE)):
                yield self._index.fetch(self._rows().where(self._is_one_of(page)))
            return
        after: tuple[str, ...] = ()
        while rows := self._index.fetch(self._walk(after)):
            yield rows
            after = tuple(rows[-1])[: len(self._identity)]

    def _select(self, *columns: Any) -> Select:
        return sa.select(*columns).select_from(_FROM[self._depth]).where(*self._conditions)

    def _rows(self) -> Select:
        depth = self._depth
        patients = PATIENTS if depth is Level.PATIENT else STUDIES
        return (
            sa.select(
                *self._identity,
                patients.c.patient.label("of_patient"),
                *((STUDIES.c.updated,) if depth > Level.PATIENT else ()),
                *((INSTANCES.c.transfer_syntax,) if depth is Level.IMAGE else ()),
                *(text.label(f"text_{n}") for n, text in enumerate(_TEXTS[depth])),
            )
            .select_from(_FROM[depth])
            .order_by(*self._identity)
        )

    def _is_one_of(self, keys: Sequence[tuple[str, ...]]) -> "sa.ColumnElement[bool]":
        if self._depth is Level.SERIES:
            return sa.tuple_(*self._identity).in_(keys)
        return self._identity[-1].in_([key[-1] for key in keys])

    def _walk(self, after: tuple[str, ...]) -> Select:
        rows = self._rows().where(*self._conditions).limit(_PAGE)
        return rows.where(sa.tuple_(*self._identity) > sa.tuple_(*after)) if after else rows

    def _matching(self, rows: Sequence[Row]) -> list[Attributes]:
        computed = _computed(self._index, rows, self._computed, self._scope)
        found = []
        for row in rows:
            identity = tuple(row)[: max(self._level, 1)]
            if self._level is Level.PATIENT and self._depth > Level.PATIENT:
                identity = (row.of_patient,)
            if self._depth > self._level and identity in self._seen:
                continue
            texts = [getattr(row, f"text_{n}") for n in range(len(_TEXTS[self._depth]))]
            attributes = attributes_of(*texts) | computed(row)
            if self._scope.matches(attributes) and matches(self._keys, attributes):
                found.append(attributes)
                if self._depth > self._level:
                    self._seen.add(identity)
        return found


Count = Callable[[Row], str]
"""What is computed of the entity of a row."""


def _computed(
    index: Index, rows: Sequence[Row], tags: Sequence[int], scope: Scope
) -> Callable[[Row], Attributes]:
    """A function that computes the attributes of a row, after all rows were counted together.

    Where only a part of an entity may be in the scope, that part is looked at by itself.
    """
    in_part = [tag for tag in tags if tag in COUNTED and COMPUTED[tag] < scope.depth]
    counts = {tag: _COUNTS[tag](index, rows) for tag in tags if tag not in in_part} if rows else {}
    return lambda row: {
        **{tag: count(row) for tag, count in counts.items()},
        **scope.counts(index, row, in_part),
    }


def _number(by: str, counted: Sequence["sa.Column[str]"], of: sa.FromClause) -> Any:
    """Counts rows of `of`, by the columns `counted`, which the rows have in the fields `by`."""
    fields = by.split()

    def count(index: Index, rows: Sequence[Row]) -> Count:
        wanted = {tuple(getattr(row, field) for field in fields) for row in rows}
        statement = (
            sa.select(*counted, sa.func.count())
            .select_from(of)
            .where(_in(counted, wanted))
            .group_by(*counted)
        )
        found = {tuple(key): number for *key, number in index.fetch(statement)}
        return lambda row: str(found.get(tuple(getattr(row, field) for field in fields), 0))

    return count


def _values(column: "sa.Column[str]") -> Any:
    """Collects what the series or instances of a study have in `column`."""
    table = column.table

    def collect(index: Index, rows: Sequence[Row]) -> Count:
        wanted = {(row.study_uid,) for row in rows}
        study_uid = table.c.study_uid
        statement = (
            sa.select(study_uid, column).where(_in([study_uid], wanted), column != "").distinct()
        )
        found: dict[str, list[str]] = defaultdict(list)
        for uid, value in index.fetch(statement):
            found[uid].append(value)
        return lambda row: "\\".join(sorted(found[row.study_uid]))

    return collect


def _field(name: str, end: str = "") -> Any:
    return lambda index, rows: lambda row: getattr(row, name) + end


def _in(
    columns: Sequence["sa.Column[str]"], keys: Iterable[tuple[str, ...]]
) -> "sa.ColumnElement[bool]":
    if len(columns) == 1:
        return columns[0].in_([key for (key,) in keys])
    return sa.tuple_(*columns).in_(list(keys))


_OF_PATIENT = [STUDIES.c.patient]
_COUNTS: Mapping[int, Callable[[Index, Sequence[Row]], Count]] = {
    0x00201200: _number("of_patient", _OF_PATIENT, STUDIES),
    0x00201202: _number("of_patient", _OF_PATIENT, _STUDY_OF_SERIES),
    0x00201204: _number("of_patient", _OF_PATIENT, _FROM[Level.IMAGE]),
    0x00080061: _values(SERIES.c.modality),
    0x00080062: _values(INSTANCES.c.sop_class_uid),
    0x00201206: _number("study_uid", [SERIES.c.study_uid], SERIES),
    0x00201208: _number("study_uid", [INSTANCES.c.study_uid], INSTANCES),
    0x0008041F: _field("updated", "+0000"),
    0x00201209: _number(
        "study_uid series_uid", [INSTANCES.c.study_uid, INSTANCES.c.series_uid], INSTANCES
    ),
    0x00083002: _field("transfer_syntax"),
}
