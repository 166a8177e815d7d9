"""A connection in memory: bytes move when a test says so."""

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

WHOLE = 1 << 30  # a segment that holds whatever there is
ENDLESS = 1_000_000  # so much happens in no test that ends

CLIENT = IPv4Address("TCP", "10.0.0.1", 4242)
SERVER = IPv4Address("TCP", "10.0.0.2", 104)


@implementer(ITransport, IConsumer, IPushProducer)
class Transport:
    """One end of a connection; what is written stays in `buffer` until the other end reads it.

    `writes` are all writes. Above `bufferSize` bytes the `producer` is paused. `reading` is what
    the protocol wants, `timeline` each "pause" and "resume" of it; an end that is `deaf` does not
    read whatever it wants. The end is `disconnecting` or `aborted` when that was asked for, and
    `lost` when the protocol has been told.
    """

    def __init__(self, peer: IPv4Address, host: IPv4Address) -> None:
        self.protocol: Any = None
        self.buffer = bytearray()
        self.writes: list[bytes] = []
        self.bufferSize = 64 * 1024
        self.producer: Any = None
        self.streaming = True
        self.reading = True
        self.deaf = False
        self.disconnecting = self.aborted = self.lost = False
        self.timeline: list[str] = []
        self._peer = peer
        self._host = host
        self._producer_paused = False

    # What a protocol calls

    def write(self, data: bytes) -> None:
        """Keep it for the other end."""
        if not isinstance(data, bytes):
            raise TypeError(f"{type(data).__name__} written instead of bytes")
        if not self.lost:
            self.writes.append(data)
            self.buffer += data
            if self.producer is not None and self.streaming and len(self.buffer) > self.bufferSize:
                self._producer_paused = True
                self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Write all of it at once."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close when all is read, and no producer waits to write more."""
        self.disconnecting = True

    def abortConnection(self) -> None:
        """Close now."""
        self.aborted = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Who is told when there is too much, and when there is nothing left."""
        self.producer = producer
        self.streaming = streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Tell nobody any more."""
        self.producer = None

    def pauseProducing(self) -> None:
        """Stop reading."""
        self.reading = False
        self.timeline.append("pause")

    def resumeProducing(self) -> None:
        """Read again."""
        self.reading = True
        self.timeline.append("resume")

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        """The address of the other end."""
        return self._peer

    def getHost(self) -> IPv4Address:
        """The address of this end."""
        return self._host

    # What the connection does with it

    @property
    def reads(self) -> bool:
        """Whether this end reads now."""
        return self.reading and not (self.deaf or self.lost or self.disconnecting)

    @property
    def may_close(self) -> bool:
        """Whether what was asked to close does: a producer that is waited for keeps it open."""
        awaited = self.producer is not None and (self._producer_paused or not self.streaming)
        return self.disconnecting and not self.buffer and not awaited

    def take(self, size: int) -> bytes:
        """The next bytes that were written, at most `size`."""
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def drained(self) -> None:
        """Bytes were taken: the producer may go on when none is left."""
        ready = self._producer_paused or not self.streaming
        if not self.buffer and ready and self.producer is not None:
            self._producer_paused = False
            self.producer.resumeProducing()

    def lose(self, reason: Exception) -> None:
        """The connection is gone; the protocol is told once."""
        if not self.lost:
            self.lost = True
            self.buffer.clear()
            self.protocol.connectionLost(Failure(reason))


class Link:
    """A connection of two protocols: `near` and `far` are its ends.

    Bytes arrive in segments of `sizes`. The addresses are those of the ends, by default the ones
    of a client, near, and of a server.
    """

    def __init__(
        self,
        near: Any,
        far: Any,
        clock: Clock,
        near_address: IPv4Address = CLIENT,
        far_address: IPv4Address = SERVER,
    ) -> None:
        self.sizes: Iterator[int] = repeat(WHOLE)
        self.near = Transport(far_address, near_address)
        self.far = Transport(near_address, far_address)
        self._clock = clock
        for transport, protocol in ((self.near, near), (self.far, far)):
            transport.protocol = protocol
        far.makeConnection(self.far)
        near.makeConnection(self.near)

    def step(self) -> bool:
        """Let one thing happen; returns whether there was one."""
        return self._move(self.near, self.far) or self._move(self.far, self.near)

    def _move(self, one: Transport, other: Transport) -> bool:
        if one.lost:
            if other.lost or not (other.reads or other.buffer):
                return False  # nobody looks
            other.lose(ConnectionDone())
        elif one.aborted:
            one.lose(ConnectionAborted())
        elif one.buffer and other.reads:
            other.protocol.dataReceived(one.take(next(self.sizes)))
            one.drained()
        elif one.may_close:
            one.lose(ConnectionDone())
        else:
            return False
        return True

    def run(self, steps: int | None = None) -> None:
        """Until nothing happens any more, or `steps` things did."""
        done = 0
        while done != steps and self.step():
            done += 1
            if done == ENDLESS:
                raise AssertionError(f"{ENDLESS} things happened, and it goes on")

    def advance(self, seconds: float) -> None:
        """Let time pass, and then what follows from it."""
        self._clock.advance(seconds)
        self.run()

    def cut(self) -> None:
        """The network is gone: both ends lose the connection."""
        for transport in (self.near, self.far):
            transport.lose(ConnectionLost())
