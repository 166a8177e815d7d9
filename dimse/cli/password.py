"""`dimse password`: the passcodes of the users of a node (PS3.15 B.5)."""

import sys
from pathlib import Path

import click

from dimse.errors import MisuseError
from dimse.security.passwords import write_password


@click.command("password")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("user")
def command(file: Path, user: str) -> None:
    """Give USER a passcode in FILE, which `dimse serve --passwords FILE` checks users against.

    The passcode is asked for; without a terminal it is the first line of the standard input. The
    file is made if there is none, readable by its owner alone. A node that runs takes what it says
    after SIGHUP. To take a user away, delete the line.
    """
    if _at_a_terminal():
        passcode = click.prompt("Passcode", hide_input=True, confirmation_prompt=True, err=True)
    else:
        passcode = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    try:
        is_new = write_password(file, user, passcode)
    except MisuseError as error:
        raise click.UsageError(str(error)) from error
    click.echo(f"{file}: {user} {'is new' if is_new else 'has a new passcode'}")


def _at_a_terminal() -> bool:
    return sys.stdin.isatty()
