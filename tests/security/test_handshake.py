"""TLS with peers that are not as they should be, in memory (H-T04 to H-T11)."""

from collections.abc import Iterator
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone

from dimse import (
    ClientTLS,
    ConnectionLostError,
    Limits,
    MisuseError,
    TimedOutError,
    TLSError,
    associate,
    echo,
)
from dimse import listen as listen_on
from dimse.testing import Network
from dimse.ul.pdu import Abort
from tests.certificates import PKI
from tests.memory import RecordingSCP
from tests.scripted import RELEASE_RQ, RQ, STORE, data
from tests.security.handshakes import BOTH, TLS_1_2, lines, listen, uncollected_network
from tests.security.peers import (
    Careless,
    client_tls,
    server_tls,
    tls_hello,
    tls_requestor,
)


@pytest.fixture
def network() -> Iterator[Network]:
    yield from uncollected_network()


@pytest.fixture
def scp() -> RecordingSCP:
    return RecordingSCP()


TLS_RECORD_OF_AN_ALERT = b"\x15\x03\x03\x00\x02\x02\x46"  # protocol_version (RFC 8446 6)

OLD = {
    "TLS 1.0": {"versions": (SSL.TLS1_VERSION, SSL.TLS1_VERSION)},
    "TLS 1.1": {"versions": (SSL.TLS1_1_VERSION, SSL.TLS1_1_VERSION)},
    "static RSA": {"suites": "AES128-GCM-SHA256"},
    "CBC": {"suites": "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA"},
    "DHE": {"suites": "DHE-RSA-AES256-GCM-SHA384"},
    "NULL": {"suites": "ECDHE-ECDSA-NULL-SHA"},
    "anonymous": {"suites": "aNULL"},
    "CCM8": {"suites": "ECDHE-ECDSA-AES128-CCM8"},
}


@pytest.mark.parametrize("how", OLD.values(), ids=list(OLD))
def test_h_t04_what_is_too_old(network: Network, scp: RecordingSCP, pki: PKI, how: Any):
    endpoint = listen(network, scp, server_tls(pki))
    given = {"versions": (SSL.TLS1_2_VERSION, SSL.TLS1_2_VERSION), **how}
    peer = tls_requestor(network, endpoint, Careless(pki.modality, **given))
    peer.send(RQ)
    assert peer.closed
    (line,) = lines(network)
    old = given["versions"][0] != TLS_1_2
    assert ("newer than TLS 1.1" if old else "no cipher suite in common") in line


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (RQ, "no association: no TLS: what came is no TLS; plain DICOM?"),
        (b"GET / HTTP/1.1\r\nHost: node\r\n\r\n", "no association: no TLS: what came is HTTP"),
    ],
    ids=["DICOM", "HTTP"],
)
def test_h_t05_plain_on_the_tls_port(
    network: Network, scp: RecordingSCP, pki: PKI, sent: bytes, said: str
):
    peer = network.scripted_requestor(listen(network, scp, server_tls(pki)))
    peer.send(sent)
    assert peer.closed
    assert lines(network) == [f"10.0.0.1:4242: {said}"]


def test_h_t05_tls_on_the_plain_port(network: Network, scp: RecordingSCP, pki: PKI):
    """Both sides say what it is."""
    endpoint = network.listen([scp])
    with pytest.raises(TLSError, match=r"what came is no TLS; plain DICOM\?"):
        network.associate(endpoint, tls=client_tls(pki))
    (line,) = lines(network)
    assert "no association: PDU type 16H, TLS on a plain port?" in line


@pytest.mark.parametrize("sent", [b"", Abort(2, 1).encode(), TLS_RECORD_OF_AN_ALERT])
def test_h_t05_what_comes_in_place_of_a_server_hello(
    network: Network, pki: PKI, sent: bytes
) -> None:
    """Some close without a word, some with an A-ABORT."""
    endpoint = network.endpoint()
    peer = network.scripted_acceptor(endpoint)
    pending = associate(endpoint, tls=client_tls(pki), reactor=network.clock)
    network.run()
    peer.transport.write(sent)
    peer.close()
    with pytest.raises(TLSError) as caught:
        network.result(pending)
    said = {
        b"": "the peer closed the connection; is it a plain port?",
        b"\x07": "what came is no TLS; plain DICOM?",
        b"\x15": "the peer does not speak this version of TLS",
    }
    assert str(caught.value).endswith(f"no TLS: {said[sent[:1]]}")


