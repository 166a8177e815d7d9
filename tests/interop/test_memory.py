"""Four instances of 512 MB on their way at once do not get into memory, on either side."""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.interop.corpus import DATA, read_head
from tests.interop.large import PIXELS, write_sparse
from tests.peers import Argument, Server, run, tool, twistd_dimse

pytestmark = pytest.mark.peer

AT_ONCE = 4
MOST = 64 * 1024 * 1024  # bytes that a process may grow
INTERVAL = 0.02  # s between two looks at it
WARM_UP = [DATA / "test_files" / name for name in ("CT_small.dcm", "MR_small.dcm")]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Different instances that take no room."""
    folder = tmp_path_factory.mktemp("large")
    paths = [folder / f"{number}.dcm" for number in range(AT_ONCE)]
    for number, path in enumerate(paths):
        write_sparse(path, number)
    return paths


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """A node that has had one small instance; what it stores is removed."""
    with twistd_dimse(tmp_path / "store", "--durability", "relaxed") as server:
        done = run([tool("storescu"), "-R", "127.0.0.1", str(server.port), WARM_UP[0]])
        assert done.returncode == 0, done.stdout
        yield server, tmp_path / "store"
    for path in (tmp_path / "store").rglob("*.dcm"):
        path.unlink()


def growth(pid: int, senders: list[subprocess.Popen]) -> int:
    """How much the RSS of a process grows at most until all senders have ended well."""
    process = psutil.Process(pid)
    base: int = process.memory_info().rss
    peak = base
    for sender in senders:
        while sender.poll() is None:
            with suppress(psutil.NoSuchProcess):
                peak = max(peak, process.memory_info().rss)
            with suppress(subprocess.TimeoutExpired):
                sender.wait(INTERVAL)
        assert sender.returncode == 0
    return peak - base


def data_set_sizes(paths: Iterable[Path]) -> list[int]:
    return sorted(path.stat().st_size - read_head(path)[1] for path in paths)


def assert_stored(store: Path, files: list[Path]) -> None:
    """All of it is there."""
    stored = data_set_sizes(store.rglob("*.dcm"))
    assert [size for size in stored if size > PIXELS] == data_set_sizes(files)


def test_receiving(node: tuple[Server, Path], files: list[Path]):
    """By one node, from four storescu."""
    server, store = node
    args = [tool("storescu"), "-R", "--max-pdu", "131072", "127.0.0.1", str(server.port)]
    senders = [subprocess.Popen([*args, path]) for path in files]
    try:
        grown = growth(server.process.pid, senders)
    finally:
        for sender in senders:
            sender.kill()
            sender.wait()
    assert_stored(store, files)
    assert grown < MOST, f"{grown / 2**20:.1f} MiB"


def test_sending(node: tuple[Server, Path], files: list[Path]):
    """By one process, on four associations."""
    server, store = node
    script = Path(__file__).with_name("send_at_once.py")
    pipe = subprocess.PIPE
    args: list[Argument] = [sys.executable, script, str(server.port), WARM_UP[1], *files]
    with subprocess.Popen(args, stdin=pipe, stdout=pipe) as sender:
        try:
            assert sender.stdin is not None
            assert sender.stdout is not None
            assert sender.stdout.readline() == b"warm\n"
            sender.stdin.write(b"\n")
            sender.stdin.flush()
            grown = growth(sender.pid, [sender])
        finally:
            sender.kill()
    assert_stored(store, files)
    assert grown < MOST, f"{grown / 2**20:.1f} MiB"
