"""The databases of the index: how to connect, what to send, what of an error to tell."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from dimse.archive.schema import OPEN_STUDIES, STUDIES
from dimse.errors import MisuseError

# A lock, a statement or a network that hangs must not hold threads, and the end of the node.
_PATIENCE = {
    "connect_timeout": 10,
    "tcp_user_timeout": 30_000,
    "options": "-c lock_timeout=20s -c statement_timeout=120s",
}
_BUSY = 5.0  # seconds that a statement waits for another process, such as a backup, in SQLite


def connecting(url: sa.URL, durable: bool) -> sa.Engine:
    """The engine at a URL; its errors show no values, which are those of patients."""
    backend = url.get_backend_name()
    if backend == "postgresql":
        engine = sa.create_engine(
            url, pool_pre_ping=True, hide_parameters=True, connect_args=_PATIENCE
        )

        def connected_to_postgresql(connection: Any, _: Any) -> None:
            connection.execute(f"SET synchronous_commit = {'on' if durable else 'off'}")
            connection.commit()  # or it is taken back with the first query

        sa.event.listen(engine, "connect", connected_to_postgresql)
        return engine
    if backend != "sqlite":
        raise MisuseError(f"index {shown(str(url))}: neither sqlite nor postgresql")
    if not url.database or url.database == ":memory:":
        raise MisuseError(f"index {shown(str(url))}: names no file")
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


def synced(connection: sa.Connection, yes: bool) -> None:
    """Whether SQLite waits for the disk at the end of transactions of a connection; none is open.

    PostgreSQL always does: a server that crashes alone restarts no node, which would bring back
    what it has lost.
    """
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.driver_connection
        driver.execute(f"PRAGMA synchronous = {'FULL' if yes else 'NORMAL'}")


def adding(table: sa.Table, dialect: sa.Dialect) -> str:
    """SQL that adds rows, as the driver takes it: to make it each time is half of a commit."""
    insert: Any = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    statement = insert(table)
    if table is STUDIES:  # one that is there has grown
        updated = {"updated": statement.excluded.updated}
        statement = statement.on_conflict_do_update(index_elements=["study_uid"], set_=updated)
    elif table is OPEN_STUDIES:
        counted = {
            "instances": OPEN_STUDIES.c.instances + statement.excluded.instances,
            "peer": statement.excluded.peer,
            "ae_title": statement.excluded.ae_title,
        }
        statement = statement.on_conflict_do_update(index_elements=["study_uid"], set_=counted)
    else:
        statement = statement.on_conflict_do_nothing()
    return str(statement.compile(dialect=dialect, column_keys=table.columns.keys()))


def growing(dialect: sa.Dialect) -> str:
    """SQL that tells when a study got instances last."""
    statement = STUDIES.update().where(STUDIES.c.study_uid == sa.bindparam("study"))
    return str(statement.values(updated=sa.bindparam("now")).compile(dialect=dialect))


def shown(url: str) -> str:
    """A URL without its password, which an error must not show."""
    try:
        return without_secrets(sa.make_url(url))
    except (SQLAlchemyError, ValueError):
        return "URL"


def without_secrets(url: sa.URL) -> str:
    """Of the query, which may hold a password too, only where a socket is."""
    query = {name: value for name, value in url.query.items() if name == "host"}
    return url.set(query=query).render_as_string(hide_password=True)


def reason(error: Exception) -> str:
    """The first line of what a database says; others may hold values."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0]
