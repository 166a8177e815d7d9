"""A proxy in front of a peer: what comes at one end leaves at the other, later."""

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure


class Way(Protocol):
    """One end of a connection: what comes to it leaves at the other end after `delay` seconds."""

    transport: Any

    def __init__(self, reactor: Any, delay: float) -> None:
        self.reactor = reactor
        self.delay = delay
        self.other: Way | None = None
        self.lost: Deferred[None] = Deferred()
        self._early: list[bytes] = []
        self._due = 0.0  # when the last of what is on its way leaves
        self._steps: deque[Callable[[], object]] = deque()

    def join(self, other: "Way") -> None:
        """Both ends are connected."""
        self.other, other.other = other, self
        if self.lost.called:
            other.transport.loseConnection()
            return
        for end in self, other:
            end.transport.setTcpNoDelay(True)
        for data in self._early:
            self.dataReceived(data)

    def dataReceived(self, data: bytes) -> None:
        """Hold it."""
        if self.other is None:
            self._early.append(data)
        else:
            self.passes(data)

    def passes(self, data: bytes) -> None:
        """To the other end."""
        assert self.other is not None
        transport = self.other.transport
        self.later(lambda: transport.write(data))

    def later(self, step: Callable[[], object], more: float = 0) -> None:
        """Take a step behind those before, and `more` seconds behind the last of them."""
        now = self.reactor.seconds()
        self._due = max(self._due + more, now + self.delay)
        self._steps.append(step)
        self.reactor.callLater(self._due - now, self._take_step)

    def _take_step(self) -> None:
        self._steps.popleft()()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Behind what is still on its way."""
        self.lost.callback(None)
        if self.other is not None:
            self.later(self.other.transport.loseConnection)


class Proxy(Factory):
    """Connects whoever comes to `port`; `ways` makes the near end and the far one."""

    def __init__(self, reactor: Any, port: int, ways: Callable[[], tuple[Way, Way]]) -> None:
        self._node = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        self._make_ways = ways
        self._ends: list[Way] = []

    def buildProtocol(self, addr: object) -> Way:
        """The near end; the far end follows."""
        near, far = self._make_ways()
        self._ends += near, far
        connectProtocol(self._node, far).addCallback(near.join)
        return near

    async def over(self) -> None:
        """Both ends of all connections are closed."""
        for end in self._ends:
            await end.lost
