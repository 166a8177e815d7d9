"""Index and objects are brought together, at a start or from the objects alone.

All of it blocks.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import suppress
from errno import EMFILE, ENFILE, ENOMEM
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from twisted.logger import Logger

from dimse.archive.attributes import KEPT
from dimse.archive.header import HeaderScan
from dimse.archive.index import Index
from dimse.archive.objects import ABOVE_ALL, LOWEST, ObjectStore, StoredInstance, key_of
from dimse.errors import DimseError, MisuseError
from dimse.services.part10 import LONGEST_HEAD, DamagedFileError, data_set_offset, identity_of
from dimse.services.storage import ReceivedInstance

WANTED = frozenset(KEPT)
"""The attributes that the index needs of an instance."""

_AT_ONCE = 1024 * 1024  # read of an object to index it again
_LOST = 100  # instances that may be lost, or a hundredth of all, without asking
_OF_NO_OBJECT = {EMFILE, ENFILE, ENOMEM}
_FEW = 10_000  # instances whose keys are compared at once
_A_FEW = 200  # instances that are indexed again in one transaction


class Reconciliation:
    """What the objects in `folder` and the index know of each other."""

    log = Logger()

    def __init__(self, index: Index, objects: ObjectStore, folder: Path) -> None:
        self._index = index
        self._objects = objects
        self._folder = folder
        self._unreadable: set[str] = set()  # in this run

    def run(self, *, forget_lost: bool, opening: bool) -> None:
        """Index the objects that no row tells of, and drop the rows without an object.

        With `opening` their studies have not ended, unless the index is a new one.
        """
        count = self._index.count()
        self._check_objects(count)
        self._check_store()
        self._unreadable.clear()
        self._take_back(self._objects.replaced())
        news: list[str] = []
        lost: list[str] = []
        for low, high in _ranges() if count > _FEW else [(LOWEST, ABOVE_ALL)]:
            there, known = set(self._objects.keys(low, high)), set(self._index.keys(low, high))
            news += there - known
            lost += sorted(known - there)
        if len(lost) > max(_LOST, count / 100) and not forget_lost:
            raise MisuseError(
                f"store {self._folder} has lost {len(lost)} of the {count} instances of index "
                f"{self._index}: is all of its disk there? --forget-lost starts without them"
            )
        self._objects.make_last(news)
        some = _some(self._as_they_came(news))  # before a damaged one is set aside
        self.renew(self._objects.replaced())
        self._index.remove(self._unreadable)  # the row of another object is worse than none
        opening = opening and count > 0
        added = sum(self._add(keys, opening=opening) for keys in some)
        if added:
            self.log.warn("{count} instances were not in the index: added", count=added)
        if lost:
            self._forget(lost)

    def _take_back(self, replaced: Set[str]) -> None:
        """Of what the index does not know, and so was not acknowledged, the old one comes back.

        It is enough that one of both can be read: what the index knows is the other one.
        """
        rows = (row for keys in _some(sorted(replaced)) for row in self._index.digests(keys))
        for key, offset, digest in rows:
            new = _digest(self._objects.digest, key, offset)
            if new == digest:
                continue
            old = _digest(self._objects.old_digest, key, offset)
            if old == digest or (old is None and new is not None):
                with suppress(OSError):  # then `renew` tries once more
                    self._objects.take_back(key)

    def renew(self, replaced: Set[str]) -> None:
        """Tell the index what objects are that took the place of others, or did not.

        One that cannot be read is left to the next start.
        """
        for keys in _some(sorted(replaced - self._unreadable)):
            self._objects.make_last(keys)
            found = self._read(keys)
            known = set(keys) - self._unreadable
            self._index.add(found, replacing=known)
            self.settle(known)

    def settle(self, keys: Set[str]) -> None:
        """The index knows them as they are, and what of them could not be read before is past."""
        self._objects.settle(keys)
        self._unreadable -= keys

    def add_all(self, progress: Callable[[int], None]) -> tuple[int, int]:
        """Index every object; the numbers of those that are in the index then, and damaged."""
        self._index.belong_to(self._objects.identity())
        count = done = 0
        every = (key for low, high in _ranges() for key in self._objects.keys(low, high))
        wanted = self._as_they_came(every)
        self._objects.make_last(wanted)
        self._unreadable.clear()
        for keys in _some(wanted):
            count += self._add(keys)
            done += len(keys)
            progress(done)
        self._objects.settle(self._objects.replaced() - self._unreadable)
        return count, done - count

    def _check_objects(self, count: int) -> None:
        """A folder without a single object is that of a disk which is not mounted."""
        if count and not any(self._objects.keys(low, high) for low, high in _ranges()):
            raise MisuseError(
                f"store {self._folder} has none of the {count} instances of index "
                f"{self._index}: is its disk mounted? To begin anew, run dimse index rebuild"
            )

    def _check_store(self) -> None:
        """Two nodes with one database and a folder each would remove each other's rows."""
        ours = self._objects.identity()
        if self._index.store_id(unless_any=ours) != ours:
            raise MisuseError(
                f"index {self._index} is that of another store than {self._folder}: give each "
                "store an index of its own, or make this one that of the store with dimse index "
                "rebuild"
            )

    def _forget(self, lost: Sequence[str]) -> None:
        """Each is named in the log before the index, which alone knows its UID, forgets it."""
        for keys in _some(lost):
            for instance, study in self._index.uids(keys):
                self.log.error(
                    "instance {instance} of study {study} is gone",
                    instance=instance,
                    study=study or "-",
                )
        self._index.remove(lost)
        self.log.error("{count} instances of the index are gone: removed", count=len(lost))

    def _as_they_came(self, keys: Iterable[str]) -> list[str]:
        """The first instance of a study tells of it, now as when it came."""
        return sorted(keys, key=lambda key: (self._objects.came(key), key))

    def _add(self, keys: Sequence[str], *, opening: bool = False) -> int:
        found = self._read(keys)
        self._index.add(found, opening=opening)
        return len(found)

    def _read(self, keys: Sequence[str]) -> list[StoredInstance]:
        """The objects that can be read; a damaged one is set aside.

        What cannot be read may be whole and acknowledged: it stays, so that no other one comes
        under its UID, until it is sent again or another start can read it. Raises `OSError` for
        what is not the fault of an object.
        """
        found = []
        for key in keys:
            try:
                found.append(read_object(self._objects, key))
            except (DimseError, DamagedFileError) as error:
                self._set_aside(key, error)
            except FileNotFoundError:
                continue  # it was set aside before, and the index failed to learn of that
            except OSError as error:
                if error.errno in _OF_NO_OBJECT:
                    raise
                self.log.error(
                    "object {key} cannot be read, and is not in the index: {error}",
                    key=key,
                    error=error,
                )
                self._unreadable.add(key)
        return found

    def _set_aside(self, key: str, error: Exception) -> None:
        """Free the name of a damaged object: the instance can be stored again then."""
        uid = self._uid_of(key)
        try:
            place = f"moved to {self._objects.set_aside(key)}"
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
            head = self._objects.read(key, 0, LONGEST_HEAD)
            uid = identity_of(head[: data_set_offset(head)])[1]
        except (DimseError, OSError, ValueError):
            return "unknown"
        return uid if key_of(uid) == key else "unknown"


