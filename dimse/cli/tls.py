"""The options of TLS (PS3.15 B), also under the names that DCMTK gives them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dimse.security.profiles import DEFAULT_PROFILE, PROFILES


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """What the options say."""

    certificate: Path | None
    key: Path | None
    ca: tuple[Path, ...]
    crl: tuple[Path, ...]
    profile: str
    server_name: str | None
    insecure_unverified: bool


def taken(given: dict[str, Any]) -> TLS | None:
    """TLS if any of its options is among those given, which it takes out of them."""
    names = ("tls", "key_and_certificate", *TLS.__dataclass_fields__)
    options = {name: given.pop(name) for name in names}
    wanted, pair = options.pop("tls"), options.pop("key_and_certificate")
    if pair is not None:
        if options["certificate"] or options["key"]:
            raise click.UsageError("+tls names both key and certificate: give one of the two ways")
        options["key"], options["certificate"] = pair
    plain = options.pop("profile")
    if not (wanted or plain or any(options.values())):
        return None
    return TLS(profile=plain or DEFAULT_PROFILE, **options)


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

TLS_OPTION = "--tls"

TLS_PARAMETERS = (
    click.option(
        TLS_OPTION, "+tla", "tls", is_flag=True, help="Use TLS; so does each option below."
    ),
    click.option(
        "--tls-cert",
        "certificate",
        metavar="FILE",
        type=_FILE,
        help="Our certificate, for a peer that asks for it, and who signed it (PEM).",
    ),
    click.option(
        "--tls-key",
        "key",
        metavar="FILE",
        type=_FILE,
        help="Our private key; unless given, in the file of the certificate.",
    ),
    click.option(
        "+tls",
        "key_and_certificate",
        metavar="KEY CERT",
        nargs=2,
        type=_FILE,
        default=None,
        help="Both of these at once.",
    ),
    click.option(
        "--tls-ca",
        "+cf",
        "ca",
        metavar="FILE",
        multiple=True,
        type=_FILE,
        help="Who signs the certificates of peers; may be repeated. Unless given, "
        "who the system trusts.",
    ),
    click.option(
        "--tls-crl",
        "+crl",
        "crl",
        metavar="FILE",
        multiple=True,
        type=_FILE,
        help="A revocation list; may be repeated.",
    ),
    click.option(
        "--tls-profile",
        "profile",
        type=click.Choice(list(PROFILES)),
        help=f"The profile of PS3.15 B. Unless given, {DEFAULT_PROFILE}.",
    ),
    click.option(
        "--tls-server-name",
        "server_name",
        metavar="NAME",
        help="Whom the certificate of the peer is for, if that is not HOST.",
    ),
    click.option(
        "--tls-insecure-unverified",
        "insecure_unverified",
        is_flag=True,
        help="Take whatever certificate the peer has: whoever is in between can read everything.",
    ),
)
