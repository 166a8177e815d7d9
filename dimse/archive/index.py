"""The index: what is in the archive, in a database (SQLite or PostgreSQL, through SQLAlchemy).

All of it blocks: it is called in threads.
"""

import json
import os
import sqlite3
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from twisted.logger import Logger

from dimse.archive import migrations
from dimse.archive.attributes import KEPT, Attributes, Level
from dimse.archive.names import folded
from dimse.archive.objects import StoredInstance, key_of
from dimse.archive.schema import DEPARTMENT, INSTANCES, PATIENTS, SERIES, STUDIES, Select
from dimse.archive.times import normal_date, normal_time
from dimse.errors import MisuseError
from dimse.services.storage import ReceivedInstance

_PATIENT_NAME, _PATIENT_ID, _ISSUER, _BIRTH_DATE = 0x00100010, 0x00100020, 0x00100021, 0x00100030
_STUDY_UID, _SERIES_UID = 0x0020000D, 0x0020000E

_KNOWN = 10_000  # studies and series that are remembered as being in the index
_BUSY = 5.0  # seconds that a statement waits for another process, such as a backup, in SQLite
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

Row = dict[str, Any]
Identity = tuple[str, ...]


class Index:
    """The index at `url`, such as `sqlite:///folder/index.sqlite` or `postgresql+psycopg://...`.

    `durable` commits are on the disk when `add` returns.
    """

    log = Logger()

    def __init__(self, url: str, *, durable: bool = True) -> None:
        try:
            self._url = sa.make_url(url)
            self._engine = _engine(self._url, durable)
        except (SQLAlchemyError, ImportError) as error:
            raise MisuseError(f"index {_shown(url)}: {error}") from None
        self._inserts = {
            table: _insert(table, self._engine.dialect)
            for table in (PATIENTS, STUDIES, SERIES, INSTANCES)
        }
        self._known: dict[Identity, None] = {}
        self._doubtful: set[str] = set()  # keys of instances whose commit failed, or seemed to

    def open(self) -> Self:
        """Make or renew the tables; raises `MisuseError` when that cannot be."""
        self._make_file()
        try:
            with self._transaction() as connection:
                migrations.upgrade(connection)
        except (SQLAlchemyError, migrations.NewerError) as error:
            raise self.unusable(error) from error
        return self

    def _make_file(self) -> None:
        """That of SQLite, for nobody else to read: it would make it as the umask has it. Those
        beside it, which it makes, get the mode of this one."""
        file = self._url.database if self._url.get_backend_name() == "sqlite" else None
        if file and not file.startswith((":", "file:")):
            with suppress(OSError):  # SQLite says why
                os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def begin_anew(self) -> None:
        """Open it without an instance in it, whatever it was; raises `MisuseError` as `open` does.

        The file of SQLite is another one then, for that which is there may be damaged. What no
        instance tells, such as the worklist, is taken along as far as it can be read.
        """
        kept = self._of_the_department()
        self.close()
        file = self._url.database if self._url.get_backend_name() == "sqlite" else None
        try:
            for ending in ("", "-wal", "-shm") if file else ():
                Path(f"{file}{ending}").unlink(missing_ok=True)
        except OSError as error:
            raise self.unusable(error) from error
        self.open()
        self.clear()
        with self._transaction() as connection:
            for table, rows in kept.items():
                connection.execute(table.delete())
                if rows:
                    connection.execute(table.insert(), rows)

    def _of_the_department(self) -> dict[sa.Table, list[Row]]:
        """The rows of the tables that no instance tells of, as far as they can be read."""
        kept: dict[sa.Table, list[Row]] = {}
        for table in DEPARTMENT:
            try:
                if sa.inspect(self._engine).has_table(table.name):
                    kept[table] = [dict(row._mapping) for row in self.fetch(sa.select(table))]
            except SQLAlchemyError as error:  # the database is damaged
                self.log.warn(
                    "index {index}: {table} cannot be kept: {reason}",
                    index=str(self),
                    table=table.name,
                    reason=reason(error),
                )
        return kept

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()

    def __str__(self) -> str:
        """Where it is, without a password."""
        return self._url.render_as_string(hide_password=True)

    def unusable(self, error: Exception) -> MisuseError:
        """What to tell who starts a server, of an error of the database."""
        code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
        remedy = "; `dimse index rebuild` makes it again from the instances"
        return MisuseError(f"index {self}: {reason(error)}{remedy if code in _DAMAGED else ''}")

    def add(self, instances: Sequence[StoredInstance]) -> None:
        """Add instances that are not there yet, all or none.

        A patient, study or series is described by the first instance of it that came. When it
        fails, `settle` comes before anything else is looked up or added.
        """
        try:
            self._add(instances)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            self._add(instances)  # on a new one: the server may be there again
        self._doubtful.clear()

    def settle(self) -> None:
        """Remove what a failed `add` has left, if it has.

        A commit may have happened although it failed: the connection can be lost before it is
        known.
        """
        if self._doubtful:
            self.remove(self._doubtful)
            self._doubtful.clear()

    def _add(self, instances: Sequence[StoredInstance]) -> None:
        rows: dict[sa.Table, dict[Identity, Row]] = {}
        for stored in instances:
            for table, identity, row in _rows(stored, self._known):
                rows.setdefault(table, {}).setdefault(identity, row)
        with self._transaction() as connection:
            for table, news in rows.items():
                connection.exec_driver_sql(self._inserts[table], list(news.values()))
            self._doubtful.update(stored.key for stored in instances)
        self._remember([*rows.get(STUDIES, ()), *rows.get(SERIES, ())])

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._engine.connect() as connection:
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.invalidate()  # a commit that failed can leave its transaction open
                self._known.clear()  # another server may have taken over, and not know them
                raise

    def _remember(self, identities: Iterable[Identity]) -> None:
        self._known.update(dict.fromkeys(identities))
        while len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]

    def remove(self, keys: Iterable[str]) -> None:
        """Forget instances, and what has none any more."""
        with self._transaction() as connection:
            for key in keys:
                connection.execute(INSTANCES.delete().where(INSTANCES.c.object == key))
            connection.execute(
                SERIES.delete().where(
                    ~sa.exists().where(
                        INSTANCES.c.study_uid == SERIES.c.study_uid,
                        INSTANCES.c.series_uid == SERIES.c.series_uid,
                    )
                )
            )
            connection.execute(
                STUDIES.delete().where(
                    ~sa.exists().where(SERIES.c.study_uid == STUDIES.c.study_uid)
                )
            )
            connection.execute(
                PATIENTS.delete().where(~sa.exists().where(STUDIES.c.patient == PATIENTS.c.patient))
            )
        self._known.clear()

    def clear(self) -> None:
        """Forget all."""
        with self._transaction() as connection:
            for table in (INSTANCES, SERIES, STUDIES, PATIENTS):
                connection.execute(table.delete())
        self._known.clear()

    def keys(self, low: str, high: str) -> list[str]:
        """The keys of the objects from `low`, up to but without `high`, in their order."""
        key = INSTANCES.c.object
        statement = sa.select(key).where(key >= low, key < high).order_by(key)
        return [key for (key,) in self.fetch(statement)]

    def stored(self, sop_instance_uids: Iterable[str]) -> dict[str, StoredInstance]:
        """What is known of instances, by UID; those that are not there are left out."""
        keys = [key_of(uid) for uid in sop_instance_uids]
        found = self.fetch(sa.select(*STORED).where(INSTANCES.c.object.in_(keys)))
        return {row.instance_uid: stored_instance(row) for row in found}

    def change(self, *statements: sa.Executable) -> int:
        """Run statements in one transaction; the number of rows that the last one changed."""
        with self._transaction() as connection:
            changed = [connection.execute(each).rowcount for each in statements]
        return int(changed[-1])

    def fetch(self, statement: Select) -> Sequence[Any]:
        """The rows that a query finds."""
        with self._engine.connect() as connection:
            return connection.execute(statement).all()


