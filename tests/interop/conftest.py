"""Storage SCPs that the tests send to, each with the folder in which it keeps what it gets, and
archives that they query."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop import collection
from tests.interop.archives import NODELAY, ROOT, Archive, fill, last_line, ours, script
from tests.interop.corpus import Receiver, instances, read
from tests.interop.exchanges import ARCHIVE, STUDIES, make_study, make_worklist
from tests.interop.syntaxes import (
    COMPRESSED,
    LARGE_STORAGE,
    UNCOMPRESSED,
    VIDEO,
    VIDEO_STORAGE,
)
from tests.peers import Argument, free_port, running, tool

Factory = pytest.TempPathFactory


@pytest.fixture(scope="module")
def node(tmp_path_factory: Factory) -> Iterator[Receiver]:
    """A node that keeps what comes as it comes; the archive refuses what it cannot index."""
    storage, port = tmp_path_factory.mktemp("store"), free_port()
    args: list[Argument] = [sys.executable, "-m", "tests.interop.file_store_node", str(port)]
    args.append(storage)
    with running(args, port, cwd=ROOT):
        yield Receiver(port, storage / "objects")


@pytest.fixture(scope="module")
def storescp_bits(tmp_path_factory: Factory) -> Iterator[Receiver]:
    """DCMTK's storescp, which writes the bytes of the data set as they come."""
    with _storescp(tmp_path_factory, "+B") as receiver:
        yield receiver


@pytest.fixture(scope="module")
def storescp(tmp_path_factory: Factory) -> Iterator[Receiver]:
    """DCMTK's storescp, which decodes the data set and writes it anew."""
    with _storescp(tmp_path_factory, "-B") as receiver:
        yield receiver


@pytest.fixture(scope="module")
def pynetdicom_storescp(tmp_path_factory: Factory) -> Iterator[Receiver]:
    """pynetdicom's storescp."""
    with _pynetdicom_storescp(tmp_path_factory) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def pynetdicom_implicit(tmp_path_factory: Factory) -> Iterator[Receiver]:
    """The same, and it takes implicit VR little endian only."""
    with _pynetdicom_storescp(tmp_path_factory, "-xi") as receiver:
        yield receiver


@pytest.fixture(scope="module")
def storescp_implicit(tmp_path_factory: Factory) -> Iterator[Receiver]:
    """DCMTK's storescp, and it takes implicit VR little endian only."""
    folder, port = tmp_path_factory.mktemp("storescp"), free_port()
    with running([tool("storescp"), "+xi", "-od", folder, str(port)], port):
        yield Receiver(port, folder)


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder of the instances of each study, and one of the worklist."""
    folder = tmp_path_factory.mktemp("studies")
    for study in STUDIES:
        make_study(folder, study)
    make_worklist(folder)
    return folder


@pytest.fixture(scope="module")
def dimse(studies: Path) -> Iterator[Archive]:
    """Our own archive."""
    port = free_port()
    args: list[Argument] = [*script("matrix_node"), str(port), studies]
    with running(args, port, cwd=ROOT) as server:
        yield Archive(server)


@pytest.fixture(scope="module")
def pynetdicom(studies: Path) -> Iterator[Archive]:
    """One made of pynetdicom's library."""
    port = free_port()
    args: list[Argument] = [*script("matrix_pynetdicom"), "serve", str(port), studies]
    with running(args, port, cwd=ROOT) as server:
        yield Archive(server)


@pytest.fixture(scope="module")
def dcmtk(
    studies: Path, node: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Archive]:
    """DCMTK's dcmqrscp, filled by us; it knows `node` by its port."""
    folder = tmp_path_factory.mktemp("dcmqrscp")
    with _dcmqrscp(folder, {str(node.port): node.port}) as archive:
        fill(archive, *(studies / study for study in STUDIES))
        yield archive


@pytest.fixture(scope="module")
def collected(tmp_path_factory: Factory) -> Path:
    """A folder with the instances of `collection`."""
    folder = tmp_path_factory.mktemp("collection")
    collection.write(folder)
    return folder


