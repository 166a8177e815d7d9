"""Every service, as SCU and as SCP, with every peer that has it: the cells of one table."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.interop.corpus import Receiver, Stored, read, take
from tests.interop.exchanges import (
    ARCHIVE,
    EXCHANGES,
    LONG_STUDY,
    STUDIES,
    STUDY,
    keys,
    make_study,
    whole,
)
from tests.peers import Argument, Server, free_port, run, running, tool

pytestmark = pytest.mark.peer

ROOT = Path(__file__).parents[2]
CANCEL = 0xFE00  # PS3.7 C.3
NODELAY = {"TCP_NODELAY": "1"}  # DCMTK's own variable

ALL = ("dimse", "dcmtk", "pynetdicom")
MATRIX = {
    "C-ECHO": ALL,
    "C-STORE": ALL,
    "C-FIND": ALL,
    "C-GET": ALL,
    "C-MOVE": ALL,
    **dict.fromkeys(EXCHANGES, ("dimse", "pynetdicom")),  # DCMTK has no tool for them
}
"""The peers that have a service, in both of its roles."""

CELLS = dict.fromkeys(
    (service, scu, scp)
    for service, peers in MATRIX.items()
    for peer in peers
    for scu, scp in (("dimse", peer), (peer, "dimse"))
)
"""(service, SCU, SCP): we are one of the two, or both."""

RECEIVERS = {"dimse": "node", "dcmtk": "storescp_bits", "pynetdicom": "pynetdicom_storescp"}
"""The fixtures of the Storage SCPs."""

DESTINATIONS = {"dimse": "storescp_bits", "dcmtk": "node", "pynetdicom": "node"}
"""Where each SCP is asked to move a study to."""

FINAL = {
    ("C-ECHO", "dcmtk"): "Received Echo Response (Success)",
    ("C-FIND", "dcmtk"): "Received Final Find Response (Success)",
    ("C-GET", "dcmtk"): "Received C-GET Response (Success)",
    ("C-MOVE", "dcmtk"): "Received Final Move Response (Success)",
    ("C-ECHO", "pynetdicom"): "Received Echo Response (Status: 0x0000 - Success)",
    ("C-FIND", "pynetdicom"): "Find SCP Result: 0x0000 (Success)",
    ("C-GET", "pynetdicom"): "Get SCP Result: 0x0000 (Success)",
    ("C-MOVE", "pynetdicom"): "Move SCP Result: 0x0000 (Success)",
}
"""What the tools say of a success."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An SCP of all services but C-STORE, which has the studies."""

    server: Server

    @property
    def port(self) -> str:
        return str(self.server.port)

    def requests(self) -> list[dict[str, Any]]:
        """Those of DIMSE-N that it got."""
        lines = self.server.log().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the instances of all studies."""
    folder = tmp_path_factory.mktemp("studies")
    for study in STUDIES:
        make_study(folder, study)
    return folder


@pytest.fixture(scope="module")
def dimse(studies: Path) -> Iterator[Archive]:
    """Our own SCPs."""
    port = free_port()
    args: list[Argument] = [*script("matrix_node"), str(port), studies]
    with running(args, port, cwd=ROOT) as server:
        yield Archive(server)


@pytest.fixture(scope="module")
def pynetdicom(studies: Path) -> Iterator[Archive]:
    """pynetdicom's."""
    port = free_port()
    args: list[Argument] = [*script("matrix_pynetdicom"), "serve", str(port), studies]
    with running(args, port, cwd=ROOT) as server:
        yield Archive(server)


@pytest.fixture(scope="module")
def dcmtk(
    studies: Path, node: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Archive]:
    """DCMTK's dcmqrscp, filled by its storescu; it knows `node` by its port."""
    folder, port = tmp_path_factory.mktemp("dcmqrscp"), free_port()
    database = folder / ARCHIVE
    database.mkdir()
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(
        f"""NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
node = ({node.port}, 127.0.0.1, {node.port})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
{ARCHIVE} {database} RW (9, 64mb) ANY
AETable END
"""
    )
    with running([tool("dcmqrscp"), "-c", configuration], port, env=NODELAY) as server:
        fill = [tool("storescu"), "+sd", "+r", "-aec", ARCHIVE, "127.0.0.1", str(port)]
        succeeding([*fill, studies], cwd=folder)
        yield Archive(server)


@pytest.mark.parametrize(
    ("service", "scu", "scp"), [pytest.param(*cell, id=" ".join(cell)) for cell in CELLS]
)
def test_cell(
    service: str, scu: str, scp: str, studies: Path, tmp_path: Path, request: pytest.FixtureRequest
):
    """What is sent arrives: instances whole, matches by UID, DIMSE-N by all it says."""
    if service == "C-STORE":
        receiver: Receiver = request.getfixturevalue(RECEIVERS[scp])
        called_by(scu, service, str(receiver.port), tmp_path, paths=instances(studies))
        check(take(receiver.folder), studies)
        return
    archive: Archive = request.getfixturevalue(scp)
    moved_to = DESTINATIONS[scp] if service == "C-MOVE" else "node"
    destination: Receiver = request.getfixturevalue(moved_to)
    title = str(destination.port)
    said = called_by(scu, service, archive.port, tmp_path, destination=title)
    assert FINAL.get((service, scu), "") in said
    if scu == "dimse" and service in ("C-GET", "C-MOVE"):
        assert last_line(said) == {"status": 0, "completed": STUDIES[STUDY]}
    match service:
        case "C-ECHO":
            assert scu != "dimse" or last_line(said) == {"status": 0}
        case "C-FIND":
            assert found(scu, said, tmp_path) == sorted(stored(studies))
        case "C-GET":
            check(take(tmp_path / "objects" if scu == "dimse" else tmp_path), studies)
        case "C-MOVE":
            check(take(destination.folder), studies)
        case _:
            exchange = EXCHANGES[service]
            assert last_line(said) == {"status": 0, "answered": exchange.answered}
            assert archive.requests()[-1] == exchange.request


