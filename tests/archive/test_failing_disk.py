"""What a failing disk leads to (H-R11, H-R12, H-R13)."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dimse.archive.files import FileStore
from dimse.errors import MisuseError, StatusError
from dimse.limits import Limits
from tests.archive.storing import (
    CONTENT,
    LIMITS,
    Hand,
    digest,
    leftovers,
    objects,
    put,
    synchronously,
)
from tests.memory import Net


class TestFailingDisk:
    """0xA700, nothing under a final name, and it works again when the disk does (H-R11, H-R12)."""

    @pytest.fixture(params=[errno.ENOSPC, errno.EIO, errno.EROFS])
    def fails(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[str, int], None]:
        """`fails("fsync", k)`: the k-th call of that function of `os` from now on."""

        def fails(name: str, k: int) -> None:
            real, count = getattr(os, name), 0

            def failing(*arguments: Any, **options: Any) -> Any:
                nonlocal count
                count += 1
                if count == k:
                    raise OSError(request.param, os.strerror(request.param))
                return real(*arguments, **options)

            monkeypatch.setattr(os, name, failing)

        return fails

    @pytest.mark.parametrize(
        ("name", "k"),
        [("open", 1), ("open", 2), ("fsync", 1), ("link", 1), ("fsync", 2), ("statvfs", 1)],
        ids=["open", "open folder", "fsync file", "link", "fsync folder", "statvfs"],
    )
    def test_each_step(
        self, net: Net, store: FileStore, fails: Callable[[str, int], None], name: str, k: int
    ):
        fails(name, k)
        error = put(net, store).value
        assert isinstance(error, StatusError)
        assert error.status == 0xA700
        assert objects(store) == []
        assert leftovers(store) == []
        assert put(net, store).value == 0
        assert len(objects(store)) == 1

    @pytest.mark.parametrize(
        ("name", "k"), [("fsync", 1), ("link", 1), ("fsync", 2), ("open", 1), ("pread", 1)]
    )
    def test_an_existing_instance_stays(
        self, net: Net, store: FileStore, fails: Callable[[str, int], None], name: str, k: int
    ):
        put(net, store)
        before = digest(store.path_of("1.2.3"))
        fails(name, k)
        assert put(net, store, CONTENT + b"x").value.status == 0xA700
        assert digest(store.path_of("1.2.3")) == before

    def test_a_failed_fsync_is_not_tried_again(
        self, net: Net, store: FileStore, fails: Callable[[str, int], None]
    ):
        """The kernel may have dropped the pages: a second fsync would say yes ("fsyncgate")."""
        fails("fsync", 1)
        assert put(net, store).value.status == 0xA700
        assert leftovers(store) == objects(store) == []

    def test_only_the_one_of_the_group(
        self, net: Net, folder: Path, fails: Callable[[str, int], None]
    ):
        hand = Hand()
        store = FileStore(folder, limits=LIMITS, in_thread=hand)
        put(net, store, uid="9")
        outcomes = {f"1.{n}": put(net, store, uid=f"1.{n}") for n in range(3)}
        hand.go()
        fails("fsync", 2)  # whichever it is: they are synced at once
        hand.go()
        statuses = {uid: getattr(o.value, "status", o.value) for uid, o in outcomes.items()}
        assert sorted(statuses.values()) == [0, 0, 0xA700]
        assert {uid for uid in statuses if not store.path_of(uid).exists()} == {
            uid for uid, status in statuses.items() if status
        }
        store.close()

    def test_a_folder_that_cannot_be_synced_fails_all_of_the_group(
        self, net: Net, folder: Path, fails: Callable[[str, int], None]
    ):
        hand = Hand()
        store = FileStore(folder, limits=LIMITS, in_thread=hand)
        put(net, store, uid="9")
        outcomes = [put(net, store, uid=f"1.{n}") for n in range(3)]
        hand.go()
        fails("fsync", 4)
        hand.go()
        assert [o.value.status for o in outcomes] == [0xA700] * 3
        assert len(objects(store)) == 1
        store.close()

    @pytest.mark.parametrize("k", [1, 2])
    def test_a_write(self, net: Net, store: FileStore, fails: Callable[[str, int], None], k: int):
        put(net, store, b"old")
        before = digest(store.path_of("1.2.3"))
        fails("write", k)
        assert put(net, store).value.status == 0xA700
        assert digest(store.path_of("1.2.3")) == before
        assert leftovers(store) == []

    def test_a_write_that_takes_a_part(
        self, net: Net, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ):
        write = os.write
        monkeypatch.setattr(os, "write", lambda fd, content: write(fd, content[:777]))
        assert put(net, store).value == 0
        assert store.path_of("1.2.3").read_bytes().endswith(CONTENT)

    def test_a_file_that_cannot_be_removed(
        self, net: Net, store: FileStore, fails: Callable[[str, int], None]
    ):
        """It is stored all the same; the next start removes what is left."""
        fails("unlink", 1)
        assert put(net, store).value == 0
        assert len(leftovers(store)) == 1

    def test_opening(self, folder: Path, fails: Callable[[str, int], None]):
        """A store that could not be prepared is not used; the next attempt begins again."""
        store = FileStore(folder, limits=LIMITS)
        fails("fsync", 2)
        with pytest.raises(MisuseError, match=str(folder)):
            store.open()
        store.open().close()

    def test_h_r13_reserve(self, net: Net, folder: Path):
        """H-R13: refused before anything is written."""
        store = FileStore(folder, limits=Limits(disk_reserve=2**62), in_thread=synchronously)
        error = put(net, store).value
        assert (error.status, error.comment) == (0xA700, "the disk is almost full")
        assert leftovers(store) == []
        store.close()
