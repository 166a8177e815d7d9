"""The object store: one DICOM file an instance, durable before a success is answered.

    incoming/<random>.part      being received, or left by a crash and removed at the next start
    objects/xx/<hash>.dcm       whole instances; the name is a hash of the SOP Instance UID, and
                                nothing a peer sent is ever part of a path
    lock                        held by the one server that uses the folder

A file gets its final name by a link, which cannot replace one that is there: an instance that
exists is never opened for writing.
"""

import fcntl
import os
import secrets
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from dimse.errors import MisuseError, StatusError
from dimse.limits import Limits
from dimse.message.status import (
    OUT_OF_RESOURCES,
    Status,
)
from dimse.performing import Operation
from dimse.services.part10 import file_head
from dimse.services.partial_file import InThread, PartialFile, in_reactor_thread, refused
from dimse.services.storage import ReceivedInstance

DURABILITIES = {
    "full": "a success means that the instance is on the disk: fsync of file and folder",
    "relaxed": "a success means that the operating system has the instance: no fsync",
}

_SHARDS = [f"{number:02x}" for number in range(256)]


class FileStore:
    """Keeps instances as DICOM files below `folder` (design: one server, many associations).

    `durability` is a key of `DURABILITIES`. With `full`, the commits of all associations are
    done together in a thread: each file is synced and linked, then each folder is synced, and
    only then the successes are answered. The folder is opened by `open`, or with the first
    instance.
    """

    log = Logger()

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        durability: str = "full",
        limits: Limits | None = None,
        in_thread: InThread | None = None,
    ) -> None:
        if durability not in DURABILITIES:
            raise MisuseError(f"durability {durability!r} is none of {', '.join(DURABILITIES)}")
        self.folder = Path(folder)
        self.durability = durability
        self._incoming = self.folder / "incoming"
        self._objects = self.folder / "objects"
        self._reserve = (limits or Limits()).disk_reserve
        self._in_thread = in_thread or in_reactor_thread
        self._queue: list[tuple[PartialFile, Deferred[int]]] = []
        self._committing = False
        self._closing: list[Deferred[None]] = []
        self._lock: int | None = None

    def open(self) -> Self:
        """Lock the folder, make what is missing, remove what a crash has left.

        Raises `MisuseError` when another server holds the folder, or it cannot be used.
        """
        if self._lock is None:
            try:
                self._prepare()
            except OSError as error:
                self.close()  # else the next attempt takes it for prepared
                raise MisuseError(f"store {self.folder}: {error.strerror}") from error
        return self

    def begin(self, instance: ReceivedInstance, operation: Operation) -> PartialFile:
        """A sink for one instance; raises `StatusError` when there is no room for it."""
        self.open()
        try:
            free = self._free()
            if free < self._reserve:
                self.log.error(
                    "{folder}: {free} bytes are free, disk-reserve keeps {reserve}",
                    folder=self.folder,
                    free=free,
                    reserve=self._reserve,
                )
                raise StatusError(OUT_OF_RESOURCES, "the disk is almost full")
            part = f"{self._incoming}/{secrets.token_hex(16)}.part"
            commit = self._commit_later if self.durability == "full" else self._commit_now
            return PartialFile(
                part, self._final(instance.sop_instance_uid), file_head(instance), commit
            )
        except OSError as error:
            raise refused(error) from error

    def _free(self) -> int:
        space = os.statvfs(self._incoming)
        return space.f_bavail * space.f_frsize

    def path_of(self, sop_instance_uid: str) -> Path:
        """Where the instance of that UID is kept, if it is."""
        return Path(self._final(sop_instance_uid))

    def _final(self, sop_instance_uid: str) -> str:
        name = sha256(sop_instance_uid.encode()).hexdigest()
        return f"{self._objects}/{name[:2]}/{name}.dcm"

    def close(self) -> "Deferred[None]":
        """Let another server have the folder; fires when what is being committed is done."""
        if self._committing:
            closed: Deferred[None] = Deferred()
            self._closing.append(closed)
            return closed
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        return succeed(None)

    def _prepare(self) -> None:
        for folder in (self.folder, self._incoming, self._objects):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise MisuseError(f"store {self.folder}: another server uses it") from error
        self._lock = lock
        for shard in _SHARDS:
            (self._objects / shard).mkdir(mode=0o700, exist_ok=True)
        _sync_folders((self._objects, self.folder, self.folder.absolute().parent))
        leftovers = list(self._incoming.glob("*.part"))
        for part in leftovers:
            part.unlink()
        if (free := self._free()) < self._reserve:
            self.log.warn(
                "{folder}: only {free} bytes are free, nothing will be taken: see disk-reserve",
                folder=self.folder,
                free=free,
            )
        if leftovers:
            self.log.info("removed {count} partial files of an earlier run", count=len(leftovers))

    def _commit_now(self, file: PartialFile) -> "Deferred[int]":
        if os.path.lexists(file.final):  # to compare may take long
            return self._commit_later(file)
        result: Deferred[int] = Deferred()
        _settle(result, _outcome(file.publish))
        file.discard()
        return result

    def _commit_later(self, file: PartialFile) -> "Deferred[int]":
        result: Deferred[int] = Deferred()
        self._queue.append((file, result))
        self._commit_next()
        return result

    def _commit_next(self) -> None:
        """Commit all that wait together; those that come meanwhile are the next group."""
        if self._committing or not self._queue:
            return
        group, self._queue = self._queue, []
        self._committing = True

        def done(outcomes: list[Status | Failure]) -> None:
            self._committing = False
            self._commit_next()
            if self._closing and not self._committing:
                closing, self._closing = self._closing, []
                self.close()
                for closed in closing:
                    closed.callback(None)
            for (_, result), outcome in zip(group, outcomes, strict=True):
                _settle(result, outcome)

        def crashed(failure: Failure) -> None:
            for file, _ in group:
                file.discard()
            done([failure] * len(group))

        commit = partial(_commit, [file for file, _ in group], self.durability == "full")
        self._in_thread(commit).addCallbacks(done, crashed)


def _commit(files: list[PartialFile], durable: bool) -> list[Status | Failure]:
    """Publish a group, durably or not; runs in a thread. One outcome a file, in order."""

    def sync_and_publish(file: PartialFile) -> Status:
        if durable:
            file.sync()
        return file.publish()

    def sync_folders() -> None:
        if durable:
            _sync_folders({os.path.dirname(file.final) for file in files})

    outcomes = [_outcome(partial(sync_and_publish, file)) for file in files]
    synced = _outcome(sync_folders)
    if isinstance(synced, Failure):
        for file in files:
            _outcome(file.retract)
        outcomes = [synced for _ in files]
    for file in files:
        file.discard()
    return outcomes


def _sync_folders(folders: Iterable[str | Path]) -> None:
    for folder in folders:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _outcome(step: Callable[[], Any]) -> Any:
    """What a step returns, or a Failure with the status that it, or its `OSError`, earns."""
    try:
        return step()
    except StatusError:
        return Failure()
    except OSError as error:
        return Failure(refused(error))


def _settle(result: "Deferred[int]", outcome: Status | Failure) -> None:
    if isinstance(outcome, Failure):
        result.errback(outcome)
    else:
        result.callback(outcome)
