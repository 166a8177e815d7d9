"""The end of a study: when it is, who hears of it, and who is notified (PS3.4 R)."""

from collections.abc import Iterator
from pathlib import Path
from sqlite3 import OperationalError
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom.uid import CTImageStorage
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import fail
from twisted.logger import LogLevel, formatEvent

import dimse
from dimse import AvailabilityNotification, AvailabilitySCP
from dimse.archive.archive import Archive
from dimse.archive.index import Index
from dimse.archive.objects import key_of
from dimse.archive.schema import OPEN_STUDIES
from dimse.archive.steps import Steps
from dimse.archive.studies import EndedStudy
from dimse.services.retrieving import Destination
from dimse.testing import Network
from tests.archive.archives import data_set, open_archive, put, synchronously
from tests.archive.faults import STEPS, faults
from tests.services.steps import begun

STUDY = "1.2"  # of 1.2.1.1 and others


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


class Sender:
    """Sends to an archive, which tells it `ended` studies."""

    def __init__(
        self,
        network: Network,
        folder: Path,
        timeout: float,
        ae_title: str | None = None,
        **options: Any,
    ) -> None:
        self.network = network
        self.ae_title = ae_title
        self.ended: list[EndedStudy] = []
        self.opened = open_archive(
            folder,
            clock=network.clock,
            study_timeout=timeout,
            **{"on_study_end": self.ended.append} | options,
        )

    def __enter__(self) -> "Sender":
        self.archive: Archive = self.opened.__enter__()
        self.node = self.network.listen(self.archive.scps(ae_title=self.ae_title))
        return self

    def __exit__(self, *error: Any) -> None:
        self.opened.__exit__(*error)

    def associate(self) -> Any:
        association, _ = self.network.associate(
            self.node, [CTImageStorage], calling_ae_title="CT1", called_ae_title="ARCHIVE"
        )
        return association

    def store(self, association: Any, *uids: str) -> None:
        for uid in uids:
            assert self.network.result(dimse.store(association, data_set(uid))) == 0

    def told(self) -> list[tuple[str, int]]:
        return [(each.study_instance_uid, each.instances) for each in self.ended]


class TestTimeOut:
    def test_since_the_last_instance(self, network: Network, tmp_path: Path):
        with Sender(network, tmp_path, 60) as sender:
            association = sender.associate()
            sender.store(association, "1.2.1.1")
            network.advance(59)
            sender.store(association, "1.2.1.2")
            network.result(association.release())
            network.advance(59)
            assert sender.told() == []
            network.advance(1)
            assert sender.told() == [(STUDY, 2)]
            (ended,) = sender.ended
            assert (ended.peer.ae_title, ended.ae_title) == ("CT1", "ARCHIVE")
            lines = [formatEvent(each) for each in network.events]
            assert f"study {STUDY} has ended: 2 instances, the last of {ended.peer}" in lines

    def test_it_begins_anew(self, network: Network, tmp_path: Path):
        """What comes behind the end is told with an end of its own, of all that are there then."""
        with Sender(network, tmp_path, 60) as sender:
            association = sender.associate()
            for uid in ("1.2.1.1", "1.2.1.2"):
                sender.store(association, uid)
                network.advance(60)
            assert sender.told() == [(STUDY, 1), (STUDY, 2)]

    def test_what_is_sent_again_is_not_counted_twice(self, network: Network, tmp_path: Path):
        """Nor what replaces another; the study ends all the same, also of duplicates alone."""
        with Sender(network, tmp_path, 60, duplicates="replace") as sender:
            association = sender.associate()
            sender.store(association, "1.2.1.1", "1.2.1.1", "1.2.1.2")
            other = data_set("1.2.1.2", PatientName="Other")
            assert network.result(dimse.store(association, other)) == 0
            network.advance(60)
            sender.store(association, "1.2.1.1")
            network.advance(60)
            assert sender.told() == [(STUDY, 2), (STUDY, 2)]

    def test_an_index_that_fails_then(self, network: Network, tmp_path: Path):
        """It cannot tell how many there are: those that came are."""
        with Sender(network, tmp_path, 60) as sender:
            sender.store(sender.associate(), "1.2.1.1", "1.2.1.1")
            error = OperationalError("database is locked")
            with faults(sender.archive, STEPS, 1, error, ever=True):
                network.advance(60)
            assert sender.told() == [(STUDY, 1)]
            assert len(network.flush_logged_errors(SQLAlchemyError)) == 1

    def test_when_the_archive_closes(self, network: Network, tmp_path: Path):
        with Sender(network, tmp_path, 60) as sender:
            sender.store(sender.associate(), "1.2.1.1")
        assert sender.told() == [(STUDY, 1)]


