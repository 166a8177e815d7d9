"""`dimse get`: C-GET (PS3.4 C.4.3)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from warnings import catch_warnings

import click
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dimse.cli.endpoint import PeerEndpoint
from dimse.cli.options import Command, Target, takes_target
from dimse.cli.progress import Bar
from dimse.cli.query import Query, offer, say_not_agreed, takes_query
from dimse.cli.retrieving import (
    Received,
    Retrieving,
    check_unique_keys,
    relational_option,
    store_of,
    takes_folder,
)
from dimse.cli.running import run
from dimse.requestor import DEFAULT_TRANSFER_SYNTAXES, ProposedContext, associate
from dimse.services.extended import RetrieveOptions
from dimse.services.retrieve import get, get_contexts
from dimse.services.storage import InstanceStore
from dimse.uids import is_uid


def _uids(kind: str) -> Callable[..., tuple[str, ...]]:
    """What makes UIDs of UIDs and of the keywords that PS3.6 has for that kind."""
    known = {entry[4]: uid for uid, entry in UID_dictionary.items() if entry[1] == kind}

    def callback(
        context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
    ) -> tuple[str, ...]:
        uids = tuple(known.get(value, value) for value in values)
        for uid in uids:
            if not is_uid(uid):
                raise click.BadParameter(
                    f"{uid!r} is neither a UID nor the keyword of a {kind.lower()} (PS3.6 A)"
                )
        return uids

    return callback


def _syntax_option(name: str, **attributes: Any) -> Callable[[Command], Command]:
    return click.option(
        name, "syntaxes", multiple=True, callback=_uids("Transfer Syntax"), **attributes
    )


@click.command("get")
@takes_target
@takes_query("PSO", ask=lambda _: False)
@takes_folder
@click.option(
    "--sop-class",
    "sop_classes",
    metavar="UID",
    multiple=True,
    callback=_uids("SOP Class"),
    help="Take instances of that SOP class, by UID or keyword; may be repeated. "
    "Unless given, of all that are in use, as far as an association holds them.",
)
@_syntax_option(
    "--transfer-syntax",
    metavar="UID",
    help="Take instances in that transfer syntax, by UID or keyword; may be repeated, "
    "in order of preference. Unless given, as with -xe -xi.",
)
@_syntax_option("-xe", flag_value=ExplicitVRLittleEndian, help="As explicit VR little endian.")
@_syntax_option("-xb", flag_value=ExplicitVRBigEndian, help="As explicit VR big endian.")
@_syntax_option("-xi", flag_value=ImplicitVRLittleEndian, help="As implicit VR little endian.")
@relational_option
def command(
    target: Target,
    query: Query,
    folder: Path | None,
    ignore: bool,
    sop_classes: tuple[str, ...],
    syntaxes: tuple[str, ...],
    relational: bool,
) -> None:
    """Fetch instances from the peer at HOST and PORT, on the same association (C-GET).

    The keys are unique keys, such as -k StudyInstanceUID=1.2.3; -L says of which level. An
    instance that is there already stays as it is: the same again counts as received, another one
    under its UID as failed.
    """
    check_unique_keys(query)
    contexts = get_contexts(query.model, sop_classes or None, syntaxes or DEFAULT_TRANSFER_SYNTAXES)
    store, extended = store_of(folder, ignore), RetrieveOptions(relational=relational)
    with catch_warnings(action="ignore"):  # pydicom's, which may quote what comes
        run(target, partial(_get, target, query, store, contexts, extended))


async def _get(
    target: Target,
    query: Query,
    store: InstanceStore,
    contexts: list[ProposedContext],
    extended: RetrieveOptions,
    endpoint: PeerEndpoint,
) -> int:
    sop_class = query.model.get
    with Bar(target.verbosity) as bar:
        received = Received(store, bar)
        async with associate(
            endpoint,
            contexts,
            called_ae_title=target.called_ae_title,
            calling_ae_title=target.calling_ae_title,
            user_identity=target.user_identity,
            limits=target.limits,
            extended=offer(sop_class, extended),
        ) as association:
            say_not_agreed(target, association, sop_class, extended)
            with Retrieving(target, bar, received) as retrieving:
                retrieval = get(association, query.identifier, received, sop_class)
                return await retrieving.conclude(retrieving.each(retrieval))
