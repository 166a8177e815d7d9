"""Keys as SQL conditions: they let everything through that matches, and not much more.

`matching` decides; what cannot be said in SQL, or is not in a column, is no condition here.
"""

from collections.abc import Callable, Mapping

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from dimse.archive.attributes import Level
from dimse.archive.matching import (
    AnyValue,
    DateTimeRange,
    Key,
    MultipleValues,
    OrUnknown,
    PersonName,
    Range,
    SingleValue,
    UIDList,
    WildCard,
)
from dimse.archive.objects import key_of
from dimse.archive.rows import KEY_LENGTH
from dimse.archive.schema import INSTANCES, PATIENTS, SERIES, STUDIES

Condition = ColumnElement[bool]

_PATIENT_NAME = 0x00100010
_SOP_INSTANCE = 0x00080018
_MODALITIES_IN_STUDY = 0x00080061
_STUDY_UID, _SERIES_UID = 0x0020000D, 0x0020000E

TABLES: Mapping[Level, sa.Table] = {
    Level.PATIENT: PATIENTS,
    Level.STUDY: STUDIES,
    Level.SERIES: SERIES,
    Level.IMAGE: INSTANCES,
}
"""Whose rows are the entities of a level; a study has the attributes of its patient too."""

_ANY_SERIES = SERIES.alias("any_series")

_OF_STUDY: dict[int, "sa.Column[str]"] = {
    0x00100020: STUDIES.c.patient_id,
    _STUDY_UID: STUDIES.c.study_uid,
    0x00080020: STUDIES.c.date,
    0x00080030: STUDIES.c.time,
    0x00080050: STUDIES.c.accession_number,
    0x00200010: STUDIES.c.study_id,
}
_OF_SERIES = _OF_STUDY | {
    _STUDY_UID: SERIES.c.study_uid,
    _SERIES_UID: SERIES.c.series_uid,
    0x00080060: SERIES.c.modality,
}
_COLUMNS: Mapping[Level, Mapping[int, "sa.Column[str]"]] = {
    Level.PATIENT: {0x00100020: PATIENTS.c.patient_id},
    Level.STUDY: _OF_STUDY,
    Level.SERIES: _OF_SERIES,
    Level.IMAGE: _OF_SERIES
    | {
        _STUDY_UID: INSTANCES.c.study_uid,
        _SERIES_UID: INSTANCES.c.series_uid,
        0x00080016: INSTANCES.c.sop_class_uid,
    },
}


def conditions(keys: Mapping[int, Key], level: Level) -> list[Condition]:
    """What a query at `level` can ask the database of its keys."""
    found = (_condition(tag, key, level) for tag, key in keys.items())
    return [condition for condition in found if condition is not None]


def _condition(tag: int, key: Key, level: Level) -> Condition | None:
    if tag == _PATIENT_NAME:
        return _of_name(key, PATIENTS if level is Level.PATIENT else STUDIES)
    if tag == _SOP_INSTANCE and level is Level.IMAGE:
        uids = _uids(key)
        return None if uids is None else INSTANCES.c.object.in_(map(key_of, uids))
    if tag == _MODALITIES_IN_STUDY and level is not Level.PATIENT:
        return _of_series(key)
    column = _COLUMNS[level].get(tag)
    return None if column is None else _of_column(key, column)


def _of_column(key: Key, column: "sa.Column[str]") -> Condition | None:
    """A condition on a column of an attribute that has one value, if it follows the standard."""
    condition: Condition | None = None
    match key:
        case OrUnknown():
            inner = _of_column(key.key, column)
            condition = None if inner is None else sa.or_(inner, column == "")
        case SingleValue():
            condition = column == key.text[:KEY_LENGTH]
        case UIDList():
            condition = column.in_(key.uids)
        case Range(vr="DA" | "TM"):
            condition = _between(column, key.low, key.high)
        case DateTimeRange(zone=None):
            condition = sa.or_(_between(column, key.low[:8], key.high[:8]), column == "")
        case WildCard():
            condition = _like(column, key.pattern)
        case AnyValue():
            condition = _combined(sa.or_, key.keys, column)
        case MultipleValues():
            condition = _combined(sa.and_, key.keys, column)
    return condition


def _combined(
    how: Callable[..., Condition], keys: tuple[Key, ...], column: "sa.Column[str]"
) -> Condition | None:
    parts = [_of_column(key, column) for key in keys]
    known = [part for part in parts if part is not None]
    return how(*known) if len(known) == len(parts) else None


def _between(column: "sa.Column[str]", low: str, high: str) -> Condition:
    bounds = [column >= low] * bool(low) + [column <= high] * bool(high)
    return sa.and_(column != "", *bounds)


def _uids(key: Key) -> frozenset[str] | None:
    match key:
        case UIDList():
            return key.uids
        case SingleValue():
            return frozenset((key.text,))
        case OrUnknown():  # every instance has one
            return _uids(key.key)
    return None


def _of_name(key: Key, table: sa.Table) -> Condition | None:
    name, groups = table.c.name, table.c.name_groups
    match key:
        case OrUnknown():
            inner = _of_name(key.key, table)
            return None if inner is None else sa.or_(inner, sa.and_(name == "", groups == ""))
        case PersonName(groups=(group, *_)):
            pattern = group.rstrip("^*") + "*"  # SMITH^* fits SMITH, too
            return sa.or_(_like(name, pattern), groups > "")
    return None


def _of_series(key: Key) -> Condition | None:
    """Modalities in Study is computed: one of the series has to match."""
    match key:
        case OrUnknown():
            return _of_series(key.key)
        case MultipleValues() | AnyValue():
            return None
    condition = _of_column(key, _ANY_SERIES.c.modality)
    if condition is None:
        return None
    return sa.exists().where(_ANY_SERIES.c.study_uid == STUDIES.c.study_uid, condition)


def _like(column: "sa.Column[str]", pattern: str) -> Condition:
    """LIKE, and of what comes before the first wild card a range, for which there is an index."""
    beginning = pattern.partition("*")[0].partition("?")[0]
    text = pattern.translate(_ESCAPED)
    fits = column.like(text, escape="/")
    if not beginning:
        return fits
    return sa.and_(column >= beginning, column < beginning + _LAST, fits)


_LAST = "\U0010ffff"  # comes after every character
_ESCAPED = str.maketrans({"*": "%", "?": "_", "%": "/%", "_": "/_", "/": "//"})
