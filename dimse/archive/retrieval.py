"""What a C-GET or C-MOVE asks of the archive (PS3.4 C.4.2, C.4.3)."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import product
from tempfile import SpooledTemporaryFile
from typing import Any

import sqlalchemy as sa
from pydicom import Dataset
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import Deferred

from dimse.archive.attributes import UNIQUE, Level, name_of
from dimse.archive.identifier import keys_of
from dimse.archive.index import STORED, Index, stored_instance
from dimse.archive.matching import Key, SingleValue, UIDList, Universal, is_universal
from dimse.archive.objects import ObjectStore, key_of
from dimse.archive.query import INDEX_FAILED, MODELS, check_upper_keys, level_of
from dimse.archive.rows import attributes_of, patient_of
from dimse.archive.schema import INSTANCES, STUDIES, Select
from dimse.archive.scope import Scope
from dimse.errors import StatusError
from dimse.message.status import IDENTIFIER_MISMATCH
from dimse.performing import Operation
from dimse.security.audit import Study
from dimse.services.extended import RetrieveOptions
from dimse.services.instance import Instance
from dimse.services.partial_file import InThread
from dimse.sop_classes import InformationModel

SUPPORTED = RetrieveOptions(relational=True)
"""What of extended negotiation the archive does (PS3.4 C.5.2.1)."""

_PAGE = 500  # instances at a time: some 350 kB
_IN_MEMORY = 256 * 1024  # bytes of keys; those of 8,000 instances
_KEY = 32  # bytes: keys are SHA-256

_PATIENT_ID, _ISSUER = 0x00100020, 0x00100021
_STUDY = (STUDIES.c.study_uid, STUDIES.c.attributes)
_COLUMNS: Mapping[Level, "sa.Column[str]"] = {
    Level.STUDY: INSTANCES.c.study_uid,
    Level.SERIES: INSTANCES.c.series_uid,
}


class Retriever:
    """Finds what is to be sent: `retrieve` is what a `RetrieveSCP` is given.

    With `with_studies` each Instance says whose it is, for an audit trail.
    """

    def __init__(
        self,
        index: Index,
        objects: ObjectStore,
        in_thread: InThread,
        *,
        with_studies: bool = False,
    ) -> None:
        self._index = index
        self._objects = objects
        self._in_thread = in_thread
        self._with_studies = with_studies

    def retrieve(self, identifier: Dataset, operation: Operation) -> "Deferred[Found]":
        """The instances in the order of series and number, as they are now.

        Raises `StatusError` A900H for an identifier that is none of its model, C001H when the
        database fails.
        """
        model = MODELS[operation.context.abstract_syntax]
        level = level_of(identifier, model)
        keys = keys_of(identifier)
        statement = _statement(keys, level, model, operation)
        one = _patients(keys) if level is Level.PATIENT else None
        scope = Scope(operation.scope)
        return self._in_thread(lambda: self._found(statement, one, scope))

    def _found(self, statement: Select, patients: Select | None, scope: Scope) -> "Found":
        """Two patients of one ID are never mixed: `patients` has to find no more than one."""
        with _answered(self._index):
            if patients is not None and self._are_several(patients, scope):
                comment = "several patients have this ID: IssuerOfPatientID is needed"
                raise StatusError(IDENTIFIER_MISMATCH, comment, (_ISSUER,))
            index, objects, in_thread = self._index, self._objects, self._in_thread
            found = Found(index, objects, in_thread, statement, with_studies=self._with_studies)
            if scope.keys:
                found.keep_within(scope)
            return found

    def _are_several(self, patients: Select, scope: Scope) -> bool:
        """Of those that can be seen: the others are nobody's business."""
        found = [patient for (patient,) in self._index.fetch(patients)]
        return len(found) > 1 and sum(scope.shows(self._index, each) for each in found) > 1


