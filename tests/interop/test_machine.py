"""The machine fails around a node that runs: files, memory, time (H-R10, H-R17, H-R18, H-R23)."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from dimse.message import command as commands
from dimse.message.messages import CStoreRQ, NCreateRQ
from dimse.services.dataset import encode
from dimse.ul.items import PresentationContextRQ
from dimse.ul.pdu import AssociateRQ
from tests.archive.archives import data_set
from tests.interop.archives import ROOT
from tests.peers import Argument, Server, free_port, running, tool
from tests.scripted import COMMAND, ECHO, LAST, REQUEST, USER, command, p_data
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT, VERIFICATION

pytestmark = pytest.mark.peer

PATIENCE = 60.0  # s
MPPS = "1.2.840.10008.3.1.2.3.3"
MIB = 1024 * 1024
OUT_OF_RESOURCES = 0xA700


@contextmanager
def node(
    store: Path, *options: str, under: list[Argument] | None = None, script: str = ""
) -> Iterator[Server]:
    """`dimse serve`, under a command such as prlimit, or begun by a script."""
    port = free_port()
    begin: list[Argument] = ["-c", script] if script else ["-m", "dimse"]
    args: list[Argument] = [*(under or []), sys.executable, *begin, "serve", "--storage", store]
    args += ["--listen", f"tcp:{port}:interface=127.0.0.1", "--disk-reserve", "0", *options]
    with running(args, port, {"PYTHONPATH": str(ROOT)}) as server:
        yield server


class Client:
    """An association, byte by byte."""

    def __init__(self, server: Server, request: AssociateRQ = REQUEST) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        self.is_associated = False
        with suppress(OSError):
            self.send(request.encode())
            self.is_associated = self.receive()[:1] == b"\x02"  # A-ASSOCIATE-AC

    def send(self, *pdus: bytes) -> None:
        self._socket.sendall(b"".join(pdus))

    def receive(self) -> bytes:
        """The next PDU; nothing when there is none any more."""
        head = self._exactly(6)
        return head + self._exactly(int.from_bytes(head[2:6], "big")) if head else b""

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (more := self._socket.recv(count - len(data))):
            data += more
        return data

    def status(self) -> object:
        """Of the response that comes next."""
        return commands.decode(self.receive()[12:])["Status"]

    def echo(self) -> object:
        self.send(ECHO)
        return self.status()

    def store(self, uid: str) -> object:
        message = CStoreRQ(
            message_id=1,
            affected_sop_class_uid=CT_STORAGE,
            affected_sop_instance_uid=uid,
            priority=0,
        )
        content = encode(data_set(uid), EXPLICIT)
        self.send(command(message, 3), p_data((3, LAST, content)))
        return self.status()

    def close(self) -> None:
        self._socket.close()


def echoes(server: Server) -> bool:
    """Whether somebody who comes now is served."""
    with closing(Client(server)) as client:
        return client.is_associated and client.echo() == 0


def until(condition: Callable[[], object], server: Server) -> None:
    """Look again and again; a node that ends, or a time that runs out, fails."""
    for _ in range(int(PATIENCE * 20)):
        if condition():
            return
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended with {server.process.wait(0.05)}:\n{server.log()}")
    pytest.fail(server.log())


def without_the_right_to_raise_limits() -> list[Argument]:
    if os.geteuid() != 0:
        return []
    return [tool("setpriv"), "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]


def test_h_r10_no_file_can_be_opened_any_more(tmp_path: Path) -> None:
    """What is above the limit is not taken; a C-STORE fails alone, and works later."""
    under = [*without_the_right_to_raise_limits(), tool("prlimit"), "--nofile=64:64"]
    with (
        node(tmp_path / "store", under=under) as server,
        closing(Client(server)) as client,
        ExitStack() as opened,
    ):
        files = Path(f"/proc/{server.process.pid}/fd")
        assert client.store("1.2.3.1") == 0
        before = len(os.listdir(files))
        for _ in range(64):
            opened.callback(Client(server).close)
        assert client.store("1.2.3.2") == OUT_OF_RESOURCES
        assert client.echo() == 0
        opened.close()
        until(lambda: len(os.listdir(files)) <= before, server)
        assert client.store("1.2.3.2") == 0
        assert echoes(server)
        assert "64 files may be open" in server.log()
        assert "Too many open files" in server.log()


def test_h_r17_it_is_stopped_and_goes_on(tmp_path: Path) -> None:
    """What ran out meanwhile did so once; all else goes on."""
    with (
        node(tmp_path / "store", "--idle", "0.5", "--artim", "0.5") as server,
        closing(Client(server)) as client,
    ):
        assert client.is_associated
        server.process.send_signal(signal.SIGSTOP)
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(1)
        waiting = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        server.process.send_signal(signal.SIGCONT)
        assert client.receive()[:1] == b"\x07"  # A-ABORT
        assert client.receive() == b""
        waiting.close()
        assert echoes(server)
        assert server.log().count("the idle time-out of 0.5 s ran out") == 1
        assert "Traceback" not in server.log()


JUMPS = """
import signal, time
jumped, real = [0], time.time
time.time = lambda: real() + jumped[0]
from dimse.cli.main import main
signal.signal(signal.SIGUSR2, lambda *_: jumped.append(jumped.pop() + {seconds}))
main()
"""


@pytest.mark.parametrize("days", [1, -1])
def test_h_r18_the_clock_jumps(tmp_path: Path, days: int) -> None:
    """No time-out runs out for it, and each does in its time."""
    script = JUMPS.format(seconds=days * 86400)
    with (
        node(tmp_path / "store", "--idle", "3", "--artim", "3", script=script) as server,
        closing(Client(server)) as client,
    ):
        until(lambda: "association established" in server.log(), server)
        server.process.send_signal(signal.SIGUSR2)
        for _ in range(3):
            assert client.echo() == 0
        assert client.receive()[:1] == b"\x07"  # A-ABORT, since it is idle
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0


def test_h_r23_no_memory(tmp_path: Path) -> None:
    """More large data sets than there is room for: who gets no memory fails alone."""
    contexts = (
        PresentationContextRQ(1, VERIFICATION, (IMPLICIT,)),
        PresentationContextRQ(3, MPPS, (EXPLICIT,)),
    )
    request = AssociateRQ(
        called_ae_title="ARCHIVE",
        calling_ae_title="MODALITY",
        contexts=contexts,
        user_information=USER,
    )
    creating = NCreateRQ(
        message_id=1, affected_sop_class_uid=MPPS, affected_sop_instance_uid="1.2.3"
    )
    create = p_data((3, COMMAND | LAST, creating.encode(has_data_set=True)))
    fragment = bytes(100_000)
    under: list[Argument] = [tool("prlimit"), f"--as={512 * MIB}"]
    unbounded = ["--kept-length", str(2**40)]
    with (
        node(tmp_path / "store", *unbounded, under=under) as server,
        closing(Client(server)) as client,
        ExitStack() as opened,
    ):
        senders = []
        for _ in range(20):  # of 30 MB each
            sender = Client(server, request)
            opened.callback(sender.close)
            sender.send(create, *[p_data((3, 0, fragment))] * 300)
            assert client.echo() == 0
            senders.append(sender)
        assert "MemoryError" not in server.log()  # what is left of them is still to come
        for sender in senders:
            sender.send(p_data((3, LAST, fragment)))
            assert sender.status() != 0
            assert client.echo() == 0
        opened.close()
        assert client.store("1.2.3.4") == 0
        assert echoes(server)
        assert "MemoryError" in server.log()