class TestRelease:
    def test_of_the_association_that_brought_it(self, network: Network, tmp_path: Path):
        with Sender(network, tmp_path, 0) as sender:
            association = sender.associate()
            sender.store(association, "1.2.1.1", "1.2.1.2", "1.3.1.1")
            network.advance(100)
            assert sender.told() == []
            network.result(association.release())
            assert sorted(sender.told()) == [(STUDY, 2), ("1.3", 1)]

    def test_of_the_last_of_several(self, network: Network, tmp_path: Path):
        with Sender(network, tmp_path, 0) as sender:
            first, last = sender.associate(), sender.associate()
            sender.store(first, "1.2.1.1")
            sender.store(last, "1.2.1.2")
            network.result(first.release())
            assert sender.told() == []
            last.abort()
            network.run()
            assert sender.told() == [(STUDY, 2)]


@pytest.mark.parametrize("raises", [True, False])
def test_a_hook_that_fails_is_logged(network: Network, tmp_path: Path, raises: bool) -> None:
    """And the next study ends as ever."""
    ended = []

    def hook(study: EndedStudy) -> Any:
        ended.append(study)
        if raises:
            raise ZeroDivisionError
        return fail(ZeroDivisionError())

    with Sender(network, tmp_path, 60, on_study_end=hook) as sender:
        for uid in ("1.2.1.1", "1.3.1.1"):
            sender.store(sender.associate(), uid)
        network.advance(60)
        assert len(ended) == 2
        assert len(network.flush_logged_errors(ZeroDivisionError)) == 2


