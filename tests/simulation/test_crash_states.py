"""Every state in which a loss of power can leave the disk in the middle of a store (G05)."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, combinations, count
from pathlib import Path
from typing import Any

import pytest

from dimse import Instance, Limits, ReceivedInstance
from dimse.archive.archive import Archive
from dimse.archive.files import ObjectFolder
from tests.archive.faults import faults
from tests.archive.test_faults import ERRORS
from tests.archive.test_replacing import once
from tests.simulation.database import Database
from tests.simulation.disk import RESERVE, Disk
from tests.simulation.draws import Draws, Trace
from tests.simulation.ledger import UIDS, content
from tests.simulation.replacing import ReplacingLedger
from tests.simulation.run import in_memory, scale_down
from tests.simulation.threads import InTurn, Threads

OLD, NEW = content(UIDS[0], 1, 3_000), content(UIDS[1], 1, 3_000)
OTHER = content(UIDS[0], 2, 3_000)  # in the place of OLD
ALL_SUBSETS = 5  # of so many changes; of more, none, all, and all but one


class Machine:
    """A disk, and the archive that runs on it; `success` is the status of what was stored last."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.draws = Draws(seed)
        self.trace = Trace(lambda: 0.0, echo=False)
        self.disk = Disk(folder, self.draws, self.trace)
        self.ledger = ReplacingLedger(self.trace)
        self.status: Any = None

    def start(self) -> None:
        self.threads = Threads(self.draws, lambda: 0.0)
        folder, draws = self.disk.folder, self.draws
        objects: Any = ObjectFolder(
            folder, durable=True, reserve=RESERVE, replaces=True, syncing=InTurn(draws)
        )
        limits = Limits(disk_reserve=RESERVE)
        self.archive = Archive(
            folder, objects=objects, limits=limits, in_thread=self.threads, clock=object()
        )
        self.database = Database(self.archive, self.disk, draws, self.trace)
        with self.disk.calm():
            self.archive.open()

    def store(self, instance: Instance, turns: int | None = None, *, refused: bool = False) -> bool:
        """Begin it, and let its commit take so many turns; returns whether it is over.

        It succeeds then, unless it is to be `refused`.
        """
        uid = instance.sop_instance_uid
        received = ReceivedInstance(
            instance.sop_class_uid, uid, instance.transfer_syntax, "MODALITY", "ARCHIVE"
        )
        sending = self.ledger.sending(instance)
        operation: Any = None
        sink = self.archive.begin(received, operation)
        sink.write(memoryview(instance.data or b""))
        outcomes: list[Any] = []
        sink.finish().addBoth(outcomes.append)
        for at in count():
            if at == turns or not self.threads.steps:
                break
            self.threads.turn(self.threads.steps[0])
        if outcomes:
            assert (outcomes == [0]) != refused
            (self.ledger.refused if refused else self.ledger.acknowledged)(sending)
        return bool(outcomes)

    def lose_power(self, survived: tuple[int, ...]) -> None:
        self.crash(power=True, survived=survived)

    def crash(self, *, power: bool, survived: tuple[int, ...] = ()) -> None:
        self.threads.crash()
        self.ledger.over()
        self.disk.crash(power=power, survived=survived)
        self.database.survive(self.disk.folder, power=power)

    def stored(self) -> set[str]:
        """What the archive has; all of it is whole, and there is all that was promised."""
        found = set()
        with self.disk.calm():
            assert self.archive.index.keys("0", "g") == self.archive.objects.keys("0", "g")
            for uid, stored in self.archive.index.stored(UIDS).items():
                path = self.archive.objects.path_of(stored.key)
                self.ledger.found(uid, path.read_bytes()[stored.offset :], "after a start")
                found.add(uid)
        self.ledger.missing(frozenset(self.ledger.promised), found, "after a start")
        assert self.trace.violations == []
        return found

    def stop(self) -> None:
        with self.disk.calm():
            self.archive.close()


@pytest.fixture
def beginning(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An archive in which there is nothing yet; to make its tables takes long."""
    scale_down(monkeypatch)
    with in_memory() as folder:
        Archive(folder / "beginning").open().close()
        yield folder / "beginning"


@contextmanager
def machine(folder: Path, seed: int, beginning: Path) -> Iterator[Machine]:
    """One that has an instance already."""
    machine = Machine(folder, seed)
    for name in ("index.sqlite", "store-id"):
        shutil.copyfile(beginning / name, machine.disk.folder / name)
    with machine.disk.installed():
        machine.start()
        assert machine.store(OLD)
        machine.disk.pauses = 1.0
        yield machine
        machine.stop()
    assert machine.disk.open_files == {}


def subsets(size: int) -> Iterator[tuple[int, ...]]:
    lengths = range(size + 1) if size <= ALL_SUBSETS else (0, size - 1, size)
    return chain.from_iterable(combinations(range(size), length) for length in lengths)


@pytest.mark.parametrize(
    "instance", [NEW, OLD, OTHER], ids=["new", "sent again", "another in its place"]
)
def test_h_r19_power_is_lost_at_each_step(beginning: Path, instance: Instance):
    """An instance that was acknowledged is there; one that was not is there whole, or not."""
    states, over = 0, False
    for turns in count():
        unsynced = 0
        for number in count():
            with machine(beginning.parent / f"{turns}-{number}", number, beginning) as one:
                over = one.store(instance, turns)
                unsynced = one.disk.unsynced
                survived = list(subsets(unsynced))[number]
                one.lose_power(survived)
                one.start()
                assert one.stored() >= {OLD.sop_instance_uid}
                states += 1
            if number + 1 == len(list(subsets(unsynced))):
                break
        if over:
            break
    assert states > turns > 10


@pytest.mark.parametrize("instance", [NEW, OTHER], ids=["new", "another in its place"])
def test_h_r19_power_is_lost_after_a_server_was_killed_and_started_again(
    beginning: Path, instance: Instance
):
    """What the start has found, and told peers, stays: none of its names was synced by itself."""
    over = False
    for turns in count():
        with machine(beginning.parent / f"{turns}", turns, beginning) as one:
            over = one.store(instance, turns)
            one.crash(power=False)
            one.start()
            found = one.stored()
            one.ledger.promised.update(dict.fromkeys(found, ""))
            one.crash(power=True)
            one.start()
            assert one.stored() == found
        if over:
            break
    assert turns > 10


def test_h_r19_power_is_lost_after_one_was_refused_and_could_not_be_taken_back(beginning: Path):
    """Whatever of the index is lost, it knows what was acknowledged before.

    A query is under way, too: SQLite syncs all when the last connection is closed after a failure.
    """
    error = sqlite3.OperationalError("disk I/O error")
    for seed in range(20):
        with machine(beginning.parent / f"{seed}", seed, beginning) as one:
            with (
                pytest.MonkeyPatch.context() as patch,
                one.archive.index._engine.connect(),
                faults(one.archive, ("do_commit",), 1, error, ever=True),
            ):
                patch.setattr(os, "replace", once(os.replace, ERRORS["EIO"]))
                assert one.store(OTHER, refused=True)
            one.lose_power(())
            one.start()
            assert one.stored() == {OLD.sop_instance_uid}
