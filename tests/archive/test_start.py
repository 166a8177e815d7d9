"""The start of an archive, and its rebuild: files and index are brought together."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from sqlite3 import OperationalError
from typing import Any
from unittest.mock import Mock, call

import pytest
import sqlalchemy as sa
from twisted.internet.defer import execute

from dimse import MisuseError
from dimse.archive import files
from dimse.archive.archive import Archive
from dimse.archive.index import Index
from dimse.archive.objects import ABOVE_ALL, LOWEST, key_of
from dimse.archive.schema import INSTANCES, PATIENTS, SERIES, STUDIES
from tests.archive.archives import LIMITS, data_set, open_archive, put, texts, uids
from tests.archive.faults import faults


def rows(archive: Archive) -> dict[str, list[Any]]:
    """All that the index says of instances, but for when it learned of them."""
    tables = (PATIENTS, STUDIES, SERIES, INSTANCES)
    return {
        table.name: sorted(
            tuple(row)
            for row in archive.index.fetch(
                sa.select(*(column for column in table.c if column.name != "updated"))
            )
        )
        for table in tables
    }


def test_a_first_commit_that_seemed_to_fail_does_not_stop_the_next_start(tmp_path: Path):
    """Its row without an object would look like a disk that is not mounted."""
    with open_archive(tmp_path) as archive:
        error = OperationalError("disk I/O error")
        with faults(archive, ("do_commit",), 1, error, late=True):
            assert put(archive, data_set("1.2.1.1")).status == 0xA700
        assert archive.index.keys("0", "g") != []
    with open_archive(tmp_path) as archive:
        assert uids(archive) == []


@pytest.fixture(params=[10_000, 0], ids=["at once", "in parts"])
def _compared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How the keys of a small index are compared, and those of a large one."""
    monkeypatch.setattr("dimse.archive.reconciliation._FEW", request.param)


