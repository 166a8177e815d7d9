"""Syslog (RFC 5424) over TLS (RFC 5425) and UDP (RFC 5426), with real receivers on loopback."""

import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import reactor  # noqa: TID253  pytest-twisted has installed it
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionClosed
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.ssl import Certificate, KeyPair, PrivateCertificate, optionsForClientTLS
from twisted.internet.task import deferLater

from dimse.errors import MisuseError
from dimse.security import syslog
from dimse.security.syslog import (
    AuditFile,
    Collector,
    TLSSender,
    UDPSender,
    octet_counted,
    syslog_message,
)

REACTOR: Any = reactor
TIME = datetime(2026, 11, 26, 9, 30, 5, 123456, UTC)


def of_stream(data: bytes) -> list[bytes]:
    """What a collector makes of octet counting (RFC 5425 4.3)."""
    messages = []
    while data:
        count, _, data = data.partition(b" ")
        messages.append(data[: int(count)])
        data = data[int(count) :]
    return messages


class Receiver(Protocol):
    """A collector: it listens, and says nothing."""

    factory: Any
    open = True

    def connectionLost(self, reason: Any = None) -> None:
        self.open = False

    def dataReceived(self, data: bytes) -> None:
        self.factory.data += data

    def connectionMade(self) -> None:
        self.factory.connections.append(self)


class Receivers(Factory):
    protocol = Receiver
    noisy = False

    def __init__(self) -> None:
        self.data = b""
        self.connections: list[Receiver] = []


