"""The audit trail of a node, as its configuration says."""

import socket
from typing import Any

from twisted.internet.defer import Deferred

from dimse.errors import MisuseError
from dimse.security.spool import Forwarder, Spool
from dimse.security.syslog import AuditFile, Collector, Sender, TLSSender, UDPSender
from dimse.security.trail import AuditTrail, Outlet
from dimse.server.config import Configuration
from dimse.server.node import Store
from dimse.server.tls import Secured

_SPOOL = "audit-spool"  # in the storage folder


def audit_trail(configuration: Configuration, tls: Secured, clock: Any) -> AuditTrail | None:
    """None where records go nowhere; raises `MisuseError` for a file of TLS that is wrong."""
    rules, outlets = configuration.audit, list[Outlet]()
    if rules.syslog is not None:
        spool = Spool(rules.spool or configuration.folder / _SPOOL, rules.spool_size)
        collector = Collector.at(rules.syslog)
        sender: Sender = UDPSender(collector, clock)
        if collector.scheme == "tls":
            sender = TLSSender(collector, tls.client(rules.ca), clock)
        outlets.append(Forwarder(spool, sender, rules.syslog, clock))
    if rules.file is not None:
        outlets.append(AuditFile(rules.file))
    if not outlets:
        return None
    titles = tuple(configuration.ae_titles)
    source_id = rules.source_id or (titles[0] if titles else socket.gethostname())
    return AuditTrail(outlets, source_id, ae_titles=titles, clock=clock)


class AuditedStore:
    """A store, and an audit trail that begins when it is open and ends when it is closed."""

    def __init__(self, store: Store, trail: AuditTrail) -> None:
        self._store = store
        self._trail = trail

    def open(self) -> None:
        """Raises `MisuseError` when one of them cannot be used; then both are closed."""
        self._store.open()
        try:
            self._trail.start()
        except MisuseError:
            self._store.close()
            raise

    def close(self) -> "Deferred[None]":
        """Fires when what is left is stored, and recorded."""

        def stop(outcome: Any) -> Deferred[Any]:
            return self._trail.stop().addCallback(lambda _: outcome)

        return self._store.close().addBoth(stop)

    def __str__(self) -> str:
        return f"{self._store}, audited"
