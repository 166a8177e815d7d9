"""The configuration of a node, and the TOML file that holds it."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dimse.errors import MisuseError
from dimse.limits import Limits
from dimse.security.access import KnownPeer, Peers
from dimse.security.identity import FAILURES
from dimse.security.spool import SPOOL_SIZE
from dimse.server.keys import KEYS, REPEATED
from dimse.server.kinds import Key
from dimse.server.tls import NodeTLS
from dimse.server.toml_lines import KeyPath, line_of


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRules:
    """Where audit records go: to a collector, a file, both, or nowhere."""

    syslog: str | None = None
    ca: tuple[Path, ...] = ()
    file: Path | None = None
    spool: Path | None = None
    spool_size: int = SPOOL_SIZE
    source_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRules:
    """How users are verified; without a way to do so, nobody is asked who he is."""

    required: bool = False
    passwords: Path | None = None
    jwt_keys: Path | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_claim: str = "sub"
    user_names: bool = False
    allow_plain: bool = False
    failures: int = FAILURES

    @property
    def verify(self) -> bool:
        """Whether there is a way."""
        return self.user_names or self.passwords is not None or self.jwt_keys is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All that a node is told."""

    endpoints: Sequence[str] = ()
    tls_endpoints: Sequence[str] = ()
    tls: NodeTLS = field(default_factory=NodeTLS)
    ae_titles: Sequence[str] = ()
    unlisted: str | None = None
    uniform_refusals: bool = False
    folder: Path = Path("dimse-storage")
    durability: str = "full"
    duplicates: str = "keep"
    transfer_syntaxes: Sequence[str] = ()
    promiscuous: bool = False
    forget_lost: bool = False
    index: str | None = None
    unknown_matches: bool = False
    worklist: Path | None = None
    study_timeout: float = 60
    log_level: str = "info"
    audit: AuditRules = field(default_factory=AuditRules)
    identity: IdentityRules = field(default_factory=IdentityRules)
    limits: Limits = field(default_factory=Limits)
    peers: Peers = field(default_factory=dict)


