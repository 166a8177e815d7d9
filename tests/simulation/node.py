"""The archive as a node: it starts, stops, crashes, and starts again on what is left."""

from pathlib import PurePath
from typing import Any

import sqlalchemy as sa
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

import dimse
from dimse import Limits, MisuseError
from dimse.archive.archive import Archive
from dimse.archive.files import ObjectFolder
from dimse.archive.objects import ABOVE_ALL, LOWEST, key_of
from dimse.archive.schema import COMMITMENTS
from dimse.message.status import DUPLICATE_SOP_INSTANCE, OUT_OF_RESOURCES, PROCESSING_FAILURE
from dimse.services.part10 import data_set_offset
from tests.simulation.database import Database
from tests.simulation.disk import RESERVE, Disk
from tests.simulation.draws import Draws
from tests.simulation.ledger import Ledger, digest_of
from tests.simulation.network import Host, Process, Route, SimulatedNetwork
from tests.simulation.threads import InTurn, Threads

TITLE = "ARCHIVE"
AGAIN = 5.0  # seconds until whoever supervises the node starts it again
_INSTANCES = sa.text('select instance_uid, object, digest, "offset" from instances')

LIMITS: dict[str, Any] = {
    **{"artim": 10, "connect": 9, "associate": 15, "response": 30, "perform": 40, "idle": 50},
    **{"write_stall": 20, "progress": 20, "close": 5, "grace": 8},
    "commit": 20,  # a step in a thread begins late, and its result comes late, at the most
    **{"maximum_length": 4096, "send_length": 4096, "answers": 4, "disk_reserve": RESERVE},
}


# There is no room, it took too long.
_REFUSALS = {OUT_OF_RESOURCES, PROCESSING_FAILURE}


