"""What a configuration leaves open, for who answers for its security: `dimse config check`."""

from collections.abc import Iterator
from typing import NamedTuple

from dimse.security.access import UNLISTED, KnownPeer, is_local, network_of
from dimse.security.syslog import Collector
from dimse.server.config import Configuration


class Weakness(NamedTuple):
    """What is left open, by which `key` of the configuration, and of which peer."""

    key: str
    text: str
    ae_title: str = ""


def weaknesses(configuration: Configuration) -> Iterator[Weakness]:
    """Whatever is written so that more can do more than the writer may think; none is an error."""
    plain, secured = _listens(configuration)
    certified = secured and configuration.tls.client_auth == "require"
    if configuration.unlisted == "all":
        yield Weakness("node.unlisted", f"peers that are not listed may do: {UNLISTED['all']}")
    if secured and not certified:
        yield Weakness("tls.client_auth", "whoever connects over TLS needs no certificate")
    if configuration.identity.allow_plain and plain:
        text = "passcodes and tokens may come without TLS, where others can read and use them"
        yield Weakness("identity.allow_plain", text)
    if configuration.identity.user_names:
        yield Weakness("identity.user_names", "a user name is believed without any proof")
    yield from _of_audit(configuration.audit.syslog)
    identity = configuration.identity
    proven = identity.verify and not identity.user_names
    for peer in configuration.peers.values():
        user = proven and (identity.required or peer.identity == "required")
        if not _is_bound(peer, user=user):
            shown = certified and (peer.encrypted or not plain)
            yield Weakness("peers.ae_title", _unbound(peer, shown=shown), peer.ae_title)


def _listens(configuration: Configuration) -> tuple[bool, bool]:
    """Whether it does so without TLS, and with, where the file alone decides."""
    named = bool(configuration.endpoints or configuration.tls_endpoints)
    secured = bool(configuration.tls_endpoints)
    if not named:
        secured = configuration.tls.certificate is not None
    return bool(configuration.endpoints) or not secured, secured


def _of_audit(syslog: str | None) -> Iterator[Weakness]:
    if syslog is None:
        return
    collector = Collector.at(syslog)
    if collector.scheme == "udp" and not (
        collector.host == "localhost" or is_local(collector.host)
    ):
        text = f"audit records name patients, and go to {collector} as everybody can read them"
        yield Weakness("audit.syslog", text)


def _is_bound(peer: KnownPeer, *, user: bool) -> bool:
    """Whether more than its title says who it is, as a `user` does, or it may do nothing anyway."""
    placed = bool(peer.places) and not any(map(_is_everywhere, peer.places))
    return placed or bool(peer.certificate_names) or user or peer.services == ()


def _is_everywhere(place: str) -> bool:
    network = network_of(place)
    return network is not None and network.prefixlen == 0


def _unbound(peer: KnownPeer, *, shown: bool) -> str:
    who = "whoever has a certificate of tls.ca" if shown else "whoever knows the title"
    remedy = "certificate_names" if shown else "addresses, or certificate_names"
    return f"peer {peer.ae_title} is known by its title alone: {who} can be it; give it {remedy}"
