"""What the tests of the object store share: how an instance gets in, and what is there."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute

from dimse.archive.files import FileStore
from dimse.errors import StatusError
from dimse.limits import Limits
from dimse.services.partial_file import PartialFile
from dimse.services.storage import ReceivedInstance
from tests.memory import Net, Outcome
from tests.wire import CT_STORAGE, EXPLICIT

LIMITS = Limits(disk_reserve=0)
CONTENT = bytes(range(256)) * 100


def synchronously(step: Callable[[], Any]) -> "Deferred[Any]":
    return execute(step)


class Hand:
    """Commits when the test says so."""

    def __init__(self) -> None:
        self.steps: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, step: Callable[[], Any]) -> "Deferred[Any]":
        result: Deferred[Any] = Deferred()
        self.steps.append((step, result))
        return result

    def go(self) -> None:
        step, result = self.steps.pop(0)
        execute(step).chainDeferred(result)


def instance(uid: str = "1.2.3") -> ReceivedInstance:
    return ReceivedInstance(CT_STORAGE, uid, EXPLICIT, "MODALITY", "ARCHIVE")


def begin(store: FileStore, received: ReceivedInstance) -> PartialFile:
    """The sink for an instance; the store looks at nothing else of an operation."""
    operation: Any = None
    return store.begin(received, operation)


def put(net: Net, store: FileStore, content: bytes = CONTENT, uid: str = "1.2.3") -> Outcome:
    """Receive one instance, in two pieces."""

    def receive() -> "Deferred[int]":
        sink = begin(store, instance(uid))
        try:
            for piece in filter(None, (content[:1000], content[1000:])):
                sink.write(memoryview(piece))
        except StatusError as error:
            sink.abort(error)
            raise
        return sink.finish()

    return net.outcome(execute(lambda: None).addCallback(lambda _: receive()))


def objects(store: FileStore) -> list[Path]:
    """The files under a final name."""
    return sorted(path for path in (store.folder / "objects").rglob("*") if not path.is_dir())


def leftovers(store: FileStore) -> list[Path]:
    return list((store.folder / "incoming").iterdir())


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
