"""The index: what is in the archive, in a database (SQLite or PostgreSQL, through SQLAlchemy).

All of it blocks: it is called in threads.
"""

import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from twisted.logger import Logger

from dimse.archive import migrations
from dimse.archive.database import (
    adding,
    connecting,
    growing,
    reason,
    shown,
    synced,
    without_secrets,
)
from dimse.archive.objects import StoredInstance, key_of
from dimse.archive.old_indexes import (
    ENDINGS,
    is_superseded,
    next_old_index,
    old_indexes,
    remove,
)
from dimse.archive.rows import Identity, Row, now, rows_of, value_of
from dimse.archive.schema import (
    ABOUT,
    DEPARTMENT,
    INSTANCES,
    OPEN_STUDIES,
    PATIENTS,
    SERIES,
    STUDIES,
    Select,
)
from dimse.errors import MisuseError, StatusError
from dimse.message.status import Status
from dimse.services.storage import ReceivedInstance

_STUDY_UID = 0x0020000D
_STORE = "store"  # the row with the id of the store

_KNOWN = 10_000  # studies and series that are remembered as being in the index
_AT_ONCE = 500  # instances that are forgotten in one transaction, rows that are read at once
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Index:
    """The index at `url`, such as `sqlite:///folder/index.sqlite` or `postgresql+psycopg://...`.

    `durable` commits are on the disk when they return, but in SQLite not those of instances that
    are new: what a crash of the machine loses of these, the next start finds as objects. Where one
    `replaces` another they are, for only the index tells then which of both was acknowledged.
    """

    log = Logger()

    def __init__(self, url: str, *, durable: bool = True, replaces: bool = False) -> None:
        self._lighter = durable and not replaces
        try:
            self._url = sa.make_url(url)
            self._engine = connecting(self._url, durable)
        except (SQLAlchemyError, ImportError, ValueError) as error:
            raise MisuseError(f"index {shown(url)}: {error}") from None
        self._inserts = {
            table: adding(table, self._engine.dialect)
            for table in (PATIENTS, STUDIES, SERIES, INSTANCES, OPEN_STUDIES)
        }
        self._grown = growing(self._engine.dialect)
        self._known: dict[Identity, None] = {}
        self._doubtful: set[str] = set()  # keys of instances whose commit failed, or seemed to

    def open(self) -> Self:
        """Make or renew the tables; raises `MisuseError` when that cannot be."""
        try:
            self._make_private()
            with self._transaction() as connection:
                self._check_encoding(connection)
                migrations.upgrade(connection)
        except (SQLAlchemyError, migrations.NewerError, OSError) as error:
            raise self.unusable(error) from error
        return self

    def _make_private(self) -> None:
        """SQLite would make its file, which has the names of patients, for all to read."""
        if self._file:
            os.close(os.open(self._file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))

    def _check_encoding(self, connection: sa.Connection) -> None:
        if self._url.get_backend_name() == "postgresql":
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
            if encoding != "UTF8":
                raise MisuseError(f"index {self}: the database has encoding {encoding}, not UTF8")

    def begin_anew(self) -> None:
        """Open it without an instance in it, whatever it was; raises `MisuseError` as `open` does.

        The file of SQLite is another one then, for that which is there may be damaged; it stays
        beside it with the ending `.old`, or with a number behind that, for it alone may know which
        instance a key was, until `forget_old`. What no instance tells, such as the worklist, is
        taken along as far as it can be read.
        """
        kept = self._of_the_department()
        self.close()
        file = self._file
        try:
            if file and os.path.exists(file):
                old = next_old_index(file)
                for ending in ENDINGS:
                    if os.path.exists(f"{file}{ending}"):
                        os.rename(f"{file}{ending}", f"{old}{ending}")
        except OSError as error:
            raise self.unusable(error) from error
        self.open()
        self.clear()
        with self._transaction() as connection:
            for table, rows in kept.items():
                connection.execute(table.delete())
                if rows:
                    connection.execute(table.insert(), rows)

    def forget_old(self) -> None:
        """Remove what rebuilds have left but for the newest, and what tells something else."""
        if not self._file:
            return
        *before, newest = old_indexes(self._file) or [""]
        for old in before:
            if not is_superseded(old, self._file, newest):
                self.log.info(
                    "{old} stays: it knows what no newer one does, or is damaged", old=old
                )
                continue
            try:
                remove(old)
            except OSError as error:
                self.log.warn("{old} cannot be removed: {error}", old=old, error=error.strerror)
            else:
                self.log.info("removed {old}: newer ones know all that it does", old=old)

    @property
    def _file(self) -> str | None:
        """That of SQLite."""
        return self._url.database if self._url.get_backend_name() == "sqlite" else None

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
        return without_secrets(self._url)

    def unusable(self, error: Exception) -> MisuseError:
        """What to tell who starts a server, of an error of the database."""
        code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
        remedy = "; `dimse index rebuild` makes it again from the instances"
        return MisuseError(f"index {self}: {reason(error)}{remedy if code in _DAMAGED else ''}")

    def failed(self, error: Exception, status: Status) -> StatusError:
        """What a peer is answered when the database fails; the log has what it says, in a line."""
        self.log.error(
            "the index {index} failed: {kind}: {reason}",
            index=str(self),
            kind=type(error).__name__,
            reason=reason(error),
        )
        return StatusError(status, "the index failed")

    def add(
        self,
        instances: Sequence[StoredInstance],
        replacing: Collection[str] = (),
        opening: bool = False,
    ) -> None:
        """Add instances that are not there yet, or whose keys are in `replacing`, all or none.

        With `opening` their studies have not ended then, until `end_study`.

        A patient, study or series is described by the first instance of it that came. When it
        fails, `settle` comes before anything else is looked up or added.
        """
        try:
            self._add(instances, replacing, opening)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            self._add(instances, replacing, opening)  # on a new one: the server may be there again
        self._doubtful.clear()

    def settle(self, replaced: Collection[str] = ()) -> None:
        """Remove what a failed `add` has left, if it has.

        A commit may have happened although it failed: the connection can be lost before it is
        known. An instance that was to be `replaced` keeps its row, until that is added again.
        """
        if wrong := self._doubtful.difference(replaced):
            self.remove(wrong)
        self._doubtful.clear()

    def _add(
        self, instances: Sequence[StoredInstance], replacing: Collection[str], opening: bool
    ) -> None:
        if replacing:
            self._known.clear()  # a series, or a study, may go with the instance
        rows: dict[sa.Table, dict[Identity, Row]] = {}
        for stored in instances:
            for table, identity, row in rows_of(stored, self._known):
                rows.setdefault(table, {}).setdefault(identity, row)
        with self._transaction(lasting=bool(replacing)) as connection:
            if replacing:
                self._remove(connection, list(replacing))
            if grown := self._of_known_studies(instances):
                connection.exec_driver_sql(self._grown, grown)
            for table, news in rows.items():
                connection.exec_driver_sql(self._inserts[table], list(news.values()))
            if opening and (opened := _opened(instances)):
                connection.exec_driver_sql(self._inserts[OPEN_STUDIES], opened)
            self._doubtful.update(stored.key for stored in instances)
        self._remember([*rows.get(STUDIES, ()), *rows.get(SERIES, ())])

    def _of_known_studies(self, instances: Sequence[StoredInstance]) -> list[Row]:
        """What of studies is another with each commit; the insert does it for all others."""
        studies = {value_of(stored.attributes, _STUDY_UID) for stored in instances}
        return [{"study": uid, "now": now()} for uid in sorted(studies) if (uid,) in self._known]

    @contextmanager
    def _transaction(self, *, lasting: bool = True) -> Iterator[sa.Connection]:
        """One that is not `lasting` is synced with the next one that is."""
        with self._engine.connect() as connection:
            if lighter := self._lighter and not lasting:
                synced(connection, False)
            try:
                yield connection
                connection.commit()
                if lighter:
                    synced(connection, True)
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
        wanted = list(keys)
        for start in range(0, len(wanted), _AT_ONCE):
            with self._transaction() as connection:
                self._remove(connection, wanted[start : start + _AT_ONCE])
        self._known.clear()

    def _remove(self, connection: sa.Connection, keys: Sequence[str]) -> None:
        """Then only their series, studies and patients can be empty."""
        of_series = sa.tuple_(SERIES.c.study_uid, SERIES.c.series_uid)
        gone = INSTANCES.c.object.in_(keys)
        columns = (INSTANCES.c.study_uid, INSTANCES.c.series_uid)
        series = [tuple(row) for row in connection.execute(sa.select(*columns).where(gone))]
        studies = {study_uid for study_uid, _ in series}
        of_study = STUDIES.c.study_uid.in_(studies)
        patients = connection.scalars(sa.select(STUDIES.c.patient).where(of_study)).all()
        instances = sa.exists().where(
            INSTANCES.c.study_uid == SERIES.c.study_uid,
            INSTANCES.c.series_uid == SERIES.c.series_uid,
        )
        of_a_study = sa.exists().where(SERIES.c.study_uid == STUDIES.c.study_uid)
        of_a_patient = sa.exists().where(STUDIES.c.patient == PATIENTS.c.patient)
        connection.execute(INSTANCES.delete().where(gone))
        connection.execute(SERIES.delete().where(of_series.in_(list(set(series))), ~instances))
        connection.execute(STUDIES.delete().where(of_study, ~of_a_study))
        connection.execute(PATIENTS.delete().where(PATIENTS.c.patient.in_(patients), ~of_a_patient))

    def clear(self) -> None:
        """Forget all."""
        with self._transaction() as connection:
            for table in (INSTANCES, SERIES, STUDIES, PATIENTS):
                connection.execute(table.delete())
        self._known.clear()

    def count(self) -> int:
        """How many instances there are."""
        ((count,),) = self.fetch(sa.select(sa.func.count()).select_from(INSTANCES))
        return int(count)

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

    def digests(self, keys: Collection[str]) -> list[tuple[str, int, str]]:
        """Key, offset and digest of the objects of instances that are there."""
        columns = INSTANCES.c.object, INSTANCES.c.offset, INSTANCES.c.digest
        return [tuple(row) for row in self.fetch(sa.select(*columns).where(columns[0].in_(keys)))]

    def uids(self, keys: Sequence[str]) -> list[tuple[str, str]]:
        """SOP Instance UID and Study Instance UID of objects that are there, by study."""
        columns = INSTANCES.c.instance_uid, INSTANCES.c.study_uid
        found = self.fetch(sa.select(*columns).where(INSTANCES.c.object.in_(keys)))
        return sorted(((row.instance_uid, row.study_uid) for row in found), key=lambda row: row[1])

    def end_study(self, study_uid: str, news: int) -> int:
        """It has ended, after so many new instances; with more it has begun anew.

        Returns how many instances of it there are.
        """
        columns = OPEN_STUDIES.c
        of_it = columns.study_uid == study_uid
        self.change(
            OPEN_STUDIES.update().where(of_it).values(instances=columns.instances - news),
            OPEN_STUDIES.delete().where(of_it, columns.instances <= 0),
        )
        counted = sa.select(sa.func.count()).where(INSTANCES.c.study_uid == study_uid)
        ((count,),) = self.fetch(counted)
        return int(count)

    def store_id(self, unless_any: str) -> str:
        """Which store it is the index of; of `unless_any`, if that was not said before."""
        asked = sa.select(ABOUT.c.value).where(ABOUT.c.name == _STORE)
        if not self.fetch(asked):
            with suppress(IntegrityError):  # another node was as quick
                self.change(ABOUT.insert().values(name=_STORE, value=unless_any))
        ((store_id,),) = self.fetch(asked)
        return str(store_id)

    def belong_to(self, store_id: str) -> None:
        """Be the index of that store from now on."""
        ours = ABOUT.insert().values(name=_STORE, value=store_id)
        self.change(ABOUT.delete().where(ABOUT.c.name == _STORE), ours)

    def change(self, *statements: sa.Executable) -> int:
        """Run statements in one transaction; the number of rows that the last one changed."""
        with self._transaction() as connection:
            changed = [connection.execute(each).rowcount for each in statements]
        return int(changed[-1])

    def stream(self, statement: Select) -> Iterator[Any]:
        """The rows that a query finds, a few of them in memory at a time."""
        with self._engine.connect() as connection:
            yield from connection.execution_options(yield_per=_AT_ONCE).execute(statement)

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


def _opened(instances: Sequence[StoredInstance]) -> list[Row]:
    """The studies of instances, with their numbers and who sent the last."""
    rows: dict[str, Row] = {}
    for stored in instances:
        if study_uid := value_of(stored.attributes, _STUDY_UID):
            before = rows.get(study_uid, {"instances": 0})["instances"]
            rows[study_uid] = {
                "study_uid": study_uid,
                "instances": before + 1,
                "peer": stored.received.sending_ae_title,
                "ae_title": stored.received.receiving_ae_title,
            }
    return [rows[study_uid] for study_uid in sorted(rows)]


def sqlite_url(folder: Path) -> str:
    """The index that an archive in `folder` has unless told otherwise."""
    return sa.URL.create("sqlite", database=str(folder / "index.sqlite")).render_as_string()
