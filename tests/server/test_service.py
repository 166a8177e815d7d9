"""The service of `twistd dimse`, on the reactor of the tests and sockets of 127.0.0.1."""

import gc
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pydicom import Dataset
from twisted.internet import reactor  # noqa: TID253  pytest-twisted has installed it
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, LogLevel, capturedLogs, formatEvent
from zope.interface import implementer

from dimse import (
    STUDY_ROOT,
    AcceptorFactory,
    AssociationAbortedError,
    AssociationRejectedError,
    Limits,
    MemoryStore,
    MisuseError,
    StorageSCP,
    VerificationSCP,
    associate,
    echo,
    find,
    listen,
    move,
    store,
)
from dimse.archive.archive import Archive
from dimse.server.node import NotStartedError, State
from dimse.server.options import Options
from dimse.server.service import Node, makeService
from tests.peers import free_port
from tests.wire import CT_STORAGE, IMPLICIT, VERIFICATION

CLOCK: Any = reactor
EXPLICIT = "1.2.840.10008.1.2.1"
PRIVATE = "1.2.3.4.5"


@implementer(IStreamServerEndpoint)
class Endpoint:
    """A server endpoint that is none of Twisted's strings; `port` is what it listens on."""

    port: Any = None

    def listen(self, factory: IProtocolFactory) -> "Deferred[Any]":
        def listening(port: Any) -> Any:
            self.port = port
            return port

        endpoint: Any = TCP4ServerEndpoint(CLOCK, 0, interface="127.0.0.1")
        listens: Deferred[Any] = endpoint.listen(factory)
        return listens.addCallback(listening)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port.getHost().port}"


@implementer(IStreamServerEndpoint)
class Never:
    """A server endpoint that does not listen yet."""

    def __init__(self) -> None:
        self.listens: Deferred[Any] = Deferred()

    def listen(self, factory: IProtocolFactory) -> "Deferred[Any]":
        return self.listens


@pytest.fixture
def log() -> Iterator[Sequence[LogEvent]]:
    """What is logged; nothing of it may be a failure."""
    with capturedLogs() as events:
        yield events
        gc.collect()  # what nobody handled is logged then
    assert [event["log_failure"] for event in events if "log_failure" in event] == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def node(folder: Path, *endpoints: Any, **limits: Any) -> Node:
    bounds = Limits(disk_reserve=0, **limits)
    factory = AcceptorFactory([VerificationSCP()], limits=bounds, clock=CLOCK)
    return Node(factory, Archive(folder, limits=bounds), endpoints)


def start(service: Node) -> None:
    """As twistd does it."""
    service.privilegedStartService()
    service.startService()


