"""Objects in a folder: one DICOM file an instance, whole or not there.

    incoming/<random>.part      being received, or left by a crash and removed at the next start
    objects/xx/<key>.dcm        whole instances; the key is a hash of the SOP Instance UID, and
                                nothing a peer sent is ever part of a path
    replaced/<key>.dcm          what another object takes the place of, until the index knows that
    damaged/<key>.dcm           objects whose content is wrong, set aside for whoever looks
    store-id                    what the index knows this folder by
    lock                        held by the one server that uses the folder

A file gets its final name by a link, which cannot replace one that is there: an instance that
exists is never opened for writing. Where it is to be replaced, it has a second name until the index
knows of the new one: a rename then takes its first one, and another gives it back after a failure.
"""

import fcntl
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any, Self

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dimse.archive.committing import GroupCommit, outcome_of, settle
from dimse.archive.objects import StoredInstance, key_of
from dimse.archive.reading import digest_of, precedes, reading
from dimse.archive.replaced import ReplacedObjects
from dimse.errors import MisuseError, StatusError
from dimse.limits import Limits
from dimse.message.status import DUPLICATE_SOP_INSTANCE, OUT_OF_RESOURCES, Status
from dimse.performing import Operation
from dimse.services.instance import Instance
from dimse.services.part10 import file_head
from dimse.services.partial_file import (
    InThread,
    PartialFile,
    in_reactor_thread,
    refused,
    try_to_publish,
)
from dimse.services.storage import ReceivedInstance

DURABILITIES = {
    "full": "a success means that the instance is on the disk: fsync of file and folder",
    "relaxed": "a success means that the operating system has the instance: no fsync",
}

DUPLICATES = {
    "keep": "the first instance of a SOP Instance UID stays, another one is refused with 0x0111",
    "replace": "another instance of the same SOP Instance UID takes the place of the first",
}

_SYNCS = 8  # at once; they wait for the disk, and more bring little
_SHARDS = [f"{number:02x}" for number in range(256)]
_SUFFIX = ".dcm"