class Found:
    """Instances to be sent, to be counted and to be iterated over once, by `async for`.

    Their keys are listed at once, so that what comes or goes meanwhile changes no number: of more
    than a few thousand in a temporary file. The rest is read from the index page by page, in a
    thread, and nothing of the database is held in between.
    """

    def __init__(
        self,
        index: Index,
        objects: ObjectStore,
        in_thread: InThread,
        statement: Select,
        *,
        with_studies: bool,
    ) -> None:
        self._with_studies = with_studies
        self._index = index
        self._objects = objects
        self._in_thread = in_thread
        self._keys: Any = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  closed by `__del__`
        for (key,) in index.stream(statement):
            self._keys.write(bytes.fromhex(key))
        self._count = self._keys.tell() // _KEY

    def keep_within(self, scope: Scope) -> None:
        """Leave out what is not in a scope, before anything is counted."""
        with self._keys:
            kept: Any = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  closed by `__del__`
            for start in range(0, self._count, _PAGE):
                keys = self._listed(start)
                inside = scope.within(self._index, keys)
                kept.write(b"".join(bytes.fromhex(key) for key in keys if key in inside))
        self._keys, self._count = kept, kept.tell() // _KEY

    def __len__(self) -> int:
        return self._count

    def __del__(self) -> None:
        self._keys.close()  # nobody may have iterated

    async def __aiter__(self) -> AsyncIterator[Instance]:
        with self._keys:
            for start in range(0, self._count, _PAGE):
                page: list[Instance] = await self._in_thread(partial(self._page, start))
                for instance in page:
                    yield instance

    def _listed(self, start: int) -> list[str]:
        """The keys of a page."""
        self._keys.seek(start * _KEY)
        packed = self._keys.read(_PAGE * _KEY)
        return [packed[at : at + _KEY].hex() for at in range(0, len(packed), _KEY)]

    def _page(self, start: int) -> list[Instance]:
        with _answered(self._index):
            keys = self._listed(start)
            columns = (*STORED, INSTANCES.c.study_uid)
            rows = self._index.fetch(sa.select(*columns).where(INSTANCES.c.object.in_(keys)))
            studies = self._studies({row.study_uid for row in rows}) if self._with_studies else {}
        found = {}
        for row in rows:
            stored = stored_instance(row)
            instance = self._objects.instance(stored)
            study = studies.get(row.study_uid)
            found[stored.key] = instance if study is None else replace(instance, study=study)
        return [found[key] for key in keys if key in found]

    def _studies(self, uids: set[str]) -> dict[str, Study]:
        """Whose they are, by Study Instance UID."""
        rows = self._index.fetch(sa.select(*_STUDY).where(STUDIES.c.study_uid.in_(uids)))
        return {row.study_uid: Study.of(attributes_of(row.attributes)) for row in rows}


@contextmanager
def _answered(index: Index) -> Iterator[None]:
    """What fails is answered with C001H."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise index.failed(error, INDEX_FAILED) from error


def _patients(keys: Mapping[int, Key]) -> Select:
    """Who is asked for: an ID tells patients apart only together with its issuer."""
    patients = sa.select(STUDIES.c.patient).distinct()
    return patients.where(*_of_patient(keys))


def _of_patient(keys: Mapping[int, Key]) -> "Iterator[sa.ColumnElement[bool]]":
    """Patient ID, and its issuer where the identifier has it."""
    if is_universal(patient_id := keys.get(_PATIENT_ID) or Universal()):
        return
    ids = _values(_PATIENT_ID, patient_id)
    yield STUDIES.c.patient_id.in_(ids)
    if not is_universal(issuer := keys.get(_ISSUER) or Universal()):
        issuers = _values(_ISSUER, issuer)
        yield STUDIES.c.patient.in_([patient_of(*each) for each in product(ids, issuers)])


def _statement(
    keys: Mapping[int, Key], level: Level, model: InformationModel, operation: Operation
) -> Select:
    sop_class = operation.context.abstract_syntax
    options = RetrieveOptions.decode(operation.association.extended.get(sop_class, b""))
    if not options.relational:
        check_upper_keys(keys, level, model)
    if is_universal(keys.get(UNIQUE[level]) or Universal()):
        keyword = model.levels[level.name]
        raise StatusError(
            IDENTIFIER_MISMATCH, f"{keyword} is needed (PS3.4 C.4.2.2.1)", (UNIQUE[level],)
        )
    statement = sa.select(INSTANCES.c.object).order_by(
        INSTANCES.c.study_uid,
        INSTANCES.c.series_uid,
        sa.func.length(INSTANCES.c.number),
        INSTANCES.c.number,
    )
    if Level.PATIENT.name in model.levels:
        statement = statement.join(STUDIES, STUDIES.c.study_uid == INSTANCES.c.study_uid)
        statement = statement.where(*_of_patient(keys))
    for each in (Level[name] for name in model.levels if name != Level.PATIENT.name):
        tag = UNIQUE[each]
        if (key := keys.get(tag)) is not None and not is_universal(key):
            statement = statement.where(_condition(each, _values(tag, key)))
    return statement


def _values(tag: int, key: Key) -> list[str]:
    match key:
        case SingleValue():
            return [key.text]
        case UIDList():
            return sorted(key.uids)
        case _:
            comment = f"{name_of(tag)}: a value or a list of UIDs (PS3.4 C.4.2.2.1)"
            raise StatusError(IDENTIFIER_MISMATCH, comment, (tag,))


def _condition(level: Level, values: list[str]) -> "sa.ColumnElement[bool]":
    if level is Level.IMAGE:
        return INSTANCES.c.object.in_(map(key_of, values))
    return _COLUMNS[level].in_(values)
