"""The names of a certificate, as peers are bound to them: no Twisted."""

import re
from collections.abc import Iterator

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import (
    Certificate,
    DNSName,
    ExtensionNotFound,
    SubjectAlternativeName,
    UniformResourceIdentifier,
)
from cryptography.x509.oid import NameOID

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def names_of(certificate: Certificate) -> frozenset[str]:
    """The Common Name, the DNS names and URIs among the subject alternative names, and the SHA-256
    fingerprint, each with its kind: `CN:ct1`, `DNS:ct1.example`, `URI:urn:ct1`, `sha256:...`.

    Names compare whole: a wild card in a certificate is a name of its own, and stands for no other.
    """
    return frozenset(_names(certificate))


def _names(certificate: Certificate) -> Iterator[str]:
    yield f"sha256:{certificate.fingerprint(SHA256()).hex()}"
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        yield _name("CN", str(attribute.value))
    try:
        others = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except (ExtensionNotFound, ValueError):  # ValueError: they cannot be read, so there are none
        return
    for name in others.get_values_for_type(DNSName):
        yield _name("DNS", name)
    for uri in others.get_values_for_type(UniformResourceIdentifier):
        yield _name("URI", uri)


def certificate_name(text: str) -> str:
    """A name in the form that compares; raises `ValueError` for what is none.

    Common Names and DNS names have no case, and a fingerprint may have colons.
    """
    kind, _, name = text.strip().partition(":")
    kind = kind.upper()
    if kind == "SHA256":
        digest = name.replace(":", "").lower()
        if not _FINGERPRINT.fullmatch(digest):
            raise ValueError("it has no 64 hexadecimal digits")
        return f"sha256:{digest}"
    if kind not in ("CN", "DNS", "URI") or not name:
        raise ValueError
    return _name(kind, name)


def _name(kind: str, name: str) -> str:
    return f"{kind}:{name if kind == 'URI' else name.lower()}"
