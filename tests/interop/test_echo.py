"""C-ECHO of real peers to `twistd dimse`."""

import sys
from collections.abc import Iterator

import pytest

from tests.peers import Server, run, tool, twistd_dimse

pytestmark = pytest.mark.peer

NAGLE = pytest.mark.parametrize(
    "env", [{}, {"TCP_NODELAY": "1"}], ids=["Nagle", "TCP_NODELAY"]
)  # DCMTK's own variable


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A node that answers to one AE title."""
    with twistd_dimse(tmp_path_factory.mktemp("store"), "--aet", "ARCHIVE") as server:
        yield server


@NAGLE
def test_dcmtk(node: Server, env: dict[str, str]):
    """Ten C-ECHO on one association."""
    args = [tool("echoscu"), "-v", "-aec", "ARCHIVE", "--repeat", "10", "127.0.0.1", str(node.port)]
    done = run(args, env=env)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Received Echo Response (Success)") == 10


def test_dcmtk_proposes_all_it_can(node: Server):
    """128 presentation contexts of 38 transfer syntaxes each; all are accepted."""
    most = ["-ppc", "128", "-pts", "38"]
    done = run([tool("echoscu"), "-d", "-aec", "ARCHIVE", *most, "127.0.0.1", str(node.port)])
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("(Accepted)") == 128


def test_dcmtk_aborts(node: Server):
    """The node hears the A-ABORT, and answers the next association."""
    args = [tool("echoscu"), "-aec", "ARCHIVE", "--abort", "127.0.0.1", str(node.port)]
    assert run(args).returncode == 0
    assert run(args).returncode == 0
    assert "Traceback" not in node.log()


def test_dcmtk_calls_another(node: Server):
    """The reject reaches it as result 1, source 1, reason 7 (PS3.8 9.3.4)."""
    done = run([tool("echoscu"), "-aec", "OTHER", "127.0.0.1", str(node.port)])
    assert done.returncode != 0
    assert "Rejected Permanent, Source: Service User" in done.stdout
    assert "Called AE Title Not Recognized" in done.stdout


def test_pynetdicom(node: Server):
    """With the verbose output as the proof."""
    tail = ["-v", "-aec", "ARCHIVE", "127.0.0.1", str(node.port)]
    done = run([sys.executable, "-m", "pynetdicom", "echoscu", *tail])
    assert done.returncode == 0, done.stdout
    assert "Received Echo Response (Status: 0x0000 - Success)" in done.stdout
