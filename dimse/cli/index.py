"""`dimse index`: what is done with the index of a node that does not run."""

import sys
from pathlib import Path
from typing import cast

import click
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.usage import UsageError

from dimse.cli.running import FAILED
from dimse.errors import DimseError
from dimse.server.config import read_configuration

try:
    from dimse.server.service import rebuild_index
except UsageError as error:  # the extra is not installed
    raise click.ClickException(str(error)) from error


@click.group("index")
def command() -> None:
    """Look after the index of a node."""


@command.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The configuration of the node: store and index are what it says.",
)
@click.option("--index", metavar="URL", help="Its database, unless that is index.sqlite in DIR.")
def rebuild(folder: Path | None, file: Path | None, index: str | None) -> None:
    """Make the index of the store in DIR again, from its files alone.

    No server may run on it. A node that has a configuration file may have its index elsewhere:
    give that file instead of DIR. Stderr tells which index is made. Exit code 1 tells that files
    are damaged, or cannot be read, and stderr which.
    """
    if (folder is None) == (file is None):
        raise click.UsageError("either DIR or --config is needed")
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    try:
        if folder is None:
            node = read_configuration(cast(Path, file))
            folder, index = node.folder, index or node.index
        count, damaged = rebuild_index(folder, index, _show)
    except DimseError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{count} instances are in the index, {damaged} files are damaged or unreadable")
    if damaged:
        raise SystemExit(FAILED)


def _show(done: int) -> None:
    """How far it is, on a terminal."""
    if sys.stderr.isatty():
        click.echo(f"\r{done} files", nl=False, err=True)