STORED = (
    INSTANCES.c.instance_uid,
    INSTANCES.c.sop_class_uid,
    INSTANCES.c.transfer_syntax,
    INSTANCES.c.offset,
    INSTANCES.c.length,
    INSTANCES.c.digest,
)
"""The columns that make a `StoredInstance`, without its attributes."""


def stored_instance(row: Any) -> StoredInstance:
    """From a row with the columns `STORED`; who sent it is not kept."""
    received = ReceivedInstance(row.sop_class_uid, row.instance_uid, row.transfer_syntax, "", "")
    return StoredInstance(received, row.offset, row.length, row.digest, {})


def attributes_of(*texts: str) -> Attributes:
    """The attributes of one or more levels, from their columns."""
    found: Attributes = {}
    for text in texts:
        found.update(_loaded(json.loads(text)))
    return found


def _loaded(read: Mapping[str, Any]) -> Attributes:
    return {
        int(tag, 16): value if isinstance(value, str) else [_loaded(item) for item in value]
        for tag, value in read.items()
    }


def text_of(attributes: Attributes) -> str:
    """As a column holds them: NUL, which PostgreSQL takes nowhere, is never a part of a value."""
    return json.dumps(_dumped(attributes), ensure_ascii=False, separators=(",", ":")).replace(
        "\\u0000", ""
    )


def _dumped(attributes: Attributes) -> dict[str, Any]:
    return {
        f"{tag:08x}": value if isinstance(value, str) else [_dumped(item) for item in value]
        for tag, value in attributes.items()
    }


def _of(attributes: Attributes, tag: int) -> str:
    value = attributes.get(tag, "")
    return value.replace("\0", "") if isinstance(value, str) else ""