def _digest(digest: Callable[[str, int], str], key: str, offset: int) -> str | None:
    """None of what cannot be read."""
    try:
        return digest(key, offset)
    except OSError:
        return None


def read_object(objects: ObjectStore, key: str) -> StoredInstance:
    """An object as what it holds says of it, as it was scanned when it came."""
    head = objects.read(key, 0, LONGEST_HEAD)
    offset = data_set_offset(head)
    sop_class, instance, syntax = identity_of(head[:offset])
    received = ReceivedInstance(sop_class, instance, syntax, "", "")
    if key_of(instance) != key:
        raise DimseError("it has the name of another one")
    scan, digest, position = HeaderScan(received, WANTED), sha256(), offset
    while data := objects.read(key, position, _AT_ONCE):
        scan.feed(data)
        digest.update(data)
        position += len(data)
    return StoredInstance(received, offset, position - offset, digest.hexdigest(), scan.finish())


def _ranges() -> Iterator[tuple[str, str]]:
    """All keys in 256 parts, so that none of them is large."""
    bounds = [LOWEST, *(f"{number:02x}" for number in range(1, 256)), ABOVE_ALL]
    return pairwise(bounds)


def _some(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """A few keys at a time."""
    return (keys[start : start + _A_FEW] for start in range(0, len(keys), _A_FEW))
