"""A PostgreSQL server for the tests: they start it, and nobody else uses it."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

_NUMBERS = count()


def _program(name: str) -> str | None:
    """Debian keeps the programs of the server out of the way."""
    found = sorted(glob(f"/usr/lib/postgresql/*/bin/{name}"))
    return found[-1] if found else shutil.which(name)


def _prefix() -> list[str]:
    """PostgreSQL does not run as root."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] * (
        os.geteuid() == 0
    )


def _run(folder: str, command: list[str]) -> None:
    command = [*_prefix(), *command]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a server in a folder of its own; yields the URL of its socket, without a database."""
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    if initdb is None or pg_ctl is None:
        if os.environ.get("DIMSE_REQUIRE_PEERS"):
            pytest.fail("PostgreSQL is missing: apt-get install postgresql")
        pytest.skip("PostgreSQL is missing: apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="dimse-pg-") as folder:
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
        data = Path(folder, "data")
        initialise = [initdb, "-D", str(data), "-U", "dimse", "-A", "trust", "-E", "UTF8", "-N"]
        _run(folder, initialise)
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        start = [pg_ctl, "-D", str(data), "-w", "-l", f"{folder}/log", "-o", options, "start"]
        _run(folder, start)
        try:
            yield f"postgresql+psycopg://dimse@/{{database}}?host={folder}"
        finally:
            if Path(data, "postmaster.pid").exists():
                _run(folder, [pg_ctl, "-D", str(data), "-m", "immediate", "stop"])


def control(server: str, *action: str) -> None:
    """Have pg_ctl `stop` a server of `postgresql`, or `restart` it, also when it has stopped."""
    folder = server.rpartition("=")[2]
    command = [str(_program("pg_ctl")), "-D", f"{folder}/data", "-w", "-l", f"{folder}/log"]
    _run(folder, [*command, *action])


def new_database(server: str, template: str = "template0") -> str:
    """The URL of a database that is made for one test, empty or as a `template` is."""
    name = f"test{next(_NUMBERS)}"
    engine = sa.create_engine(server.format(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"create database {name} locale 'C' template {template}"))
    engine.dispose()
    return server.format(database=name)