def certificate(name: str) -> PrivateCertificate:
    """A self-signed one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem = built.public_bytes(serialization.Encoding.PEM)
    certificate: PrivateCertificate = PrivateCertificate.fromCertificateAndKeyPair(
        Certificate.loadPEM(pem), KeyPair.load(private, 1)
    )
    return certificate


class Trusting:
    """TLS with who has that certificate."""

    def __init__(self, authority: Certificate) -> None:
        self._authority = authority

    def __call__(self, endpoint: Any, host: str) -> Any:
        return wrapClientTLS(optionsForClientTLS(host, trustRoot=self._authority), endpoint)


async def until(condition: Any) -> None:
    while not condition():
        await deferLater(REACTOR, 0.01)


class TestMessage:
    def test_has_the_header_that_ps3_15_wants(self) -> None:
        message = syslog_message(b"<AuditMessage/>", TIME, "pacs.example")
        assert re.fullmatch(
            rb"<85>1 2026-11-26T09:30:05\.123\+00:00 pacs\.example dimse \d+ DICOM\+RFC3881 - "
            rb"\xef\xbb\xbf<AuditMessage/>",
            message,
        )

    @given(st.text(), st.text())
    def test_header_has_no_other_fields_whatever_the_host_is_called(
        self, host: str, application: str
    ) -> None:
        header, bom, xml = syslog_message(b"<x/>", TIME, host, application).partition(
            b"\xef\xbb\xbf"
        )
        assert (bom, xml) == (b"\xef\xbb\xbf", b"<x/>")
        assert len(header.split(b" ")) == 8
        assert header.isascii()

    @given(st.lists(st.binary(min_size=1)))
    def test_octets_are_counted(self, messages: list[bytes]) -> None:
        assert of_stream(b"".join(map(octet_counted, messages))) == messages


class TestCollector:
    @pytest.mark.parametrize(
        ("url", "scheme", "host", "port", "text"),
        [
            ("tls://audit.example:6515", "tls", "audit.example", 6515, None),
            ("tls://audit.example", "tls", "audit.example", 6514, "tls://audit.example:6514"),
            ("udp://192.0.2.1", "udp", "192.0.2.1", 514, "udp://192.0.2.1:514"),
            ("udp://[::1]:1514", "udp", "::1", 1514, None),
            ("udp://[::1]:1514/", "udp", "::1", 1514, "udp://[::1]:1514"),
        ],
    )
    def test_is_a_url(self, url: str, scheme: str, host: str, port: int, text: str | None) -> None:
        collector = Collector.at(url)
        assert (collector.scheme, collector.host, collector.port) == (scheme, host, port)
        assert str(collector) == (text or url)

    @pytest.mark.parametrize(
        "url",
        [
            "audit.example",
            "tcp://audit.example:514",
            "tls://",
            "tls://:6514",
            "tls://audit.example:70000",
            "tls://audit.example:x",
            "tls://user:secret@audit.example",
            "tls://audit.example/path",
            "tls://audit.example?x=1",
        ],
    )
    def test_is_not_anything_else(self, url: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011
            Collector.at(url)


@pytest.fixture
def identity() -> PrivateCertificate:
    return certificate("localhost")


@pytest.fixture
def receivers(identity: PrivateCertificate) -> Iterator[Any]:
    factory: Any = Receivers()
    endpoint: Any = SSL4ServerEndpoint(REACTOR, 0, identity.options(), interface="127.0.0.1")
    factory.port = pytest_twisted.blockon(endpoint.listen(factory))
    factory.collector = Collector("tls", "localhost", factory.port.getHost().port)
    yield factory
    for connection in factory.connections:
        if connection.open:
            connection.transport.abortConnection()
    pytest_twisted.blockon(factory.port.stopListening())


class TestTLS:
    @pytest_twisted.ensureDeferred
    async def test_messages_arrive_in_order_on_one_connection(
        self, receivers: Any, identity: PrivateCertificate
    ) -> None:
        sender = TLSSender(receivers.collector, REACTOR, Trusting(identity))
        large = [bytes([65 + number]) * 100_000 for number in range(5)]
        await sender.send(large)
        await sender.send([b"last"])
        await until(lambda: len(receivers.data) > 500_000)
        assert of_stream(receivers.data) == [*large, b"last"]
        (connection,) = receivers.connections
        version = connection.transport.getHandle().get_protocol_version_name()
        assert version in ("TLSv1.2", "TLSv1.3")
        sender.close()

    @pytest_twisted.ensureDeferred
    async def test_a_collector_that_nobody_vouches_for_gets_nothing(self, receivers: Any) -> None:
        sender = TLSSender(receivers.collector, REACTOR)  # as the platform trusts
        with pytest.raises(SSL.Error):
            await sender.send([b"secret"])
        assert receivers.data == b""

    @pytest_twisted.ensureDeferred
    async def test_a_collector_of_another_name_gets_nothing(self, receivers: Any) -> None:
        other = certificate("elsewhere.example")
        endpoint: Any = SSL4ServerEndpoint(REACTOR, 0, other.options(), interface="127.0.0.1")
        port: Any = await endpoint.listen(receivers)
        collector = Collector("tls", "localhost", port.getHost().port)
        with pytest.raises(VerificationError):
            await TLSSender(collector, REACTOR, Trusting(other)).send([b"secret"])
        assert receivers.data == b""
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_tls_1_1_is_not_spoken(self, identity: PrivateCertificate) -> None:
        factory: Any = Receivers()
        options: Any = identity.options()
        options.getContext().set_options(SSL.OP_NO_TLSv1_2 | SSL.OP_NO_TLSv1_3)
        endpoint: Any = SSL4ServerEndpoint(REACTOR, 0, options, interface="127.0.0.1")
        port: Any = await endpoint.listen(factory)
        collector = Collector("tls", "localhost", port.getHost().port)
        with pytest.raises(SSL.Error):
            await TLSSender(collector, REACTOR, Trusting(identity)).send([b"secret"])
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_connects_again_after_the_collector_has_left(
        self, receivers: Any, identity: PrivateCertificate
    ) -> None:
        sender = TLSSender(receivers.collector, REACTOR, Trusting(identity))
        await sender.send([b"one"])
        stream: Any = sender._stream
        await until(lambda: receivers.data)
        receivers.connections[0].transport.abortConnection()
        await until(lambda: stream.lost is not None)
        await sender.send([b"two"])
        await until(lambda: len(receivers.connections) == 2 and b"two" in receivers.data)
        assert of_stream(receivers.data) == [b"one", b"two"]
        sender.close()

    @pytest_twisted.ensureDeferred
    async def test_h_r22_a_collector_that_does_not_read_has_not_got_it(
        self, receivers: Any, identity: PrivateCertificate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(syslog, "_TAKEN", 0.5)
        sender = TLSSender(receivers.collector, REACTOR, Trusting(identity))
        await sender.send([b"one"])
        await until(lambda: receivers.data)
        receivers.connections[0].transport.pauseProducing()
        with pytest.raises(ConnectionClosed):
            await sender.send([bytes(20_000_000)])

    @pytest_twisted.ensureDeferred
    async def test_nobody_listens(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            collector = Collector("tls", "localhost", probe.getsockname()[1])
        with pytest.raises(Exception, match="refused"):
            await TLSSender(collector, REACTOR).send([b"one"])


class Datagrams(DatagramProtocol):
    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def datagramReceived(self, data: bytes, address: Any) -> None:
        self.messages.append(data)


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
