"""A small archive: C-FIND, C-GET and C-MOVE over a folder of files, and MPPS by DIMSE-N.

python examples/archive_scp.py HOST PORT FOLDER [AE_TITLE=HOST:PORT ...]
"""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from twisted.internet.defer import Deferred
from twisted.internet.task import react

import dimse
from dimse.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP


class Folder:
    """The DICOM files of a folder, by their headers: what an index is to a real archive."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("*.dcm"))
        self._files = {path: dcmread(path, stop_before_pixels=True) for path in paths}

    async def find(self, identifier: Dataset, operation: dimse.Operation) -> AsyncIterator[Dataset]:
        """Yield the matches; the peer gets each as it comes, at its own pace."""
        seen = set()
        for _, header in self._matching(identifier):
            if header.StudyInstanceUID not in seen:
                seen.add(header.StudyInstanceUID)
                yield answer(identifier, header)

    def retrieve(self, identifier: Dataset, operation: dimse.Operation) -> list[Path]:
        """What to send; paths are streamed from their files."""
        return [path for path, _ in self._matching(identifier)]

    def _matching(self, identifier: Dataset) -> list[tuple[Path, Dataset]]:
        uid = identifier.get("StudyInstanceUID")
        return [item for item in self._files.items() if uid in ("", None, item[1].StudyInstanceUID)]


def answer(identifier: Dataset, header: Dataset) -> Dataset:
    """The attributes that were asked for, as far as there are any."""
    match = Dataset()
    for element in identifier:
        match[element.tag] = header.get(element.tag, element)
    match.QueryRetrieveLevel = "STUDY"
    return match


STEPS: dict[str, Dataset] = {}


def create_step(operation: dimse.Operation, attributes: Dataset | None) -> None:
    """N-CREATE of a performed procedure step."""
    uid = operation.request.sop_instance_uid
    if uid is None or uid in STEPS:
        raise dimse.StatusError(0x0111)
    STEPS[uid] = attributes or Dataset()


def set_step(operation: dimse.Operation, modifications: Dataset) -> None:
    """N-SET of one."""
    uid = operation.request.sop_instance_uid or ""
    if uid not in STEPS:
        raise dimse.StatusError(0x0112)
    STEPS[uid].update(modifications)
    print(uid, STEPS[uid].PerformedProcedureStepStatus, flush=True)


async def main(reactor: Any, host: str, port: str, folder: str, *destinations: str) -> None:
    """Serve until somebody stops it."""
    files = Folder(Path(folder))
    known = dict(each.split("=", 1) for each in destinations)
    await dimse.listen(
        f"tcp:{port}:interface={host}",
        [
            dimse.VerificationSCP(),
            dimse.QuerySCP(files.find, [dimse.PATIENT_ROOT, dimse.STUDY_ROOT]),
            dimse.RetrieveSCP(
                files.retrieve, [dimse.PATIENT_ROOT, dimse.STUDY_ROOT], destinations=known
            ),
            dimse.NormalizedSCP(
                [MODALITY_PERFORMED_PROCEDURE_STEP], n_create=create_step, n_set=set_step
            ),
        ],
        reactor=reactor,
    )
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
