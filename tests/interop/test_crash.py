"""A sender, or the node itself, ends in the middle of an instance."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.corpus import DATA, read_head, take
from tests.interop.large import PIXELS, write_sparse
from tests.peers import Argument, Server, run, tool, twistd_dimse

pytestmark = pytest.mark.peer

PATIENCE = 30.0  # s
SMALL = DATA / "test_files" / "CT_small.dcm"
STORESCU = ("-R", "--max-send-pdu", "4096")  # it takes its time, so that we meet it half-way


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "instance.dcm"
    write_sparse(path, 0)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """The folder of the node; it is emptied afterwards."""
    folder = tmp_path / "store"
    yield folder
    for pattern in ("*.dcm", "*.part"):
        for path in folder.rglob(pattern):
            path.unlink()


def until(condition: Callable[[], object], process: subprocess.Popen) -> None:
    """Look again and again, while `process` gives up the time in between; fail in the end."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue


def parts(store: Path) -> list[Path]:
    return list((store / "incoming").glob("*.part"))


def some_bytes_arrived(store: Path) -> bool:
    return any(part.stat().st_size > PIXELS // 100 for part in parts(store))


@contextmanager
def sending(
    server: Server, store: Path, path: Path, command: Sequence[str] = ()
) -> Iterator[subprocess.Popen]:
    """A sender, storescu unless given, in the middle of a large instance."""
    program = command or (tool("storescu"), *STORESCU)
    args: list[Argument] = [*program, "127.0.0.1", str(server.port), path]
    with subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sender:
        try:
            until(lambda: some_bytes_arrived(store), sender)
            assert sender.poll() is None, "it is done already"
            yield sender
        finally:
            sender.kill()


def send_small(server: Server) -> None:
    done = run([tool("storescu"), "-R", "127.0.0.1", str(server.port), SMALL])
    assert done.returncode == 0, done.stdout


def test_the_sender_is_killed(store: Path, large: Path):
    """Nothing stays of what it sent, and the next one is served."""
    with twistd_dimse(store) as server:
        with sending(server, store, large) as sender:
            sender.kill()
            sender.wait()
            until(lambda: not parts(store), server.process)
        assert not list((store / "objects").rglob("*.dcm"))
        send_small(server)
        assert len(take(store / "objects")) == 1
        assert not parts(store)
        assert "not received" in server.log()


def test_the_sender_is_stopped_and_goes_on(store: Path, large: Path):
    """SIGSTOP for a while: others are served, and the instance arrives whole.

    By `dimse store`: storescu gives up at times, for on Linux a send with a time-out fails
    when the process is continued.
    """
    ours = sys.executable, "-m", "dimse", "store"
    with twistd_dimse(store) as server, sending(server, store, large, ours) as sender:
        sender.send_signal(signal.SIGSTOP)
        for _ in range(10):
            send_small(server)
        sender.send_signal(signal.SIGCONT)
        assert sender.wait(PATIENCE) == 0
        sizes = [path.stat().st_size for path in (store / "objects").rglob("*.dcm")]
        assert len(sizes) == 2
        assert max(sizes) > PIXELS


def test_the_node_is_told_to_end(store: Path, large: Path):
    """SIGTERM: the association that is open finishes, no other one is taken."""
    with twistd_dimse(store) as server, sending(server, store, large) as sender:
        server.process.terminate()
        until(lambda: refuses(server), sender)
        assert sender.poll() is None, "it was done before the node refused the next"
        assert sender.wait(PATIENCE) == 0
        # It closes all; then an old Twisted exits, a new one dies of the signal.
        assert server.process.wait(PATIENCE) in (0, -signal.SIGTERM)
        assert "Traceback" not in server.log()
    (stored,) = (store / "objects").rglob("*.dcm")
    assert data_set_size(stored) == data_set_size(large)
    assert not parts(store)


def data_set_size(path: Path) -> int:
    return path.stat().st_size - read_head(path)[1]


def refuses(server: Server) -> bool:
    return run([tool("echoscu"), "127.0.0.1", str(server.port)]).returncode != 0


def test_the_node_is_killed(store: Path, large: Path):
    """SIGKILL: the next one removes what was left, and has all that was acknowledged."""
    with twistd_dimse(store) as server:
        send_small(server)
        with sending(server, store, large):
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait(PATIENCE)
    assert parts(store)
    stored = list((store / "objects").rglob("*.dcm"))
    assert len(stored) == 1
    with twistd_dimse(store) as server:
        send_small(server)  # the same again is a success, and changes nothing
        assert stored == list((store / "objects").rglob("*.dcm"))
        assert not parts(store)
        assert "removed 1 partial files of an earlier run" in server.log()
