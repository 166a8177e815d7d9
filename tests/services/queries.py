"""What the tests of C-FIND share: an index, its studies, and two associations over it."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydicom import Dataset
from twisted.internet.defer import Deferred

from dimse import (
    STUDY_ROOT,
    Operation,
    QuerySCP,
    associate,
)
from dimse.testing import Network, ScriptedPeer
from tests.wire import IMPLICIT

FIND = STUDY_ROOT.find


def study(number: int) -> Dataset:
    dataset = Dataset()
    dataset.QueryRetrieveLevel = "STUDY"
    dataset.StudyInstanceUID = f"1.2.{number}"
    return dataset


KEYS = Dataset()
KEYS.QueryRetrieveLevel = "STUDY"
KEYS.StudyInstanceUID = ""


class Index:
    """Yields `count` studies; remembers what was asked, how far it got and how it ended."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[Dataset] = []
        self.yielded = 0
        self.closed = 0
        self.waits: Deferred[None] | None = None

    async def __call__(self, identifier: Dataset, operation: Operation) -> AsyncIterator[Dataset]:
        self.asked.append(identifier)
        try:
            for number in range(self.count):
                self.yielded += 1
                yield study(number)
            if self.waits is not None:
                await self.waits
        finally:
            self.closed += 1


def joined(network: Network, find: Any, **options: Any) -> tuple[Any, Any]:
    endpoint = network.listen([QuerySCP(find)], limits=options.get("limits"))
    return network.associate(endpoint, [FIND], **options)


def connected(
    network: Network, endpoint: Any, server: ScriptedPeer, contexts: Sequence[str] = ()
) -> Any:
    proposed = [(uid, [IMPLICIT]) for uid in (FIND, *contexts)]
    pending = associate(endpoint, proposed, reactor=network.clock)
    network.run()
    server.accept()
    return network.result(pending)
