"""Keys, certificates and revocation lists of PEM files, and whether they can be trusted at all.

Whatever is wrong with a file is a `MisuseError` that names the file and the thing.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import (
    Certificate,
    CertificateRevocationList,
    ExtendedKeyUsage,
    ExtensionNotFound,
    load_pem_x509_certificate,
    load_pem_x509_crl,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from service_identity import VerificationError
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)
from service_identity.exceptions import CertificateError

from dimse.errors import MisuseError
from dimse.security.addresses import address_of
from dimse.security.profiles import Profile

File = str | os.PathLike[str]

SOON = timedelta(days=30)  # enough to get a new certificate, and no nuisance with those of 90 days

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
_USES = {SERVER: "TLS servers", CLIENT: "TLS clients"}

_KEYS = (b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY", b"ENCRYPTED PRIVATE KEY")
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key, and the certificates that go with it: its own, then who signed that."""

    key: Any  # of the many types of cryptography
    chain: tuple[Certificate, ...]


def now() -> datetime:
    """What time it is."""
    return datetime.now(UTC)


def name_of(certificate: Certificate) -> str:
    """Whose certificate it is, for a log or a message."""
    return certificate.subject.rfc4514_string() or f"serial number {certificate.serial_number:x}"


def weakness(certificate: Certificate, profile: Profile) -> str:
    """Why a certificate is too weak for a profile; "" if it is strong enough.

    The signature of a certificate by itself proves nothing, and is not looked at.
    """
    try:
        key = certificate.public_key()
        hashed = certificate.signature_hash_algorithm
    except (UnsupportedAlgorithm, ValueError) as error:
        return f"cannot be used: {error}"
    if isinstance(key, RSAPublicKey):
        if key.key_size < profile.rsa_bits:
            return f"has an RSA key of {key.key_size} bits, and needs {profile.rsa_bits}"
    elif isinstance(key, EllipticCurvePublicKey):
        if key.key_size < profile.curve_bits:
            return f"has an EC key of {key.key_size} bits, and needs {profile.curve_bits}"
    elif not isinstance(key, Ed25519PublicKey | Ed448PublicKey):
        return "has a key that is neither RSA nor of an elliptic curve"
    if hashed is not None and hashed.name in profile.weak_hashes and not _is_root(certificate):
        return f"is signed with {hashed.name.upper()}, and not with SHA-256 or better"
    return ""


def load_identity(
    certificate: File, key: File | None, profile: Profile, uses: Iterable[ObjectIdentifier]
) -> Identity:
    """The certificates and the key of PEM files, the key from the first unless it has its own.

    `uses` are what the certificate is for. Raises `MisuseError`.
    """
    chain = tuple(_certificates(certificate))
    if key is None and not _blocks(certificate, *_KEYS):
        raise MisuseError(f"{certificate}: no private key in PEM, and it has no file of its own")
    private = _private_key(certificate if key is None else key)
    if private.public_key() != chain[0].public_key():
        name = name_of(chain[0])
        raise MisuseError(f"{key or certificate}: the key is not that of {name} in {certificate}")
    for each in chain:
        if problem := _out_of_date(each) or weakness(each, profile):
            raise MisuseError(f"{certificate}: the certificate {name_of(each)} {problem}")
    for use in uses:
        if not _is_for(chain[0], use):
            raise MisuseError(
                f"{certificate}: the certificate {name_of(chain[0])} is not for {_USES[use]} "
                "(its extended key usage)"
            )
    for signed, issuer in pairwise(chain):
        if not _has_signed(issuer, signed):
            raise MisuseError(
                f"{certificate}: behind {name_of(signed)} comes {name_of(issuer)}, who has not "
                "signed it"
            )
    return Identity(private, chain)


def load_authorities(files: Iterable[File], profile: Profile) -> tuple[Certificate, ...]:
    """The certificates of those whose signatures are trusted; raises `MisuseError`."""
    authorities = []
    for file in files:
        for each in _certificates(file):
            if problem := weakness(each, profile):
                raise MisuseError(f"{file}: the certificate {name_of(each)} {problem}")
            authorities.append(each)
    return tuple(authorities)


