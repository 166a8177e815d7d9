"""The worklist of a node, for who looks after it; the node may run."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.python.usage import UsageError

try:
    from dimse.archive.attributes import Attributes
    from dimse.archive.index import Index, sqlite_url
    from dimse.archive.worklist import StoredWorklist, shown
    from dimse.archive.worklist_files import read_items
except ImportError as error:  # what the library alone does not need is not there
    raise UsageError(f"the worklist needs pip install 'dimse[server]' ({error})") from error

COLUMNS = (
    "StudyInstanceUID",
    "ScheduledProcedureStepID",
    "ScheduledProcedureStepStartDate",
    "ScheduledProcedureStepStartTime",
    "Modality",
    "ScheduledStationAETitle",
    "AccessionNumber",
    "PatientID",
    "PatientName",
)
"""What `listed` tells of an item."""


@contextmanager
def _opened(folder: Path, index: str | None) -> Iterator[StoredWorklist]:
    opened = Index(index or sqlite_url(folder)).open()
    try:
        yield StoredWorklist(opened)
    finally:
        opened.close()


def add(folder: Path, index: str | None, files: Iterable[Path]) -> int:
    """Add the items of files, or renew them; all or none. Returns how many.

    Raises `MisuseError` for a file that holds none, and when the index cannot be used.
    """
    items: list[Attributes] = [item for file in files for item in read_items(file)]
    with _opened(folder, index) as worklist:
        return worklist.add(items)


def listed(folder: Path, index: str | None) -> Iterator[list[str]]:
    """The items, with the `COLUMNS` of each; raises `MisuseError` as `add`."""
    with _opened(folder, index) as worklist:
        for page in worklist.pages():
            yield from (shown(item, COLUMNS) for item in page)


def remove(folder: Path, index: str | None, study_uid: str, step_id: str) -> bool:
    """Remove an item; whether it was there. Raises `MisuseError` as `add`."""
    with _opened(folder, index) as worklist:
        return worklist.remove(study_uid, step_id)