def name_columns(name: str) -> dict[str, str]:
    """A person name as queries are narrowed down by it: its first group, and all others.

    A name without a first group, and what comes behind the first of several names, is of those.
    """
    first, parted, others = folded(name).partition("=")
    first, several, more = first.partition("\\")
    return {"name": first, "name_groups": f"{several}{more}{parted}{others}"}


def _rows(
    stored: StoredInstance, known: Container[Identity]
) -> Iterator[tuple[sa.Table, Identity, Row]]:
    """The rows of an instance that are not `known`, with what tells each from others."""
    levels: dict[Level, Attributes] = {level: {} for level in Level}
    for tag, value in stored.attributes.items():
        if (kept := KEPT.get(tag)) is not None:
            levels[kept.level][tag] = value
    patient, study, series, image = levels.values()
    study_uid, series_uid = _of(study, _STUDY_UID), _of(series, _SERIES_UID)
    if not study_uid:  # a non-patient object, such as a hanging protocol, has none (PS3.4 GG)
        series_uid = ""
    elif (study_uid,) not in known:
        yield from _patient_and_study(patient, study, study_uid)
    if study_uid and (study_uid, series_uid) not in known:
        row = {"study_uid": study_uid, "series_uid": series_uid, "attributes": text_of(series)}
        columns = {"modality": _of(series, 0x00080060), "number": _of(series, 0x00200011)}
        yield SERIES, (study_uid, series_uid), row | columns
    received, key = stored.received, stored.key
    yield (
        INSTANCES,
        (key, "", ""),
        {
            "object": key,
            "study_uid": study_uid,
            "series_uid": series_uid,
            "instance_uid": received.sop_instance_uid,
            "sop_class_uid": received.sop_class_uid,
            "transfer_syntax": received.transfer_syntax,
            "number": _of(image, 0x00200013),
            "offset": stored.offset,
            "length": stored.length,
            "digest": stored.digest,
            "attributes": text_of(image),
        },
    )


def _patient_and_study(
    patient: Attributes, study: Attributes, study_uid: str
) -> Iterator[tuple[sa.Table, Identity, Row]]:
    of_patient = {
        "patient": _patient_key(patient),
        "patient_id": _of(patient, _PATIENT_ID),
        **name_columns(_of(patient, _PATIENT_NAME)),
    }
    key = of_patient["patient"]
    yield PATIENTS, (key, "", "", ""), of_patient | {"attributes": text_of(patient)}
    of_study = {
        "study_uid": study_uid,
        "date": normal_date(_of(study, 0x00080020)),
        "time": normal_time(_of(study, 0x00080030)),
        "accession_number": _of(study, 0x00080050),
        "study_id": _of(study, 0x00200010),
        "updated": datetime.now(UTC).strftime("%Y%m%d%H%M%S.%f"),
        "attributes": text_of(patient | study),
    }
    yield STUDIES, (study_uid,), of_patient | of_study


def _patient_key(patient: Attributes) -> str:
    """Who a patient is: ID and issuer; without an ID the name and the date of birth."""
    if patient_id := _of(patient, _PATIENT_ID):
        return f"{patient_id}\\{_of(patient, _ISSUER)}"
    return f"\\{folded(_of(patient, _PATIENT_NAME))}\\{_of(patient, _BIRTH_DATE)}"


def _insert(table: sa.Table, dialect: sa.Dialect) -> str:
    """SQL that adds rows, as the driver takes it: to make it each time is half of a commit."""
    insert: Any = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).on_conflict_do_nothing()
    return str(statement.compile(dialect=dialect, column_keys=table.columns.keys()))


def _engine(url: sa.URL, durable: bool) -> sa.Engine:
    """Its errors show no values, which are those of patients."""
    backend = url.get_backend_name()
    if backend == "postgresql":
        engine = sa.create_engine(url, pool_pre_ping=True, hide_parameters=True)

        def connected_to_postgresql(connection: Any, _: Any) -> None:
            connection.execute(f"SET synchronous_commit = {'on' if durable else 'off'}")
            connection.commit()  # or it is taken back with the first query

        sa.event.listen(engine, "connect", connected_to_postgresql)
        return engine
    if backend != "sqlite":
        raise MisuseError(f"index {_shown(str(url))}: neither sqlite nor postgresql")
    engine = sa.create_engine(
        url, connect_args={"timeout": _BUSY}, paramstyle="named", hide_parameters=True
    )

    def connected(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.isolation_level = None  # the module begins no transaction of its own: `begin`

    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")  # so that tables are made in a transaction too

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "begin", begin)
    return engine


def _shown(url: str) -> str:
    """A URL without its password, which an error must not show."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "URL"


def reason(error: Exception) -> str:
    """The first line of what a database says; others may hold values."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0]


def sqlite_url(folder: Path) -> str:
    """The index that an archive in `folder` has unless told otherwise."""
    return sa.URL.create("sqlite", database=str(folder / "index.sqlite")).render_as_string()
