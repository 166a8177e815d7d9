"""Two protocols joined in memory: bytes move when a test says so."""

from collections.abc import Iterator
from itertools import repeat
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

WHOLE = 1 << 30  # a segment that holds whatever there is


class Transport:
    """One end of a connection. What is written stays here until the other end reads it."""

    def __init__(self, peer: IPv4Address) -> None:
        self.protocol: Any = None
        self.buffer = bytearray()
        self.writes: list[bytes] = []
        self.bufferSize = 64 * 1024
        self.producer: Any = None
        self.streaming = True
        self.reading = True
        self.deaf = False  # a peer that does not read, whatever its protocol wants
        self.disconnecting = self.aborted = self.lost = False
        self.timeline: list[str] = []
        self._peer = peer
        self._producer_paused = False

    @property
    def reads(self) -> bool:
        return self.reading and not (self.deaf or self.lost or self.disconnecting)

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        if not self.lost:
            self.writes.append(data)
            self.buffer += data
            if self.producer is not None and self.streaming and len(self.buffer) > self.bufferSize:
                self._producer_paused = True
                self.producer.pauseProducing()

    def take(self, size: int) -> bytes:
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def drained(self) -> None:
        ready = self._producer_paused or not self.streaming
        if not self.buffer and ready and self.producer is not None:
            self._producer_paused = False
            self.producer.resumeProducing()

    def lose(self, reason: Exception) -> None:
        if not self.lost:
            self.lost = True
            self.buffer.clear()
            self.protocol.connectionLost(Failure(reason))

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.aborted = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer
        self.streaming = streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False
        self.timeline.append("pause")

    def resumeProducing(self) -> None:
        self.reading = True
        self.timeline.append("resume")

    def getPeer(self) -> IPv4Address:
        return self._peer


class Link:
    """Two protocols and what is between them; `sizes` are those of the segments that arrive."""

    def __init__(self, near: Any, far: Any, clock: Clock, host: str) -> None:
        self.sizes: Iterator[int] = repeat(WHOLE)
        self.near, self.far = (Transport(IPv4Address("TCP", host, 4242)) for _ in range(2))
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
        elif one.disconnecting and not one.buffer and one.producer is None:
            one.lose(ConnectionDone())
        else:
            return False
        return True

    def run(self, steps: int | None = None) -> None:
        """Until nothing happens any more, or `steps` things did."""
        done = 0
        while done != steps and self.step():
            done += 1
            assert done < 1_000_000

    def advance(self, seconds: float) -> None:
        """Let time pass, and then what follows from it."""
        self._clock.advance(seconds)
        self.run()

    def cut(self) -> None:
        """The network is gone."""
        for transport in (self.near, self.far):
            transport.lose(ConnectionLost())
