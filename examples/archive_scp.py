"""A small archive: C-FIND, C-GET and C-MOVE over a folder of files, and MPPS by DIMSE-N.

python examples/archive_scp.py HOST PORT FOLDER [AE_TITLE=HOST:PORT ...]
"""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydicom import DataElement, Dataset, dcmread
from pydicom.multival import MultiValue
from twisted.internet.defer import Deferred
from twisted.internet.task import react

import dimse
from dimse.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP

MODELS = [dimse.PATIENT_ROOT, dimse.STUDY_ROOT]


class Folder:
    """The DICOM files of a folder, by their headers: what an index is to a real archive.

    It matches unique keys only, each with one value or a list.
    """

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("*.dcm"))
        self._files = {path: dcmread(path, stop_before_pixels=True) for path in paths}

    async def find(self, identifier: Dataset, operation: dimse.Operation) -> AsyncIterator[Dataset]:
        """Yield the matches; the peer gets each as it comes, at its own pace."""
        keys, seen = unique_keys(identifier, operation), set()
        for _, header in self._matching(identifier, keys):
            if header.get(keys[-1]) not in seen:
                seen.add(header.get(keys[-1]))
                yield answer(identifier, header)

    def retrieve(self, identifier: Dataset, operation: dimse.Operation) -> list[Path]:
        """What to send; paths are streamed from their files."""
        keys = unique_keys(identifier, operation)
        if not identifier.get(keys[-1]):
            raise dimse.StatusError(0xA900, f"no {keys[-1]} to retrieve by")
        return [path for path, _ in self._matching(identifier, keys)]

    def _matching(self, identifier: Dataset, keys: list[str]) -> list[tuple[Path, Dataset]]:
        wanted = {key: identifier[key].value for key in keys if identifier.get(key)}
        return [
            (path, header)
            for path, header in self._files.items()
            if all(
                header.get(key) in (value if isinstance(value, MultiValue) else [value])
                for key, value in wanted.items()
            )
        ]


def unique_keys(identifier: Dataset, operation: dimse.Operation) -> list[str]:
    """Those of the Query/Retrieve Level and the levels above it, in this order (PS3.4 C.4.1.2)."""
    uid = operation.request.sop_class_uid
    (levels,) = (model.levels for model in MODELS if uid in model.sop_classes)
    level = identifier.get("QueryRetrieveLevel")
    if level not in levels:
        raise dimse.StatusError(0xA900, "no level of this information model")
    return list(levels.values())[: list(levels).index(level) + 1]


def answer(identifier: Dataset, header: Dataset) -> Dataset:
    """The attributes that were asked for, as far as there are any, in their character set."""
    match = Dataset()
    for element in identifier:
        match[element.tag] = header.get(element.tag, DataElement(element.tag, element.VR, None))
    match.QueryRetrieveLevel = identifier.QueryRetrieveLevel
    if "SpecificCharacterSet" in header:
        match.SpecificCharacterSet = header.SpecificCharacterSet
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
            dimse.QuerySCP(files.find, MODELS),
            dimse.RetrieveSCP(files.retrieve, MODELS, destinations=known),
            dimse.NormalizedSCP(
                [MODALITY_PERFORMED_PROCEDURE_STEP], n_create=create_step, n_set=set_step
            ),
        ],
        reactor=reactor,
    )
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
