"""Another instance of a SOP Instance UID takes the place of the first, whatever fails meanwhile."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom.uid import ExplicitVRBigEndian

from dimse import PATIENT_ROOT, Instance, MisuseError, ReceivedInstance
from dimse.archive.archive import Archive
from dimse.archive.files import DUPLICATES
from dimse.archive.objects import key_of
from dimse.archive.schema import STUDIES
from dimse.errors import DimseError
from dimse.services.dataset import encode
from dimse.testing import Network
from tests.archive.archives import (
    Client,
    data_set,
    open_archive,
    texts,
    uids,
)
from tests.archive.archives import put as put_data_set
from tests.archive.faults import CALLS, STEPS, faults
from tests.archive.storing import Hand
from tests.archive.test_faults import ERRORS, put, stored
from tests.wire import CT_STORAGE, EXPLICIT

KEY = key_of("1.2.1.1")
REPLACING: dict[str, Any] = {"durability": "full", "duplicates": "replace"}


@pytest.fixture
def archive(tmp_path: Path, new_index: Callable[[], str | None]) -> Iterator[Archive]:
    with open_archive(
        tmp_path / "archive", index=new_index(), durability="full", duplicates="replace"
    ) as archive:
        yield archive


def patient(archive: Archive) -> str:
    """The name in the object; the index has it too, and nothing is left of another one."""
    stored(archive)
    (name,) = {row.name for row in archive.index.fetch(sa.select(STUDIES.c.name))}
    data = archive.objects.read(KEY, 0, 2000)
    assert name.encode() in data.lower()
    return str(name)


def put_later(archive: Archive, name: str, outcomes: list[Any], uid: str = "1.2.1.1") -> None:
    """Of a patient of that name; the outcome comes with the group."""
    received = ReceivedInstance(CT_STORAGE, uid, EXPLICIT, "", "")
    operation: Any = None
    sink = archive.begin(received, operation)
    sink.write(memoryview(encode(data_set(uid, PatientName=name), EXPLICIT)))
    sink.finish().addBoth(outcomes.append)


def once(call: Callable[..., None], error: OSError) -> Callable[..., None]:
    """It works once, and fails from then on."""
    times = count()

    def called(*arguments: Any) -> None:
        if next(times):
            raise error
        call(*arguments)

    return called


def olds(archive: Archive) -> list[str]:
    return os.listdir(archive.folder / "replaced")


def test_what_is_replaced(archive: Archive, log: list[dict[str, Any]]):
    """File, index and what describes the study; the numbers stay. The log has UID and sender."""
    assert put(archive, "1.2.1.1", PatientName="Old", PatientID="1") == 0
    assert put(archive, "1.2.1.1", PatientName="Newer", PatientID="2") == 0
    assert (uids(archive), patient(archive), olds(archive)) == (["1.2.1.1"], "newer", [])
    said = "MODALITY: instance 1.2.1.1 took the place of another one of its UID"
    assert texts(log).count(said) == 1
    with Network() as network:
        (found,) = Client(network, archive).find("PATIENT", PATIENT_ROOT, PatientID="")
        assert found.PatientID == "2"


def test_the_same_again_replaces_nothing(archive: Archive):
    assert put(archive, "1.2.1.1") == 0
    before = archive.objects.path_of(KEY).stat()
    assert put(archive, "1.2.1.1", "ANOTHER_SENDER") == 0
    assert archive.objects.path_of(KEY).stat().st_ino == before.st_ino


def test_the_first_is_kept_unless_told_otherwise(tmp_path: Path):
    with open_archive(tmp_path) as archive:
        assert put(archive, "1.2.1.1", PatientName="Old") == 0
        assert put(archive, "1.2.1.1", PatientName="New").status == 0x0111
        assert patient(archive) == "old"
    with pytest.raises(MisuseError, match=", ".join(DUPLICATES)):
        Archive(tmp_path, duplicates="mix")


@pytest.mark.parametrize("name", ["open", "fsync", "link", "replace", "unlink", "pread", "write"])
@pytest.mark.parametrize("error", [ERRORS["ENOSPC"], ERRORS["EIO"]], ids=["ENOSPC", "EIO"])
def test_h_r12_each_call_fails(archive: Archive, name: str, error: OSError):
    """The old one or the new one, and the answer says which; the next attempt works."""
    for k in count(1):
        assert put(archive, "1.2.1.1", PatientName=f"Old{k}") == 0
        with faults(archive, (name,), k, error) as failing:
            outcome = put(archive, "1.2.1.1", PatientName=f"New{k}")
        assert failing.retried == []
        if outcome == 0:
            assert patient(archive) == f"new{k}"
        else:
            assert outcome.status == 0xA700
            assert patient(archive) == f"old{k}"
        assert put(archive, "1.2.1.1", PatientName=f"Newest{k}") == 0
        assert (patient(archive), olds(archive)) == (f"newest{k}", [])
        if failing.count < k:
            break


@pytest.mark.parametrize("late", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize("ever", [False, True], ids=["once", "ever"])
def test_h_r14_each_step_of_the_database_fails(archive: Archive, late: bool, ever: bool):
    """The object is the old one then; the row too, once something else comes."""
    dialect: Any = archive.index._engine.dialect
    error = dialect.dbapi.OperationalError("database is locked")
    for k in count(1):
        assert put(archive, "1.2.1.1", PatientName=f"Old{k}") == 0
        with faults(archive, STEPS, k, error, ever=ever, late=late) as failing:
            outcome = put(archive, "1.2.1.1", PatientName=f"New{k}")
        if failing.count < k:
            assert outcome == 0
            break
        assert outcome.status == 0xA700
        assert put(archive, f"9.2.1.{k}", PatientName=f"Old{k}") == 0
        archive.index.remove([key_of(f"9.2.1.{k}")])
        archive.objects.delete(key_of(f"9.2.1.{k}"))
        assert (patient(archive), olds(archive)) == (f"old{k}", [])
    assert k > 3


def test_h_r12_killed_at_each_step(tmp_path: Path):
    """The next start finds one of them whole, and the index knows which."""
    names: set[str] = set()
    steps = (*CALLS, *STEPS)
    for k in count(1):
        folder = tmp_path / str(k)
        with open_archive(folder, durability="full", duplicates="replace") as archive:
            assert put(archive, "1.2.1.1", PatientName="Old", PatientID="1") == 0
            with faults(archive, steps, k, ERRORS["ENOSPC"], ever=True) as all_:  # from here on
                put(archive, "1.2.1.1", PatientName="Newer", PatientID="2")
        with open_archive(folder) as archive:
            assert uids(archive) == ["1.2.1.1"]
            names.add(patient(archive))
            assert olds(archive) == os.listdir(folder / "incoming") == []
        if all_.count < k:
            break
    assert names == {"old", "newer"}


def test_h_r14_the_old_one_is_found_until_the_new_one_is_committed(archive: Archive):
    """Also while what a failure has left is settled, and that fails too."""
    dialect: Any = archive.index._engine.dialect
    error = dialect.dbapi.OperationalError("database is locked")
    assert put(archive, "1.2.1.1", PatientName="Old") == 0
    for k in count(1):
        with faults(archive, ("do_commit",), 1, error, late=True):
            assert put(archive, "1.2.1.1", PatientName="New").status == 0xA700
        with faults(archive, STEPS, k, error, ever=True) as failing:
            put(archive, f"9.2.1.{k}")
        assert archive.index.stored(["1.2.1.1"])
        if failing.count < k:
            break
    stored(archive)
    assert b"Old" in archive.objects.read(KEY, 0, 2000)
    assert olds(archive) == []


@pytest.mark.parametrize("again", [False, True], ids=["another one", "the refused one again"])
def test_h_r12_what_cannot_be_restored_at_once_is_with_the_next_commit(
    archive: Archive, again: bool
):
    """The refused one is not taken for what was acknowledged, nor the other way round."""
    dialect: Any = archive.index._engine.dialect
    error = dialect.dbapi.OperationalError("database is locked")
    assert put(archive, "1.2.1.1", PatientName="Old") == 0
    with pytest.MonkeyPatch.context() as patch, faults(archive, ("do_commit",), 1, error):
        patch.setattr(os, "replace", once(os.replace, ERRORS["EIO"]))
        assert put(archive, "1.2.1.1", PatientName="New").status == 0xA700
    assert put(archive, "1.2.1.1" if again else "9.2.1.1", PatientName="New") == 0
    archive.index.remove([key_of("9.2.1.1")])
    archive.objects.delete(key_of("9.2.1.1"))
    assert (patient(archive), olds(archive)) == ("new" if again else "old", [])
    assert os.listdir(archive.folder / "incoming") == []


@pytest.mark.parametrize("k", range(1, 12))
def test_two_of_one_uid_in_a_group_that_fails_once(tmp_path: Path, k: int):
    """Then each UID is committed for itself, and the object and its row are of the last."""
    hand = Hand()
    options: dict[str, Any] = {"durability": "full", "duplicates": "replace", "in_thread": hand}
    outcomes: list[Any] = []
    with open_archive(tmp_path, **options) as archive:
        for name in ("Old", "Newer", "Newest"):
            put_later(archive, name, outcomes)
        hand.go()
        with faults(archive, STEPS, k, sqlite3.OperationalError("database is locked")):
            hand.go()
    acknowledged = [outcome == 0 for outcome in outcomes]
    assert acknowledged[1] == acknowledged[2]
    with open_archive(tmp_path) as archive:
        assert patient(archive) == ("newest" if acknowledged[2] else "old")


@pytest.mark.parametrize("duplicates", sorted(DUPLICATES))
def test_nothing_takes_a_name_while_a_row_of_it_is_left(tmp_path: Path, duplicates: str):
    """Of a commit that happened and failed; a crash would leave that row with another object."""
    error = sqlite3.OperationalError("disk I/O error")
    with open_archive(tmp_path, durability="full", duplicates=duplicates) as archive:
        with faults(archive, ("do_commit",), 1, error, late=True):
            assert put(archive, "1.2.1.1", PatientName="Refused").status == 0xA700
        assert archive.index.stored(["1.2.1.1"])
        with faults(archive, ("do_commit",), 1, error, ever=True):
            with faults(archive, ("link",), 0, error) as linking:
                assert put(archive, "1.2.1.1", PatientName="Other").status == 0xA700
            assert linking.count == 0
        assert put(archive, "1.2.1.1", PatientName="Other") == 0
        assert patient(archive) == "other"


def test_what_is_committed_beside_one_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is no leftover of a failure for those that come before it in the group."""
    hand = Hand()
    options: dict[str, Any] = {"durability": "full", "duplicates": "replace", "in_thread": hand}
    outcomes: list[Any] = []
    with open_archive(tmp_path, **options) as archive:
        put_later(archive, "Old", outcomes)
        hand.go()
        put_later(archive, "Another", outcomes, "8.2.1.1")
        put_later(archive, "Other", outcomes, "9.2.1.1")
        put_later(archive, "New", outcomes)
        hand.go()
        add, calls = archive.index.add, count(1)

        def adding(*arguments: Any) -> None:
            """The group fails, the first of it does not, the second does."""
            if next(calls) != 2:
                raise ERRORS["EIO"]
            add(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(archive.index, "add", adding)
            hand.go()
        assert [outcome == 0 for outcome in outcomes] == [True, True, True, False]
        assert b"Old" in archive.objects.read(KEY, 0, 2000)
    with open_archive(tmp_path) as archive:
        assert uids(archive) == ["1.2.1.1", "8.2.1.1", "9.2.1.1"]
        assert b"Old" in archive.objects.read(KEY, 0, 2000)


def test_two_of_a_new_uid_in_a_group_that_fails(tmp_path: Path):
    """Neither is there: the second gives back its name to the first, which has to go, too."""
    hand = Hand()
    options: dict[str, Any] = {"durability": "full", "duplicates": "replace", "in_thread": hand}
    outcomes: list[Any] = []
    with open_archive(tmp_path, **options) as archive:
        for name, uid in (("Other", "9.2.1.1"), ("First", "1.2.1.1"), ("Second", "1.2.1.1")):
            put_later(archive, name, outcomes, uid)
        hand.go()
        error = sqlite3.OperationalError("disk I/O error")
        with faults(archive, STEPS, 1, error, ever=True):
            hand.go()
        assert [outcome == 0 for outcome in outcomes] == [True, False, False]
        assert (uids(archive), olds(archive)) == (["9.2.1.1"], [])


def test_h_r12_nothing_is_replaced_before_its_second_name_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also by the second of a group, when that sync has failed for the first."""
    hand = Hand()
    options: dict[str, Any] = {"durability": "full", "duplicates": "replace", "in_thread": hand}
    outcomes: list[Any] = []
    synced: list[bool] = []
    with open_archive(tmp_path, **options) as archive:
        for name in ("Old", "Newer", "Newest"):
            put_later(archive, name, outcomes)
        hand.go()
        old, replace = archive.objects._old, os.replace

        def sync(folder: Path) -> None:
            synced.append(len(synced) > 0)
            if not synced[-1]:
                raise ERRORS["EIO"]

        def replacing(part: str, final: str) -> None:
            assert synced[-1]
            replace(part, final)

        monkeypatch.setattr(old, "_sync", sync)
        monkeypatch.setattr(os, "replace", replacing)
        hand.go()
        assert (patient(archive), olds(archive)) == ("newest", [])
    assert [outcome == 0 for outcome in outcomes] == [True, False, True]


@pytest.mark.parametrize("fails", [False, True])
def test_two_of_one_uid_in_one_group(tmp_path: Path, fails: bool):
    """The last of them is there then or, where the index fails both, what was acknowledged."""
    hand = Hand()
    options: dict[str, Any] = {"durability": "full", "duplicates": "replace", "in_thread": hand}
    outcomes: list[Any] = []
    with open_archive(tmp_path, **options) as archive:
        for name in ("Old", "Newer", "Newest"):  # the first is a group of its own
            put_later(archive, name, outcomes)
        hand.go()
        error = sqlite3.OperationalError("disk I/O error")
        with faults(archive, STEPS, int(fails), error, ever=fails) as failing:
            hand.go()
        assert failing.count
    assert [outcome == 0 for outcome in outcomes] == [True, not fails, not fails]
    with open_archive(tmp_path) as archive:
        assert (patient(archive), olds(archive)) == ("old" if fails else "newest", [])


def test_what_was_replaced_is_not_sent_by_halves(archive: Archive):
    """Who has read the row of the old one, and opens the file when it is the new one."""
    assert put(archive, "1.2.1.1", PatientName="Old") == 0
    (before,) = archive.index.stored(["1.2.1.1"]).values()
    instance: Instance = archive.objects.instance(before)
    with instance.open():
        pass
    assert put(archive, "1.2.1.1", PatientName="Much longer") == 0
    with pytest.raises(DimseError, match="has changed"):
        instance.open()


def test_what_was_replaced_is_not_sent_in_another_syntax(archive: Archive):
    """The file of the new one is as long as that of the old one."""
    assert put_data_set(archive, data_set("1.2.1.1"), ExplicitVRBigEndian) == 0
    (before,) = archive.index.stored(["1.2.1.1"]).values()
    instance: Instance = archive.objects.instance(before)
    size = archive.objects.path_of(KEY).stat().st_size
    with instance.open():
        pass
    assert put_data_set(archive, data_set("1.2.1.1"), EXPLICIT) == 0
    assert archive.objects.path_of(KEY).stat().st_size == size
    with pytest.raises(DimseError, match="has changed"):
        instance.open()