@pytest.mark.parametrize("scp", ["dcmtk", "pynetdicom"])
@pytest.mark.parametrize("service", ["C-FIND", "C-GET"])
def test_cancel(service: str, scp: str, tmp_path: Path, request: pytest.FixtureRequest):
    """In the middle of the answers: the final one says so, and the association goes on."""
    archive: Archive = request.getfixturevalue(scp)
    said = last_line(ours(f"cancel {service}", archive.port, LONG_STUDY, tmp_path))
    assert said == {"status": CANCEL, "echo": 0}
    if service == "C-GET":
        assert 0 < len(take(tmp_path / "objects")) < STUDIES[LONG_STUDY]


def called_by(
    scu: str,
    service: str,
    port: str,
    folder: Path,
    *,
    paths: Sequence[Path] = (),
    destination: str = "",
) -> str:
    """Let an SCU invoke a service, with `folder` for what it gets; what it says."""
    if scu == "dimse":
        others: dict[str, list[Argument]] = {"C-STORE": [*paths], "C-MOVE": [destination]}
        return ours(service, port, STUDY, *others.get(service, [folder]))
    if service in EXCHANGES:
        return succeeding([*script("matrix_pynetdicom"), service, port], cwd=ROOT)
    name = f"{service.removeprefix('C-').lower()}scu"
    theirs = scu == "pynetdicom"
    program = [sys.executable, "-m", "pynetdicom", name] if theirs else [tool(name)]
    asked = keys(STUDY) if service == "C-FIND" else whole(STUDY)
    identifier = [each for key, value in asked.items() for each in ("-k", f"{key}={value}")]
    special: dict[str, list[Argument]] = {
        "C-FIND": ["-S", *identifier, "-w" if theirs else "-X"],
        "C-GET": ["-S", *identifier, "-od", folder, *([] if theirs else ["+B"])],
        "C-MOVE": ["-S", *identifier, "-aem", destination],
        "C-STORE": ["-cx"] if theirs else ["-R"],
    }
    options = ["-v", "-aec", ARCHIVE, *special.get(service, [])]
    if service == "C-STORE" and theirs:  # it takes one path
        paths = [paths[0].parent]
    return succeeding([*program, *options, "127.0.0.1", port, *paths], cwd=folder)


def ours(service: str, *others: Argument) -> str:
    """Invoke a service with our own verbs."""
    return succeeding([*script("matrix_verbs"), service, *others], cwd=ROOT)


def succeeding(args: Sequence[Argument], cwd: Path) -> str:
    """Run a tool; what it says. It ends with 0."""
    done = run(args, env=NODELAY, cwd=cwd)
    assert done.returncode == 0, done.stdout
    return done.stdout


def script(name: str) -> list[str]:
    """The command that runs a script of this folder, in `ROOT`."""
    return [sys.executable, "-m", f"tests.interop.{name}"]


def last_line(said: str) -> Any:
    """The result that a script prints."""
    return json.loads(said.splitlines()[-1])


def instances(studies: Path) -> list[Path]:
    """The files of the study that is sent."""
    return sorted((studies / STUDY).iterdir())


def stored(studies: Path) -> dict[str, Stored]:
    """What has to arrive of them."""
    return {one.sop_instance_uid: one for one in map(read, instances(studies))}


def check(taken: dict[str, Stored], studies: Path) -> None:
    """All of it has arrived: byte for byte, or decoded when another transfer syntax was agreed."""
    assert taken.keys() == stored(studies).keys()
    for uid, sent in stored(studies).items():
        if taken[uid].transfer_syntax == sent.transfer_syntax:
            assert taken[uid] == sent
        else:
            assert taken[uid].sop_class_uid == sent.sop_class_uid
            assert decoded(taken[uid]) == decoded(sent)


def decoded(one: Stored) -> Dataset:
    """A data set in implicit or explicit VR little endian."""
    implicit = one.transfer_syntax == ImplicitVRLittleEndian
    assert implicit or one.transfer_syntax == ExplicitVRLittleEndian
    return read_dataset(BytesIO(one.data_set), implicit, is_little_endian=True)


def found(scu: str, said: str, folder: Path) -> list[str]:
    """The SOP Instance UIDs of the matches; the others' tools write them as files."""
    if scu == "dimse":
        return sorted(last_line(said)["found"])
    return sorted(dcmread(path, force=True).SOPInstanceUID for path in folder.iterdir())
