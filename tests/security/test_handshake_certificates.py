"""Whose certificates will do in a TLS handshake, in memory (H-T01 to H-T03, H-T12)."""

from collections.abc import Iterator
from typing import Any

import pytest

from dimse import (
    AssociationRejectedError,
    ClientTLS,
    MisuseError,
    Requesting,
    TLSError,
    associate,
    echo,
)
from dimse.testing import Network
from tests.certificates import CLIENT, PKI, SERVER, p192_key, rsa_key, signed_with_sha1
from tests.memory import RecordingSCP
from tests.scripted import RQ
from tests.security.handshakes import BOTH, TLS_1_3, lines, listen, uncollected_network
from tests.security.peers import (
    Careless,
    client_tls,
    server_tls,
    tls_acceptor,
    tls_requestor,
)


@pytest.fixture
def network() -> Iterator[Network]:
    yield from uncollected_network()


@pytest.fixture
def scp() -> RecordingSCP:
    return RecordingSCP()


BAD_CLIENTS = {
    "expired": (lambda pki: pki.ca.issue("expired", days=(-9, -1)), "CN=expired has expired"),
    "not-yet": (lambda pki: pki.ca.issue("early", days=(1, 9)), "CN=early is not valid yet"),
    "other-ca": (lambda pki: pki.stranger, "CN=stranger is signed by nobody that is trusted"),
    "self-signed": (lambda pki: pki.other_ca.issued, "CN=other-ca is signed by nobody"),
    "server-only": (
        lambda pki: pki.ca.issue("server-only", uses=[SERVER]),
        "CN=server-only is not for this use (its extended key usage)",
    ),
    "sha1": (
        lambda pki: signed_with_sha1(pki.ca, "sha1-client"),
        "CN=sha1-client is signed with SHA1, and not with SHA-256 or better",
    ),
    "rsa1024": (
        lambda pki: pki.ca.issue("short", key=rsa_key(1024)),
        "CN=short has an RSA key of 1024 bits, and needs 2048",
    ),
    "p192": (
        lambda pki: pki.ca.issue("small", key=p192_key()),
        "CN=small has an EC key of 192 bits, and needs 256",
    ),
}


@BOTH
@pytest.mark.parametrize(("make", "why"), BAD_CLIENTS.values(), ids=list(BAD_CLIENTS))
@pytest.mark.parametrize("wanted", ["require", "request"])
def test_h_t01_a_certificate_that_will_not_do(
    network: Network, scp: RecordingSCP, pki: PKI, make: Any, why: str, version: int, wanted: str
):
    """The log says what is wrong with it, and no byte of DICOM is looked at."""
    if version == TLS_1_3 and why.startswith("CN=small"):
        pytest.skip("TLS 1.3 has no signatures of that curve")
    endpoint = listen(network, scp, server_tls(pki, client_auth=wanted))
    peer = tls_requestor(network, endpoint, Careless(make(pki), versions=(version, version)))
    peer.send(RQ)
    assert peer.closed
    assert peer.received == b""
    (line,) = lines(network)
    assert line.startswith("10.0.0.1:4242: no association: no TLS: the certificate ")
    assert why in line


@BOTH
def test_h_t01_revoked(network: Network, scp: RecordingSCP, pki: PKI, version: int):
    gone = pki.ca.issue("gone", names=())
    tls = server_tls(pki, crl=pki.ca.revoke(gone, name="revoked"))
    endpoint = listen(network, scp, tls)
    peer = tls_requestor(network, endpoint, Careless(gone, versions=(version, version)))
    peer.send(RQ)
    assert peer.closed
    assert "CN=gone is revoked" in lines(network)[0]
    good = tls_requestor(network, endpoint, Careless(pki.modality, versions=(version, version)))
    good.send(RQ)
    assert good.pdus


def test_h_t01_no_list_of_who_signed(network: Network, scp: RecordingSCP, pki: PKI):
    tls = server_tls(pki, ca=[pki.ca.path, pki.other_ca.path], crl=pki.ca.revoke(name="only-ours"))
    peer = tls_requestor(network, listen(network, scp, tls), Careless(pki.stranger))
    assert peer.closed
    assert "CN=stranger has no revocation list of who signed it" in lines(network)[0]


@BOTH
def test_h_t02_no_certificate(network: Network, scp: RecordingSCP, pki: PKI, version: int):
    """In TLS 1.3 the client has agreed already when it is refused: what it sent is not read."""
    endpoint = listen(network, scp, server_tls(pki))
    peer = tls_requestor(network, endpoint, Careless(versions=(version, version)))
    peer.send(RQ)
    assert peer.closed
    assert peer.received == b""
    assert lines(network) == [
        "10.0.0.1:4242: no association: no TLS: the peer showed no certificate"
    ]


def test_h_t02_our_client_hears_why(network: Network, scp: RecordingSCP, pki: PKI):
    """Although TLS 1.3 had agreed on our side."""
    endpoint = listen(network, scp, server_tls(pki))
    bare = ClientTLS(ca=pki.ca.path, server_name="localhost")
    with pytest.raises(TLSError) as caught:
        network.associate(endpoint, tls=bare)
    assert str(caught.value) == (
        "ANY-SCP@10.0.0.2:104: no TLS: the peer wants to see a certificate of ours"
    )