def test_h_t05_who_closes_after_the_handshake_does_not_expect_tls(
    network: Network, scp: RecordingSCP, pki: PKI
) -> None:
    def close(_: object) -> Deferred[None]:
        network.clock.callLater(0, network.links[0].cut)
        return Deferred()

    endpoint = listen(network, scp, server_tls(pki), admit=close)
    with pytest.raises(ConnectionLostError) as caught:
        network.associate(endpoint, tls=client_tls(pki))
    assert not isinstance(caught.value, TLSError)
    assert not caught.value.may_expect_tls


def test_h_t05_a_knock_is_not_worth_a_line(network: Network, scp: RecordingSCP, pki: PKI):
    """A load balancer looks every few seconds whether somebody listens."""
    peer = network.scripted_requestor(listen(network, scp, server_tls(pki)))
    peer.transport.loseConnection()
    network.run()
    assert peer.closed
    assert lines(network) == []


class TestTime:
    """H-T06: the handshake has no time of its own."""

    LIMITS = Limits(artim=10, associate=20)

    @pytest.mark.parametrize("hello", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03"])
    def test_h_t06_a_client_that_does_not_go_on(
        self, network: Network, scp: RecordingSCP, pki: PKI, hello: bytes
    ):
        endpoint = listen(network, scp, server_tls(pki), limits=self.LIMITS)
        peer = network.scripted_requestor(endpoint)
        peer.send(hello)
        network.advance(9.9)
        assert not peer.closed
        network.advance(0.2)
        assert peer.closed
        assert lines(network) == [
            "10.0.0.1:4242: no association: the artim time-out of 10 s ran out for the TLS "
            "handshake"
        ]

    def test_h_t06_a_byte_a_second(self, network: Network, scp: RecordingSCP, pki: PKI):
        """ARTIM is not begun again by bytes, nor by a handshake that is done at last."""
        endpoint = listen(network, scp, server_tls(pki), limits=self.LIMITS)
        peer = network.scripted_requestor(endpoint)
        for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc":
            peer.send(bytes([byte]))
            network.advance(1)
        assert not peer.closed
        network.advance(1)
        assert peer.closed

    def test_h_t06_the_request_is_within_the_same_time(
        self, network: Network, scp: RecordingSCP, pki: PKI
    ):
        endpoint = listen(network, scp, server_tls(pki), limits=self.LIMITS)
        network.links.clear()
        peer = tls_requestor(network, endpoint, Careless(pki.modality))
        network.advance(9.9)
        assert not peer.closed
        network.advance(0.2)
        assert peer.closed
        assert lines(network)[-1].endswith("the artim time-out of 10 s ran out")

    def test_h_t06_a_server_that_says_nothing(self, network: Network, pki: PKI):
        endpoint = network.endpoint()
        peer = network.scripted_acceptor(endpoint)
        pending = associate(
            endpoint, tls=client_tls(pki), limits=self.LIMITS, reactor=network.clock
        )
        network.run()
        network.advance(20)
        with pytest.raises(TimedOutError, match="20 s ran out for the TLS handshake"):
            network.result(pending)
        network.advance(5)
        assert peer.closed

    def test_h_t06_others_do_not_wait(self, network: Network, scp: RecordingSCP, pki: PKI):
        """200 that are silent, and one that is not (K21)."""
        limits = Limits(connections_per_address=1000)
        endpoint = listen(network, scp, server_tls(pki), limits=limits)
        for _ in range(200):
            network.scripted_requestor(endpoint)
        ours, _ = network.associate(endpoint, tls=client_tls(pki))
        assert network.result(echo(ours)) == 0


class TestTruncation:
    """H-T08: TCP ends, and TLS has not said so."""

    def test_h_t08_in_a_data_set(self, network: Network, scp: RecordingSCP, pki: PKI):
        endpoint = listen(network, scp, server_tls(pki))
        peer = tls_requestor(network, endpoint, Careless(pki.modality))
        peer.send(RQ + STORE + data(b"ab", last=False))
        (sink,) = scp.sinks
        network.links[-1].far.lose(ConnectionDone())
        network.run()
        (ending,) = sink.endings
        assert isinstance(ending, Exception)

    def test_h_t08_after_release(self, network: Network, scp: RecordingSCP, pki: PKI):
        endpoint = listen(network, scp, server_tls(pki))
        peer = tls_requestor(network, endpoint, Careless(pki.modality))
        peer.send(RQ + RELEASE_RQ)
        network.links[-1].far.lose(ConnectionDone())
        network.run()
        assert "released the association" in lines(network)[-1]


@BOTH
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [([b"dicom"], b"dicom"), ([b"http/1.1", b"dicom"], b"dicom"), ([], b"")],
    ids=["dicom", "dicom among others", "none"],
)
def test_h_t09_application_protocol(
    network: Network,
    scp: RecordingSCP,
    pki: PKI,
    offered: list[bytes],
    chosen: bytes,
    version: int,
):
    endpoint = listen(network, scp, server_tls(pki))
    tls = Careless(pki.modality, alpn=offered, versions=(version, version))
    peer = tls_requestor(network, endpoint, tls)
    assert tls.connections[0].get_alpn_proto_negotiated() == chosen
    peer.send(RQ)
    assert peer.pdus


