"""The object store: what is on the disk, and in which order it got there."""

import errno
import os
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from twisted.internet.defer import Deferred, execute
from twisted.logger import LogLevel, capturedLogs, formatEvent

from dimse.archive.files import FileStore
from dimse.archive.objects import key_of
from dimse.errors import ConnectionLostError, MisuseError, StatusError
from dimse.limits import Limits
from dimse.services.storage import ReceivedInstance
from tests.archive.storing import (
    CONTENT,
    LIMITS,
    Hand,
    begin,
    digest,
    instance,
    leftovers,
    objects,
    put,
    synchronously,
)
from tests.memory import Net
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT

MR_STORAGE = "1.2.840.10008.5.1.4.1.1.4"


class TestStored:
    @pytest.mark.parametrize("durability", ["full", "relaxed"])
    def test_bit_for_bit(self, net: Net, folder: Path, durability: str):
        store = FileStore(folder, limits=LIMITS, durability=durability, in_thread=synchronously)
        assert put(net, store).value == 0
        (path,) = objects(store)
        assert path == store.path_of("1.2.3")
        assert path.read_bytes().endswith(CONTENT)
        assert path.read_bytes()[128:132] == b"DICM"
        assert leftovers(store) == []
        store.close()

    def test_the_same_again(self, net: Net, store: FileStore):
        put(net, store)
        before = store.path_of("1.2.3").stat()
        assert put(net, store).value == 0
        after = store.path_of("1.2.3").stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
        assert leftovers(store) == []

    @pytest.mark.parametrize(
        "other", [CONTENT[:-1] + b"!", CONTENT + b"ab", CONTENT[:-2], b"x" * 3_000_000]
    )
    def test_something_else_under_the_same_uid(self, net: Net, store: FileStore, other: bytes):
        """The first is kept (0x0111), and the peer is told so."""
        put(net, store)
        before = digest(store.path_of("1.2.3"))
        error = put(net, store, other).value
        assert isinstance(error, StatusError)
        assert (error.status, error.comment) == (0x0111, "kept: another data set under this UID")
        assert digest(store.path_of("1.2.3")) == before
        assert leftovers(store) == []

    @pytest.mark.parametrize(
        ("sop_class", "syntax"), [(MR_STORAGE, EXPLICIT), (CT_STORAGE, IMPLICIT)]
    )
    def test_the_same_bytes_that_mean_something_else(
        self, net: Net, store: FileStore, sop_class: str, syntax: str
    ):
        """In another transfer syntax, or of another SOP class."""
        put(net, store)
        sink = begin(store, ReceivedInstance(sop_class, "1.2.3", syntax, "MODALITY", "ARCHIVE"))
        sink.write(memoryview(CONTENT))
        assert net.outcome(sink.finish()).value.status == 0x0111
        assert leftovers(store) == []

    def test_a_source_with_another_ae_title_is_no_difference(self, net: Net, store: FileStore):
        put(net, store)
        other = ReceivedInstance(CT_STORAGE, "1.2.3", EXPLICIT, "ANOTHER MODALITY", "A")
        sink = begin(store, other)
        sink.write(memoryview(CONTENT))
        assert net.outcome(sink.finish()).value == 0

    @pytest.mark.parametrize(
        "damaged",
        [
            b"",
            b"short",
            bytes(128) + b"DICM",
            bytes(5000),
            bytes(128) + b"DICM" + bytes(5000),
            bytes(128) + b"DICM\2\0\0\0UL\4\0\xff\xff\xff\xff" + bytes(5000),
        ],
    )
    @pytest.mark.parametrize("durability", ["full", "relaxed"])
    def test_a_damaged_file_under_its_name(
        self, net: Net, folder: Path, damaged: bytes, durability: str
    ):
        """0xA700 and an error in the log, never a success; and it fails nobody else."""
        store = FileStore(folder, limits=LIMITS, durability=durability, in_thread=synchronously)
        path = store.open().path_of("1.2.3")
        path.write_bytes(damaged)
        assert put(net, store).value.status == 0xA700
        assert [e for e in net.events if e["log_level"] is LogLevel.error]
        assert path.read_bytes() == damaged
        assert put(net, store, uid="1.2.4").value == 0
        assert leftovers(store) == []
        store.close()

    def test_a_file_cut_off(self, net: Net, store: FileStore):
        """As a disk that lied may leave it: wherever it was cut, nothing is a success."""
        put(net, store)
        path = store.path_of("1.2.3")
        whole = path.read_bytes()
        for length in (*range(len(whole) - len(CONTENT)), len(whole) - 1):
            path.write_bytes(whole[:length])
            assert put(net, store).value.status in (0xA700, 0x0111)

    def test_an_empty_data_set(self, net: Net, store: FileStore):
        assert put(net, store, b"").value.status == 0xC000
        assert objects(store) == leftovers(store) == []

    def test_modes(self, net: Net, folder: Path):
        """H-A06: whatever the umask is."""
        umask = os.umask(0)
        try:
            store = FileStore(folder, limits=LIMITS, in_thread=synchronously)
            put(net, store)
            sink = begin(store, instance("1.2.4"))
        finally:
            os.umask(umask)
        for path in [folder, *folder.rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), path
        sink.abort(ConnectionLostError("gone"))
        store.close()