def read_configuration(file: Path) -> Configuration:
    """What a TOML file says; raises `MisuseError` with all that is wrong with it, line by line."""
    try:
        document = file.read_text("utf-8")
        tables = tomllib.loads(document)
    except OSError as error:
        raise MisuseError(f"{file}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MisuseError(f"{file}: {error}") from error
    checked = _Checked(tables)
    peers = checked.peers()
    checked.identity()
    if checked.problems:
        found = sorted((line_of(document, path), problem) for path, problem in checked.problems)
        raise MisuseError("\n".join(f"{file}, line {line}: {what}" for line, what in found))
    given = checked.given
    values: dict[str, Any] = {name: given[key] for key, name in FIELDS.items() if key in given}
    for folder in {"folder", "worklist"} & values.keys():
        values[folder] = file.parent / values[folder]
    if "index" in values:
        values["index"] = _beside(file, values["index"])
    return Configuration(
        endpoints=checked.endpoints(tls=False),
        tls_endpoints=checked.endpoints(tls=True),
        tls=_tls(file.parent, checked.section("tls")),
        audit=_audit_rules(file.parent, checked.section("audit")),
        identity=_identity(file.parent, checked.section("identity")),
        limits=Limits(**checked.section("limits")),
        peers=peers,
        **values,
    )


def _tls(folder: Path, values: dict[str, Any]) -> NodeTLS:
    """The section of TLS, its files seen from the folder of the file."""
    for name in {"certificate", "key"} & values.keys():
        values[name] = folder / values[name]
    for name in {"ca", "crl"} & values.keys():
        values[name] = tuple(folder / each for each in values[name])
    return NodeTLS(**values)


def _beside(file: Path, url: str) -> str:
    """The URL of an index, a relative path of SQLite seen from the folder of the file."""
    scheme, _, path = url.partition(":///")
    if not scheme.startswith("sqlite") or not path or path.startswith(("/", ":", "file:")):
        return url
    return f"{scheme}:///{file.parent.absolute() / path}"


def _audit_rules(folder: Path, rules: dict[str, Any]) -> AuditRules:
    """The rules, their paths seen from a folder."""
    paths = {name: folder / rules[name] for name in ("file", "spool") if name in rules}
    authorities = tuple(folder / each for each in rules.get("ca", ()))
    return AuditRules(**rules | paths | {"ca": authorities})


def _identity(folder: Path, rules: dict[str, Any]) -> IdentityRules:
    """The rules, their files seen from a folder."""
    files = {name: folder / rules[name] for name in ("passwords", "jwt_keys") if name in rules}
    return IdentityRules(**rules | files)


FIELDS = {
    ("node", "ae_titles"): "ae_titles",
    ("node", "unlisted"): "unlisted",
    ("node", "uniform_refusals"): "uniform_refusals",
    ("storage", "folder"): "folder",
    ("storage", "durability"): "durability",
    ("storage", "duplicates"): "duplicates",
    ("storage", "transfer_syntaxes"): "transfer_syntaxes",
    ("storage", "promiscuous"): "promiscuous",
    ("storage", "forget_lost"): "forget_lost",
    ("index", "url"): "index",
    ("query", "unknown_matches"): "unknown_matches",
    ("worklist", "folder"): "worklist",
    ("studies", "timeout"): "study_timeout",
    ("log", "level"): "log_level",
}
"""The fields of `Configuration` by section and key; other sections are fields as a whole."""


class _Checked:
    """The tables of a file, checked: the values of sections that are there once in `given`, the
    tables of those that are repeated in `tables`, and what is wrong in `problems`."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self.problems: list[tuple[KeyPath, str]] = []
        self.given: dict[tuple[str, str], Any] = {}
        self.tables: dict[str, list[dict[str, Any]]] = {name: [] for name in REPEATED}
        for section, value in document.items():
            keys = {key.name: key for key in KEYS if key.section == section}
            if not keys:
                self._unknown((section,), [key.section for key in KEYS])
            elif section in REPEATED:
                self._array(section, keys, value)
            elif not isinstance(value, dict):
                self._wrong((section,), f"is no table: it is written as [{section}]")
            else:
                found = self._table((section,), keys, value)
                self.given.update({(section, name): taken for name, taken in found.items()})

    def endpoints(self, *, tls: bool) -> tuple[str, ...]:
        """Those of the listeners with TLS, or of those without."""
        listeners = self.tables["listeners"]
        return tuple(each["endpoint"] for each in listeners if each.get("tls", False) is tls)

    def peers(self) -> dict[str, KnownPeer]:
        """The tables of peers, and whether what they say belongs together."""
        peers: dict[str, KnownPeer] = {}
        for position, table in enumerate(self.tables["peers"]):
            path, written = ("peers", position), self._document["peers"][position]
            if "port" in written and "host" not in written:
                self._wrong(path, "has one of host and port: a port needs a host")
            elif table.get("move_destination") and "port" not in written:
                self._wrong(path, "is no move_destination without host and port")
            elif table.get("availability") and "port" not in written:
                self._wrong(path, "is not notified of availability without host and port")
            elif table.get("tls") and "port" not in written:
                self._wrong(path, "is not reached over TLS without host and port")
            if (title := table.get("ae_title")) in peers:
                self._wrong((*path, "ae_title"), f"is {title!r}, which another peer is already")
            if title is not None:
                peers[title] = KnownPeer(**table)
        return peers

    def section(self, name: str) -> dict[str, Any]:
        """What is given in a section that is there once."""
        return {key: value for (section, key), value in self.given.items() if section == name}

    def identity(self) -> None:
        """Whether what says how users are verified belongs together."""
        given = self.section("identity")
        tokens = {"jwt_keys", "jwt_issuer", "jwt_audience"}
        if missing := sorted(tokens - given.keys()) if tokens & given.keys() else []:
            self._wrong(("identity",), f"has no {' and no '.join(missing)}, which belong together")

    def _array(self, section: str, keys: Mapping[str, Key], value: Any) -> None:
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            self._wrong((section,), f"is no array of tables: each is written as [[{section}]]")
            return
        for position, table in enumerate(value):
            path = (section, position)
            self.tables[section].append(self._table(path, keys, table))
            for key in keys.values():
                if key.required and key.name not in table:
                    self._wrong(path, f"has no {key.name}: it must be {key.kind.allowed}")

    def _table(
        self, path: KeyPath, keys: Mapping[str, Key], table: Mapping[str, Any]
    ) -> dict[str, Any]:
        taken: dict[str, Any] = {}
        for name, value in table.items():
            if (key := keys.get(name)) is None:
                self._unknown((*path, name), list(keys))
                continue
            try:
                taken[name] = key.kind.take(value)
            except ValueError as error:
                shown = f"is {_written(value)}" if key.kind.shown else "is wrong"
                why = f" ({error})" if str(error) else ""
                self._wrong((*path, name), f"{shown}{why}; it must be {key.kind.allowed}")
        return taken

    def _unknown(self, path: KeyPath, known: list[str]) -> None:
        *_, name = path
        elsewhere = [f"{key.section}.{key.name}" for key in KEYS if key.name == name]
        near = get_close_matches(str(name), known, 1) or elsewhere[:1]
        hint = f"is {near[0]} meant?" if near else f"known are {', '.join(dict.fromkeys(known))}"
        self._wrong(path, f"is not known; {hint}")

    def _wrong(self, path: KeyPath, problem: str) -> None:
        self.problems.append((path, f"{''.join(_dotted(path))} {problem}"))


def _dotted(path: KeyPath) -> Iterator[str]:
    """As in `peers[2].port`; people count from 1."""
    for position, step in enumerate(path):
        if isinstance(step, int):
            yield f"[{step + 1}]"
        else:
            yield f".{step}" if position else step


def _written(value: Any) -> str:
    """As TOML has it, more or less, and not too long."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
