"""Two nodes and a third in memory, all that can be asked for, and performers of every kind."""

import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing, closing, contextmanager
from itertools import chain, cycle, islice, repeat
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydicom import Dataset
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    TimeoutError,
    ensureDeferred,
    succeed,
)
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

import dimse
from dimse import Instance, Limits, StatusError
from dimse.errors import DimseError, MisuseError
from dimse.message.status import PENDING, UNABLE_TO_PERFORM_SUBOPERATIONS
from dimse.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP as MPPS
from dimse.testing import Endpoint, Network, ScriptedPeer
from dimse.testing.transport import WHOLE
from dimse.ul.items import RoleSelection
from dimse.ul.protocol import UpperLayerProtocol
from dimse.ul.table import Sta
from tests.memory import Outcome
from tests.wire import CT_STORAGE, EXPLICIT, VERIFICATION

LIMITS = {
    **{"artim": 10, "connect": 9, "associate": 15, "response": 30, "perform": 40, "idle": 50},
    **{"write_stall": 20, "progress": 20, "close": 5, "grace": 8},
    **{"maximum_length": 4096, "send_length": 4096, "answers": 4},
}
DONE = 1000  # seconds end everything, by whichever time-outs
BUFFER = 5000  # bytes that a transport holds before it asks to pause
CUT = 3000  # segments that are cut as the example says; then all that there is arrives at once

STUDY = dimse.STUDY_ROOT
CONTEXTS = (VERIFICATION, (CT_STORAGE, (EXPLICIT,)), STUDY.find, STUDY.get, STUDY.move, MPPS)

KEYS = Dataset()
KEYS.QueryRetrieveLevel = "STUDY"
KEYS.StudyInstanceUID = "1.2"


class Bug(Exception):
    """What a performer raises that is broken."""


class Fate(NamedTuple):
    """How a performer behaves, and where: 0 at its beginning, 1 in the middle, 2 at its end."""

    where: int
    how: str


_HOWS = ("now", "later", "much later", "never", "refuse", "crash", "junk", "pause", "stubborn")


