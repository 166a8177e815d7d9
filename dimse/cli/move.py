"""`dimse move`: C-MOVE (PS3.4 C.4.2)."""

from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from warnings import catch_warnings

import click
from twisted.internet.error import CannotListenError

from dimse.association import Association
from dimse.cli.endpoint import PeerEndpoint
from dimse.cli.options import Target, ae_title, takes_target
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
from dimse.cli.secured import server_context
from dimse.errors import DimseError
from dimse.requestor import associate
from dimse.security.tls import ServerContext
from dimse.services.extended import RetrieveOptions
from dimse.services.retrieve import move, move_here
from dimse.services.storage import InstanceStore


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the instances go: to an AE title, and if that is us, into a store behind a port."""

    title: str
    port: int | None = None
    store: InstanceStore | None = None
    tls: ServerContext | None = None


@click.command("move")
@takes_target
@click.option(
    "-aem",
    "--move-aet",
    "title",
    metavar="AE",
    callback=ae_title,
    help="AE title of the destination, which the peer has to know.",
)
@takes_query("PSO", ask=lambda _: False)
@click.option(
    "--store-port",
    "+P",
    "store_port",
    metavar="P",
    type=click.IntRange(1, 2**16 - 1),
    help="Receive the instances here, on that port of every IPv4 interface; "
    "then -aem is our own AE title unless given.",
)
@click.option(
    "--store-tls", is_flag=True, help="Receive them over TLS, with the certificate of --tls-cert."
)
@takes_folder
@relational_option
def command(
    target: Target,
    title: str | None,
    query: Query,
    store_port: int | None,
    store_tls: bool,
    folder: Path | None,
    ignore: bool,
    relational: bool,
) -> None:
    """Let the peer at HOST and PORT send instances to another node, or here (C-MOVE).

    The keys are unique keys, such as -k StudyInstanceUID=1.2.3; -L says of which level.
    """
    check_unique_keys(query)
    if store_port is None:
        if title is None:
            raise click.UsageError("-aem says where to, --store-port that it is here: give one")
        if folder is not None or ignore or store_tls:
            raise click.UsageError(
                "-od, --ignore and --store-tls are for what comes here, with --store-port"
            )
        destination = Destination(title)
    else:
        store = store_of(folder, ignore)
        tls = server_context(target.tls) if store_tls else None
        destination = Destination(title or target.calling_ae_title, store_port, store, tls)
    extended = RetrieveOptions(relational=relational)
    with catch_warnings(action="ignore"):  # pydicom's, which may quote what comes
        run(target, partial(_move, target, query, destination, extended))


async def _move(
    target: Target,
    query: Query,
    destination: Destination,
    extended: RetrieveOptions,
    endpoint: PeerEndpoint,
) -> int:
    sop_class = query.model.move
    with Bar(target.verbosity) as bar:
        received = Received(destination.store, bar) if destination.store is not None else None
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
            with Retrieving(target, bar, received) as retrieving:
                moving = _moving(association, query, destination, retrieving, received)
                return await retrieving.conclude(moving)


def _moving(
    association: Association,
    query: Query,
    destination: Destination,
    retrieving: Retrieving,
    received: Received | None,
) -> Awaitable[object]:
    identifier, title, sop_class = query.identifier, destination.title, query.model.move
    if received is None:
        return retrieving.each(move(association, identifier, title, sop_class))
    return _receiving(
        move_here(
            association,
            identifier,
            received,
            f"tcp:{destination.port}",
            sop_class,
            destination=title,
            progress=retrieving.follow,
            tls=destination.tls,
        )
    )


async def _receiving(moving: Awaitable[object]) -> None:
    try:
        await moving
    except CannotListenError as error:
        raise DimseError(f"--store-port {error.port}: {error.socketError}") from error
