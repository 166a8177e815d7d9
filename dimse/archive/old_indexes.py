"""The indexes in SQLite that rebuilds have left: `index.sqlite.old`, `index.sqlite.old-2`, ..."""

import os
import re
import sqlite3
from contextlib import closing
from glob import escape, glob

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from dimse.archive.schema import DEPARTMENT, INSTANCES

ENDINGS = ("", "-wal", "-shm")
"""Of the files of a database of SQLite."""

_OLD = re.compile(r".*\.old(?:-(\d+))?", re.DOTALL)


def old_indexes(file: str) -> list[str]:
    """Those beside the index in `file`, the newest last."""
    found = {path: _OLD.fullmatch(path) for path in glob(f"{escape(file)}.old*")}
    numbers = {path: int(match[1] or 1) for path, match in found.items() if match}
    return sorted(numbers, key=lambda path: numbers[path])


def next_old_index(file: str) -> str:
    """The name of the next one: none is used twice while a newer one is there."""
    number = 1
    if there := old_indexes(file):
        match = _OLD.fullmatch(there[-1])
        assert match is not None
        number = int(match[1] or 1) + 1
    while True:
        path = f"{file}.old" if number == 1 else f"{file}.old-{number}"
        if not any(os.path.lexists(f"{path}{ending}") for ending in ENDINGS):
            return path
        number += 1


def is_superseded(old: str, file: str, newest: str) -> bool:
    """Whether each row of an old index is in the index, or the newest old one, too.

    Of patients, studies and series all is in the objects. One that is damaged, or of a version
    with other tables, is not superseded as far as one can tell.
    """
    try:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("ATTACH ? AS old", (old,))
            connection.execute("ATTACH ? AS newest", (newest,))
            return _is_whole(connection) and not _has_more(connection)
    except sqlite3.Error:
        return False


def _is_whole(connection: sqlite3.Connection) -> bool:
    (first,) = connection.execute("PRAGMA old.integrity_check(1)").fetchone()
    return bool(first == "ok")


def _has_more(connection: sqlite3.Connection) -> bool:
    there = {name for (name,) in connection.execute("SELECT name FROM old.sqlite_master")}
    tables = [table for table in (INSTANCES, *DEPARTMENT) if table.name in there]
    return any(connection.execute(_only_in_old(table)).fetchone() for table in tables)


def _only_in_old(table: sa.Table) -> str:
    """SQL for a row that neither the index nor the newest old one has."""
    old, *newer = (table.to_metadata(sa.MetaData(), schema=at) for at in ("old", "main", "newest"))
    known = (
        sa.exists().where(*(other.c[key.name] == key for key in old.primary_key)) for other in newer
    )
    statement = sa.select(old).where(*(~each for each in known)).limit(1)
    dialect = sqlite.dialect()
    return str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


def remove(old: str) -> None:
    """Remove its files; raises `OSError` when that cannot be."""
    for ending in reversed(ENDINGS):
        if os.path.lexists(f"{old}{ending}"):
            os.unlink(f"{old}{ending}")