def load_revocations(files: Iterable[File]) -> tuple[CertificateRevocationList, ...]:
    """Certificate revocation lists; raises `MisuseError`."""
    lists = []
    for file in files:
        found = _blocks(file, b"X509 CRL")
        if not found:
            raise MisuseError(f"{file}: no certificate revocation list in PEM")
        for block in found:
            try:
                revoked = load_pem_x509_crl(block)
            except ValueError as error:
                raise MisuseError(f"{file}: {error}") from error
            update = revoked.next_update_utc
            if update is not None and update < now():
                who = revoked.issuer.rfc4514_string()
                raise MisuseError(
                    f"{file}: the revocation list of {who} was to be renewed on {update:%Y-%m-%d}"
                )
            lists.append(revoked)
    return tuple(lists)


def soon_to_expire(certificates: Sequence[Certificate]) -> Iterator[str]:
    """A line for each certificate that has expired, or will so soon that somebody must act."""
    for each in certificates:
        left = each.not_valid_after_utc - now()
        if left < timedelta(0):
            yield f"the certificate {name_of(each)} {_out_of_date(each)}"
        elif left < SOON:
            expiry = f"{each.not_valid_after_utc:%Y-%m-%d}"
            yield f"the certificate {name_of(each)} expires on {expiry}, in {left.days} days"


def server_name(host: str) -> bytes | None:
    """A host as it is called in TLS; None for an address, which is no name (RFC 6066 3).

    Raises `MisuseError` for one that no host can have.
    """
    if address_of(host) is not None:
        return None
    try:
        return host.rstrip(".").encode("idna")
    except UnicodeError as error:
        raise MisuseError(f"{host!r} is no host name (RFC 1123 2.1)") from error


def mismatch(certificate: Certificate, host: str) -> str:
    """Why the certificate is not for `host`; "" if it is (RFC 9525)."""
    name = server_name(host)
    try:
        if name is None:
            verify_certificate_ip_address(certificate, str(address_of(host)))
        else:
            verify_certificate_hostname(certificate, name.decode())
    except (VerificationError, CertificateError):
        return f"is not for {host} (its subject alternative names)"
    return ""


def _out_of_date(certificate: Certificate) -> str:
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if last < now():
        return f"expired on {last:%Y-%m-%d}"
    return f"is not valid before {first:%Y-%m-%d %H:%M} UTC" if first > now() else ""


def _is_root(certificate: Certificate) -> bool:
    return certificate.issuer == certificate.subject


def _is_for(certificate: Certificate, use: ObjectIdentifier) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(ExtendedKeyUsage).value
    except ExtensionNotFound:
        return True  # for everything
    return use in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage


def _has_signed(issuer: Certificate, signed: Certificate) -> bool:
    try:
        signed.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _blocks(file: File, *kinds: bytes) -> list[bytes]:
    """The blocks of a PEM file that are of these kinds."""
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise MisuseError(f"{file}: {error.strerror or error}") from error
    return [block[0] for block in _BLOCK.finditer(content) if block[1] in kinds]


def _certificates(file: File) -> list[Certificate]:
    found = _blocks(file, b"CERTIFICATE", b"X509 CERTIFICATE")
    if not found:
        raise MisuseError(f"{file}: no certificate in PEM")
    try:
        return [load_pem_x509_certificate(block) for block in found]
    except ValueError as error:
        raise MisuseError(f"{file}: a certificate that cannot be read: {error}") from error


def _private_key(file: File) -> Any:
    found = _blocks(file, *_KEYS)
    if not found:
        raise MisuseError(f"{file}: no private key in PEM")
    try:
        return load_pem_private_key(found[0], None)
    except TypeError as error:  # cryptography says so of a key that wants a passphrase
        raise MisuseError(
            f"{file}: the private key has a passphrase, which nobody could type at a restart; "
            "openssl pkey takes it off"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MisuseError(f"{file}: a private key that cannot be read: {error}") from error
