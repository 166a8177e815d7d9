"""TLS with openssl, DCMTK and pynetdicom on the other side: who is let in, and who is not (G17)."""

import gc
import json
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_twisted
from pynetdicom import AE

from dimse import (
    AssociationError,
    ClientTLS,
    ConnectionLostError,
    TLSError,
    associate,
    echo,
    store,
)
from dimse.security.profiles import GROUPS
from tests.archive.archives import data_set
from tests.certificates import CLIENT, PKI, SERVER, Issued, rsa_key, signed_with_sha1
from tests.interop.archives import ROOT, script
from tests.peers import Argument, Server, free_port, run, running, tool
from tests.scripted import ABORT, RQ
from tests.wire import VERIFICATION

pytestmark = pytest.mark.peer

AC = b"\x02\x00"  # how an A-ASSOCIATE-AC begins (PS3.8 9.3.3)
ANY = "@SECLEVEL=0"  # what openssl itself would not do any more


class Peers(NamedTuple):
    """The certificates of peers, good and not."""

    good: Issued
    rsa: Issued
    stranger: Issued
    expired: Issued
    early: Issued
    server_only: Issued
    weak: Issued
    sha1: Issued
    revoked: Issued


class Nodes(NamedTuple):
    """The ports of our acceptors."""

    ec: int
    rsa: int
    modified: int
    modified_rsa: int
    open: int
    revoking: int


@pytest.fixture(scope="module")
def peers(pki: PKI) -> Peers:
    ca = pki.ca
    return Peers(
        ca.issue("peer-good", names=()),
        ca.issue("peer-rsa", names=(), key=rsa_key()),
        pki.other_ca.issue("peer-stranger"),
        ca.issue("peer-expired", days=(-9, -1)),
        ca.issue("peer-early", days=(1, 9)),
        ca.issue("peer-server-only", uses=[SERVER]),
        ca.issue("peer-weak", key=rsa_key(1024)),
        signed_with_sha1(ca, "peer-sha1"),
        ca.issue("peer-revoked"),
    )


@pytest.fixture(scope="module")
def nodes(pki: PKI, peers: Peers) -> Iterator[Nodes]:
    """One process; each port has another certificate, profile, or way with clients."""
    ec, rsa = pki.ca.issue("node-ec"), pki.ca.issue("node-rsa", key=rsa_key())
    ports = Nodes(*(free_port() for _ in Nodes._fields))

    def given(shown: Issued, **more: Any) -> dict[str, Any]:
        files = {"certificate": shown.path, "key": shown.key_path, "ca": pki.ca.path}
        return {name: str(value) for name, value in (files | more).items()}

    crl = pki.ca.revoke(peers.revoked, name="peers-crl")
    settings = [
        given(ec),
        given(rsa),
        given(ec, profile="B.13", client_auth="none"),
        given(rsa, profile="B.13", client_auth="none"),
        given(ec, client_auth="request"),
        given(ec, crl=crl),
    ]
    by_port = json.dumps(dict(zip(map(str, ports), settings, strict=True)))
    with running([*script("tls_node"), by_port], ports.revoking, cwd=ROOT):
        yield ports


def is_let_in(pki: PKI, port: int, shown: Issued | None, *options: str) -> bool:
    """Whether an A-ASSOCIATE-RQ that s_client sends is answered with an A-ASSOCIATE-AC."""
    args: list[Argument] = [tool("openssl"), "s_client", "-quiet", "-connect"]
    args += [f"127.0.0.1:{port}", "-CAfile", pki.ca.path, "-verify_return_error", *options]
    if shown is not None:
        args += ["-cert", shown.path, "-key", shown.key_path]
    done = subprocess.run(args, input=RQ + ABORT, capture_output=True, timeout=60, check=False)
    assert done.stdout == b"" or done.stdout.startswith(AC)
    return done.stdout.startswith(AC)


def suite(name: str) -> tuple[str, ...]:
    return ("-tls1_2", "-cipher", f"{name}:{ANY}")


def suite_1_3(name: str) -> tuple[str, ...]:
    return ("-tls1_3", "-ciphersuites", name)