class TestNames:
    @pytest.mark.parametrize(
        "uid", ["../../etc/passwd", "/etc/passwd", "1.2.3\0", "a" * 10_000, "", "1.2/../3", "é"]
    )
    def test_nothing_of_a_uid_is_in_a_path(self, store: FileStore, uid: str):
        path = store.path_of(uid)
        assert path.resolve().parent.parent == (store.folder / "objects").resolve()
        assert path.name == sha256(uid.encode()).hexdigest() + ".dcm"

    def test_h_a05_a_symlink_at_the_target(self, net: Net, store: FileStore, tmp_path: Path):
        """It is neither followed nor replaced."""
        victim = tmp_path / "victim"
        victim.write_bytes(b"precious")
        store.path_of("1.2.3").symlink_to(victim)
        error = put(net, store).value
        assert isinstance(error, StatusError)
        assert error.status == 0xA700
        assert victim.read_bytes() == b"precious"
        assert store.path_of("1.2.3").is_symlink()
        assert leftovers(store) == []

    def test_h_a05_a_dangling_symlink_and_a_folder(
        self, net: Net, store: FileStore, tmp_path: Path
    ):
        store.path_of("1.2.3").symlink_to(tmp_path / "created by a peer")
        store.path_of("1.2.4").mkdir()
        for uid in ("1.2.3", "1.2.4"):
            assert put(net, store, uid=uid).value.status == 0xA700
        assert not (tmp_path / "created by a peer").exists()


