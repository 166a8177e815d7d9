"""What `twistd dimse` and `dimse serve` run."""

import logging
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python.usage import UsageError

from dimse.acceptor import AcceptorFactory
from dimse.errors import MisuseError
from dimse.implementation import CALLING_AE_TITLE
from dimse.listening import server_endpoint
from dimse.performing import SCP
from dimse.security.trail import AuditTrail
from dimse.server.auditing import AuditedStore, audit_trail
from dimse.server.config import Configuration
from dimse.server.identity import Users
from dimse.server.node import Node, NotStartedError
from dimse.server.options import Options
from dimse.server.peers import PeerBook
from dimse.server.process import count_steadily, own_process
from dimse.server.reload import renew
from dimse.server.tls import Secured
from dimse.services.verification import VerificationSCP

try:
    from dimse.archive.archive import Archive
except ImportError as error:  # what the library alone does not need is not there
    raise UsageError(f"the node needs pip install 'dimse[server]' ({error})") from error

__all__ = ["Node", "Options", "makeService", "rebuild_index"]


def makeService(options: Options) -> Node:
    """The node that `options` describe, on the reactor that runs, in a process of its own.

    With a configuration file SIGHUP renews its peers and where its certificates are, with one of
    passwords or of keys its users, and with TLS its certificates, those for its collector of audit
    records too. pydicom, whose warnings quote what comes, falls silent in the whole process. Raises
    `NotStartedError` for what cannot be read or used.
    """
    try:
        return _made(options)
    except MisuseError as error:
        raise NotStartedError(error) from error


def _made(options: Options) -> Node:
    _silence_pydicom()
    if options.parent is not None:  # twistd's
        options.threshold.before()
    from twisted.internet import reactor  # late, for whoever imports it installs it

    clock: Any = reactor
    count_steadily(clock)
    configuration, limits = options.configuration, options.configuration.limits
    tls = options.tls
    trail = audit_trail(configuration, tls, clock)
    peers = _peers(options, clock)
    archive = _archive(configuration, peers, trail, clock)
    scps = [VerificationSCP(), *_services(archive, configuration, peers)]
    admissions = partial(peers.admission, scps)
    verify = configuration.identity.verify
    users = Users(configuration.identity, clock, trail) if verify else None
    factory = AcceptorFactory(
        scps,
        ae_titles=configuration.ae_titles,
        limits=limits,
        clock=clock,
        admit=users.identification.admit(admissions) if users else admissions,
        audit=trail,
    )
    renewable = options.file is not None or users is not None or tls.in_use
    node = Node(
        factory,
        archive if trail is None else AuditedStore(archive, trail),
        _endpoints(configuration, tls, clock),
        renew=partial(renew, options, peers, users) if renewable else None,
        on_state=own_process(clock, limits),
    )
    peers.tell()
    tls.tell()
    peers.names.setServiceParent(node)  # type: ignore[no-untyped-call]  # Twisted's is untyped
    return node


def _peers(options: Options, clock: Any) -> PeerBook:
    configuration = options.configuration
    return PeerBook(
        configuration.peers,
        configuration.limits,
        configuration.unlisted,
        options.tls.client,
        clock=clock,
        ae_titles=configuration.ae_titles,
        uniform=configuration.uniform_refusals,
    )


def _archive(
    configuration: Configuration, peers: PeerBook, trail: AuditTrail | None, clock: Any
) -> Archive:
    return Archive(
        configuration.folder,
        index=configuration.index,
        durability=configuration.durability,
        duplicates=configuration.duplicates,
        limits=configuration.limits,
        unknown_matches=configuration.unknown_matches,
        forget_lost=configuration.forget_lost,
        worklist=configuration.worklist,
        study_timeout=configuration.study_timeout,
        notified=peers.notified,
        audit=trail,
        clock=clock,
    )


def _services(archive: Archive, configuration: Configuration, peers: PeerBook) -> list[SCP]:
    return archive.scps(
        destinations=peers.destination,
        reports=peers.place,
        ae_title=None if configuration.ae_titles else CALLING_AE_TITLE,
        transfer_syntaxes=configuration.transfer_syntaxes or None,
        promiscuous=configuration.promiscuous,
    )


def _endpoints(
    configuration: Configuration, tls: Secured, reactor: Any
) -> list[IStreamServerEndpoint]:
    endpoints = [server_endpoint(each, reactor) for each in configuration.endpoints]
    for each in configuration.tls_endpoints:
        assert tls.server is not None
        endpoints.append(tls.server.secured(server_endpoint(each, reactor), reactor))
    return endpoints


def _silence_pydicom() -> None:
    """Nothing of what peers send enters the log. For good, and not around each call: threads
    convert instances, and `catch_warnings` is not for those."""
    warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)


def rebuild_index(
    folder: Path, index: str | None, progress: Callable[[int], None]
) -> tuple[int, int]:
    """Make the index of the store in `folder` again, as `Archive.rebuild` does."""
    if not (folder / "objects").is_dir():
        raise MisuseError(f"{folder} is no store of instances: it has no objects")
    return Archive(folder, index=index).rebuild(progress)
