"""Storage commitment of the archive: what is committed, and that its result comes (PS3.4 J.3)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom.uid import CTImageStorage, MRImageStorage
from twisted.logger import LogLevel, formatEvent

import dimse
from dimse import CommitmentResult, CommitmentSCU, MisuseError, Reference, StatusError
from dimse.archive import commitment
from dimse.archive.archive import Archive
from dimse.archive.objects import key_of
from dimse.archive.schema import COMMITMENTS
from dimse.services.dataset import encode
from dimse.sop_classes import STORAGE_COMMITMENT_PUSH as PUSH
from dimse.testing import Network
from tests.archive.archives import data_set, open_archive, put
from tests.archive.faults import faults
from tests.archive.storing import Hand, instance
from tests.wire import EXPLICIT

ONE, TWO, NONE = (Reference(CTImageStorage, f"1.2.1.{n}") for n in (1, 2, 3))
TRANSACTION = "1.2.9"


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


class Modality:
    """Asks for commitment, and listens for results; `results` are those that came."""

    def __init__(self, network: Network, archive: Archive, *, listens: bool = True) -> None:
        self.network = network
        self.results: list[CommitmentResult] = []
        self.refuses = False
        self.place = network.endpoint()
        if listens:
            self.listen()
        self.node = network.listen(archive.scps(destinations={"MODALITY": self.place}))

    def listen(self) -> None:
        scps = [CommitmentSCU(self._result)]
        self.network.result(dimse.listen(self.place, scps, reactor=self.network.clock))

    def _result(self, result: CommitmentResult, operation: Any) -> None:
        if self.refuses:
            raise StatusError(0x0110)
        self.results.append(result)
        assert operation.association.peer.ae_title == "ARCHIVE"

    def associate(self, **options: Any) -> Any:
        association, _ = self.network.associate(
            self.node,
            [PUSH],
            calling_ae_title="MODALITY",
            called_ae_title="ARCHIVE",
            **options,
        )
        return association

    def ask(self, *references: Reference, uid: str = TRANSACTION) -> None:
        """Ask, and be gone when that is answered."""
        association = self.associate()
        asking = dimse.request_commitment(association, references, transaction_uid=uid)
        asking.addCallback(lambda _: association.abort())
        self.network.result(asking)


def opened(network: Network, folder: Path, **options: Any) -> Any:
    return open_archive(folder, clock=network.clock, **options)


@pytest.fixture
def archive(
    tmp_path: Path, network: Network, new_index: Callable[[], str | None]
) -> Iterator[Archive]:
    with opened(network, tmp_path, index=new_index()) as archive:
        for reference in (ONE, TWO):
            assert put(archive, data_set(reference.sop_instance_uid)) == 0
        yield archive


def waiting(archive: Archive) -> list[str]:
    """The Transaction UIDs of the requests that are kept."""
    rows = archive.index.fetch(sa.select(COMMITMENTS.c.transaction_uid))
    return [uid for (uid,) in rows]


def path_of(archive: Archive, reference: Reference) -> Path:
    path: Path = archive.objects.path_of(key_of(reference.sop_instance_uid))
    return path


def database_error(archive: Archive, text: str) -> Exception:
    """As the driver of its database raises it."""
    error: Exception = archive.index._engine.dialect.loaded_dbapi.OperationalError(text)
    return error


def said(network: Network, level: LogLevel) -> list[str]:
    return [formatEvent(event) for event in network.events if event["log_level"] is level]


def refused_connections(network: Network) -> int:
    return sum("no connection" in line for line in said(network, LogLevel.warn))


class TestWhatIsCommitted:
    def commit(self, network: Network, archive: Archive, *references: Reference) -> Any:
        association = Modality(network, archive).associate()
        return network.result(
            dimse.commit(association, references, transaction_uid=TRANSACTION, wait=10)
        )

    def test_what_is_there(self, network: Network, archive: Archive):
        """On the same association, with the AE title to retrieve it from."""
        result = self.commit(network, archive, ONE, TWO)
        assert result == CommitmentResult(TRANSACTION, (ONE, TWO), {}, "ARCHIVE")
        assert waiting(archive) == []

    def test_what_is_not(self, network: Network, archive: Archive):
        result = self.commit(network, archive, ONE, NONE)
        assert (result.committed, result.failed) == ((ONE,), {NONE: 0x0112})

    def test_of_another_sop_class(self, network: Network, archive: Archive):
        other = Reference(MRImageStorage, ONE.sop_instance_uid)
        assert self.commit(network, archive, other).failed == {other: 0x0119}

    def test_a_damaged_object(self, network: Network, archive: Archive):
        """One bit is enough; so is a file that is gone."""
        path = path_of(archive, ONE)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        path_of(archive, TWO).unlink()
        result = self.commit(network, archive, ONE, TWO)
        assert result.failed == {ONE: 0x0110, TWO: 0x0110}
        assert any("is damaged" in line for line in said(network, LogLevel.error))

    def test_h_d26_many_unknown_instances(self, tmp_path: Path, network: Network):
        """All fail as unknown."""
        unknown = [Reference(CTImageStorage, f"1.2.99.{n}") for n in range(10_000)]
        with opened(network, tmp_path) as archive:
            result = self.commit(network, archive, *unknown)
        assert result.failed == dict.fromkeys(unknown, 0x0112)

    def test_h_d26_not_yet_durable(self, tmp_path: Path, network: Network):
        """What is being committed to the disk is not committed to the peer."""
        with opened(network, tmp_path, durability="full") as archive:
            by_hand = Hand()
            archive._commits._in_thread = by_hand
            operation: Any = None
            sink = archive.begin(instance(ONE.sop_instance_uid), operation)
            sink.write(memoryview(encode(data_set(ONE.sop_instance_uid), EXPLICIT)))
            stored = sink.finish()
            assert self.commit(network, archive, ONE).failed == {ONE: 0x0112}
            by_hand.go()
            assert network.result(stored) == 0
            assert self.commit(network, archive, ONE).ok


class TestRequests:
    def test_h_d26_a_transaction_uid_in_use(self, network: Network, archive: Archive):
        """0x0115 while its result was not reported; of another peer it is another one."""
        modality = Modality(network, archive, listens=False)
        modality.ask(ONE)
        with pytest.raises(StatusError, match="0x0115"):
            modality.ask(TWO)
        assert waiting(archive) == [TRANSACTION]

    def test_a_database_that_fails_refuses(self, network: Network, archive: Archive):
        """With a line in the log and no traceback; `network` looks at that."""
        modality = Modality(network, archive)
        with (
            faults(
                archive, ("do_execute",), 1, database_error(archive, "the disk is full"), ever=True
            ),
            pytest.raises(StatusError, match="0x0110"),
        ):
            modality.ask(ONE)
        assert waiting(archive) == []
        assert any("the disk is full" in line for line in said(network, LogLevel.error))

    def test_a_request_that_was_kept_and_refused_can_be_repeated(
        self, network: Network, archive: Archive
    ):
        """As when the connection to the database is lost before the commit is confirmed."""
        modality = Modality(network, archive)
        error = database_error(archive, "connection lost")
        with (
            faults(archive, ("do_commit",), 1, error, late=True),
            pytest.raises(StatusError, match="0x0110"),
        ):
            modality.ask(ONE)
        assert waiting(archive) == [TRANSACTION]
        modality.ask(ONE)
        network.run()
        assert [result.committed for result in modality.results] == [(ONE,)]
        assert waiting(archive) == []

    def test_what_is_kept_cannot_be_read_at_the_start(self, archive: Archive):
        with (
            faults(archive, ("do_execute",), 1, database_error(archive, "locked"), ever=True),
            pytest.raises(MisuseError, match="locked"),
        ):
            archive.scps()

    def test_too_many_of_one_peer(
        self, network: Network, archive: Archive, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(commitment, "_MOST", 2)
        modality = Modality(network, archive, listens=False)
        for uid in ("1.1", "1.2"):
            modality.ask(ONE, uid=uid)
        with pytest.raises(StatusError, match="0x0213"):
            modality.ask(ONE, uid="1.3")

    def test_it_is_kept_before_it_is_answered(
        self, network: Network, archive: Archive, monkeypatch: pytest.MonkeyPatch
    ):
        """When it cannot be kept, it is refused."""

        def broken(*_: object) -> int:
            raise OSError("no space")

        monkeypatch.setattr(archive.index, "change", broken)
        with pytest.raises(StatusError, match="0x0110"):
            Modality(network, archive).ask(ONE)
        network.flush_logged_errors(OSError)


class TestReporting:
    def test_on_another_association(self, network: Network, archive: Archive):
        modality = Modality(network, archive)
        modality.ask(ONE, NONE)
        network.run()
        (result,) = modality.results
        assert (result.committed, result.failed) == ((ONE,), {NONE: 0x0112})
        assert waiting(archive) == []

    def test_when_the_peer_refuses_it_on_the_first(self, network: Network, archive: Archive):
        """It may take it on another one."""
        modality = Modality(network, archive)
        association = modality.associate(scps=[CommitmentSCU()])  # refuses what it does not await
        network.result(dimse.request_commitment(association, [ONE]))
        network.run()
        assert [result.committed for result in modality.results] == [(ONE,)]

    def test_h_d27_an_unreachable_peer(self, network: Network, archive: Archive):
        """Tried again, later each time, until it is there."""
        modality = Modality(network, archive, listens=False)
        modality.ask(ONE)
        network.advance(9)
        assert refused_connections(network) == 1
        network.advance(1 + 20)
        assert refused_connections(network) == 3
        modality.listen()
        network.advance(39)
        assert modality.results == []
        network.advance(1)
        assert [result.committed for result in modality.results] == [(ONE,)]
        assert waiting(archive) == []

    def test_h_d27_a_peer_that_refuses(self, network: Network, archive: Archive):
        modality = Modality(network, archive)
        modality.refuses = True
        modality.ask(ONE)
        network.run()
        assert modality.results == []
        assert waiting(archive) == [TRANSACTION]
        modality.refuses = False
        network.advance(10)
        assert [result.committed for result in modality.results] == [(ONE,)]

    def test_h_d27_survives_a_restart(
        self, tmp_path: Path, network: Network, new_index: Callable[[], str | None]
    ):
        """The result stays as it was, for what it says may be deleted since; attempts go on."""
        index = new_index()
        with opened(network, tmp_path, index=index) as archive:
            put(archive, data_set(ONE.sop_instance_uid))
            Modality(network, archive, listens=False).ask(ONE, NONE)
            network.advance(10)
        assert network.clock.getDelayedCalls() == []
        with opened(network, tmp_path, index=index) as archive:
            put(archive, data_set(NONE.sop_instance_uid))
            modality = Modality(network, archive)
            network.run()
            (result,) = modality.results
            assert (result.committed, result.failed) == ((ONE,), {NONE: 0x0112})
            assert waiting(archive) == []

    def test_a_restart_before_it_was_verified(self, tmp_path: Path, network: Network):
        """As a crash right behind the answer leaves it."""
        with opened(network, tmp_path) as archive:
            put(archive, data_set(ONE.sop_instance_uid))
            kept = COMMITMENTS.insert().values(
                peer="MODALITY",
                transaction_uid=TRANSACTION,
                ae_title="ARCHIVE",
                instances=f'[["{ONE.sop_class_uid}", "{ONE.sop_instance_uid}"]]',
                failures="",
                attempts=0,
            )
            archive.index.change(kept)
            modality = Modality(network, archive)
            network.run()
            assert [result.committed for result in modality.results] == [(ONE,)]

    @pytest.mark.parametrize("known", [True, False])
    def test_h_d27_given_up(self, network: Network, archive: Archive, known: bool):
        """After about a day, with an error in the log; also of a peer that nobody knows."""
        modality = Modality(network, archive, listens=False)
        if not known:
            archive.scps()
        modality.ask(ONE)
        network.advance(12 * 3600)
        assert waiting(archive) == [TRANSACTION]
        network.advance(24 * 3600)
        assert waiting(archive) == []
        (line,) = said(network, LogLevel.error)
        assert line == (
            f"MODALITY: the result of commitment {TRANSACTION} was not reported in 30 attempts: "
            "given up"
        )

    def test_a_database_that_fails_as_databases_do(self, network: Network, archive: Archive):
        """It says so in a line, without a traceback."""
        modality = Modality(network, archive, listens=False)
        modality.ask(ONE)
        with faults(archive, ("do_execute",), 1, database_error(archive, "locked"), ever=True):
            network.advance(10)
        assert any("locked" in line for line in said(network, LogLevel.error))
        modality.listen()
        network.advance(60)
        assert [result.committed for result in modality.results] == [(ONE,)]

    def test_a_database_that_fails(
        self, network: Network, archive: Archive, monkeypatch: pytest.MonkeyPatch
    ):
        """It is asked again, and then the result is reported."""
        modality = Modality(network, archive, listens=False)
        modality.ask(ONE)

        def broken(*_: object) -> int:
            raise OSError("no space")

        with monkeypatch.context() as patch:
            patch.setattr(archive.index, "change", broken)
            network.advance(10)
            assert network.flush_logged_errors(OSError)
        modality.listen()
        network.advance(60)
        assert [result.committed for result in modality.results] == [(ONE,)]
