"""What the tests of storage commitment share: who commits itself, and to what."""

from typing import Any

from dimse import (
    CommitmentRequest,
    CommitmentResult,
    CommitmentSCP,
    Operation,
    Reference,
    report,
)
from dimse.sop_classes import STORAGE_COMMITMENT_PUSH as PUSH
from dimse.testing import Endpoint, Network
from tests.wire import CT_STORAGE

ONE, TWO = Reference(CT_STORAGE, "1.2.1"), Reference(CT_STORAGE, "1.2.2")
AS_SCP = {PUSH: (False, True)}


class Archive:
    """Keeps `kept`, and what it was asked; reports on the same association in the next turn."""

    def __init__(self, network: Network, *kept: Reference, reports: bool = True) -> None:
        self.kept = kept
        self.asked: list[CommitmentRequest] = []
        self.reported: list[Any] = []
        self._network = network
        self._reports = reports

    def listen(self, **options: Any) -> Endpoint:
        return self._network.listen([CommitmentSCP(self._request)], **options)

    def _request(self, request: CommitmentRequest, operation: Operation) -> None:
        self.asked.append(request)
        if self._reports:
            result = request.result(self.kept)
            self._network.clock.callLater(0, self._report, operation, result)

    def _report(self, operation: Operation, result: CommitmentResult) -> None:
        report(operation.association, result).addBoth(self.reported.append)
