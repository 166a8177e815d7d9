"""What `twistd dimse` makes of its options, of a configuration file, and of it at SIGHUP."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pydicom import Dataset
from twisted.logger import LogEvent, formatEvent

from dimse import (
    STUDY_ROOT,
    AssociationRejectedError,
    MemoryStore,
    StorageSCP,
    associate,
    echo,
    find,
    listen,
    move,
    store,
)
from dimse.server.node import NotStartedError
from dimse.server.options import Options
from dimse.server.service import makeService
from tests.server.nodes import hang_up, made
from tests.wire import CT_STORAGE, IMPLICIT, VERIFICATION

EXPLICIT = "1.2.840.10008.1.2.1"
PRIVATE = "1.2.3.4.5"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def instance(sop_class: str) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = "1.2.3"
    dataset.StudyInstanceUID = "1.2"
    dataset.SeriesInstanceUID = "1.2.1"
    return dataset


class TestMakeService:
    def test_what_hinders_it_is_one_line(self, folder: Path) -> None:
        options = Options()
        options.parseOptions(["--storage", str(folder), "--index", "postgresql+none://user@host/x"])
        with pytest.raises(NotStartedError, match="load plugin"):
            makeService(options)

    @pytest_twisted.ensureDeferred
    async def test_answers_to_its_ae_titles_only(
        self, log: Sequence[LogEvent], folder: Path
    ) -> None:
        service, address = made(folder, "--aet", "ARCHIVE", "--aet", "PACS")
        for title in ("ARCHIVE", "PACS"):
            async with associate(address, called_ae_title=title) as association:
                assert await echo(association) == 0
        with pytest.raises(AssociationRejectedError) as raised:
            await associate(address, called_ae_title="OTHER")
        assert (raised.value.source, raised.value.reason) == (1, 7)  # PS3.8 9.3.4
        await service.stopService()

    @pytest.mark.parametrize(("args", "taken"), [([], False), (["--promiscuous"], True)])
    @pytest_twisted.ensureDeferred
    async def test_takes_private_sop_classes_if_promiscuous(
        self, log: Sequence[LogEvent], folder: Path, args: list[str], taken: bool
    ) -> None:
        service, address = made(folder, *args)
        async with associate(address, [CT_STORAGE, PRIVATE]) as association:
            classes = {context.abstract_syntax for context in association.contexts.values()}
        assert classes == ({CT_STORAGE, PRIVATE} if taken else {CT_STORAGE})
        await service.stopService()

    @pytest_twisted.ensureDeferred
    async def test_transfer_syntaxes_in_order_of_preference(
        self, log: Sequence[LogEvent], folder: Path
    ) -> None:
        service, address = made(folder, "--transfer-syntax", IMPLICIT)
        contexts = [(CT_STORAGE, [EXPLICIT]), (CT_STORAGE, [EXPLICIT, IMPLICIT])]
        async with associate(address, contexts) as association:
            (accepted,) = association.contexts.values()
        assert accepted.transfer_syntax == IMPLICIT
        await service.stopService()

    @pytest.mark.parametrize(("durability", "synced"), [("full", True), ("relaxed", False)])
    @pytest_twisted.ensureDeferred
    async def test_durability_is_that_of_the_store(
        self,
        log: Sequence[LogEvent],
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        durability: str,
        synced: bool,
    ) -> None:
        service, address = made(folder, "--durability", durability)
        calls: list[int] = []
        monkeypatch.setattr("dimse.archive.files.os.fsync", calls.append)
        async with associate(address, [CT_STORAGE]) as association:
            assert await store(association, instance(CT_STORAGE)) == 0
        assert bool(calls) is synced
        assert len(list(folder.glob("objects/*/*.dcm"))) == 1
        await service.stopService()

    @pytest_twisted.ensureDeferred
    async def test_limits_reach_the_associations(
        self, log: Sequence[LogEvent], folder: Path
    ) -> None:
        service, address = made(folder, "--associations", "1")
        first = await associate(address)
        with pytest.raises(AssociationRejectedError) as raised:
            await associate(address)
        assert (raised.value.source, raised.value.reason) == (3, 2)  # PS3.8 9.3.4
        await first.release()
        await service.stopService()


def write(file: Path, *peers: str, **more: str) -> list[str]:
    """A configuration file with these peers, and the option that names it."""
    tables = [f"[{name}]\n{line}" for name, line in more.items()]
    file.write_text("\n".join([*tables, *(f"[[peers]]\n{peer}" for peer in peers)]), "utf-8")
    return ["--config", str(file)]


async def uses(address: str) -> set[str]:
    """What the peer CT1 is given of these SOP classes."""
    contexts = [VERIFICATION, CT_STORAGE]
    async with associate(address, contexts, calling_ae_title="CT1") as association:
        return {context.abstract_syntax for context in association.contexts.values()}


class TestConfigurationFile:
    @pytest_twisted.ensureDeferred
    async def test_peers_and_their_services(
        self, log: Sequence[LogEvent], folder: Path, tmp_path: Path
    ) -> None:
        args = write(tmp_path / "dimse.toml", 'ae_title = "CT1"\nservices = ["echo"]')
        service, address = made(folder, "--allow-any", *args)
        assert await uses(address) == {VERIFICATION}
        async with associate(address, [CT_STORAGE], calling_ae_title="OTHER") as association:
            assert len(association.contexts) == 1
        await service.stopService()

    @pytest_twisted.ensureDeferred
    async def test_an_index_of_sqlite_is_beside_the_file_and_for_nobody_else_to_read(
        self, log: Sequence[LogEvent], folder: Path, tmp_path: Path
    ) -> None:
        """It holds names of patients; what SQLite keeps beside it does too."""
        before = os.umask(0o022)
        try:
            line = 'url = "sqlite:///kept.sqlite"'
            service, address = made(folder, *write(tmp_path / "dimse.toml", index=line))
            async with associate(address, [CT_STORAGE]) as association:
                assert await store(association, instance(CT_STORAGE)) == 0
            modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.glob("kept.*")}
            await service.stopService()
        finally:
            os.umask(before)
        assert modes == dict.fromkeys(("kept.sqlite", "kept.sqlite-wal", "kept.sqlite-shm"), 0o600)

    @pytest_twisted.ensureDeferred
    async def test_who_is_not_listed(
        self, log: Sequence[LogEvent], folder: Path, tmp_path: Path
    ) -> None:
        args = write(tmp_path / "dimse.toml", 'ae_title = "CT1"', node='unlisted = "none"')
        service, address = made(folder, *args)
        assert await uses(address) == {VERIFICATION, CT_STORAGE}
        with pytest.raises(AssociationRejectedError):
            await associate(address, calling_ae_title="OTHER")
        await service.stopService()

    @pytest.mark.parametrize("unknown", [True, False])
    @pytest_twisted.ensureDeferred
    async def test_unknown_matches(
        self, log: Sequence[LogEvent], folder: Path, tmp_path: Path, unknown: bool
    ) -> None:
        """A study without an accession number, to a query for one (PS3.4 C.2.2.1.2)."""
        line = f"unknown_matches = {str(unknown).lower()}"
        service, address = made(folder, *write(tmp_path / "dimse.toml", query=line))
        keys = Dataset()
        keys.QueryRetrieveLevel = "STUDY"
        keys.AccessionNumber = "A1"
        async with associate(address, [CT_STORAGE, STUDY_ROOT.find]) as association:
            assert await store(association, instance(CT_STORAGE)) == 0
            assert len(await find(association, keys)) == int(unknown)
        await service.stopService()

    @pytest_twisted.ensureDeferred
    async def test_move_goes_to_a_peer(
        self, log: Sequence[LogEvent], folder: Path, tmp_path: Path
    ) -> None:
        """In the transfer syntax that it is known to want."""
        with MemoryStore() as received:
            listener = await listen("tcp:0:interface=127.0.0.1", [StorageSCP(received)])
            place = f'host = "127.0.0.1"\nport = {listener.address.port}'
            wants = 'move_transfer_syntaxes = ["ImplicitVRLittleEndian"]'
            args = write(tmp_path / "dimse.toml", f'ae_title = "WS"\n{place}\n{wants}')
            service, address = made(folder, "--allow-any", *args)
            keys = Dataset()
            keys.QueryRetrieveLevel = "STUDY"
            keys.StudyInstanceUID = "1.2"
            contexts: list[Any] = [(CT_STORAGE, [EXPLICIT]), STUDY_ROOT.move]
            async with associate(address, contexts) as association:
                assert await store(association, instance(CT_STORAGE)) == 0
                assert (await move(association, keys, "WS")).completed == 1
            (held,) = received.instances
            assert held.instance().transfer_syntax == IMPLICIT
            await listener.stop()
            await service.stopService()


class TestHangUp:
    @pytest_twisted.ensureDeferred
    async def test_renews_the_peers_and_drops_nobody(
        self, log: Sequence[LogEvent], folder: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "dimse.toml"
        service, address = made(folder, *write(file, 'ae_title = "CT1"\nservices = ["echo"]'))
        async with associate(address, calling_ae_title="CT1") as open_before:
            write(file, 'ae_title = "CT1"\nservices = ["store"]')
            assert await uses(address) == {VERIFICATION}
            await hang_up()
            assert await uses(address) == {CT_STORAGE}
            assert await echo(open_before) == 0
        await service.stopService()

    @pytest_twisted.ensureDeferred
    async def test_an_error_leaves_the_old_in_force(
        self, log: Sequence[LogEvent], folder: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "dimse.toml"
        service, address = made(folder, *write(file, 'ae_title = "CT1"\nservices = ["echo"]'))
        write(file, 'ae_title = "CT1"\nservices = ["ecco"]')
        await hang_up()
        assert await uses(address) == {VERIFICATION}
        lines = [formatEvent(event) for event in log]
        assert any(f"{file}, line 3: peers[1].services is" in line for line in lines)
        await service.stopService()

    @pytest.mark.parametrize("configured", [True, False])
    @pytest_twisted.ensureDeferred
    async def test_the_signal_is_taken_with_a_file_alone_and_given_back(
        self, log: Sequence[LogEvent], folder: Path, tmp_path: Path, configured: bool
    ) -> None:
        """A terminal that closes ends a node without a file, as it ends any programme."""
        before = signal.getsignal(signal.SIGHUP)
        service, _ = made(folder, *(write(tmp_path / "dimse.toml") if configured else []))
        assert (signal.getsignal(signal.SIGHUP) is not before) is configured
        await service.stopService()
        assert signal.getsignal(signal.SIGHUP) is before

    @pytest_twisted.ensureDeferred
    async def test_a_platform_without_it(
        self,
        log: Sequence[LogEvent],
        folder: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.delattr(signal, "SIGHUP")
        service, address = made(folder, *write(tmp_path / "dimse.toml"))
        async with associate(address) as association:
            assert await echo(association) == 0
        await service.stopService()