@pytest.fixture(scope="module")
def dcmqrscp(
    collected: Path, storescp_bits: Receiver, tmp_path_factory: Factory
) -> Iterator[Archive]:
    """DCMTK's, with the collection; it knows `STORESCP`."""
    folder = tmp_path_factory.mktemp("dcmqrscp")
    with _dcmqrscp(folder, {"STORESCP": storescp_bits.port}) as archive:
        fill(archive, collected)
        yield archive


@contextmanager
def _dcmqrscp(folder: Path, peers: Mapping[str, int]) -> Iterator[Archive]:
    port, database = free_port(), folder / ARCHIVE
    database.mkdir()
    hosts = "".join(
        f"peer{number} = ({title}, 127.0.0.1, {number})\n" for title, number in peers.items()
    )
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(
        f"""NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
{hosts}HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
{ARCHIVE} {database} RW (99, 64mb) ANY
AETable END
"""
    )
    with running([tool("dcmqrscp"), "-c", configuration], port, env=NODELAY) as server:
        yield Archive(server)


@pytest.fixture(scope="module")
def wlmscpfs(studies: Path) -> Iterator[Archive]:
    """DCMTK's wlmscpfs, with the worklist."""
    port = free_port()
    with running([tool("wlmscpfs"), "-dfp", studies, str(port)], port, env=NODELAY) as server:
        yield Archive(server)


@pytest.fixture(scope="module")
def qrscp(
    studies: Path, node: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Archive]:
    """pynetdicom's qrscp, filled by us; it knows `node` by its port."""
    folder, port = tmp_path_factory.mktemp("qrscp"), free_port()
    configuration = folder / "qrscp.ini"
    configuration.write_text(
        f"""[DEFAULT]
ae_title: {ARCHIVE}
port: {port}
max_pdu: 16382
acse_timeout: 30
dimse_timeout: 30
network_timeout: 30
bind_address: 127.0.0.1
instance_location: {folder / "instances"}
database_location: {folder / "instances.sqlite"}
log_identifier: False
[{node.port}]
address: 127.0.0.1
port: {node.port}
"""
    )
    program: list[Argument] = [sys.executable, "-m", "pynetdicom", "qrscp", "-c", configuration]
    with running(program, port) as server:
        said = last_line(ours("C-STORE", str(port), *studies.glob("*/*.dcm")))
        assert said == {"status": [0] * sum(STUDIES.values())}
        yield Archive(server)


@contextmanager
def _pynetdicom_storescp(factory: Factory, *options: Argument) -> Iterator[Receiver]:
    folder, port = factory.mktemp("pynetdicom"), free_port()
    program = [sys.executable, "-m", "pynetdicom", "storescp", "-ba", "127.0.0.1", *options]
    with running([*program, "-od", folder, str(port)], port):
        yield Receiver(port, folder)


@contextmanager
def _storescp(factory: Factory, *options: Argument) -> Iterator[Receiver]:
    folder, port = factory.mktemp("storescp"), free_port()
    configuration = factory.mktemp("configuration") / "storescp.cfg"
    configuration.write_text(_profile("Everything"))
    args = [tool("storescp"), "-xf", configuration, "Everything", *options, "-od", folder]
    with running([*args, str(port)], port, env={"TCP_NODELAY": "1"}):
        yield Receiver(port, folder)


def _profile(name: str) -> str:
    """With it storescp takes the SOP classes of all our files; `+xa` leaves Color Palettes out."""
    syntaxes = dict.fromkeys((UNCOMPRESSED | COMPRESSED | VIDEO).values())
    classes = {VIDEO_STORAGE, LARGE_STORAGE, *(read(path).sop_class_uid for path in instances())}
    lines = ["[[TransferSyntaxes]]", "[Any]"]
    lines += [f"TransferSyntax{i} = {each}" for i, each in enumerate(syntaxes, 1)]
    lines += ["[[PresentationContexts]]", "[Storage]"]
    lines += [f"PresentationContext{i} = {each}\\Any" for i, each in enumerate(classes, 1)]
    lines += ["[[Profiles]]", f"[{name}]", "PresentationContexts = Storage"]
    return "\n".join(lines)
