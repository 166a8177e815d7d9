"""Hosts as text: whether one is an address, and who has it to himself."""

from ipaddress import IPv4Address, IPv6Address, ip_address

_SUBSCRIBER = 64  # bits of an IPv6 address that one subscriber has all to himself (RFC 6177)


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is; None for a name.

    It has no zone, and is of IPv4 also where it came over IPv6, as ::ffff:192.0.2.7.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped: IPv4Address | None = getattr(address, "ipv4_mapped", None)
    return mapped or address


def counted_as(host: str) -> str:
    """Under which name a host is counted: of IPv6 it is the network of 64 bits.

    What is no address, a UNIX socket or what a proxy says, is itself.
    """
    address = address_of(host)
    if address is None:
        return host
    if isinstance(address, IPv4Address):
        return str(address)
    return f"{int(address) >> _SUBSCRIBER:x}::/{_SUBSCRIBER}"


def host_of(place: str) -> str:
    """The host of `host:port`, as `Peer` and destinations have it."""
    host = place.rpartition(":")[0] or place
    return host.removeprefix("[").removesuffix("]")