class TestDurability:
    """A success means what `DURABILITIES` says, in this order."""

    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        calls: list[str] = []
        fsync, link = os.fsync, os.link

        def recording_fsync(fd: int) -> None:
            calls.append("fsync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "fsync file")
            fsync(fd)

        def recording_link(*arguments: Any) -> None:
            calls.append("link")
            link(*arguments)

        monkeypatch.setattr(os, "fsync", recording_fsync)
        monkeypatch.setattr(os, "link", recording_link)
        return calls

    def test_full(self, net: Net, store: FileStore, calls: list[str]):
        calls.clear()
        sink = begin(store, instance())
        sink.write(memoryview(CONTENT))
        sink.finish().addCallback(lambda status: calls.append(f"answer {status:04X}"))
        assert calls == ["fsync file", "link", "fsync folder", "answer 0000"]

    def test_full_for_what_is_there_already(self, net: Net, store: FileStore, calls: list[str]):
        """Who repeats a request is told a success only when bytes and name are safe."""
        put(net, store)
        calls.clear()
        put(net, store)
        assert calls == ["fsync file", "link", "fsync file", "fsync folder"]

    def test_relaxed(self, net: Net, folder: Path, calls: list[str]):
        store = FileStore(folder, limits=LIMITS, durability="relaxed").open()
        calls.clear()
        assert put(net, store).value == 0
        assert calls == ["link"]
        store.close()

    def test_relaxed_compares_in_the_thread(self, net: Net, folder: Path, calls: list[str]):
        """To read what is there may take long; and nothing is synced for it."""
        hand = Hand()
        store = FileStore(folder, limits=LIMITS, durability="relaxed", in_thread=hand)
        put(net, store)
        assert hand.steps == []
        calls.clear()
        same, other = put(net, store), put(net, store, b"other" * 2)
        assert same.firings == []
        hand.go()
        hand.go()
        assert (same.value, other.value.status) == (0, 0x0111)
        assert calls == ["link", "link"]
        assert leftovers(store) == []
        store.close()

    def test_the_store_itself(self, folder: Path, calls: list[str]):
        """Its folders are durable before anything is stored in them."""
        FileStore(folder, limits=LIMITS).open().close()
        assert calls == ["fsync folder"] * 3 + ["link"]  # the last one is a try (H-R20)

    def test_groups(self, net: Net, folder: Path, calls: list[str]):
        """What comes while a group is committed is the next group: one step in a thread each."""
        hand = Hand()
        store = FileStore(folder, limits=LIMITS, in_thread=hand)
        first = put(net, store, uid="1.1")
        others = [put(net, store, uid=f"1.{n}") for n in range(2, 6)]
        assert len(hand.steps) == 1
        hand.go()
        assert first.value == 0
        assert [other.firings for other in others] == [[]] * 4
        assert len(hand.steps) == 1
        calls.clear()
        hand.go()
        assert [other.value for other in others] == [0] * 4
        assert calls[:8] == ["fsync file"] * 4 + ["link"] * 4
        assert set(calls[8:]) == {"fsync folder"}
        assert hand.steps == []
        store.close()

    def test_two_of_one_uid_in_a_group(self, net: Net, folder: Path):
        """H-A03: the first is kept, and bytes are never mixed."""
        hand = Hand()
        store = FileStore(folder, limits=LIMITS, in_thread=hand)
        put(net, store, uid="9")
        same, other = put(net, store), put(net, store, b"other" * 2)
        again = put(net, store)
        for _ in range(2):
            hand.go()
        assert (same.value, other.value.status, again.value) == (0, 0x0111, 0)
        assert store.path_of("1.2.3").read_bytes().endswith(CONTENT)
        store.close()

    def test_a_thread_that_crashes(self, net: Net, folder: Path):
        """Not by the disk but by a bug: every one of the group fails, and the next goes on."""
        calls = 0

        def in_thread(step: Callable[[], Any]) -> "Deferred[Any]":
            nonlocal calls
            calls += 1
            return execute(step) if calls > 1 else execute(lambda: 1 / 0)

        store = FileStore(folder, limits=LIMITS, in_thread=in_thread)
        assert isinstance(put(net, store).value, ZeroDivisionError)
        assert put(net, store, uid="1.2.4").value == 0
        store.close()


class TestFolder:
    def test_it_is_opened_with_the_first_instance(self, net: Net, folder: Path):
        store = FileStore(folder, limits=LIMITS, in_thread=synchronously)
        assert not folder.exists()
        assert put(net, store).value == 0
        assert store.open() is store
        store.close()
        store.close()

    def test_closing_waits_for_what_is_being_committed(self, net: Net, folder: Path):
        """The folder stays locked as long as this server writes to it."""
        hand = Hand()
        store = FileStore(folder, limits=LIMITS, in_thread=hand)
        stored = [put(net, store, uid="1.1"), put(net, store, uid="1.2")]
        closed = [net.outcome(store.close()) for _ in range(2)]
        for _ in stored:
            assert [each.firings for each in closed] == [[], []]
            with pytest.raises(MisuseError, match="another server"):
                FileStore(folder, limits=LIMITS).open()
            hand.go()
        assert [each.value for each in stored] == [0, 0]
        assert [each.value for each in closed] == [None, None]
        FileStore(folder, limits=LIMITS).open().close()
        assert net.outcome(store.close()).value is None

    def test_closing_does_not_wait_for_a_disk_that_hangs(self, net: Net, folder: Path):
        """What was not committed is in the log; the folder stays locked while the thread lives."""
        hand = Hand()
        limits = Limits(disk_reserve=0, commit=7)
        store = FileStore(folder, limits=limits, in_thread=hand, clock=net.clock)
        for uid in ("1.2.3", "1.2.4"):
            put(net, store, uid=uid)
        closed = net.outcome(store.close())
        net.clock.advance(6.9)
        assert closed.firings == []
        with capturedLogs() as events:
            net.clock.advance(0.1)
        assert closed.value is None
        (line,) = map(formatEvent, events)
        names = f"{key_of('1.2.3')}, {key_of('1.2.4')}"
        assert line == f"the disk hangs: 2 instances are not committed: {names}"
        with pytest.raises(MisuseError, match="another server"):
            FileStore(folder, limits=LIMITS).open()
        hand.go()
        hand.go()
        assert len(objects(store)) == 2
        store.close()
        assert net.clock.getDelayedCalls() == []

    def test_leftovers_are_removed(self, net: Net, store: FileStore):
        put(net, store)
        os.close(begin(store, instance("1.2.4")).fd)  # a crash
        (left,) = leftovers(store)
        (left.parent / "not ours.txt").write_text("kept")
        store.close()
        store.open()
        assert [path.name for path in leftovers(store)] == ["not ours.txt"]
        assert len(objects(store)) == 1

    def test_h_r21_one_server_at_a_time(self, store: FileStore):
        other = FileStore(store.folder, limits=LIMITS)
        for _ in range(2):
            with pytest.raises(MisuseError, match="another server"):
                other.open()
        store.close()
        other.open().close()

    @pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP])
    def test_h_r20_no_hard_links(self, folder: Path, monkeypatch: pytest.MonkeyPatch, code: int):
        """It is found out at the start, and not with the first instance."""

        def link(*_: Any) -> None:
            raise OSError(code, os.strerror(code))

        store = FileStore(folder, limits=LIMITS)
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", link)
            with pytest.raises(MisuseError, match=f"{os.strerror(code)}.*one file system"):
                store.open()
        assert leftovers(store) == objects(store) == []
        store.open().close()

    def test_h_r20_two_file_systems(self, folder: Path):
        ours = folder.parent.stat().st_dev
        places = [path for path in map(Path, ("/dev/shm", "/var/tmp")) if path.is_dir()]
        others = [path for path in places if path.stat().st_dev != ours]
        if not others:
            pytest.skip("all is on one file system")
        with TemporaryDirectory(dir=others[0]) as elsewhere:
            folder.mkdir()
            (folder / "incoming").symlink_to(elsewhere)
            with pytest.raises(MisuseError, match="one file system"):
                FileStore(folder, limits=LIMITS).open()
            assert os.listdir(elsewhere) == []

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path):
        (tmp_path / "file").write_text("")
        with pytest.raises(MisuseError):
            FileStore(tmp_path / "file" / "store", limits=LIMITS).open()

    def test_an_unknown_durability(self, tmp_path: Path):
        with pytest.raises(MisuseError, match="none of full, relaxed"):
            FileStore(tmp_path / "store", durability="perhaps")
        assert not (tmp_path / "store").exists()
