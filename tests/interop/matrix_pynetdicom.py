"""pynetdicom as a peer, in what its applications do not do: an archive, and DIMSE-N.

python -m tests.interop.matrix_pynetdicom serve PORT FOLDER
python -m tests.interop.matrix_pynetdicom SERVICE PORT
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import SecondaryCaptureImageStorage
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # it makes these names as it loads
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from tests.interop.exchanges import (
    ARCHIVE,
    EXCHANGES,
    GRAYSCALE_PRINT,
    LONG_STUDY,
    dataset,
    request,
    values,
)

PENDING, CANCEL = 0xFF00, 0xFE00
CANCEL_SECONDS = 30.0


def serve(port: str, folder: str) -> None:
    """Answer for good. The AE title of a destination is its port."""
    ae = AE(ae_title=ARCHIVE)
    ae.require_called_aet = True
    ae.add_supported_context(Verification)
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
    for sop_class in (SecondaryCaptureImageStorage, GRAYSCALE_PRINT):
        ae.add_supported_context(sop_class, scu_role=True, scp_role=True)
    ae.add_requested_context(SecondaryCaptureImageStorage)

    def stored(event: Any) -> list[Dataset]:
        paths = Path(folder, event.identifier.StudyInstanceUID).iterdir()
        return [dcmread(path) for path in sorted(paths)]

    def find(event: Any) -> Iterator[Any]:
        yield from pending(event, [identifier(event, each) for each in stored(event)])

    def get(event: Any) -> Iterator[Any]:
        yield len(stored(event))
        yield from pending(event, stored(event))

    def move(event: Any) -> Iterator[Any]:
        yield "127.0.0.1", int(event.move_destination)
        yield from get(event)

    handlers: list[Any] = [(evt.EVT_C_FIND, find), (evt.EVT_C_GET, get), (evt.EVT_C_MOVE, move)]
    handlers += [(getattr(evt, f"EVT_{name.replace('-', '_')}"), perform) for name in EXCHANGES]
    ae.start_server(("127.0.0.1", int(port)), evt_handlers=handlers)


def identifier(event: Any, stored: Dataset) -> Dataset:
    """A match: of an instance what is asked for."""
    match = Dataset()
    for key in event.identifier:
        match[key.tag] = stored.get(key.tag, key)
    return match


def pending(event: Any, answers: list[Dataset]) -> Iterator[Any]:
    """All answers; behind the first one of the long study, the C-CANCEL is waited for."""
    for number, answer in enumerate(answers):
        if number == 1 and event.identifier.StudyInstanceUID == LONG_STUDY:
            deadline = time.monotonic() + CANCEL_SECONDS
            while time.monotonic() < deadline:
                if event.is_cancelled:
                    yield CANCEL, None
                    return
                time.sleep(0.01)
        yield PENDING, answer


def perform(event: Any) -> Any:
    """Print what is asked, and answer as the table says."""
    name = event.event.name.removeprefix("EVT_").replace("_", "-")
    sent = {
        "N-CREATE": "attribute_list",
        "N-SET": "modification_list",
        "N-ACTION": "action_information",
        "N-EVENT-REPORT": "event_information",
    }
    asked = event.request
    of = "Affected" if name in ("N-CREATE", "N-EVENT-REPORT") else "Requested"
    said = request(
        getattr(asked, f"{of}SOPClassUID"),
        getattr(asked, f"{of}SOPInstanceUID"),
        getattr(asked, "ActionTypeID", getattr(asked, "EventTypeID", None)),
        event.attribute_identifiers if name == "N-GET" else None,
        values(getattr(event, sent[name])) if name in sent else None,
    )
    sys.stdout.write(json.dumps(said) + "\n")
    if name == "N-DELETE":
        return 0x0000
    return 0x0000, dataset(EXCHANGES[name].answered)


def invoke(service: str, port: str) -> None:
    """Invoke a service of DIMSE-N and print what came of it."""
    exchange = EXCHANGES[service]
    instance = (exchange.sop_class, exchange.sop_instance)
    sent: Any = dataset(exchange.sent)
    ae = AE()
    ae.add_requested_context(GRAYSCALE_PRINT)
    reports = service == "N-EVENT-REPORT"
    role = build_role(GRAYSCALE_PRINT, scu_role=False, scp_role=True)
    roles: list[Any] = [role] if reports else []
    to: Any = ae.associate("127.0.0.1", int(port), ae_title=ARCHIVE, ext_neg=roles)
    assert to.is_established
    meta = {"meta_uid": GRAYSCALE_PRINT}
    status: Dataset
    answered: Dataset | None = None
    match service:
        case "N-CREATE":
            status, answered = to.send_n_create(sent, *instance, **meta)
        case "N-SET":
            status, answered = to.send_n_set(sent, *instance, **meta)
        case "N-ACTION":
            status, answered = to.send_n_action(sent, exchange.type_id, *instance, **meta)
        case "N-DELETE":
            status = to.send_n_delete(*instance, **meta)
        case "N-GET":
            status, answered = to.send_n_get(exchange.tags, *instance, **meta)
        case _:
            status, answered = to.send_n_event_report(sent, exchange.type_id, *instance, **meta)
    to.release()
    said = {"status": status.Status, "answered": values(answered)}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    serve(*sys.argv[2:]) if sys.argv[1] == "serve" else invoke(*sys.argv[1:])
