"""Audit records on their way: syslog (RFC 5424) over TLS (RFC 5425) or UDP (RFC 5426), or a file
(PS3.15 A.6, A.7)."""

import fcntl
import os
import socket
import sys
import termios
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from errno import ENOSPC
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectionClosed, MessageLengthError
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import DatagramProtocol, Factory, connectionDone
from twisted.internet.protocol import Protocol as StreamProtocol
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dimse.errors import MisuseError
from dimse.security.tls import ClientContext
from dimse.ul import tcp
from dimse.ul.handshake import Handshake

_PRI = b"<85>"  # facility 10, security; severity 5, notice (PS3.15 A.6)
_BOM = b"\xef\xbb\xbf"  # what is in UTF-8 begins with it (RFC 5424 6.4)
_LONGEST_HOST, _LONGEST_APPLICATION = 255, 48  # RFC 5424 6
_CONNECT = 30.0  # s to the end of the TLS handshake
_TAKEN = 30.0  # s for the collector's machine to acknowledge what was written
_CLOSE = 5.0  # s for it to answer to the end of TLS
_JUDGED = 1.0  # s for it to judge our certificate: with TLS 1.3 we may send before it has
_LOOK = 0.05  # s between two looks whether it has
_PORTS = {"tls": 6514, "udp": 514}


@dataclass(frozen=True, slots=True)
class Collector:
    """Where records go: `scheme` is tls or udp."""

    scheme: str
    host: str
    port: int

    @classmethod
    def at(cls, url: str) -> "Collector":
        """From `tls://host:port` or `udp://host:port`; raises `ValueError`, which says why."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS:
            raise ValueError("not tls:// or udp://")
        if not parts.hostname or parts.path.strip("/") or parts.query or "@" in parts.netloc:
            raise ValueError("more or less than a host and a port")
        port = parts.port or _PORTS[parts.scheme]
        return cls(parts.scheme, parts.hostname, port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def syslog_message(xml: bytes, time: datetime, host: str, application: str = "dimse") -> bytes:
    """An audit message as SYSLOG-MSG (RFC 5424 6); `time` is in UTC."""
    header = (
        "1",
        time.isoformat(timespec="milliseconds"),
        _header(host, _LONGEST_HOST),
        _header(application, _LONGEST_APPLICATION),
        str(os.getpid()),
        "DICOM+RFC3881",
        "-",
    )
    return _PRI + " ".join(header).encode() + b" " + _BOM + xml


def _header(text: str, longest: int) -> str:
    """A field of the header: ASCII without spaces, or the value for none."""
    return "".join(c for c in text if "!" <= c <= "~")[:longest] or "-"


def octet_counted(message: bytes) -> bytes:
    """As it goes into a stream (RFC 5425 4.3)."""
    return b"%d %s" % (len(message), message)


class Sender(Protocol):
    """Brings messages to a collector, in their order."""

    def send(self, messages: Sequence[bytes]) -> "Deferred[None]":
        """Fires when they are there, as far as that can be known; fails if they may not be."""

    def close(self) -> None:
        """Leave."""


def _unacknowledged(connection: Any) -> int:
    """Bytes of the socket that the machine at the other end has not acknowledged; 0 where the
    platform does not tell."""
    waiting = bytearray(4)
    try:
        fcntl.ioctl(connection.getHandle(), termios.TIOCOUTQ, waiting)  # SIOCOUTQ of Linux
    except (AttributeError, OSError):
        return 0
    return int.from_bytes(waiting, sys.byteorder)


@implementer(IHandshakeListener)
class _Stream(StreamProtocol):
    """A connection to a collector, which never says anything (RFC 5425 4.3)."""

    transport: Any

    def __init__(self, clock: Any) -> None:
        self.handshake = Handshake(requestor=True)
        self.ready: Deferred[None] = Deferred()
        self.lost: BaseException | None = None
        self._clock = clock
        self._taken: Deferred[None] | None = None
        self._deadline = 0.0
        self._first_look = _JUDGED
        self._call: Any = None

    def connectionMade(self) -> None:
        """The handshake comes first."""
        self.handshake.begin(self.transport)
        self._tcp = tcp.prepare(self.transport)

    def handshakeCompleted(self) -> None:
        """It is who it should be."""
        self.handshake.pending = False
        self.ready.callback(None)

    def deliver(self, data: bytes) -> "Deferred[None]":
        """Write; fires when the machine at the other end has acknowledged all of it."""
        # Who waits no longer, as the node stops, leaves: what did not get through is in the spool.
        taken = self._taken = Deferred(lambda _: self.transport.abortConnection())
        self._deadline = self._clock.seconds() + _TAKEN
        self.transport.write(data)
        self._call = self._clock.callLater(self._first_look, self._look)
        self._first_look = _LOOK
        return taken

    def _look(self) -> None:
        if not _unacknowledged(self._tcp):
            self._call = None
            taken, self._taken = self._taken, None
            assert taken is not None
            taken.callback(None)
        elif self._clock.seconds() >= self._deadline:
            self._call = None
            self.transport.abortConnection()
        else:
            self._call = self._clock.callLater(_LOOK, self._look)

    def leave(self) -> None:
        """Close; a collector that does not answer to the end of TLS has its time for that."""
        self.transport.loseConnection()
        if self._call is None:
            self._call = self._clock.callLater(_CLOSE, self.transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody knows what arrived of what was not acknowledged."""
        self.lost = self.handshake.explain(reason.value)
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        taken, self._taken = self._taken, None
        for waiter in (taken, self.ready):
            if waiter is not None and not waiter.called:
                waiter.errback(self.lost)


