"""Every step of one store fails, one after the other (H-R11, H-R12, H-R14, H-R15)."""

import errno
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dimse import MisuseError, ReceivedInstance
from dimse.archive import database
from dimse.archive.archive import Archive
from dimse.archive.objects import ABOVE_ALL, LOWEST, key_of
from dimse.services.dataset import encode
from tests.archive.archives import data_set, open_archive, put_encoded
from tests.archive.faults import CALLS, STEPS, faults
from tests.databases import control, new_database, postgresql
from tests.wire import CT_STORAGE, EXPLICIT

ERRORS = {
    name: OSError(getattr(errno, name), name) for name in ("ENOSPC", "EIO", "EROFS", "EMFILE")
}
SQLITE = ("database is locked", "disk I/O error", "database disk image is malformed", "is full")


@pytest.fixture
def archive(tmp_path: Path, new_index: Callable[[], str | None]) -> Iterator[Archive]:
    options = {"index": new_index(), "durability": "full"}
    with open_archive(tmp_path / "archive", **options) as archive:
        yield archive


@pytest.fixture
def uids() -> Iterator[str]:
    return (f"1.2.{number // 3}.{number}" for number in count(1))


def put(archive: Archive, uid: str, sender: str = "MODALITY", **attributes: Any) -> Any:
    """The status, or why there is none."""
    received = ReceivedInstance(CT_STORAGE, uid, EXPLICIT, sender, "ARCHIVE")
    try:
        return put_encoded(archive, received, encode(data_set(uid, **attributes), EXPLICIT))
    except MemoryError as error:
        return error


def stored(archive: Archive) -> dict[str, str]:
    """The digests of the objects by their keys; the index has the same, and nothing is left."""
    found = {}
    for row in archive.index.fetch(sa.text('select object, digest, "offset" from instances')):  # type: ignore[arg-type]
        assert archive.objects.digest(row.object, row.offset) == row.digest
        found[row.object] = row.digest
    assert sorted(found) == archive.objects.keys(LOWEST, ABOVE_ALL)
    levels = "select count(*) from series where not exists (select 1 from instances where {})"
    same = "instances.study_uid = series.study_uid and instances.series_uid = series.series_uid"
    ((empty,),) = archive.index.fetch(sa.text(levels.format(same)))  # type: ignore[arg-type]
    assert empty == 0
    return found


def calls(archive: Archive, names: tuple[str, ...], *arguments: Any, **attributes: Any) -> int:
    """How many of `names` one store needs."""
    with faults(archive, names, 0, MemoryError()) as counted:
        put(archive, *arguments, **attributes)
    assert counted.count
    return counted.count


def check(archive: Archive, uid: str, outcome: Any, before: dict[str, str]) -> None:
    """A success is one; after a failure all is as it was; the next stores work."""
    key = key_of(uid)
    if outcome == 0:
        assert stored(archive).keys() == before.keys() | {key}
    else:
        assert outcome is None or outcome.status == 0xA700
        assert stored(archive) == before
    assert put(archive, uid) == 0
    assert stored(archive).keys() == before.keys() | {key}
    assert stored(archive).items() >= before.items()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """One that only these tests stop."""
    with postgresql() as server:
        yield server


