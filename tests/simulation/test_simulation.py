"""The whole system on many seeds, and whether it would be seen if it were broken."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence, Set
from typing import Any

import pytest

from dimse import acceptor
from dimse.archive.archive import Archive
from dimse.archive.files import ObjectFolder
from dimse.archive.replaced import ReplacedObjects
from dimse.errors import StatusError
from dimse.services.partial_file import PartialFile
from tests.simulation.draws import Violation
from tests.simulation.run import simulate

SEEDS = range(24)
MOST = 60  # runs until a fault has to be found


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_violated(seed: int):
    """H-R08, H-R09, H-R11 to H-R14, H-R16, H-A02 to H-A04, G04, G05."""
    assert simulate(seed).steps


def test_a_seed_gives_the_same_trace_in_another_process():
    """Whatever the order of its sets is."""
    seed = 5
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    here = simulate(seed)
    assert f"{here.lines} lines, hash {here.digest}" in done.stdout
    assert simulate(seed) == here
    assert simulate(seed + 1).digest != here.digest


def test_a_violation_tells_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tests.simulation.run.ENDLESS", 10)
    with pytest.raises(Violation, match=r"-m tests\.simulation --seed 7 --trace"):
        simulate(7)


# Faults of the system that have to be found.


def no_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PartialFile, "sync", lambda self: setattr(self, "synced", True))


def no_sync_of_folders(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("dimse.archive.files._sync_folder", lambda folder: None)


def success_before_the_index(patch: pytest.MonkeyPatch) -> None:
    """The rows of one group are added with the next."""
    waiting: list[Any] = []
    add = Archive._add

    def add_later(self: Archive, group: Sequence[Any], begun: Set[str]) -> None:
        for each in waiting:
            add(self, *each)
        waiting[:] = [(group, begun)]

    patch.setattr(Archive, "_add", add_later)


def dropped_error(patch: pytest.MonkeyPatch) -> None:
    """Of the index: what it cannot add is a success all the same."""
    add = Archive._add

    def add_if_it_can(self: Archive, group: Sequence[Any], begun: Set[str]) -> None:
        try:
            add(self, group, begun)
        except StatusError:
            return

    patch.setattr(Archive, "_add", add_if_it_can)


def one_partial_file(patch: pytest.MonkeyPatch) -> None:
    """Two that come under one UID at once are written to the same file."""

    class File(PartialFile):
        __slots__ = ()

    def begin(self: ObjectFolder, key: str, head: bytes, commit: Any = None) -> PartialFile:
        part = f"{self._incoming}/{key}.part"
        if os.path.lexists(part):
            os.unlink(part)
        return File(part, str(self.path_of(key)), head, commit)

    patch.setattr(ObjectFolder, "begin", begin)


def not_restored(patch: pytest.MonkeyPatch) -> None:
    """What was refused stays in the place of what was acknowledged."""
    patch.setattr(ReplacedObjects, "restore", lambda self, path: None)


def place_not_released(patch: pytest.MonkeyPatch) -> None:
    """An association that has ended counts for ever."""
    patch.setattr(acceptor, "_leave", lambda counter, host: None)


@pytest.mark.parametrize(
    "break_it",
    [
        no_sync,
        no_sync_of_folders,
        success_before_the_index,
        dropped_error,
        one_partial_file,
        not_restored,
        place_not_released,
    ],
)
def test_a_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, break_it: Callable[[pytest.MonkeyPatch], None]
):
    break_it(monkeypatch)
    for seed in range(MOST):
        try:
            simulate(seed)
        except Violation:
            return
    raise AssertionError(f"{break_it.__name__}: not found in {MOST} runs")
