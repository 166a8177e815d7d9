"""A process that performs every service; it prints the requests of DIMSE-N that it gets.

python -m tests.interop.matrix_node PORT FOLDER
"""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydicom import Dataset
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from dimse import (
    MODALITY_WORKLIST,
    PATIENT_ROOT,
    SCP,
    STUDY_ROOT,
    NormalizedSCP,
    Operation,
    QuerySCP,
    RetrieveSCP,
    VerificationSCP,
    listen,
)
from tests.interop.exchanges import (
    ARCHIVE,
    EXCHANGES,
    GRAYSCALE_PRINT,
    LONG_STUDY,
    answer,
    dataset,
    found,
    request,
    values,
)


async def main(reactor: Any, port: str, folder: str) -> None:
    """Listen for good. The AE title of a destination is its port."""

    def retrieve(identifier: Dataset, _: Operation) -> list[Path]:
        return found(Path(folder), identifier)

    async def find(identifier: Dataset, operation: Operation) -> AsyncIterator[Dataset]:
        for path in retrieve(identifier, operation):
            yield answer(path, identifier)
            if identifier.get("StudyInstanceUID") == LONG_STUDY:
                await Deferred()  # until C-CANCEL closes the generator

    scps: list[SCP] = [
        VerificationSCP(),
        QuerySCP(find, [PATIENT_ROOT, STUDY_ROOT, MODALITY_WORKLIST]),
        RetrieveSCP(
            retrieve,
            [PATIENT_ROOT, STUDY_ROOT],
            destinations=lambda title: f"127.0.0.1:{title}",
        ),
        NormalizedSCP(
            [GRAYSCALE_PRINT],
            n_get=perform,
            n_set=perform,
            n_action=perform,
            n_create=perform,
            n_delete=perform,
            n_event_report=perform,
        ),
    ]
    await listen(f"tcp:{port}:interface=127.0.0.1", scps, ae_titles=[ARCHIVE], reactor=reactor)
    await Deferred()


def perform(operation: Operation, sent: Dataset | None) -> Dataset | None:
    """Print what is asked, and answer as the table says."""
    asked: Any = operation.request
    of = "affected" if asked.NAME in ("N-CREATE-RQ", "N-EVENT-REPORT-RQ") else "requested"
    said = request(
        getattr(asked, f"{of}_sop_class_uid"),
        getattr(asked, f"{of}_sop_instance_uid"),
        getattr(asked, "action_type_id", getattr(asked, "event_type_id", None)),
        getattr(asked, "attribute_identifier_list", None),
        values(sent),
    )
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    return dataset(EXCHANGES[asked.NAME.removesuffix("-RQ")].answered)


if __name__ == "__main__":
    react(lambda reactor, *argv: Deferred.fromCoroutine(main(reactor, *argv)), sys.argv[1:])