class Node:
    """The archive on its host; `peers` are the destinations it knows, by AE title.

    `refusals` are the statuses of a C-STORE that did not go well.
    """

    def __init__(
        self,
        network: SimulatedNetwork,
        disk: Disk,
        draws: Draws,
        ledger: Ledger,
        *,
        replaces: bool,
    ) -> None:
        self.host = Host(TITLE)
        self.versions = [1, 1, 2, 3] if replaces else [1, 1, 1, 2]  # of what comes
        self.refusals = _REFUSALS if replaces else _REFUSALS | {DUPLICATE_SOP_INSTANCE}
        self._replaces = replaces
        self.peers: dict[str, Host] = {}
        self.limits = Limits(**LIMITS, associations=draws.pick([3, 10]), operations_performed=3)
        self.archive: Any = None  # while it is there
        self.process = Process(TITLE, network.clock)
        self.processes: list[Process] = []
        self.listener: Any = None
        self._network = network
        self._disk = disk
        self._draws = draws
        self._ledger = ledger
        self._trace = network.trace
        self.threads = Threads(draws, network.clock.seconds)
        self._database: Database | None = None
        self._rebuilds = False

    @property
    def is_up(self) -> bool:
        return self.listener is not None

    # Its life

    def start(self) -> None:
        """Open the archive and listen; what cannot be opened is tried again."""
        if self.archive is not None:
            return
        self.host.powered = True
        self.process = Process(TITLE, self._network.clock)
        self.processes.append(self.process)
        self.host.process = self.process
        self.threads = Threads(self._draws, self._network.clock.seconds)
        folder = self._disk.folder
        objects: Any = ObjectFolder(
            folder,
            durable=True,
            reserve=RESERVE,
            replaces=self._replaces,
            syncing=InTurn(self._draws),
        )
        self.archive = archive = Archive(
            folder,
            objects=objects,
            limits=self.limits,
            in_thread=self.threads,
            clock=self.process,
        )
        synced = self._database.synced if self._database is not None else (b"", 0)
        self._database = Database(archive, self._disk, self._draws, self._trace, synced)
        self._trace.say("node: starts")
        self._disk.unread.clear()
        rebuilds, self._rebuilds = self._rebuilds, False

        def opening() -> Archive:
            if rebuilds:
                archive.rebuild()
            return archive.open()

        self.threads(opening).addCallbacks(self._opened, self._not_opened)

    def _not_opened(self, failure: Failure) -> None:
        self._draws.counts["starts that failed"] += 1
        self._trace.say(f"node: does not start: {type(failure.value).__name__}: {failure.value}")
        if not failure.check(MisuseError):
            self._trace.violate(f"open() raises {type(failure.value).__name__}: {failure.value}")
        if "has none of the" in str(failure.value):
            # A commit that failed, but was done, was the first: the operator does as he is told.
            self._rebuilds = True
            self._draws.counts["rebuilds"] += 1
            if lost := sorted(self._ledger.promised.keys() - self._ledger.excused):
                self._trace.violate(f"no object is left of {lost}")
        self._buried(self.archive)
        self.archive = None
        self._network.clock.callLater(AGAIN, self.start)

    def _opened(self, archive: Archive) -> None:
        self.audit("after a start")
        destinations = {
            title: Route(self._network, self.process, host) for title, host in self.peers.items()
        }
        try:
            scps = archive.scps(destinations=destinations, ae_title=TITLE)
        except Exception:  # noqa: BLE001  it is looked at there
            failure = Failure()
            archive.close().addCallback(lambda _: self._not_opened(failure))
            return
        endpoint = self._network.endpoint()
        listening = dimse.listen(
            endpoint,
            [dimse.VerificationSCP(), *scps],
            limits=self.limits,
            reactor=self.process,
        )
        listening.addCallback(self._listens)
        self.host.endpoint = endpoint
        self._trace.say("node: listens")

    def _listens(self, listener: Any) -> None:
        self.listener = listener

    def stop(self) -> "Deferred[None]":
        """In order, as on SIGTERM; the process is gone after that."""
        self._draws.counts["stops"] += 1
        self._trace.say("node: is told to stop")
        listener: Any = self.listener
        self.listener = None
        self.host.endpoint = None
        archive = self.archive
        stopped: Deferred[None] = listener.stop().addCallback(
            lambda _: maybeDeferred(archive.close)
        )

        def closed(_: None) -> None:
            if self.archive is archive:
                self._trace.say("node: has stopped")
                self.archive = None
                self._is_tidy()
                self._ledger.over()

        return stopped.addCallback(closed)

    def _is_tidy(self) -> None:
        """Nothing is left of a process that has stopped in order."""
        # What is being sent by C-MOVE is read to the end of its association, which is another one.
        fds = [each.name for each in self._disk.open_files.values() if not each.is_sent]
        if fds:
            self._trace.violate(f"open descriptors after a stop: {sorted(fds)}")
        if self.threads.steps:
            self._trace.violate("a step in a thread after a stop")
        with self._disk.calm():
            parts = {f"incoming/{path.name}" for path in (self._disk.folder / "incoming").iterdir()}
        if left := sorted(parts - self._disk.left):
            self._trace.violate(f"partial files after a stop: {left}")

    def crash(self, *, power: bool) -> None:
        """It is gone in the middle of whatever it does, and what it had in memory."""
        if self.archive is None:
            return
        what = "losses of power" if power else "crashes"
        self._draws.counts[what] += 1
        self._trace.say(f"node: {what}")
        self.process.end()
        self._buried(list(self.threads.steps))
        self.threads.crash()
        self._network.end(self.process, silently=power)
        self._disk.crash(power=power)
        assert self._database is not None
        self._database.survive(self._disk.folder, power=power)
        self._buried(self.archive, self.listener, self.host.endpoint)
        self.archive = self.listener = self.host.endpoint = None
        self._ledger.over()
        if power:  # the index may lose rows, and learn them again of what is damaged by then
            self._ledger.rotten.clear()
        self.host.powered = not power
        after = self._draws.seconds(0, 20) if power else self._draws.seconds(0, 5)
        self._network.clock.callLater(after, self.start)

    def rot(self) -> None:
        """The disk damages an instance by itself."""
        if uids := sorted((self.stored() or {}).keys() - self._ledger.damaged):
            uid = self._draws.pick(uids)
            # One that is unsettled is read again, and taken for what it is then.
            self._ledger.rots(uid, unseen=key_of(uid) in self.archive.objects.replaced())
            self._disk.damage(str(self.archive.objects.path_of(key_of(uid))))

    def _buried(self, *dead: Any) -> None:
        self.process.buried += dead

    # What is seen of it from outside

    def stored(self) -> dict[str, bytes] | None:
        """What its folder and its index have, by UID; None where it is not there."""
        archive = self.archive
        if archive is None or self.listener is None:
            return None
        return self._stored(archive)

    def _stored(self, archive: Any) -> dict[str, bytes]:
        found = {}
        with self._disk.calm():
            replaced = archive.objects.replaced()
            for uid, key, digest, offset in archive.index.fetch(_INSTANCES):
                try:
                    data = archive.objects.path_of(key).read_bytes()
                except OSError:
                    if key not in archive.index._doubtful | replaced:
                        self._trace.violate(f"{uid} has a row and no object")
                    continue
                if uid in self._ledger.excused:
                    continue
                found[uid] = data[data_set_offset(data) :]
                if key in replaced:  # its row comes later
                    continue
                if (digest_of(found[uid]), len(data)) != (digest, offset + len(found[uid])):
                    self._trace.violate(f"{uid}: the object is not what the index says")
        return found

    def _excuse_what_was_not_read(self) -> set[str]:
        """The keys of objects that a start could not read: without a row they are out of sight.

        They are whole where they were, and the log has their names.
        """
        unread = {PurePath(name).stem for name in self._disk.unread}
        promised = self._ledger.promised
        lost = promised.keys() - self._stored(self.archive).keys()
        with self._disk.calm():
            for uid in sorted(uid for uid in lost if key_of(uid) in unread):
                kept = self.archive.objects.path_of(key_of(uid)).read_bytes()
                if self._ledger.may_be(uid, digest_of(kept[data_set_offset(kept) :])):
                    self._ledger.unread.add(uid)
        return unread

    def audit(self, where: str) -> None:
        """Index and files agree, and have all that was promised, as it was."""
        archive = self.archive
        unread = self._excuse_what_was_not_read()
        stored = self._stored(archive)
        with self._disk.calm():
            objects = set(archive.objects.keys(LOWEST, ABOVE_ALL))
        damaged = {key_of(uid) for uid in self._ledger.excused} | unread
        if objects - damaged != {key_of(uid) for uid in stored} - damaged:
            self._trace.violate(f"{where}: index and files differ")
        for uid, data in sorted(stored.items()):
            self._ledger.found(uid, data, where)
        self._ledger.missing(frozenset(self._ledger.promised), set(stored), where)
        with self._disk.calm():
            parts = list((self._disk.folder / "incoming").iterdir())
        if parts:
            self._trace.violate(f"{where}: {len(parts)} partial files")

    def compare(self) -> None:
        """While nothing is done in threads, the index has what the folder has.

        But for rows whose commit seemed to fail, and for names that could not be taken away.
        """
        archive = self.archive
        if not self.is_up or self.threads.steps:
            return
        with self._disk.calm():
            objects = set(archive.objects.keys(LOWEST, ABOVE_ALL))
            rows = set(archive.index.keys(LOWEST, ABOVE_ALL))
        left = {PurePath(name).stem for name in self._disk.left | self._disk.unread}
        unsettled = archive.index._doubtful | archive.objects.replaced()
        if wrong := sorted((objects ^ rows) - unsettled - left):
            self._trace.violate(f"index and files differ: {wrong}")
        if not self.listener._factory._connections:
            self._ledger.over()
            for uid, data in sorted(self._stored(archive).items()):
                if not self.owes(uid):
                    self._ledger.found(uid, data, "while nothing goes on")

    def owes(self, uid: str) -> bool:
        """Whether what was refused could not be taken back, for the disk failed, too.

        The next commit does that; until then it is there.
        """
        archive = self.archive
        return archive is not None and f"{key_of(uid)}.dcm" in archive.objects._old._owed

    def unreported(self) -> set[str]:
        """The transactions of storage commitment whose result is still owed."""
        with self._disk.calm():
            rows = self.archive.index.fetch(sa.select(COMMITMENTS.c.transaction_uid))
        return {uid for (uid,) in rows}
