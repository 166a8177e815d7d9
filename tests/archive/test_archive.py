"""The archive: what a success means, and how files and index are kept together."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any
from unittest.mock import Mock, patch

import pytest
import pytest_twisted
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from pydicom import Dataset
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, capturedLogs, formatEvent

from dimse import PATIENT_ROOT, MisuseError, ReceivedInstance, StatusError
from dimse.archive import migrations
from dimse.archive.archive import Archive
from dimse.archive.attributes import Level
from dimse.archive.identifier import keys_of
from dimse.archive.index import Index
from dimse.archive.matching import Universal
from dimse.archive.objects import ABOVE_ALL, LOWEST, key_of
from dimse.archive.schema import METADATA, STUDIES
from dimse.archive.selection import Selection
from dimse.archive.under_way import UnderWay
from dimse.services.dataset import encode
from dimse.testing import Network
from tests.archive.archives import (
    LIMITS,
    Client,
    data_set,
    open_archive,
    put,
    put_encoded,
    texts,
    uids,
)
from tests.archive.storing import Hand
from tests.wire import CT_STORAGE, EXPLICIT

NOBODY: Any = None  # whose operation it is


@pytest.fixture
def archive(tmp_path: Path, new_index: Callable[[], str | None]) -> Iterator[Archive]:
    with open_archive(tmp_path / "archive", index=new_index()) as archive:
        yield archive


def files(archive: Archive) -> list[Path]:
    return sorted((archive.folder / "objects").rglob("*.dcm"))


def leftovers(archive: Archive) -> list[Path]:
    return list((archive.folder / "incoming").iterdir())


class TestStore:
    @pytest.mark.parametrize("durability", ["full", "relaxed"])
    def test_a_success_is_in_both(self, tmp_path: Path, durability: str):
        with open_archive(tmp_path, durability=durability) as archive:
            assert put(archive, data_set("1.2.1.1")) == 0
            assert uids(archive) == ["1.2.1.1"]
            assert leftovers(archive) == []

    def test_the_same_again_is_a_success(self, archive: Archive):
        for _ in range(2):
            assert put(archive, data_set("1.2.1.1")) == 0
        assert uids(archive) == ["1.2.1.1"]

    @pytest.mark.parametrize("others", [0, 25])
    def test_h_a02_fifty_at_once_under_one_uid(self, tmp_path: Path, others: int):
        """One object: the same bytes are a success each, other ones are refused, none are mixed."""
        hand, outcomes = Hand(), list[Any]()
        received = ReceivedInstance(CT_STORAGE, "1.2.1.1", EXPLICIT, "A", "B")
        same = encode(data_set("1.2.1.1"), EXPLICIT)
        other = encode(data_set("1.2.1.1", PatientName="Else^Somebody"), EXPLICIT)
        with open_archive(tmp_path / "archive", in_thread=hand) as archive:
            sinks = [archive.begin(received, NOBODY) for _ in range(50)]
            for start in range(0, len(other), 100):
                for number, sink in enumerate(sinks):
                    data = same if number < 50 - others else other
                    if piece := data[start : start + 100]:
                        sink.write(memoryview(piece))
            for sink in sinks:
                sink.finish().addCallbacks(outcomes.append, lambda f: outcomes.append(f.value))
            while hand.steps:
                hand.go()
            statuses = [getattr(outcome, "status", outcome) for outcome in outcomes]
            assert sorted(statuses) == [0] * (50 - others) + [0x0111] * others
            assert len(files(archive)) == 1
            assert files(archive)[0].read_bytes().endswith(same)
            assert leftovers(archive) == []

    def test_h_a03_another_under_the_same_uid(self, archive: Archive):
        """0x0111, and the first is kept."""
        put(archive, data_set("1.2.1.1"))
        before = files(archive)[0].read_bytes()
        assert put(archive, data_set("1.2.1.1", PatientName="Else^Somebody")).status == 0x0111
        assert files(archive)[0].read_bytes() == before
        assert uids(archive) == ["1.2.1.1"]
        assert leftovers(archive) == []

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({"StudyInstanceUID": None}, 0xC000),
            ({"SeriesInstanceUID": ""}, 0xC000),
            ({"SOPInstanceUID": None}, 0xC000),
        ],
    )
    def test_h_d14_what_cannot_be_indexed_is_not_kept(
        self, archive: Archive, change: dict[str, Any], status: int
    ):
        dataset = data_set("1.2.1.1", **change)
        received = ReceivedInstance(CT_STORAGE, "1.2.1.1", EXPLICIT, "A", "B")
        assert put_encoded(archive, received, encode(dataset, EXPLICIT)).status == status
        assert uids(archive) == []
        assert leftovers(archive) == []

    def test_an_empty_data_set(self, archive: Archive):
        received = ReceivedInstance(CT_STORAGE, "1.2.1.1", EXPLICIT, "A", "B")
        assert put_encoded(archive, received, b"").status == 0xC000
        assert leftovers(archive) == []

    @pytest.mark.parametrize("syntax", [EXPLICIT, ImplicitVRLittleEndian, ExplicitVRBigEndian])
    def test_bit_for_bit_in_every_encoding(self, archive: Archive, syntax: str):
        dataset = data_set("1.2.1.1")
        assert put(archive, dataset, syntax) == 0
        assert files(archive)[0].read_bytes().endswith(encode(dataset, syntax))
        stored = archive.index.stored(["1.2.1.1"])["1.2.1.1"]
        assert archive.objects.digest(key_of("1.2.1.1"), stored.offset) == stored.digest
        assert stored.received.transfer_syntax == syntax


class TestStudyUpdateDateTime:
    """When the last instance of a study came, whether the index remembers the study or not."""

    @pytest.mark.parametrize("remembered", [True, False])
    def test_is_that_of_the_last_instance(
        self, archive: Archive, monkeypatch: pytest.MonkeyPatch, remembered: bool
    ):
        times = iter(f"2026010100000{number}.000000" for number in range(9))
        for module in ("index", "rows"):
            monkeypatch.setattr(f"dimse.archive.{module}.now", lambda: next(times))
        studies = sa.select(STUDIES.c.study_uid, STUDIES.c.updated).order_by(STUDIES.c.study_uid)
        found = []
        for uid in ("1.2.1.1", "1.3.1.1", "1.2.1.2", "1.2.1.2"):
            if not remembered:
                archive.index._known.clear()
            put(archive, data_set(uid))
            found.append(
                [(study, int(time[:14]) % 10) for study, time in archive.index.fetch(studies)]
            )
        assert found == [
            [("1.2", 0)],
            [("1.2", 0), ("1.3", 1)],
            [("1.2", 2), ("1.3", 1)],
            [("1.2", 2), ("1.3", 1)],
        ]


class TestIndexFails:
    """H-R14: never a success, nothing is left, and it works again when the database does."""

    @pytest.mark.parametrize("times", [1, 2, 3])
    def test_locked_corrupt_or_gone(
        self,
        archive: Archive,
        monkeypatch: pytest.MonkeyPatch,
        times: int,
        log: list[dict[str, Any]],
    ):
        put(archive, data_set("1.2.1.1"))

        def broken(*_: Any) -> None:
            raise sa.exc.OperationalError("statement with Doe^Jane", {}, Exception("is locked"))

        with monkeypatch.context() as patch:
            patch.setattr(archive.index, "add", broken)
            for number in range(times):
                error = put(archive, data_set(f"1.2.1.{number + 2}"))
                assert (error.status, error.comment) == (0xA700, "the index failed")
        assert "Doe" not in repr(log)
        assert uids(archive) == ["1.2.1.1"]
        assert leftovers(archive) == []
        assert put(archive, data_set("1.2.1.2")) == 0

    def test_a_success_of_before_stays_when_its_re_send_meets_a_broken_index(
        self, archive: Archive, monkeypatch: pytest.MonkeyPatch
    ):
        """Only what this commit made is taken back."""
        put(archive, data_set("1.2.1.1"))
        with monkeypatch.context() as patch:
            patch.setattr(archive.index, "fetch", lambda _: 1 // 0)
            assert put(archive, data_set("1.2.1.1")).status == 0xA700
        assert uids(archive) == ["1.2.1.1"]

    @pytest.mark.parametrize("ask", [Client.find, Client.get])
    @pytest.mark.parametrize("level", ["PATIENT", "STUDY"])
    def test_queries_and_retrievals_are_answered_and_logged_in_a_line(
        self,
        archive: Archive,
        monkeypatch: pytest.MonkeyPatch,
        log: list[dict[str, Any]],
        ask: Callable[..., Any],
        level: str,
    ):
        """C001H; no traceback, no statement, and no value of it."""
        put(archive, data_set("1.2.1.1"))
        keys = {"PatientID": "P1"} | ({"StudyInstanceUID": "1.2"} if level == "STUDY" else {})
        error = sa.exc.OperationalError("statement with P1", {}, Exception("is locked"))
        with Network() as network:
            client = Client(network, archive)
            with monkeypatch.context() as patch:
                patch.setattr(archive.index, "fetch", Mock(side_effect=error))
                with pytest.raises(StatusError) as caught:
                    ask(client, level, PATIENT_ROOT, **keys)
            assert (caught.value.status, caught.value.comment) == (0xC001, "the index failed")
            assert ask(client, level, PATIENT_ROOT, **keys)
        failures = [event for event in log if event["log_level"] >= LogLevel.error]
        assert texts(failures) == [f"the index {archive.index} failed: OperationalError: is locked"]
        assert "statement" not in repr([event.get("log_failure") for event in log])


class TestClosing:
    def test_it_does_not_wait_for_a_disk_that_hangs(self, tmp_path: Path):
        """What was not committed is in the log, and the archive stays taken: a thread uses it."""
        hand, clock = Hand(), Clock()
        archive = Archive(tmp_path, limits=LIMITS, in_thread=hand, clock=clock).open()
        operation: Any = None
        received = ReceivedInstance(CT_STORAGE, "1.2.1.1", EXPLICIT, "A", "B")
        sink = archive.begin(received, operation)
        sink.write(memoryview(encode(data_set("1.2.1.1"), EXPLICIT)))
        statuses: list[int] = []
        sink.finish().addCallback(statuses.append)
        closed: list[None] = []
        archive.close().addCallback(closed.append)
        clock.advance(9.9)
        assert closed == []
        with capturedLogs() as events:
            clock.advance(0.1)
        assert closed == [None]
        (line,) = map(formatEvent, events)
        assert line == "the disk hangs: 1 instances are not committed: 1.2.1.1"
        with pytest.raises(MisuseError, match="another server"):
            Archive(tmp_path).open()
        hand.go()
        assert statuses == [0]
        archive.close()
        assert clock.getDelayedCalls() == []
        assert Archive(tmp_path).open().index.keys(LOWEST, ABOVE_ALL) == [key_of("1.2.1.1")]

    def test_it_does_not_wait_for_a_query_that_hangs(self, tmp_path: Path):
        hand, clock = Hand(), Clock()
        archive = Archive(tmp_path, limits=LIMITS, in_thread=hand, clock=clock).open()
        archive._in_thread(lambda: None)
        closed: list[None] = []
        archive.close().addCallback(closed.append)
        with capturedLogs() as events:
            clock.advance(10)
        assert closed == [None]
        assert [formatEvent(e) for e in events] == ["the disk hangs: 1 threads still read it"]
        with pytest.raises(MisuseError, match="another server"):
            Archive(tmp_path).open()
        hand.go()
        archive.close()
        Archive(tmp_path).open().close()
        assert clock.getDelayedCalls() == []


class TestCommitThread:
    @pytest_twisted.ensureDeferred
    async def test_a_commit_does_not_wait_for_queries(self, tmp_path: Path) -> None:
        """All threads of the reactor are busy with slow ones."""
        from twisted.internet import reactor

        archive = Archive(tmp_path, limits=LIMITS, durability="relaxed").open()
        pool, over = reactor.getThreadPool(), Event()  # type: ignore[attr-defined]
        slow = [deferToThread(over.wait, 30) for _ in range(pool.max)]
        dataset = data_set("1.2.1.1")
        operation: Any = None
        received = ReceivedInstance(CT_STORAGE, "1.2.1.1", EXPLICIT, "A", "B")
        sink = archive.begin(received, operation)
        sink.write(memoryview(encode(dataset, EXPLICIT)))
        try:
            assert await sink.finish() == 0
        finally:
            over.set()
            await gatherResults(slow)
            await archive.close()
        assert uids(archive) == ["1.2.1.1"]

    @pytest_twisted.ensureDeferred
    async def test_no_thread_is_to_be_had(self, tmp_path: Path) -> None:
        """One instance fails; the next one is committed, and the store closes."""
        archive = Archive(tmp_path, limits=LIMITS, durability="relaxed").open()

        def sink(uid: str) -> Any:
            operation: Any = None
            received = ReceivedInstance(CT_STORAGE, uid, EXPLICIT, "A", "B")
            begun = archive.begin(received, operation)
            begun.write(memoryview(encode(data_set(uid), EXPLICIT)))
            return begun

        none = RuntimeError("can't start new thread")
        with patch.object(Thread, "start", side_effect=none), pytest.raises(RuntimeError):
            await sink("1.2.1.1").finish()
        assert await sink("1.2.1.2").finish() == 0
        assert uids(archive) == ["1.2.1.2"]
        await archive.close()
        assert list((tmp_path / "incoming").iterdir()) == []

    def test_no_thread_for_a_query(self, tmp_path: Path):
        """It fails, and is under way no more."""

        def in_thread(_: object) -> "Deferred[Any]":
            raise RuntimeError("can't start new thread")

        under_way = UnderWay(in_thread)
        under_way(lambda: None).addErrback(lambda failure: failure.trap(RuntimeError))
        assert under_way.idle(1, Clock()).called


class TestIndex:
    def test_the_migrations_make_the_tables_of_the_schema(self, archive: Archive):
        with archive.index._engine.connect() as connection:
            context = MigrationContext.configure(connection)
            assert compare_metadata(context, METADATA) == []
            assert context.get_current_revision() == migrations.NEWEST

    @pytest.mark.parametrize("text", ["C:\\u0000x", "a\\u0000", "\\", '"', "nul \\x00"])
    def test_text_that_looks_like_an_escape(self, archive: Archive, text: str):
        """It is found as it is, and breaks no answer."""
        put(archive, data_set("1.2.1.1", PatientComments=text))
        put(archive, data_set("1.3.1.1"))
        keys = {0x00104000: Universal()}
        found = [
            each for page in Selection(archive.index, Level.STUDY, keys).pages() for each in page
        ]
        assert {each.get(0x00104000) for each in found} == {text, None}

    def test_values_longer_than_the_standard_has_them(self, archive: Archive):
        """PostgreSQL indexes no more than 2,704 bytes; nobody else's instance fails for it."""
        long = "".join(map(chr, range(0x4E00, 0x4E00 + 6000)))
        received = ReceivedInstance(CT_STORAGE, "1.2.1.1", EXPLICIT, "A", "B")
        dataset = data_set("1.2.1.1", SpecificCharacterSet="ISO_IR 192")
        for keyword in ("PatientID", "PatientName", "AccessionNumber"):
            vr = dictionary_VR(keyword)
            value = long.encode() if keyword != "PatientName" else b"x" * 6000
            element: Any = RawDataElement(Tag(keyword), vr, len(value), value, 0, False, True)
            dataset.add(element)
        assert put_encoded(archive, received, encode(dataset, EXPLICIT)) == 0
        assert uids(archive) == ["1.2.1.1"]

    def test_removing_leaves_what_others_are_part_of(self, archive: Archive):
        for uid in ("1.2.1.1", "1.2.1.2", "1.2.2.1", "1.3.1.1"):
            put(archive, data_set(uid, StudyInstanceUID=uid[:3]))
        archive.index.remove([key_of("1.2.1.1"), key_of("1.2.2.1"), key_of("1.3.1.1")])
        tables = {"patients": 1, "studies": 1, "series": 1, "instances": 1}
        for table, count in tables.items():
            ((found,),) = archive.index.fetch(sa.text(f"select count(*) from {table}"))  # type: ignore[arg-type]
            assert found == count, table

    def test_is_for_its_owner_alone(self, tmp_path: Path):
        """In a folder that others may read, whatever the umask."""
        tmp_path.chmod(0o755)
        umask = os.umask(0)
        try:
            with open_archive(tmp_path) as archive:
                put(archive, data_set("1.2.1.1"))
                modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("index*")}
        finally:
            os.umask(umask)
        assert set(modes.values()) == {0o600}
        assert "index.sqlite-wal" in modes

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql+psycopg://u:secret@host/db",
            "postgresql+psycopg://host/db?user=u&password=secret&host=there",
        ],
    )
    def test_shows_no_password(self, url: str):
        assert "secret" not in str(Index(url))
        assert "host" in str(Index(url))

    @pytest.mark.parametrize(
        "url", ["sqlite://", "sqlite:///:memory:", "sqlite+nonsense:///x", "x"]
    )
    def test_no_place_for_an_index(self, url: str):
        with pytest.raises(MisuseError):
            Index(url)

    def test_a_port_that_is_none(self):
        with pytest.raises(MisuseError):
            Index("postgresql+psycopg://u@host:notaport/db")


def test_h_d21_an_identifier_of_very_many_patterns():
    """They would take seconds to make: it is refused before."""
    tags = [tag for tag, entry in DicomDictionary.items() if entry[0] == "LO" and entry[1] != "1"]
    identifier = Dataset()
    for tag in tags:
        identifier.add_new(tag, "LO", ["a*b*c"] * 90)
    assert len(tags) * 90 > 2000
    with pytest.raises(StatusError) as caught:
        keys_of(identifier)
    assert caught.value.status == 0xA900
