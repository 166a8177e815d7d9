"""What the tests of C-GET and C-MOVE share: instances, and where they come from."""

from typing import Any

from pydicom import Dataset
from pydicom.uid import CTImageStorage
from twisted.internet.defer import Deferred, fail, succeed

from dimse import (
    STUDY_ROOT,
    DimseError,
    Instance,
    ReceivedInstance,
    RetrieveSCP,
    get_contexts,
)
from dimse.testing import Network
from tests.wire import EXPLICIT

KEYS = Dataset()
KEYS.QueryRetrieveLevel = "STUDY"
KEYS.StudyInstanceUID = "1.2"

CONTEXTS = [*get_contexts(sop_classes=[CTImageStorage]), STUDY_ROOT.move]
DATA = b"\x08\0\x18\0UI\2\0" + b"1\0"


def instance(number: int, sop_class: str = CTImageStorage) -> Instance:
    return Instance(sop_class, f"1.2.{number}", EXPLICIT, data=DATA)


class Store:
    """Answers with the statuses given, then with success; remembers what came, and who sent it."""

    def __init__(self, *statuses: int | Exception) -> None:
        self.statuses = list(statuses)
        self.received: list[ReceivedInstance] = []
        self.requests: list[Any] = []
        self.aborted: list[DimseError] = []
        self.waits: Deferred[int] | None = None

    def begin(self, instance: ReceivedInstance, operation: Any) -> "Store":
        self.received.append(instance)
        self.requests.append(operation.request)
        return self

    def write(self, data: memoryview) -> None:
        pass

    def finish(self) -> "Deferred[int]":
        if self.waits is not None:
            return self.waits
        status = self.statuses.pop(0) if self.statuses else 0
        return fail(status) if isinstance(status, Exception) else succeed(status)

    def abort(self, reason: DimseError) -> None:
        self.aborted.append(reason)

    @property
    def uids(self) -> list[str]:
        return [each.sop_instance_uid for each in self.received]


def joined(network: Network, found: Any, **options: Any) -> tuple[Any, Any]:
    scp = RetrieveSCP(lambda *_: found, reactor=network.clock, **options)
    return network.associate(network.listen([scp]), CONTEXTS)
