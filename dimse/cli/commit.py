"""`dimse commit`: storage commitment of what was sent (PS3.4 Annex J)."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from warnings import catch_warnings

import click
from pydicom.uid import UID
from twisted.internet.error import CannotListenError

from dimse.association import Association
from dimse.cli.endpoint import PeerEndpoint
from dimse.cli.options import Target, Verbosity, takes_target
from dimse.cli.running import FAILED, run, say
from dimse.cli.secured import server_context
from dimse.errors import DimseError
from dimse.listening import Listener, listen
from dimse.requestor import associate
from dimse.security.tls import ServerContext
from dimse.services.commitment import CommitmentSCU, commit, request_commitment
from dimse.services.commitment_information import CommitmentResult, FailureReason, Reference
from dimse.services.instance import Instance
from dimse.services.sending import find_files
from dimse.services.verification import VerificationSCP
from dimse.sop_classes import STORAGE_COMMITMENT_PUSH
from dimse.uids import is_uid


def _references(
    context: click.Context, parameter: click.Parameter, pairs: Iterable[str]
) -> list[Reference]:
    references = []
    for pair in pairs:
        sop_class, _, instance = pair.partition(":")
        if not (is_uid(sop_class) and is_uid(instance)):
            raise click.BadParameter(f"{pair!r} is not SOP Class UID:SOP Instance UID")
        references.append(Reference(sop_class, instance))
    return references


@click.command("commit")
@takes_target
@click.option(
    "--uid",
    "references",
    metavar="CLASS:INSTANCE",
    multiple=True,
    callback=_references,
    help="An instance by its SOP Class UID and SOP Instance UID, in place of a file.",
)
@click.option(
    "--wait",
    metavar="S",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for the result; 0 for not at all.",
)
@click.option(
    "--listen",
    "own_port",
    metavar="PORT",
    type=click.IntRange(1, 2**16 - 1),
    help="Take the result on an association of the peer, too, at this port of ours.",
)
@click.option(
    "--listen-tls", is_flag=True, help="Do so over TLS, with the certificate of --tls-cert."
)
@click.argument(
    "paths", metavar="[PATH...]", nargs=-1, type=click.Path(exists=True, path_type=Path)
)
def command(
    target: Target,
    references: list[Reference],
    wait: float,
    own_port: int | None,
    listen_tls: bool,
    paths: tuple[Path, ...],
) -> None:
    """Ask the peer at HOST and PORT to keep instances that it has (storage commitment).

    The instances are those of the files, and of the files in folders and below, and what --uid
    names. The exit code is 0 when the peer has committed itself to keep all of them; with --wait 0,
    when it has taken the request.
    """
    if listen_tls and own_port is None:
        raise click.UsageError("--listen-tls is for --listen")
    wanted = [*references, *_found(paths)]
    if not wanted:
        raise click.UsageError("no instance to commit: give files, or --uid")
    tls = server_context(target.tls) if listen_tls else None
    run(target, partial(_commit, target, wanted, wait, own_port, tls))


def _found(paths: Iterable[Path]) -> Iterable[Reference]:
    with catch_warnings(action="ignore"):  # pydicom's, which may quote what is in a file
        for path in paths:
            for file in find_files(path):
                try:
                    instance = Instance.of(file)
                except DimseError as error:
                    say(f"{error} (skipped)")
                else:
                    yield Reference(instance.sop_class_uid, instance.sop_instance_uid)


async def _commit(
    target: Target,
    references: list[Reference],
    wait: float,
    own_port: int | None,
    tls: ServerContext | None,
    endpoint: PeerEndpoint,
) -> int:
    scu = CommitmentSCU()
    listener: Listener | None = None
    if own_port is not None:
        try:
            listener = await listen(f"tcp:{own_port}", [VerificationSCP(), scu], tls=tls)
        except CannotListenError as error:
            say(f"Error: {error}")
            return FAILED
    try:
        association = await associate(
            endpoint,
            [STORAGE_COMMITMENT_PUSH],
            called_ae_title=target.called_ae_title,
            calling_ae_title=target.calling_ae_title,
            user_identity=target.user_identity,
            limits=replace(target.limits, idle=max(target.limits.idle, wait + 1)),
            scps=[scu] if listener else [],
        )
        try:
            code = await _ask(target, association, scu if listener else None, references, wait)
            if association.ended is None:
                await association.release()
        finally:
            association.abort()  # has no effect on one that is released
    finally:
        if listener is not None:
            await listener.stop(grace=1)
    return code


async def _ask(
    target: Target,
    association: Association,
    scu: CommitmentSCU | None,
    references: list[Reference],
    wait: float,
) -> int:
    loud = target.verbosity is not Verbosity.QUIET
    if not wait:
        uid = await request_commitment(association, references)
        if loud:
            click.echo(f"requested, Transaction UID {uid}")
        return 0
    if scu is None:
        result = await commit(association, references, wait=wait)
    else:
        result = await scu.commit(association, references, wait=wait)
    for reference, reason in result.failed.items():
        say(f"{_name(reference)}: {_reason(reason)}")
    for reference in result.unanswered:
        say(f"{_name(reference)}: not mentioned in the result")
    if loud:
        click.echo(_sum(result))
    return 0 if result.ok else FAILED


def _name(reference: Reference) -> str:
    return f"{UID(reference.sop_class_uid).name} {reference.sop_instance_uid}"


def _reason(code: int) -> str:
    """A Failure Reason (0008,1197), in words where it is one of PS3.3 C.14.1.1."""
    words = {each.value: each.name.lower().replace("_", " ") for each in FailureReason}
    return f"0x{code:04X}" + (f" ({words[code]})" if code in words else "")


def _sum(result: CommitmentResult) -> str:
    left = f", {len(result.unanswered)} not mentioned" if result.unanswered else ""
    title = result.retrieve_ae_title
    return f"{len(result.committed)} committed, {len(result.failed)} failed{left}" + (
        f"; retrieve from {title}" if title else ""
    )