class TestDisk:
    """H-R11, H-R12: each call fails with each error."""

    @pytest.mark.parametrize("name", CALLS[:-2])
    @pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
    def test_h_r11_of_a_new_instance(
        self, archive: Archive, uids: Iterator[str], name: str, error: OSError
    ):
        for k in range(1, calls(archive, (name,), next(uids)) + 1):
            uid, before = next(uids), stored(archive)
            with faults(archive, (name,), k, error) as failing:
                outcome = put(archive, uid)
            assert (outcome == 0) == (name == "unlink")  # a partial file that stays is no harm
            assert failing.retried == []
            check(archive, uid, outcome, before)

    @pytest.mark.parametrize("name", ["open", "write", "fsync", "link", "statvfs", "pread"])
    @pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
    @pytest.mark.parametrize("attributes", [{}, {"PatientName": "Else"}], ids=["same", "other"])
    def test_h_r12_of_one_that_is_there(
        self,
        archive: Archive,
        uids: Iterator[str],
        name: str,
        error: OSError,
        attributes: dict[str, str],
    ):
        """It stays as it is, whatever happens to what comes under its UID."""
        put(archive, uid := next(uids))
        for k in range(1, calls(archive, (name,), uid, **attributes) + 1):
            before = stored(archive)
            with faults(archive, (name,), k, error) as failing:
                assert put(archive, uid, **attributes).status == 0xA700
            assert failing.retried == []
            check(archive, uid, None, before)

    @pytest.mark.parametrize("error", [*ERRORS.values(), MemoryError()], ids=[*ERRORS, "memory"])
    def test_h_r12_from_some_moment_on_everything_fails(
        self, archive: Archive, uids: Iterator[str], error: Exception
    ):
        """What could not be taken back is whole, and indexed as it is when it comes again."""
        for k in range(1, calls(archive, CALLS, next(uids)) + 1):
            uid, before = next(uids), stored(archive)
            with faults(archive, CALLS, k, error, ever=True) as failing:
                outcome = put(archive, uid)
            assert failing.retried == []
            if outcome == 0:  # only the partial file could not be removed
                assert stored(archive).keys() == before.keys() | {key_of(uid)}
            assert put(archive, uid, "ANOTHER_SENDER") == 0
            assert stored(archive).keys() == before.keys() | {key_of(uid)}


class TestDatabase:
    """H-R14, H-R15: each step fails."""

    @pytest.mark.parametrize("message", SQLITE)
    @pytest.mark.parametrize("late", [False, True], ids=["not done", "done"])
    @pytest.mark.parametrize("ever", [False, True], ids=["once", "ever"])
    @pytest.mark.parametrize("again", [False, True], ids=["new", "again"])
    def test_h_r14_each_step(
        self,
        archive: Archive,
        uids: Iterator[str],
        message: str,
        late: bool,
        ever: bool,
        again: bool,
    ):
        """A commit that happened, and failed nevertheless, leaves no row behind."""
        dialect: Any = archive.index._engine.dialect
        error = dialect.dbapi.OperationalError(message)
        for k in count(1):
            uid = next(uids)
            if again:
                put(archive, uid)
            before = stored(archive)
            with faults(archive, STEPS, k, error, ever=ever, late=late) as failing:
                outcome = put(archive, uid)
            if failing.count < k:
                assert outcome == 0
                break
            assert (outcome.status, outcome.comment) == (0xA700, "the index failed")
            if again:
                assert stored(archive) == before
            else:
                assert archive.objects.keys(LOWEST, ABOVE_ALL) == sorted(before)
            other = next(uids)
            assert put(archive, other) == 0
            expected = before.keys() | {key_of(other)}
            assert stored(archive).keys() == expected
            assert put(archive, uid, "ANOTHER_SENDER") == 0
            assert stored(archive).keys() == expected | {key_of(uid)}
        assert k > 1


