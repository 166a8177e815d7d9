"""The TLS of a node: as a listener, and as a requestor of the peers that need it (PS3.15 B)."""

from dataclasses import dataclass
from pathlib import Path

from twisted.logger import Logger

from dimse.errors import MisuseError
from dimse.security.profiles import DEFAULT_PROFILE
from dimse.security.tls import ClientContext, ClientTLS, ServerContext, ServerTLS, reload


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTLS:
    """What a node is told of TLS; its one certificate serves it on both sides."""

    certificate: Path | None = None
    key: Path | None = None
    ca: tuple[Path, ...] = ()
    crl: tuple[Path, ...] = ()
    profile: str = DEFAULT_PROFILE
    client_auth: str = "require"


class Secured:
    """The certificates of a node, as they are now; `renew` reads them again.

    `server` is for its listeners, if it has any with TLS.
    """

    log = Logger()

    def __init__(self, tls: NodeTLS, *, listens: bool) -> None:
        self._tls = tls
        self._clients: dict[tuple[Path, ...], ClientContext] = {}  # by who signs for peers
        self.server = self._server() if listens else None

    def client(self, ca: tuple[Path, ...] = ()) -> ClientContext:
        """For peers that need TLS, whose certificates others may sign than those of the node.

        Raises `MisuseError` when that cannot be had.
        """
        tls, ca = self._tls, ca or self._tls.ca
        if ca not in self._clients:
            self._clients[ca] = ClientTLS(
                ca=ca,
                crl=tls.crl,
                certificate=tls.certificate,
                key=tls.key if tls.certificate is not None else None,
                profile=tls.profile,
            ).load()
        return self._clients[ca]

    @property
    def in_use(self) -> bool:
        """Whether something listens with TLS, or is reached over it."""
        return self.server is not None or bool(self._clients)

    def renew(self) -> None:
        """Read the files again, for connections that come; those that are open go on as they are.

        When something is wrong with them all stays as it was, and the log says what.
        """
        contexts = [each for each in (self.server, *self._clients.values()) if each is not None]
        try:
            reload(contexts)
        except MisuseError as error:
            self.log.error("{error}; the certificates stay as they were", error=error)
            return
        if contexts:
            self.log.info("the certificates for TLS are read again")
        for line in dict.fromkeys(line for context in contexts for line in context.expiring()):
            self.log.warn("TLS: {line}", line=line)

    def _server(self) -> ServerContext:
        tls = self._tls
        if tls.certificate is None:
            raise MisuseError("to listen with TLS needs a certificate: tls.certificate, --tls-cert")
        return ServerTLS(
            certificate=tls.certificate,
            key=tls.key,
            ca=tls.ca,
            crl=tls.crl,
            client_auth=tls.client_auth,
            profile=tls.profile,
        ).load()
