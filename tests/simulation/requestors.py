"""Those who use the archive: they send, ask, retrieve, change their minds, and go."""

from collections.abc import Callable, Coroutine
from typing import Any

from pydicom import Dataset
from pydicom.uid import CTImageStorage
from twisted.internet.defer import CancelledError, Deferred

import dimse
from dimse import CommitmentResult, Instance, Limits, ReceivedInstance, StatusError
from dimse.errors import AssociationError, DimseError
from dimse.message.status import OUT_OF_RESOURCES, PROCESSING_FAILURE
from dimse.sop_classes import STORAGE_COMMITMENT_PUSH
from tests.simulation.draws import Draws
from tests.simulation.ledger import LENGTHS, STUDIES, UIDS, Asked, Ledger, content
from tests.simulation.network import Host, Process, Route, SimulatedNetwork
from tests.simulation.node import LIMITS, TITLE, Node
from tests.wire import EXPLICIT, VERIFICATION

_STUDY = dimse.STUDY_ROOT
_CONTEXTS = (
    VERIFICATION,
    (CTImageStorage, (EXPLICIT,)),
    _STUDY.find,
    _STUDY.get,
    _STUDY.move,
    STORAGE_COMMITMENT_PUSH,
)


class Shelf:
    """The sink of an instance that is retrieved; `failing` refuses it in the end."""

    def __init__(self, shelves: "Shelves", uid: str, since: int, failing: bool) -> None:
        self.shelves = shelves
        self.uid = uid
        self.since = since
        self.failing = failing
        self.data = bytearray()
        self.endings = 0

    def write(self, data: memoryview) -> None:
        self.data += data

    def finish(self) -> Any:
        self.endings += 1
        self.shelves.ledger.seen(self.uid, bytes(self.data), self.shelves.where, self.since)
        if self.failing:
            self.shelves.failed += 1
            raise StatusError(OUT_OF_RESOURCES)
        self.shelves.found.add(self.uid)
        return 0

    def abort(self, reason: Exception) -> None:
        self.endings += 1


class Shelves:
    """Where retrieved instances go: `found` are those that came whole.

    `since` is the line of the trace in which the retrieval began; that of C-MOVE has an association
    of its own, and begins no later than that.
    """

    def __init__(
        self,
        ledger: Ledger,
        draws: Draws,
        since: Callable[[Any], int],
        where: str,
        failing: float,
    ) -> None:
        self.ledger = ledger
        self.where = where
        self.since = since
        self.found: set[str] = set()
        self.failed = 0
        self.all: list[Shelf] = []
        self._draws = draws
        self._failing = failing

    def begin(self, instance: ReceivedInstance, operation: Any) -> Shelf:
        failing = self._draws.chance(self._failing)
        since = self.since(operation.association)
        self.all.append(Shelf(self, instance.sop_instance_uid, since, failing))
        return self.all[-1]


