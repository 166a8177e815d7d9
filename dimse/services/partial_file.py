"""One DICOM file on its way: written under a name of ours, and given its final one when whole."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from dimse.errors import DimseError, MisuseError, StatusError
from dimse.message.status import (
    CANNOT_UNDERSTAND,
    DUPLICATE_SOP_INSTANCE,
    OUT_OF_RESOURCES,
    SUCCESS,
    Status,
)
from dimse.services.part10 import same_data_set

InThread = Callable[[Callable[[], Any]], "Deferred[Any]"]

log = Logger()


class PartialFile:
    """The sink of one instance that becomes the file `final`.

    `part` is its name until then, and `head` what precedes the data set. Where there is a
    `commit(file)`, that is what `finish` does: it publishes and discards the file, and fires with
    the status. Every `OSError` is a lack of resources for the peer (0xA700, PS3.4 B.2.3).
    """

    __slots__ = (
        "_commit",
        "_head",
        "_offset",
        "fd",
        "final",
        "part",
        "published",
        "replaced",
        "synced",
    )

    def __init__(
        self,
        part: str,
        final: str,
        head: bytes,
        commit: Callable[["PartialFile"], "Deferred[int]"] | None = None,
    ) -> None:
        self.part = part
        self.final = final
        self.published = self.replaced = self.synced = False
        self._offset = len(head)
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
            raise refused(error) from error

    def finish(self) -> "Deferred[int]":
        """Commit; fires with the status."""
        if self._head:
            self.discard()
            raise StatusError(CANNOT_UNDERSTAND, "the data set is empty")
        assert self._commit is not None
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

    def replace(self) -> Status:
        """Give it its final name, in place of what has that name."""
        os.replace(self.part, self.final)
        self.published = self.replaced = True
        return SUCCESS

    def retract(self) -> None:
        """Take the final name away again: it may be lost, so it must not answer for the next."""
        if self.published and not self.replaced:
            os.unlink(self.final)

    def discard(self) -> None:
        """Close and remove the partial file, whatever the disk says to it."""
        fd, self.fd = self.fd, -1  # so that it is never closed twice
        for step in (partial(os.close, fd), partial(os.unlink, self.part)):
            try:
                step()
            except OSError:
                continue  # a replaced file has no other name; what else is left is a `.part`

    def _is_the_same(self) -> bool:
        """Whether the existing file holds the same data set."""
        fd = os.open(self.final, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            same = same_data_set(fd, self.fd, self._offset)
            if same and self.synced:  # the existing file may be of a time without syncs
                os.fsync(fd)
            return same
        finally:
            os.close(fd)


def try_to_publish(part: Path, final: Path) -> None:
    """Whether the file system can do what `PartialFile.publish` does; raises `MisuseError`."""
    final.unlink(missing_ok=True)
    part.touch(0o600)
    try:
        os.link(part, final)
        final.unlink()
    except OSError as error:
        raise MisuseError(
            f"no hard link from {part.parent.name} to {final.parent.name} can be made "
            f"({error.strerror}): they must be on one file system that has hard links"
        ) from error
    finally:
        part.unlink()


def refused(error: OSError) -> StatusError:
    """What the peer is told; the log gets the path too, and an alarm."""
    log.error("the store failed: {error}", error=error)
    return StatusError(OUT_OF_RESOURCES, error.strerror or "the disk failed")


def in_reactor_thread(step: Callable[[], Any]) -> "Deferred[Any]":
    """Run what may take long in a thread of the reactor."""
    from twisted.internet import reactor

    pool: Any = reactor
    return deferToThreadPool(pool, pool.getThreadPool(), step)
