"""What a key of the configuration is, and can hold: how a value is checked, how that is said."""

import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass
from importlib.util import find_spec
from math import inf
from typing import Any, cast

from pydicom._uid_dict import UID_dictionary
from twisted.internet.endpoints import serverFromString

from dimse.archive.scope_keys import scope_keys
from dimse.limits import GIB, KIB, MIB
from dimse.security.access import is_name
from dimse.security.certificate_names import certificate_name
from dimse.security.syslog import Collector
from dimse.uids import is_uid
from dimse.ul.negotiation import is_ae_title

_UNITS: Mapping[str, Mapping[str, float]] = {
    "s": {"ms": 0.001, "s": 1, "min": 60, "h": 3600},
    "bytes": {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB},
    "": {},
}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)")
_PORT = re.compile(r"(?:^(?:haproxy:)?(?:tcp6?|ssl):|:port=)(\d+)")  # of an endpoint
_NUMERIC = re.compile(r"[\d./]+")  # an address or network, or what was to be one


def _by_keyword(kind: str) -> Mapping[str, str]:
    entries = UID_dictionary.items()
    return {keyword: uid for uid, (_, its_kind, _, _, keyword) in entries if its_kind == kind}


_TRANSFER_SYNTAXES = _by_keyword("Transfer Syntax")
_SOP_CLASSES = _by_keyword("SOP Class")


@dataclass(frozen=True, slots=True)
class Kind:
    """`take` makes of a TOML value what the node works with, or raises `ValueError`, whose text
    is a reason beside `allowed`. A value that is not `shown` may hold a password."""

    allowed: str
    take: Callable[[Any], Any]
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its section and name, what it holds, its default in words, its option, and what it
    is for. `required` is one that every table of its section has."""

    section: str
    name: str
    kind: Kind
    doc: str
    default: str = ""
    option: str = ""
    required: bool = False


def text(value: Any) -> str:
    """A string that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value.strip()


def ae_title(value: Any) -> str:
    """Without its padding."""
    if not is_ae_title(title := text(value)):
        raise ValueError
    return title


def _uid(by_keyword: Mapping[str, str]) -> Kind:
    """Of what has a keyword, or of anything else."""

    def take(value: Any) -> str:
        uid = by_keyword.get(name := text(value), name)
        if not is_uid(uid):
            raise ValueError
        return uid

    return Kind("", take)


def address(value: Any) -> str:
    """Where a peer may come from."""
    place = host(value) if "/" not in text(value) else text(value)
    if is_name(place) and (_NUMERIC.fullmatch(place) or set("/:") & set(place)):
        raise ValueError
    return place


