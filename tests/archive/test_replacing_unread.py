"""What takes the place of another, and cannot be read, or could not be brought back."""

import os
import sqlite3
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from dimse.archive.archive import Archive
from dimse.archive.files import ObjectFolder
from tests.archive.archives import LIMITS, open_archive, synchronously, texts, uids
from tests.archive.faults import faults
from tests.archive.test_faults import ERRORS, put
from tests.archive.test_replacing import KEY, REPLACING, olds, once, patient

ERROR = sqlite3.OperationalError("disk I/O error")


def killed_before_it_could_restore(folder: Path) -> None:
    """An archive in which "Old" was acknowledged; "New" was refused, and is in its place."""
    archive = Archive(folder, limits=LIMITS, in_thread=synchronously, **REPLACING).open()
    assert put(archive, "1.2.1.1", PatientName="Old") == 0
    error = sqlite3.OperationalError("database or disk is full")
    with pytest.MonkeyPatch.context() as patch, faults(archive, ("do_commit",), 1, error):
        patch.setattr(os, "replace", once(os.replace, ERRORS["ENOSPC"]))
        assert put(archive, "1.2.1.1", PatientName="New").status == 0xA700
    assert b"New" in archive.objects.read(KEY, 0, 2000)
    archive.index.close()  # it is killed
    archive.objects.close()


def test_h_r12_what_could_not_be_restored_before_a_crash_is_with_the_start(tmp_path: Path):
    """The index knows which of them was acknowledged."""
    killed_before_it_could_restore(tmp_path)
    with open_archive(tmp_path, **REPLACING) as archive:
        assert (patient(archive), olds(archive)) == ("old", [])


def test_what_was_acknowledged_comes_back_when_the_refused_one_is_gone(tmp_path: Path):
    """Somebody has removed its file; the index still has what it knew."""
    killed_before_it_could_restore(tmp_path)
    with open_archive(tmp_path, **REPLACING) as archive:
        assert put(archive, "9.2.1.1", PatientName="Old") == 0
        archive.objects._old.keep(archive.objects.path_of(KEY))
        archive.objects.path_of(KEY).unlink()
    with open_archive(tmp_path, **REPLACING) as archive:
        assert (patient(archive), olds(archive)) == ("old", [])


def test_a_damaged_one_that_the_index_does_not_know_is_set_aside_at_the_first_start(tmp_path: Path):
    """As a crash leaves it without syncs, of two that came together."""
    with open_archive(tmp_path, **REPLACING) as archive:
        for uid in ("1.2.1.1", "9.2.1.1"):
            assert put(archive, uid) == 0
        archive.objects._old.keep(archive.objects.path_of(KEY))
        archive.objects.path_of(KEY).unlink()
        archive.objects.path_of(KEY).touch()
        archive.index.remove([KEY])
    with open_archive(tmp_path, **REPLACING) as archive:
        assert (uids(archive), olds(archive)) == (["9.2.1.1"], [])
        assert len(os.listdir(tmp_path / "damaged")) == 1


@pytest.mark.parametrize("of", ["digest", "old_digest"])
@pytest.mark.parametrize("ever", [False, True], ids=["once", "ever"])
def test_h_r12_what_was_acknowledged_comes_back_when_one_of_both_cannot_be_read(
    tmp_path: Path, of: str, ever: bool
):
    """At the start after the crash, or with the one after that."""
    killed_before_it_could_restore(tmp_path)
    real, times = getattr(ObjectFolder, of), count()

    def unreadable(self: ObjectFolder, key: str, offset: int, *length: int) -> Any:
        if ever or next(times) == 0:
            raise ERRORS["EIO"]
        return real(self, key, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ObjectFolder, of, unreadable)
        if ever:
            patch.setattr(ObjectFolder, "read", unreadable)
        with open_archive(tmp_path, **REPLACING) as archive:
            assert bool(archive.index.stored(["1.2.1.1"])) != ever
    with open_archive(tmp_path, **REPLACING) as archive:
        assert (patient(archive), olds(archive)) == ("old", [])


def test_what_cannot_be_read_is_told_once_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[dict[str, Any]]
):
    """Each commit would read it again, and tell again; the next start does."""
    options = {"durability": "full", "duplicates": "replace"}
    read = ObjectFolder.read

    def unreadable(self: ObjectFolder, key: str, offset: int, length: int) -> bytes:
        if key == KEY:
            raise ERRORS["EIO"]
        return read(self, key, offset, length)

    def told() -> int:
        return len([text for text in texts(log) if f"object {KEY} cannot be read" in text])

    with open_archive(tmp_path, **options) as archive:
        assert put(archive, "1.2.1.1", PatientName="Old") == 0
        with faults(archive, ("do_commit",), 1, sqlite3.OperationalError("disk I/O error")):
            assert put(archive, "1.2.1.1", PatientName="New").status == 0xA700
        monkeypatch.setattr(ObjectFolder, "read", unreadable)
        for number in range(3):
            assert put(archive, f"9.2.1.{number}") == 0
        assert (told(), len(olds(archive))) == (1, 1)
        assert archive.index.stored(["1.2.1.1"])
    with open_archive(tmp_path, **options) as archive:
        assert put(archive, "9.2.1.3") == 0
        assert (told(), len(olds(archive))) == (2, 1)
    monkeypatch.undo()
    with open_archive(tmp_path, **options) as archive:
        assert "1.2.1.1" in uids(archive)
        assert (told(), olds(archive)) == (2, [])


def refused_and_unread(archive: Archive, name: str) -> None:
    """After "New" was refused, which has a row, what was there before cannot be read once."""
    read = ObjectFolder.read

    def unreadable(self: ObjectFolder, key: str, offset: int, length: int) -> bytes:
        if key == KEY:
            raise ERRORS["EIO"]
        return read(self, key, offset, length)

    with faults(archive, ("do_commit",), 1, ERROR, late=True):
        assert put(archive, "1.2.1.1", PatientName="New").status == 0xA700
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ObjectFolder, "read", unreadable)
        assert put(archive, "9.2.1.1", PatientName=name) == 0


def test_what_could_not_be_read_once_is_renewed_when_it_comes_again(tmp_path: Path):
    """Else a success would leave the row of the refused one."""
    with open_archive(tmp_path, **REPLACING) as archive:
        assert put(archive, "1.2.1.1", PatientName="Old") == 0
        refused_and_unread(archive, "Old")
        assert put(archive, "1.2.1.1", PatientName="Old") == 0
        assert (patient(archive), olds(archive)) == ("old", [])


def test_what_could_not_be_read_once_is_renewed_when_another_has_come(tmp_path: Path):
    """Else its row stays that of a refused one for the rest of the run."""
    with open_archive(tmp_path, **REPLACING) as archive:
        assert put(archive, "1.2.1.1", PatientName="Old") == 0
        refused_and_unread(archive, "Newer")
        assert put(archive, "1.2.1.1", PatientName="Newer") == 0
        with faults(archive, ("do_commit",), 1, ERROR, late=True):
            assert put(archive, "1.2.1.1", PatientName="Newest").status == 0xA700
        assert put(archive, "9.2.1.2", PatientName="Newer") == 0
        assert (patient(archive), olds(archive)) == ("newer", [])
