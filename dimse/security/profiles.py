"""The TLS profiles of PS3.15 Annex B as data; suites have the names that OpenSSL gives them."""

from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT_PROFILE = "B.12"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is negotiated under a profile, best first, and how strong certificates have to be.

    TLS 1.2 is spoken by all, TLS 1.3 preferred (RFC 8996 forbids what is older). Certificates are
    RSA of at least `rsa_bits` or elliptic curves of at least `curve_bits`, and no hash of
    `weak_hashes` is in their signatures.
    """

    title: str
    suites: tuple[str, ...]
    suites_1_3: tuple[str, ...]
    rsa_bits: int = 2048
    curve_bits: int = 256
    weak_hashes: tuple[str, ...] = ("md5", "sha1", "sha224")


PROFILES: Mapping[str, Profile] = {
    "B.12": Profile(
        title="BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile",
        suites=(  # those that RFC 9325 4.2 recommends
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256",
        ),
        suites_1_3=(
            "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256",
            "TLS_AES_128_GCM_SHA256",
        ),
    ),
    "B.13": Profile(
        title="Modified BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile",
        # Those that are required but for CCM_8, whose tags of 64 bits OpenSSL has at no security
        # level that keeps SHA-1 out of the handshake; nor Camellia and DHE, which are optional.
        suites=(
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-AES256-CCM",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "ECDHE-RSA-CHACHA20-POLY1305",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES128-CCM",
        ),
        suites_1_3=(
            "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256",
            "TLS_AES_128_GCM_SHA256",
            "TLS_AES_128_CCM_SHA256",
        ),
    ),
}
"""The profiles by their clause in PS3.15. Retired ones (B.1, B.3, B.9 to B.11) are not offered."""

GROUPS = ("X25519", "P-256", "X448", "P-384", "P-521")
"""The groups of ECDHE, each of 256 bits or more (PS3.15 B.13). They are what OpenSSL takes by
itself, with hybrids of some: pyOpenSSL cannot choose them, so a test holds OpenSSL to it."""

CLIENT_AUTHENTICATION: Mapping[str, str] = {
    "require": "a client without a certificate is refused",
    "request": "a client may show a certificate",
    "none": "clients are not asked for a certificate",
}
"""What a server can want of its clients. A certificate that is shown is verified in any case."""

DICOM_TLS_PORT = 2762  # dicom-tls (PS3.15 B.12)
ALPN = b"dicom"  # registered by IANA; a peer that offers others and not this one is none of ours
