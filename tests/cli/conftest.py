"""Peers to call from the command line."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dimse.sop_classes import MODALITY_WORKLIST
from tests.cli.archive import Archive
from tests.cli.recorder import Recorder
from tests.interop.exchanges import ARCHIVE, STUDIES, make_study
from tests.peers import free_port, run, running, tool


class QueryServer(NamedTuple):
    """An archive: its port, the port it knows as the AE title HERE, and what it holds."""

    port: int
    here: int
    studies: Path


@pytest.fixture
def received(tmp_path: Path) -> Path:
    """Where `storescp` puts what it receives."""
    folder = tmp_path / "received"
    folder.mkdir()
    return folder


@pytest.fixture
def storescp(received: Path) -> Iterator[int]:
    """The port of DCMTK's storescp."""
    port = free_port()
    with running([tool("storescp"), "--output-directory", received, str(port)], port):
        yield port


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A peer on 127.0.0.1 that writes down what it is asked."""
    with Recorder().serving() as recorder:
        yield recorder


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A socket that listens; who connects to it hears nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)
        yield listening


@pytest.fixture
def archive() -> Iterator[Archive]:
    """An archive on 127.0.0.1 that answers as it is told."""
    with Archive().serving() as archive:
        yield archive


@pytest.fixture(scope="session")
def dcmqrscp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueryServer]:
    """DCMTK's dcmqrscp with the studies of `tests.interop.exchanges`."""
    folder, port, here = tmp_path_factory.mktemp("dcmqrscp"), free_port(), free_port()
    database, studies = folder / ARCHIVE, folder / "studies"
    database.mkdir()
    studies.mkdir()
    for study in STUDIES:
        make_study(studies, study)
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(
        f"""NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
here = (HERE, 127.0.0.1, {here})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
{ARCHIVE} {database} RW (9, 64mb) ANY
AETable END
"""
    )
    nodelay = {"TCP_NODELAY": "1"}
    with running([tool("dcmqrscp"), "-c", configuration], port, env=nodelay):
        fill = [tool("storescu"), "+sd", "+r", "-aec", ARCHIVE, "127.0.0.1", str(port)]
        filled = run([*fill, studies], env=nodelay)
        assert filled.returncode == 0, filled.stdout
        yield QueryServer(port, here, studies)


@pytest.fixture(scope="session")
def wlmscpfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of DCMTK's wlmscpfs with two items: CT on 20240229, MR on 20240301."""
    folder, port = tmp_path_factory.mktemp("wlmscpfs"), free_port()
    database = folder / "WORKLIST"
    database.mkdir()
    (database / "lockfile").touch()
    write_item(database / "1.wl", "Doe^Jane", "P1", "CT", "20240229")
    write_item(database / "2.wl", "Roe^Richard", "P2", "MR", "20240301")
    with running([tool("wlmscpfs"), "-dfp", folder, str(port)], port):
        yield port


def write_item(path: Path, name: str, patient: str, modality: str, day: str) -> None:
    """A file of a worklist."""
    item, step = Dataset(), Dataset()
    step.Modality = modality
    step.ScheduledStationAETitle = f"ROOM{modality}"
    step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime = day, "0930"
    step.ScheduledPerformingPhysicianName = "House^Greg"
    step.ScheduledProcedureStepDescription = f"{modality} of the head"
    step.ScheduledProcedureStepID = f"S{patient}"
    item.PatientName, item.PatientID = name, patient
    item.PatientBirthDate, item.PatientSex = "19700101", "O"
    item.AccessionNumber, item.ReferringPhysicianName = f"A{patient}", "Wilson^James"
    item.StudyInstanceUID = f"1.2.826.0.1.3680043.10.9.{patient[1:]}"
    item.RequestedProcedureID = f"R{patient}"
    item.RequestedProcedureDescription = f"{modality} head"
    item.ScheduledProcedureStepSequence = [step]
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.file_meta.MediaStorageSOPClassUID = UID(MODALITY_WORKLIST.find)
    item.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.{patient[1:]}")
    item.preamble = bytes(128)
    item.save_as(path)
