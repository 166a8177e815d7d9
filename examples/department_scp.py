"""What a department needs beside queries: storage, commitment, procedure steps, notifications.

python examples/department_scp.py HOST PORT FOLDER
"""

import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

import dimse


class Commitment:
    """Commits itself to what is in the folder, and says so on the association of the request."""

    def __init__(self, store: dimse.FolderStore, reactor: Any) -> None:
        self._store = store
        self._reactor = reactor

    def request(self, request: dimse.CommitmentRequest, operation: dimse.Operation) -> None:
        """Take a request. When this returns it is answered, and then the result may follow."""
        kept = [each for each in request.references if self._has(each)]
        result = request.result(kept)
        self._reactor.callLater(0, self._report, operation.association, result)

    def _has(self, reference: dimse.Reference) -> bool:
        return self._store.path_of(reference.sop_instance_uid).exists()

    def _report(self, association: dimse.Association, result: dimse.CommitmentResult) -> None:
        # An archive keeps the result until this succeeds, and tries again on an own association.
        dimse.report(association, result).addBoth(print)


class Steps(dimse.MemorySteps):
    """Procedure steps in memory; says how they end."""

    def update(self, uid: str, change: Any, operation: dimse.Operation) -> bool:
        """Change one."""
        known = super().update(uid, change, operation)
        if known:
            print(uid, self.steps[uid].PerformedProcedureStepStatus, flush=True)
        return known


def notified(notification: dimse.AvailabilityNotification, operation: dimse.Operation) -> None:
    """Instances are available somewhere."""
    for each in notification.instances:
        print(
            each.reference.sop_instance_uid, each.availability, each.retrieve_ae_title, flush=True
        )


async def main(reactor: Any, host: str, port: str, folder: str) -> None:
    """Serve until somebody stops it."""
    store = dimse.FolderStore(Path(folder))
    await dimse.listen(
        f"tcp:{port}:interface={host}",
        [
            dimse.VerificationSCP(),
            dimse.StorageSCP(store),
            dimse.CommitmentSCP(Commitment(store, reactor).request),
            dimse.ProcedureStepSCP(Steps()),
            dimse.AvailabilitySCP(notified),
        ],
        reactor=reactor,
    )
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
