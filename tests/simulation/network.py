"""A network that delays, cuts to pieces, stalls and breaks, between processes that come and go."""

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import formatEvent
from zope.interface import implementer

from dimse.testing import Endpoint, Link, MemoryClock, Network
from dimse.testing.transport import CLIENT, SERVER, WHOLE, Transport
from tests.simulation.draws import Draws, Trace

_MANY = 64  # delayed calls that are kept in mind, then those that are over are forgotten
_SIZES = (WHOLE, WHOLE, 9000, 4096, 500, 60, 7, 1)


class Process:
    """The clock of one run of a program: when it has ended, nothing calls it any more."""

    def __init__(self, name: str, clock: MemoryClock) -> None:
        self.name = name
        self.alive = True
        self.buried: list[Any] = []  # what it still held, so that nothing of it runs before the end
        self._clock = clock
        self._calls: list[Any] = []

    def seconds(self) -> float:
        return self._clock.seconds()

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        calls = self._clock if self.alive else Clock()  # one that nobody advances
        made = calls.callLater(delay, call, *args, **kw)
        if len(self._calls) > _MANY:
            self._calls = [each for each in self._calls if each.active()]
        self._calls.append(made)
        return made

    def getDelayedCalls(self) -> list[Any]:
        return [each for each in self._calls if each.active()]

    def getThreadPool(self) -> MemoryClock:
        return self._clock

    def callFromThread(self, call: Callable[..., Any], *args: Any, **kw: Any) -> None:
        if self.alive:
            self._clock.callFromThread(call, *args, **kw)

    def end(self) -> None:
        """It is gone, in the middle of whatever it does."""
        self.alive = False
        for call in self.getDelayedCalls():
            self.buried.append((call.func, call.args, call.kw))
            call.cancel()


class Host:
    """A machine: who listens there, in which process, and whether it has power."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.endpoint: Endpoint | None = None
        self.process: Any = None
        self.powered = True
        self.received: Any = None  # where what is moved to it is kept


class Wire(Link):
    """A connection whose segments take their time."""

    def __init__(self, network: "SimulatedNetwork", near: Any, far: Any) -> None:
        self.network = network
        self.processes: dict[Transport, Process] = {}
        self.ready = [0.0, 0.0]  # from when on something arrives, each way
        self.deaf_until = [0.0, 0.0]
        self.broken = False  # nothing arrives any more, and nobody is told
        self.began = network.trace.lines
        super().__init__(near, far, network.clock, CLIENT, SERVER)
        self.ends = (self.near, self.far)
        self.sizes = self._drawn_sizes()

    def _drawn_sizes(self) -> Iterator[int]:
        while True:
            yield self.network.draws.pick(_SIZES)

    @property
    def over(self) -> bool:
        return self.near.lost and self.far.lost

    def move(self, way: int, now: float) -> bool:
        """Let one thing happen in one direction, if there is one that can now."""
        one, other = self.ends[way], self.ends[1 - way]
        if self.ready[way] > now:
            return False
        if self.broken:
            if one.aborted and not one.lost:
                one.lose(ConnectionAborted())
                return True
            return False
        other.deaf = self.deaf_until[1 - way] > now
        if not self._move(one, other):
            return False
        self.ready[way] = now + self.network.delay()
        return True

    def times(self, now: float) -> Iterator[float]:
        """When something may happen that cannot now."""
        return (time for time in (*self.ready, *self.deaf_until) if time > now)

    def cut(self) -> None:
        """Both ends lose it, as far as they are there."""
        for end in self.ends:
            if not end.lost:
                end.lose(ConnectionLost())

    def orphan(self, end: Transport, *, silently: bool) -> None:
        """The process at one end is gone: the other hears of it, or does not."""
        end.lost = True
        end.buffer.clear()
        self.broken = silently


class SimulatedNetwork(Network):
    """All wires; `bad` tells how much goes wrong with them just now, from 0 to 1."""

    def __init__(self, draws: Draws, *, echo: bool) -> None:
        super().__init__()
        self.draws = draws
        self.trace = Trace(self.clock.seconds, echo=echo)
        self.wires: list[Wire] = []
        self.all_wires: list[Wire] = []
        self.bad = 0.0
        self._joining: tuple[Process, Host] | None = None

    def __call__(self, event: Any) -> None:
        super().__call__(event)
        if text := formatEvent(event):
            self.trace.say(f"log: {text}")

    def delay(self) -> float:
        draws = self.draws
        if not draws.chance(0.1 + 0.2 * self.bad):
            return 0.0
        if draws.chance(0.05 * self.bad):
            draws.counts["stalls"] += 1
            return draws.seconds(1, 70)
        return draws.seconds(0, 0.2)

    def join(
        self,
        near: IProtocol,
        far: IProtocol | None,
        near_address: IPv4Address = CLIENT,
        far_address: IPv4Address = SERVER,
    ) -> Wire:
        assert self._joining is not None
        by, to = self._joining
        wire = Wire(self, near, far or Protocol())
        wire.processes = {wire.near: by, wire.far: to.process}
        self.wires.append(wire)
        self.all_wires.append(wire)
        self.trace.say(f"{by.name} is connected with {to.name}")
        if far is None:
            wire.far.loseConnection()
        return wire

    def connect(self, by: Process, to: Host, factory: Any) -> "Deferred[IProtocol] | None":
        """A connection there; None where nobody ever answers."""
        if not to.powered or self.draws.chance(0.05 * self.bad):
            return None
        if to.endpoint is None or self.draws.chance(0.05 * self.bad):
            raise ConnectionRefusedError
        self._joining = by, to
        return to.endpoint.connect(factory)

    def end(self, process: Process, *, silently: bool) -> None:
        """A process is gone, and with it its ends of all wires."""
        for wire in self.wires:
            for end, of in wire.processes.items():
                if of is process and not end.lost:
                    process.buried.append(end.protocol)
                    wire.orphan(end, silently=silently and self.draws.chance(0.7))
                    if not silently:
                        wire.ready[wire.ends.index(end)] = self.clock.seconds() + self.delay()

    def wire_of(self, association: Any) -> Wire | None:
        """That of an association, of either side, while it is there."""
        for wire in self.wires:
            if any(getattr(end.protocol, "user", None) is association for end in wire.ends):
                return wire
        return None

    def forget_what_is_over(self) -> None:
        self.wires = [wire for wire in self.wires if not wire.over]


@implementer(IStreamClientEndpoint)
class Route:
    """The way of a process to a host."""

    def __init__(self, network: SimulatedNetwork, by: Process, to: Host) -> None:
        self._network = network
        self._by = by
        self._to = to

    def __str__(self) -> str:
        return self._to.name

    def connect(self, protocolFactory: Any) -> "Deferred[IProtocol]":
        """After a while."""
        connected: Deferred[IProtocol] = Deferred(lambda _: call.active() and call.cancel())

        def arrive() -> None:
            try:
                connecting = self._network.connect(self._by, self._to, protocolFactory)
            except ConnectionRefusedError as error:
                connected.errback(error)
                return
            if connecting is not None:
                connecting.chainDeferred(connected)

        call = self._by.callLater(self._network.delay(), arrive)
        return connected
