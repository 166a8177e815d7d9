"""The archive: a store of instances with an index, and the services over both."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dimse.archive import query, retrieval
from dimse.archive.committing import CommitThread, GroupCommit, outcome_of
from dimse.archive.department import Department
from dimse.archive.files import ObjectFolder, is_durable, is_replacing
from dimse.archive.header import HeaderScan
from dimse.archive.index import Index, sqlite_url
from dimse.archive.objects import ObjectStore, StoredInstance, key_of
from dimse.archive.reconciliation import WANTED, Reconciliation, read_object
from dimse.archive.under_way import UnderWay
from dimse.errors import DimseError, MisuseError, StatusError
from dimse.limits import Limits
from dimse.message.status import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, Status
from dimse.performing import SCP, Operation, escaped
from dimse.security.trail import ALTERED, CREATED, THERE, AuditTrail
from dimse.services.part10 import file_head
from dimse.services.partial_file import InThread, in_reactor_thread
from dimse.services.query import QuerySCP
from dimse.services.retrieving import Destinations, RetrieveSCP
from dimse.services.storage import ReceivedInstance, StorageSCP

_PATIENCE = 2  # failures in a row, of instances that are indexed each for itself


class _Incoming:
    """The sink of one instance: to its object, past the header scan and the digest."""

    def __init__(
        self, received: ReceivedInstance, operation: Operation, archive: "Archive"
    ) -> None:
        self.operation = operation
        head = file_head(received)
        self.received = received
        self._scan = HeaderScan(received, WANTED)
        self._digest = sha256()
        self._offset = len(head)
        self._length = 0
        self._archive = archive
        self.object = archive.objects.begin(key_of(received.sop_instance_uid), head)
        self.stored: StoredInstance | None = None

    def write(self, data: memoryview) -> None:
        """The next bytes of the data set."""
        self._scan.feed(data)
        self._digest.update(data)
        self._length += len(data)
        self.object.write(data)

    def finish(self) -> "Deferred[int]":
        """Check what came, and commit it; fires with the status."""
        try:
            if not self._length:
                raise StatusError(CANNOT_UNDERSTAND, "the data set is empty")
            attributes = self._scan.finish()
        except BaseException:
            self.object.discard()
            raise
        self.stored = StoredInstance(
            self.received, self._offset, self._length, self._digest.hexdigest(), attributes
        )
        return self._archive.commit(self)

    def abort(self, reason: DimseError) -> None:
        """Leave nothing behind."""
        self.object.discard()


class Archive:
    """Keeps instances below `folder`, or in `objects`, with an index in a database.

    An instance is answered with a success when it is in its place and the index has it; with
    `durability` "full", a key of `files.DURABILITIES`, both are on the disk then. `duplicates`, of
    `files.DUPLICATES`, says what becomes of another one under the same UID. `index` is the
    URL of a database, one in the folder unless given; `unknown_matches` is as in `query.Finder`.
    When more than 100 instances and a hundredth of all are gone, it opens with `forget_lost` only.
    It is an `InstanceStore`; `scps` are the services over it.

    `worklist` is a folder with worklist items in files. `on_study_end(study)` is called with an
    `EndedStudy` when nothing of a study came for `study_timeout` seconds, or with 0 when the
    association that brought its last instance is over; the peers of `notified()`, an AE title
    and a `Destination` each, are then told that it is available. `clock` is the reactor. `audit` is
    told what comes, is sent, and is asked for.
    """

    log = Logger()

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        index: str | None = None,
        durability: str = "full",
        duplicates: str = "keep",
        limits: Limits | None = None,
        objects: ObjectStore | None = None,
        unknown_matches: bool = False,
        forget_lost: bool = False,
        in_thread: InThread = in_reactor_thread,
        audit: AuditTrail | None = None,
        clock: Any = None,
        **department: Any,
    ) -> None:
        self._limits = limits or Limits()
        self._clock = clock
        durable, replaces = is_durable(durability), is_replacing(duplicates)
        self.folder = Path(folder)
        self.durability = durability
        own: Any = ObjectFolder(
            folder, durable=durable, reserve=self._limits.disk_reserve, replaces=replaces
        )
        self.objects: Any = own if objects is None else objects
        self.index = Index(
            index or sqlite_url(self.folder), durable=durable, replaces=self.objects.replaces
        )
        self._unknown_matches = unknown_matches
        self._forget_lost = forget_lost
        self._in_thread = UnderWay(in_thread)
        self._audit = audit
        self._commit_thread = CommitThread() if in_thread is in_reactor_thread else None
        self._reconciliation = Reconciliation(self.index, self.objects, self.folder)
        self._commits = GroupCommit(self._commit, _discard, self._commit_thread or in_thread)
        self._department = Department(
            self.index, self.objects.digest, self._in_thread, audit=audit, clock=clock, **department
        )

    def __str__(self) -> str:
        """Where instances go and how safe they are, for a log."""
        folder, durability = self.folder.absolute(), self.durability
        return f"instances go to {folder}, durability {durability}, index {self.index}"

    def open(self) -> Self:
        """Take the place of the objects, renew the index, and bring both together.

        Raises `MisuseError` when another server has them, or they cannot be used.
        """
        try:
            with ExitStack() as begun:  # what ends again when a later step fails
                self.objects.open()
                begun.callback(self.objects.close)
                begun.callback(self.index.close)
                self.index.open()
                self._reconciliation.run(
                    forget_lost=self._forget_lost, opening=self._department.hears_of_ends
                )
                begun.callback(self._department.abandon)
                self._department.open()
                begun.pop_all()
        except SQLAlchemyError as error:
            raise self.index.unusable(error) from error
        except OSError as error:
            raise MisuseError(f"store {self.folder}: {error.strerror}") from error
        return self

    def close(self) -> "Deferred[None]":
        """Let another server have them; fires when what is being done in threads is done.

        After `Limits.commit` seconds it does not wait for that any more, and the log names what is
        not committed.
        """
        seconds, clock = self._limits.commit, self._clock

        def committed(is_idle: bool) -> "Deferred[None]":
            closed = self._department.close()
            if not is_idle:  # its thread needs all of them
                return closed
            return closed.addCallback(lambda _: self._in_thread.idle(seconds, clock)).addCallback(
                ended
            )

        def ended(count: int) -> None:
            if count:
                self.log.critical("the disk hangs: {count} threads still read it", count=count)
                return
            if self._commit_thread is not None:
                self._commit_thread.stop()
            with suppress(SQLAlchemyError):  # else a start finds rows without objects, and wonders
                self.index.settle(self.objects.replaced())
            self.index.close()
            self.objects.close()

        return self._commits.idle(seconds, clock, _uid_of).addCallback(committed)

    def begin(self, instance: ReceivedInstance, operation: Operation) -> _Incoming:
        """A sink for one instance; raises `StatusError` when there is no room for it."""
        return _Incoming(instance, operation, self)

    def commit(self, incoming: _Incoming) -> "Deferred[int]":
        """Commit an instance that is whole; fires with its status."""

        def committed(status: int) -> int:
            is_new = incoming.object.published
            if incoming.stored is not None:
                self._department.received(incoming.stored, incoming.operation, is_new=is_new)
            if incoming.object.replaced:
                self._say_replaced(incoming.received)
                self._tell(incoming, ALTERED)
            else:
                self._tell(incoming, CREATED if is_new else THERE)
            return status

        def failed(failure: Failure) -> Failure:
            known = isinstance(failure.value, StatusError)
            self._tell(incoming, CREATED, str(failure.value) if known else "it failed")
            return failure

        return self._commits.add(incoming).addCallbacks(committed, failed)

    def _say_replaced(self, received: ReceivedInstance) -> None:
        self.log.info(
            "{peer}: instance {uid} took the place of another one of its UID",
            peer=escaped(received.sending_ae_title),
            uid=escaped(received.sop_instance_uid),
        )

    def _tell(self, incoming: _Incoming, action: str, failure: str = "") -> None:
        stored = incoming.stored
        if self._audit is not None and stored is not None:
            uid = stored.received.sop_class_uid
            self._audit.received(incoming.operation, uid, stored.attributes, action, failure)

    def _commit(self, group: list[_Incoming]) -> list[Status | Failure]:
        """Objects first, then their rows in one transaction; runs in a thread.

        Before that what an earlier failure has left is settled: a row that it could not take back
        must not be found with another object.
        """
        if (failed := outcome_of(self._settle_earlier)) is not None:
            _discard(group)
            return [failed for _ in group]
        outcomes: list[Status | Failure] = self.objects.commit([each.object for each in group])
        kept = [
            each
            for each, outcome in zip(group, outcomes, strict=True)
            if not isinstance(outcome, Failure)
        ]
        indexed = iter(self._indexed(kept))
        outcomes = [
            outcome if isinstance(outcome, Failure) else next(indexed) or outcome
            for outcome in outcomes
        ]
        _discard(group)
        return outcomes

    def _indexed(self, group: list[_Incoming]) -> list[Failure | None]:
        """Together or, where the database refuses that, each for itself: one of them may have a
        value that it does not take. What fails twice in a row is the database itself.

        Those of one UID stay together: their object is the one that came last.
        """
        begun = _published(group)
        failed = outcome_of(lambda: self._add(group, begun))
        if failed is None:
            return [None for _ in group]
        of_one: dict[str, list[_Incoming]] = {}
        for each in group:
            of_one.setdefault(_uid_of(each), []).append(each)
        failures: dict[str, Failure | None] = {}
        patience = _PATIENCE if len(of_one) > 1 else 0
        for uid, some in of_one.items():
            if patience:
                failed = outcome_of(partial(self._add, some, begun))
                patience = _PATIENCE if failed is None else patience - 1
            if failed is not None:
                self.objects.retract([each.object for each in some])
            begun -= _published(some)
            failures[uid] = failed
        return [failures[_uid_of(each)] for each in group]

    def _settle_earlier(self) -> None:
        with self._answered():
            self._settle(set())

    def _add(self, group: Sequence[_Incoming], begun: Set[str]) -> None:
        with self._answered():
            self._settle(begun)
            self._bring(group)

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """Whatever the database, its driver or the disk below it says."""
        try:
            yield
        except Exception as error:
            raise self.index.failed(error, OUT_OF_RESOURCES) from error

    def _settle(self, begun: Set[str]) -> None:
        """What a failure has left, and nothing of the objects that are `begun`."""
        self.index.settle(self.objects.replaced())
        if earlier := self.objects.replaced() - begun:
            self._reconciliation.renew(earlier)

    def _bring(self, group: Sequence[_Incoming]) -> None:
        """Rows for those that need one."""
        unsettled = self.objects.replaced() & {each.stored.key for each in group if each.stored}
        if news := self._without_a_row(group, unsettled):
            self.index.add(news, unsettled, self._department.hears_of_ends)
            self._reconciliation.settle(unsettled)

    def _without_a_row(
        self, group: Iterable[_Incoming], unsettled: Set[str]
    ) -> list[StoredInstance]:
        """What the index has to learn; a row of what is `unsettled` may be that of another one.

        Where the same object was there already, that one counts: its data set may begin elsewhere.
        """
        stored = [(each.stored, each.object.published) for each in group if each.stored]
        news = {each.key: each for each, published in stored if published}
        there = {each.received.sop_instance_uid for each, _ in stored if each.key not in news}
        if there:
            known = {key_of(uid) for uid in self.index.stored(there)} - unsettled
            missing = set(map(key_of, there)) - known
            news |= {key: read_object(self.objects, key) for key in missing}
        return list(news.values())

    def rebuild(self, progress: Callable[[int], None] = lambda count: None) -> tuple[int, int]:
        """Make the index again from the objects alone, of an archive that is not open.

        `progress(count)` hears how many objects are done. Returns the numbers of instances that
        are in the index then, and of objects left out. Raises `MisuseError` as `open`.
        """
        self.objects.open()
        try:
            self.log.info("{index} is made from {folder}", index=self.index, folder=self.folder)
            self.index.begin_anew()
            numbers = self._reconciliation.add_all(progress)
            self.index.forget_old()
        except SQLAlchemyError as error:
            raise self.index.unusable(error) from error
        except OSError as error:
            raise MisuseError(f"store {self.folder}: {error.strerror}") from error
        finally:
            self.index.close()
            self.objects.close()
        return numbers

    def scps(
        self,
        *,
        destinations: Destinations = {},  # noqa: B006  never changed
        reports: Destinations | None = None,
        ae_title: str | None = None,
        **storage: Any,
    ) -> list[SCP]:
        """The services over it: storage, with the arguments of `StorageSCP`, query and retrieval;
        storage commitment, procedure steps and worklist.

        `destinations` are those of C-MOVE, as a `RetrieveSCP` takes them; results of commitment go
        there too, unless `reports` says where to. `ae_title` is who we are for the destinations of
        C-MOVE and for `notified` peers, and the Retrieve AE Title of matches; without it that is
        what a peer called us, which should be so only where no other title is accepted. Raises
        `MisuseError` when the index fails.
        """
        finder = query.Finder(
            self.index, self._in_thread, unknown_matches=self._unknown_matches, ae_title=ae_title
        )
        retriever = retrieval.Retriever(
            self.index, self.objects, self._in_thread, with_studies=self._audit is not None
        )
        models = list(dict.fromkeys(query.MODELS.values()))
        return [
            StorageSCP(self, **storage),
            QuerySCP(finder.find, models, options=query.SUPPORTED, audit=self._audit),
            RetrieveSCP(
                retriever.retrieve,
                models,
                destinations=destinations,
                options=retrieval.SUPPORTED,
                ae_title=ae_title,
                audit=self._audit,
            ),
            *self._department.scps(destinations if reports is None else reports, ae_title),
        ]


def _published(group: Iterable[_Incoming]) -> set[str]:
    """The keys of the objects that they made."""
    return {each.stored.key for each in group if each.stored and each.object.published}


def _uid_of(incoming: _Incoming) -> str:
    return incoming.received.sop_instance_uid


def _discard(group: Iterable[_Incoming]) -> None:
    for each in group:
        each.object.discard()
