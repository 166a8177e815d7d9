"""`dimse serve`: the node without twistd."""

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.archive import image
from tests.cli.command import ROOT, dimse, start
from tests.peers import STOP_SECONDS, Argument, Server, free_port, running
from tests.scripted import ECHO, RELEASE_RQ, RQ

COMMAND = [sys.executable, "-m", "dimse", "serve"]


@contextmanager
def serving(storage: Path, *options: str | Path) -> Iterator[Server]:
    """A node on 127.0.0.1."""
    port = free_port()
    listen = ["--listen", f"tcp:{port}:interface=127.0.0.1"]
    args = [*COMMAND, *listen, "--storage", storage, "--disk-reserve", "0", *options]
    with running(args, port, {"PYTHONPATH": str(ROOT)}) as server:
        yield server


def test_answers_and_logs_to_stderr(tmp_path: Path) -> None:
    with serving(tmp_path / "store", "--aet", "NODE") as server:
        done = dimse("echo", "-aec", "NODE", "127.0.0.1", server.port)
        assert done.returncode == 0, done.stderr
        assert dimse("echo", "-aec", "OTHER", "127.0.0.1", server.port).returncode == 1
        assert f"instances go to {tmp_path / 'store'}, durability full" in server.log()
        assert "association established" in server.log()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_an_open_association_finish(tmp_path: Path, how: signal.Signals) -> None:
    """Then the exit code is 0: it ended as it should."""
    with serving(tmp_path) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=STOP_SECONDS) as peer:
            peer.sendall(RQ)
            assert peer.recv(65536)[0] == 2  # A-ASSOCIATE-AC
            server.process.send_signal(how)
            server.wait_until_said("stopping")
            peer.sendall(ECHO)
            assert peer.recv(65536)[0] == 4  # P-DATA-TF
            peer.sendall(RELEASE_RQ)
            assert peer.recv(65536)[0] == 6  # A-RELEASE-RP
        assert server.process.wait(STOP_SECONDS) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_h_r16_a_second_signal_ends_it_at_once(tmp_path: Path, second: signal.Signals) -> None:
    """Though an association is open, and its grace is not over."""
    with (
        serving(tmp_path, "--grace", "1000") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=STOP_SECONDS) as peer,
    ):
        peer.sendall(RQ)
        assert peer.recv(65536)[0] == 2  # A-ASSOCIATE-AC
        server.process.send_signal(signal.SIGTERM)
        server.wait_until_said("stopping")
        server.process.send_signal(second)
        assert server.process.wait(STOP_SECONDS) == -second
        assert peer.recv(65536) == b""


HANGING = """
import os, sys, threading
from dimse.cli.main import main
from dimse.server import process

def hangs(fd, sync=os.fsync):
    if threading.current_thread() is threading.main_thread():  # it starts as ever
        return sync(fd)
    print("fsync hangs", file=sys.stderr)
    threading.Event().wait()

os.fsync, process._PATIENCE = hangs, 0.1
main()
"""


def test_h_r12_a_disk_that_hangs_does_not_hold_its_end(tmp_path: Path) -> None:
    """The log names what is not committed, and the exit code is 1."""
    file, port = tmp_path / "instance.dcm", free_port()
    made = image("1.2.3.4", size=1000)
    made.StudyInstanceUID = made.SeriesInstanceUID = "1.2.3"
    made.save_as(file, enforce_file_format=True)
    args: list[Argument] = [sys.executable, "-c", HANGING, "serve", "--storage", tmp_path / "store"]
    args += ["--listen", f"tcp:{port}:interface=127.0.0.1", "--disk-reserve", "0"]
    args += ["--grace", "0.1", "--commit", "0.1"]
    with (
        running(args, port, {"PYTHONPATH": str(ROOT)}) as server,
        start("store", "127.0.0.1", port, file) as sender,
    ):
        server.wait_until_said("fsync hangs")
        server.process.terminate()
        assert server.process.wait(STOP_SECONDS) == 1
        sender.communicate(timeout=STOP_SECONDS)
        assert sender.returncode == 1
        assert "1 instances are not committed: 1.2.3.4" in server.log()
        assert "threads hang: the process ends without them" in server.log()


def test_configuration_file(tmp_path: Path) -> None:
    """It is the one of twistd dimse; SIGHUP reads the peers again."""
    file = tmp_path / "dimse.toml"
    file.write_text('[node]\nae_titles = ["NODE"]\n', "utf-8")
    with serving(tmp_path, "--config", file) as server:
        assert dimse("echo", "-aec", "OTHER", "127.0.0.1", server.port).returncode == 1
        file.write_text('[[peers]]\nae_title = "CT1"\nport = 5\n', "utf-8")
        server.process.send_signal(signal.SIGHUP)
        server.wait_until_said("the peers stay as they were")
        assert f"{file}, line 1: peers[1] has one of host and port" in server.log()
        assert dimse("echo", "-aec", "NODE", "127.0.0.1", server.port).returncode == 0


def test_help_has_the_options_of_the_node() -> None:
    done = dimse("serve", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: dimse serve [options]")
    assert "--durability" in done.stdout
    assert "keeps the instances" in done.stdout


def test_version() -> None:
    assert dimse("serve", "--version").stdout == dimse("--version").stdout.replace(",", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--port", "dicom"], "--port: it must be an integer"),
        (["--no-such-option"], "no-such-option"),
        (["--durability", "some"], "one of full, relaxed"),
        (["argument"], "argument"),
    ],
)
def test_wrong_usage_is_2(arguments: list[str], complaint: str) -> None:
    done = dimse("serve", *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_every_line_of_a_wrong_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "dimse.toml"
    file.write_text("[limits]\nidle = 0\nidel = 1\n", "utf-8")
    done = dimse("serve", "--config", file)
    assert done.returncode == 2
    assert f"{file}, line 2: limits.idle is 0" in done.stderr
    assert f"{file}, line 3: limits.idel is not known; is idle meant?" in done.stderr


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listen = f"tcp:{port}:interface=127.0.0.1"
        done = dimse("serve", "--listen", listen, "--storage", tmp_path)
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    assert last.startswith("Error: Couldn't listen on 127.0.0.1")
    assert "Traceback" not in done.stderr


def test_a_store_in_use_is_one_line(tmp_path: Path) -> None:
    with serving(tmp_path):
        done = dimse("serve", "--port", free_port(), "--storage", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"Error: store {tmp_path}: another server uses it"
    assert "Traceback" not in done.stderr
