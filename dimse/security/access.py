"""Who may associate with a node, and what each may do there: decisions alone, no Twisted.

An AE title is a label that anybody can send. What a peer may do depends on it only together with
what cannot be chosen so easily: the address, the certificate, and the user.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from dimse.errors import RejectResult, RejectSource
from dimse.security.addresses import address_of

LOOPBACK = "loopback"
"""Among the addresses of a peer: this machine, by 127.0.0.0/8, ::1 or a UNIX socket."""

UNLISTED: Mapping[str, str] = {
    "loopback": "all that the node can from this machine, and nothing from others",
    "all": "all that the node can",
    "echo": "C-ECHO",
    "none": "nothing: its association is rejected",
}
"""What a peer that is not listed may do."""

IDENTITIES: Mapping[str, str] = {
    "optional": "with or without a user",
    "required": "with a user that was verified",
}
"""Whether a peer needs a user identity (PS3.7 D.3.3.7)."""

_LOCAL_NAMES = (LOOPBACK, "localhost")
_CALLING, _CALLED = 3, 7  # AE title not recognized (PS3.8 9.3.4, source 1)
_NO_REASON = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPeer:
    """A peer as it is configured; what is None is as for everybody."""

    ae_title: str
    # Who it is, beside its title.
    host: str | None = None
    port: int | None = None
    addresses: tuple[str, ...] = ()
    encrypted: bool = False
    certificate_names: tuple[str, ...] = ()
    identity: str = "optional"
    # What it may ask for.
    services: tuple[str, ...] | None = None
    sop_classes: tuple[str, ...] | None = None
    store_transfer_syntaxes: tuple[str, ...] | None = None
    scope: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    destinations: tuple[str, ...] | None = None
    # How much.
    associations: int | None = None
    associations_per_minute: int | None = None
    operations_per_minute: int | None = None
    bytes_per_hour: int | None = None
    bytes_per_day: int | None = None
    operations_performed: int | None = None
    # What it is sent.
    tls: bool = False
    move_destination: bool = True
    availability: bool = False
    move_transfer_syntaxes: tuple[str, ...] = ()
    operations_invoked: int | None = None

    @property
    def address(self) -> str | None:
        """Host and port in one, as `dimse.associate` takes them; None unless both are known."""
        if self.host is None or self.port is None:
            return None
        host = "localhost" if self.host.lower() == LOOPBACK else self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def places(self) -> tuple[str, ...]:
        """Where it may come from: its addresses, else its host; from anywhere without either."""
        return self.addresses or ((self.host,) if self.host is not None else ())

    def may(self, service: str) -> bool:
        """Whether it may use a service at all."""
        if service in ("store", "get") and self.sop_classes == ():
            return False
        return self.services is None or service in self.services

    @property
    def names(self) -> frozenset[str]:
        """Those of its places that are host names."""
        return frozenset(place for place in self.places if is_name(place))


Peers = Mapping[str, KnownPeer]
"""Peers by AE title."""

Resolved = Callable[[str], Collection[str]]
"""The addresses that a host name has; none while it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requestor:
    """Who asks for an association, as far as a decision depends on it.

    `host` is its address, "" on a UNIX socket; `certificate_names` are those of the certificate
    that it showed, `user` who was verified to be its user.
    """

    ae_title: str
    called_ae_title: str = ""
    host: str = ""
    encrypted: bool = False
    certificate_names: frozenset[str] = frozenset()
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """What goes into an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    result: int
    source: int
    reason: int

    def __str__(self) -> str:
        return f"RJ({self.result},{self.source},{self.reason})"


def _rejection(source: RejectSource, reason: int) -> Rejection:
    return Rejection(int(RejectResult.PERMANENT), int(source), reason)


NOT_RECOGNIZED = _rejection(RejectSource.SERVICE_USER, _CALLING)
CALLED_NOT_RECOGNIZED = _rejection(RejectSource.SERVICE_USER, _CALLED)
NO_USER = _rejection(RejectSource.SERVICE_PROVIDER_ACSE, _NO_REASON)
UNIFORM = _rejection(RejectSource.SERVICE_USER, _NO_REASON)
"""The answer that tells nothing of what was wrong."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A step of a decision in words, and the key of the configuration that it follows."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an association is taken, and why; `peer` is what may be done on it."""

    peer: KnownPeer
    rejection: Rejection | None
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may associate: the configuration, as far as it says so.

    `ae_titles` are the called AE titles, any if there is none. `unlisted` is a key of `UNLISTED`;
    None is `loopback` as long as no peer is listed, and `none` as soon as one is: who lists peers
    has said whom he wants. A proxy or a side-car on this machine makes everybody local.
    """

    ae_titles: Collection[str] = ()
    unlisted: str | None = None
    peers: Peers = field(default_factory=dict)

    @property
    def for_unlisted(self) -> str:
        """What peers that are not listed may do."""
        return self.unlisted or ("none" if self.peers else LOOPBACK)

    def decide(self, who: Requestor, resolved: Resolved) -> Verdict:
        """What becomes of a request; who asks comes first, so a stranger learns no titles."""
        peer = self.peers.get(who.ae_title)
        if peer is None:
            peer, rejection, reasons = self._of_unlisted(who)
        else:
            rejection, reasons = _of_listed(peer, who, resolved)
        if rejection is None and self.ae_titles:
            titles = ", ".join(self.ae_titles)
            if who.called_ae_title in self.ae_titles:
                reasons.append(Reason("node.ae_titles", f"it calls one of {titles}"))
            else:
                rejection = CALLED_NOT_RECOGNIZED
                reasons.append(Reason("node.ae_titles", f"it does not call one of {titles}"))
        return Verdict(peer, rejection, tuple(reasons))

    def _of_unlisted(self, who: Requestor) -> tuple[KnownPeer, Rejection | None, list[Reason]]:
        rule = self.for_unlisted
        taken = rule in ("all", "echo") or (rule == LOOPBACK and is_local(who.host))
        listed = "it is not among the peers" if self.peers else "no peer is listed"
        where = "comes" if is_local(who.host) else "does not come"
        text = f"{listed}, it {where} over loopback, and unlisted is {rule}"
        reason = Reason("node.unlisted", text)
        services = ("echo",) if rule == "echo" else None
        peer = KnownPeer(ae_title=who.ae_title, services=services)
        return peer, None if taken else NOT_RECOGNIZED, [reason]