class TestSQLite:
    """H-R14: the real thing."""

    @pytest.fixture
    def archive(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
        monkeypatch.setattr(database, "_BUSY", 0)
        with open_archive(tmp_path / "archive", durability="full") as archive:
            yield archive

    def test_h_r14_locked(self, archive: Archive):
        assert put(archive, "1.2.1.1") == 0
        with closing(sqlite3.connect(archive.folder / "index.sqlite")) as other:
            other.execute("begin immediate")
            before = stored(archive)
            outcome = put(archive, "1.2.1.2")
            assert (outcome.status, stored(archive)) == (0xA700, before)
        assert put(archive, "1.2.1.2") == 0

    def test_h_r11_full(self, archive: Archive):
        assert put(archive, "1.2.1.1") == 0
        with archive.index._engine.connect() as connection:
            pages = connection.exec_driver_sql("pragma max_page_count = 1").scalar()
        before, failed = stored(archive), []
        for number in range(2, 100):
            outcome = put(archive, f"1.2.1.{number}", ImageComments="x" * 4000)
            if outcome == 0:
                before = stored(archive)
            else:
                failed.append((outcome.status, stored(archive) == before))
        assert pages is not None
        assert set(failed) == {(0xA700, True)}
        with archive.index._engine.connect() as connection:
            connection.exec_driver_sql("pragma max_page_count = 1000000")
        assert put(archive, "1.2.1.100") == 0

    def test_h_r14_corrupt_while_it_runs_and_at_the_next_start(self, archive: Archive):
        """No success, and then no start; the message says what helps."""
        assert put(archive, "1.2.1.1") == 0
        archive.index.close()
        corrupt(archive.folder / "index.sqlite", 100)
        assert put(archive, "1.2.1.2").status == 0xA700
        assert archive.objects.keys(LOWEST, ABOVE_ALL) == [key_of("1.2.1.1")]
        archive.close()
        with (
            pytest.raises(MisuseError, match="malformed; `dimse index rebuild`"),
            open_archive(archive.folder),
        ):
            raise AssertionError
        assert Archive(archive.folder).rebuild() == (1, 0)
        with open_archive(archive.folder) as again:
            assert stored(again).keys() == {key_of("1.2.1.1")}

    def test_h_r14_no_database_at_all(self, archive: Archive):
        archive.close()
        (archive.folder / "index.sqlite").write_bytes(b"nonsense" * 1000)
        with (
            pytest.raises(MisuseError, match="not a database; `dimse index rebuild`"),
            open_archive(archive.folder),
        ):
            raise AssertionError
        assert Archive(archive.folder).rebuild() == (0, 0)

    @pytest.mark.parametrize("truncated", [False, True], ids=["gone", "empty"])
    def test_h_r14_deleted_while_it_runs(self, archive: Archive, truncated: bool):
        """What is acknowledged is in the objects: the next start makes the index again."""
        assert put(archive, "1.2.1.1") == 0
        before = stored(archive)
        for path in archive.folder.glob("index.sqlite*"):
            path.unlink()
        if truncated:
            (archive.folder / "index.sqlite").touch()
        outcome = put(archive, "1.2.1.2")
        archive.close()
        with open_archive(archive.folder) as again:
            assert stored(again).items() >= before.items()
            assert outcome != 0 or key_of("1.2.1.2") in stored(again)
            assert put(again, "1.2.1.2") == put(again, "1.2.1.3") == 0

    def test_h_r14_a_start_that_fails_at_any_step_of_making_the_tables(self, tmp_path: Path):
        """The next one begins again."""
        archive = Archive(tmp_path, durability="full")
        for k in count(1):
            (tmp_path / "index.sqlite").unlink(missing_ok=True)
            error = sqlite3.OperationalError("disk I/O error")
            with faults(archive, STEPS, k, error) as failing:
                refused = failed(archive.index.open)
            archive.index.close()
            assert archive.index.open().keys(LOWEST, ABOVE_ALL) == []
            archive.index.close()
            if failing.count < k:
                break
            assert "disk I/O error" in str(refused)
        assert k > 10


def failed(step: Callable[[], Any]) -> Exception | None:
    """What it raises."""
    try:
        step()
    except (MisuseError, sa.exc.OperationalError) as error:
        return error
    return None


def corrupt(path: Path, begin: int) -> None:
    """Overwrite all of a file from a place on."""
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(b"\xff" * (path.stat().st_size - begin))


def cut(handle: Any) -> None:
    """Have the driver see that the connection, of a pool or of a cursor, is lost."""
    (getattr(handle, "driver_connection", None) or handle.connection).close()


@pytest.mark.peer
class TestPostgreSQL:
    """H-R15: a server that goes away."""

    @pytest.fixture
    def archive(self, tmp_path: Path, server: str) -> Iterator[Archive]:
        with open_archive(tmp_path, index=new_database(server), durability="full") as archive:
            yield archive

    @pytest.mark.parametrize("step", STEPS[1:])
    @pytest.mark.parametrize("late", [False, True], ids=["before", "behind"])
    def test_h_r15_started_anew_in_mid_transaction(
        self,
        archive: Archive,
        server: str,
        monkeypatch: pytest.MonkeyPatch,
        step: str,
        late: bool,
    ):
        """It is tried once more, and is there once."""
        assert put(archive, "1.2.1.1") == 0
        dialect: Any = archive.index._engine.dialect
        real, times = getattr(dialect, step), count(1)

        def anew(*arguments: Any, **options: Any) -> None:
            first = next(times) == 1
            if first and not late:
                control(server, "-m", "immediate", "restart")
            real(*arguments, **options)
            if first and late:
                control(server, "-m", "immediate", "restart")
                cut(arguments[0])
                raise dialect.dbapi.OperationalError("the connection is lost")

        with monkeypatch.context() as patch:
            patch.setattr(dialect, step, anew)
            assert put(archive, "1.2.1.2") == 0
        assert stored(archive).keys() == {key_of("1.2.1.1"), key_of("1.2.1.2")}

    def test_h_r15_gone_for_a_while(self, archive: Archive, server: str):
        assert put(archive, "1.2.1.1") == 0
        before = stored(archive)
        control(server, "-m", "fast", "stop")
        try:
            outcome = put(archive, "1.2.1.2")
            assert (outcome.status, outcome.comment) == (0xA700, "the index failed")
        finally:
            control(server, "restart")
        assert stored(archive) == before
        assert put(archive, "1.2.1.2") == 0

    def test_h_r15_gone_behind_the_commit_and_back_later(
        self, archive: Archive, server: str, monkeypatch: pytest.MonkeyPatch
    ):
        """A failure was answered, so the row that the commit has left goes, with its study."""
        assert put(archive, "1.2.1.1") == 0
        before = stored(archive)
        dialect: Any = archive.index._engine.dialect
        real = dialect.do_commit

        def lost(connection: Any) -> None:
            real(connection)
            control(server, "-m", "fast", "stop")
            cut(connection)
            raise dialect.dbapi.OperationalError("the connection is lost")

        with monkeypatch.context() as patch:
            patch.setattr(dialect, "do_commit", lost)
            assert put(archive, "9.2.1.2").status == 0xA700
        control(server, "restart")
        assert put(archive, "1.2.1.1") == 0
        assert stored(archive) == before

    def test_h_r15_too_many_connections(self, archive: Archive, server: str):
        """Those that it has are enough, and a new one is got when there is room again."""
        url = archive.index._url.set(database="postgres")
        others = sa.create_engine(url, poolclass=sa.pool.NullPool)
        assert put(archive, "1.2.1.1") == 0
        with ExitStack() as held:
            while (refused := failed(lambda: held.enter_context(others.connect()))) is None:
                pass
            assert "too many clients" in str(refused)
            assert put(archive, "1.2.1.2") == 0
            archive.index.close()
            held.enter_context(others.connect())
            assert put(archive, "1.2.1.3").status == 0xA700
        assert put(archive, "1.2.1.3") == 0

    @pytest.mark.parametrize("durability", ["full", "relaxed"])
    def test_every_connection_commits_as_durably_as_it_is_told(
        self, tmp_path: Path, server: str, durability: str
    ):
        """Also one whose first transaction was taken back."""
        with open_archive(tmp_path, index=new_database(server), durability=durability) as archive:
            archive.index.close()
            setting = sa.text("show synchronous_commit")
            shown = [archive.index.fetch(setting) for _ in range(2)]  # type: ignore[arg-type]
        assert shown == [[("on" if durability == "full" else "off",)]] * 2
