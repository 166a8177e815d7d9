"""What a node does with a requestor, and why, in words: `dimse config explain`."""

import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from dimse.security.access import Access, Requestor, Verdict
from dimse.server.config import Configuration
from dimse.server.keys import KEYS
from dimse.server.peer_keys import SERVICES
from dimse.server.toml_lines import line_of

_RIGHTS = (
    "sop_classes",
    "store_transfer_syntaxes",
    "scope",
    "destinations",
    "associations",
    "associations_per_minute",
    "operations_per_minute",
    "bytes_per_hour",
    "bytes_per_day",
)


NOT_IN_THE_FILE = "the peer is not in the file"


def access_of(configuration: Configuration) -> Access:
    """Who may associate, as a configuration has it."""
    return Access(
        ae_titles=configuration.ae_titles,
        unlisted=configuration.unlisted,
        peers=configuration.peers,
    )


class Origins:
    """Where a configuration has a key from: a line of its file, or its default."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._document = file.read_text("utf-8") if file is not None else ""
        self._tables: Mapping[str, Any] = tomllib.loads(self._document)

    def of(self, key: str, ae_title: str) -> str:
        """Of a key such as `node.unlisted`; one of `peers` is that of the peer."""
        section, _, name = key.partition(".")
        path: list[str | int] = [section]
        table: Any = self._tables.get(section, {})
        if section == "peers":
            titles = [each.get("ae_title", "").strip() for each in table or ()]
            if ae_title not in titles:
                return NOT_IN_THE_FILE
            path.append(titles.index(ae_title))
            table = table[path[-1]]
        if name not in table:
            return f"{key} has its default"
        return f"{self._file}, line {line_of(self._document, [*path, name])}"


def explanation(verdict: Verdict, who: Requestor, origins: Origins) -> Iterator[str]:
    """Whether it is taken, each step to that with the line or default that decides, and what it
    may do."""
    title = who.ae_title
    for reason in verdict.reasons:
        yield f"{reason.text} [{origins.of(reason.key, title)}]"
    if verdict.rejection is not None:
        yield f"refused: {verdict.rejection}"
        return
    yield "admitted"
    peer = verdict.peer
    by = origins.of("peers.services", title)
    if peer.services is not None and by == NOT_IN_THE_FILE:
        by = origins.of("node.unlisted", title)
    for service, operation in SERVICES.items():
        yield f"{service}: {'yes' if peer.may(service) else 'no'}, {operation} [{by}]"
    for name in _RIGHTS:
        value = getattr(peer, name)
        (default,) = (key.default for key in KEYS if (key.section, key.name) == ("peers", name))
        text = default if value is None or value == {} else _written(value)
        yield f"{name}: {text} [{origins.of(f'peers.{name}', title)}]"


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{keyword} {' or '.join(each)}" for keyword, each in value.items())
    return (", ".join(value) or "none") if isinstance(value, tuple) else str(value)


def looked_up(look_up: Callable[[str], Collection[str]]) -> Callable[[str], Collection[str]]:
    """A function that resolves each name once, and gives nothing for one that does not."""
    known: dict[str, Collection[str]] = {}

    def resolved(name: str) -> Collection[str]:
        if name not in known:
            try:
                known[name] = look_up(name)
            except (OSError, UnicodeError):
                known[name] = ()
        return known[name]

    return resolved
