"""The service of a DICOM node: `twistd dimse`, or part of an application of yours."""

from typing import Any

from twisted.application.service import MultiService
from twisted.application.strports import service as listening_service
from twisted.internet.defer import Deferred, maybeDeferred

from dimse.acceptor import AcceptorFactory
from dimse.archive.files import FileStore
from dimse.server.options import Options
from dimse.services.storage import StorageSCP
from dimse.services.verification import VerificationSCP

__all__ = ["Node", "Options", "makeService"]


class Node(MultiService):
    """Listens on some endpoints for one acceptor and its store.

    The ports are bound with the privileges that `twistd --uid` gives up afterwards; the store is
    opened without them. Stopping lets open associations finish, for `Limits.grace` seconds.
    """

    def __init__(self, factory: AcceptorFactory, store: FileStore, endpoints: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's is untyped
        self._factory = factory
        self._store = store
        for endpoint in endpoints:
            listening_service(endpoint, factory).setServiceParent(self)

    def startService(self) -> None:
        """Open the store, then take associations."""
        self._store.open()
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's is untyped

    def stopService(self) -> Deferred[None]:
        """Stop listening, drain, close the store; fires when all is done."""
        stopped = maybeDeferred(super().stopService)
        stopped.addCallback(lambda _: self._factory.drain(self._factory.limits.grace))
        return stopped.addCallback(lambda _: self._store.close())


def makeService(options: Options, reactor: Any = None) -> Node:
    """The node that `options` describe."""
    if reactor is None:  # late, for whoever imports it installs it
        from twisted.internet import reactor
    store = FileStore(
        options["storage"], durability=options["durability"], limits=options["limits"]
    )
    storage = StorageSCP(store, promiscuous=bool(options["promiscuous"]))
    factory = AcceptorFactory(
        [VerificationSCP(), storage],
        ae_titles=options["aet"],
        limits=options["limits"],
        clock=reactor,
    )
    return Node(factory, store, options["endpoints"])
