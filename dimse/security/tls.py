"""TLS on both sides of an association (PS3.15 B.12, B.13).

`ServerTLS` and `ClientTLS` say which files to use. `load` makes contexts of them, which hold what
is in the files; a server's can `reload` them while it listens.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cryptography.x509 import Certificate
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from dimse.errors import MisuseError
from dimse.security import certificates
from dimse.security.certificates import CLIENT, SERVER, File, Identity
from dimse.security.profiles import (
    ALPN,
    CLIENT_AUTHENTICATION,
    DEFAULT_PROFILE,
    PROFILES,
    Profile,
)
from dimse.ul.handshake import Handshake

Files = File | Sequence[File]

_DAY = 24 * 60 * 60.0

_log = Logger()

_VERIFIED = SSL.VERIFY_PEER | SSL.VERIFY_CLIENT_ONCE
_WANTED = {
    "require": _VERIFIED | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
    "request": _VERIFIED,
    "none": SSL.VERIFY_NONE,
}

_REFUSALS = {
    **dict.fromkeys((2, 18, 19, 20, 21), "is signed by nobody that is trusted here"),
    3: "has no revocation list of who signed it, or of one above him",
    9: "is not valid yet",
    10: "has expired",
    12: "is by a revocation list that is out of date",
    23: "is revoked",
    24: "is by who may not sign certificates",
    26: "is not for this use (its extended key usage)",
    79: "is by who may not sign certificates",
}
"""What the codes of X509_STORE_CTX_get_error say of a certificate, in our words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTLS:
    """What a listener uses for TLS; all files are PEM.

    `certificate` holds the certificate of the node, then those of who signed it; `key` its private
    key, unless that is in the same file. `ca` are who may have signed the certificates of clients,
    and `crl` lists of revoked ones: with them, a list is needed of everybody in a chain.
    `client_auth` is "require", "request" or "none"; `profile` a key of `PROFILES` (PS3.15 B).

    Raises `MisuseError` for what does not fit together; files are read when it is loaded.
    """

    certificate: File
    key: File | None = None
    ca: Files = ()
    crl: Files = ()
    client_auth: str = "require"
    profile: str = DEFAULT_PROFILE

    def __post_init__(self) -> None:
        _check_profile(self.profile)
        if self.client_auth not in CLIENT_AUTHENTICATION:
            known = ", ".join(CLIENT_AUTHENTICATION)
            raise MisuseError(f"client_auth {self.client_auth!r} is none of {known}")
        if self.client_auth != "none" and not _files(self.ca):
            raise MisuseError(
                f"client_auth {self.client_auth!r} needs ca, the file of who signs the "
                "certificates of clients; without it, client_auth is 'none'"
            )

    def load(self) -> "ServerContext":
        """Read the files; raises `MisuseError` for what is wrong with them."""
        return ServerContext(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTLS:
    """What a requestor uses for TLS; all files are PEM.

    `ca` are who may have signed the certificate of the peer, those of the system unless given;
    `crl` is as for `ServerTLS`. `certificate` and `key` are shown to a peer that asks for them.
    The certificate of the peer has to be for its host name or address, or for `server_name`.
    `insecure_unverified` takes any certificate: whoever is in the way can read and change all.
    `profile` is a key of `PROFILES` (PS3.15 B).

    Raises `MisuseError` for what does not fit together; files are read when it is loaded.
    """

    ca: Files = ()
    crl: Files = ()
    certificate: File | None = None
    key: File | None = None
    server_name: str | None = None
    profile: str = DEFAULT_PROFILE
    insecure_unverified: bool = False

    def __post_init__(self) -> None:
        _check_profile(self.profile)
        if self.key is not None and self.certificate is None:
            raise MisuseError(f"the key {self.key} has no certificate")

    def load(self) -> "ClientContext":
        """Read the files; raises `MisuseError` for what is wrong with them."""
        return ClientContext(self)


def _check_profile(name: str) -> None:
    if name not in PROFILES:
        known = ", ".join(PROFILES)
        raise MisuseError(f"{name!r} is no TLS profile; known are {known} (PS3.15 B)")


def _files(files: Files) -> Sequence[File]:
    return [files] if isinstance(files, str) or hasattr(files, "__fspath__") else files


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What was in the files, and the context that it made."""

    context: SSL.Context
    shown: Identity | None
    authorities: tuple[Certificate, ...]


def reload(renewed: Iterable[tuple["_Context", Any]]) -> None:
    """Let contexts go by what a `ServerTLS` or `ClientTLS` says, whose files are read now.

    It is for the connections that come. Raises `MisuseError` when something is wrong with one of
    them, and all stay as they were.
    """
    fresh = [(context, tls, context._load(tls)) for context, tls in renewed]
    for context, tls, loaded in fresh:
        context._tls, context._loaded = tls, loaded


class _Context(ABC):
    """What is in the files of a `ServerTLS` or `ClientTLS`, as OpenSSL wants it."""

    def __init__(self, tls: Any) -> None:
        self._tls = tls
        self._loaded = self._load(tls)

    @abstractmethod
    def _load(self, tls: Any) -> _Loaded:
        """Read the files; raises `MisuseError`."""

    @property
    def profile(self) -> Profile:
        """Under which certificates are judged."""
        return PROFILES[self._tls.profile]

    def reload(self) -> None:
        """Read the files again, as the function does."""
        reload([(self, self._tls)])

    def expiring(self) -> Iterator[str]:
        """A line for each certificate that expires soon, or has."""
        shown = self._loaded.shown.chain if self._loaded.shown is not None else ()
        return certificates.soon_to_expire((*shown, *self._loaded.authorities))

    def _make(
        self,
        shown: Identity | None,
        authorities: tuple[Certificate, ...],
        crl: Files,
        profile: Profile,
    ) -> SSL.Context:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(
            SSL.OP_NO_COMPRESSION
            | SSL.OP_NO_RENEGOTIATION
            | SSL.OP_NO_TICKET
            | SSL.OP_CIPHER_SERVER_PREFERENCE
        )
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # 34 KiB less for each connection that is idle
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        # At level 2 OpenSSL itself takes no SHA-1, and no key of less than 112 bits of security.
        context.set_cipher_list(":".join(("@SECLEVEL=2", *profile.suites)).encode())
        context.set_tls13_ciphersuites(":".join(profile.suites_1_3).encode())
        if shown is not None:
            own, *others = shown.chain
            context.use_certificate(own)
            context.use_privatekey(shown.key)
            for each in others:
                context.add_extra_chain_cert(each)
        store: Any = context.get_cert_store()
        for each in authorities:
            store.add_cert(X509.from_cryptography(each))
        revocations = certificates.load_revocations(_files(crl))
        for revoked in revocations:
            store.add_crl(revoked)
        if revocations:
            store.set_flags(X509StoreFlags.CRL_CHECK | X509StoreFlags.CRL_CHECK_ALL)
        return context

    def _connection(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = SSL.Connection(self._loaded.context)
        connection.set_app_data(protocol)  # as Twisted does from 25.5 on
        return connection

    def _judge(
        self,
        host: str | None,
        connection: SSL.Connection,
        shown: X509,
        code: int,
        depth: int,
        trusted: int,
    ) -> bool:
        """Whether the certificate at this depth of the chain of the peer will do.

        OpenSSL calls it for each, also for what it does not trust itself.
        """
        why = "" if trusted else _REFUSALS.get(code, f"is not trusted (X509 error {code})")
        name = "of the peer"
        try:
            certificate = shown.to_cryptography()
            name = certificates.name_of(certificate)
            why = certificates.weakness(certificate, self.profile) or why
            if not (why or depth or host is None):
                why = certificates.mismatch(certificate, host)
        except Exception as error:  # noqa: BLE001  whatever is in it, and nobody else would hear
            why = f"cannot be read: {error}"
        handshake = getattr(connection.get_app_data().wrappedProtocol, "handshake", None)
        if why and isinstance(handshake, Handshake):
            handshake.refused = handshake.refused or f"the certificate {name} {why}"
        return not why


@implementer(IOpenSSLServerConnectionCreator)
class ServerContext(_Context):
    """A `ServerTLS` that is loaded: one for all listeners that use it."""

    def __init__(self, tls: ServerTLS) -> None:
        super().__init__(tls)
        self._listening = 0
        self._tomorrow: IDelayedCall | None = None

    def _load(self, tls: ServerTLS) -> _Loaded:
        profile = PROFILES[tls.profile]
        shown = certificates.load_identity(tls.certificate, tls.key, profile, [SERVER])
        authorities = certificates.load_authorities(_files(tls.ca), profile)
        context = self._make(shown, authorities, tls.crl, profile)
        for each in authorities:  # whom a client may have its certificate from
            context.add_client_ca(each)
        context.set_session_id(b"dimse")
        context.set_alpn_select_callback(_select)
        return _Loaded(context, shown, authorities)

    def begin_watch(self, clock: IReactorTime) -> None:
        """One more listens: the log says now and once a day which certificates expire soon."""
        self._listening += 1
        if self._listening == 1:
            self._say_expiring(clock)

    def end_watch(self) -> None:
        """One less listens."""
        self._listening -= 1
        if not self._listening and self._tomorrow is not None:
            self._tomorrow.cancel()
            self._tomorrow = None

    def _say_expiring(self, clock: IReactorTime) -> None:
        self._tomorrow = clock.callLater(_DAY, self._say_expiring, clock)
        for line in self.expiring():
            _log.warn("TLS: {line}", line=line)

    def secured(
        self, endpoint: IStreamServerEndpoint, clock: IReactorTime
    ) -> IStreamServerEndpoint:
        """An endpoint that listens at `endpoint`, with TLS and nothing else."""
        return _SecureListening(endpoint, self, clock)

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N802  the interface
        """A connection with what the files held last."""
        connection = self._connection(protocol)
        connection.set_verify(_WANTED[self._tls.client_auth], partial(self._judge, None))
        return connection


@implementer(IStreamServerEndpoint)
class _SecureListening:
    def __init__(
        self, endpoint: IStreamServerEndpoint, context: ServerContext, clock: IReactorTime
    ) -> None:
        self._endpoint = endpoint
        self._context = context
        self._clock = clock

    def listen(self, protocolFactory: IProtocolFactory) -> "Deferred[IListeningPort]":
        secured = _ServerFactory(self._context, protocolFactory, self._clock)
        listening: Deferred[IListeningPort] = self._endpoint.listen(secured)
        return listening


class _ServerFactory(TLSMemoryBIOFactory):
    def __init__(
        self, context: ServerContext, factory: IProtocolFactory, clock: IReactorTime
    ) -> None:
        super().__init__(context, False, factory, clock)
        self._watched = context

    def startFactory(self) -> None:
        """It listens."""
        self._watched.begin_watch(self._clock)

    def stopFactory(self) -> None:
        """It listens no more."""
        self._watched.end_watch()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """None, as the factory behind it says, closes the connection."""
        protocol = self.wrappedFactory.buildProtocol(addr)
        return None if protocol is None else self.protocol(self, protocol)


def _select(_: SSL.Connection, offered: list[bytes]) -> bytes:
    """The application protocol; who offers others alone gets a fatal alert (RFC 7301 3.2)."""
    if ALPN not in offered:
        raise SSL.Error([("SSL routines", "", "no application protocol")])
    return ALPN


class ClientContext(_Context):
    """A `ClientTLS` that is loaded."""

    def __init__(self, tls: ClientTLS) -> None:
        super().__init__(tls)

    def _load(self, tls: ClientTLS) -> _Loaded:
        profile, shown = PROFILES[tls.profile], None
        if tls.certificate is not None:
            shown = certificates.load_identity(tls.certificate, tls.key, profile, [CLIENT])
        authorities = certificates.load_authorities(_files(tls.ca), profile)
        context = self._make(shown, authorities, tls.crl, profile)
        if not authorities:
            context.set_default_verify_paths()
        return _Loaded(context, shown, authorities)

    def secured(
        self,
        endpoint: IStreamClientEndpoint,
        host: str | None,
        clock: IReactorTime,
        protocol: bytes | None = ALPN,
    ) -> IStreamClientEndpoint:
        """An endpoint that connects by `endpoint`, and then begins TLS with `host`.

        `protocol` is what the peer is told that we speak (ALPN), unless it is None. Raises
        `MisuseError` for a host that has no name, or one that no certificate can have.
        """
        name = self._tls.server_name or host
        if name is None and not self._tls.insecure_unverified:
            raise MisuseError("TLS through an endpoint needs server_name, whom to expect there")
        named = certificates.server_name(name) if name is not None else None
        connect = partial(self._connect, name, named, protocol)
        return _SecureConnecting(endpoint, connect, clock)

    def _connect(
        self,
        name: str | None,
        named: bytes | None,
        spoken: bytes | None,
        protocol: TLSMemoryBIOProtocol,
    ) -> SSL.Connection:
        connection = self._connection(protocol)
        if spoken is not None:
            connection.set_alpn_protos([spoken])
        if named is not None:
            connection.set_tlsext_host_name(named)
        if self._tls.insecure_unverified:
            connection.set_verify(SSL.VERIFY_NONE)
        else:
            connection.set_verify(SSL.VERIFY_PEER, partial(self._judge, name))
        return connection


@implementer(IStreamClientEndpoint)
class _SecureConnecting:
    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        connection: Callable[[TLSMemoryBIOProtocol], SSL.Connection],
        clock: IReactorTime,
    ) -> None:
        self._endpoint = endpoint
        self._creator = _Creator(connection)
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        # It fires as soon as there is a connection: TLS is then still to be agreed on.
        secured = TLSMemoryBIOFactory(self._creator, True, protocolFactory, self._clock)
        connecting: Deferred[Any] = self._endpoint.connect(secured)
        return connecting.addCallback(lambda protocol: protocol.wrappedProtocol)


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    def __init__(self, create: Callable[[TLSMemoryBIOProtocol], SSL.Connection]) -> None:
        self.clientConnectionForTLS = create