GCM = ("AES256-GCM-SHA384", "AES128-GCM-SHA256")
GCM_1_3 = ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")
CCM_1_3 = ("TLS_AES_128_CCM_SHA256",)
MODIFIED = ("CHACHA20-POLY1305", "AES256-CCM", "AES128-CCM")
CCM_8 = ("ECDHE-ECDSA-AES256-CCM8", "ECDHE-ECDSA-AES128-CCM8")
OLD_EC = ("ECDHE-ECDSA-AES256-SHA", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-NULL-SHA")
OLD_RSA = (
    *("AES128-GCM-SHA256", "AES256-SHA", "NULL-SHA256", "ECDHE-RSA-AES256-SHA384"),
    *("DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-AES128-SHA", "AECDH-AES128-SHA"),
)

SUITES = [
    *(("ec", suite(f"ECDHE-ECDSA-{each}"), True) for each in GCM),
    *(("rsa", suite(f"ECDHE-RSA-{each}"), True) for each in GCM),
    *((node, suite_1_3(each), True) for each in GCM_1_3 for node in ("ec", "rsa", "modified")),
    *(("ec", suite_1_3(each), False) for each in CCM_1_3),
    *(("modified", suite_1_3(each), True) for each in CCM_1_3),
    *(("ec", suite(f"ECDHE-ECDSA-{each}"), False) for each in MODIFIED),
    *(("modified", suite(f"ECDHE-ECDSA-{each}"), True) for each in (*GCM, *MODIFIED)),
    *(("modified_rsa", suite(f"ECDHE-RSA-{each}"), True) for each in (*GCM, MODIFIED[0])),
    *((node, suite(each), False) for each in CCM_8 for node in ("ec", "modified")),
    *((node, suite_1_3("TLS_AES_128_CCM_8_SHA256"), False) for node in ("ec", "modified")),
    *(("ec", suite(each), False) for each in OLD_EC),
    *((node, suite(each), False) for each in OLD_RSA for node in ("rsa", "modified_rsa")),
    *(("ec", ("-tls1_1", "-cipher", f"ALL:{ANY}"), False),),
    *(("rsa", ("-tls1", "-cipher", f"ALL:{ANY}"), False),),
    *(("modified", ("-tls1_1", "-cipher", f"ALL:{ANY}"), False),),
    *(
        ("rsa", (version, "-curves", group), True)
        for version in ("-tls1_2", "-tls1_3")
        for group in GROUPS
    ),
    *(("rsa", ("-tls1_2", "-curves", "secp224r1", "-cipher", f"ALL:{ANY}"), False),),
    *(
        (node, ("-tls1_2", "-sigalgs", "RSA+SHA1:ECDSA+SHA1", "-cipher", f"ALL:{ANY}"), False)
        for node in ("ec", "rsa", "modified", "modified_rsa")
    ),
    *(
        ("ec", (version, "-alpn", offered), accepted)
        for version in ("-tls1_2", "-tls1_3")
        for offered, accepted in (
            ("dicom", True),
            ("http/1.1,dicom", True),
            ("http/1.1", False),
            ("h2,http/1.1", False),
        )
    ),
]


def name_of(value: Any) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize(("node", "options", "accepted"), SUITES, ids=name_of)
def test_what_is_negotiated(
    pki: PKI, peers: Peers, nodes: Nodes, node: str, options: tuple[str, ...], accepted: bool
):
    """With a good certificate, where one is asked for."""
    shown = {"ec": peers.good, "rsa": peers.rsa}.get(node)
    assert is_let_in(pki, getattr(nodes, node), shown, *options) is accepted


CLIENTS = [
    *(("ec", each, each in ("good", "rsa", "revoked")) for each in Peers._fields),
    *(("open", each, each in ("good", "rsa", "revoked")) for each in Peers._fields),
    ("ec", None, False),
    ("open", None, True),
    ("modified", None, True),
    ("revoking", "good", True),
    ("revoking", "revoked", False),
]


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize(("node", "shown", "accepted"), CLIENTS)
def test_who_is_let_in(
    pki: PKI,
    peers: Peers,
    nodes: Nodes,
    node: str,
    shown: str | None,
    accepted: bool,
    version: str,
):
    certificate = getattr(peers, shown) if shown is not None else None
    options = (version, "-cipher", f"DEFAULT:{ANY}")
    assert is_let_in(pki, getattr(nodes, node), certificate, *options) is accepted


def test_h_t07_renegotiation(pki: PKI, peers: Peers, nodes: Nodes):
    """A client of TLS 1.2 that asks for it is told no, and no second handshake is made."""
    args: list[Argument] = [tool("openssl"), "s_client", "-tls1_2", "-CAfile", pki.ca.path]
    args += ["-cert", peers.good.path, "-key", peers.good.key_path]
    args += ["-connect", f"127.0.0.1:{nodes.ec}"]
    done = subprocess.run(
        args, input="R\n" * 10, capture_output=True, text=True, timeout=60, check=False
    )
    assert "RENEGOTIATING" in done.stdout + done.stderr
    assert "no renegotiation" in done.stderr
    assert is_let_in(pki, nodes.ec, peers.good, "-tls1_2")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_h_t10_resumption(pki: PKI, nodes: Nodes, tmp_path: Path, version: str):
    """A client that comes back with its session begins anew."""
    session = tmp_path / "session"
    args: list[Argument] = [tool("openssl"), "s_client", version, "-CAfile", pki.ca.path]
    args += ["-connect", f"127.0.0.1:{nodes.modified}"]
    first = run([*args, "-sess_out", session])
    assert "New, TLSv1" in first.stdout
    if session.exists():  # TLS 1.3 hands one out behind the handshake, if at all
        again = run([*args, "-sess_in", session])
        assert "Reused" not in again.stdout
        assert "New, TLSv1" in again.stdout


# Our requestor


@contextmanager
def s_server(shown: Issued, pki: PKI, *options: str) -> Iterator[Server]:
    """openssl as a server, which never answers what it gets."""
    port = free_port()
    args: list[Argument] = [tool("openssl"), "s_server", "-quiet", "-accept", str(port)]
    args += ["-cert", shown.path, "-key", shown.key_path, "-CAfile", pki.ca.path, *options]
    with running(args, port) as server:
        yield server


BOTH = pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])