class Department:
    """Is notified of studies that can be had."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.notified: list[AvailabilityNotification] = []
        self.callers: list[tuple[str, str]] = []
        self.place = network.endpoint()

    def listen(self) -> None:
        scps = [AvailabilitySCP(self._notified)]
        self.network.result(dimse.listen(self.place, scps, reactor=self.network.clock))

    def peers(self) -> dict[str, Destination]:
        return {"RIS": Destination(self.place)}

    def _notified(self, notification: AvailabilityNotification, operation: Any) -> None:
        self.notified.append(notification)
        self.callers.append((operation.peer.ae_title, operation.ae_title))


class TestAvailability:
    def test_of_all_that_the_study_has(self, network: Network, tmp_path: Path):
        """Also what came before, with the procedure steps that are known of it."""
        department = Department(network)
        department.listen()
        with Sender(network, tmp_path, 60, notified=department.peers) as sender:
            step = begun()
            step.ScheduledStepAttributesSequence[0].StudyInstanceUID = STUDY
            nobody: Any = None
            Steps(sender.archive.index, synchronously).create("1.2.40", step, nobody)
            association = sender.associate()
            sender.store(association, "1.2.1.1")
            network.advance(60)
            sender.store(association, "1.2.2.1", "1.3.1.1")
            network.advance(60)
        first, again, other = department.notified
        assert [each.reference.sop_instance_uid for each in first.instances] == ["1.2.1.1"]
        assert [
            (each.series_instance_uid, each.reference.sop_instance_uid) for each in again.instances
        ] == [("1.2.1", "1.2.1.1"), ("1.2.2", "1.2.2.1")]
        assert {each.retrieve_ae_title for each in again.instances} == {"ARCHIVE"}
        assert (again.procedure_steps, other.procedure_steps) == (("1.2.40",), ())
        assert set(department.callers) == {("ARCHIVE", "RIS")}
        assert len(sender.ended) == 3

    def test_as_who_we_are_and_not_as_what_a_sender_called_us(
        self, network: Network, tmp_path: Path
    ):
        department = Department(network)
        department.listen()
        with Sender(network, tmp_path, 60, "OURS", notified=department.peers) as sender:
            sender.store(sender.associate(), "1.2.1.1")
            network.advance(60)
        (notification,) = department.notified
        assert [each.retrieve_ae_title for each in notification.instances] == ["OURS"]
        assert department.callers == [("OURS", "RIS")]
        assert [each.ae_title for each in sender.ended] == ["ARCHIVE"]

    def test_a_peer_that_is_away_for_a_moment(self, network: Network, tmp_path: Path):
        department = Department(network)
        with Sender(network, tmp_path, 60, notified=department.peers) as sender:
            sender.store(sender.associate(), "1.2.1.1")
            network.advance(61)
            department.listen()
            network.advance(5)
            assert len(department.notified) == 1

    def test_a_peer_that_stays_away(self, network: Network, tmp_path: Path):
        """Is given up, with an error in the log."""
        department = Department(network)
        with Sender(network, tmp_path, 60, notified=department.peers) as sender:
            sender.store(sender.associate(), "1.2.1.1")
            network.advance(200)
        (line,) = [
            formatEvent(each) for each in network.events if each["log_level"] is LogLevel.error
        ]
        assert line.startswith(f"RIS: was not notified of study {STUDY}: no connection")

    def test_the_archive_closes_in_the_meantime(self, network: Network, tmp_path: Path):
        """It does not wait for long, and leaves no timer."""
        department = Department(network)
        with Sender(network, tmp_path, 60, notified=department.peers) as sender:
            sender.store(sender.associate(), "1.2.1.1")
            closed: list[None] = []
            sender.archive.close().addCallback(closed.append)
            assert closed == []
            network.advance(6)
            assert closed == [None]


class TestRestart:
    """What had not ended when a node was killed."""

    @staticmethod
    def kill(sender: Sender) -> None:
        sender.archive.index.close()
        sender.archive.objects.close()

    @pytest.mark.parametrize("timeout", [60, 0])
    def test_a_study_ends_all_the_same(self, network: Network, tmp_path: Path, timeout: float):
        """After the time-out from the start on; with 0 at once, for its association is over."""
        killed = Sender(network, tmp_path, timeout)
        killed.__enter__()
        killed.store(killed.associate(), "1.2.1.1", "1.2.1.2", "1.3.1.1.1")
        self.kill(killed)
        with Sender(network, tmp_path, timeout) as sender:
            network.advance(timeout)
            assert sender.told() == [(STUDY, 2), ("1.3.1", 1)]
            (ended, _) = sender.ended
            assert (ended.peer.ae_title, ended.ae_title) == ("CT1", "ARCHIVE")
        with Sender(network, tmp_path, timeout) as sender:
            network.advance(timeout)
            assert sender.told() == []

    def test_what_comes_after_the_restart_is_of_it(self, network: Network, tmp_path: Path):
        killed = Sender(network, tmp_path, 60)
        killed.__enter__()
        killed.store(killed.associate(), "1.2.1.1")
        self.kill(killed)
        with Sender(network, tmp_path, 60) as sender:
            network.advance(59)
            sender.store(sender.associate(), "1.2.1.2", "1.2.1.2")
            network.advance(59)
            assert sender.told() == []
            network.advance(1)
            assert sender.told() == [(STUDY, 2)]
        assert self.left(tmp_path) == []

    def test_what_ended_is_over(self, network: Network, tmp_path: Path):
        """By its time, or because the node stopped."""
        with Sender(network, tmp_path, 60) as sender:
            sender.store(sender.associate(), "1.2.1.1")
            network.advance(60)
            sender.store(sender.associate(), "1.3.1.1")
        assert sender.told() == [(STUDY, 1), ("1.3", 1)]
        assert self.left(tmp_path) == []

    def test_a_rebuild_keeps_it(self, network: Network, tmp_path: Path):
        killed = Sender(network, tmp_path, 60)
        killed.__enter__()
        killed.store(killed.associate(), "1.2.1.1")
        self.kill(killed)
        Archive(tmp_path).rebuild()
        assert self.left(tmp_path) == [(STUDY, 1)]

    def test_instances_that_a_crash_took_from_the_index(self, network: Network, tmp_path: Path):
        """A start that adds them opens their studies; one that makes a new index does not."""
        with open_archive(tmp_path) as archive:
            for uid in ("1.2.1.1", "1.3.1.1"):
                put(archive, data_set(uid))
            archive.index.remove([key_of("1.3.1.1")])
        with Sender(network, tmp_path, 60) as sender:
            network.advance(60)
            assert sender.told() == [("1.3", 1)]
        (tmp_path / "index.sqlite").unlink()
        with Sender(network, tmp_path, 60) as sender:
            network.advance(60)
            assert sender.told() == []

    def test_nobody_who_wants_to_know_costs_nothing(self, tmp_path: Path):
        with open_archive(tmp_path) as archive:
            put(archive, data_set("1.2.1.1"))
        assert self.left(tmp_path) == []

    @staticmethod
    def left(folder: Path) -> list[tuple[str, int]]:
        index = Index(f"sqlite:///{folder}/index.sqlite")
        columns = OPEN_STUDIES.c.study_uid, OPEN_STUDIES.c.instances
        found = [tuple(row) for row in index.fetch(sa.select(*columns))]
        index.close()
        return found
