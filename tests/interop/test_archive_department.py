"""Worklist, procedure steps, commitment and availability of `twistd dimse`, with real tools."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt

from dimse import MODALITY_WORKLIST
from dimse.sop_classes import (
    INSTANCE_AVAILABILITY_NOTIFICATION,
    MODALITY_PERFORMED_PROCEDURE_STEP,
    SOP_CLASSES,
    STORAGE_COMMITMENT_PUSH,
)
from tests.archive.archives import data_set
from tests.archive.test_worklist import save, scheduled
from tests.interop.archives import NODELAY, ROOT
from tests.peers import Argument, Server, free_port, run, tool, twistd_dimse
from tests.services.steps import begun, ended

SECONDS = 30.0
WELL_KNOWN = SOP_CLASSES[STORAGE_COMMITMENT_PUSH].instance

pytestmark = pytest.mark.peer


@contextmanager
def node(folder: Path, *options: Any, peer: int | None = None) -> Iterator[Server]:
    """A node that knows MODALITY at a port, and notifies it of studies."""
    file = folder / "dimse.toml"
    file.write_text(
        ""
        if peer is None
        else '[[peers]]\nae_title = "MODALITY"\nhost = "127.0.0.1"\n'
        f"port = {peer}\navailability = true\n"
    )
    with twistd_dimse(folder / "store", "--allow-any", "--config", file, *options) as server:
        yield server


class Modality:
    """pynetdicom, which listens for what the node tells it: in `told`, an event and a data set."""

    def __init__(self) -> None:
        self.port = free_port()
        self.told: Queue[tuple[str, Dataset]] = Queue()
        self._entity = AE(ae_title="MODALITY")
        push = STORAGE_COMMITMENT_PUSH
        self._entity.add_supported_context(push, scu_role=True, scp_role=True)
        self._entity.add_supported_context(INSTANCE_AVAILABILITY_NOTIFICATION)
        self._server: Any = None

    def listen(self) -> None:
        handlers: Any = [
            (evt.EVT_N_EVENT_REPORT, self._reported),
            (evt.EVT_N_CREATE, self._notified),
        ]
        address = ("127.0.0.1", self.port)
        self._server = self._entity.start_server(address, block=False, evt_handlers=handlers)

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()

    def _reported(self, event: Any) -> tuple[int, None]:
        self.told.put((f"event {event.event_type}", event.event_information))
        return 0x0000, None

    def _notified(self, event: Any) -> tuple[int, Dataset]:
        self.told.put(("notified", event.attribute_list))
        return 0x0000, event.attribute_list

    def hear(self) -> tuple[str, Dataset]:
        return self.told.get(timeout=SECONDS)


@pytest.fixture
def modality() -> Iterator[Modality]:
    modality = Modality()
    yield modality
    modality.close()


@contextmanager
def associated(server: Server, *contexts: str, handlers: Any = ()) -> Iterator[Any]:
    entity = AE(ae_title="MODALITY")
    for each in contexts:
        entity.add_requested_context(each)
    association: Any = entity.associate(
        "127.0.0.1", server.port, ae_title="ARCHIVE", evt_handlers=list(handlers)
    )
    assert len(association.accepted_contexts) == len(contexts)
    yield association
    association.release()


def store(server: Server, *uids: str) -> None:
    with associated(server, CTImageStorage) as association:
        for uid in uids:
            dataset = data_set(uid)
            dataset.file_meta = Dataset()  # type: ignore[assignment]
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            assert association.send_c_store(dataset).Status == 0x0000


def ask(association: Any, *uids: str) -> str:
    """Ask for commitment; the Transaction UID."""
    information = Dataset()
    information.TransactionUID = generate_uid()
    information.ReferencedSOPSequence = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, uid
        information.ReferencedSOPSequence.append(item)
    status, _ = association.send_n_action(information, 1, STORAGE_COMMITMENT_PUSH, WELL_KNOWN)
    assert status.Status == 0x0000
    return str(information.TransactionUID)


def outcome(result: Dataset) -> tuple[list[str], dict[str, int]]:
    failed = result.get("FailedSOPSequence", [])
    return (
        [each.ReferencedSOPInstanceUID for each in result.get("ReferencedSOPSequence", [])],
        {each.ReferencedSOPInstanceUID: each.FailureReason for each in failed},
    )


def findscu(server: Server, folder: Path, *keys: str) -> list[str]:
    """The Study Instance UIDs that findscu finds in the worklist."""
    for file in folder.glob("rsp*.dcm"):
        file.unlink()
    args: list[Argument] = [tool("findscu"), "-W", "-aec", "ARCHIVE", "-X", "-od", folder]
    args += [argument for key in ("StudyInstanceUID", *keys) for argument in ("-k", key)]
    done = run([*args, "127.0.0.1", str(server.port)], env=NODELAY)
    assert done.returncode == 0, done.stdout
    return sorted(str(dcmread(file).StudyInstanceUID) for file in folder.glob("rsp*.dcm"))


def test_worklist_and_steps(tmp_path: Path) -> None:
    """findscu finds what is in files and in the index, until pynetdicom says that it is done."""
    items, answers = tmp_path / "items", tmp_path / "answers"
    items.mkdir()
    answers.mkdir()
    save(scheduled(1), items / "1.wl")
    (tmp_path / "2.json").write_text(scheduled(2, _Modality="MR").to_json())
    of_ct = "ScheduledProcedureStepSequence[0].Modality=CT"
    on_day_two = "ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate=20260102-"
    with node(tmp_path, "--worklist", items) as server:
        command: list[Argument] = [
            sys.executable,
            "-m",
            "dimse",
            "schedule",
            "add",
            tmp_path / "2.json",
        ]
        added = run([*command, "--storage", tmp_path / "store"], cwd=ROOT)
        assert added.stdout == "1 items added\n"
        assert findscu(server, answers) == ["1.2.1", "1.2.2"]
        assert findscu(server, answers, of_ct) == ["1.2.1"]
        assert findscu(server, answers, on_day_two) == ["1.2.2"]
        assert findscu(server, answers, "PatientName=doe*", "PatientID=P2") == ["1.2.2"]
        step = begun()
        (of_step,) = step.ScheduledStepAttributesSequence
        of_step.StudyInstanceUID, of_step.ScheduledProcedureStepID = "1.2.1", "S1"
        mpps = MODALITY_PERFORMED_PROCEDURE_STEP
        with associated(server, mpps) as association:
            assert association.send_n_create(step, mpps, "1.2.40")[0].Status == 0x0000
            assert findscu(server, answers) == ["1.2.1", "1.2.2"]
            assert association.send_n_set(ended(), mpps, "1.2.40")[0].Status == 0x0000
            assert association.send_n_set(ended(), mpps, "1.2.40")[0].Status == 0x0110
        assert findscu(server, answers) == ["1.2.2"]
    with node(tmp_path, "--worklist", items) as server:
        assert findscu(server, answers) == ["1.2.2"]


def test_what_the_worklist_of_pynetdicom_finds(tmp_path: Path) -> None:
    """Universal, single value and wild card, with the attributes of the step."""
    items = tmp_path / "items"
    items.mkdir()
    save(scheduled(1, PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100"), items / "a.wl")
    query = Dataset()
    query.PatientName, query.PatientID = "m*", ""
    query.SpecificCharacterSet = "ISO_IR 100"
    query.ScheduledProcedureStepSequence = [Dataset()]
    query.ScheduledProcedureStepSequence[0].ScheduledStationAETitle = "CT1"
    query.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID = ""
    with (
        node(tmp_path, "--worklist", items) as server,
        associated(server, MODALITY_WORKLIST.find) as association,
    ):
        (found, _), (final, _) = association.send_c_find(query, MODALITY_WORKLIST.find)
        assert (found.Status, final.Status) == (0xFF00, 0x0000)
        responses = association.send_c_find(query, MODALITY_WORKLIST.find)
        _, match = next(iter(responses))
        assert match.PatientName == "Müller^Jörg"
        assert match.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID == "S1"
        list(responses)


def test_commitment_on_the_same_association(tmp_path: Path) -> None:
    told: Queue[Dataset] = Queue()

    def reported(event: Any) -> tuple[int, None]:
        told.put(event.event_information)
        return 0x0000, None

    with node(tmp_path) as server:
        store(server, "1.2.1.1")
        handlers = [(evt.EVT_N_EVENT_REPORT, reported)]
        with associated(server, STORAGE_COMMITMENT_PUSH, handlers=handlers) as association:
            uid = ask(association, "1.2.1.1", "1.2.1.2")
            result = told.get(timeout=SECONDS)
    assert result.TransactionUID == uid
    assert outcome(result) == (["1.2.1.1"], {"1.2.1.2": 0x0112})


def test_h_d27_commitment_after_a_kill(tmp_path: Path, modality: Modality) -> None:
    """Of a node that could not report, and was killed, when it runs again."""
    with node(tmp_path, peer=modality.port) as server:
        store(server, "1.2.1.1")
        with associated(server, STORAGE_COMMITMENT_PUSH) as association:
            uid = ask(association, "1.2.1.1")
        server.kill()
    modality.listen()
    with node(tmp_path, peer=modality.port):
        what, result = modality.hear()
    assert (what, result.TransactionUID) == ("event 1", uid)
    assert outcome(result) == (["1.2.1.1"], {})


def test_availability_when_a_study_has_ended(tmp_path: Path, modality: Modality) -> None:
    """As the association is released."""
    modality.listen()
    with node(tmp_path, "--study-timeout", "0", peer=modality.port) as server:
        store(server, "1.2.1.1", "1.2.1.2")
        what, notification = modality.hear()
        assert "study 1.2 has ended: 2 instances, the last of MODALITY@" in server.log()
    assert what == "notified"
    (series,) = notification.ReferencedSeriesSequence
    assert [
        (each.ReferencedSOPInstanceUID, each.InstanceAvailability, each.RetrieveAETitle)
        for each in series.ReferencedSOPSequence
    ] == [("1.2.1.1", "ONLINE", "DIMSE"), ("1.2.1.2", "ONLINE", "DIMSE")]
