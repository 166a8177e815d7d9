"""`dimse config`: what a configuration says, without the node."""

import socket
from collections.abc import Collection, Iterator
from pathlib import Path

import click
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet.task import Clock
from twisted.python.usage import UsageError

from dimse.cli.running import FAILED
from dimse.errors import DimseError, MisuseError

try:
    from dimse.server.config import Configuration, read_configuration
    from dimse.server.explain import Origins, access_of, explanation, looked_up
    from dimse.server.identity import Users
    from dimse.server.options import Options
    from dimse.server.weaknesses import weaknesses
except (ImportError, UsageError) as error:  # the extra is not installed
    raise click.ClickException(f"it needs pip install 'dimse[server]' ({error})") from error

from dimse.security.access import Requestor, Resolved, is_name, network_of
from dimse.security.certificate_names import names_of

_FILE = click.Path(path_type=Path)


@click.group("config")
def command() -> None:
    """Check the configuration of a node, and explain what a peer may do there."""


@command.command()
@click.argument("file", metavar="FILE", type=_FILE)
def check(file: Path) -> None:
    """Check FILE, and what it names: certificates, passcodes, keys, host names of peers.

    Exit code 1 tells that something is wrong, and stderr what, line by line. What others might use,
    such as a peer that is known by its title alone, is a warning there.
    """
    configuration = _read(file)
    wrong = [*_unusable(file, configuration), *_never_identified(configuration)]
    for line in wrong:
        click.echo(f"{file}: {line}", err=True)
    resolved = looked_up(_addresses)
    names = sorted({name for peer in configuration.peers.values() for name in peer.names})
    missing = [name for name in names if not resolved(name)]
    for name in missing:
        click.echo(f"{file}: {name} does not resolve: its peer is refused until it does", err=True)
    origins = Origins(file)
    for weakness in weaknesses(configuration):
        origin = origins.of(weakness.key, weakness.ae_title)
        click.echo(f"{origin}: warning: {weakness.text}", err=True)
    access = access_of(configuration)
    click.echo(f"{len(access.peers)} peers; others: {access.for_unlisted}")
    if missing or wrong:
        raise SystemExit(FAILED)


@command.command()
@click.option("--config", "file", metavar="FILE", type=_FILE, help="The file of the node, if any.")
@click.option("--peer", metavar="AET", required=True, help="The calling AE title.")
@click.option(
    "--host",
    metavar="ADDRESS",
    help="The IP address it comes from; unless given the one of its own, else this machine.",
)
@click.option("--called", metavar="AET", help="The AE title it calls; one that is right if not.")
@click.option("--tls", is_flag=True, help="It comes with TLS.")
@click.option("--certificate", metavar="FILE", type=_FILE, help="And shows this one, in PEM.")
@click.option("--user", metavar="NAME", help="Its user, who was verified.")
def explain(
    file: Path | None,
    peer: str,
    host: str | None,
    called: str | None,
    tls: bool,
    certificate: Path | None,
    user: str | None,
) -> None:
    """Tell what a peer may do, and which line of the file or default decides.

    The decision is the one that the node makes. Options of the node such as --allow-any or --peer
    are not in the file, and unknown here. Exit code 1 tells that it is refused.
    """
    configuration = _read(file) if file is not None else Configuration()
    access, resolved = access_of(configuration), looked_up(_addresses)
    known = access.peers.get(peer)
    if host is None:
        host = _own(known.places if known is not None else (), resolved)
    who = Requestor(
        ae_title=peer,
        called_ae_title=called if called is not None else next(iter(access.ae_titles), ""),
        host=host,
        encrypted=tls or certificate is not None,
        certificate_names=_names(certificate) if certificate is not None else frozenset(),
        user=user,
    )
    verdict = access.decide(who, resolved)
    click.echo(f"{peer} from {host or 'this machine'}")
    for line in explanation(verdict, who, Origins(file)):
        click.echo(line)
    if verdict.rejection is not None:
        raise SystemExit(FAILED)


def _read(file: Path) -> Configuration:
    try:
        return read_configuration(file)
    except DimseError as error:
        raise click.ClickException(str(error)) from error


def _unusable(file: Path, configuration: Configuration) -> Iterator[str]:
    """What the node would not start with, of the files that it reads at its start."""
    try:
        Options().parseOptions(["--config", str(file)])  # type: ignore[no-untyped-call]
    except UsageError as error:
        yield from str(error).splitlines()
    try:
        Users(configuration.identity, Clock())
    except MisuseError as error:
        yield str(error)


def _never_identified(configuration: Configuration) -> Iterator[str]:
    """Peers that nobody can be, because no user is verified."""
    if not configuration.identity.verify:
        for peer in configuration.peers.values():
            if peer.identity == "required":
                yield (
                    f"peer {peer.ae_title} needs a verified user, and nobody is verified without "
                    "identity.passwords, jwt_keys or user_names: it is refused"
                )


def _names(file: Path) -> frozenset[str]:
    try:
        return names_of(load_pem_x509_certificate(file.read_bytes()))
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{file}: {error}") from error


def _own(places: Collection[str], resolved: Resolved) -> str:
    """An address that the peer may come from; "" is this machine."""
    for place in places:
        if is_name(place):
            return next(iter(sorted(resolved(place))), "")
        if (network := network_of(place)) is not None:
            return str(network.network_address)
    return ""


def _addresses(name: str) -> Collection[str]:
    return {str(each[4][0]) for each in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
