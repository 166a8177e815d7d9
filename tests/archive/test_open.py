"""The start of an archive that fails: nothing that it has begun goes on."""

import errno
import os
import shutil
import sqlite3
import threading
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from dimse import MisuseError
from dimse.archive.archive import Archive
from dimse.archive.commitment import Commitments
from dimse.archive.objects import key_of
from dimse.archive.schema import COMMITMENTS, OPEN_STUDIES
from dimse.archive.studies import Studies
from tests.archive.archives import LIMITS, data_set, open_archive, put, synchronously
from tests.archive.faults import CALLS, STEPS, faults


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all that a start looks after and goes on with."""
    folder = tmp_path_factory.mktemp("left")
    with open_archive(folder, durability="full") as archive:
        for number in range(3):
            assert put(archive, data_set(f"1.2.{number}.1")) == 0
        archive.index.remove([key_of("1.2.1.1")])
        replaced = archive.objects.path_of(key_of("1.2.2.1"))
        os.link(replaced, folder / "replaced" / replaced.name)
        request = {"peer": "MODALITY", "transaction_uid": "1.3.1", "ae_title": "ARCHIVE"}
        study = {"study_uid": "1.2", "instances": 3, "peer": "MODALITY", "ae_title": "ARCHIVE"}
        archive.index.change(
            COMMITMENTS.insert().values(
                {**request, "instances": "[]", "failures": "", "attempts": 0}
            ),
            OPEN_STUDIES.insert().values(study),
        )
    return folder


class Start:
    """Of an archive, on a clock; `ended` are the studies that it says have ended."""

    def __init__(self, left: Path, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.ended: list[Any] = []
        shutil.copytree(left, folder)

    def archive(self) -> Archive:
        options: dict[str, Any] = {"limits": LIMITS, "in_thread": synchronously}
        archive = Archive(self.folder, clock=self.clock, on_study_end=self.ended.append, **options)
        archive.scps()
        return archive

    def check_that_nothing_goes_on(self) -> None:
        assert self.clock.getDelayedCalls() == []
        assert self.ended == []
        assert self.open_files() == []
        assert not [each for each in threading.enumerate() if each.name.startswith("dimse")]
        with open_archive(self.folder):
            pass

    def open_files(self) -> list[str]:
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        names = [os.readlink(link) for link in links if os.path.lexists(link)]
        return [name for name in names if name.startswith(f"{self.folder}/")]


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (CALLS, OSError(errno.EIO, "broken")),
        (STEPS, sqlite3.OperationalError("database is locked")),
    ],
    ids=["disk", "database"],
)
@pytest.mark.parametrize("ever", [False, True], ids=["once", "ever"])
def test_each_step_fails(
    left: Path, tmp_path: Path, names: tuple[str, ...], error: Exception, ever: bool
):
    failed = 0
    for k in count(1):
        start = Start(left, tmp_path / str(k))
        archive = start.archive()
        with faults(archive, names, k, error, ever=ever) as failing:
            try:
                archive.open()
                is_open = True
            except MisuseError:
                is_open = False
        if is_open:
            archive.close()
        else:
            failed += 1
            start.check_that_nothing_goes_on()
        if failing.count < k:
            break
    assert failed > 5


@pytest.mark.parametrize(("of", "name"), [(Commitments, "go_on_with"), (Studies, "resume")])
def test_what_it_goes_on_with_fails(
    left: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: type, name: str
):
    """Behind the last step of the database, when some of it goes on already."""
    start = Start(left, tmp_path / "store")
    archive = start.archive()
    begin = getattr(of, name)

    def broken(*arguments: Any) -> None:
        begin(*arguments)
        assert start.clock.getDelayedCalls()
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(of, name, broken)
        with pytest.raises(ZeroDivisionError):
            archive.open()
    start.check_that_nothing_goes_on()
    archive.open()
    assert len(start.clock.getDelayedCalls()) == 2
    archive.close()
    assert start.clock.getDelayedCalls() == []
    assert len(start.ended) == 1
