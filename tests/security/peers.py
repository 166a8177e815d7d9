"""TLS peers that do what a test says: none of our rules holds for them."""

from collections.abc import Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from dimse import ClientTLS, ServerTLS
from dimse.testing import Network, ScriptedPeer
from tests.certificates import PKI, Issued


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class Careless:
    """Shows any certificate, takes any, and speaks whatever OpenSSL still can."""

    def __init__(
        self,
        shown: Issued | None = None,
        *,
        versions: tuple[int, int] = (0, 0),
        suites: str = "ALL:eNULL",
        alpn: Sequence[bytes] = (),
    ) -> None:
        self.connections: list[SSL.Connection] = []
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(versions[0])
        context.set_max_proto_version(versions[1])
        context.set_cipher_list(f"{suites}:@SECLEVEL=0".encode())
        if shown is not None:
            context.use_certificate(shown.certificate)
            context.use_privatekey(shown.key)
        if alpn:
            context.set_alpn_protos(list(alpn))
        self._context = context

    def _connection(self, protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context)
        connection.set_app_data(protocol)
        self.connections.append(connection)
        return connection

    clientConnectionForTLS = serverConnectionForTLS = _connection  # noqa: N815  the interfaces


def tls_requestor(network: Network, endpoint: Any, tls: Careless) -> ScriptedPeer:
    """A scripted peer that has connected to `endpoint`, and begun TLS as far as that goes."""
    peer = tls_hello(network, endpoint, tls)
    network.run()
    return peer


def tls_hello(network: Network, endpoint: Any, tls: Careless) -> ScriptedPeer:
    """One that has connected, of which nothing has arrived yet."""
    peer = ScriptedPeer(network.run)
    factory = TLSMemoryBIOFactory(tls, True, _one(peer), network.clock)
    endpoint.join(factory.buildProtocol(None), IPv4Address("TCP", "10.0.0.1", 4242))
    return peer


def tls_acceptor(network: Network, endpoint: Any, tls: Careless) -> ScriptedPeer:
    """A scripted peer that listens at `endpoint` with TLS, for one connection."""
    peer = ScriptedPeer(network.run)
    network.result(endpoint.listen(TLSMemoryBIOFactory(tls, False, _one(peer), network.clock)))
    return peer


def _one(peer: ScriptedPeer) -> Factory:
    factory = Factory()
    factory.protocol = lambda: peer
    factory.noisy = False
    return factory


def server_tls(pki: PKI, shown: Issued | None = None, **options: Any) -> ServerTLS:
    """What a node uses that knows who may come."""
    shown = shown or pki.node
    given = {"certificate": shown.path, "key": shown.key_path, "ca": pki.ca.path, **options}
    return ServerTLS(**given)


def client_tls(pki: PKI, shown: Issued | None = None, **options: Any) -> ClientTLS:
    """What a modality uses, with its certificate unless there is another one."""
    shown = shown or pki.modality
    given = {"certificate": shown.path, "key": shown.key_path, "ca": pki.ca.path}
    return ClientTLS(**{**given, "server_name": "localhost", **options})
