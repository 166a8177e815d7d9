"""Records that wait on the disk: whatever happens to the disk, the collector and the process."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs, formatEvent

from dimse.errors import MisuseError
from dimse.security import spool as spool_module
from dimse.security.spool import Forwarder, Spool

MIB = 1024 * 1024


class Sender:
    """A collector that is there, away or slow; it has what arrived."""

    def __init__(self) -> None:
        self.arrived: list[bytes] = []
        self.away = False
        self.slow: list[Deferred[None]] | None = None
        self.attempts = 0
        self.closed = False

    def send(self, messages: Sequence[bytes]) -> "Deferred[None]":
        self.attempts += 1
        if self.away:
            return fail(ConnectionRefusedError("nobody listens"))
        self.arrived += messages
        if self.slow is None:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self.slow.append(waiting)
        return waiting

    def close(self) -> None:
        self.closed = True


class Site:
    """A forwarder with its spool, collector and clock, and what is logged."""

    def __init__(self, folder: Path, size: int = MIB) -> None:
        self.folder = folder
        self.clock = Clock()
        self.sender = Sender()
        self.spool = Spool(folder, size)
        self.forwarder = Forwarder(self.spool, self.sender, "tls://audit.example:6514", self.clock)

    def close(self) -> None:
        closed = self.forwarder.close()
        self.clock.advance(10)
        assert closed.called
        assert self.clock.getDelayedCalls() == []

    @property
    def files(self) -> list[str]:
        return sorted(each.name for each in self.folder.iterdir() if each.name != "lock")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "spool")
    site.forwarder.open()
    yield site
    site.close()


@pytest.fixture
def log() -> Iterator[Sequence[LogEvent]]:
    with capturedLogs() as events:
        yield events


def said(log: Sequence[LogEvent]) -> str:
    return "\n".join(filter(None, map(formatEvent, log)))


def records(count: int, start: int = 0) -> list[bytes]:
    return [b"record %d \xef\xbb\xbf" % number for number in range(start, start + count)]


def take(site: Site, messages: Sequence[bytes]) -> None:
    for message in messages:
        site.forwarder.take(message)


class TestCollector:
    def test_that_is_there_has_everything_at_once_and_nothing_stays(self, site: Site) -> None:
        take(site, records(5))
        assert site.sender.arrived == records(5)
        assert site.files == []

    def test_h_r22_that_is_away_has_all_of_it_in_order_when_it_is_back(
        self, site: Site, log: Sequence[LogEvent]
    ) -> None:
        site.sender.away = True
        take(site, records(3))
        site.clock.pump([1, 2, 4, 8])
        take(site, records(3, 3))
        assert site.sender.arrived == []
        site.sender.away = False
        take(site, records(1, 6))
        assert site.sender.arrived == []  # the next attempt brings it, and nothing overtakes
        site.clock.advance(16)
        assert site.sender.arrived == records(7)
        assert site.files == []
        assert said(log).count("is away: ConnectionRefusedError: nobody listens") == 1
        assert said(log).count("is there") == 1

    def test_that_stays_away_is_not_asked_all_the_time(self, site: Site) -> None:
        site.sender.away = True
        take(site, records(1))
        site.clock.pump([1] * 3600)
        assert 60 <= site.sender.attempts <= 70

    def test_h_r22_that_is_slow_has_them_one_after_the_other(self, site: Site) -> None:
        site.sender.slow = []
        take(site, records(10))
        assert site.sender.arrived == records(1)
        site.sender.slow.pop().callback(None)
        assert site.sender.arrived == records(10)
        site.sender.slow.pop().callback(None)
        assert site.files == []

    def test_that_may_not_have_got_them_gets_them_again(self, site: Site) -> None:
        site.sender.slow = []
        take(site, records(2))
        site.sender.slow.pop().errback(ConnectionResetError("in the middle"))
        site.sender.slow = None
        site.clock.advance(1)
        assert site.sender.arrived == [*records(1), *records(2)]


class TestFolder:
    def test_nobody_else_can_read_it(self, site: Site) -> None:
        site.sender.away = True
        take(site, records(1))
        assert site.folder.stat().st_mode & 0o777 == 0o700
        assert {(site.folder / name).stat().st_mode & 0o777 for name in site.files} == {0o600}

    def test_that_others_could_read_is_closed(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        site = Site(tmp_path)
        site.forwarder.open()
        assert tmp_path.stat().st_mode & 0o777 == 0o700
        site.close()

    def test_is_one_of_one_server(self, site: Site) -> None:
        with pytest.raises(MisuseError, match="another server uses it"):
            Spool(site.folder, MIB).open()

    def test_that_cannot_be_is_told_at_the_start(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(MisuseError, match=r"audit spool .*/file: "):
            Spool(tmp_path / "file", MIB).open()

    def test_large_spools_are_of_many_files(self, site: Site) -> None:
        site.sender.away = True
        messages = [bytes([number]) * 10_000 for number in range(40)]
        take(site, messages)
        assert len(site.files) > 5
        site.sender.away = False
        site.clock.advance(1)
        assert site.sender.arrived == messages
        assert site.files == []

    def test_a_record_longer_than_a_file_is_one_too(self, site: Site) -> None:
        take(site, [bytes(200_000)])
        assert site.sender.arrived == [bytes(200_000)]


class TestFull:
    def test_h_r22_is_counted_and_the_log_says_so(
        self, tmp_path: Path, log: Sequence[LogEvent]
    ) -> None:
        site = Site(tmp_path / "spool", size=1000)
        site.forwarder.open()
        site.sender.away = True
        take(site, [bytes(90)] * 50)
        kept = 1000 // 93
        assert site.forwarder.lost == 50 - kept
        assert said(log).count("records are lost") == 1
        site.sender.away = False
        site.clock.advance(1)
        assert site.sender.arrived == [bytes(90)] * kept
        take(site, [b"after"])
        assert site.sender.arrived[-1] == b"after"
        assert f"{50 - kept} audit records were lost" in said(log)
        site.close()

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
    @pytest.mark.parametrize("call", ["open", "write", "short write", "fstat"])
    @pytest.mark.parametrize("at", range(4))
    def test_h_r22_disk_that_fails_once_loses_one_record(
        self,
        site: Site,
        monkeypatch: pytest.MonkeyPatch,
        log: Sequence[LogEvent],
        number: int,
        call: str,
        at: int,
    ) -> None:
        """Whichever call fails, for whichever record, no other one is harmed."""
        site.sender.away = True
        messages = records(4)
        for position, message in enumerate(messages):
            with monkeypatch.context() as patched:
                if position == at:
                    patched.setattr(os, call.removeprefix("short "), _failing(call, number))
                site.forwarder.take(message)
        site.sender.away = False
        site.clock.advance(1)
        assert site.sender.arrived == messages[:at] + messages[at + 1 :]
        assert site.files == []
        if at < 3:
            assert "1 audit records were lost" in said(log)

    def test_what_cannot_be_taken_back_harms_no_other(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site.sender.away = True
        take(site, records(2))
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", _failing("short write", 0))
            patched.setattr(os, "ftruncate", _failing("ftruncate", errno.EIO))
            take(site, [b"a record cut off"])
        take(site, records(2, 2))
        site.sender.away = False
        site.clock.advance(1)
        assert site.sender.arrived == records(4)
        assert site.files == []


def _failing(call: str, number: int) -> Callable[..., Any]:
    write = os.write

    def failing(*args: Any, **_: Any) -> Any:
        if call == "short write":
            return write(args[0], args[1][:5])
        raise OSError(number, os.strerror(number))

    return failing


class TestRestart:
    def test_goes_on_with_what_is_left(self, tmp_path: Path) -> None:
        site = Site(tmp_path / "spool")
        site.forwarder.open()
        site.sender.away = True
        take(site, [bytes([number]) * 10_000 for number in range(20)])
        site.close()
        again = Site(site.folder)
        again.forwarder.open()
        assert again.sender.arrived == [bytes([number]) * 10_000 for number in range(20)]
        assert again.files == []
        again.close()

    def test_of_the_same_node_goes_on_too(self, site: Site) -> None:
        site.sender.away = True
        take(site, records(2))
        site.close()
        site.sender.away = False
        site.forwarder.open()
        take(site, records(1, 2))
        assert site.sender.arrived == records(3)

    def test_what_is_on_its_way_when_it_stops_has_some_seconds(self, tmp_path: Path) -> None:
        site = Site(tmp_path / "spool")
        site.forwarder.open()
        site.sender.slow = []
        take(site, records(2))
        closed = site.forwarder.close()
        site.clock.advance(1)
        assert not closed.called
        site.sender.slow.pop().callback(None)
        site.sender.slow.pop().callback(None)
        assert closed.called
        assert site.sender.closed
        assert site.files == []
        assert site.clock.getDelayedCalls() == []

    def test_what_does_not_arrive_in_them_waits_for_the_next_run(self, tmp_path: Path) -> None:
        site = Site(tmp_path / "spool")
        site.forwarder.open()
        site.sender.slow = []
        take(site, records(2))
        closed = site.forwarder.close()
        site.clock.advance(5)
        assert closed.called
        again = Site(site.folder)
        again.forwarder.open()
        assert again.sender.arrived == records(2)
        again.close()

    @pytest.mark.parametrize("length", range(3 * len(b"12 record 0 \xef\xbb\xbf") + 3))
    def test_after_a_loss_of_power_every_whole_record_is_there(
        self, tmp_path: Path, log: Sequence[LogEvent], length: int
    ) -> None:
        """The file is cut off at each of its bytes."""
        whole = [b"12 record 0 \xef\xbb\xbf"[3:]] * 3
        site = Site(tmp_path / "spool")
        site.forwarder.open()
        site.sender.away = True
        take(site, whole)
        site.close()
        (name,) = site.files
        path = site.folder / name
        one = len(path.read_bytes()) // 3
        os.truncate(path, min(length, path.stat().st_size))
        size = path.stat().st_size
        again = Site(site.folder)
        again.forwarder.open()
        assert again.sender.arrived == whole[: size // one]
        take(again, [b"new"])
        assert again.sender.arrived == [*whole[: size // one], b"new"]
        cut = size % one != 0
        assert again.files == ([f"{name}.damaged"] if cut else [])
        assert ("it is cut off" in said(log)) == cut
        again.close()

    @pytest.mark.parametrize("content", [b"x" * 100, b"0 ", b"99999999999999999 x", b"-1 x", b" "])
    def test_a_file_that_is_none_of_ours_keeps_nothing_back(
        self, tmp_path: Path, content: bytes
    ) -> None:
        folder = tmp_path / "spool"
        folder.mkdir()
        (folder / "000000000001").write_bytes(content)
        (folder / "000000000002").write_bytes(b"3 two")
        (folder / "notes").write_bytes(b"5 notes")
        site = Site(folder)
        site.forwarder.open()
        assert site.sender.arrived == [b"two"]
        assert site.files == ["000000000001.damaged", "notes"]
        site.close()

    def test_a_file_that_cannot_be_read_keeps_nothing_back(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, log: Sequence[LogEvent]
    ) -> None:
        site.sender.away = True
        monkeypatch.setattr(spool_module, "_SEGMENT", 20)
        take(site, records(3))
        read = Path.read_bytes
        first = site.folder / site.files[0]

        def broken(path: Path) -> bytes:
            if path == first:
                raise OSError(errno.EIO, "Input/output error")
            return read(path)

        monkeypatch.setattr(Path, "read_bytes", broken)
        site.sender.away = False
        site.clock.advance(1)
        assert site.sender.arrived == records(2, 1)
        assert "Input/output error; set aside" in said(log)

    def test_what_a_killed_process_had_taken_is_there(self, tmp_path: Path) -> None:
        """It is in the file when `take` returns: nothing is held in memory."""
        site = Site(tmp_path / "spool")
        site.forwarder.open()
        site.sender.slow = []
        take(site, records(3))
        copy = tmp_path / "copy"  # the disk as a SIGKILL now would leave it
        copy.mkdir()
        for name in site.files:
            (copy / name).write_bytes((site.folder / name).read_bytes())
        again = Site(copy)
        again.forwarder.open()
        assert again.sender.arrived == records(3)
        again.close()
        site.close()
