"""The service of `twistd dimse` starts and stops: the reactor of the tests, sockets of loopback."""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, LogLevel, capturedLogs, formatEvent
from zope.interface import implementer

from dimse import (
    AcceptorFactory,
    AssociationAbortedError,
    Limits,
    MisuseError,
    VerificationSCP,
    associate,
    echo,
)
from dimse.archive.archive import Archive
from dimse.server.node import NotStartedError, State
from dimse.server.service import Node
from tests.peers import free_port
from tests.server.nodes import CLOCK, hang_up, start
from tests.wire import CT_STORAGE


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
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def node(folder: Path, *endpoints: Any, **limits: Any) -> Node:
    bounds = Limits(disk_reserve=0, **limits)
    factory = AcceptorFactory([VerificationSCP()], limits=bounds, clock=CLOCK)
    return Node(factory, Archive(folder, limits=bounds), endpoints)


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

    # Twisted 24.7 leaves the socket of a port that is in use to the garbage collector.
    @pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
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