class TLSSender:
    """Syslog over TLS (RFC 5425): connects when there is something to send, and stays.

    `tls` says whom to trust, and what to show.
    """

    def __init__(self, collector: Collector, tls: ClientContext, reactor: Any) -> None:
        self._collector = collector
        self._tls = tls
        self._reactor = reactor
        self._stream: _Stream | None = None

    def send(self, messages: Sequence[bytes]) -> "Deferred[None]":
        """Fires when the collector's machine has acknowledged them: the protocol has no answer."""
        return Deferred.fromCoroutine(self._send(b"".join(map(octet_counted, messages))))

    async def _send(self, data: bytes) -> None:
        if self._stream is None or self._stream.lost is not None:
            self._stream = await self._connect()
        await self._stream.deliver(data)

    async def _connect(self) -> _Stream:
        collector, stream = self._collector, _Stream(self._reactor)
        plain: Any = HostnameEndpoint(self._reactor, collector.host.encode(), collector.port)
        secured = self._tls.secured(plain, collector.host, self._reactor, protocol=None)
        await secured.connect(_Connecting.forProtocol(lambda: stream))
        try:
            await stream.ready.addTimeout(_CONNECT, self._reactor)
        except BaseException:
            if stream.lost is None:
                stream.transport.abortConnection()
            raise
        return stream

    def close(self) -> None:
        """Close the connection, if there is one."""
        stream, self._stream = self._stream, None
        if stream is not None and stream.lost is None:
            stream.leave()


class _Connecting(Factory):
    """Of a connection; the log of the spool says what becomes of it."""

    noisy = False  # else two lines for each attempt, all day


class _Datagrams(DatagramProtocol):
    """A socket that is connected, and so hears that nobody listens at the other end: as
    `connectionRefused`, or, with epoll, in that it is closed."""

    noisy = False  # nothing of it in the log
    refused: "Deferred[None] | None" = None

    def connectionRefused(self) -> None:
        """An ICMP message says so."""
        self.stopProtocol()

    def stopProtocol(self) -> None:
        """It is closed."""
        refused, self.refused = self.refused, None
        if refused is not None:
            refused.errback(ConnectionClosed("nobody listens there"))


class UDPSender:
    """Syslog over UDP (RFC 5426), a datagram each: what gets lost on the way nobody knows."""

    _log = Logger()

    def __init__(self, collector: Collector, reactor: Any) -> None:
        self._collector = collector
        self._reactor = reactor
        self._protocol: _Datagrams | None = None

    def send(self, messages: Sequence[bytes]) -> "Deferred[None]":
        """Fires a moment later, unless by then it is known that nobody listens."""
        return Deferred.fromCoroutine(self._send(messages))

    async def _send(self, messages: Sequence[bytes]) -> None:
        if self._protocol is None or self._protocol.transport is None:
            self._protocol = await self._connect()
        try:
            await self._write(self._protocol, messages)
        except BaseException:
            self.close()
            raise

    async def _write(self, protocol: _Datagrams, messages: Sequence[bytes]) -> None:
        transport: Any = protocol.transport
        sent: Deferred[None] = Deferred()
        protocol.refused = sent
        call = self._reactor.callLater(_LOOK, sent.callback, None)
        try:
            for message in messages:
                try:
                    transport.write(message)
                except MessageLengthError:
                    length = len(message)
                    self._log.error("an audit record of {length} bytes is lost", length=length)
            await sent
        finally:
            protocol.refused = None
            if call.active():
                call.cancel()

    async def _connect(self) -> _Datagrams:
        collector, pool = self._collector, self._reactor.getThreadPool()
        (family, *_, address), *_ = await deferToThreadPool(
            self._reactor,
            pool,
            lambda: socket.getaddrinfo(collector.host, collector.port, type=socket.SOCK_DGRAM),
        )
        protocol: Any = _Datagrams()
        anywhere = "::" if family == socket.AF_INET6 else ""
        self._reactor.listenUDP(0, protocol, interface=anywhere)
        protocol.transport.connect(*address[:2])
        return protocol  # type: ignore[no-any-return]  # Any for its transport, which has no type

    def close(self) -> None:
        """Close the socket."""
        protocol, self._protocol = self._protocol, None
        if protocol is not None and protocol.transport is not None:
            protocol.transport.stopListening()


class AuditFile:
    """Records in a file of mode 0600, each a line; it can be moved away at any time."""

    _log = Logger()

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost = 0

    def open(self) -> None:
        """Make it; raises `MisuseError` when that cannot be."""
        try:
            append_to(self.path, b"")
        except OSError as error:
            raise MisuseError(f"audit file {self.path}: {error.strerror}") from error

    def take(self, message: bytes) -> None:
        """Append it; what the disk does not take is counted, and the log says so."""
        try:
            append_to(self.path, message + b"\n")
        except OSError as error:
            self.lost += 1
            if self.lost == 1:
                self._log.error(
                    "audit file {path}: {reason}; records are lost",
                    path=str(self.path),
                    reason=error.strerror,
                )
        else:
            self._say_lost()

    def close(self) -> "Deferred[None]":
        """Say what was lost."""
        self._say_lost()
        return succeed(None)

    def _say_lost(self) -> None:
        lost, self.lost = self.lost, 0
        if lost:
            path = str(self.path)
            self._log.error("audit file {path}: {lost} records were lost", path=path, lost=lost)


def append_to(path: Path, data: bytes) -> None:
    """Append all of it or nothing to a file that its owner alone can read; raises `OSError`."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(path, flags, 0o600)
    try:
        before = os.fstat(file).st_size
        try:
            if os.write(file, data) != len(data):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, before)
            raise
    finally:
        os.close(file)
