"""A process that sends all files of a folder, or those with the UIDs asked for, to whom asks.

python -m tests.interop.retrieve_node PORT FOLDER
"""

import sys
from pathlib import Path
from typing import Any

from pydicom import Dataset
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from dimse import STUDY_ROOT, Instance, Operation, RetrieveSCP, listen
from dimse.services.composite import instance_uids
from dimse.sop_classes import COMPOSITE_INSTANCE_ROOT, WITHOUT_BULK_DATA


async def main(reactor: Any, port: str, folder: str) -> None:
    """Listen for good. The AE title of a destination is its port."""
    instances = [Instance.from_file(path) for path in sorted(Path(folder).iterdir())]

    def retrieve(identifier: Dataset, operation: Operation) -> list[Instance]:
        if operation.context.abstract_syntax in STUDY_ROOT.sop_classes:
            return instances
        uids = instance_uids(identifier)
        return [each for each in instances if each.sop_instance_uid in uids]

    scp = RetrieveSCP(
        retrieve,
        [STUDY_ROOT, COMPOSITE_INSTANCE_ROOT, WITHOUT_BULK_DATA],
        destinations=lambda title: f"127.0.0.1:{title}",
    )
    await listen(f"tcp:{port}:interface=127.0.0.1", [scp], reactor=reactor)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor, *argv: Deferred.fromCoroutine(main(reactor, *argv)), sys.argv[1:])
