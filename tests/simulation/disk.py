"""A disk that fails, and that forgets what was not synced when the power is lost.

Files are real ones, in a folder in memory; beside them it is kept what of them would be there
after a loss of power. POSIX promises no more than this: the bytes of a file are there when it was
synced, a name is there, or gone, when the folder was. Of what was not synced any part may be there.
"""

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dimse.archive import files
from dimse.services import instance
from tests.simulation.draws import Draws, Trace
from tests.simulation.threads import pause, stop_if_crashed

FREE = 1 << 30  # bytes, when it is not full
RESERVE = 1 << 20  # that the archive leaves
_FIRST = 1 << 20  # descriptor; none is given twice, so that a use after the close is seen

_ERRORS = {
    "open": ("EIO", "EMFILE", "ENOSPC", "EROFS"),
    "open to read": ("EIO", "EMFILE"),
    "write": ("EIO", "ENOSPC"),
    "fsync": ("EIO", "ENOSPC"),
    "link": ("EIO", "ENOSPC", "EROFS"),
    "unlink": ("EIO", "EROFS"),
    "rename": ("EIO", "ENOSPC"),
    "replace": ("EIO", "ENOSPC"),
    "mkdir": ("EIO", "ENOSPC"),
    "pread": ("EIO",),
    "read": ("EIO",),
    "listdir": ("EIO", "EMFILE"),
    "close": ("EIO",),
    "statvfs": ("EIO",),
}

CALLS = tuple(_ERRORS)
_READS = ("open to read", "pread", "read")

# Of the database, which has its own rules, and what is written once, when the folder is made.
_OTHERS = ("index.", "store-id", "incoming/store-id")


@dataclass
class Trouble:
    """What is wrong just now: how likely which calls fail, and whether there is no room."""

    disk: float = 0.0
    calls: tuple[str, ...] = CALLS
    database: float = 0.0
    statements: tuple[str, ...] = ()
    full: bool = False


@dataclass(eq=False)
class File:
    """What a file holds: so many bytes of it for sure, and `spoiled` those behind them, for good.

    After a sync that failed, the next one does not bring what that one should have.
    """

    data: bytearray = field(default_factory=bytearray)
    durable: int = 0
    spoiled: bool = False
    came: int = 0  # after how many others it was linked


@dataclass(eq=False)
class Change:
    """Names that come (with a file, or None for a folder) and go, not synced yet; of a rename both
    are there or none."""

    folders: set[str]
    names: dict[str, File | None]
    gone: tuple[str, ...] = ()


@dataclass
class Open:
    """A descriptor: the real one, and what it is of."""

    fd: int
    name: str
    file: File | None
    failed: bool = False  # to sync
    is_sent: bool = False


