"""Syslog over UDP (RFC 5426), with a real receiver on loopback, and into a file."""

import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed

from dimse.errors import MisuseError
from dimse.security.syslog import (
    AuditFile,
    Collector,
    UDPSender,
)
from tests.security.collectors import REACTOR, Datagrams, until


class TestUDP:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
    @pytest_twisted.ensureDeferred
    async def test_each_message_is_a_datagram(self, host: str) -> None:
        protocol = Datagrams()
        interface = "::1" if host == "::1" else "127.0.0.1"
        try:
            port: Any = REACTOR.listenUDP(0, protocol, interface=interface, maxPacketSize=65536)
        except Exception:  # noqa: BLE001  there are machines without IPv6
            pytest.skip(f"no {interface}")
        address = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0][4][0]
        if address not in ("127.0.0.1", interface):
            await port.stopListening()
            pytest.skip(f"{host} is {address}")
        sender = UDPSender(Collector("udp", host, port.getHost().port), REACTOR)
        messages = [b"one", b"2" * 32_768, b"three"]
        await sender.send(messages)
        await until(lambda: len(protocol.messages) == 3)
        assert protocol.messages == messages
        sender.close()
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_h_r22_nobody_listens(self) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            collector = Collector("udp", "127.0.0.1", probe.getsockname()[1])
        sender = UDPSender(collector, REACTOR)
        for _ in range(2):
            with pytest.raises(ConnectionClosed):
                await sender.send([b"one"])

    @pytest_twisted.ensureDeferred
    async def test_what_is_too_long_keeps_nothing_back(self) -> None:
        protocol = Datagrams()
        port: Any = REACTOR.listenUDP(0, protocol, interface="127.0.0.1")
        sender = UDPSender(Collector("udp", "127.0.0.1", port.getHost().port), REACTOR)
        await sender.send([bytes(70_000), b"two"])
        await until(lambda: protocol.messages)
        assert protocol.messages == [b"two"]
        sender.close()
        await port.stopListening()


class TestFile:
    def test_has_a_line_each_for_its_owner_alone(self, tmp_path: Path) -> None:
        file = AuditFile(tmp_path / "audit.log")
        file.open()
        file.take(b"one")
        (tmp_path / "audit.log").rename(tmp_path / "audit.log.1")  # as logrotate does
        file.take(b"two")
        assert (tmp_path / "audit.log.1").read_bytes() == b"one\n"
        assert (tmp_path / "audit.log").read_bytes() == b"two\n"
        assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600
        closed: Deferred[None] = file.close()
        assert closed.called

    def test_that_cannot_be_is_told_at_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(MisuseError, match="No such file"):
            AuditFile(tmp_path / "missing" / "audit.log").open()

    def test_a_symbolic_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "audit.log").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(MisuseError):
            AuditFile(tmp_path / "audit.log").open()

    @pytest.mark.parametrize("written", [None, 3])
    def test_h_r22_disk_full(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int | None
    ) -> None:
        """Nothing or a part is written: no line is cut off, and what is lost is counted."""
        import os  # noqa: PLC0415

        file = AuditFile(tmp_path / "audit.log")
        file.take(b"before")
        write = os.write

        def full(descriptor: int, data: bytes) -> int:
            if written is None:
                raise OSError(28, "No space left on device")
            return write(descriptor, data[:written])

        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            file.take(b"lost")
            file.take(b"lost too")
        assert file.lost == 2
        file.take(b"after")
        assert file.lost == 0
        assert (tmp_path / "audit.log").read_bytes() == b"before\nafter\n"
