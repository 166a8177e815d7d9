"""`dimse echo`: C-ECHO (PS3.4 Annex A)."""

from functools import partial
from time import perf_counter

import click

from dimse.cli.endpoint import PeerEndpoint
from dimse.cli.options import Target, Verbosity, takes_target
from dimse.cli.running import run
from dimse.requestor import associate
from dimse.services.verification import echo


@click.command("echo")
@takes_target
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many times to ask, in one association.",
)
@click.option("--abort", is_flag=True, help="Abort the association instead of releasing it.")
def command(target: Target, repeat: int, abort: bool) -> None:
    """Ask the peer at HOST and PORT whether it is there (C-ECHO)."""
    run(target, partial(_echo, target, repeat, abort))


async def _echo(target: Target, repeat: int, abort: bool, endpoint: PeerEndpoint) -> int:
    association = await associate(
        endpoint,
        called_ae_title=target.called_ae_title,
        calling_ae_title=target.calling_ae_title,
        user_identity=target.user_identity,
        limits=target.limits,
    )
    try:
        for _ in range(repeat):
            begun = perf_counter()
            status = await echo(association)
            took = (perf_counter() - begun) * 1000
            if target.verbosity is not Verbosity.QUIET:
                click.echo(f"C-ECHO {target}: {status} in {took:.1f} ms")
        if not abort:
            await association.release()
    finally:
        association.abort()  # has no effect on one that is released
    return 0
