"""`dimse schedule`: the worklist of a node, which may run meanwhile."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from twisted.python.usage import UsageError

from dimse.errors import DimseError

try:
    from dimse.server import schedule
except UsageError as error:  # the extra is not installed
    raise click.ClickException(str(error)) from error


def _takes_index(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--index", metavar="URL", help="The index of the node, where it has its own."),
        click.option(
            "--storage",
            metavar="DIR",
            default=Path("dimse-storage"),
            show_default=True,
            type=click.Path(path_type=Path),
            help="The folder of the node.",
        ),
    ):
        function = option(function)
    return function


def _failing(step: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return step(*arguments)
    except DimseError as error:
        raise click.ClickException(str(error)) from error


@click.group("schedule")
def command() -> None:
    """Look after the worklist of a node: what is scheduled.

    dimse worklist asks a node for it. The node may run meanwhile.
    """


@command.command()
@_takes_index
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
def add(storage: Path, index: str | None, files: tuple[Path, ...]) -> None:
    """Add the items in FILEs, DICOM or DICOM JSON.

    One of the same Study Instance UID and Scheduled Procedure Step ID is renewed. When anything
    is wrong none is added.
    """
    click.echo(f"{_failing(schedule.add, storage, index, files)} items added")


@command.command("list")
@_takes_index
def show(storage: Path, index: str | None) -> None:
    """List the items, one a line, with tabs between the columns."""
    items = _failing(lambda: list(schedule.listed(storage, index)))
    for values in (schedule.COLUMNS, *items):
        click.echo("\t".join(values))


@command.command()
@_takes_index
@click.argument("study", metavar="STUDY_UID")
@click.argument("step", metavar="STEP_ID")
def remove(storage: Path, index: str | None, study: str, step: str) -> None:
    """Remove the item of that study and Scheduled Procedure Step ID; exit code 1 without one."""
    if not _failing(schedule.remove, storage, index, study, step):
        raise click.ClickException("there is no such item")
