"""What a C-GET or C-MOVE asks of the archive (PS3.4 C.4.2, C.4.3)."""

from collections.abc import Mapping

import sqlalchemy as sa
from pydicom import Dataset
from twisted.internet.defer import Deferred

from dimse.archive.attributes import UNIQUE, Level, name_of
from dimse.archive.identifier import keys_of
from dimse.archive.index import STORED, Index, stored_instance
from dimse.archive.matching import Key, SingleValue, UIDList, Universal, is_universal
from dimse.archive.objects import ObjectStore, key_of
from dimse.archive.query import MODELS, check_upper_keys, level_of
from dimse.archive.schema import INSTANCES, STUDIES, Select
from dimse.errors import StatusError
from dimse.message.status import IDENTIFIER_MISMATCH
from dimse.performing import Operation
from dimse.services.extended import RetrieveOptions
from dimse.services.instance import Instance
from dimse.services.partial_file import InThread

SUPPORTED = RetrieveOptions(relational=True)
"""What of extended negotiation the archive does (PS3.4 C.5.2.1)."""

_COLUMNS: Mapping[Level, "sa.Column[str]"] = {
    Level.PATIENT: STUDIES.c.patient_id,
    Level.STUDY: INSTANCES.c.study_uid,
    Level.SERIES: INSTANCES.c.series_uid,
}


class Retriever:
    """Finds what is to be sent: `retrieve` is what a `RetrieveSCP` is given."""

    def __init__(self, index: Index, objects: ObjectStore, in_thread: InThread) -> None:
        self._index = index
        self._objects = objects
        self._in_thread = in_thread

    def retrieve(self, identifier: Dataset, operation: Operation) -> "Deferred[list[Instance]]":
        """The instances in the order of series and number.

        Raises `StatusError` A900H for an identifier that is none of its model.
        """
        statement = _statement(identifier, operation)
        return self._in_thread(lambda: self._instances(statement))

    def _instances(self, statement: Select) -> list[Instance]:
        rows = self._index.fetch(statement)
        return [self._objects.instance(stored_instance(row)) for row in rows]


def _statement(identifier: Dataset, operation: Operation) -> Select:
    sop_class = operation.context.abstract_syntax
    model = MODELS[sop_class]
    options = RetrieveOptions.decode(operation.association.extended.get(sop_class, b""))
    level = level_of(identifier, model)
    keys = keys_of(identifier)
    if not options.relational:
        check_upper_keys(keys, level, model)
    if is_universal(keys.get(UNIQUE[level]) or Universal()):
        keyword = model.levels[level.name]
        raise StatusError(
            IDENTIFIER_MISMATCH, f"{keyword} is needed (PS3.4 C.4.2.2.1)", (UNIQUE[level],)
        )
    statement = sa.select(*STORED).order_by(
        INSTANCES.c.study_uid,
        INSTANCES.c.series_uid,
        sa.func.length(INSTANCES.c.number),
        INSTANCES.c.number,
    )
    if Level.PATIENT.name in model.levels:
        statement = statement.join(STUDIES, STUDIES.c.study_uid == INSTANCES.c.study_uid)
    for name in model.levels:
        tag = UNIQUE[Level[name]]
        if (key := keys.get(tag)) is not None and not is_universal(key):
            statement = statement.where(_condition(Level[name], tag, key))
    return statement


def _condition(level: Level, tag: int, key: Key) -> "sa.ColumnElement[bool]":
    match key:
        case SingleValue():
            values = [key.text]
        case UIDList():
            values = sorted(key.uids)
        case _:
            comment = f"{name_of(tag)}: a value or a list of UIDs (PS3.4 C.4.2.2.1)"
            raise StatusError(IDENTIFIER_MISMATCH, comment, (tag,))
    if level is Level.IMAGE:
        return INSTANCES.c.object.in_(map(key_of, values))
    return _COLUMNS[level].in_(values)