class TestStart:
    def test_one_server_per_store(self, tmp_path: Path):
        with (
            open_archive(tmp_path),
            pytest.raises(MisuseError, match="another server"),
            open_archive(tmp_path),
        ):
            raise AssertionError

    @pytest.mark.usefixtures("_compared")
    def test_objects_without_a_row_are_indexed(
        self, tmp_path: Path, new_index: Callable[[], str | None], log: list[dict[str, Any]]
    ):
        """As a crash between the link and the commit of the index leaves them."""
        index = new_index()
        with open_archive(tmp_path, index=index) as archive:
            for number in range(5):
                put(archive, data_set(f"1.2.{number}.1"))
            before = archive.index.stored(["1.2.3.1"])
            archive.index.remove([key_of("1.2.3.1"), key_of("1.2.4.1")])
        with open_archive(tmp_path, index=index) as archive:
            assert len(uids(archive)) == 5
            assert archive.index.stored(["1.2.3.1"]) == before
        assert "2 instances were not in the index: added" in texts(log)

    @pytest.mark.usefixtures("_compared")
    def test_rows_without_an_object_go(
        self, tmp_path: Path, new_index: Callable[[], str | None], log: list[dict[str, Any]]
    ):
        index = new_index()
        with open_archive(tmp_path, index=index) as archive:
            for number in range(3):
                put(archive, data_set(f"1.2.{number}.1"))
            archive.objects.path_of(key_of("1.2.1.1")).unlink()
        with open_archive(tmp_path, index=index) as archive:
            assert uids(archive) == ["1.2.0.1", "1.2.2.1"]
        assert "1 instances of the index are gone: removed" in texts(log)
        assert "instance 1.2.1.1 of study 1.2 is gone" in texts(log)

    @pytest.mark.parametrize(("lost", "starts"), [(1, True), (2, True), (3, False)])
    def test_many_lost_instances_are_not_forgotten_unasked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int, starts: bool
    ):
        """More than `_LOST`, and a hundredth: the index stays until someone says so."""
        monkeypatch.setattr("dimse.archive.reconciliation._LOST", 2)
        with open_archive(tmp_path) as archive:
            for number in range(5):
                put(archive, data_set(f"1.2.{number}.1"))
            for number in range(lost):
                archive.objects.path_of(key_of(f"1.2.{number}.1")).unlink()
        left = [f"1.2.{number}.1" for number in range(lost, 5)]
        if not starts:
            with pytest.raises(MisuseError, match=r"lost 3 of the 5 .*--forget-lost"):
                Archive(tmp_path, limits=LIMITS).open()
            index = Index(f"sqlite:///{tmp_path}/index.sqlite")
            assert len(index.keys("0", "g")) == 5
            index.close()
        with open_archive(tmp_path, forget_lost=not starts) as archive:
            assert uids(archive) == left

    @pytest.mark.usefixtures("_compared")
    def test_few_of_many_lost_instances_do_not_stop_the_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """No more than a hundredth."""
        monkeypatch.setattr("dimse.archive.reconciliation._LOST", 0)
        with open_archive(tmp_path) as archive:
            for number in range(100):
                put(archive, data_set(f"1.2.{number}.1"))
            archive.objects.path_of(key_of("1.2.7.1")).unlink()
        with open_archive(tmp_path) as archive:
            assert len(uids(archive)) == 99

    def test_a_disk_that_is_not_mounted(self, tmp_path: Path, new_index: Callable[[], str | None]):
        """Without a single object the index is left alone, and nothing starts."""
        index = new_index() or f"sqlite:///{tmp_path}/index.sqlite"
        folder = tmp_path / "disk"
        with open_archive(folder, index=index) as archive:
            put(archive, data_set("1.2.1.1"))
        folder.rename(tmp_path / "mounted elsewhere")
        with pytest.raises(MisuseError, match="none of the 1 instances"):
            Archive(folder, index=index, limits=LIMITS).open()
        shutil.rmtree(folder)
        (tmp_path / "mounted elsewhere").rename(folder)
        with open_archive(folder, index=index) as archive:
            assert uids(archive) == ["1.2.1.1"]

    def test_h_r18_rows_that_a_crash_of_the_machine_took_are_made_again(self, tmp_path: Path):
        """They were not synced when the instances were acknowledged; nothing of them is another."""
        folder, early = tmp_path / "store", tmp_path / "early.sqlite"
        with open_archive(folder, durability="full") as archive:
            for number in range(1, 4):
                assert put(archive, data_set(f"1.2.1.{number}", StudyID=str(number))) == 0
            with archive.index._engine.connect() as connection:
                connection.exec_driver_sql("commit")
                connection.exec_driver_sql(f"vacuum into '{early}'")
            for uid in ("1.2.1.4", "1.2.2.1", "1.3.1.1", "1.3.1.2"):
                assert put(archive, data_set(uid, PatientName=f"Name^{uid}", StudyID=uid)) == 0
            before = rows(archive)
        early.rename(folder / "index.sqlite")
        with open_archive(folder, durability="full") as archive:
            assert len(uids(archive)) == 7
            assert rows(archive) == before

    def test_what_is_synced(self, tmp_path: Path):
        """What objects tell is not, all else is."""
        with open_archive(tmp_path, durability="full") as archive:
            levels: list[Any] = []

            def look(connection: sa.Connection) -> None:
                driver: Any = connection.connection.driver_connection
                levels.append(driver.execute("PRAGMA synchronous").fetchone()[0])

            sa.event.listen(archive.index._engine, "commit", look)
            put(archive, data_set("1.2.1.1"))
            archive.index.change(STUDIES.update().values(time=""))
            put(archive, data_set("1.2.1.2"))
            archive.index.remove([key_of("1.2.1.2")])
        assert levels == [1, 2, 1, 2]

    def test_a_disk_that_fails_at_the_start(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """No folder that could not be read is taken for an empty one."""
        with open_archive(tmp_path) as archive:
            put(archive, data_set("1.2.1.1"))

        def broken(*_: object) -> list[str]:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", broken)
            with pytest.raises(MisuseError, match="Input/output error"):
                Archive(tmp_path, limits=LIMITS).open()
        with open_archive(tmp_path) as archive:
            assert uids(archive) == ["1.2.1.1"]

    def test_what_cannot_be_read_for_no_fault_of_its_own_stops_the_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """It may have been acknowledged, and lost its row with the power: no start without it."""
        with open_archive(tmp_path) as archive:
            put(archive, data_set("1.2.1.1"))
            archive.index.clear()
        real = os.open

        def broken(path: Any, *arguments: Any, **options: Any) -> int:
            if str(path).endswith(".dcm"):
                raise OSError(errno.EMFILE, "Too many open files")
            return real(path, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", broken)
            with pytest.raises(MisuseError, match="Too many open files"):
                Archive(tmp_path, limits=LIMITS).open()
            with pytest.raises(MisuseError, match="Too many open files"):
                Archive(tmp_path, limits=LIMITS).rebuild()
        with open_archive(tmp_path) as archive:
            assert uids(archive) == ["1.2.1.1"]

    def test_a_damaged_object_is_told_of_and_does_not_stop_the_start(
        self, tmp_path: Path, log: list[dict[str, Any]]
    ):
        with open_archive(tmp_path) as archive:
            put(archive, data_set("1.2.1.1"))
            put(archive, data_set("1.2.1.2"))
            archive.index.clear()
            archive.objects.path_of(key_of("1.2.1.1")).write_bytes(b"damaged")
        with open_archive(tmp_path) as archive:
            assert archive.index.keys("0", "g") == [key_of("1.2.1.2")]
        assert any("is damaged" in text for text in texts(log))

    @pytest.mark.parametrize(
        ("damage", "known"), [(lambda _: b"damaged", False), (lambda whole: whole[:-40], True)]
    )
    @pytest.mark.parametrize("rebuild", [False, True])
    def test_a_damaged_object_is_healed_by_sending_it_again(
        self,
        tmp_path: Path,
        log: list[dict[str, Any]],
        damage: Callable[[bytes], bytes],
        known: bool,
        rebuild: bool,
    ):
        """It is set aside, once more each time; the log has where, and the UID if it can."""
        key = key_of("1.2.1.1")
        for number in (1, 2):
            with open_archive(tmp_path) as archive:
                assert put(archive, data_set("1.2.1.1")) == 0
                archive.index.clear()
                path = archive.objects.path_of(key)
                path.write_bytes(damage(path.read_bytes()))
            if rebuild:
                assert Archive(tmp_path).rebuild() == (0, 1)
            with open_archive(tmp_path) as archive:
                assert uids(archive) == []
            assert len(list((tmp_path / "damaged").iterdir())) == number
            (text,) = [text for text in texts(log) if "is damaged" in text]
            assert f"moved to {tmp_path}/damaged/{key}" in text
            assert text.endswith("UID 1.2.1.1" if known else "UID unknown")
            log.clear()
        with open_archive(tmp_path) as archive:
            assert put(archive, data_set("1.2.1.1")) == 0

    @pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
    @pytest.mark.parametrize("duplicates", ["keep", "replace"])
    def test_an_object_that_cannot_be_read_stays_where_it_is(
        self, tmp_path: Path, log: list[dict[str, Any]], number: int, duplicates: str
    ):
        """It may be whole: until it can be read no other one is acknowledged under its UID."""
        with open_archive(tmp_path) as archive:
            assert put(archive, data_set("1.2.1.1", PatientName="First")) == 0
            archive.index.clear()
        archive = Archive(tmp_path, limits=LIMITS, duplicates=duplicates, in_thread=execute)
        with faults(archive, ("pread",), 1, OSError(number, "broken"), ever=True):
            archive.open()
            assert archive.index.keys(LOWEST, ABOVE_ALL) == []
            for name in ("First", "Another"):
                assert put(archive, data_set("1.2.1.1", PatientName=name)).status == 0xA700
        assert archive.objects.path_of(key_of("1.2.1.1")).exists()
        assert not (tmp_path / "damaged").exists()
        (text,) = [text for text in texts(log) if "cannot be read" in text]
        assert text.startswith(f"object {key_of('1.2.1.1')} ")
        if duplicates == "keep":
            assert put(archive, data_set("1.2.1.1", PatientName="Another")).status == 0x0111
        assert put(archive, data_set("1.2.1.1", PatientName="First")) == 0
        archive.close()
        with open_archive(tmp_path) as archive:
            assert uids(archive) == ["1.2.1.1"]

    def test_one_that_was_replaced_and_cannot_be_read_is_out_of_sight(self, tmp_path: Path):
        """Its row is that of the object before, and tells of another one."""
        with open_archive(tmp_path, duplicates="replace") as archive:
            assert put(archive, data_set("1.2.1.1", PatientName="Old")) == 0
            assert put(archive, data_set("1.2.1.2")) == 0
            path = archive.objects.path_of(key_of("1.2.1.1"))
            os.link(path, tmp_path / "replaced" / path.name)
        archive = Archive(tmp_path, limits=LIMITS, in_thread=execute)
        with faults(archive, ("pread",), 1, OSError(errno.EIO, "broken"), ever=True):
            archive.open()
            assert archive.index.keys(LOWEST, ABOVE_ALL) == [key_of("1.2.1.2")]
            archive.close()
            archive.rebuild()
            assert len(os.listdir(tmp_path / "replaced")) == 1
        with open_archive(tmp_path) as archive:
            assert uids(archive) == ["1.2.1.1", "1.2.1.2"]
        assert os.listdir(tmp_path / "replaced") == []

    def test_an_object_that_cannot_be_set_aside_does_not_stop_the_start(
        self, tmp_path: Path, log: list[dict[str, Any]]
    ):
        with open_archive(tmp_path) as archive:
            put(archive, data_set("1.2.1.1"))
            archive.index.clear()
            archive.objects.path_of(key_of("1.2.1.1")).write_bytes(b"damaged")
        (tmp_path / "damaged").write_bytes(b"no folder")
        with open_archive(tmp_path):
            assert any("not moved away" in text for text in texts(log))

    def test_an_index_is_that_of_one_store(
        self, tmp_path: Path, new_index: Callable[[], str | None]
    ):
        """Two nodes with one database would remove each other's rows."""
        index = new_index() or f"sqlite:///{tmp_path}/index.sqlite"
        with open_archive(tmp_path / "one", index=index) as archive:
            put(archive, data_set("1.2.1.1"))
        with open_archive(tmp_path / "two") as other:
            put(other, data_set("1.2.1.2"))
        for _ in range(2):
            with pytest.raises(MisuseError, match=r"another store than .*two.*dimse index rebuild"):
                Archive(tmp_path / "two", index=index, limits=LIMITS).open()
        with open_archive(tmp_path / "one", index=index) as archive:
            assert uids(archive) == ["1.2.1.1"]
        assert Archive(tmp_path / "two", index=index).rebuild() == (1, 0)
        with open_archive(tmp_path / "two", index=index) as archive:
            assert uids(archive) == ["1.2.1.2"]
        with pytest.raises(MisuseError, match=r"another store than .*one"):
            Archive(tmp_path / "one", index=index, limits=LIMITS).open()

    def test_an_empty_index_too_is_that_of_one_store(
        self, tmp_path: Path, new_index: Callable[[], str | None]
    ):
        index = new_index() or f"sqlite:///{tmp_path}/index.sqlite"
        with open_archive(tmp_path / "one", index=index):
            pass
        with pytest.raises(MisuseError, match="another store"):
            Archive(tmp_path / "two", index=index, limits=LIMITS).open()
        with open_archive(tmp_path / "one", index=index):
            pass

    def test_the_parent_of_a_folder_that_is_there_is_left_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """It may be another's, who lets nobody read it; that of a new one is synced."""
        sync = Mock(side_effect=files._sync_folder)
        monkeypatch.setattr(files, "_sync_folder", sync)
        for expected in (1, 0):
            sync.reset_mock()
            with open_archive(tmp_path / "store"):
                assert sync.mock_calls.count(call(tmp_path)) == expected

    @pytest.mark.parametrize("rebuild", [False, True])
    def test_the_first_that_came_describes_its_study_ever_after(
        self, tmp_path: Path, rebuild: bool
    ):
        """Not the first in the order of the keys."""
        numbers = sorted(range(1, 9), key=lambda number: key_of(f"1.2.1.{number}"), reverse=True)
        with open_archive(tmp_path) as archive:
            for when, number in enumerate(numbers):
                put(archive, data_set(f"1.2.1.{number}", StudyID=str(number)))
                os.utime(archive.objects.path_of(key_of(f"1.2.1.{number}")), (when, when))
        if rebuild:
            Archive(tmp_path).rebuild()
        else:
            (tmp_path / "index.sqlite").unlink()
        with open_archive(tmp_path) as archive:
            ((study_id,),) = archive.index.fetch(sa.select(STUDIES.c.study_id))
            assert study_id == str(numbers[0])

    def test_a_newer_index_is_refused(self, tmp_path: Path):
        with open_archive(tmp_path) as archive, archive.index._engine.begin() as connection:
            connection.execute(sa.text("update alembic_version set version_num = '9999'"))
        with pytest.raises(MisuseError, match="newer dimse"), open_archive(tmp_path):
            raise AssertionError
        with open_archive(tmp_path, index=f"sqlite:///{tmp_path}/other.sqlite"):
            pass  # the lock was given back

    @pytest.mark.parametrize(
        "url",
        ["nonsense", "mysql://u:secret@host/db", "postgresql+psycopg://u:secret@127.0.0.1:1/d"],
    )
    def test_an_index_that_cannot_be(self, tmp_path: Path, url: str):
        """The error names it, and no password."""
        with pytest.raises(MisuseError, match="index") as caught, open_archive(tmp_path, index=url):
            raise AssertionError
        assert "secret" not in str(caught.value)
