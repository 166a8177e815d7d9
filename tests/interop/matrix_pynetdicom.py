"""pynetdicom as a peer, in what its applications do not do: all services in one archive, DIMSE-N,
and to cancel.

python -m tests.interop.matrix_pynetdicom serve PORT FOLDER
python -m tests.interop.matrix_pynetdicom SERVICE PORT [FOLDER | DESTINATION]
"""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import SecondaryCaptureImageStorage
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # it makes these names as it loads
    ModalityWorklistInformationFind,
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
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
    answer,
    dataset,
    found,
    identifier,
    request,
    values,
)

SERVED = (
    Verification,
    ModalityWorklistInformationFind,
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)
PENDING, CANCEL = 0xFF00, 0xFE00
CANCEL_SECONDS = 30.0
MESSAGE_ID = 7


def serve(port: str, folder: str) -> None:
    """Answer for good. The AE title of a destination is its port."""
    ae = AE(ae_title=ARCHIVE)
    ae.require_called_aet = True
    for sop_class in SERVED:
        ae.add_supported_context(sop_class)
    for sop_class in (SecondaryCaptureImageStorage, GRAYSCALE_PRINT):
        ae.add_supported_context(sop_class, scu_role=True, scp_role=True)
    ae.add_requested_context(SecondaryCaptureImageStorage)

    def find(event: Any) -> Iterator[Any]:
        asked = event.identifier
        yield from pending(event, [answer(path, asked) for path in found(Path(folder), asked)])

    def get(event: Any) -> Iterator[Any]:
        paths = found(Path(folder), event.identifier)
        yield len(paths)
        yield from pending(event, map(dcmread, paths))

    def move(event: Any) -> Iterator[Any]:
        yield "127.0.0.1", int(event.move_destination)
        yield from get(event)

    handlers: list[Any] = [(evt.EVT_C_FIND, find), (evt.EVT_C_GET, get), (evt.EVT_C_MOVE, move)]
    handlers += [(getattr(evt, f"EVT_{name.replace('-', '_')}"), perform) for name in EXCHANGES]
    ae.start_server(("127.0.0.1", int(port)), evt_handlers=handlers)


def pending(event: Any, answers: Iterable[Dataset]) -> Iterator[Any]:
    """All answers; behind the first one of the long study, the C-CANCEL is waited for."""
    for number, each in enumerate(answers):
        if number == 1 and event.identifier.get("StudyInstanceUID") == LONG_STUDY:
            deadline = time.monotonic() + CANCEL_SECONDS
            while time.monotonic() < deadline:
                if event.is_cancelled:
                    yield CANCEL, None
                    return
                time.sleep(0.01)
        yield PENDING, each


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


def cancel(service: str, port: str, place: str) -> None:
    """Cancel after the first answer; print the final one, and whether the association is there."""
    ae = AE()
    for sop_class in (*SERVED, SecondaryCaptureImageStorage):
        ae.add_requested_context(sop_class)
    role: Any = build_role(SecondaryCaptureImageStorage, scp_role=True)

    def store(event: Any) -> int:
        Path(place, event.request.AffectedSOPInstanceUID).write_bytes(event.encoded_dataset())
        return 0x0000

    handlers: list[Any] = [(evt.EVT_C_STORE, store)]
    address = "127.0.0.1", int(port)
    to: Any = ae.associate(*address, ae_title=ARCHIVE, ext_neg=[role], evt_handlers=handlers)
    assert to.is_established
    asked = dataset(identifier(service))
    match service:
        case "C-FIND cancelled":
            model = StudyRootQueryRetrieveInformationModelFind
            answers = to.send_c_find(asked, model, MESSAGE_ID)
        case "C-GET cancelled":
            model = StudyRootQueryRetrieveInformationModelGet
            answers = to.send_c_get(asked, model, MESSAGE_ID)
        case _:
            model = StudyRootQueryRetrieveInformationModelMove
            answers = to.send_c_move(asked, place, model, MESSAGE_ID)
    next(answers)
    to.send_c_cancel(MESSAGE_ID, query_model=model)
    *_, (final, _) = answers
    said = {"status": final.Status, "echo": to.send_c_echo().Status}
    if "NumberOfCompletedSuboperations" in final:
        said["completed"] = final.NumberOfCompletedSuboperations
    to.release()
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    service, *arguments = sys.argv[1:]
    if service == "serve":
        serve(*arguments)
    elif service in EXCHANGES:
        invoke(service, *arguments)
    else:
        cancel(service, *arguments)
