"""What `dimse find` and `dimse worklist` share: C-FIND, and the options for its answers."""

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any, NoReturn
from warnings import catch_warnings

import click

from dimse.cli.endpoint import PeerEndpoint
from dimse.cli.matches import Columns, Csv, Files, Json, Lines, Output, is_terminal
from dimse.cli.options import Command, Target, Verbosity
from dimse.cli.query import Extended, Query, offer, say_not_agreed
from dimse.cli.running import run, say
from dimse.requestor import associate
from dimse.services.query import find

OutputOf = Callable[[Query, frozenset[str]], Output]


def takes_output(command: Command) -> Command:
    """Give a command --json, --csv, -od and --cancel; it gets a function that makes the `Output`
    of a query, without some columns where a person reads, and the number of `cancel`."""

    @wraps(command)
    def call(target: Target, form: str | None, folder: Path | None, **given: Any) -> None:
        if form is not None and folder is not None:
            raise click.UsageError(f"--{form} prints the matches, -od writes files: choose one")
        command(target, output_of=partial(_output, form, folder), **given)

    for option in reversed(_OUTPUT_OPTIONS):
        call = option(call)
    return call


_OUTPUT_OPTIONS = (
    click.option("--json", "form", flag_value="json", help="Print DICOM JSON, a match a line."),
    click.option("--csv", "form", flag_value="csv", help="Print CSV with a header line."),
    click.option(
        "-od",
        "--output-directory",
        "folder",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        help="Write a DICOM file for each match, rsp00001.dcm and so on.",
    ),
    click.option(
        "--cancel",
        metavar="N",
        type=click.IntRange(min=1),
        help="Send C-CANCEL after N matches.",
    ),
)


def _output(form: str | None, folder: Path | None, query: Query, hidden: frozenset[str]) -> Output:
    if folder is not None:
        return Files(folder, query.model.find)
    if form == "json":
        return Json()
    if form == "csv":
        return Csv(query.columns)
    if is_terminal():
        return Columns(tuple(path for path in query.columns if str(path) not in hidden))
    return Lines(query.columns)


def run_query(
    target: Target,
    query: Query,
    extended: Extended,
    output_of: OutputOf,
    cancel: int | None,
    hidden: frozenset[str] = frozenset(),
) -> NoReturn:
    """Ask the peer, and exit."""
    with catch_warnings(action="ignore"):  # pydicom's, which may quote what comes
        run(target, partial(_query, target, query, extended, output_of, cancel, hidden))


async def _query(
    target: Target,
    query: Query,
    extended: Extended,
    output_of: OutputOf,
    cancel: int | None,
    hidden: frozenset[str],
    endpoint: PeerEndpoint,
) -> int:
    sop_class = query.model.find
    output, count = output_of(query, hidden), 0
    async with associate(
        endpoint,
        [sop_class],
        called_ae_title=target.called_ae_title,
        calling_ae_title=target.calling_ae_title,
        user_identity=target.user_identity,
        limits=target.limits,
        extended=offer(sop_class, extended),
    ) as association:
        say_not_agreed(target, association, sop_class, extended)
        matches = find(association, query.identifier, sop_class)
        try:
            async for match in matches:
                if count == cancel:
                    continue  # it was on its way
                count += 1
                output.add(match, count)
                if count == cancel:
                    matches.cancel()
        finally:
            output.end()
            if matches.unsupported_keys:
                say(f"{target}: the peer did not match all keys (FF01H)")
    if target.verbosity is not Verbosity.QUIET and (is_terminal() or isinstance(output, Files)):
        sum_up = f"{count} match" if count == 1 else f"{count} matches"
        click.echo(sum_up, err=not isinstance(output, Files))
    return 0
