"""What the tests of the archive share: instances by their attributes, and an archive over them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from twisted.internet.defer import Deferred, execute

import dimse
from dimse.archive.archive import Archive
from dimse.archive.objects import key_of
from dimse.services.dataset import encode
from dimse.services.storage import ReceivedInstance
from dimse.testing import Network
from tests.wire import EXPLICIT

LIMITS = dimse.Limits(disk_reserve=0)


def data_set(uid: str, **attributes: Any) -> Dataset:
    """A small CT instance; `attributes` by keyword, None for one that it has not."""
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": uid,
        "StudyInstanceUID": uid.rpartition(".")[0].rpartition(".")[0],
        "SeriesInstanceUID": uid.rpartition(".")[0],
        "Modality": "CT",
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "InstanceNumber": uid.rpartition(".")[2],
        **attributes,
    }
    dataset = Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def put(archive: Archive, dataset: Dataset, syntax: str = EXPLICIT) -> Any:
    """Give an instance to the archive as C-STORE does; the status, or the exception."""
    received = ReceivedInstance(
        dataset.SOPClassUID, dataset.SOPInstanceUID, syntax, "MODALITY", "ARCHIVE"
    )
    return put_encoded(archive, received, encode(dataset, syntax))


def put_encoded(archive: Archive, received: ReceivedInstance, data: bytes) -> Any:
    """As `put`, with the data set as bytes."""
    operation: Any = None
    outcomes: list[Any] = []
    try:
        sink = archive.begin(received, operation)
        try:
            sink.write(memoryview(data))
        except dimse.StatusError as error:
            sink.abort(error)
            raise
        sink.finish().addCallbacks(outcomes.append, lambda f: outcomes.append(f.value))
    except dimse.StatusError as error:
        return error
    (outcome,) = outcomes
    return outcome


def synchronously(step: Callable[[], Any]) -> "Deferred[Any]":
    """As a thread would run it, at once."""
    return execute(step)


@contextmanager
def open_archive(folder: Path, **options: Any) -> Iterator[Archive]:
    """An archive whose threads are none."""
    defaults: dict[str, Any] = {"limits": LIMITS, "in_thread": synchronously}
    archive = Archive(folder, **defaults | {"durability": "relaxed"} | options).open()
    try:
        yield archive
    finally:
        archive.close()


class Client:
    """Someone associated with an archive, in memory."""

    def __init__(self, network: Network, archive: Archive, **options: Any) -> None:
        self.network = network
        self.endpoint = network.listen(archive.scps(**options))

    def associate(self, contexts: list[Any], **options: Any) -> Any:
        association, _ = self.network.associate(self.endpoint, contexts, **options)
        return association

    def find(
        self,
        level: str,
        model: dimse.InformationModel = dimse.STUDY_ROOT,
        *,
        extended: dict[str, Any] | None = None,
        **keys: Any,
    ) -> list[Dataset]:
        """The matches of a query."""
        identifier = Dataset()
        identifier.QueryRetrieveLevel = level
        for keyword, value in keys.items():
            setattr(identifier, keyword, value)
        association = self.associate([model.find], extended=extended or {})
        found: list[Dataset] = self.network.result(
            dimse.find(association, identifier, model).result()
        )
        return found

    def get(
        self, level: str, model: dimse.InformationModel = dimse.STUDY_ROOT, **keys: Any
    ) -> tuple[dimse.SubOperations, list[Dataset]]:
        """What a C-GET brings, and what it says of it."""
        identifier = Dataset()
        identifier.QueryRetrieveLevel = level
        for keyword, value in keys.items():
            setattr(identifier, keyword, value)
        association = self.associate(dimse.get_contexts(model, [CTImageStorage]))
        with dimse.MemoryStore() as store:
            done = self.network.result(dimse.get(association, identifier, store, model).result())
            return done, [held.dataset() for held in store.instances]


def uids(archive: Archive) -> list[str]:
    """The instances in the index, after all of them were found as objects too."""
    keys = archive.index.keys("0", "g")
    assert keys == archive.objects.keys("0", "g")
    rows = archive.index.fetch(sa.text("select instance_uid from instances"))  # type: ignore[arg-type]
    assert sorted(map(key_of, (uid for (uid,) in rows))) == keys
    return sorted(uid for (uid,) in rows)


def texts(log: list[dict[str, Any]]) -> list[str]:
    return [
        event["log_format"].format(**event) for event in log if event.get("log_format") is not None
    ]
