"""Stores ready to use for what C-STORE and C-GET bring: a folder, memory, a callback."""

import os
import secrets
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Self

from pydicom import Dataset, dcmread
from twisted.internet.defer import Deferred, execute, maybeDeferred, succeed

from dimse.errors import DimseError, MisuseError, NotAnInstanceError, StatusError
from dimse.message.status import (
    CANNOT_UNDERSTAND,
    INVALID_SOP_INSTANCE,
    OUT_OF_RESOURCES,
    SUCCESS,
)
from dimse.performing import Operation
from dimse.services.instance import Instance
from dimse.services.part10 import file_head
from dimse.services.partial_file import InThread, PartialFile, in_reactor_thread, refused
from dimse.services.storage import ReceivedInstance
from dimse.uids import is_uid

_MEGABYTE = 1024 * 1024


class FolderStore:
    """Puts each instance into `folder`, as the DICOM file `<SOP Instance UID>.dcm` of mode 0600.

    A file is written as `.<random>.part` and gets its name when it is whole, so what has a name
    is never cut off, and a symbolic link is never followed. The same data set again is a success;
    another one under the same UID is refused with 0x0111 and the first is kept, unless `replace`.
    The folder is made when it is missing. Nothing is forced to the disk before the answer: what
    must survive a loss of power belongs in a `FileStore`.

    Raises `MisuseError` for a folder that cannot be used.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        replace: bool = False,
        in_thread: InThread = in_reactor_thread,
    ) -> None:
        self.folder = Path(folder)
        self._replace = replace
        self._in_thread = in_thread
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise MisuseError(f"folder {self.folder}: {error.strerror}") from error

    def path_of(self, sop_instance_uid: str) -> Path:
        """The file of the instance of that UID, if it is there."""
        return self.folder / f"{sop_instance_uid}.dcm"

    def begin(self, instance: ReceivedInstance, operation: Operation) -> PartialFile:
        """A sink for one instance (`InstanceStore`)."""
        if not is_uid(instance.sop_instance_uid):  # for it is going to be a file's name
            raise StatusError(INVALID_SOP_INSTANCE, "not a UID (PS3.5 9.1)")
        part = str(self.folder / f".{secrets.token_hex(16)}.part")
        final = str(self.path_of(instance.sop_instance_uid))
        try:
            return PartialFile(part, final, file_head(instance), self._commit)
        except OSError as error:
            raise refused(error) from error

    def _commit(self, file: PartialFile) -> "Deferred[int]":
        def commit() -> int:
            try:
                return file.replace() if self._replace else file.publish()
            except OSError as error:
                raise refused(error) from error
            finally:
                file.discard()

        if not self._replace and os.path.lexists(file.final):  # to compare may take long
            return self._in_thread(commit)
        return execute(commit)


class HeldInstance:
    """An instance that was received, as a DICOM file in memory or, above a threshold, on the disk.

    `received` says who it is; `length` is that of its data set in bytes. `close` lets it go; for a
    `CallbackStore` that happens by itself when the callback is done.
    """

    def __init__(self, received: ReceivedInstance) -> None:
        self.received = received
        self.length = 0
        self.on_disk = False
        self._head = file_head(received)
        self._file: Any = BytesIO(self._head)
        self._file.seek(0, os.SEEK_END)

    def open(self) -> BytesIO:
        """The whole DICOM file (PS3.10) from its beginning, for one reader at a time."""
        self._file.seek(0)
        file: BytesIO = self._file
        return file

    def dataset(self) -> Dataset:
        """Read by pydicom; raises `NotAnInstanceError` for what it cannot read."""
        try:
            return dcmread(self.open())
        except Exception as error:  # noqa: BLE001  its text may hold values
            uid, kind = self.received.sop_instance_uid, type(error).__name__
            raise NotAnInstanceError(f"{uid}: pydicom cannot read it ({kind})") from None

    def instance(self) -> Instance:
        """To be sent on by `store` or `send`, while this is not closed."""
        received, offset = self.received, len(self._head)
        where: dict[str, Any]
        if self.on_disk:
            self._file.flush()
            where = {"path": Path(self._file.name), "offset": offset, "length": self.length}
        else:
            where = {"data": self._file.getvalue()[offset:]}
        return Instance(
            received.sop_class_uid, received.sop_instance_uid, received.transfer_syntax, **where
        )

    def close(self) -> None:
        """Let it go."""
        self._file.close()

    def append(self, data: memoryview) -> None:
        """The next bytes of the data set."""
        self._file.write(data)
        self.length += len(data)

    def move_to_disk(self) -> None:
        """Free its memory."""
        file = NamedTemporaryFile(prefix="dimse-", suffix=".dcm")  # noqa: SIM115  see close
        self._file, in_memory = file, self._file
        self.on_disk = True
        file.write(in_memory.getbuffer())


class _Room:
    """What a store holds at a time: `threshold` bytes in memory, `limit` in all."""

    def __init__(self, threshold: int, limit: int) -> None:
        self._threshold = threshold
        self._limit = limit
        self._in_memory = self._held = 0

    def add(self, held: HeldInstance, data: memoryview) -> None:
        """The next bytes of one; raises `StatusError` when there is no room for them."""
        length = len(data)
        if self._held + length > self._limit:
            raise StatusError(OUT_OF_RESOURCES, f"the store holds {self._limit} bytes")
        try:
            if not held.on_disk and self._in_memory + length > self._threshold:
                self._in_memory -= held.length
                held.move_to_disk()
            held.append(data)
        except OSError as error:
            raise refused(error) from error
        self._held += length
        if not held.on_disk:
            self._in_memory += length

    def free(self, held: HeldInstance) -> None:
        """One is no longer needed."""
        self._held -= held.length
        if not held.on_disk:
            self._in_memory -= held.length
        held.close()


class _Holding:
    """The sink of one instance; `complete` gets it when it is whole."""

    def __init__(
        self,
        held: HeldInstance,
        room: _Room,
        complete: Callable[[HeldInstance], "Deferred[int]"],
    ) -> None:
        self._held = held
        self._room = room
        self._complete = complete

    def write(self, data: memoryview) -> None:
        """The next bytes of the data set."""
        self._room.add(self._held, data)

    def finish(self) -> "Deferred[int]":
        """Hand it over."""
        if not self._held.length:
            self._room.free(self._held)
            raise StatusError(CANNOT_UNDERSTAND, "the data set is empty")
        return self._complete(self._held)

    def abort(self, reason: DimseError) -> None:
        """Forget it."""
        self._room.free(self._held)


class CallbackStore:
    """Calls `callback(instance, operation)` with each `HeldInstance` when it is whole.

    What it returns, or fires with as a Deferred or coroutine, is the status for the peer, None a
    success; it raises `StatusError` to refuse. Then the instance is closed. `threshold` bytes are
    held in memory at a time, the rest in temporary files; above `limit` bytes at a time an instance
    is refused with 0xA700.
    """

    def __init__(
        self,
        callback: Callable[[HeldInstance, Operation], Any],
        *,
        threshold: int = 64 * _MEGABYTE,
        limit: int = 4096 * _MEGABYTE,
    ) -> None:
        self._callback = callback
        self._room = _Room(threshold, limit)

    def begin(self, instance: ReceivedInstance, operation: Operation) -> _Holding:
        """A sink for one instance (`InstanceStore`)."""
        return _Holding(HeldInstance(instance), self._room, partial(self._call, operation))

    def _call(self, operation: Operation, held: HeldInstance) -> "Deferred[int]":
        def done(outcome: Any) -> Any:
            self._room.free(held)
            return SUCCESS if outcome is None else outcome

        return maybeDeferred(self._callback, held, operation).addBoth(done)


class MemoryStore:
    """Keeps what it receives: `instances` has a `HeldInstance` for each, in the order of coming.

    `threshold` bytes are held in memory, the rest in temporary files; above `limit` bytes in all
    an instance is refused with 0xA700. `close`, or leaving `with`, lets all of them go.
    """

    def __init__(self, *, threshold: int = 64 * _MEGABYTE, limit: int = 4096 * _MEGABYTE) -> None:
        self.instances: list[HeldInstance] = []
        self._room = _Room(threshold, limit)

    def begin(self, instance: ReceivedInstance, operation: Operation) -> _Holding:
        """A sink for one instance (`InstanceStore`)."""
        return _Holding(HeldInstance(instance), self._room, self._keep)

    def _keep(self, held: HeldInstance) -> "Deferred[int]":
        self.instances.append(held)
        return succeed(SUCCESS)

    def close(self) -> None:
        """Let all of them go."""
        while self.instances:
            self._room.free(self.instances.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
