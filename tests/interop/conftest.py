"""Storage SCPs that the tests send to, each with the folder in which it keeps what it gets."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.interop.corpus import Receiver, instances, read
from tests.interop.syntaxes import (
    COMPRESSED,
    LARGE_STORAGE,
    UNCOMPRESSED,
    VIDEO,
    VIDEO_STORAGE,
)
from tests.peers import Argument, free_port, running, tool, twistd_dimse

Factory = pytest.TempPathFactory


@pytest.fixture(scope="module")
def node(tmp_path_factory: Factory) -> Iterator[Receiver]:
    """`twistd dimse`."""
    storage = tmp_path_factory.mktemp("store")
    with twistd_dimse(storage) as server:
        yield Receiver(server.port, storage / "objects")


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