async def trusts(port: int, tls: ClientTLS) -> bool:
    """Whether our requestor gets as far as to send its request, after which s_server closes."""
    try:
        await associate(f"localhost:{port}", tls=tls)
    except TLSError:
        return False
    except ConnectionLostError as error:
        return not error.may_expect_tls
    raise AssertionError("who has answered?")


async def is_told_of_tls(port: int) -> bool:
    """Whether our requestor hears that it was TLS that it lacked."""
    with pytest.raises(AssociationError) as caught:
        await associate(f"localhost:{port}")
    return caught.value.may_expect_tls


@BOTH
@pytest_twisted.ensureDeferred
async def test_who_speaks_without_tls_is_told(pki: PKI, peers: Peers, version: str) -> None:
    with s_server(pki.node, pki, version) as server:
        assert await is_told_of_tls(server.port)


SERVERS = {
    "EC": (lambda pki: pki.ca.issue("server-ec"), True),
    "RSA": (lambda pki: pki.ca.issue("server-rsa", key=rsa_key()), True),
    "expired": (lambda pki: pki.ca.issue("server-expired", days=(-9, -1)), False),
    "stranger": (lambda pki: pki.other_ca.issue("server-stranger"), False),
    "elsewhere": (lambda pki: pki.ca.issue("server-elsewhere", names=["elsewhere"]), False),
    "no names": (lambda pki: pki.ca.issue("localhost", names=()), False),
    "address only": (lambda pki: pki.ca.issue("server-ip", names=["127.0.0.1"]), False),
    "client only": (lambda pki: pki.ca.issue("server-client", uses=[CLIENT]), False),
    "RSA 1024": (lambda pki: pki.ca.issue("server-weak", key=rsa_key(1024)), False),
    "SHA-1": (lambda pki: signed_with_sha1(pki.ca, "localhost"), False),
}


@BOTH
@pytest.mark.parametrize(("make", "trusted"), SERVERS.values(), ids=list(SERVERS))
@pytest_twisted.ensureDeferred
async def test_whom_we_trust(pki: PKI, make: Any, trusted: bool, version: str) -> None:
    with s_server(make(pki), pki, version, "-cipher", f"DEFAULT:{ANY}") as server:
        assert await trusts(server.port, ClientTLS(ca=pki.ca.path)) is trusted


OFFERED = [
    ("B.12", suite("ECDHE-ECDSA-AES128-GCM-SHA256"), True),
    ("B.12", suite("ECDHE-ECDSA-AES128-SHA256"), False),
    ("B.12", suite("ECDHE-ECDSA-CHACHA20-POLY1305"), False),
    ("B.13", suite("ECDHE-ECDSA-CHACHA20-POLY1305"), True),
    ("B.12", suite_1_3("TLS_AES_128_CCM_SHA256"), False),
    ("B.13", suite_1_3("TLS_AES_128_CCM_SHA256"), True),
    ("B.12", ("-tls1_1", "-cipher", f"ALL:{ANY}"), False),
    ("B.12", ("-alpn", "dicom"), True),
    ("B.12", ("-alpn", "http/1.1"), False),
]


@pytest.mark.parametrize(("profile", "options", "agreed"), OFFERED, ids=name_of)
@pytest_twisted.ensureDeferred
async def test_what_we_offer(
    pki: PKI, profile: str, options: tuple[str, ...], agreed: bool
) -> None:
    with s_server(pki.node, pki, *options) as server:
        tls = ClientTLS(ca=pki.ca.path, profile=profile)
        assert await trusts(server.port, tls) is agreed


# DCMTK