@BOTH
def test_h_t09_another_application_protocol(
    network: Network, scp: RecordingSCP, pki: PKI, version: int
):
    endpoint = listen(network, scp, server_tls(pki))
    tls = Careless(pki.modality, alpn=[b"http/1.1", b"h2"], versions=(version, version))
    peer = tls_requestor(network, endpoint, tls)
    assert peer.closed
    (line,) = lines(network)
    assert "the peer wants another application protocol than dicom (ALPN)" in line


def test_h_t09_ours(network: Network, scp: RecordingSCP, pki: PKI):
    """Our requestor offers `dicom`, and our acceptor takes it."""
    endpoint = listen(network, scp, server_tls(pki))
    network.associate(endpoint, tls=client_tls(pki))
    secured = network.links[-1].near.protocol
    assert secured.negotiatedProtocol == b"dicom"


@BOTH
def test_h_t10_no_session_is_resumed(network: Network, scp: RecordingSCP, pki: PKI, version: int):
    """Neither by a ticket nor by its number; so there is no 0-RTT either."""
    endpoint = listen(network, scp, server_tls(pki))
    tls = Careless(pki.modality, versions=(version, version))
    peer = tls_requestor(network, endpoint, tls)
    peer.send(RQ)
    session = tls.connections[0].get_session()
    assert session is not None
    again = Resuming(tls, session)
    second = tls_requestor(network, endpoint, again)
    second.send(RQ)
    assert second.pdus
    # The server shows its certificate in a whole handshake alone.
    assert again.connections[0].get_session() is not None
    assert not again.reused()


class Resuming(Careless):
    """Comes back with the session of another connection."""

    def __init__(self, first: Careless, session: SSL.Session) -> None:
        self.connections = []
        self._context = first._context
        self._session = session
        self.states: list[bytes] = []

    def _connection(self, protocol: Any) -> SSL.Connection:
        connection = super()._connection(protocol)
        connection.set_session(self._session)
        connection.set_info_callback(lambda c, *_: self.states.append(c.get_state_string()))
        return connection

    clientConnectionForTLS = _connection  # noqa: N815  the interface

    def reused(self) -> bool:
        return not any(b"server certificate" in state for state in self.states)


