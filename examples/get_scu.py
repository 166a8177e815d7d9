"""C-GET as SCU: fetch a study on the same association, into a store of our own.

python examples/get_scu.py HOST PORT STUDY_INSTANCE_UID
"""

import sys
from typing import Any

from pydicom import Dataset
from pydicom.uid import CTImageStorage
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import react

import dimse


class Counting:
    """An InstanceStore, and its own sink: what comes is counted, and gone."""

    def __init__(self) -> None:
        self.instances = self.bytes = 0

    def begin(self, instance: dimse.ReceivedInstance, operation: dimse.Operation) -> "Counting":
        """An instance comes."""
        return self

    def write(self, data: memoryview) -> None:
        """Its next bytes."""
        self.bytes += len(data)

    def finish(self) -> Deferred[int]:
        """It is complete; the status goes to the peer."""
        self.instances += 1
        return succeed(0x0000)

    def abort(self, reason: dimse.DimseError) -> None:
        """It will not be complete."""
        print("not received:", reason)


async def main(reactor: Any, host: str, port: str, study: str) -> None:
    """Get, and say what came."""
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyInstanceUID = study
    store = Counting()
    async with dimse.associate(
        f"{host}:{port}",
        dimse.get_contexts(sop_classes=[CTImageStorage]),  # the roles follow by themselves
        called_ae_title="REMOTE_SCP",
        calling_ae_title="MY_SCU",
        reactor=reactor,
    ) as association:
        done = await dimse.get(association, keys, store)
    print(done.completed, "completed,", store.instances, "came,", store.bytes, "bytes")


if __name__ == "__main__":
    react(main, sys.argv[1:])
