"""What SIGHUP renews, and which changes of the configuration need a restart."""

from collections.abc import Iterator
from typing import Any

from twisted.logger import Logger

from dimse.errors import MisuseError
from dimse.server.config import FIELDS, Configuration
from dimse.server.identity import Users
from dimse.server.keys import KEYS
from dimse.server.options import Options
from dimse.server.peers import PeerBook

RENEWED = ("peers", "tls", "log")
"""The sections of the file that are taken while the node runs."""

_log = Logger()


def renew(options: Options, peers: PeerBook, users: Users | None) -> None:
    """Read again what `RENEWED` has, with a file, and the files of users and of TLS.

    When something is wrong with one of them it stays as it was, and the log says why; the others
    are renewed. Associations that are open go on as they are.
    """
    configuration = _read(options)
    options.tls.renew(configuration.tls if configuration is not None else None)
    if configuration is not None:
        _take(configuration, options, peers)
    if users is not None:
        users.renew()


def _read(options: Options) -> Configuration | None:
    if options.file is None:
        return None
    try:
        return options.joined()
    except MisuseError as error:
        _log.error("{error}; the peers stay as they were, and so do [tls] and [log]", error=error)
        return None


def _take(configuration: Configuration, options: Options, peers: PeerBook) -> None:
    options.threshold.set(configuration.log_level)
    try:
        options.tls.reach(configuration.peers)
    except MisuseError as error:
        _log.error("{error}; the peers stay as they were", error=error)
    else:
        peers.renew(configuration.peers)
    keys = ", ".join(changed(options.configuration, configuration))
    if keys:
        _log.warn("{file}: changes of {keys} need a restart", file=options.file, keys=keys)


def changed(before: Configuration, after: Configuration) -> Iterator[str]:
    """The keys that differ and need a restart, as they are written in the file.

    A key that an option takes the place of does not differ.
    """
    where = [(each.endpoints, each.tls_endpoints) for each in (before, after)]
    if where[0] != where[1]:
        yield "[[listeners]]"
        without = [each.tls.certificate is None for each in (before, after)]
        if without[0] != without[1]:  # with one, and no listeners in the file, TLS is listened for
            yield "[tls] certificate"
    for section, name in ((key.section, key.name) for key in KEYS):
        if section not in ("listeners", *RENEWED):
            old, new = (_value(each, section, name) for each in (before, after))
            if old != new:
                yield f"[{section}] {name}"


def _value(configuration: Configuration, section: str, name: str) -> Any:
    """What it has of a key of a section that is there once."""
    if (section, name) in FIELDS:
        return getattr(configuration, FIELDS[section, name])
    return getattr(getattr(configuration, section), name)