def is_free(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def is_locked(folder: Path) -> bool:
    """Whether a server uses the folder."""
    other = Archive(folder)
    try:
        other.open()
    except MisuseError:
        return True
    other.close()
    return False


class TestStart:
    @pytest_twisted.ensureDeferred
    async def test_listens_on_every_string_and_opens_the_store(
        self, log: Sequence[LogEvent], folder: Path
    ) -> None:
        ports = [free_port(), free_port()]
        service = node(folder, *(f"tcp:{port}:interface=127.0.0.1" for port in ports))
        start(service)
        assert is_locked(folder)
        for port in ports:
            async with associate(f"127.0.0.1:{port}") as association:
                assert await echo(association) == 0
        await service.stopService()
        assert [is_free(port) for port in ports] == [True, True]

    @pytest_twisted.ensureDeferred
    async def test_listens_on_an_endpoint_object_without_privileges(
        self, log: Sequence[LogEvent], folder: Path
    ) -> None:
        """As part of an application that starts its services when it runs already."""
        endpoint = Endpoint()
        service = node(folder, endpoint)
        service.startService()
        async with associate(endpoint.address) as association:
            assert await echo(association) == 0
        await service.stopService()

    @pytest_twisted.ensureDeferred
    async def test_log_says_where_instances_go_and_how_safe_they_are(
        self, log: Sequence[LogEvent], folder: Path
    ) -> None:
        service = node(folder, Endpoint())
        start(service)
        lines = [formatEvent(event) for event in log if event["log_namespace"].startswith("dimse")]
        (line,) = [line for line in lines if "instances go to" in line]
        assert line.startswith("dimse ")
        where = f"instances go to {folder}, durability full, index sqlite:///{folder}/index.sqlite"
        assert line.endswith(where)
        await service.stopService()

    @pytest.mark.parametrize("privileged", [True, False])
    @pytest_twisted.ensureDeferred
    async def test_locked_store_is_misuse_and_closes_the_ports(
        self, log: Sequence[LogEvent], folder: Path, privileged: bool
    ) -> None:
        holder, port = Archive(folder).open(), free_port()
        service = node(folder, f"tcp:{port}:interface=127.0.0.1")
        with pytest.raises(MisuseError, match="another server"):
            (start if privileged else Node.startService)(service)
        await deferLater(CLOCK, 0)
        assert is_free(port)
        assert not service.running
        await holder.close()

    @pytest_twisted.ensureDeferred
    async def test_store_that_cannot_be_used_is_misuse_and_closes_the_ports(
        self, log: Sequence[LogEvent], tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        port = free_port()
        service = node(tmp_path / "file", f"tcp:{port}:interface=127.0.0.1")
        with pytest.raises(MisuseError, match=str(tmp_path / "file")):
            start(service)
        await deferLater(CLOCK, 0)
        assert is_free(port)

    @pytest_twisted.ensureDeferred
    async def test_a_port_in_use_is_misuse_and_frees_the_others(
        self, log: Sequence[LogEvent], folder: Path
    ) -> None:
        port = free_port()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            other = taken.getsockname()[1]
            service = node(folder, *(f"tcp:{p}:interface=127.0.0.1" for p in (port, other)))
            for begin in (start, Node.startService):
                with pytest.raises(NotStartedError, match="Address already in use") as raised:
                    begin(service)
                assert raised.value.code == f"dimse does not start: {raised.value}"
                await deferLater(CLOCK, 0)
                assert is_free(port)
                assert not is_locked(folder)
        start(service)
        assert not is_free(other)
        await service.stopService()

    @pytest_twisted.ensureDeferred
    async def test_nobody_is_taken_before_the_store_is_open(
        self, log: Sequence[LogEvent], folder: Path
    ) -> None:
        """Who connects meanwhile waits."""
        endpoint = Endpoint()
        service = node(folder, endpoint)
        service.privilegedStartService()
        connecting = associate(endpoint.address)
        await deferLater(CLOCK, 0.1)
        assert service._factory._connections == {}
        assert not folder.exists()
        service.startService()
        async with connecting as association:
            assert await echo(association) == 0
        await service.stopService()

    @pytest.mark.parametrize("privileged", [True, False])
    @pytest_twisted.ensureDeferred
    async def test_a_node_that_has_stopped_serves_again(
        self, log: Sequence[LogEvent], folder: Path, privileged: bool
    ) -> None:
        endpoint = Endpoint()
        service = node(folder, f"tcp:{free_port()}:interface=127.0.0.1", endpoint)
        for _ in range(3):
            (start if privileged else Node.startService)(service)
            async with associate(endpoint.address, [CT_STORAGE]) as association:
                assert len(association.refused) == 1
            async with associate(endpoint.address) as association:
                assert await echo(association) == 0
            await service.stopService()
            assert not is_locked(folder)

    @pytest_twisted.ensureDeferred
    async def test_not_before_it_has_stopped(self, log: Sequence[LogEvent], folder: Path) -> None:
        endpoint = Endpoint()
        service = node(folder, endpoint)
        start(service)
        association = await associate(endpoint.address)
        stopped = service.stopService()
        for begin in (Node.privilegedStartService, Node.startService):
            with pytest.raises(NotStartedError, match="still stops"):
                begin(service)
        await association.release()
        await stopped
        start(service)
        await service.stopService()

    @pytest_twisted.ensureDeferred
    async def test_an_endpoint_that_fails_later_is_in_the_log(self, folder: Path) -> None:
        """The others serve."""
        endpoint, never = Endpoint(), Never()
        with capturedLogs() as events:
            service = node(folder, endpoint, never)
            start(service)
            never.listens.errback(OSError("no such network"))
            async with associate(endpoint.address) as association:
                assert await echo(association) == 0
            await service.stopService()
        (line,) = (formatEvent(e) for e in events if e["log_level"] is LogLevel.critical)
        assert line == "no such network"

    @pytest_twisted.ensureDeferred
    async def test_states(self, log: Sequence[LogEvent], folder: Path) -> None:
        states: list[State] = []
        bounds = Limits(disk_reserve=0)
        factory = AcceptorFactory([], limits=bounds, clock=CLOCK)
        service = Node(
            factory, Archive(folder, limits=bounds), [Endpoint()], on_state=states.append
        )
        start(service)
        assert states == [State.READY]
        await service.stopService()
        assert states == [State.READY, State.STOPPING, State.STOPPED]

    @pytest_twisted.ensureDeferred
    async def test_a_node_that_stops_renews_nothing(
        self, log: Sequence[LogEvent], folder: Path
    ) -> None:
        """Else systemd would be told that it reloads, and never that it is ready again."""
        states: list[State] = []
        renewed: list[None] = []
        bounds = Limits(disk_reserve=0)
        service = Node(
            AcceptorFactory([], limits=bounds, clock=CLOCK),
            Archive(folder, limits=bounds),
            [Endpoint()],
            renew=lambda: renewed.append(None),
            on_state=states.append,
        )
        start(service)
        stopping = service.stopService()
        await hang_up()
        await stopping
        await deferLater(CLOCK, 0)
        assert (states, renewed) == ([State.READY, State.STOPPING, State.STOPPED], [])


class TestStop:
    @pytest_twisted.ensureDeferred
    async def test_twice(self, log: Sequence[LogEvent], folder: Path) -> None:
        service = node(folder, Endpoint(), Never())
        start(service)
        for stopping in [service.stopService(), service.stopService()]:
            await stopping
        assert not is_locked(folder)

    @pytest_twisted.ensureDeferred
    async def test_before_start(self, log: Sequence[LogEvent], folder: Path) -> None:
        await node(folder, "tcp:0:interface=127.0.0.1", Endpoint()).stopService()
        assert not folder.exists()

    @pytest_twisted.ensureDeferred
    async def test_lets_an_open_association_finish(
        self, log: Sequence[LogEvent], folder: Path
    ) -> None:
        endpoint = Endpoint()
        service = node(folder, endpoint)
        start(service)
        port = endpoint.port.getHost().port
        association = await associate(endpoint.address)
        ended: list[object] = []
        stopped = service.stopService().addCallback(ended.append)
        assert await echo(association) == 0
        assert not ended
        assert is_locked(folder)
        await association.release()
        await stopped
        assert not is_locked(folder)
        assert is_free(port)

    @pytest_twisted.ensureDeferred
    async def test_aborts_what_is_open_after_grace(
        self, log: Sequence[LogEvent], folder: Path
    ) -> None:
        endpoint = Endpoint()
        service = node(folder, endpoint, grace=0)
        start(service)
        association = await associate(endpoint.address)
        await service.stopService()
        reason = await association.when_ended()
        assert isinstance(reason, AssociationAbortedError)
        assert reason.by_peer
        assert not is_locked(folder)


def made(folder: Path, *args: str) -> tuple[Node, str]:
    """A started node as the command line describes it, and its address."""
    port = free_port()
    options = Options()
    listen = f"tcp:{port}:interface=127.0.0.1"
    options.parseOptions(
        ["--listen", listen, "--storage", str(folder), "--disk-reserve", "0", *args]
    )
    service = makeService(options)
    start(service)
    return service, f"127.0.0.1:{port}"


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


async def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)
    await deferLater(CLOCK, 0)
    await deferLater(CLOCK, 0)


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