class ObjectFolder:
    """An `ObjectStore` below `folder`; `durable` objects are synced before a commit ends.

    Used by one server at a time, which holds a lock. Below `reserve` bytes of free space nothing
    is taken any more. Another object under a key that is there is refused, unless it `replaces`.
    What can be synced at once is, in `syncing`: threads of its own unless given.
    """

    log = Logger()

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        durable: bool,
        reserve: int,
        replaces: bool = False,
        syncing: Executor | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.durable = durable
        self._incoming = self.folder / "incoming"
        self._objects = self.folder / "objects"
        self.replaces = replaces
        self._old = ReplacedObjects(self.folder / "replaced", self._incoming, self._sync)
        self._reserve = reserve
        self._lock: int | None = None
        self._syncing = syncing
        self._threads: ThreadPoolExecutor | None = None  # our own

    def open(self) -> Self:
        """Lock the folder, make what is missing, remove what a crash has left.

        Raises `MisuseError` when another server holds the folder, or it cannot be used.
        """
        if self._lock is None:
            try:
                self._prepare()
            except (MisuseError, OSError) as error:
                self.close()  # else the next attempt takes it for prepared
                why = getattr(error, "strerror", error)
                raise MisuseError(f"store {self.folder}: {why}") from error
        return self

    def close(self) -> None:
        """Let another server have the folder."""
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
        lock, self._lock = self._lock, None  # it is closed also where that fails (close(2))
        if lock is not None:
            with suppress(OSError):  # nothing was written to it
                os.close(lock)

    def identity(self) -> str:
        """What tells this folder from all others; made with the first call."""
        path = self.folder / "store-id"
        try:
            return path.read_text("ascii").strip()
        except FileNotFoundError:
            identity, part = secrets.token_hex(16), self._incoming / "store-id.part"
        part.touch(0o600)
        with part.open("w", encoding="ascii") as file:
            file.write(f"{identity}\n")
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        _sync_folder(self.folder)
        return identity

    def begin(
        self,
        key: str,
        head: bytes,
        commit: Callable[[PartialFile], "Deferred[int]"] | None = None,
    ) -> PartialFile:
        """A new file that begins with `head`; raises `StatusError` when there is no room for it.

        `commit` is what `finish` does with it, where the file is a sink itself.
        """
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
            return PartialFile(part, str(self.path_of(key)), head, commit)
        except OSError as error:
            raise refused(error) from error

    def commit(self, objects: Sequence[PartialFile]) -> list[Status | Failure]:
        """Sync all files, link each, then sync each folder; when that fails, none is there."""
        try:
            return self._commit(objects)
        except BaseException:  # such as a lack of memory
            self.retract(objects)
            raise

    def _commit(self, objects: Sequence[PartialFile]) -> list[Status | Failure]:
        synced = (
            self._together(PartialFile.sync, objects) if self.durable else [None] * len(objects)
        )
        outcomes = [
            failed if isinstance(failed, Failure) else outcome_of(partial(self._publish, file))
            for file, failed in zip(objects, synced, strict=True)
        ]
        if self.durable:
            folders = sorted({os.path.dirname(file.final) for file in objects})
            for failed in self._together(_sync_folder, folders):
                if isinstance(failed, Failure):
                    self.retract(objects)
                    return [failed for _ in objects]
        return outcomes

    def _publish(self, file: PartialFile) -> Status:
        self._old.restore_owed(Path(file.final))
        try:
            return file.publish()
        except StatusError as error:
            if not self.replaces or error.status != DUPLICATE_SOP_INSTANCE:
                raise
        self._old.keep(Path(file.final))
        return file.replace()

    def replaced(self) -> set[str]:
        """The keys of those that took the place of others, and are not settled."""
        return {name.removesuffix(_SUFFIX) for name in self._old.names}

    def settle(self, keys: Iterable[str]) -> None:
        """Remove what they took the place of."""
        for key in keys:
            self._old.forget(f"{key}{_SUFFIX}")

    def make_last(self, keys: Collection[str]) -> None:
        """Bring the names of those that are there to the disk, and back what was taken back.

        A server that was killed may have published them, and not have synced their folders.
        """
        for key in sorted(self.replaced().intersection(keys)):
            self._old.restore_owed(self.path_of(key))
        for shard in sorted({key[:2] for key in keys}):
            self._sync(self._objects / shard)

    def _together(self, step: Callable[[Any], None], each: Sequence[Any]) -> list[Failure | None]:
        """Take a step that syncs for each, several at once: the file system then does in one
        write of its journal what it does in one for each, if it is asked one after the other."""
        steps = [partial(outcome_of, partial(step, one)) for one in each]
        if len(steps) == 1:
            return [steps[0]()]
        if self._syncing is None and self._threads is None:
            self._threads = ThreadPoolExecutor(_SYNCS, "dimse-sync")
        executor: Any = self._syncing or self._threads
        return list(executor.map(lambda step: step(), steps))

    def retract(self, objects: Iterable[PartialFile]) -> None:
        """Take their final names away again, those of one key from the last on."""
        for file in reversed(list(objects)):
            outcome_of(partial(self._retract, file))

    def _retract(self, file: PartialFile) -> None:
        path = Path(file.final)
        if file.replaced:
            self._old.restore(path)
        elif file.published:
            file.retract()
            self._old.forget(path.name)  # the same one, if another of the group has replaced it

    def path_of(self, key: str) -> Path:
        """The file of the object of that key, if it is there."""
        return self._objects / key[:2] / f"{key}{_SUFFIX}"

    def keys(self, low: str, high: str) -> list[str]:
        """The keys from `low`, up to but without `high`, in their order."""
        shards = [shard for shard in _SHARDS if low[:2] <= shard < high]
        names = (name for shard in shards for name in sorted(os.listdir(self._objects / shard)))
        keys = (name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))
        return [key for key in keys if low <= key < high]

    def came(self, key: str) -> int:
        """When its file was written, in nanoseconds; raises `OSError` when it is not there."""
        return os.lstat(self.path_of(key)).st_mtime_ns

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A range of a file; raises `OSError` when it is not there."""
        with reading(self.path_of(key)) as fd:
            return os.pread(fd, length, offset)

    def instance(self, stored: StoredInstance) -> Instance:
        """Its instance, to be sent from its file."""
        received = stored.received
        return Instance(
            received.sop_class_uid,
            received.sop_instance_uid,
            received.transfer_syntax,
            path=self.path_of(stored.key),
            offset=stored.offset,
            length=stored.length,
            is_same=partial(precedes, received=received) if self.replaces else None,
        )

    def digest(self, key: str, offset: int) -> str:
        """The SHA-256 of all from `offset` on."""
        return digest_of(self.path_of(key), offset)

    def old_digest(self, key: str, offset: int) -> str:
        """That of what it took the place of."""
        return digest_of(self._old.path_of(f"{key}{_SUFFIX}"), offset)

    def take_back(self, key: str) -> None:
        """What it took the place of is there again."""
        self._old.restore(self.path_of(key))

    def delete(self, key: str) -> None:
        """Remove a file for good."""
        path = self.path_of(key)
        path.unlink(missing_ok=True)
        self._sync(path.parent)

    def set_aside(self, key: str) -> Path:
        """Move a damaged file to `damaged`, beside what is there of that key; returns where it is.

        Raises `OSError` when that cannot be; the file stays where it was then.
        """
        folder = self.folder / "damaged"
        folder.mkdir(mode=0o700, exist_ok=True)
        names = (f"{key}{number}{_SUFFIX}" for number in chain([""], map("-{}".format, count(2))))
        place = next(path for path in map(folder.joinpath, names) if not os.path.lexists(path))
        path = self.path_of(key)
        path.rename(place)
        for changed in (self.folder, folder, path.parent):
            self._sync(changed)
        return place

    def _sync(self, folder: Path) -> None:
        if self.durable:
            _sync_folder(folder)

    def _free(self) -> int:
        space = os.statvfs(self._incoming)
        return space.f_bavail * space.f_frsize

    def _prepare(self) -> None:
        is_new = not self.folder.exists()
        for folder in (self.folder, self._incoming, self._objects, self.folder / "replaced"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise MisuseError("another server uses it") from error
        self._lock = lock
        for shard in _SHARDS:
            (self._objects / shard).mkdir(mode=0o700, exist_ok=True)
        for folder in (self._objects, self.folder):
            _sync_folder(folder)
        if is_new:  # else its parent is none of ours, and may not be for us to read
            _sync_folder(self.folder.absolute().parent)
        self._old.open()
        try_to_publish(self._incoming / "link.part", self._objects / "link")
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


class FileStore:
    """Keeps instances as DICOM files below `folder` (design: one server, many associations).

    `durability` is a key of `DURABILITIES`. With `full`, the commits of all associations are
    done together in a thread: each file is synced and linked, then each folder is synced, and
    only then the successes are answered. The folder is opened by `open`, or with the first
    instance. There is no index, and nothing looks into the data sets: that is an `Archive`.
    `clock` is the reactor.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        durability: str = "full",
        limits: Limits | None = None,
        in_thread: InThread = in_reactor_thread,
        clock: Any = None,
    ) -> None:
        self._limits = limits or Limits()
        self._clock = clock
        self.durability = durability
        self._objects = ObjectFolder(
            folder, durable=is_durable(durability), reserve=self._limits.disk_reserve
        )
        self._commits = GroupCommit(self._commit, discard, in_thread)

    def __str__(self) -> str:
        """Where instances go and how safe they are, for a log."""
        return f"instances go to {self.folder.absolute()}, durability {self.durability}"

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._objects.folder

    def open(self) -> Self:
        """Lock the folder, make what is missing, remove what a crash has left.

        Raises `MisuseError` when another server holds the folder, or it cannot be used.
        """
        self._objects.open()
        return self

    def begin(self, instance: ReceivedInstance, operation: Operation) -> PartialFile:
        """A sink for one instance; raises `StatusError` when there is no room for it."""
        self.open()
        commit = self._commits.add if self._objects.durable else self._commit_now
        return self._objects.begin(key_of(instance.sop_instance_uid), file_head(instance), commit)

    def path_of(self, sop_instance_uid: str) -> Path:
        """Where the instance of that UID is kept, if it is."""
        return self._objects.path_of(key_of(sop_instance_uid))

    def close(self) -> "Deferred[None]":
        """Let another server have the folder; fires when what is being committed is done.

        After `Limits.commit` seconds it fires in any case, and the log names what is not done.
        """
        idle = self._commits.idle(self._limits.commit, self._clock, _key_of)
        return idle.addCallback(lambda is_idle: self._objects.close() if is_idle else None)

    def _commit(self, files: list[PartialFile]) -> list[Status | Failure]:
        outcomes = self._objects.commit(files)
        discard(files)
        return outcomes

    def _commit_now(self, file: PartialFile) -> "Deferred[int]":
        if os.path.lexists(file.final):  # to compare may take long
            return self._commits.add(file)
        result: Deferred[int] = Deferred()
        settle(result, outcome_of(file.publish))
        file.discard()
        return result


def _key_of(file: PartialFile) -> str:
    return os.path.basename(file.final).removesuffix(_SUFFIX)


def is_durable(durability: str) -> bool:
    """What a key of `DURABILITIES` means; raises `MisuseError` for another word."""
    if durability not in DURABILITIES:
        raise MisuseError(f"durability {durability!r} is none of {', '.join(DURABILITIES)}")
    return durability == "full"


def is_replacing(duplicates: str) -> bool:
    """What a key of `DUPLICATES` means; raises `MisuseError` for another word."""
    if duplicates not in DUPLICATES:
        raise MisuseError(f"duplicates {duplicates!r} is none of {', '.join(DUPLICATES)}")
    return duplicates == "replace"


def discard(files: Iterable[PartialFile]) -> None:
    """Remove their names in `incoming`."""
    for file in files:
        file.discard()


def _sync_folder(folder: str | Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