def _scope(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise ValueError
    scope: dict[str, tuple[str, ...]] = {}
    for keyword, each in value.items():
        values = each if isinstance(each, list) else [each]
        if not all(isinstance(one, str) and one for one in values):
            raise ValueError(f"{keyword} has no text")
        scope[keyword] = tuple(values)
    scope_keys(scope)
    return scope


def endpoint(value: Any) -> str:
    """A server endpoint, as a string that Twisted understands."""
    description = text(value)
    try:
        serverFromString(None, description)  # it is only looked at: nothing listens
    except LookupError as error:
        raise ValueError("systemd has passed no such socket") from error
    except Exception as error:
        raise ValueError(error) from error
    port = _PORT.search(description)
    if port is not None and int(port[1]) >= 2**16:
        raise ValueError(f"{port[1]} is no port")
    return description


def host(value: Any) -> str:
    """A name or an address; one of IPv6 with or without its brackets."""
    name = text(value).removeprefix("[").removesuffix("]")
    if not name or any(c.isspace() or c in "[]/@" for c in name):
        raise ValueError
    return name


def collector(value: Any) -> str:
    """A syslog collector, as a URL."""
    return str(Collector.at(text(value)))


def _files(value: Any) -> tuple[str, ...]:
    return tuple(map(text, value)) if isinstance(value, list) else (text(value),)


def one_of(values: Mapping[str, str]) -> Kind:
    """One of the keys of `values`."""

    def take(value: Any) -> str:
        if not isinstance(value, str) or value not in values:
            raise ValueError
        return value

    return Kind(f"one of {', '.join(values)}", take)


def several(one: Kind, plural: str) -> Kind:
    """A list of what `one` takes, each once."""

    def take(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError
        taken: dict[Any, None] = {}
        for each in value:
            try:
                taken[one.take(each)] = None
            except ValueError:
                raise ValueError(f"{each!r} is not") from None
        return tuple(taken)

    return Kind(plural, take)


def whole(least: int, most: int) -> Kind:
    """An integer of a range."""

    def take(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:  # True is an int, too
            raise ValueError
        return value

    return Kind(f"an integer from {least} to {most}", take)


def limit(field: Field[Any]) -> Kind:
    """A field of `Limits`."""
    return quantity(*(field.metadata[name] for name in ("unit", "least", "most")))


def quantity(unit: str, least: float, most: float = inf) -> Kind:
    """A number, or with a unit a string such as "5 min" or "64 KiB"."""
    integral = unit != "s"
    types = (int,) if integral else (int, float)
    units = _UNITS[unit]

    def take(value: Any) -> float:
        number = _quantity(value, units) if isinstance(value, str) else value
        if type(number) not in types or not least <= number <= most or number == inf:
            raise ValueError
        return cast(float, number)

    kind = "an integer" if integral else "a number"
    span = f"from {least} to {most}" if most < inf else f"from {least}"
    also = f', or a string with a unit, such as "2 {list(units)[-2]}"' if units else ""
    return Kind(f"{kind} {span}{f' ({unit})' if unit else ''}{also}", take)


def _quantity(text: str, units: Mapping[str, float]) -> float:
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in units:
        raise ValueError
    number = float(match[1]) * units[match[2]]
    return int(number) if number.is_integer() else number


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _index_url(value: Any) -> str:
    url = text(value)
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("sqlite", "postgresql"):
        raise ValueError
    if scheme == "postgresql+psycopg" and find_spec("psycopg") is None:
        raise ValueError("it needs psycopg: pip install 'dimse[postgresql]'")
    return url


FLAG = Kind("true or false", _flag)
AE_TITLE = Kind("an AE title, 1 to 16 characters without backslash (PS3.5 6.2)", ae_title)
AE_TITLES = several(AE_TITLE, "a list of AE titles, 1 to 16 characters each (PS3.5 6.2)")
TRANSFER_SYNTAXES = several(
    _uid(_TRANSFER_SYNTAXES),
    "a list of transfer syntaxes, each a UID or its keyword, such as ExplicitVRLittleEndian",
)
ENDPOINT = Kind('a server endpoint of Twisted, such as "tcp:11112:interface=127.0.0.1"', endpoint)
FOLDER = Kind("the path of a folder", text)
FILE = Kind("the path of a file", text)
TEXT = Kind("a text", text)
COLLECTOR = Kind(
    'the URL of a syslog collector, such as "tls://audit.example:6514" or '
    '"udp://audit.example:514"',
    collector,
)
FILES = Kind("the path of a file, or a list of them", _files)
SOP_CLASSES = several(
    _uid(_SOP_CLASSES),
    "a list of SOP classes, each a UID or its keyword, such as CTImageStorage",
)
ADDRESSES = several(
    Kind("", address),
    "a list of IP addresses, networks such as 10.1.0.0/16, host names, and loopback for this "
    "machine",
)
CERTIFICATE_NAMES = several(
    Kind("", lambda value: certificate_name(text(value))),
    "a list of names, each CN:name, DNS:name, URI:name or sha256:fingerprint",
)
SCOPE = Kind(
    "a table of attributes that the archive keeps, each with a value or a list of them, such as "
    'Modality = ["CT", "MR"]',
    _scope,
)
HOST = Kind("a host name or an address", host)
PORT = whole(1, 2**16 - 1)
INDEX_URL = Kind(
    'a URL of SQLite or PostgreSQL, such as "postgresql+psycopg://user@host/database"',
    _index_url,
    shown=False,
)
