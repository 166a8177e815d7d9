"""`dimse worklist`: C-FIND of what is scheduled (PS3.4 K.4.1)."""

from datetime import date
from pathlib import Path

import click

from dimse.cli.finding import OutputOf, run_query, takes_output
from dimse.cli.options import Target, takes_target
from dimse.cli.query import RETURN_KEYS, SCHEDULED, make_query, takes_keys
from dimse.services.extended import WorklistOptions
from dimse.sop_classes import MODALITY_WORKLIST

_DATE, _, _MODALITY, _STATION, _ = SCHEDULED
_KEYS = {
    "--date": _DATE,
    "--modality": _MODALITY,
    "--station": _STATION,
    "--patient-id": "PatientID",
    "--patient-name": "PatientName",
}
_IN_THE_TABLE = ("PatientName", "PatientID", *SCHEDULED)


@click.command("worklist")
@takes_target
@click.option(
    "--date",
    "day",
    metavar="DATE",
    help="Scheduled on that day, YYYYMMDD or today, or on one of YYYYMMDD-YYYYMMDD.",
)
@click.option("--modality", help="Scheduled on that modality, such as CT.")
@click.option("--station", metavar="AE", help="Scheduled on the station of that AE title.")
@click.option("--patient-id", metavar="ID", help="Of the patient with that ID.")
@click.option("--patient-name", metavar="NAME", help="Of patients of that name.")
@takes_keys
@click.option("--fuzzy", is_flag=True, help="Negotiate fuzzy matching of person names.")
@click.option("--timezone", is_flag=True, help="Negotiate adjustment of time zones.")
@takes_output
def command(
    target: Target,
    day: str | None,
    modality: str | None,
    station: str | None,
    patient_id: str | None,
    patient_name: str | None,
    keys: tuple[str, ...],
    files: tuple[Path, ...],
    fuzzy: bool,
    timezone: bool,
    output_of: OutputOf,
    cancel: int | None,
) -> None:
    """Ask the peer at HOST and PORT what is scheduled (C-FIND of the Modality Worklist).

    On a terminal a table shows patient, time, modality, station and procedure; without one, and
    with --csv and --json, there is more.
    """
    if day == "today":
        day = f"{date.today():%Y%m%d}"
    values = (day, modality, station, patient_id, patient_name)
    options = zip(_KEYS.items(), values, strict=True)
    typed = [(option, f"{key}={value}") for (option, key), value in options if value is not None]
    typed += [("-k", key) for key in keys]
    query = make_query(MODALITY_WORKLIST, None, files, typed, ask=lambda _: True)
    extended = WorklistOptions(fuzzy_names=fuzzy, timezone=timezone)
    hidden = frozenset(RETURN_KEYS[""]).difference(_IN_THE_TABLE)
    run_query(target, query, extended, output_of, cancel, hidden)
