"""Certificates of all kinds for tests, and who signs them."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.peers import Argument, tool

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
LOCAL = ("localhost", "127.0.0.1", "10.0.0.2")
"""Names of where tests connect to: `dimse.testing.Network` has the last."""


def ec_key() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


def rsa_key(bits: int = 2048) -> Any:
    return rsa.generate_private_key(65537, bits)


def p192_key() -> Any:
    return ec.generate_private_key(ec.SECP192R1())


@dataclass(frozen=True)
class Issued:
    """A certificate, its key, and the files of both; `path` has the chain, too."""

    certificate: x509.Certificate
    key: Any
    folder: Path
    name: str

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.pem"

    @property
    def key_path(self) -> Path:
        return self.folder / f"{self.name}.key"

    def write(self, *above: "Issued") -> Self:
        chain: tuple[Issued, ...] = (self, *above)
        pem = [each.certificate.public_bytes(Encoding.PEM) for each in chain]
        self.path.write_bytes(b"".join(pem))
        self.key_path.write_bytes(
            self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        return self


class Authority:
    """One that signs; `above` is the one that signed it, itself unless given."""

    def __init__(self, folder: Path, name: str, above: "Authority | None" = None, key: Any = None):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._above = above
        self._key = key or ec_key()
        self._name = _name(name)
        builder = _builder(self._name, self._key, above._name if above else self._name)
        builder = builder.add_extension(x509.BasicConstraints(True, None), True)
        signer = above._key if above else self._key
        signed = builder.sign(signer, hashes.SHA256())
        self.issued = Issued(signed, self._key, folder, name).write()

    @property
    def path(self) -> Path:
        """The file of its own certificate."""
        return self.issued.path

    def issue(
        self,
        name: str,
        *,
        names: Sequence[str] = LOCAL,
        days: tuple[float, float] = (-1, 365),
        uses: Sequence[ObjectIdentifier] = (SERVER, CLIENT),
        key: Any = None,
        hashed: Any = None,
        signer: Any = None,
    ) -> Issued:
        """A certificate for `names`, valid from `days` to `days` from now."""
        key = key or ec_key()
        builder = _builder(_name(name), key, self._name, days)
        builder = builder.add_extension(x509.BasicConstraints(False, None), True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(map(_alt, names)), False)
        if uses:
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), False)
        signed = builder.sign(signer or self._key, hashed or hashes.SHA256())
        above = (self.issued,) if self._above is not None else ()
        return Issued(signed, key, self.folder, name).write(*above)

    def revoke(self, *issued: Issued, days: tuple[float, float] = (-1, 30), name: str = "crl"):
        """A file with its revocation list."""
        begin, end = (datetime.now(UTC) + timedelta(days=each) for each in days)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(begin).next_update(end)
        for each in issued:
            revoked = x509.RevokedCertificateBuilder().revocation_date(begin)
            builder = builder.add_revoked_certificate(
                revoked.serial_number(each.certificate.serial_number).build()
            )
        path = self.folder / f"{name}.pem"
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return path


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alt(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name, key: Any, issuer: x509.Name, days: tuple[float, float] = (-1, 365)
) -> x509.CertificateBuilder:
    begin, end = (datetime.now(UTC) + timedelta(days=each) for each in days)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    return builder.not_valid_before(begin).not_valid_after(end)


class PKI:
    """What the tests of TLS share: two authorities that do not know each other, and who they sign.

    All is written to `folder`; whatever is not good says so in its name.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.ca = Authority(folder, "ca")
        self.other_ca = Authority(folder / "other", "other-ca")
        self.node = self.ca.issue("node")
        self.modality = self.ca.issue("modality", names=())
        self.stranger = self.other_ca.issue("stranger")


def signed_with_sha1(authority: Authority, name: str) -> Issued:
    """Only `openssl` still makes one."""
    made = authority.issue(name)
    unsigned, signed = authority.folder / f"{name}.csr", authority.folder / f"{name}-sha1.pem"
    openssl: list[Argument]
    openssl = [tool("openssl"), "req", "-new", "-key", made.key_path, "-subj", f"/CN={name}"]
    subprocess.run([*openssl, "-out", unsigned], check=True, capture_output=True)
    openssl = [tool("openssl"), "x509", "-req", "-sha1", "-in", unsigned, "-days", "30"]
    openssl += ["-CA", authority.path, "-CAkey", authority.issued.key_path, "-out", signed]
    subprocess.run(openssl, check=True, capture_output=True)
    certificate = x509.load_pem_x509_certificate(signed.read_bytes())
    return Issued(certificate, made.key, authority.folder, name).write()
