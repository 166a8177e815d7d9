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
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from dimse.archive.part10 import HEAD_LENGTH, data_set_offset, file_head, identity_of
from dimse.errors import DimseError, MisuseError, StatusError
from dimse.limits import Limits
from dimse.message.status import (
    CANNOT_UNDERSTAND,
    DUPLICATE_SOP_INSTANCE,
    OUT_OF_RESOURCES,
    SUCCESS,
    Status,
)
from dimse.performing import Operation
from dimse.services.storage import ReceivedInstance

DURABILITIES = {
    "full": "a success means that the instance is on the disk: fsync of file and folder",
    "relaxed": "a success means that the operating system has the instance: no fsync",
}

_AT_ONCE = 1024 * 1024  # compared of two files
_SHARDS = [f"{number:02x}" for number in range(256)]

InThread = Callable[[Callable[[], Any]], "Deferred[Any]"]


class _PartialFile:
    """One file on its way, the sink of one instance.

    Every `OSError` is a lack of resources for the peer (0xA700, PS3.4 B.2.3).
    """

    __slots__ = ("_commit", "_head", "fd", "final", "offset", "part", "published", "synced")

    def __init__(
        self,
        part: str,
        final: str,
        head: bytes,
        commit: Callable[["_PartialFile"], "Deferred[int]"],
    ) -> None:
        self.part = part
        self.final = final
        self.offset = len(head)
        self.published = self.synced = False
        self._commit = commit
        self._head = head  # until the first bytes of the data set take it along
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self.fd = os.open(part, flags, 0o600)

    def write(self, data: memoryview) -> None:
        """The next bytes of the data set."""
        if self._head:
            data, self._head = memoryview(self._head + data), b""
        try:
            while data:
                data = data[os.write(self.fd, data) :]
        except OSError as error:
            raise _refused(error) from error

    def finish(self) -> "Deferred[int]":
        """Commit; fires with the status."""
        if self._head:
            self.discard()
            raise StatusError(CANNOT_UNDERSTAND, "the data set is empty")
        return self._commit(self)

    def abort(self, reason: DimseError) -> None:
        """Leave nothing behind."""
        self.discard()

    def sync(self) -> None:
        """Bring the bytes to the disk; after a failure the file is worth nothing."""
        os.fsync(self.fd)
        self.synced = True

    def publish(self) -> Status:
        """Give it its final name, or compare it with what has that name."""
        try:
            os.link(self.part, self.final)
        except FileExistsError:
            if self._is_the_same():
                return SUCCESS
            raise StatusError(
                DUPLICATE_SOP_INSTANCE, "kept: another data set under this UID"
            ) from None
        self.published = True
        return SUCCESS

    def retract(self) -> None:
        """Take the final name away again: it may be lost, so it must not answer for the next."""
        if self.published:
            os.unlink(self.final)

    def discard(self) -> None:
        """Close and remove the partial file, whatever the disk says to it."""
        fd, self.fd = self.fd, -1  # so that it is never closed twice
        for step in (partial(os.close, fd), partial(os.unlink, self.part)):
            try:
                step()
            except OSError:
                continue  # a later start removes the rest

    def _is_the_same(self) -> bool:
        """Whether the existing file holds the same data set."""
        fd = os.open(self.final, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            theirs = data_set_offset(os.pread(fd, HEAD_LENGTH, 0))
            ours = self.offset
            if identity_of(os.pread(fd, theirs, 0)) != identity_of(os.pread(self.fd, ours, 0)):
                return False  # another SOP class, or another transfer syntax
            while True:
                one = os.pread(fd, _AT_ONCE, theirs)
                other = os.pread(self.fd, _AT_ONCE, ours)
                if one != other:
                    return False
                if not one:
                    if self.synced:  # the existing file may be of a time without syncs
                        os.fsync(fd)
                    return True
                theirs, ours = theirs + len(one), ours + len(other)
        finally:
            os.close(fd)


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
        self._in_thread = in_thread or _in_reactor_thread
        self._queue: list[tuple[_PartialFile, Deferred[int]]] = []
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

    def begin(self, instance: ReceivedInstance, operation: Operation) -> _PartialFile:
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
            return _PartialFile(
                part, self._final(instance.sop_instance_uid), file_head(instance), commit
            )
        except OSError as error:
            raise _refused(error) from error

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

    def _commit_now(self, file: _PartialFile) -> "Deferred[int]":
        if os.path.lexists(file.final):  # to compare may take long
            return self._commit_later(file)
        result: Deferred[int] = Deferred()
        _settle(result, _outcome(file.publish))
        file.discard()
        return result

    def _commit_later(self, file: _PartialFile) -> "Deferred[int]":
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


def _commit(files: list[_PartialFile], durable: bool) -> list[Status | Failure]:
    """Publish a group, durably or not; runs in a thread. One outcome a file, in order."""

    def sync_and_publish(file: _PartialFile) -> Status:
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
        return Failure(_refused(error))


def _settle(result: "Deferred[int]", outcome: Status | Failure) -> None:
    if isinstance(outcome, Failure):
        result.errback(outcome)
    else:
        result.callback(outcome)


def _refused(error: OSError) -> StatusError:
    """What the peer is told; the log gets the path too, and an alarm."""
    FileStore.log.error("the store failed: {error}", error=error)
    return StatusError(OUT_OF_RESOURCES, error.strerror or "the disk failed")


def _in_reactor_thread(step: Callable[[], Any]) -> "Deferred[Any]":
    from twisted.internet import reactor

    pool: Any = reactor
    return deferToThreadPool(pool, pool.getThreadPool(), step)
