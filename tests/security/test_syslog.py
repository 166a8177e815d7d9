"""Syslog (RFC 5424) over TLS (RFC 5425), with real receivers on loopback."""

import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from dimse import ClientTLS
from dimse.errors import TLSError
from dimse.security import syslog
from dimse.security.syslog import (
    Collector,
    TLSSender,
    octet_counted,
    syslog_message,
)
from tests.certificates import PKI
from tests.security.collectors import REACTOR, Receivers, collector_tls, listening, of_stream, until
from tests.security.peers import Careless

TIME = datetime(2026, 11, 26, 9, 30, 5, 123456, UTC)


def at(port: Any) -> Collector:
    return Collector("tls", "localhost", port.getHost().port)


def sender_to(collector: Collector, pki: PKI, **options: Any) -> TLSSender:
    """One that trusts our authority alone."""
    return TLSSender(collector, ClientTLS(**{"ca": pki.ca.path, **options}).load(), REACTOR)


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
def receivers(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(syslog, "_JUDGED", 0.1)
    factory: Any = Receivers()
    factory.port = pytest_twisted.blockon(listening(factory, collector_tls(pki.node)))
    factory.collector = at(factory.port)
    yield factory
    for connection in factory.connections:
        if connection.open:
            connection.transport.abortConnection()
    pytest_twisted.blockon(factory.port.stopListening())


class TestTLS:
    @pytest_twisted.ensureDeferred
    async def test_messages_arrive_in_order_on_one_connection(
        self, receivers: Any, pki: PKI
    ) -> None:
        sender = sender_to(receivers.collector, pki)
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
    async def test_a_collector_that_nobody_vouches_for_gets_nothing(
        self, receivers: Any, pki: PKI
    ) -> None:
        """Neither the platform nor the authority of another."""
        for options in ({"ca": ()}, {"ca": pki.other_ca.path}):
            sender = sender_to(receivers.collector, pki, **options)
            with pytest.raises(TLSError, match="CN=node is signed by nobody that is trusted"):
                await sender.send([b"secret"])
        assert receivers.data == b""

    @pytest_twisted.ensureDeferred
    async def test_a_collector_of_another_name_gets_nothing(self, pki: PKI) -> None:
        factory = Receivers()
        elsewhere = pki.ca.issue("elsewhere", names=["elsewhere.example"])
        port = await listening(factory, collector_tls(elsewhere))
        with pytest.raises(TLSError, match="CN=elsewhere is not for localhost"):
            await sender_to(at(port), pki).send([b"secret"])
        assert factory.data == b""
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_a_collector_that_was_revoked_gets_nothing(
        self, receivers: Any, pki: PKI
    ) -> None:
        revoked = pki.ca.revoke(pki.node, name="collector-revoked")
        with pytest.raises(TLSError, match="CN=node is revoked"):
            await sender_to(receivers.collector, pki, crl=revoked).send([b"secret"])
        assert receivers.data == b""

    @pytest_twisted.ensureDeferred
    async def test_tls_1_1_is_not_spoken(self, pki: PKI) -> None:
        old = Careless(pki.node, versions=(SSL.TLS1_1_VERSION, SSL.TLS1_1_VERSION))
        port = await listening(Receivers(), old)
        with pytest.raises(TLSError, match="does not speak this version"):
            await sender_to(at(port), pki).send([b"secret"])
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_says_nothing_of_dicom(self, pki: PKI) -> None:
        """RFC 5425 has no application protocol, and a collector may refuse what it does not know
        (RFC 7301 3.2)."""
        offered: list[list[bytes]] = []

        def select(_: Any, protocols: list[bytes]) -> Any:
            offered.append(protocols)
            return SSL.NO_OVERLAPPING_PROTOCOLS

        careless = Careless(pki.node)
        careless._context.set_alpn_select_callback(select)
        port = await listening(Receivers(), careless)
        sender = sender_to(at(port), pki)
        await sender.send([b"one"])
        assert offered == []
        sender.close()
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_a_collector_that_wants_to_know_who_we_are(self, pki: PKI) -> None:
        """And does not get a record, nor says it has, from who shows nothing."""
        factory = Receivers()
        tls = collector_tls(pki.node, client_auth="require", ca=pki.ca.path)
        port = await listening(factory, tls)
        with pytest.raises(TLSError, match="the peer wants to see a certificate of ours"):
            await sender_to(at(port), pki).send([b"one"])
        shown = {"certificate": pki.modality.path, "key": pki.modality.key_path}
        sender = sender_to(at(port), pki, **shown)
        await sender.send([b"two"])
        await until(lambda: factory.data)
        assert of_stream(factory.data) == [b"two"]
        sender.close()
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_connects_again_after_the_collector_has_left(
        self, receivers: Any, pki: PKI
    ) -> None:
        sender = sender_to(receivers.collector, pki)
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
        self, receivers: Any, pki: PKI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(syslog, "_TAKEN", 0.5)
        sender = sender_to(receivers.collector, pki)
        await sender.send([b"one"])
        await until(lambda: receivers.data)
        receivers.connections[0].transport.pauseProducing()
        with pytest.raises(ConnectionClosed):
            await sender.send([bytes(20_000_000)])

    @pytest_twisted.ensureDeferred
    async def test_a_collector_that_does_not_answer_to_the_end_is_left(
        self, receivers: Any, pki: PKI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The end of TLS has an answer, which nobody has to give."""
        monkeypatch.setattr(syslog, "_CLOSE", 0.1)
        sender = sender_to(receivers.collector, pki)
        await sender.send([b"one"])
        stream: Any = sender._stream
        await until(lambda: receivers.data)
        receivers.connections[0].transport.pauseProducing()
        sender.close()
        left = Deferred.fromCoroutine(until(lambda: stream.lost is not None))
        await left.addTimeout(5, REACTOR)
        assert stream._call is None

    @pytest_twisted.ensureDeferred
    async def test_nobody_listens(self, pki: PKI) -> None:
        """It is tried again and again: nothing of it is in the log but what the spool says."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            collector = Collector("tls", "localhost", probe.getsockname()[1])
        with pytest.raises(Exception, match="refused"), capturedLogs() as events:
            await sender_to(collector, pki).send([b"one"])
        assert events == []


class TestStream:
    """Times of a connection, without one."""

    def made(self) -> tuple[Any, Clock]:
        clock = Clock()
        stream: Any = syslog._Stream(clock)
        stream.makeConnection(StringTransport())
        return stream, clock

    def test_who_refuses_our_certificate_late_has_not_got_the_record(self) -> None:
        """With TLS 1.3 a client may send before the server has judged it; the machine of the
        collector has acknowledged the bytes by then."""
        stream, clock = self.made()
        delivered = stream.deliver(b"record")
        clock.advance(0.5)
        stream.connectionLost(Failure(SSL.Error([("", "", "tlsv13 alert certificate required")])))
        with pytest.raises(TLSError, match="certificate of ours"):
            delivered.result.raiseException()
        delivered.addErrback(lambda _: None)
        assert clock.getDelayedCalls() == []

    def test_only_the_first_one_waits_for_that(self) -> None:
        stream, clock = self.made()
        clock.advance(1)
        for wait in (1.0, 0.05):
            delivered = stream.deliver(b"record")
            clock.advance(wait - 0.01)
            assert not delivered.called
            clock.advance(0.01)
            assert delivered.called

    def test_who_is_cancelled_leaves_nothing(self) -> None:
        stream, clock = self.made()
        delivered = stream.deliver(b"record")
        delivered.addErrback(lambda _: None)
        delivered.cancel()
        assert stream.transport.disconnected
        stream.connectionLost(Failure(ConnectionClosed()))
        assert clock.getDelayedCalls() == []