class Requestor:
    """One of them, on a host of its own where it hears of commitments and receives what it moves.

    `watched` are all Deferreds that it got; `live` is what it does, and `done` whether it has.
    """

    def __init__(
        self, name: str, network: SimulatedNetwork, node: Node, draws: Draws, ledger: Ledger
    ) -> None:
        self.name = name
        self.done = False
        self.shelves: list[Shelves] = []
        self.watched: list[list[Any]] = []
        self.process = Process(name, network.clock)
        self.host = Host(name)
        self.host.process = self.process
        self.host.endpoint = network.endpoint()
        self.listener: Any = None
        node.peers[name] = self.host
        self._network = network
        self._node = node
        self._draws = draws
        self._ledger = ledger
        self._route = Route(network, self.process, node.host)
        self._limits = Limits(**LIMITS, operations_invoked=draws.pick([1, 3]))
        self._transactions = 0
        self._received = self._new_shelves(f"moved to {name}", 0.05, self._began)
        self.host.received = self._received
        scps: list[Any] = [dimse.StorageSCP(self._received), dimse.CommitmentSCU(self._result)]
        listening = dimse.listen(
            self.host.endpoint, scps, limits=self._limits, reactor=self.process
        )
        listening.addCallback(lambda listener: setattr(self, "listener", listener))

    def _new_shelves(
        self, where: str, failing: float, since: Callable[[Any], int] | None = None
    ) -> Shelves:
        now = self._network.trace.lines
        since = since or (lambda _: now)
        self.shelves.append(Shelves(self._ledger, self._draws, since, where, failing))
        return self.shelves[-1]

    def _began(self, association: Any) -> int:
        wire = self._network.wire_of(association)
        assert wire is not None
        return wire.began

    def _result(self, result: CommitmentResult, operation: Any) -> None:
        if self._network.bad and self._draws.chance(0.2):
            raise StatusError(0x0110)
        self._say(f"hears of commitment {result.transaction_uid}")
        self._draws.counts["commitments reported"] += 1
        self._ledger.reported(result, self._node.stored())

    def _say(self, text: str) -> None:
        self._network.trace.say(f"{self.name}: {text}")

    def watch(self, deferred: "Deferred[Any]") -> "Deferred[Any]":
        """Count its firings."""
        firings: list[Any] = []
        self.watched.append(firings)

        def fired(outcome: Any) -> Any:
            firings.append(type(outcome).__name__)
            return outcome

        return deferred.addBoth(fired)

    def begin(self, what: "Coroutine[Any, Any, Any]") -> "Deferred[Any]":
        """Start it; what goes wrong with it in the ways that things may is told in the trace."""

        async def doing() -> None:
            try:
                await what
            except (DimseError, CancelledError) as error:
                self._say(f"{type(error).__name__}: {error}")

        begun = self.watch(Deferred.fromCoroutine(doing()))
        return begun.addErrback(self._wrong)

    def _wrong(self, failure: Any) -> None:
        self._network.trace.violate(f"{self.name}: {failure.getTraceback()}")

    async def sleep(self, longest: float) -> None:
        slept: Deferred[None] = Deferred()
        self.process.callLater(self._draws.seconds(0, longest), slept.callback, None)
        await slept

    # What it does

    async def live(self) -> None:
        for _ in range(self._draws.number(3, 8)):
            await self.sleep(self._draws.pick([0.1, 5, 40]))
            await self.begin(self.session())
        self.done = True

    async def session(self) -> None:
        """One association, with all that is asked for on it."""
        self._say("associates")
        associating = self.watch(
            dimse.associate(
                self._route,
                _CONTEXTS,
                calling_ae_title=self.name,
                called_ae_title=TITLE,
                limits=self._limits,
                roles={CTImageStorage: (True, True)},
                scps=[dimse.CommitmentSCU(self._result)],
                reactor=self.process,
            )
        )
        if self._draws.chance(0.03):
            self.process.callLater(self._draws.seconds(0, 1), associating.cancel)
        association = await associating
        ended = self.watch(association.when_ended())
        asked: list[Deferred[Any]] = []
        for _ in range(self._draws.number(1, 8)):
            if association.ended is not None:
                break
            asked.append(self.begin(self._operation(association)))
            if self._draws.chance(0.6):
                await asked.pop()
            if self._draws.chance(0.1 * self._network.bad):
                self._happen(association)
        for each in asked:
            await each
        await self._part(association)
        await ended

    async def _part(self, association: Any) -> None:
        how = self._draws.number(0, 9)
        if how < 8:
            await self.watch(association.release())
        elif how == 8:
            self._say("aborts")
            association.abort()

    def _happen(self, association: Any) -> None:
        """Something that happens to a connection."""
        wire = self._network.wire_of(association)
        if wire is None:
            return
        what = self._draws.pick(["cut", "deaf", "abort", "break"])
        self._draws.counts[f"connections: {what}"] += 1
        self._say(what)
        if what == "cut":
            wire.cut()
        elif what == "deaf":
            now = self.process.seconds()
            wire.deaf_until[self._draws.number(0, 1)] = now + self._draws.seconds(1, 90)
        elif what == "abort":
            association.abort()
        else:
            wire.broken = True

    async def _operation(self, association: Any) -> None:
        which = self._draws.pick(_OPERATIONS)
        self._draws.counts[which.__name__] += 1
        await which(self, association)

    async def echo(self, association: Any) -> None:
        await self.watch(dimse.echo(association))

    async def store(self, association: Any) -> None:
        uid, version = self._draws.pick(UIDS), self._draws.pick(self._node.versions)
        await self._store(association, content(uid, version, self._draws.pick(LENGTHS)))

    async def store_in_the_same_way(self, association: Any) -> None:
        """So that others send the same at the same time (H-A02)."""
        await self._store(association, content(self._draws.pick(UIDS[:2]), 1, LENGTHS[1]))

    async def _store(self, association: Any, instance: Instance) -> None:
        uid = instance.sop_instance_uid
        sending = self._ledger.sending(instance)
        storing = self.watch(dimse.store(association, instance))
        if self._network.bad and self._draws.chance(0.03):
            wire = self._network.wire_of(association)
            if wire is not None:
                self.process.callLater(self._draws.seconds(0, 0.3), wire.cut)
        try:
            status = await storing
        except StatusError as error:
            self._say(f"{uid}: {error.status}")
            self._draws.counts[f"C-STORE: {error.status:04X}"] += 1
            if error.status not in self._node.refusals:
                self._network.trace.violate(f"C-STORE of {uid}: {error}")
            # It took too long, and may still come, or is there until the next commit.
            if error.status != PROCESSING_FAILURE and not self._node.owes(uid):
                self._ledger.refused(sending)
            return
        self._say(f"{uid}: {status}, {sending.digest[:8]}")
        self._draws.counts["C-STORE: 0000"] += 1
        if status == 0:
            self._ledger.acknowledged(sending)
        else:
            self._network.trace.violate(f"C-STORE of {uid}: {status}")

    def _identifier(self, level: str, study: str) -> Dataset:
        identifier = Dataset()
        identifier.QueryRetrieveLevel = level
        identifier.StudyInstanceUID = study
        return identifier

    async def find(self, association: Any) -> None:
        study = self._draws.pick(STUDIES)
        identifier = self._identifier("SERIES", study)
        identifier.SeriesInstanceUID = ""
        wanted = {uid.rpartition(".")[0] for uid in self._ledger.promised_of(study)}
        matches = dimse.find(association, identifier)
        finding = self.watch(matches.result())
        if self._draws.chance(0.1):
            self.process.callLater(self._draws.seconds(0, 0.5), matches.cancel)
            await finding
            return
        try:
            found = {each.SeriesInstanceUID for each in await finding}
        except StatusError as error:
            self._failed("C-FIND", error, {0xC001, 0x0110, 0xFE00})
            return
        if lost := sorted(wanted - found):
            self._network.trace.violate(f"C-FIND: series {lost} are not found")

    def _failed(self, what: str, error: StatusError, known: set[int]) -> None:
        self._say(f"{what}: {error}")
        self._draws.counts[f"{what}: {error.status:04X}"] += 1
        if error.status not in known:
            self._network.trace.violate(f"{what}: {error}")

    async def get(self, association: Any, failing: float = 0.05) -> None:
        study = self._draws.pick(STUDIES)
        shelves = self._new_shelves(f"C-GET by {self.name}", failing)
        await self.get_study(association, study, shelves)

    async def get_study(self, association: Any, study: str, shelves: Shelves) -> None:
        wanted = self._ledger.promised_of(study)
        retrieval = dimse.get(association, self._identifier("STUDY", study), shelves)
        getting = self.watch(retrieval.result())
        cancelled = self._network.bad and self._draws.chance(0.1)
        if cancelled:
            self.process.callLater(self._draws.seconds(0, 1), retrieval.cancel)
        try:
            done = await getting
        except StatusError as error:
            self._failed("C-GET", error, {0xC001, 0x0110, 0xA702, 0xFE00})
            return
        except dimse.MisuseError as error:  # another one goes on here
            self._say(f"C-GET: {error}")
            return
        self._count("C-GET", done, shelves, len(shelves.found))
        if done.status == 0 and not cancelled:
            self._ledger.missing(wanted, shelves.found, shelves.where)

    def _count(self, what: str, done: Any, shelves: Shelves, found: int) -> None:
        self._draws.counts[f"{what}: {done.status:04X}"] += 1
        if done.status == 0 and (done.failed or done.warning):
            self._network.trace.violate(f"{what}: a success with {done.failed} failed")
        if (done.completed or 0) > found:
            self._network.trace.violate(f"{what}: {done.completed} completed of {found} received")

    async def move(self, association: Any) -> None:
        """To itself, or to another one: what that has received counts."""
        study = self._draws.pick(STUDIES)
        to = self._draws.pick(sorted(self._node.peers))
        wanted = self._ledger.promised_of(study)
        retrieval = dimse.move(association, self._identifier("STUDY", study), to)
        shelves = self._node.peers[to].received
        moving = self.watch(retrieval.result())
        before = len(shelves.all)
        if cancelled := self._network.bad and self._draws.chance(0.1):
            self.process.callLater(self._draws.seconds(0, 1), retrieval.cancel)
        try:
            done = await moving
        except StatusError as error:
            self._failed("C-MOVE", error, {0xC001, 0x0110, 0xA702, 0xFE00})
            return
        came = [shelf for shelf in shelves.all[before:] if shelf.endings and not shelf.failing]
        self._count("C-MOVE", done, shelves, len(came))
        if done.status == 0 and not cancelled:
            self._ledger.missing(wanted, shelves.found, shelves.where)

    async def commit(self, association: Any) -> None:
        """Of a few, some of which are not there, perhaps."""
        self._transactions += 1
        number = self._node_number()
        uid = f"1.3.{number}.{self._transactions}"
        uids = self._draws.shuffled(UIDS)[: self._draws.number(1, 4)]
        asked = Asked(frozenset(self._ledger.promised), frozenset(self._ledger.rotten))
        asking = dimse.request_commitment(
            association, [(CTImageStorage, each) for each in uids], transaction_uid=uid
        )
        self._ledger.accepted[uid] = asked  # its result may be there before the response
        try:
            await self.watch(asking)
        except (StatusError, AssociationError, CancelledError) as error:
            self._ledger.unsure.add(uid)
            if isinstance(error, StatusError):
                self._failed("N-ACTION", error, {0x0110, 0x0213})
                return
            raise
        self._draws.counts["N-ACTION: 0000"] += 1

    def _node_number(self) -> int:
        return sorted(self._node.peers).index(self.name) + 1


Operation = Callable[[Requestor, Any], Coroutine[Any, Any, None]]

_OPERATIONS: tuple[Operation, ...] = (
    *(3 * [Requestor.store]),
    *(2 * [Requestor.store_in_the_same_way]),
    Requestor.find,
    Requestor.get,
    Requestor.move,
    Requestor.commit,
    Requestor.echo,
)
