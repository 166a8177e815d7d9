"""What we do to a TCP connection beyond Twisted: its options, and its socket."""

import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import ISSLTransport, ITCPTransport
from twisted.protocols.policies import ProtocolWrapper

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

# One read: 64 KiB, Twisted's default, costs a third of the rate with large instances; 1 MiB is
# slower again (page faults). It is also the mark above which Twisted asks us to stop writing.
READ_SIZE = 256 * 1024

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux has it
_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)  # so does this

# Where our own time-out can see that a peer does not read, it comes first and says what it is.
_BEHIND_OURS = 1.1
_LONGEST = 0x7FFF_FFFF  # milliseconds


def prepare(transport: Any) -> Any:
    """Set the options of a new connection; returns its TCP transport, None if there is none.

    Below TLS, or another protocol that wraps ours, that is another one than ours.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    tcp: Any = transport
    # A transport that began TLS by itself has no socket to touch either.
    if not ITCPTransport.providedBy(transport) or ISSLTransport.providedBy(transport):
        return None
    tcp.setTcpNoDelay(True)
    tcp.setTcpKeepAlive(True)
    tcp.bufferSize = READ_SIZE
    return tcp


def limit_unread(tcp: Any, seconds: float) -> None:
    """End the connection when the peer takes nothing of what was sent for so long (RFC 5482).

    Of a peer that does not read, a transport hears when the kernel holds megabytes for it; many
    small answers never get there. The kernel looks when it probes the window, at intervals that
    double: it may take twice as long.
    """
    if tcp is not None and _USER_TIMEOUT is not None:
        milliseconds = min(max(round(1000 * seconds * _BEHIND_OURS), 1), _LONGEST)
        tcp.getHandle().setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, milliseconds)


def acknowledge_now(tcp: Any) -> None:
    """Re-arm TCP_QUICKACK, which Linux forgets after each use."""
    if _QUICKACK is not None:
        tcp.getHandle().setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


def send_now(tcp: Any, data: bytes) -> int:
    """How many bytes the socket takes at once; what is wrong with it, the transport finds out."""
    try:
        sent: int = tcp.getHandle().send(data)
    except OSError:
        return 0
    return sent


def security_of(transport: Any) -> "tuple[bool, Certificate | None]":
    """Whether it is TLS, and the certificate of the peer, if it showed one."""
    if not ISSLTransport.providedBy(transport):
        return False, None
    shown: Any = transport.getPeerCertificate()
    return True, shown.to_cryptography() if shown is not None else None


def describe(address: Any) -> str:
    """An address of Twisted as `host:port`, as far as it has them."""
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    if host is None:
        return type(address).__name__
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
