"""The options of `twistd dimse` and `dimse serve`."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Any

from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from dimse.archive.files import DUPLICATES, DURABILITIES
from dimse.errors import MisuseError
from dimse.limits import Limits
from dimse.security.access import KnownPeer, Peers, network_of
from dimse.security.profiles import CLIENT_AUTHENTICATION, DICOM_TLS_PORT, PROFILES
from dimse.server import kinds
from dimse.server.config import Configuration, read_configuration
from dimse.server.kinds import Kind
from dimse.server.log import LEVELS, Threshold
from dimse.server.tls import NodeTLS, Secured
from dimse.uids import is_uid
from dimse.ul.negotiation import is_ae_title

DEFAULT_PORT = 11112  # registered for DICOM, and needs no privileges (PS3.8 9.1.1)


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("it must be an integer") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("it must be a number") from None


def _named(parameter: list[Any]) -> list[Any]:
    """A parameter whose errors name it, which Twisted's do not; the value may be a secret."""
    name, short, default, description, take = parameter

    def taken(text: str) -> Any:
        try:
            return take(text)
        except ValueError as error:
            raise UsageError(f"--{name}: {error}") from error

    return [name, short, default, description, taken]


def _port(text: str) -> int:
    port = _integer(text)
    if not 0 <= port < 2**16:
        raise ValueError(f"{port} is no port")
    return port


def _option(name: str) -> str:
    return name.replace("_", "-")


def _absolute(text: str) -> Path:
    return Path(text).absolute()  # it is read again when the working directory is another one


def _files(text: str) -> tuple[Path, ...]:
    return (_absolute(text),)


def _of(kind: Kind) -> Callable[[str], Any]:
    """What Twisted takes to check an option."""

    def take(text: str) -> Any:
        try:
            return kind.take(text)
        except ValueError as error:
            why = f" ({error})" if str(error) else ""
            raise ValueError(f"it must be {kind.allowed}{why}") from error

    return take


def _audit_place(text: str) -> dict[str, Any]:
    """A field of `AuditRules`."""
    if "://" in text:
        return {"syslog": _of(kinds.COLLECTOR)(text)}
    return {"file": _absolute(text)}


def _place(text: str) -> tuple[str, int | None]:
    """A host and its port, if it has one: HOST, HOST:PORT, ::1, [::1] or [::1]:PORT."""
    alone = text.removeprefix("[").removesuffix("]")
    if ":" not in text or network_of(alone) is not None:
        return kinds.HOST.take(alone), None
    host, _, port = text.rpartition(":")
    return kinds.HOST.take(host), kinds.PORT.take(int(port))


def _seconds(text: str) -> float:
    number = _number(text)
    if not 0 <= number < inf:  # NaN is not in it either
        raise ValueError(f"{text} is not from 0 on")
    return number


def _limit(field: Any) -> list[Any]:
    number: Callable[[str], Any] = _integer if isinstance(field.default, int) else _number
    if field.metadata["unit"] == "s":
        number = _number
    unit = f"{field.metadata['unit']} " if field.metadata["unit"] else ""
    return [_option(field.name), None, field.default, unit + field.metadata["doc"], number]


