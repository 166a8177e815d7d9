"""What is loaded from files, and what is refused: the message names the file and the thing."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from dimse import MisuseError
from dimse.security import certificates
from dimse.security.certificates import (
    load_authorities,
    load_identity,
    load_revocations,
    soon_to_expire,
)
from dimse.security.profiles import PROFILES
from tests.certificates import (
    CLIENT,
    PKI,
    SERVER,
    Authority,
    Issued,
    ec_key,
    p192_key,
    rsa_key,
    signed_with_sha1,
)

B12 = PROFILES["B.12"]


def load(issued: Issued, **options: Any) -> certificates.Identity:
    given = {"key": issued.key_path, "profile": B12, "uses": [SERVER], **options}
    return load_identity(issued.path, given.pop("key"), **given)


def refused(issued: Issued, **options: Any) -> str:
    with pytest.raises(MisuseError) as caught:
        load(issued, **options)
    assert str(issued.folder) in str(caught.value)
    return str(caught.value)


def test_certificate_and_key(pki: PKI):
    identity = load(pki.node)
    assert identity.chain == (pki.node.certificate,)
    assert identity.key.public_key() == pki.node.certificate.public_key()


def test_key_in_the_file_of_the_certificate(pki: PKI, tmp_path: Path):
    """Whatever else is in the file: a key of EC is often behind its parameters."""
    both = tmp_path / "both.pem"
    old = pki.node.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    both.write_bytes(b"Bag Attributes\n" + old + pki.node.path.read_bytes())
    assert load_identity(both, None, B12, []).chain == (pki.node.certificate,)


def test_chain(tmp_path: Path):
    root = Authority(tmp_path, "root")
    middle = Authority(tmp_path, "middle", root)
    assert len(load(middle.issue("node")).chain) == 2
    node = middle.issue("other")
    node.write(root.issued)
    assert "behind CN=other comes CN=root, who has not signed it" in refused(node)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (lambda: rsa_key(1024), "has an RSA key of 1024 bits, and needs 2048"),
        (p192_key, "has an EC key of 192 bits, and needs 256"),
    ],
)
def test_too_weak(pki: PKI, key: Any, said: str):
    assert said in refused(pki.ca.issue("weak", key=key()))


def test_sha1(pki: PKI):
    weak = signed_with_sha1(pki.ca, "old-signature")
    said = "CN=old-signature is signed with SHA1, and not with SHA-256 or better"
    assert said in refused(weak, uses=[])


@pytest.mark.parametrize(
    ("days", "said"), [((-90, -1), "expired on 20"), ((1, 90), "is not valid before 20")]
)
def test_out_of_date(pki: PKI, days: tuple[float, float], said: str):
    assert said in refused(pki.ca.issue("then", days=days))


def test_extended_key_usage(pki: PKI):
    node = pki.ca.issue("client-only", uses=[CLIENT])
    assert "is not for TLS servers (its extended key usage)" in refused(node)
    load(node, uses=[CLIENT])
    load(pki.ca.issue("for-all", uses=[]), uses=[SERVER, CLIENT])


def test_key_of_another(pki: PKI):
    assert "is not that of CN=node" in refused(pki.node, key=pki.modality.key_path)


def test_key_with_a_passphrase(pki: PKI, tmp_path: Path):
    locked = tmp_path / "locked.key"
    encryption = BestAvailableEncryption(b"secret")
    locked.write_bytes(ec_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    with pytest.raises(MisuseError, match=r"locked\.key: the private key has a passphrase"):
        load(pki.node, key=locked)


class TestFiles:
    def test_missing(self, pki: PKI, tmp_path: Path):
        with pytest.raises(MisuseError, match=r"gone\.pem: No such file"):
            load_authorities([tmp_path / "gone.pem"], B12)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "no certificate in PEM"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "cannot be read"),
        ],
    )
    def test_no_certificate(self, tmp_path: Path, content: bytes, said: str):
        file = tmp_path / "ca.pem"
        file.write_bytes(content)
        with pytest.raises(MisuseError, match=rf"ca\.pem: .*{said}"):
            load_authorities([file], B12)

    @pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
    def test_no_key(self, pki: PKI, tmp_path: Path, content: bytes):
        file = tmp_path / "node.key"
        file.write_bytes(content)
        with pytest.raises(MisuseError, match=r"node\.key: no private key in PEM"):
            load(pki.node, key=file)

    def test_key_that_is_none(self, pki: PKI, tmp_path: Path):
        file = tmp_path / "node.key"
        file.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        with pytest.raises(MisuseError, match=r"node\.key: a private key that cannot be read"):
            load(pki.node, key=file)

    def test_weak_authority(self, tmp_path: Path):
        weak = Authority(tmp_path, "weak", key=rsa_key(1024))
        with pytest.raises(MisuseError, match="RSA key of 1024 bits"):
            load_authorities([weak.path], B12)


class TestRevocations:
    def test_list(self, pki: PKI):
        (revoked,) = load_revocations([pki.ca.revoke(pki.modality, name="one")])
        assert revoked.get_revoked_certificate_by_serial_number(
            pki.modality.certificate.serial_number
        )

    def test_none(self, pki: PKI):
        with pytest.raises(MisuseError, match=r"ca\.pem: no certificate revocation list in PEM"):
            load_revocations([pki.ca.path])

    def test_broken(self, tmp_path: Path):
        file = tmp_path / "crl.pem"
        file.write_bytes(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
        with pytest.raises(MisuseError, match=r"crl\.pem: "):
            load_revocations([file])

    def test_old(self, pki: PKI):
        """With it everybody would be refused."""
        with pytest.raises(MisuseError, match="of CN=ca was to be renewed on 20"):
            load_revocations([pki.ca.revoke(days=(-30, -1), name="old")])


def test_what_expires_soon(pki: PKI, monkeypatch: pytest.MonkeyPatch):
    """From 30 days before on, and when it is too late."""
    month = pki.ca.issue("month", days=(-1, 29.5)).certificate
    assert list(soon_to_expire([pki.node.certificate])) == []
    (line,) = soon_to_expire([month])
    assert line.startswith("the certificate CN=month expires on 20")
    assert line.endswith(", in 29 days")
    later = certificates.now() + timedelta(days=31)
    monkeypatch.setattr(certificates, "now", lambda: later)
    (line,) = soon_to_expire([month])
    assert line.startswith("the certificate CN=month expired on 20")