def test_dcmtk_echoscu(pki: PKI, peers: Peers, nodes: Nodes):
    """Its profiles that are TLS 1.2 with GCM, B.9 to B.11, and those that are older."""
    key: list[Argument] = ["+tls", peers.good.key_path, peers.good.path, "+cf", pki.ca.path]
    to = ["127.0.0.1", str(nodes.ec)]
    for profile, accepted in (("+py", True), ("+px", True), ("+pz", True), ("+pa", False)):
        done = run([tool("echoscu"), profile, *key, *to])
        assert (done.returncode == 0) is accepted, done.stdout
    stranger: list[Argument] = [
        "+tls",
        peers.stranger.key_path,
        peers.stranger.path,
        "+cf",
        pki.ca.path,
    ]
    anonymous: list[Argument] = ["+tla", "+cf", pki.ca.path]
    for shown in (stranger, anonymous, []):
        assert run([tool("echoscu"), *shown, *to]).returncode != 0


def test_dcmtk_storescu(pki: PKI, peers: Peers, nodes: Nodes, tmp_path: Path):
    key: list[Argument] = ["+tls", peers.rsa.key_path, peers.rsa.path, "+cf", pki.ca.path]
    done = run([tool("storescu"), *key, "127.0.0.1", str(nodes.rsa), instance_file(tmp_path)])
    assert done.returncode == 0, done.stdout


def instance_file(folder: Path) -> Path:
    file = folder / "one.dcm"
    data_set("1.2.1.1").save_as(file, implicit_vr=True, little_endian=True)
    return file


@contextmanager
def storescp(pki: PKI, shown: Issued, folder: Path, *options: str) -> Iterator[Server]:
    port = free_port()
    args: list[Argument] = [tool("storescp"), "+tls", shown.key_path, shown.path]
    args += ["+cf", pki.ca.path, "-od", folder, *options, str(port)]
    with running(args, port) as server:
        yield server


@pytest_twisted.ensureDeferred
async def test_dcmtk_storescp(pki: PKI, peers: Peers, tmp_path: Path) -> None:
    """It wants to see a certificate, and one that it can trust."""
    instance = data_set("1.2.1.1")
    with storescp(pki, pki.node, tmp_path) as server:
        address, good = f"localhost:{server.port}", peers.good
        tls = ClientTLS(ca=pki.ca.path, certificate=good.path, key=good.key_path)
        async with associate(address, [instance.SOPClassUID], tls=tls) as association:
            assert await store(association, instance) == 0
        assert len(list(tmp_path.iterdir())) == 1
        assert await is_told_of_tls(server.port)
        with pytest.raises(TLSError):
            await associate(address, tls=ClientTLS(ca=pki.ca.path))
        with pytest.raises(TLSError, match="is signed by nobody that is trusted here"):
            await associate(address, tls=ClientTLS(ca=pki.other_ca.path))


# pynetdicom, which takes a context of the standard library


def ssl_context(pki: PKI, shown: Issued, *, server: bool) -> ssl.SSLContext:
    purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
    context = ssl.create_default_context(purpose, cafile=str(pki.ca.path))
    context.load_cert_chain(shown.path, shown.key_path)
    if server:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize(("who", "accepted"), [("good", True), ("stranger", False)])
def test_pynetdicom_requestor(pki: PKI, peers: Peers, nodes: Nodes, who: str, accepted: bool):
    entity = AE()
    entity.add_requested_context(VERIFICATION)
    context = ssl_context(pki, getattr(peers, who), server=False)
    association = entity.associate("127.0.0.1", nodes.ec, tls_args=(context, "localhost"))
    assert association.is_established is accepted
    if accepted:
        assert association.send_c_echo().Status == 0
        association.release()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest_twisted.ensureDeferred
async def test_pynetdicom_acceptor(pki: PKI, peers: Peers) -> None:
    entity = AE()
    # It leaves sockets open whose handshake failed.
    entity.add_supported_context(VERIFICATION)
    context = ssl_context(pki, pki.node, server=True)
    port = free_port()
    server: Any = entity.start_server(("127.0.0.1", port), block=False, ssl_context=context)
    try:
        good = peers.good
        tls = ClientTLS(ca=pki.ca.path, certificate=good.path, key=good.key_path)
        async with associate(f"localhost:{port}", tls=tls) as association:
            assert await echo(association) == 0
        assert await is_told_of_tls(port)
        with pytest.raises(TLSError, match="the peer wants to see a certificate of ours"):
            await associate(f"localhost:{port}", tls=ClientTLS(ca=pki.ca.path))
    finally:
        server.shutdown()
        gc.collect()  # here, where the warnings of those are expected