def _of_listed(
    peer: KnownPeer, who: Requestor, resolved: Resolved
) -> tuple[Rejection | None, list[Reason]]:
    """All that binds a peer is asked, in this order, until something does not hold."""
    reasons = [Reason("peers.ae_title", "it is listed")]
    rejection: Rejection | None = None
    for holds, otherwise, reason in _bonds(peer, who, resolved):
        reasons.append(reason)
        if not holds:
            rejection = otherwise
            break
    return rejection, reasons


def _bonds(
    peer: KnownPeer, who: Requestor, resolved: Resolved
) -> Sequence[tuple[bool, Rejection, Reason]]:
    bonds: list[tuple[bool, Rejection, Reason]] = []
    if peer.places:
        holds = comes_from(who.host, peer.places, resolved)
        key = "peers.addresses" if peer.addresses else "peers.host"
        places = ", ".join(_shown(place, resolved) for place in peer.places)
        text = f"{who.host or 'this machine'} is {'' if holds else 'not '}of its own: {places}"
        bonds.append((holds, NOT_RECOGNIZED, Reason(key, text)))
    else:
        bonds.append((True, NOT_RECOGNIZED, Reason("peers.addresses", "from any address")))
    if peer.encrypted:
        text = f"it came {'with' if who.encrypted else 'without'} TLS, and needs it"
        bonds.append((who.encrypted, NOT_RECOGNIZED, Reason("peers.encrypted", text)))
    if peer.certificate_names:
        shown = who.encrypted and not who.certificate_names.isdisjoint(peer.certificate_names)
        names = ", ".join(peer.certificate_names)
        text = f"its certificate is {'' if shown else 'not '}one of {names}"
        bonds.append((shown, NOT_RECOGNIZED, Reason("peers.certificate_names", text)))
    if peer.identity == "required":
        known = who.user is not None
        text = f"{'a' if known else 'no'} verified user, and it needs one"
        bonds.append((known, NO_USER, Reason("peers.identity", text)))
    return bonds


def _shown(place: str, resolved: Resolved) -> str:
    if not is_name(place):
        return place
    return f"{place} ({', '.join(sorted(resolved(place))) or 'does not resolve'})"


# Addresses


def comes_from(host: str, places: Collection[str], resolved: Resolved) -> bool:
    """Whether an address is one of `places`: addresses, networks, host names, and `LOOPBACK`."""
    address = address_of(host)
    for place in places:
        if place.lower() in _LOCAL_NAMES:
            found = is_local(host)
        elif (network := network_of(place)) is not None:
            found = address is not None and address in network
        else:
            found = address is not None and address in map(address_of, resolved(place))
        if found:
            return True
    return False


def is_local(host: str) -> bool:
    """Whether an address is of this machine; a UNIX socket has none."""
    address = address_of(host)
    return host == "" or (address is not None and address.is_loopback)


def is_name(place: str) -> bool:
    """Whether it is a host name, which has to be resolved."""
    return place.lower() not in _LOCAL_NAMES and network_of(place) is None


@lru_cache(maxsize=1024)
def network_of(text: str) -> IPv4Network | IPv6Network | None:
    """An address or a network such as 10.1.0.0/16; None for what is neither."""
    try:
        network = ip_network(text)
    except ValueError:
        return None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= 96:
        return IPv4Network((mapped, network.prefixlen - 96))
    return network
