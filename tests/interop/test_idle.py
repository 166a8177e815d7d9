"""500 associations that do nothing: what they cost, and that others are served meanwhile; and one
that asks, but does not read.
"""

import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from dimse.implementation import IMPLEMENTATION_CLASS_UID
from dimse.ul.items import PresentationContextRQ
from dimse.ul.pdu import AssociateRQ, PDUType, ReleaseRQ, UserInformation
from tests.peers import Server, run, tool, twistd_dimse
from tests.scripted import ECHO
from tests.wire import IMPLICIT, VERIFICATION

pytestmark = pytest.mark.peer

COUNT = 500
EACH = 64 * 1024  # bytes of RSS
WINDOW = 2.0  # s in which nothing happens
SHARE = 0.01  # of one CPU
PATIENCE = 30.0  # s for an answer

REQUEST = AssociateRQ(
    called_ae_title="ARCHIVE",
    calling_ae_title="IDLE",
    contexts=(PresentationContextRQ(1, VERIFICATION, (IMPLICIT,)),),
    user_information=UserInformation(16384, IMPLEMENTATION_CLASS_UID),
).encode()


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A node that takes so many from one address, and has had some associations already."""
    limits = ["--associations", "600", "--associations-per-address", "600"]
    with twistd_dimse(tmp_path_factory.mktemp("store"), *limits) as server:
        echo(server)
        yield server


def echo(server: Server) -> None:
    """One C-ECHO of another peer."""
    done = run([tool("echoscu"), "127.0.0.1", str(server.port)])
    assert done.returncode == 0, done.stdout


def associate(port: int) -> socket.socket:
    """Ask for an association and read the whole A-ASSOCIATE-AC."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    connection.sendall(REQUEST)
    assert receive_pdu(connection) == PDUType.ASSOCIATE_AC
    return connection


def receive_pdu(connection: socket.socket) -> int:
    """The type of the next PDU, read to its end."""
    with connection.makefile("rb", buffering=0) as stream:
        header = stream.read(6)
        assert len(header) == 6
        left = int.from_bytes(header[2:], "big")
        while left:
            data = stream.read(left)
            assert data
            left -= len(data)
    return header[0]


def test_idle_associations(node: Server):
    process = psutil.Process(node.process.pid)
    with ExitStack() as stack:
        warm = [stack.enter_context(associate(node.port)) for _ in range(20)]
        base = process.memory_info().rss
        idle = [stack.enter_context(associate(node.port)) for _ in range(COUNT)]
        grown = process.memory_info().rss - base
        assert grown < COUNT * EACH, f"{grown / COUNT / 1024:.1f} KiB each"

        used = sum(process.cpu_times()[:2])
        with selectors.DefaultSelector() as selector:
            for connection in idle:
                selector.register(connection, selectors.EVENT_READ)
            assert selector.select(WINDOW) == []  # and nobody hears anything
        assert sum(process.cpu_times()[:2]) - used < WINDOW * SHARE

        echo(node)
        for connection in (*warm, *idle):
            connection.sendall(ReleaseRQ().encode())
            assert receive_pdu(connection) == PDUType.RELEASE_RP
    echo(node)


def test_h_r06_answers_that_the_kernel_takes(tmp_path: Path):
    """They never fill the transport, and yet who does not read them is gone before he is idle."""
    with twistd_dimse(tmp_path, "--write-stall", "0.5") as server, associate(server.port) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(ECHO * 2000)
        server.wait_until_said("non-clean")
