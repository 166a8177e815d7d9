"""What comes of the options of TLS: contexts, with what is in the files."""

import click

from dimse.cli.tls import TLS
from dimse.errors import MisuseError
from dimse.security.tls import ClientContext, ClientTLS, ServerContext, ServerTLS


def client_context(tls: TLS | None) -> ClientContext | None:
    """For the peer, if it is over TLS; raises `click.ClickException` for a file that is wrong."""
    if tls is None:
        return None
    try:
        return ClientTLS(
            ca=tls.ca,
            crl=tls.crl,
            certificate=tls.certificate,
            key=tls.key,
            server_name=tls.server_name,
            profile=tls.profile,
            insecure_unverified=tls.insecure_unverified,
        ).load()
    except MisuseError as error:
        raise click.ClickException(str(error)) from error


def server_context(tls: TLS | None) -> ServerContext:
    """For who connects to us: he has to show a certificate if we can tell whose is good."""
    if tls is None or tls.certificate is None:
        raise click.UsageError("to listen with TLS needs a certificate: --tls-cert")
    try:
        return ServerTLS(
            certificate=tls.certificate,
            key=tls.key,
            ca=tls.ca,
            crl=tls.crl,
            client_auth="require" if tls.ca else "none",
            profile=tls.profile,
        ).load()
    except MisuseError as error:
        raise click.ClickException(str(error)) from error
