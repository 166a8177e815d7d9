"""The service of a DICOM node: `twistd dimse`, or part of an application of yours."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from twisted.application.internet import StreamServerEndpointService as _Listening
from twisted.application.service import MultiService
from twisted.application.strports import service as listening_service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger

from dimse.acceptor import AcceptorFactory
from dimse.archive.files import FileStore
from dimse.errors import MisuseError
from dimse.server.options import Options
from dimse.services.storage import StorageSCP
from dimse.services.verification import VerificationSCP

__all__ = ["Node", "Options", "makeService"]


class Node(MultiService):
    """Listens on some endpoints for one acceptor and its store.

    The ports are bound with the privileges that `twistd --uid` gives up afterwards; the store is
    opened without them. Stopping lets open associations finish, for `Limits.grace` seconds.
    """

    _log = Logger()

    def __init__(
        self,
        factory: AcceptorFactory,
        store: FileStore,
        endpoints: Iterable[str | IStreamServerEndpoint],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's is untyped
        self._factory = factory
        self._store = store
        self._bound = False  # a port that never listened cannot be stopped
        for endpoint in endpoints:
            listening: Any = listening_service if isinstance(endpoint, str) else _Listening
            listening(endpoint, factory).setServiceParent(self)

    def privilegedStartService(self) -> None:
        """Bind the ports."""
        self._bound = True
        super().privilegedStartService()  # type: ignore[no-untyped-call]  # Twisted's is untyped

    def startService(self) -> None:
        """Open the store, then take associations; raises `MisuseError` if there is no store."""
        try:
            self._store.open()
        except MisuseError:
            self._unbind()
            raise
        self._bound = True
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's is untyped
        self._log.info(
            "dimse {version}: instances go to {folder}, durability {durability}",
            version=version("dimse"),
            folder=self._store.folder.absolute(),
            durability=self._store.durability,
        )

    def stopService(self) -> Deferred[None]:
        """Stop listening, drain, close the store; fires when all is done."""
        stopped = self._unbind().addCallback(
            lambda _: self._factory.drain(self._factory.limits.grace)
        )
        return stopped.addCallback(lambda _: self._store.close())

    def _unbind(self) -> Deferred[Any]:
        if not self._bound:
            return succeed(None)
        self._bound = False
        return maybeDeferred(super().stopService)


def makeService(options: Options) -> Node:
    """The node that `options` describe, on the reactor that runs."""
    from twisted.internet import reactor  # late, for whoever imports it installs it

    clock: Any = reactor
    store = FileStore(
        options["storage"], durability=options["durability"], limits=options["limits"]
    )
    storage = StorageSCP(
        store,
        transfer_syntaxes=options["transfer-syntax"] or None,
        promiscuous=bool(options["promiscuous"]),
    )
    factory = AcceptorFactory(
        [VerificationSCP(), storage],
        ae_titles=options["aet"],
        limits=options["limits"],
        clock=clock,
    )
    return Node(factory, store, options["endpoints"])
