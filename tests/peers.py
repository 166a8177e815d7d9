"""Real peers: command line tools and servers in processes of their own, on loopback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

START_SECONDS = 30.0
STOP_SECONDS = 10.0
SCRIPTS = Path(sys.executable).parent
_PACKAGES = {  # of Debian; all else is DCMTK's
    "openssl": "openssl",
    "strace": "strace",
    "systemd-analyze": "systemd",
    "systemd-socket-activate": "systemd",
}

Argument = str | Path


def tool(name: str) -> str:
    """The path of a system tool such as DCMTK's storescu; without it the test skips.

    With `DIMSE_REQUIRE_PEERS=1`, as in CI, it fails instead. The scripts of this virtual
    environment do not count: pynetdicom installs tools of the same names there.
    """
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    path = shutil.which(name, path=os.pathsep.join(f for f in folders if Path(f) != SCRIPTS))
    if path is None:
        message = f"no {name}: apt-get install {_PACKAGES.get(name, 'dcmtk')}"
        if os.environ.get("DIMSE_REQUIRE_PEERS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(
    args: Sequence[Argument],
    timeout: float = 60.0,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end; `stdout` is all it printed, errors too. `env` is added to ours."""
    return subprocess.run(
        args,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        env=os.environ | dict(env or {}),
        cwd=cwd,
        check=False,
    )


class Server:
    """A server process; `running` makes it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, output: Path) -> None:
        self.process = process
        self.port = port
        self._output = output

    def log(self) -> str:
        """All it has printed so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def wait_until_said(self, text: str) -> None:
        """Return when its log has a text; fail when it ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while text not in self.log():
            if time.monotonic() > deadline:
                pytest.fail(f"{self.process.args!r} does not say {text!r}:\n{self.log()}")
            with suppress(subprocess.TimeoutExpired):
                code = self.process.wait(0.02)
                pytest.fail(f"{self.process.args!r} ended with {code}:\n{self.log()}")

    def stop(self) -> int:
        """Ask it to end (SIGTERM) and return its exit code; the test fails when it does not end.

        The code is -15 also from twistd: it closes all that is open, then dies of the signal.
        """
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.process.args!r} does not stop:\n{self.log()}")

    def wait_until_ready(self) -> None:
        """Return when its port accepts a connection; fail when it ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            with suppress(subprocess.TimeoutExpired):
                code = self.process.wait(0.02)
                pytest.fail(f"{self.process.args!r} ended with {code}:\n{self.log()}")
        pytest.fail(f"{self.process.args!r} does not listen on {self.port}:\n{self.log()}")

    def kill(self) -> None:
        """End it and all it has forked, whatever state they are in."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running(
    args: Sequence[Argument],
    ready_port: int,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Collection[int] = (),
) -> Iterator[Server]:
    """A server in a process group of its own that accepts connections on 127.0.0.1:`ready_port`.

    Readiness is seen by connecting and closing: its log begins with a connection that sent nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "log")
        with output.open("wb") as stream:
            process = subprocess.Popen(
                args,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(env or {}),
                cwd=cwd,
                start_new_session=True,
                pass_fds=pass_fds,
            )
        server = Server(process, ready_port, output)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.kill()


@contextmanager
def twistd_dimse(
    storage: Path, *options: Argument, under: Sequence[Argument] = ()
) -> Iterator[Server]:
    """`twistd dimse` on a free port of 127.0.0.1, storing into `storage`; `options` are added.

    `under` is a command that runs it, such as strace.
    """
    port = free_port()
    listen = f"tcp:{port}:interface=127.0.0.1"
    args: list[Argument] = [*under, SCRIPTS / "twistd", "--nodaemon", "--pidfile=", "dimse"]
    args += ["--listen", listen, "--storage", storage, *options]
    with running(args, port) as server:
        yield server
