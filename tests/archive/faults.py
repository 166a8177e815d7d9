"""A disk and a database that fail when a test says so."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dimse.archive.archive import Archive

CALLS = ("open", "write", "fsync", "link", "unlink", "statvfs", "pread", "replace")
STEPS = ("do_execute", "do_executemany", "do_commit")


class Faults:
    """Counts calls, and makes some fail: the `k`-th, and with `ever` all behind it too.

    `names` are those that count, of `os` or of the dialect of a database; `error` is what they
    raise. With `late` they are done before they fail, as when an answer is lost. `retried` are
    descriptors that were synced again after that had failed.
    """

    def __init__(
        self, names: tuple[str, ...], k: int, error: Exception, *, ever: bool, late: bool
    ) -> None:
        self.names, self.k, self.error = names, k, error
        self.ever, self.late = ever, late
        self.count = 0
        self.retried: list[int] = []
        self._bad: set[int] = set()

    def call(self, name: str, real: Any, arguments: Any, options: Any) -> Any:
        if name == "fsync" and arguments[0] in self._bad:
            self.retried.append(arguments[0])
        if name == "close":
            self._bad.discard(arguments[0])
        fails = False
        if name in self.names:
            self.count += 1
            fails = self.count == self.k or (self.ever and self.count > self.k)
        if fails and name == "fsync":
            self._bad.add(arguments[0])
        if fails and not self.late:
            raise self.error
        result = real(*arguments, **options)
        if fails:
            raise self.error
        return result


@contextmanager
def faults(
    archive: Archive,
    names: tuple[str, ...],
    k: int,
    error: Exception,
    *,
    ever: bool = False,
    late: bool = False,
) -> Iterator[Faults]:
    """The k-th call of one of `names`, 0 for none, fails while this is entered."""
    them = Faults(names, k, error, ever=ever, late=late)

    def wrapped(name: str, real: Any) -> Any:
        return lambda *arguments, **options: them.call(name, real, arguments, options)

    with pytest.MonkeyPatch.context() as patch:
        for name in (*CALLS, "close"):
            patch.setattr(os, name, wrapped(name, getattr(os, name)))
        dialect = archive.index._engine.dialect
        for name in STEPS:
            patch.setattr(dialect, name, wrapped(name, getattr(dialect, name)))
        yield them
