"""`dimse serve` under systemd: what it is told and passes, and the units of the documentation."""

import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import ROOT, dimse
from tests.peers import START_SECONDS, STOP_SECONDS, Argument, run, running, tool

PASSING = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""
UNITS = ROOT / "docs"


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that systemd hears its services on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(START_SECONDS)
        yield notified


def hear(notified: socket.socket) -> str:
    """What a node says next, but for its signs of life."""
    while (said := notified.recv(4096).decode()) == "WATCHDOG=1":
        continue
    return next(line for line in said.splitlines() if line.endswith("=1"))


def test_a_socket_is_passed_and_each_state_is_told(
    tmp_path: Path, listening: socket.socket, notified: socket.socket
) -> None:
    """As systemd does it: the socket is number 3, and who has connected already is served."""
    file = tmp_path / "dimse.toml"
    file.touch()
    port = listening.getsockname()[1]
    environ = {
        "PYTHONPATH": str(ROOT),
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "dicom",
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "1000000",
    }
    options = ["--config", str(file), "--listen", "systemd:domain=INET:name=dicom"]
    options += ["--storage", str(tmp_path / "store"), "--disk-reserve", "0"]
    node = [sys.executable, "-m", "dimse", "serve", *options]
    args = [sys.executable, "-c", PASSING, str(listening.fileno()), *node]
    with running(args, port, environ, pass_fds=[listening.fileno()]) as server:
        listening.close()
        assert hear(notified) == "READY=1"
        assert dimse("echo", "127.0.0.1", port).returncode == 0
        server.process.send_signal(signal.SIGHUP)
        assert [hear(notified), hear(notified)] == ["RELOADING=1", "READY=1"]
        assert notified.recv(4096) == b"WATCHDOG=1"
        server.process.terminate()
        assert hear(notified) == "STOPPING=1"
        assert server.process.wait(STOP_SECONDS) == 0


def test_no_socket_is_passed(tmp_path: Path) -> None:
    done = dimse("serve", "--storage", tmp_path, "--listen", "systemd:domain=INET:name=dicom")
    assert done.returncode == 2
    assert "systemd has passed no such socket" in done.stderr


@pytest.mark.peer
def test_socket_activation(tmp_path: Path) -> None:
    """systemd-socket-activate starts the node when somebody connects."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    activate: list[Argument] = [
        tool("systemd-socket-activate"),
        "-l",
        f"127.0.0.1:{port}",
        "--fdname=dicom",
    ]
    node: list[Argument] = [
        sys.executable,
        "-m",
        "dimse",
        "serve",
        "--storage",
        tmp_path,
        "--disk-reserve",
        "0",
    ]
    listen = ["--listen", "systemd:domain=INET:name=dicom"]
    environ = {"PYTHONPATH": str(ROOT)}
    pythonpath = ["-E", f"PYTHONPATH={ROOT}"]
    with running([*activate, *pythonpath, *node, *listen], port, environ) as server:
        assert dimse("echo", "127.0.0.1", port).returncode == 0
        assert "instances go to" in server.log()


@pytest.mark.peer
@pytest.mark.parametrize("unit", ["dimse.service", "dimse.socket"])
def test_the_units_of_the_documentation(tmp_path: Path, unit: str) -> None:
    """systemd understands them; the programme itself is not installed there."""
    for each in ("dimse.service", "dimse.socket"):
        text = (UNITS / each).read_text("utf-8").replace("/opt/dimse/bin/dimse", sys.executable)
        (tmp_path / each).write_text(text, "utf-8")
    done = run([tool("systemd-analyze"), "verify", f"./{unit}"], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