class Options(UsageOptions):
    """What a node can be told on its command line; every limit of `Limits` is an option.

    What was not given is not a key. `configuration` is what comes of the options and the file of
    `--config`; the options win.
    """

    synopsis = "[options]"
    longdesc = (
        "A DICOM node: keeps the instances that it gets by C-STORE, and answers C-ECHO, C-FIND, "
        "C-GET and C-MOVE, requests for storage commitment, worklist queries and MPPS. "
        "It serves this machine alone unless it is told of peers, or --allow-any is given."
    )
    _parameters: tuple[list[Any], ...] = (
        ["config", "c", None, "TOML file with what is not given here", _absolute],
        ["port", "p", None, f"TCP port to listen on (default {DEFAULT_PORT})", _port],
        ["storage", None, "dimse-storage", "folder that keeps the instances", Path],
        [
            "index",
            None,
            None,
            "URL of the index, such as postgresql+psycopg://user@host/database "
            "(default: index.sqlite in the storage folder)",
            _of(kinds.INDEX_URL),
        ],
        [
            "durability",
            None,
            "full",
            "; ".join(f"{k}: {v}" for k, v in DURABILITIES.items()),
            _of(kinds.one_of(DURABILITIES)),
        ],
        [
            "audit",
            None,
            None,
            "where audit records go: tls://HOST:PORT or udp://HOST:PORT, or a file",
            _audit_place,
        ],
        [
            "duplicates",
            None,
            "keep",
            "; ".join(f"{k}: {v}" for k, v in DUPLICATES.items()),
            _of(kinds.one_of(DUPLICATES)),
        ],
        ["passwords", None, None, "file of users and passcodes, of dimse password", _absolute],
        ["worklist", None, None, "folder of worklist items: DICOM or DICOM JSON files", Path],
        [
            "study-timeout",
            None,
            60.0,
            "s without an instance of a study until it has ended; "
            "0: when the association that brought the last one is over",
            _seconds,
        ],
        [
            "log-level",
            None,
            "info",
            "from which level on is logged; "
            + "; ".join(f"{name}: {doc}" for name, doc in LEVELS.items()),
            _of(kinds.one_of(LEVELS)),
        ],
        [
            "tls-port",
            None,
            None,
            f"TCP port to listen on with TLS (default {DICOM_TLS_PORT} with a certificate)",
            _port,
        ],
        ["tls-cert", None, None, "certificate of the node and of who signed it (PEM)", _absolute],
        ["tls-key", None, None, "its private key (default: in the same file)", _absolute],
        ["tls-ca", None, None, "certificates of who signs those of peers (PEM)", _files],
        ["tls-crl", None, None, "revocation lists (PEM)", _files],
        [
            "tls-profile",
            None,
            None,
            "profile of PS3.15 Annex B: B.12 (the default) or B.13",
            _of(kinds.one_of({name: each.title for name, each in PROFILES.items()})),
        ],
        [
            "tls-client-auth",
            None,
            None,
            "; ".join(f"{k}: {v}" for k, v in CLIENT_AUTHENTICATION.items()) + " (default require)",
            _of(kinds.one_of(CLIENT_AUTHENTICATION)),
        ],
        *map(_limit, fields(Limits)),
    )
    optParameters = [*map(_named, _parameters)]  # noqa: RUF012  as usage.Options wants it
    optFlags = [  # noqa: RUF012  as usage.Options wants it
        ["promiscuous", None, "take instances of unknown, such as private, SOP classes too"],
        ["forget-lost", None, "start although many instances are gone from the storage folder"],
        ["require-identity", None, "reject a peer whose user is not known"],
        ["allow-plain-identity", None, "take passcodes and tokens without TLS, too"],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's is untyped
        self.clear()  # of the defaults, which are for the help
        self.configuration = Configuration()
        self._addresses: dict[str, tuple[str, int | None]] = {}

    @property
    def file(self) -> Path | None:
        """The configuration file, if there is one."""
        return self.get("config")

    def opt_version(self) -> None:
        """Show the version of dimse."""
        print("dimse", version("dimse"))  # noqa: T201  it was asked for
        raise SystemExit(0)

    def opt_listen(self, endpoint: str) -> None:
        """An endpoint to listen on, such as tcp:11112:interface=127.0.0.1; may be repeated."""
        try:
            self.setdefault("listen", []).append(kinds.ENDPOINT.take(endpoint))
        except ValueError as error:
            raise UsageError(
                f"--listen is {endpoint!r} ({error}); it must be {kinds.ENDPOINT.allowed}"
            ) from error

    def opt_aet(self, title: str) -> None:
        """A called AE title to answer to; may be repeated. Any, unless given."""
        if not is_ae_title(title):
            raise UsageError(f"{title!r} is no AE title of 1 to 16 characters")
        self.setdefault("aet", []).append(title)

    def opt_peer(self, peer: str) -> None:
        """AET=HOST[:PORT], a peer and where it is: it may come from there, and with a port a
        C-MOVE may go there; may be repeated. All others are refused then."""
        title, _, place = peer.partition("=")
        try:
            self._addresses[kinds.AE_TITLE.take(title)] = _place(place)
        except ValueError:
            raise UsageError(f"{peer!r} is not of the form AET=HOST[:PORT]") from None

    def opt_allow_any(self) -> None:
        """Let peers that are not listed do all that the node can, wherever they come from."""
        self["unlisted"] = "all"

    def opt_transfer_syntax(self, uid: str) -> None:
        """A transfer syntax to take; may be repeated, in order of preference. Any, unless given."""
        if not is_uid(uid):
            raise UsageError(f"{uid!r} is no UID")
        self.setdefault("transfer-syntax", []).append(uid)

    def postOptions(self) -> None:
        """Join the options with the file."""
        try:
            self.configuration = self.joined()
            self.threshold = Threshold(self.configuration.log_level)
            self.tls = Secured(
                self.configuration.tls, listens=bool(self.configuration.tls_endpoints)
            )
            self.tls.reach(self.configuration.peers)
            if "tls-client-auth" in self and self.tls.server is None:
                raise MisuseError("--tls-client-auth is given, and nothing listens with TLS")
            rules = self.configuration.identity
            if rules.required and not rules.verify:
                raise MisuseError("a user identity is required, and there is no way to verify one")
            for folder in filter(None, (self.configuration.folder, self.configuration.worklist)):
                if folder.exists() and not folder.is_dir():
                    raise MisuseError(f"{folder} is no folder")
        except MisuseError as error:
            raise UsageError(str(error)) from error

    def joined(self) -> Configuration:
        """What the file says now, and the options; raises `MisuseError`."""
        configuration = Configuration()
        if self.file is not None:
            configuration = read_configuration(self.file)
        given = {name: self[option] for name, option in _OPTIONS.items() if option in self}
        endpoints = [f"tcp:{self['port']}"] if "port" in self else []
        endpoints += self.get("listen", [])
        limits = {
            each.name: self[_option(each.name)]
            for each in fields(Limits)
            if _option(each.name) in self
        }
        plain = tuple(endpoints) or configuration.endpoints
        tls, secured = self._secured(configuration)
        return replace(
            configuration,
            endpoints=plain if plain or secured else (f"tcp:{DEFAULT_PORT}",),
            tls_endpoints=secured,
            tls=tls,
            identity=replace(
                configuration.identity,
                **{name: self[option] for name, option in _OF_IDENTITY.items() if option in self},
            ),
            limits=replace(configuration.limits, **limits),
            peers=self._with_addresses(configuration.peers),
            audit=replace(configuration.audit, **self.get("audit", {})),
            **given,
        )

    def _secured(self, configuration: Configuration) -> tuple[NodeTLS, Sequence[str]]:
        """The TLS of the file and what is given, and the endpoints with TLS."""
        given = {name: self[option] for name, option in _TLS_OPTIONS.items() if option in self}
        tls, endpoints = replace(configuration.tls, **given), configuration.tls_endpoints
        if "tls-port" in self:
            endpoints = (f"tcp:{self['tls-port']}",)
        # A file that names its listeners may have the certificate for its peers alone.
        named = endpoints or (configuration.endpoints and "tls-cert" not in self)
        if tls.certificate is not None and not named:
            endpoints = (f"tcp:{DICOM_TLS_PORT}",)
        return tls, endpoints

    def _with_addresses(self, peers: Peers) -> Peers:
        """The peers of the file, and those that are given, which may be the same."""
        joined = dict(peers)
        for title, (host, port) in self._addresses.items():
            peer = joined.get(title) or KnownPeer(ae_title=title)
            joined[title] = replace(peer, host=host, port=port or peer.port)
        return joined


_OPTIONS = {
    "ae_titles": "aet",
    "unlisted": "unlisted",
    "folder": "storage",
    "durability": "durability",
    "duplicates": "duplicates",
    "transfer_syntaxes": "transfer-syntax",
    "promiscuous": "promiscuous",
    "forget_lost": "forget-lost",
    "index": "index",
    "worklist": "worklist",
    "study_timeout": "study-timeout",
    "log_level": "log-level",
}
"""Fields of `Configuration` that an option of its own takes the place of."""

_TLS_OPTIONS = {
    "certificate": "tls-cert",
    "key": "tls-key",
    "ca": "tls-ca",
    "crl": "tls-crl",
    "profile": "tls-profile",
    "client_auth": "tls-client-auth",
}
"""The same for those of `NodeTLS`."""
_OF_IDENTITY = {
    "required": "require-identity",
    "passwords": "passwords",
    "allow_plain": "allow-plain-identity",
}
"""Fields of `IdentityRules`, in the same way."""
