"""What a department needs beside queries: storage, commitment, procedure steps, notifications.

python examples/department_scp.py HOST PORT FOLDER [AE_TITLE=HOST:PORT ...]
"""

import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

import dimse
from dimse.sop_classes import STORAGE_COMMITMENT_PUSH


class Commitment:
    """Commits itself to what is in the folder; `peers` are where to report that, by AE title."""

    def __init__(self, store: dimse.FolderStore, peers: dict[str, str], reactor: Any) -> None:
        self._store = store
        self._peers = peers
        self._reactor = reactor

    def request(self, request: dimse.CommitmentRequest, operation: dimse.Operation) -> None:
        """Take a request. When this returns it is answered, and then the result may follow."""
        reporting = Deferred.fromCoroutine(self._report(request, operation.association))
        reporting.addErrback(lambda failure: print(failure.value, flush=True))

    async def _report(
        self, request: dimse.CommitmentRequest, association: dimse.Association
    ) -> None:
        await deferLater(self._reactor, 0)
        # An archive keeps the request on disk until one of these succeeds, and tries again.
        result = request.result(each for each in request.references if self._has(each))
        try:
            await dimse.report(association, result)
        except dimse.AssociationError:  # the peer has released it, and listens somewhere
            async with dimse.associate(
                self._peers[request.peer.ae_title],
                [STORAGE_COMMITMENT_PUSH],
                roles={STORAGE_COMMITMENT_PUSH: (False, True)},
                called_ae_title=request.peer.ae_title,
                calling_ae_title=request.ae_title,
                reactor=self._reactor,
            ) as own:
                await dimse.report(own, result)

    def _has(self, reference: dimse.Reference) -> bool:
        return self._store.path_of(reference.sop_instance_uid).exists()


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


async def main(reactor: Any, host: str, port: str, folder: str, *peers: str) -> None:
    """Serve until somebody stops it."""
    store = dimse.FolderStore(Path(folder))
    known = dict(each.split("=", 1) for each in peers)
    await dimse.listen(
        f"tcp:{port}:interface={host}",
        [
            dimse.VerificationSCP(),
            dimse.StorageSCP(store),
            dimse.CommitmentSCP(Commitment(store, known, reactor).request),
            dimse.ProcedureStepSCP(Steps()),
            dimse.AvailabilitySCP(notified),
        ],
        reactor=reactor,
    )
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
