"""pynetdicom in either role of Composite Instance Root Retrieve and Retrieve Without Bulk Data.

python -m tests.interop.composite_pynetdicom get PORT FOLDER UID...
python -m tests.interop.composite_pynetdicom bare PORT FOLDER UID...
python -m tests.interop.composite_pynetdicom move PORT DESTINATION UID...
python -m tests.interop.composite_pynetdicom serve PORT FOLDER

As an SCU it puts what comes into FOLDER; the SCP has the files in it. The AE title of a destination
is its port.
"""

import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, build_role, evt

from dimse.sop_classes import COMPOSITE_INSTANCE_ROOT, WITHOUT_BULK_DATA

PENDING = 0xFF00


def keys(uids: list[str]) -> Dataset:
    """What asks for instances."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "IMAGE"
    identifier.SOPInstanceUID = uids
    return identifier


def ask(verb: str, port: str, place: str, *uids: str) -> None:
    """Invoke the retrieval; the last status has to be 0."""

    def store(event: Any) -> int:
        path = Path(place, event.request.AffectedSOPInstanceUID)
        event.dataset.file_meta = event.file_meta
        event.dataset.save_as(path, enforce_file_format=True)
        return 0

    ae = AE()
    ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    for uid in (COMPOSITE_INSTANCE_ROOT.get, WITHOUT_BULK_DATA.get, COMPOSITE_INSTANCE_ROOT.move):
        ae.add_requested_context(uid)
    association = ae.associate(
        "127.0.0.1",
        int(port),
        ext_neg=[build_role(MRImageStorage, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, store)],
    )
    if verb == "move":
        model = COMPOSITE_INSTANCE_ROOT.move
        responses = association.send_c_move(keys(list(uids)), place, model)
    else:
        model = (WITHOUT_BULK_DATA if verb == "bare" else COMPOSITE_INSTANCE_ROOT).get
        responses = association.send_c_get(keys(list(uids)), model)
    statuses = [status.Status for status, _ in responses]
    association.release()
    assert statuses[-1] == 0, statuses


def serve(port: str, folder: str) -> None:
    """Answer for good."""
    stored = [dcmread(path) for path in sorted(Path(folder).iterdir())]

    def get(event: Any) -> Iterator[Any]:
        found = [each for each in stored if each.SOPInstanceUID in event.identifier.SOPInstanceUID]
        yield len(found)
        for each in map(deepcopy, found):
            if event.context.abstract_syntax == WITHOUT_BULK_DATA.get:
                del each.PixelData
            yield PENDING, each

    def move(event: Any) -> Iterator[Any]:
        yield "127.0.0.1", int(event.move_destination)
        yield from get(event)

    ae = AE()
    ae.add_supported_context(MRImageStorage, scu_role=True, scp_role=True)
    ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    for uid in (COMPOSITE_INSTANCE_ROOT.get, WITHOUT_BULK_DATA.get, COMPOSITE_INSTANCE_ROOT.move):
        ae.add_supported_context(uid)
    handlers = [(evt.EVT_C_GET, get), (evt.EVT_C_MOVE, move)]
    ae.start_server(("127.0.0.1", int(port)), evt_handlers=handlers)  # type: ignore[arg-type]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        ask(*sys.argv[1:])
