"""The TLS of a node: as a listener, and as a requestor of the peers that need it (PS3.15 B)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twisted.logger import Logger

from dimse.errors import MisuseError
from dimse.security.access import Peers
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
    """The certificates of a node, as they are now; `renew` reads them again, or others.

    `server` is for its listeners, if it has any with TLS. Raises `MisuseError` for what is wrong
    with them, a line for each thing; a file that is named is looked at whether it is used or not.
    """

    log = Logger()

    def __init__(self, tls: NodeTLS, *, listens: bool) -> None:
        _check(tls, listens=listens)
        self._tls = tls
        self._clients: dict[tuple[Path, ...], ClientContext] = {}  # by `ca` of `client`
        self.server = _server_tls(tls).load() if listens else None

    def client(self, ca: tuple[Path, ...] = ()) -> ClientContext:
        """For peers that need TLS, whose certificates others may sign than those of the node.

        Raises `MisuseError` when that cannot be had.
        """
        if ca not in self._clients:
            self._clients[ca] = _client_tls(self._tls, ca).load()
        return self._clients[ca]

    def reach(self, peers: Peers) -> None:
        """Be ready for those that need TLS; raises as `client`."""
        if any(peer.tls for peer in peers.values()):
            self.client()

    @property
    def in_use(self) -> bool:
        """Whether something listens with TLS, or is reached over it."""
        return self.server is not None or bool(self._clients)

    def tell(self) -> None:
        """Warn in the log when there are files, and everything goes without TLS all the same."""
        if not self.in_use and (self._tls.certificate or self._tls.ca or self._tls.crl):
            self.log.warn(
                "TLS: there are files for it, and nothing uses it: no listener (--tls-port, or tls "
                "of [[listeners]]), no peer (tls of [[peers]]) and no collector"
            )

    def renew(self, tls: NodeTLS | None = None) -> None:
        """Read the files again, or those of another `tls`, for connections that come.

        Those that are open go on as they are. When something is wrong all stays as it was, and the
        log says what.
        """
        tls = tls or self._tls
        try:
            _check(tls, listens=self.server is not None)
            renewed: list[tuple[ServerContext | ClientContext, ServerTLS | ClientTLS]] = [
                (context, _client_tls(tls, ca)) for ca, context in self._clients.items()
            ]
            if self.server is not None:
                renewed.append((self.server, _server_tls(tls)))
            reload(renewed)
        except MisuseError as error:
            self.log.error("{error}; the certificates stay as they were", error=error)
            return
        self._tls = tls
        if renewed:
            self.log.info("the certificates for TLS are read again")
        for line in dict.fromkeys(line for each, _ in renewed for line in each.expiring()):
            self.log.warn("TLS: {line}", line=line)


def _check(tls: NodeTLS, *, listens: bool) -> None:
    if problems := list(_problems(tls, listens=listens)):
        raise MisuseError("\n".join(problems))


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


def _client_tls(tls: NodeTLS, ca: tuple[Path, ...]) -> ClientTLS:
    return ClientTLS(
        ca=ca or tls.ca,
        crl=tls.crl,
        certificate=tls.certificate,
        key=tls.key,
        profile=tls.profile,
    )
