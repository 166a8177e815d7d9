"""The TLS of a node: as a listener, and as a requestor of the peers that need it (PS3.15 B)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twisted.logger import Logger

from dimse.errors import MisuseError
from dimse.security.profiles import DEFAULT_PROFILE
from dimse.security.tls import ClientContext, ClientTLS, ServerTLS, reload


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

    `server` is for its listeners, if it has any with TLS. Raises `MisuseError` for what is wrong
    with them, a line for each thing; a file that is named is looked at whether it is used or not.
    """

    log = Logger()

    def __init__(self, tls: NodeTLS, *, listens: bool) -> None:
        if problems := list(_problems(tls, listens=listens)):
            raise MisuseError("\n".join(problems))
        self._tls = tls
        self._clients: dict[tuple[Path, ...], ClientContext] = {}  # by who signs for peers
        self.server = _server_tls(tls).load() if listens else None

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


def _problems(tls: NodeTLS, *, listens: bool) -> Iterator[str]:
    """What is wrong, as far as it shows before anything is loaded."""
    for file in filter(None, (tls.certificate, tls.key, *tls.ca, *tls.crl)):
        try:
            file.open("rb").close()
        except OSError as error:
            yield f"{file}: {error.strerror or error}"
    if tls.certificate is None and listens:
        yield "to listen with TLS needs a certificate: tls.certificate, --tls-cert"
    elif tls.certificate is None and tls.key is not None:
        yield f"the key {tls.key} has no certificate: tls.certificate, --tls-cert"
    elif listens:
        try:
            _server_tls(tls)
        except MisuseError as error:
            yield f"{error} (tls.ca, --tls-ca; tls.client_auth, --tls-client-auth)"


def _server_tls(tls: NodeTLS) -> ServerTLS:
    assert tls.certificate is not None
    return ServerTLS(
        certificate=tls.certificate,
        key=tls.key,
        ca=tls.ca,
        crl=tls.crl,
        client_auth=tls.client_auth,
        profile=tls.profile,
    )
