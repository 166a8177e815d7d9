"""The archive: a store of instances with an index, and the services over both."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from errno import EIO
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dimse.archive import query, retrieval
from dimse.archive.attributes import KEPT
from dimse.archive.committing import CommitThread, GroupCommit
from dimse.archive.department import Department
from dimse.archive.files import ObjectFolder, is_durable, outcome_of
from dimse.archive.header import HeaderScan
from dimse.archive.index import Index, sqlite_url
from dimse.archive.objects import ABOVE_ALL, LOWEST, ObjectStore, StoredInstance, key_of
from dimse.errors import DimseError, MisuseError, StatusError
from dimse.limits import Limits
from dimse.message.status import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, Status
from dimse.performing import SCP, Operation
from dimse.security.trail import CREATED, THERE, AuditTrail
from dimse.services.part10 import LONGEST_HEAD, data_set_offset, file_head, identity_of
from dimse.services.partial_file import InThread, in_reactor_thread
from dimse.services.query import QuerySCP
from dimse.services.retrieving import Destinations, RetrieveSCP
from dimse.services.storage import ReceivedInstance, StorageSCP

_WANTED = frozenset(KEPT)
_AT_ONCE = 1024 * 1024  # read of an object to index it again
_LOST = 100  # instances that may be lost, or a hundredth of all, without asking
_A_FEW = 200  # instances that are indexed again in one transaction


class _Incoming:
    """The sink of one instance: to its object, past the header scan and the digest."""

    def __init__(
        self, received: ReceivedInstance, operation: Operation, archive: "Archive"
    ) -> None:
        self.operation = operation
        head = file_head(received)
        self._received = received
        self._scan = HeaderScan(received, _WANTED)
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
            self._received, self._offset, self._length, self._digest.hexdigest(), attributes
        )
        return self._archive.commit(self)

    def abort(self, reason: DimseError) -> None:
        """Leave nothing behind."""
        self.object.discard()


class Archive:
    """Keeps instances below `folder`, or in `objects`, with an index in a database.

    An instance is answered with a success when it is in its place and the index has it; with
    `durability` "full", a key of `files.DURABILITIES`, both are on the disk then. `index` is the
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
        limits: Limits | None = None,
        objects: ObjectStore | None = None,
        unknown_matches: bool = False,
        forget_lost: bool = False,
        in_thread: InThread = in_reactor_thread,
        audit: AuditTrail | None = None,
        **department: Any,
    ) -> None:
        durable = is_durable(durability)
        self.folder = Path(folder)
        self.durability = durability
        self.objects: Any = objects or ObjectFolder(
            folder, durable=durable, reserve=(limits or Limits()).disk_reserve
        )
        self.index = Index(index or sqlite_url(self.folder), durable=durable)
        self._unknown_matches = unknown_matches
        self._forget_lost = forget_lost
        self._in_thread = in_thread
        self._audit = audit
        self._commit_thread = CommitThread() if in_thread is in_reactor_thread else None
        self._commits = GroupCommit(self._commit, _discard, self._commit_thread or in_thread)
        self._department = Department(
            self.index, self.objects.digest, in_thread, audit=audit, **department
        )

    def __str__(self) -> str:
        """Where instances go and how safe they are, for a log."""
        folder, durability = self.folder.absolute(), self.durability
        return f"instances go to {folder}, durability {durability}, index {self.index}"

    def open(self) -> Self:
        """Take the place of the objects, renew the index, and bring both together.

        Raises `MisuseError` when another server has them, or they cannot be used.
        """
        self.objects.open()
        try:
            self.index.open()
            self._check_objects()
            self._reconcile()
            self._department.open()
        except BaseException as error:
            self.index.close()
            self.objects.close()
            if isinstance(error, SQLAlchemyError):
                raise self.index.unusable(error) from error
            raise
        return self

    def close(self) -> "Deferred[None]":
        """Let another server have them; fires when what is being committed is done."""

        def idle(_: None) -> None:
            if self._commit_thread is not None:
                self._commit_thread.stop()
            self.index.close()
            self.objects.close()

        stopped = self._commits.idle().addCallback(lambda _: self._department.close())
        return stopped.addCallback(idle)

    def begin(self, instance: ReceivedInstance, operation: Operation) -> _Incoming:
        """A sink for one instance; raises `StatusError` when there is no room for it."""
        return _Incoming(instance, operation, self)

    def commit(self, incoming: _Incoming) -> "Deferred[int]":
        """Commit an instance that is whole; fires with its status."""

        def committed(status: int) -> int:
            if incoming.stored is not None:
                self._department.received(incoming.stored, incoming.operation)
            self._tell(incoming, CREATED if incoming.object.published else THERE)
            return status

        def failed(failure: Failure) -> Failure:
            known = isinstance(failure.value, StatusError)
            self._tell(incoming, CREATED, str(failure.value) if known else "it failed")
            return failure

        return self._commits.add(incoming).addCallbacks(committed, failed)

    def _tell(self, incoming: _Incoming, action: str, failure: str = "") -> None:
        stored = incoming.stored
        if self._audit is not None and stored is not None:
            uid = stored.received.sop_class_uid
            self._audit.received(incoming.operation, uid, stored.attributes, action, failure)

    def _commit(self, group: list[_Incoming]) -> list[Status | Failure]:
        """Objects first, then their rows in one transaction; runs in a thread."""
        outcomes: list[Status | Failure] = self.objects.commit([each.object for each in group])
        kept = [
            each
            for each, outcome in zip(group, outcomes, strict=True)
            if not isinstance(outcome, Failure)
        ]
        indexed = outcome_of(lambda: self._add(kept))
        if isinstance(indexed, Failure):
            self.objects.retract([each.object for each in kept])
            outcomes = [o if isinstance(o, Failure) else indexed for o in outcomes]
        _discard(group)
        return outcomes

    def _add(self, group: Iterable[_Incoming]) -> None:
        try:
            self.index.settle()
            if news := self._without_a_row(group):
                self.index.add(news)
        except Exception as error:  # whatever the database, its driver or the disk below it says
            raise self.index.failed(error, OUT_OF_RESOURCES) from error

    def _without_a_row(self, group: Iterable[_Incoming]) -> list[StoredInstance]:
        """What the index has to learn.

        Where the same object was there already, that one counts: its data set may begin elsewhere.
        """
        stored = [(each.stored, each.object.published) for each in group if each.stored]
        news = {each.key: each for each, published in stored if published}
        there = {each.received.sop_instance_uid for each, _ in stored if each.key not in news}
        if there:
            missing = there - self.index.stored(there).keys()
            news |= {key: self._read(key) for key in map(key_of, missing)}
        return list(news.values())

    def _check_objects(self) -> None:
        """A folder without a single object is that of a disk which is not mounted."""
        if any(self.objects.keys(low, high) for low, high in _ranges()):
            return
        if count := sum(len(self.index.keys(low, high)) for low, high in _ranges()):
            raise MisuseError(
                f"store {self.folder} has none of the {count} instances of index {self.index}: is "
                "its disk mounted? To begin anew, run dimse index rebuild"
            )

    def _reconcile(self) -> None:
        """Index the objects that no row tells of, and drop the rows without an object."""
        news: list[str] = []
        lost: list[str] = []
        count = 0
        for low, high in _ranges():
            there, known = set(self.objects.keys(low, high)), set(self.index.keys(low, high))
            news += there - known
            lost += sorted(known - there)
            count += len(known)
        if len(lost) > max(_LOST, count / 100) and not self._forget_lost:
            raise MisuseError(
                f"store {self.folder} has lost {len(lost)} of the {count} instances of index "
                f"{self.index}: is all of its disk there? --forget-lost starts without them"
            )
        added = sum(map(self._index_again, _some(self._as_they_came(news))))
        if added:
            self.log.warn("{count} instances were not in the index: added", count=added)
        if lost:
            self._forget(lost)

    def _forget(self, lost: Sequence[str]) -> None:
        """Each is named in the log before the index, which alone knows its UID, forgets it."""
        for keys in _some(lost):
            for instance, study in self.index.uids(keys):
                self.log.error(
                    "instance {instance} of study {study} is gone",
                    instance=instance,
                    study=study or "-",
                )
        self.index.remove(lost)
        self.log.error("{count} instances of the index are gone: removed", count=len(lost))

    def _as_they_came(self, keys: Iterable[str]) -> list[str]:
        """The first instance of a study tells of it, now as when it came."""
        return sorted(keys, key=lambda key: (self.objects.came(key), key))

    def rebuild(self, progress: Callable[[int], None] = lambda count: None) -> tuple[int, int]:
        """Make the index again from the objects alone, of an archive that is not open.

        `progress(count)` hears how many objects are done. Returns the numbers of instances that
        are in the index then, and of objects that are damaged. Raises `MisuseError` as `open`.
        """
        self.objects.open()
        try:
            self.log.info("{index} is made from {folder}", index=self.index, folder=self.folder)
            self.index.begin_anew()
            count = done = 0
            every = (key for low, high in _ranges() for key in self.objects.keys(low, high))
            for keys in _some(self._as_they_came(every)):
                count += self._index_again(keys)
                done += len(keys)
                progress(done)
            return count, done - count
        finally:
            self.index.close()
            self.objects.close()

    def _index_again(self, keys: Sequence[str]) -> int:
        found = []
        for key in keys:
            try:
                found.append(self._read(key))
            except DimseError as error:
                self._set_aside(key, error)
            except OSError as error:
                if error.errno == EIO:
                    self._set_aside(key, error)
                else:  # a matter of permissions, say: the object may be whole
                    self.log.error("object {key} cannot be read: {error}", key=key, error=error)
        self.index.add(found)
        return len(found)

    def _set_aside(self, key: str, error: Exception) -> None:
        """Free the name of a damaged object: the instance can be stored again then."""
        uid = self._uid_of(key)
        try:
            place = f"moved to {self.objects.set_aside(key)}"
        except OSError as failed:
            place = f"not moved away: {failed.strerror}"
        self.log.error(
            "object {key} is damaged: {error}; {place}, SOP Instance UID {uid}",
            key=key,
            error=error,
            place=place,
            uid=uid,
        )

    def _uid_of(self, key: str) -> str:
        """The SOP Instance UID that a damaged object had, as far as its head still tells."""
        try:
            head = self.objects.read(key, 0, LONGEST_HEAD)
            uid = identity_of(head[: data_set_offset(head)])[1]
        except (DimseError, OSError, ValueError):
            return "unknown"
        return uid if key_of(uid) == key else "unknown"

    def _read(self, key: str) -> StoredInstance:
        """An object as what it holds says of it, as it was scanned when it came."""
        head = self.objects.read(key, 0, LONGEST_HEAD)
        offset = data_set_offset(head)
        sop_class, instance, syntax = identity_of(head[:offset])
        received = ReceivedInstance(sop_class, instance, syntax, "", "")
        if key_of(instance) != key:
            raise DimseError("it has the name of another one")
        scan, digest, position = HeaderScan(received, _WANTED), sha256(), offset
        while data := self.objects.read(key, position, _AT_ONCE):
            scan.feed(data)
            digest.update(data)
            position += len(data)
        return StoredInstance(
            received, offset, position - offset, digest.hexdigest(), scan.finish()
        )

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
        what a peer called us, which should be so only where no other title is accepted.
        """
        finder = query.Finder(
            self.index,
            self._in_thread,
            unknown_matches=self._unknown_matches,
            ae_title=ae_title,
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


def _discard(group: Iterable[_Incoming]) -> None:
    for each in group:
        each.object.discard()


def _ranges() -> Iterator[tuple[str, str]]:
    """All keys in 256 parts, so that none of them is large."""
    bounds = [LOWEST, *(f"{number:02x}" for number in range(1, 256)), ABOVE_ALL]
    return pairwise(bounds)


def _some(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """A few keys at a time."""
    return (keys[start : start + _A_FEW] for start in range(0, len(keys), _A_FEW))
