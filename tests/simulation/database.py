"""The database of the index, whose statements fail, and of which synced commits outlast the power.

SQLite itself is trusted: it recovers from the files that a crash leaves. What is looked at is
whether we let it sync, and what we tell peers before it has.
"""

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from dimse.archive.archive import Archive
from tests.simulation.disk import Disk
from tests.simulation.draws import Draws, Trace

_ERRORS = ("database is locked", "disk I/O error", "database or disk is full")
STEPS = ("do_execute", "do_executemany", "do_commit")
_FULL = 2  # PRAGMA synchronous
_SALT = slice(16, 24)  # of the WAL: another one whenever it begins anew


class Database:
    """Watches the database of an archive, from before it is opened to a crash.

    `synced` is what of its WAL the power cannot take: its salt, and so many bytes.
    """

    def __init__(
        self,
        archive: Archive,
        disk: Disk,
        draws: Draws,
        trace: Trace,
        synced: tuple[bytes, int] = (b"", 0),
    ) -> None:
        self.path = disk.folder / "index.sqlite"
        self.engine = archive.index._engine
        self._disk = disk
        self._draws = draws
        self._trace = trace
        self.synced = synced
        dialect: Any = self.engine.dialect
        for name in STEPS:
            setattr(dialect, name, self._failing(name, getattr(dialect, name)))

    def _failing(self, name: str, real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            trouble = self._disk.trouble
            likely = trouble.database if name in trouble.statements else 0
            fails = not self._disk.is_calm and self._draws.chance(likely)
            late = fails and self._draws.chance(0.3)
            if not fails or late:
                result = real(*arguments, **options)
                if name == "do_commit":
                    self._committed(arguments[0])
            if fails:
                error = self._draws.pick(_ERRORS)
                self._draws.counts[f"{name}: {error}"] += 1
                self._trace.say(f"database: {name}: {error}{', but done' if late else ''}")
                raise sqlite3.OperationalError(error)
            return result

        return call

    def _committed(self, connection: Any) -> None:
        """Of the WAL all is on the disk now, if SQLite was told so."""
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        if synchronous >= _FULL:
            self.synced = self._wal()

    def _wal(self) -> tuple[bytes, int]:
        path = f"{self.path}-wal"
        try:
            with open(path, "rb") as file:
                return file.read(32)[_SALT], os.fstat(file.fileno()).st_size
        except FileNotFoundError:  # all of it is in the database
            return b"", 0

    def survive(self, folder: Path, *, power: bool) -> None:
        """Be in `folder` what is left of it after a crash, or a loss of power."""
        salt, length = self._wal()
        for ending in ("", "-wal"):
            if os.path.exists(f"{self.path}{ending}"):
                shutil.copyfile(f"{self.path}{ending}", folder / f"index.sqlite{ending}")
        self.engine.dispose()
        if power and length:
            synced = min(self.synced[1], length) if self.synced[0] == salt else 0
            kept = self._draws.number(synced, length)
            self._trace.say(f"database: {length - kept} bytes were lost of {length - synced}")
            os.truncate(folder / "index.sqlite-wal", kept)
            self.synced = salt, kept
