"""What the archive asks of the place where its instances are, and what it knows of each.

A folder is one (`files.ObjectFolder`); an object store that many nodes share can be another.
"""

from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from twisted.python.failure import Failure

from dimse.archive.attributes import Attributes
from dimse.message.status import Status
from dimse.services.instance import Instance
from dimse.services.storage import ReceivedInstance

LOWEST, ABOVE_ALL = "0", "g"
"""Bounds of all keys: keys are in hexadecimal."""


def key_of(sop_instance_uid: str) -> str:
    """The key of an instance: a hash, so that nothing a peer sent is ever part of a path."""
    return sha256(sop_instance_uid.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance that is kept: whose it is, where its data set is in its object, and its digest.

    `digest` is the SHA-256 of the data set in hexadecimal, `offset` and `length` are in bytes.
    """

    received: ReceivedInstance
    offset: int
    length: int
    digest: str
    attributes: Attributes

    @property
    def key(self) -> str:
        """That of its object."""
        return key_of(self.received.sop_instance_uid)


class NewObject(Protocol):
    """An object that is being written, and that nobody sees yet."""

    @property
    def published(self) -> bool:
        """Whether a commit made it last, and did not find the same one there."""

    @property
    def replaced(self) -> bool:
        """Whether it took the place of another one."""

    def write(self, data: memoryview) -> None:
        """The next bytes; raises `StatusError` when there is no room for them."""

    def discard(self) -> None:
        """Forget it, or what is left of it once it is published."""


class ObjectStore(Protocol):
    """Where objects are kept by their keys. But for `begin` all of it may block."""

    @property
    def replaces(self) -> bool:
        """Whether an object takes the place of another one under its key, or is refused."""

    def open(self) -> object:
        """Get ready; raises `MisuseError` when another server uses it."""

    def close(self) -> None:
        """Let another server have it."""

    def identity(self) -> str:
        """What tells this store from all others, for good; the first call makes it."""

    def begin(self, key: str, head: bytes) -> NewObject:
        """A new object that begins with `head`; raises `StatusError` when there is no room."""

    def commit(self, objects: Sequence[NewObject]) -> list[Status | Failure]:
        """Make them last, each or not; a success too where the same one is there already.

        Where another one is there, that is kept, or replaced: never lost before the new one lasts.
        """

    def retract(self, objects: Iterable[NewObject]) -> None:
        """Take back what was committed: nobody was told of it yet."""

    def replaced(self) -> Set[str]:
        """The keys of objects that took the place of others, after a restart too, until `settle`.

        Of one that was taken back the index may know the wrong one.
        """

    def settle(self, keys: Iterable[str]) -> None:
        """The index knows them as they are: what they took the place of can go."""

    def old_digest(self, key: str, offset: int) -> str:
        """As `digest`, of the object that one took the place of."""

    def take_back(self, key: str) -> None:
        """Bring back what one took the place of; raises `OSError` when that cannot be."""

    def make_last(self, keys: Collection[str]) -> None:
        """What a server that was killed has left under them outlasts a loss of power from now on.

        What could not be taken back by then is. Raises `OSError` when either cannot be.
        """

    def keys(self, low: str, high: str) -> list[str]:
        """The keys from `low`, up to but without `high`, in their order."""

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A range of an object; raises `OSError` when it is not there."""

    def instance(self, stored: StoredInstance) -> Instance:
        """Its instance, to be sent."""

    def digest(self, key: str, offset: int) -> str:
        """The SHA-256 of all from `offset` on; raises `OSError` when it cannot be read."""

    def came(self, key: str) -> int:
        """A number that is larger for what came later; raises `OSError` when it is not there."""

    def set_aside(self, key: str) -> object:
        """Keep a damaged object elsewhere, so that a whole one can come under its key.

        Returns the place, for a log. Raises `OSError` when that cannot be.
        """

    def delete(self, key: str) -> None:
        """Remove an object for good; one that is not there is no error."""
