"""All connections of a test, and the time that passes for them."""

from collections.abc import Coroutine, Iterable, Iterator, Sequence
from gc import collect
from itertools import cycle, repeat
from types import TracebackType
from typing import Any, Self, TypeVar

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, ConnectionRefusedError, NoProtocol
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

from dimse.association import Association
from dimse.listening import listen
from dimse.performing import SCP
from dimse.requestor import VERIFICATION, ProposedContext, associate
from dimse.testing.clock import MemoryClock
from dimse.testing.scripted import ScriptedPeer
from dimse.testing.transport import CLIENT, ENDLESS, SERVER, WHOLE, Link

T = TypeVar("T")


@implementer(ILogObserver)
class Network:
    """A clock and all connections of a test.

    `clock` is the `reactor` of whatever is tested, `links` are the connections, the oldest first.
    Bytes arrive in segments of these lengths, over and over, or, without, all that there are.
    `events` is what was logged since the beginning, `failures` the errors therein. As a context
    manager it ends with `check`, or, when its body raises, with `close`.
    """

    def __init__(self, segments: Sequence[int] = ()) -> None:
        self.clock = MemoryClock()
        self.links: list[Link] = []
        self.events: list[LogEvent] = []
        self.failures: list[Failure] = []
        self._sizes = cycle(segments) if segments else repeat(WHOLE)
        globalLogPublisher.addObserver(self)

    def __call__(self, event: LogEvent) -> None:
        """Observe what is logged."""
        self.events.append(event)
        if "log_failure" in event:
            self.failures.append(event["log_failure"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.check()
        else:
            self.close()

    # What is in it

    def endpoint(self) -> "Endpoint":
        """A place to listen at and to connect to, where nobody is yet."""
        return Endpoint(self)

    def listen(self, scps: Sequence[SCP], **options: Any) -> "Endpoint":
        """An endpoint where an acceptor listens; `scps` and `options` as for `dimse.listen`."""
        endpoint = self.endpoint()
        self.result(listen(endpoint, scps, reactor=self.clock, **options))
        return endpoint

    def associate(
        self,
        endpoint: "Endpoint",
        contexts: Iterable[ProposedContext] = (VERIFICATION,),
        **options: Any,
    ) -> tuple[Association, Association]:
        """An association with the acceptor at `endpoint`: the requestor's and the acceptor's.

        `contexts` and `options` are as for `dimse.associate`, and so are the errors.
        """
        before = len(self.links)
        associating = associate(endpoint, contexts, reactor=self.clock, **options)
        ours = self.result(associating)
        acceptor = self.links[before].far.protocol
        while isinstance(acceptor, ProtocolWrapper):  # TLS
            acceptor = acceptor.wrappedProtocol
        theirs = getattr(acceptor, "user", None)
        if not isinstance(theirs, Association):
            raise AssertionError(f"what listens at {endpoint} is no acceptor of dimse")
        return ours, theirs

    def scripted_acceptor(self, endpoint: "Endpoint") -> ScriptedPeer:
        """A peer that takes the next connection at `endpoint`, and only that one."""
        peer = ScriptedPeer(self.run)
        waiting = _Waiting(peer)
        waiting.port = self.result(endpoint.listen(waiting))
        return peer

    def scripted_requestor(self, endpoint: "Endpoint", host: str = CLIENT.host) -> ScriptedPeer:
        """A peer that has connected to `endpoint`, from the address `host`."""
        peer = ScriptedPeer(self.run)
        endpoint.join(peer, IPv4Address("TCP", host, CLIENT.port))
        self.run()
        return peer

    def join(
        self,
        near: IProtocol,
        far: IProtocol | None,
        near_address: IPv4Address = CLIENT,
        far_address: IPv4Address = SERVER,
    ) -> Link:
        """Connect two protocols of your own; None, from a factory that refuses, closes at once."""
        link = Link(near, far or Protocol(), self.clock, near_address, far_address)
        link.sizes = self._sizes
        self.links.append(link)
        if far is None:
            link.far.loseConnection()
        return link

    # What happens

    def run(self) -> None:
        """Let bytes move, and calls that are due begin, until nothing happens any more."""
        for _ in range(ENDLESS):
            self.clock.advance(0)
            if not sum(link.step() for link in self.links):  # each has its turn
                return
        raise AssertionError(f"{ENDLESS} things happened, and it goes on")

    def advance(self, seconds: float) -> None:
        """Let time pass: each call when it is due, and then the bytes that follow from it."""
        end = self.clock.seconds() + seconds
        self.run()
        while due := [time for time in self._timers() if time <= end]:
            self.clock.rightNow = min(due)
            self.run()
        self.clock.rightNow = end

    def cut(self) -> None:
        """The network is gone: every connection is lost."""
        for link in self.links:
            link.cut()
        self.run()

    def result(self, awaited: "Deferred[T] | Coroutine[Deferred[Any], Any, T]") -> T:
        """What a Deferred or coroutine gives when the network has run; raises what it fails with.

        Time does not pass. An `AssertionError` says that it still waits for something.
        """
        deferred = awaited if isinstance(awaited, Deferred) else Deferred.fromCoroutine(awaited)
        results: list[T] = []
        failures: list[Failure] = []
        deferred.addCallbacks(results.append, failures.append)
        self.run()
        if failures:
            failures[0].raiseException()
        if not results:
            now, timers = self.clock.seconds(), sorted(self._timers())
            then = f"the next timer is due in {timers[0] - now:g} s" if timers else "no timer runs"
            raise AssertionError(f"no result: nothing happens any more, and {then}")
        return results[0]

    # The end

    def flush_logged_errors(self, *kinds: type[BaseException]) -> list[Failure]:
        """The logged errors of these kinds, which `check` then takes as expected."""
        flushed = [failure for failure in self.failures if failure.check(*kinds)]
        self.failures = [failure for failure in self.failures if not failure.check(*kinds)]
        return flushed

    def close(self) -> None:
        """Cut all connections, and look at the log no more."""
        try:
            self.cut()
        finally:
            globalLogPublisher.removeObserver(self)

    def check(self) -> None:
        """Close; raise `AssertionError` if then a timer is left, or an error was logged.

        What a Deferred failed with is logged too when nobody took it, and nobody has the Deferred.
        """
        try:
            self.cut()
            self.links.clear()  # associations hold errors, and those what they were raised in
            collect()
        finally:
            globalLogPublisher.removeObserver(self)
        if timers := self.clock.getDelayedCalls():
            raise AssertionError(f"{len(timers)} timers are left, the first is {timers[0]}")
        if self.failures:
            first = self.failures[0].getTraceback()
            raise AssertionError(f"{len(self.failures)} errors were logged, the first is\n{first}")

    def _timers(self) -> Iterator[float]:
        return (call.getTime() for call in self.clock.getDelayedCalls())


@implementer(IStreamClientEndpoint, IStreamServerEndpoint)
class Endpoint:
    """A place in a network, for `dimse.associate` and `dimse.listen` of code that is tested.

    Connecting is refused when nobody listens; it takes for ever at one that is `silent`.
    """

    def __init__(self, network: Network) -> None:
        self.address = SERVER
        self.silent = False
        self._network = network
        self._factory: IProtocolFactory | None = None

    def __str__(self) -> str:
        return f"{self.address.host}:{self.address.port}"

    def listen(self, protocolFactory: IProtocolFactory) -> "Deferred[IListeningPort]":
        """Let a factory make the protocols of those who connect."""
        if self._factory is not None:
            return fail(CannotListenError("", self.address.port, "somebody listens already"))
        protocolFactory.doStart()
        self._factory = protocolFactory
        return succeed(_Port(self))

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        """Connect to who listens."""
        if self.silent:
            return Deferred()
        if self._factory is None:
            return fail(ConnectionRefusedError())
        near = protocolFactory.buildProtocol(self.address)
        if near is None:
            return fail(NoProtocol())
        self.join(near, CLIENT)
        return succeed(near)

    def join(self, near: IProtocol, address: IPv4Address) -> Link:
        """Connect a protocol of your own, at `address`; raises `ConnectionRefusedError`."""
        if self._factory is None:
            raise ConnectionRefusedError
        far = self._factory.buildProtocol(address)
        return self._network.join(near, far, address, self.address)

    def close(self) -> None:
        """Listen no more; what is connected stays so."""
        if self._factory is not None:
            self._factory.doStop()
            self._factory = None


@implementer(IListeningPort)
class _Port:
    """What `Endpoint.listen` fires with."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def startListening(self) -> None:
        """It listens already."""

    def stopListening(self) -> None:
        """Let others be refused."""
        self._endpoint.close()

    def getHost(self) -> IPv4Address:
        """Where it listens."""
        return self._endpoint.address


class _Waiting(Factory):
    """Gives its one peer to the first who connects."""

    noisy = False
    port: IListeningPort

    def __init__(self, peer: ScriptedPeer) -> None:
        self._peer = peer

    def buildProtocol(self, addr: object) -> ScriptedPeer:
        """Whoever comes next is refused."""
        self.port.stopListening()
        return self._peer