def mostly(usual: SearchStrategy[Any], other: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Nine of ten are usual."""
    return st.integers(0, 9).flatmap(lambda number: usual if number else other)


fates = st.lists(st.builds(Fate, st.integers(0, 2), st.sampled_from(_HOWS)), min_size=1, max_size=5)
segments = st.lists(st.sampled_from([1, 2, 7, 60, 500, 4096, 9000]), min_size=1, max_size=5)

# What is logged of performers, and of an `admit`, that raise, answer with junk, or never answer.
_EXPECTED = (Bug, MisuseError, TypeError, AttributeError, TimeoutError)


def instance(number: int, length: int) -> Instance:
    data = b"\x08\0\x18\0UI\2\0" + b"1\0" + bytes(length)
    return Instance(CT_STORAGE, f"1.2.{number}", EXPLICIT, data=data)


class Shelf:
    """A sink whose fate is known, and how it ended."""

    def __init__(self, exchange: "Exchange", fate: Fate, operation: Any) -> None:
        self.endings: list[object] = []
        self._exchange = exchange
        self._fate = fate
        self._operation = operation

    def write(self, data: memoryview) -> None:
        assert not self.endings
        if self._fate.where == 1:
            if self._fate.how == "pause":
                self._operation.pauseProducing()
                self._exchange.later(3).addCallback(lambda _: self._operation.resumeProducing())
            elif self._fate.how in ("refuse", "crash", "stubborn"):
                raise Bug if self._fate.how == "crash" else StatusError(0xA700)

    def finish(self) -> Any:
        self.endings.append("finish")
        if self._fate.how == "pause":  # and never resumes
            self._operation.pauseProducing()
        return 0xA700 if self._fate.where != 2 else self._exchange.undergo(self._fate, 0)

    def abort(self, reason: DimseError) -> None:
        self.endings.append(reason)
        if self._fate.how == "stubborn":
            raise Bug


class Store:
    """What a `StorageSCP` stores in, and a C-GET."""

    def __init__(self, exchange: "Exchange") -> None:
        self._exchange = exchange

    def begin(self, instance: Any, operation: Any) -> Any:
        exchange = self._exchange
        fate = next(exchange.fates)
        if fate.where == 0 and fate.how in ("refuse", "crash", "junk"):
            return exchange.undergo(fate, None)
        exchange.sinks.append(Shelf(exchange, fate, operation))
        return exchange.sinks[-1]


class Exchange:
    """An association, and whatever is asked for on it and happens to it.

    `outcomes` are those of all Deferreds that anybody got, `sinks` all sinks; of the async
    generators `opened` were begun and `closed` have ended.
    """

    def __init__(self, network: Network, fates: list[Fate], window: int, sizes: list[int]) -> None:
        self.outcomes: list[Outcome] = []
        self.sinks: list[Shelf] = []
        self.opened = self.closed = 0
        self.events: Counter[str] = Counter()
        self.network = network
        self._calls: list[object] = []  # those of performers, and of those who ask
        self.fates = cycle(fates)
        self.store = Store(self)
        self.ours: Any = None
        self.theirs: Any = None
        self._other, self._silent = network.endpoint(), network.endpoint()
        self._silent.silent = True
        limits = Limits(**LIMITS, operations_invoked=window, operations_performed=window)
        self._options: dict[str, Any] = {"limits": limits, "reactor": network.clock}
        self._sizes = sizes
        self._early: list[str] = []  # asked for before there is an association
        self._number = 0

    def listen(self, admit: Any = None) -> Endpoint:
        """Let the archive listen, and another node that it can send to."""
        place, options = self.network.endpoint(), self._options
        listening = [
            dimse.listen(place, self._archive(), admit=admit, **options),
            dimse.listen(self._other, [dimse.StorageSCP(self.store)], **options),
        ]
        self.listeners = [self.network.result(each) for each in listening]
        return place

    def associate(self, place: Endpoint) -> None:
        """Request an association, on the first connection."""
        associating = dimse.associate(
            place,
            CONTEXTS,
            roles={CT_STORAGE: (True, True)},
            scps=[dimse.NormalizedSCP([MPPS], n_event_report=self._normalized)],
            **self._options,
        )
        associating.addCallback(self._established)
        self.outcome(associating)
        self._cut_as_told()

    def requestor(self, place: Endpoint) -> ScriptedPeer:
        """A scripted requestor, on the first connection, that asks for the association."""
        peer = self.network.scripted_requestor(place)
        self._cut_as_told()
        peer.associate(CONTEXTS, roles=[RoleSelection(CT_STORAGE, True, True)])
        return peer

    def _cut_as_told(self) -> None:
        link = self.network.links[0]
        link.sizes = chain(islice(cycle(self._sizes), CUT), repeat(WHOLE))
        for end in (link.near, link.far):
            end.bufferSize = BUFFER
            if isinstance(end.protocol, UpperLayerProtocol):
                self.outcome(end.protocol.when_closed())

    def observe(self, event: Any) -> None:
        self.events[event.name] += 1

    def _established(self, association: Any) -> None:
        self.ours = association
        self.outcome(association.when_ended())
        self.theirs = getattr(self.network.links[0].far.protocol, "user", None)
        if self.theirs is not None:
            self.outcome(self.theirs.when_ended())
        early, self._early = self._early, []
        for verb in early:
            self.happen(verb)

    def outcome(self, deferred: "Deferred[Any]") -> None:
        """Count its firings; a traceback would keep the iterators of a coroutine that failed."""
        self.outcomes.append(Outcome(deferred.addErrback(_without_traceback)))

    def later(self, seconds: float) -> "Deferred[None]":
        waiting: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self.network.clock.callLater(seconds, lambda: waiting.callback(None))
        self._calls.append(call)
        return waiting

    # What performs

    def _archive(self) -> list[Any]:
        normalized = ("n_get", "n_set", "n_action", "n_create", "n_delete")
        destinations: dict[str, str | Endpoint] = {
            **{"OTHER": self._other, "SILENT": self._silent},
            **{"NOBODY": "no host and port", "NOWHERE": self.network.endpoint()},
        }
        return [
            dimse.VerificationSCP(),
            dimse.StorageSCP(self.store, sop_classes=[CT_STORAGE]),
            dimse.QuerySCP(self._find),
            dimse.RetrieveSCP(self._retrieve, destinations=destinations, sop_classes=[CT_STORAGE]),
            dimse.NormalizedSCP([MPPS], **dict.fromkeys(normalized, self._normalized)),  # type: ignore[arg-type]
        ]

    def undergo(self, fate: Fate, result: Any) -> Any:
        """What a function returns that has this fate; `result` if all is well."""
        if fate.how == "refuse":
            raise StatusError(UNABLE_TO_PERFORM_SUBOPERATIONS, "refused")
        if fate.how == "crash":
            raise Bug
        if fate.how == "junk":
            return None if fate.where == 1 else "junk"
        if fate.how in ("never", "stubborn"):
            return Deferred()
        seconds = {"later": 7, "much later": 35}.get(fate.how)
        if seconds is None:
            return succeed(result)
        return self.later(seconds).addCallback(lambda _: result)

    async def _find(self, identifier: Dataset, operation: Any) -> AsyncIterator[Any]:
        fate = next(self.fates)
        self.opened += 1
        try:
            for number in range(40 if fate.how == "pause" else 3):
                if number == fate.where:
                    try:
                        junk = await self.undergo(fate, None)
                    except CancelledError:
                        if fate.how != "stubborn":
                            raise
                    except TypeError:  # it was no awaitable
                        junk = "junk"
                        yield junk
                match = Dataset()
                match.StudyInstanceUID = f"1.{number}"
                yield match if number % 2 else (PENDING, match)
        finally:
            self.closed += 1

    def _retrieve(self, identifier: Dataset, operation: Any) -> Any:
        fate = next(self.fates)
        found: list[Any] = [instance(number, 40 + 20_000 * number) for number in range(fate.where)]
        if fate.how == "pause":
            found.append("/nowhere/at.all")
        return self.undergo(fate, found)

    def _normalized(self, operation: Any, dataset: Dataset | None) -> Any:
        fate = next(self.fates)
        answer: Any = KEYS if fate.where == 1 else 0x0107
        return self.undergo(fate, answer if fate.where else None)

    # What is asked for

    def happen(self, what: Any) -> None:
        """One thing of an example: a verb, seconds that pass, a Deferred to cancel, a loss."""
        if isinstance(what, int):
            self.network.advance(what)
        elif isinstance(what, tuple):
            self.outcomes[what[0] % len(self.outcomes)].deferred.cancel()
        elif what in EVENTS:
            EVENTS[what](self)
        elif self.ours is None:
            self._early.append(what)
        elif what in VERBS:
            self._number += 1
            started = VERBS[what](self)
            self.outcome(ensureDeferred(started) if isinstance(started, Coroutine) else started)
        else:
            {"abort": self.ours, "abort theirs": self.theirs}[what].abort()

    def run(self, steps: int) -> None:
        """So many times each connection has its turn."""
        for _ in range(steps):
            self.network.clock.advance(0)
            if not sum(link.step() for link in self.network.links):
                return

    def send(self, length: int) -> "Deferred[Any]":
        return dimse.store(self.ours, instance(self._number, length))

    def normalized(self, verb: Callable[..., Any], *arguments: Any) -> "Deferred[Any]":
        return verb(self.ours, MPPS, f"1.3.{self._number}", *arguments)  # type: ignore[no-any-return]

    async def consume(self, answers: Any, how: str) -> None:
        """Take answers one by one."""
        if how == "closing":
            async with aclosing(answers):
                async for _ in answers:
                    return
        async for _ in answers:
            if how == "leave":
                return
            if how == "stop":
                answers.cancel()
            elif how == "slow":
                await self.later(2)

    def find(self) -> Any:
        return dimse.find(self.ours, KEYS)

    def get(self) -> Any:
        return dimse.get(self.ours, KEYS, self.store)

    def move(self, destination: str) -> Any:
        return dimse.move(self.ours, KEYS, destination)

    def hear(self) -> None:
        """Both ends read again."""
        for end in (self.network.links[0].near, self.network.links[0].far):
            end.deaf = False

    def forget(self) -> None:
        """Let go of everything, so that a failure that nobody took is heard of."""
        self.ours = self.theirs = None
        self.outcomes.clear()
        self.sinks.clear()

    def _wait(self) -> None:
        """Until all connections are lost, or everything had its time."""
        ends = [end for link in self.network.links for end in (link.near, link.far)]
        clock, end = self.network.clock, self.network.clock.seconds() + DONE
        while not all(each.lost for each in ends) and clock.seconds() < end:
            due = min((call.getTime() for call in clock.getDelayedCalls()), default=end)
            self.network.advance(due - clock.seconds())

    def check(self) -> None:
        """Everything ends by itself, each thing once: what is ours with the connections, and the
        rest when those who perform and those who ask have taken their time."""
        network = self.network
        network.run()
        self._wait()
        self.hear()
        self._wait()
        for link in network.links:
            for end in (link.near, link.far):
                assert end.lost
                if isinstance(end.protocol, UpperLayerProtocol):
                    assert end.protocol.state is Sta.Sta1
        calls = network.clock.getDelayedCalls()
        assert [call for call in calls if call not in self._calls] == []
        assert [len(sink.endings) for sink in self.sinks] == [1] * len(self.sinks)
        assert self.opened == self.closed
        assert self.ours is None or len(self.ours._performer.scps) == 1  # none of a C-GET
        network.advance(DONE)
        assert network.clock.getDelayedCalls() == []
        assert [len(outcome.firings) for outcome in self.outcomes] == [1] * len(self.outcomes)
        for name in ("association", "negotiation", "command", "handler", "sub_operation"):
            ends = self.events[f"{name}.stop"] + self.events[f"{name}.exception"]
            assert self.events[f"{name}.start"] == ends, name


@contextmanager
def exchanging(
    fates: list[Fate], window: int, sizes: list[int], *, watched: bool = False
) -> Iterator[Exchange]:
    """An exchange, which must have ended well when its block has."""
    network = Network(sizes)
    with closing(network):
        exchange = Exchange(network, fates, window, sizes)
        unsubscribe = dimse.subscribe(exchange.observe) if watched else lambda: None
        try:
            yield exchange
            exchange.check()
        finally:
            unsubscribe()
        network.links.clear()
        exchange.forget()
        gc.collect()
    assert not [event for event in network.events if "Unhandled" in str(event["log_format"])]
    network.flush_logged_errors(*_EXPECTED)
    assert network.failures == []


def _without_traceback(failure: Failure) -> Failure:
    failure.cleanFailure()
    return failure


VERBS: dict[str, Callable[[Exchange], Any]] = {
    "echo": lambda x: dimse.echo(x.ours),
    "store": lambda x: x.send(9000),
    "store large": lambda x: x.send(60_000),
    "find": lambda x: x.find().result(),
    "find one by one": lambda x: x.consume(x.find(), "all"),
    "find, slowly": lambda x: x.consume(x.find(), "slow"),
    "find, and leave": lambda x: x.consume(x.find(), "leave"),
    "find, and close": lambda x: x.consume(x.find(), "closing"),
    "find, and stop": lambda x: x.consume(x.find(), "stop"),
    "get": lambda x: x.get().result(),
    "get one by one": lambda x: x.consume(x.get(), "slow"),
    "get, and leave": lambda x: x.consume(x.get(), "leave"),
    "move": lambda x: x.move("OTHER").result(),
    "move, and close": lambda x: x.consume(x.move("OTHER"), "closing"),
    "move to nobody": lambda x: x.move("NOBODY").result(),
    "move nowhere": lambda x: x.move("NOWHERE").result(),
    "move, silently": lambda x: x.move("SILENT").result(),
    "move unknown": lambda x: x.move("UNKNOWN").result(),
    "n-get": lambda x: x.normalized(dimse.n_get),
    "n-set": lambda x: x.normalized(dimse.n_set, KEYS),
    "n-action": lambda x: x.normalized(dimse.n_action, 1, KEYS),
    "n-create": lambda x: dimse.n_create(x.ours, MPPS, KEYS, "1.2.3"),
    "n-delete": lambda x: x.normalized(dimse.n_delete),
    "n-event-report": lambda x: dimse.n_event_report(x.theirs, MPPS, "1.4", 1, KEYS),
    "release": lambda x: x.ours.release(),
}
"""What the requestor asks for, or the acceptor, and gets a Deferred."""

EVENTS: dict[str, Callable[[Exchange], Any]] = {
    "cut": lambda x: x.network.links[0].cut(),
    "cut all": lambda x: x.network.cut(),
    "close near": lambda x: x.network.links[0].near.lose(ConnectionDone()),
    "close far": lambda x: x.network.links[0].far.lose(ConnectionDone()),
    "lose near": lambda x: x.network.links[0].near.lose(ConnectionLost()),
    "lose far": lambda x: x.network.links[0].far.lose(ConnectionLost()),
    "deaf near": lambda x: setattr(x.network.links[0].near, "deaf", True),
    "deaf far": lambda x: setattr(x.network.links[0].far, "deaf", True),
    "hear": lambda x: x.hear(),
    "stop": lambda x: x.outcome(x.listeners[0].stop()),
}
"""What happens to them."""
