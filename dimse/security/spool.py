"""Audit records that wait for their collector, on the disk (PS3.15 A.6).

All of them go through it, in segments of some records each: what was handed over and not sent is
still there after a restart. A record is sent at least once.
"""

import fcntl
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from errno import ENOSPC
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from dimse.errors import MisuseError
from dimse.security.syslog import Sender, append_to, octet_counted

SPOOL_SIZE = 64 * 1024 * 1024
"""Bytes that may wait unless told otherwise: some 40,000 records."""

_SEGMENT = 64 * 1024  # bytes in one file, about 40 records: so many may be sent twice
_COUNT = re.compile(rb"([1-9][0-9]{0,8}) ")
_NAME = re.compile(r"[0-9]{12}")
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # s between two attempts to reach the collector
_FAREWELL = 5.0  # s for what is left when the node stops


class Spool:
    """A folder of mode 0700 with records in files of mode 0600, of `size` bytes at most."""

    _log = Logger()

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._size = size
        self._segments: dict[int, int] = {}  # the length of each, the oldest first
        self._offset = 0  # in the oldest: what is before it was sent
        self._next = 1
        self._lock: int | None = None

    def open(self) -> None:
        """Find what is left of an earlier run; raises `MisuseError` when it cannot be used."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            names = sorted(each.name for each in self.folder.iterdir())
            self._segments = {
                int(name): self._path(int(name)).stat().st_size
                for name in names
                if _NAME.fullmatch(name)
            }
        except OSError as error:
            self.close()
            taken = isinstance(error, BlockingIOError)
            why = "another server uses it" if taken else error.strerror
            raise MisuseError(f"audit spool {self.folder}: {why}") from error
        self._next = max(self._segments, default=0) + 1  # the last one may be cut off

    def close(self) -> None:
        """Let another server have it."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def append(self, message: bytes) -> None:
        """Keep a record; raises `OSError` when there is no room for it."""
        data = octet_counted(message)
        if sum(self._segments.values()) + len(data) > self._size:
            raise OSError(ENOSPC, f"it holds {self._size} bytes")
        length = self._segments.get(self._next, 0)
        if length and length + len(data) > _SEGMENT:
            self._next, length = self._next + 1, 0
        try:
            append_to(self._path(self._next), data)
        except OSError:
            if not length:
                with suppress(OSError):
                    self._path(self._next).unlink()
            self._next += 1  # a part of it may be there all the same
            raise
        self._segments[self._next] = length + len(data)

    def oldest(self) -> list[bytes]:
        """Some records that were not sent, in their order; none when there are no more.

        What cannot be read is set aside, and the log says so.
        """
        while self._segments:
            number = next(iter(self._segments))
            try:
                left = self._path(number).read_bytes()[self._offset : self._segments[number]]
            except OSError as error:
                self._set_aside(number, error.strerror)
                continue
            if records := _records(left):
                return records
            if left:
                self._set_aside(number, "it is cut off")
            else:
                self._remove(number)
        return []

    def sent(self, records: Sequence[bytes]) -> None:
        """Those, which are the `oldest`, need not be kept."""
        number = next(iter(self._segments))
        self._offset += sum(len(octet_counted(each)) for each in records)
        if self._offset >= self._segments[number]:
            self._remove(number)

    def _remove(self, number: int) -> None:
        self._forget(number)
        with suppress(OSError):  # then it is sent again after a restart
            self._path(number).unlink()

    def _set_aside(self, number: int, why: str | None) -> None:
        self._forget(number)
        path = self._path(number)
        self._log.error("audit spool {path}: {why}; set aside", path=str(path), why=why)
        with suppress(OSError):
            path.rename(path.with_suffix(".damaged"))

    def _forget(self, number: int) -> None:
        del self._segments[number]
        self._offset = 0
        self._next = max(self._next, number + 1)  # a name is not used again

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:012}"


def _records(data: bytes) -> list[bytes]:
    """The records of a segment that are whole: a loss of power cuts off the last one."""
    records, position = [], 0
    while match := _COUNT.match(data, position):
        position = match.end() + int(match[1])
        if position > len(data):
            break
        records.append(data[match.end() : position])
    return records


class Forwarder:
    """Gives records to a spool, and what is in the spool to a collector.

    While the collector is away it is tried again and again, and the log says so once. What the
    spool has no room for is counted, and lost.
    """

    _log = Logger()

    def __init__(self, spool: Spool, sender: Sender, collector: str, clock: Any) -> None:
        self.lost = 0
        self._spool = spool
        self._sender = sender
        self._collector = collector
        self._clock = clock
        self._away = False
        self._sending: Deferred[None] | None = None
        self._pause = _FIRST_PAUSE
        self._retry: Any = None
        self._stopped = False

    def open(self) -> None:
        """Go on with what an earlier run has left; raises `MisuseError` if there is no spool."""
        self._spool.open()
        self._stopped = self._away = False
        self._pause = _FIRST_PAUSE
        self._go_on()

    def take(self, message: bytes) -> None:
        """Keep a record, and send it."""
        try:
            self._spool.append(message)
        except OSError as error:
            self.lost += 1
            if self.lost == 1:
                self._log.error(
                    "audit spool {folder}: {reason}; records are lost",
                    folder=str(self._spool.folder),
                    reason=error.strerror,
                )
        else:
            self._say_lost()
        self._go_on()

    def close(self) -> "Deferred[None]":
        """Send what is left, unless the collector is away; fires when all is closed."""
        self._stopped = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._sending is None:
            self._closed()
            return succeed(None)
        limit = self._clock.callLater(0 if self._away else _FAREWELL, self._sending.cancel)
        done: Deferred[None] = Deferred()

        def ended(_: object) -> None:
            if limit.active():
                limit.cancel()
            self._closed()
            done.callback(None)

        self._sending.addBoth(ended)
        return done

    def _closed(self) -> None:
        self._sender.close()
        self._spool.close()
        self._say_lost()

    def _go_on(self) -> None:
        if self._sending is None and self._retry is None and not self._stopped:
            self._sending = Deferred.fromCoroutine(self._send_all())
            if self._sending.called:
                self._sending = None

    async def _send_all(self) -> None:
        try:
            while records := self._spool.oldest():
                await self._sender.send(records)
                self._spool.sent(records)
                self._came_back()
        except Exception as error:  # noqa: BLE001  of the network, of TLS, of a name
            self._went_away(error)
        finally:
            self._sending = None

    def _went_away(self, error: Exception) -> None:
        if not self._stopped:
            self._retry = self._clock.callLater(self._pause, self._try_again)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        if not self._away:
            self._away = True
            self._log.error(
                "audit collector {collector} is away: {kind}: {reason}; records are in {folder}",
                collector=self._collector,
                kind=type(error).__name__,
                reason=str(error),
                folder=str(self._spool.folder),
            )

    def _came_back(self) -> None:
        self._pause = _FIRST_PAUSE
        if self._away:
            self._away = False
            self._log.info("audit collector {collector} is there", collector=self._collector)

    def _try_again(self) -> None:
        self._retry = None
        self._go_on()

    def _say_lost(self) -> None:
        lost, self.lost = self.lost, 0
        if lost:
            self._log.error("{lost} audit records were lost", lost=lost)