@pytest.mark.parametrize("wanted", ["request", "none"])
def test_h_t02_where_none_is_required(network: Network, scp: RecordingSCP, pki: PKI, wanted: str):
    endpoint = listen(network, scp, server_tls(pki, client_auth=wanted))
    bare = ClientTLS(ca=pki.ca.path, server_name="localhost")
    ours, _ = network.associate(endpoint, tls=bare)
    assert network.result(echo(ours)) == 0


BAD_SERVERS = {
    "expired": (lambda pki: pki.ca.issue("old-node", days=(-9, -1)), "CN=old-node has expired"),
    "other-ca": (lambda pki: pki.stranger, "CN=stranger is signed by nobody that is trusted"),
    "wrong-host": (
        lambda pki: pki.ca.issue("elsewhere", names=["elsewhere.example"]),
        "CN=elsewhere is not for localhost (its subject alternative names)",
    ),
    "no-names": (lambda pki: pki.ca.issue("localhost", names=()), "is not for localhost"),
    "client-only": (
        lambda pki: pki.ca.issue("client-only", uses=[CLIENT]),
        "CN=client-only is not for this use",
    ),
    "rsa1024": (
        lambda pki: pki.ca.issue("short", key=rsa_key(1024)),
        "has an RSA key of 1024 bits",
    ),
    "sha1": (lambda pki: signed_with_sha1(pki.ca, "sha1-node"), "is signed with SHA1"),
}


@BOTH
@pytest.mark.parametrize(("make", "why"), BAD_SERVERS.values(), ids=list(BAD_SERVERS))
def test_h_t03_a_server_that_is_not_trusted(
    network: Network, pki: PKI, make: Any, why: str, version: int
):
    """Our request, which may hold a password, does not leave."""
    endpoint = network.endpoint()
    peer = tls_acceptor(network, endpoint, Careless(make(pki), versions=(version, version)))
    with pytest.raises(TLSError) as caught:
        network.result(associate(endpoint, tls=client_tls(pki), reactor=network.clock))
    assert str(caught.value).startswith("ANY-SCP@10.0.0.2:104: no TLS: the certificate ")
    assert why in str(caught.value)
    assert peer.received == b""


def test_h_t03_address_without_a_name(network: Network, pki: PKI):
    """An address is looked for among the addresses of a certificate, and only there."""
    endpoint = network.endpoint()
    named = pki.ca.issue("named", names=["10.0.0.2.example", "localhost"])
    tls_acceptor(network, endpoint, Careless(named))
    tls = client_tls(pki, server_name="10.0.0.2")
    with pytest.raises(TLSError, match=r"CN=named is not for 10\.0\.0\.2"):
        network.result(associate(endpoint, tls=tls, reactor=network.clock))


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "10.0.0.2"])
def test_h_t03_whom_we_expect(network: Network, scp: RecordingSCP, pki: PKI, name: str):
    endpoint = listen(network, scp, server_tls(pki))
    ours, _ = network.associate(endpoint, tls=client_tls(pki, server_name=name))
    assert network.result(echo(ours)) == 0


def test_h_t03_unverified_says_so(network: Network, scp: RecordingSCP, pki: PKI):
    """Not to look at the certificate has to be asked for by its name."""
    endpoint = listen(network, scp, server_tls(pki, pki.stranger))
    tls = client_tls(pki, ca=(), server_name=None, insecure_unverified=True)
    ours, _ = network.associate(endpoint, tls=tls)
    assert network.result(echo(ours)) == 0


def test_h_t03_an_endpoint_needs_a_name(network: Network, scp: RecordingSCP, pki: PKI):
    endpoint = listen(network, scp, server_tls(pki))
    with pytest.raises(MisuseError, match="server_name"):
        associate(endpoint, tls=client_tls(pki, server_name=None), reactor=network.clock)


def test_h_t12_the_certificate_is_not_that_of_the_ae_title(
    network: Network, scp: RecordingSCP, pki: PKI
):
    """`admit` sees both, and rejects (PS3.8 9.3.4)."""
    asked: list[Requesting] = []

    def admit(requesting: Requesting) -> None:
        asked.append(requesting)
        assert requesting.certificate is not None
        if requesting.certificate.subject.rfc4514_string() != f"CN={requesting.peer.ae_title}":
            raise AssociationRejectedError(1, 1, 3)

    endpoint = listen(network, scp, server_tls(pki), admit=admit)
    network.associate(endpoint, tls=client_tls(pki), calling_ae_title="modality")
    with pytest.raises(AssociationRejectedError) as caught:
        network.associate(endpoint, tls=client_tls(pki), calling_ae_title="OTHER")
    assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 3)
    assert all(each.encrypted for each in asked)
    assert asked[0].certificate == pki.modality.certificate


def test_who_shows_no_certificate(network: Network, scp: RecordingSCP, pki: PKI):
    asked: list[Requesting] = []
    tls = server_tls(pki, client_auth="none")
    endpoint = listen(network, scp, tls, admit=asked.append)
    bare = ClientTLS(ca=pki.ca.path, server_name="localhost")
    network.associate(endpoint, tls=bare)
    (requesting,) = asked
    assert (requesting.encrypted, requesting.certificate) == (True, None)
