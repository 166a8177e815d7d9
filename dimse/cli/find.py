"""`dimse find`: C-FIND (PS3.4 C.4.1, K.4.1)."""

import click

from dimse.cli.finding import OutputOf, run_query, takes_output
from dimse.cli.options import Target, takes_target
from dimse.cli.query import Extended, Query, takes_query
from dimse.services.extended import QueryOptions, WorklistOptions
from dimse.sop_classes import MODALITY_WORKLIST


@click.command("find")
@takes_target
@takes_query("PSOW", ask=lambda keys: not keys.returns)
@click.option("--relational", is_flag=True, help="Negotiate relational queries.")
@click.option("--fuzzy", is_flag=True, help="Negotiate fuzzy matching of person names.")
@click.option("--datetime", is_flag=True, help="Negotiate combined matching of dates and times.")
@click.option("--timezone", is_flag=True, help="Negotiate adjustment of time zones.")
@takes_output
def command(
    target: Target,
    query: Query,
    relational: bool,
    fuzzy: bool,
    datetime: bool,
    timezone: bool,
    output_of: OutputOf,
    cancel: int | None,
) -> None:
    """Query the peer at HOST and PORT (C-FIND).

    A key with a value is to be matched, one without is asked for. With none to ask for, the
    usual ones of the level are. Matches are printed as a table on a terminal, else a line each.
    """
    extended: Extended
    if query.model is MODALITY_WORKLIST:
        if relational or datetime:
            raise click.UsageError(
                "-W goes with --fuzzy and --timezone alone: a worklist has no other (PS3.4 K.5.1)"
            )
        extended = WorklistOptions(fuzzy_names=fuzzy, timezone=timezone)
    else:
        extended = QueryOptions(
            relational=relational,
            combined_date_time=datetime,
            fuzzy_names=fuzzy,
            timezone=timezone,
        )
    run_query(target, query, extended, output_of, cancel)