class Disk:
    """The disk of one node: its `folder` is another one after each crash."""

    def __init__(self, root: Path, draws: Draws, trace: Trace) -> None:
        self.root = str(root)
        self.trouble = Trouble()
        self.pauses = 0.5  # of the calls in a thread
        self.left: set[str] = set()  # names of partial files that could not be removed
        self.unread: set[str] = set()  # names of files of which something could not be read
        self._draws = draws
        self._trace = trace
        self._number = 1
        self._calm = 0
        self._next = _FIRST
        self._links = 0
        self.open_files: dict[int, Open] = {}
        self._now: dict[str, File | None] = {}
        self._safe: dict[str, File | None] = {}
        self._changes: list[Change] = []
        self.folder.mkdir(parents=True)
        self._real: Any = SimpleNamespace(
            **{name: getattr(os, name) for name in (*_ERRORS, "statvfs") if hasattr(os, name)},
            flock=fcntl.flock,
        )

    @property
    def folder(self) -> Path:
        return Path(self.root, f"disk-{self._number}")

    @property
    def is_calm(self) -> bool:
        return self._calm > 0

    @contextmanager
    def calm(self) -> Iterator[None]:
        """Nothing fails and nobody overtakes: whoever looks is not of the simulation."""
        self._calm += 1
        try:
            yield
        finally:
            self._calm -= 1

    @contextmanager
    def installed(self) -> Iterator[None]:
        """In the place of that of the operating system."""
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                if hasattr(os, name) and name != "read":
                    patch.setattr(os, name, getattr(self, f"_{name}"))
            patch.setattr(fcntl, "flock", self._flock)
            patch.setattr(instance, "open", self._open_to_read, raising=False)
            patch.setattr(files, "secrets", SimpleNamespace(token_hex=self._draws.hexadecimal))
            yield

    # What may go wrong with every call

    def _name(self, path: Any) -> str | None:
        """Below our folder, or None for what is none of our business, such as the database."""
        stop_if_crashed()
        text = os.fspath(path)
        if not isinstance(text, str) or not text.startswith(self.root) or text == self.root:
            return None
        prefix = str(self.folder)
        if text != prefix and not text.startswith(prefix + "/"):
            raise OSError(errno.EIO, "of a process that is gone")
        name = text[len(prefix) + 1 :]
        return None if name.startswith(_OTHERS) else name

    def _happen(self, call: str, name: str) -> None:
        if self._calm:
            return
        rare = 0.1 if call == "mkdir" else 1.0  # all folders are made again at each start
        if self._draws.chance(self.pauses * rare):
            pause()
        if call in self.trouble.calls and self._draws.chance(self.trouble.disk * rare):
            error = self._draws.pick(_ERRORS[call])
            self._draws.counts[f"{call}: {error}"] += 1
            self._trace.say(f"disk: {call} {name}: {error}")
            if call in _READS:
                self.unread.add(name)
            raise OSError(getattr(errno, error), error)
        if call != "mkdir":
            self._trace.say(f"disk: {call} {name}")

    def _of(self, fd: int) -> Open:
        stop_if_crashed()
        if fd not in self.open_files:
            if not self._calm:
                self._trace.say(f"disk: {fd - _FIRST} is not open")
            raise OSError(errno.EBADF, "EBADF")
        return self.open_files[fd]

    # The calls

    def _open(self, path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        if (name := self._name(path)) is None:
            return self._real.open(path, flags, mode, **options)  # type: ignore[no-any-return]
        self._happen("open" if flags & os.O_CREAT else "open to read", name)
        fd = self._real.open(path, flags, mode, **options)
        if flags & os.O_CREAT and name not in self._now:
            self._change(Change({_folder(name)}, {name: File()}))
        if flags & os.O_TRUNC and (file := self._now.get(name)) is not None:
            file.data.clear()
            file.durable = 0
        return self._opened(fd, name)

    def _opened(self, fd: int, name: str) -> int:
        self._next += 1
        self.open_files[self._next] = Open(fd, name, self._now.get(name))
        return self._next

    def _close(self, fd: int) -> None:
        if fd < _FIRST:
            self._real.close(fd)
            return
        opened = self._of(fd)
        pause()
        del self.open_files[fd]  # also when it fails (close(2) of Linux)
        self._real.close(opened.fd)
        self._happen("close", opened.name)

    def _write(self, fd: int, data: Any) -> int:
        if fd < _FIRST:
            return self._real.write(fd, data)  # type: ignore[no-any-return]
        opened = self._of(fd)
        self._happen("write", opened.name)
        if not self._calm and len(data) > 1 and self._draws.chance(0.05):
            data = data[: len(data) // 2]
        assert opened.file is not None
        opened.file.data += data
        return self._real.write(opened.fd, data)  # type: ignore[no-any-return]

    def _pread(self, fd: int, length: int, offset: int) -> bytes:
        if fd < _FIRST:
            return self._real.pread(fd, length, offset)  # type: ignore[no-any-return]
        opened = self._of(fd)
        self._happen("pread", opened.name)
        return self._real.pread(opened.fd, length, offset)  # type: ignore[no-any-return]

    def _fsync(self, fd: int) -> None:
        if fd < _FIRST:
            self._real.fsync(fd)
            return
        opened = self._of(fd)
        if opened.failed:
            self._trace.violate(f"{opened.name} is synced again after that has failed (H-R12)")
        try:
            self._happen("fsync", opened.name)
        except OSError:
            opened.failed = True
            if opened.file is not None and opened.file.durable < len(opened.file.data):
                opened.file.spoiled = True
            raise
        if opened.file is None:
            self._synced(opened.name)
        elif not opened.file.spoiled:
            opened.file.durable = len(opened.file.data)

    def _link(self, source: Any, target: Any, **options: Any) -> None:
        old, new = self._name(source), self._name(target)
        assert old is not None
        assert new is not None
        self._happen("link", new)
        self._real.link(source, target, **options)
        file = self._now[old]
        assert file is not None
        self._links += 1
        file.came = file.came or self._links
        os.utime(target, ns=(file.came, file.came))  # the clock of the machine is not ours
        self._change(Change({_folder(new)}, {new: file}))

    def _unlink(self, path: Any, **options: Any) -> None:
        if (name := self._name(path)) is None:
            self._real.unlink(path, **options)
            return
        try:
            self._happen("unlink", name)
        except OSError:
            self.left.add(name)
            raise
        self._real.unlink(path, **options)
        self._change(Change({_folder(name)}, {}, (name,)))

    def _rename(self, source: Any, target: Any, **options: Any) -> None:
        self._renamed("rename", source, target)

    def _replace(self, source: Any, target: Any, **options: Any) -> None:
        self._renamed("replace", source, target)

    def _renamed(self, call: str, source: Any, target: Any) -> None:
        old, new = self._name(source), self._name(target)
        if old is None or new is None:
            self._real.replace(source, target)
            return
        self._happen(call, new)
        self._real.replace(source, target)
        if self._now[old] is not self._now.get(new):  # else both stay (rename(2))
            self._change(Change({_folder(old), _folder(new)}, {new: self._now[old]}, (old,)))

    def _mkdir(self, path: Any, mode: int = 0o777, **options: Any) -> None:
        if (name := self._name(path)) is None:
            self._real.mkdir(path, mode, **options)
            return
        self._happen("mkdir", name)
        self._real.mkdir(path, mode, **options)
        self._change(Change({_folder(name)}, {name: None}))

    def _listdir(self, path: Any = ".") -> list[str]:
        if isinstance(path, str | os.PathLike) and (name := self._name(path)) is not None:
            self._happen("listdir", name)
        return sorted(self._real.listdir(path))

    def _statvfs(self, path: Any) -> Any:
        if self._name(path) is None:
            return self._real.statvfs(path)
        self._happen("statvfs", "")
        full = self.trouble.full and not self._calm
        return SimpleNamespace(f_bavail=1 if full else FREE, f_frsize=1)

    def _flock(self, fd: int, operation: int) -> None:
        self._real.flock(self._of(fd).fd if fd >= _FIRST else fd, operation)

    def _open_to_read(self, path: Any, mode: str, **options: Any) -> Any:
        name = self._name(path)
        assert name is not None
        self._happen("open to read", name)
        file: Any = open(path, mode, **options)  # noqa: SIM115  closed by its reader
        fd = self._opened(self._real.open(path, os.O_RDONLY), name)
        self.open_files[fd].is_sent = True
        return _Reading(file, self, fd)

    def damage(self, path: str) -> None:
        """A byte in the data set of a file is another one now."""
        name = self._name(path)
        assert name is not None
        file = self._now[name]
        assert file is not None
        at = len(file.data) - self._draws.number(1, 100)
        file.data[at] ^= 0xFF
        Path(path).write_bytes(file.data)
        self._trace.say(f"disk: byte {at} of {name} is damaged")

    # What of it lasts

    def _change(self, change: Change) -> None:
        for name in change.gone:
            self._now.pop(name, None)
        self._now |= change.names
        self._changes.append(change)

    def _synced(self, folder: str) -> None:
        """All changes in a folder are on the disk."""
        _apply(self._safe, [each for each in self._changes if folder in each.folders])
        self._changes = [each for each in self._changes if folder not in each.folders]

    def crash(self, *, power: bool, survived: Sequence[int] | None = None) -> None:
        """The process is gone, and its descriptors; without power, what was not synced too.

        Of the changes of names that were not synced, those `survived`, by their numbers, are there
        all the same; which they are is drawn unless it is said.
        """
        for opened in self.open_files.values():
            self._real.close(opened.fd)
        self.open_files.clear()
        self.left.clear()
        old = self.folder
        self._number += 1
        if not power:
            self._real.mkdir(self.folder)
            for name in ("objects", "incoming", "damaged", "replaced", "lock", "store-id"):
                if (old / name).exists():
                    self._real.rename(old / name, self.folder / name)
            return
        if survived is None:
            kept = self._draws.pick([0.0, 0.5, 0.5, 1.0])
            survived = [at for at in range(self.unsynced) if self._draws.chance(kept)]
        self._lose_power(old, survived)

    @property
    def unsynced(self) -> int:
        """How many changes of names are not on the disk for sure."""
        return len(self._changes)

    def _lose_power(self, old: Path, survived: Sequence[int]) -> None:
        _apply(self._safe, [self._changes[at] for at in survived])
        self._changes = []
        names = {n: f for n, f in sorted(self._safe.items()) if _folder_is_there(n, self._safe)}
        self._trace.say(f"disk: {len(survived)} changes of names survived")
        with self.calm():
            self._real.mkdir(self.folder)
            if (old / "store-id").exists():
                self._real.rename(old / "store-id", self.folder / "store-id")
            for file in dict.fromkeys(names.values()):
                if file is not None:
                    self._tear(file)
            for name, file in names.items():
                path = self.folder / name
                if file is None:
                    self._real.mkdir(path)
                else:
                    path.write_bytes(file.data)
                    os.utime(path, ns=(file.came, file.came))
        self._safe, self._now = dict(names), dict(names)

    def _tear(self, file: File) -> None:
        """Of what was not synced there is a part, or nothing, or what was there before."""
        if file.durable < len(file.data):
            self._draws.counts["files torn"] += 1
            keep = self._draws.number(file.durable, len(file.data))
            zeros = len(file.data) - keep if self._draws.chance(0.3) else 0
            file.data[keep:] = bytes(zeros)
            self._trace.say(f"disk: a file ends after {keep} bytes, {zeros} zeros follow")
        file.durable, file.spoiled = len(file.data), False


class _Reading:
    """A file that is read, through a descriptor of ours."""

    def __init__(self, file: Any, disk: Disk, fd: int) -> None:
        self._file = file
        self._disk = disk
        self._fd = fd

    def fileno(self) -> int:
        return int(self._file.fileno())

    def seek(self, *where: int) -> Any:
        return self._file.seek(*where)

    def read(self, count: int) -> Any:
        self._disk._happen("read", self._disk._of(self._fd).name)
        return self._file.read(count)

    def close(self) -> None:
        self._file.close()
        if self._fd in self._disk.open_files:
            self._disk._real.close(self._disk.open_files.pop(self._fd).fd)


def _folder(name: str) -> str:
    return os.path.dirname(name)


def _apply(names: dict[str, File | None], changes: list[Change]) -> None:
    for change in changes:
        for name in change.gone:
            names.pop(name, None)
        names |= change.names


def _folder_is_there(name: str, names: dict[str, File | None]) -> bool:
    folder = _folder(name)
    return not folder or (folder in names and _folder_is_there(folder, names))