class TestReload:
    """H-T11: new certificates for connections that come; what is broken changes nothing."""

    def shown(self, network: Network, endpoint: Any, pki: PKI) -> str:
        """Who says to listen, to one that connects now."""
        tls = Careless(pki.modality)
        tls_requestor(network, endpoint, tls)
        certificate = tls.connections[0].get_peer_certificate()
        assert certificate is not None
        return certificate.to_cryptography().subject.rfc4514_string()

    def test_h_t11_reload(self, network: Network, scp: RecordingSCP, pki: PKI, tmp_path: Path):
        file, key = tmp_path / "node.pem", tmp_path / "node.key"
        copy(pki.node.path, file), copy(pki.node.key_path, key)
        endpoint = network.endpoint()
        tls = server_tls(pki, certificate=file, key=key)
        listener = network.result(listen_on(endpoint, [scp], tls=tls, reactor=network.clock))
        ours, _ = network.associate(endpoint, tls=client_tls(pki))
        assert self.shown(network, endpoint, pki) == "CN=node"

        copy(pki.ca.issue("renewed").path, file)
        with pytest.raises(MisuseError, match="the key is not that of CN=renewed"):
            listener.reload_tls()
        assert self.shown(network, endpoint, pki) == "CN=node"

        copy(pki.folder / "renewed.key", key)
        listener.reload_tls()
        assert self.shown(network, endpoint, pki) == "CN=renewed"
        assert network.result(echo(ours)) == 0
        network.result(listener.stop(0))

    @BOTH
    def test_h_t11_in_the_middle_of_a_handshake(
        self, network: Network, scp: RecordingSCP, pki: PKI, tmp_path: Path, version: int
    ):
        """It goes on with what it began with."""
        file, key = tmp_path / "node.pem", tmp_path / "node.key"
        copy(pki.node.path, file), copy(pki.node.key_path, key)
        context = server_tls(pki, certificate=file, key=key).load()
        endpoint = listen(network, scp, context)
        tls = Careless(pki.modality, versions=(version, version))
        peer = tls_hello(network, endpoint, tls)
        network.links[-1].step()
        assert b"SSLv3/TLS write client hello" in tls.connections[0].get_state_string()
        renewed = pki.ca.issue("renewed")
        copy(renewed.path, file), copy(renewed.key_path, key)
        context.reload()
        network.run()
        shown = tls.connections[0].get_peer_certificate()
        assert shown is not None
        assert shown.to_cryptography() == pki.node.certificate
        peer.send(RQ)
        assert peer.pdus

    def test_h_t11_nothing_to_reload(self, network: Network, scp: RecordingSCP):
        listener = network.result(listen_on(network.endpoint(), [scp], reactor=network.clock))
        with pytest.raises(MisuseError, match="without TLS"):
            listener.reload_tls()


@pytest.mark.parametrize("name", ["x" * 64, "node..example", "ä" * 70])
def test_what_no_host_can_be_called(network: Network, scp: RecordingSCP, pki: PKI, name: str):
    """It is said before there is a connection, on which nobody would hear of it."""
    endpoint = listen(network, scp, server_tls(pki))
    with pytest.raises(MisuseError, match="is no host name"):
        associate(endpoint, tls=client_tls(pki, server_name=name), reactor=network.clock)


def test_what_expires_is_said_every_day(network: Network, scp: RecordingSCP, pki: PKI):
    """As long as it listens, and once however many do."""
    context = server_tls(pki, pki.ca.issue("brief", days=(-1, 10))).load()
    first, second = network.endpoint(), network.endpoint()
    listeners = [
        network.result(listen_on(each, [scp], tls=context, reactor=network.clock))
        for each in (first, second)
    ]
    (line,) = lines(network)
    assert line.startswith("TLS: the certificate CN=brief expires on ")
    network.advance(2.5 * 24 * 60 * 60)
    assert len(lines(network)) == 3
    for each in listeners:
        network.result(each.stop(0))
    assert not network.clock.getDelayedCalls()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"profile": "B.9"}, "'B.9' is no TLS profile; known are B.12, B.13"),
        ({"client_auth": "maybe"}, "client_auth 'maybe' is none of require, request, none"),
        ({"ca": ()}, "client_auth 'require' needs ca"),
    ],
)
def test_what_does_not_fit_together(pki: PKI, options: Any, said: str):
    with pytest.raises(MisuseError, match=said):
        server_tls(pki, **options)


def test_a_key_without_a_certificate(pki: PKI):
    with pytest.raises(MisuseError, match="has no certificate"):
        ClientTLS(key=pki.node.key_path)
