"""The way to the peer, and what a user wants to hear of the associations on it."""

from typing import Any

from pydicom.uid import UID
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from dimse.association import Association
from dimse.cli.options import Target
from dimse.errors import AssociationError
from dimse.requestor import RequestorFactory
from dimse.security.tls import ClientContext
from dimse.ul.protocol import UpperLayerProtocol

_FAREWELL = 1.0  # seconds that a peer has to close its connection after our A-ABORT


@implementer(IStreamClientEndpoint)
class PeerEndpoint:
    """Connects to the peer; logs what becomes of the associations, and sees them close."""

    _log = Logger()

    def __init__(self, target: Target, reactor: Any, tls: ClientContext | None = None) -> None:
        self._target = target
        self._tls = tls
        self._reactor = reactor
        self._closing: list[Deferred[None]] = []
        self._association: Association | None = None
        self._transport: Any = None

    def __str__(self) -> str:
        """What errors call it: which one it is, `Target.explain` says already."""
        return "the peer"

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect for one association."""
        assert isinstance(factory, RequestorFactory)
        self._association = None
        with_tls = " with TLS" if self._tls is not None else ""
        self._log.info("connecting to {address}{tls}", address=self._target.address, tls=with_tls)
        factory.established.addCallback(self._established)
        timeout = self._target.limits.connect
        endpoint: IStreamClientEndpoint = HostnameEndpoint(
            self._reactor, self._target.host, self._target.port, timeout=timeout
        )
        if self._tls is not None:
            endpoint = self._tls.secured(endpoint, self._target.host, self._reactor)
        return endpoint.connect(factory).addCallback(self._connected)

    def ended_by(self, error: AssociationError) -> bool:
        """Whether `error` ended the last association, or else kept one from coming about."""
        return self._association is not None and self._association.ended is error

    async def closed(self) -> None:
        """Wait for the connections to close, but not for long.

        A reactor that stops drops what it has not written, and that may be an A-ABORT.
        """
        waiting = DeferredList(self._closing, consumeErrors=True)
        await waiting.addTimeout(_FAREWELL, self._reactor)

    def _connected(self, protocol: IProtocol) -> IProtocol:
        assert isinstance(protocol, UpperLayerProtocol)
        self._closing.append(protocol.when_closed())
        self._transport = protocol.transport
        return protocol

    def _established(self, association: Association) -> Association:
        self._association = association
        self._log.info("associated with {peer}", peer=association.peer)
        if self._tls is not None:
            agreed = self._transport.getHandle()
            version, suite = agreed.get_protocol_version_name(), agreed.get_cipher_name()
            self._log.info("{version}, {suite}", version=version, suite=suite)
        for context in association.contexts.values():
            self._log.info(
                "context {id}: {abstract_syntax}, {transfer_syntax}",
                id=context.context_id,
                abstract_syntax=UID(context.abstract_syntax).name,
                transfer_syntax=UID(context.transfer_syntax).name,
            )
        for refused in association.refused:
            self._log.info("refused {refused}", refused=refused)
        self._say_identified(association)
        association.when_ended().addCallback(self._ended)
        return association

    def _say_identified(self, association: Association) -> None:
        """Not what the peer answered: that may be a ticket."""
        identity = self._target.user_identity
        if identity is None or not identity.response_requested:
            return
        answer = association.peer_information.user_identity_response
        if answer is None:
            self._log.info("the peer does not say whether it verified the user")
        else:
            self._log.info(
                "the peer has verified the user; its response has {length} bytes",
                length=len(answer.response),
            )

    def _ended(self, reason: AssociationError) -> None:
        self._log.info("{reason}", reason=reason.args[0])
