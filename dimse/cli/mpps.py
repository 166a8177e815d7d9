"""`dimse mpps`: report a performed procedure step (PS3.4 Annex F)."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import click
from pydicom import Dataset

from dimse.association import Association
from dimse.cli.endpoint import PeerEndpoint
from dimse.cli.keys import KeyInvalid, Keys
from dimse.cli.options import Target, Verbosity, takes_target
from dimse.cli.running import run
from dimse.requestor import associate
from dimse.services.normalized import n_set
from dimse.services.procedure_step import (
    COMPLETED,
    DISCONTINUED,
    IN_PROGRESS,
    begin_step,
    complete_step,
    discontinue_step,
)
from dimse.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP
from dimse.uids import is_uid

_ENDS = {COMPLETED: complete_step, DISCONTINUED: discontinue_step}


def _uid(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not is_uid(value):
        raise click.BadParameter(f"{value!r} is no UID (PS3.5 9.1)")
    return value


@click.command("mpps")
@takes_target
@click.option(
    "-k",
    "--key",
    "keys",
    metavar="KEY=VALUE",
    multiple=True,
    help="An attribute, by keyword, tag (0040,0253) or path (Sequence[0].Keyword).",
)
@click.option(
    "-f",
    "--file",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take attributes from a DICOM file or a file of DICOM JSON; -k wins over it.",
)
@click.option(
    "--status",
    type=click.Choice([IN_PROGRESS, *_ENDS], case_sensitive=False),
    help="What the step becomes with `set`; unless given, it stays IN PROGRESS.",
)
@click.argument("action", type=click.Choice(["create", "set"]))
@click.argument("uid", required=False, callback=_uid)
def command(
    target: Target,
    keys: tuple[str, ...],
    files: tuple[Path, ...],
    status: str | None,
    action: str,
    uid: str | None,
) -> None:
    """Tell the peer at HOST and PORT of a procedure step: that it begins, or what became of it.

    `create` (N-CREATE) begins one, with the SOP Instance UID if there is one, and prints that.
    Status, our AE title, the time, and attributes that may be without value are added. `set UID`
    (N-SET) changes it; with --status COMPLETED or DISCONTINUED it ends, now.
    """
    attributes = _attributes(files, keys)
    if action == "create" and status not in (None, IN_PROGRESS):
        raise click.BadParameter(
            f"a step begins {IN_PROGRESS} (PS3.4 F.7.2)", param_hint="--status"
        )
    if action == "set" and uid is None:
        raise click.UsageError("set needs the UID of the step")
    if action == "set" and status is None and not attributes:
        raise click.UsageError("nothing to set: give --status, -k or -f")
    run(target, partial(_report, target, action, attributes, uid, status))


def _attributes(files: Iterable[Path], keys: Iterable[str]) -> Dataset:
    given, option = Keys(), "-f"
    try:
        for file in files:
            given.add_file(file)
        option = "-k"
        for key in keys:
            given.add(key)
        return given.identifier()
    except KeyInvalid as error:
        raise click.BadParameter(str(error), param_hint=option) from error


async def _report(
    target: Target,
    action: str,
    attributes: Dataset,
    uid: str | None,
    status: str | None,
    endpoint: PeerEndpoint,
) -> int:
    async with associate(
        endpoint,
        [MODALITY_PERFORMED_PROCEDURE_STEP],
        called_ae_title=target.called_ae_title,
        calling_ae_title=target.calling_ae_title,
        user_identity=target.user_identity,
        limits=target.limits,
    ) as association:
        if action == "create":
            said = await begin_step(association, attributes, uid)
        else:
            assert uid is not None
            said = await _set(association, attributes, uid, status)
    if target.verbosity is not Verbosity.QUIET:
        click.echo(said)
    return 0


async def _set(association: Association, attributes: Dataset, uid: str, status: str | None) -> str:
    if status in _ENDS:
        reply = await _ENDS[status](association, uid, attributes)
    else:
        if status is not None:
            attributes.PerformedProcedureStepStatus = status
        reply = await n_set(association, MODALITY_PERFORMED_PROCEDURE_STEP, uid, attributes)
    return f"{uid}: {reply.status}"
