"""Our SCPs of commitment, procedure steps and availability with pynetdicom as the SCU."""

import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from textwrap import dedent
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt

from dimse import AvailabilityNotification, AvailableInstance, Reference
from dimse.sop_classes import (
    INSTANCE_AVAILABILITY_NOTIFICATION,
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE,
    SOP_CLASSES,
    STORAGE_COMMITMENT_PUSH,
)
from tests.peers import Server, free_port, run, running
from tests.services.steps import begun, ended

ROOT = Path(__file__).parents[2]
CT = "1.2.840.10008.5.1.4.1.1.2"
SECONDS = 30.0
CLASSES = (
    STORAGE_COMMITMENT_PUSH,
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE,
    INSTANCE_AVAILABILITY_NOTIFICATION,
)

pytestmark = pytest.mark.peer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    port = free_port()
    script = ROOT / "examples" / "department_scp.py"
    env = {"PYTHONPATH": str(ROOT)}
    with running([sys.executable, script, "127.0.0.1", str(port), tmp_path], port, env) as server:
        yield server


@pytest.fixture
def results() -> Queue[tuple[int, Dataset]]:
    return Queue()


@pytest.fixture
def scu(server: Server, results: Queue[tuple[int, Dataset]]) -> Iterator[Any]:
    def reported(event: Any) -> tuple[int, None]:
        results.put((event.event_type, event.event_information))
        return 0x0000, None

    entity = AE(ae_title="MODALITY")
    for sop_class in CLASSES:
        entity.add_requested_context(sop_class)
    handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, reported)]
    association: Any = entity.associate("127.0.0.1", server.port, evt_handlers=handlers)
    assert len(association.accepted_contexts) == len(CLASSES)
    yield association
    association.release()
    assert association.is_released


def test_commitment(scu: Any, results: Queue[tuple[int, Dataset]], tmp_path: Path) -> None:
    """The N-ACTION is answered, and then the result comes on the same association."""
    (tmp_path / "1.2.3.dcm").touch()
    information = Dataset()
    information.TransactionUID = generate_uid()
    information.ReferencedSOPSequence = []
    for uid in ("1.2.3", "1.2.4"):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, uid
        information.ReferencedSOPSequence.append(item)
    instance = SOP_CLASSES[STORAGE_COMMITMENT_PUSH].instance
    status, _ = scu.send_n_action(information, 1, STORAGE_COMMITMENT_PUSH, instance)
    assert status.Status == 0x0000
    event_type, result = results.get(timeout=SECONDS)
    assert event_type == 2
    assert result.TransactionUID == information.TransactionUID
    assert [each.ReferencedSOPInstanceUID for each in result.ReferencedSOPSequence] == ["1.2.3"]
    ((uid, reason),) = (
        (each.ReferencedSOPInstanceUID, each.FailureReason) for each in result.FailedSOPSequence
    )
    assert (uid, reason) == ("1.2.4", 0x0112)


def test_procedure_step(scu: Any) -> None:
    """From its begin to its end, and a change behind it."""
    mpps = MODALITY_PERFORMED_PROCEDURE_STEP
    bad = begun()
    del bad.Modality
    assert scu.send_n_create(bad, mpps, "1.2.3")[0].Status == 0x0120
    assert scu.send_n_create(begun(), mpps, "1.2.3")[0].Status == 0x0000
    assert scu.send_n_create(begun(), mpps, "1.2.3")[0].Status == 0x0111
    assert scu.send_n_set(ended(), mpps, "1.2.3")[0].Status == 0x0000
    status, _ = scu.send_n_set(ended(), mpps, "1.2.3")
    assert (status.Status, status.ErrorID) == (0x0110, 0xA710)
    retrieve = MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE
    status, step = scu.send_n_get([0x00400252], retrieve, "1.2.3")
    assert (status.Status, step.PerformedProcedureStepStatus) == (0x0000, "COMPLETED")


def test_availability(scu: Any, server: Server) -> None:
    instance = AvailableInstance("1.2.1", Reference(CT, "1.2.3"), "ARCHIVE")
    attributes = AvailabilityNotification("1.2", (instance,)).dataset()
    sop_class = INSTANCE_AVAILABILITY_NOTIFICATION
    assert scu.send_n_create(attributes, sop_class, "1.2.9")[0].Status == 0x0000
    assert "1.2.3 ONLINE ARCHIVE" in server.log()


def test_the_blocking_verbs(server: Server, tmp_path: Path) -> None:
    """Each of them, in a script."""
    (tmp_path / "1.2.3.dcm").touch()
    script = f"""
        import dimse
        from dimse import blocking
        from tests.services.steps import begun, ended

        image = dimse.Reference("{CT}", "1.2.3")
        with blocking.associate("127.0.0.1:{server.port}", {CLASSES}) as association:
            print(association.commit([image]).ok)
            print(association.request_commitment([image], transaction_uid="1.2.8"))
            ends = (association.complete_step, association.discontinue_step)
            for uid, end in zip(("1.2.4", "1.2.5"), ends):
                print(association.begin_step(begun(), uid), int(end(uid, ended()).status))
            instance = dimse.AvailableInstance("1.2.1", image, "ARCHIVE")
            print(int(association.notify_availability("1.2", [instance]).status))
            try:
                association.report(dimse.CommitmentResult("1.2.9", (image,)))
            except dimse.StatusError as error:
                print(error)
    """
    done = run([sys.executable, "-c", dedent(script)], env={"PYTHONPATH": str(ROOT)})
    assert done.stdout.split("\n")[:5] == ["True", "1.2.8", "1.2.4 0", "1.2.5 0", "0"]
    assert "status 0x0118" in done.stdout  # who asks to be the SCP of nobody
    assert "1.2.4 COMPLETED" in server.log()
    assert "1.2.5 DISCONTINUED" in server.log()
