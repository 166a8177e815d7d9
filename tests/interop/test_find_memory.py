"""A C-FIND with many matches gets into the memory of neither side (PS3.4 C.4.1).

`DIMSE_MATCHES=100000` sets their number, which is in the name of the test.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from tests.peers import Server, free_port, running

COUNT = int(os.environ.get("DIMSE_MATCHES", "25000"))
MOST = 160 * COUNT  # bytes that a process may grow: less than each match has
INTERVAL = 0.02  # s between two looks at both
PROGRAM = [sys.executable, "-m", "tests.interop.many_matches"]


@pytest.fixture
def scp() -> Iterator[Server]:
    port = free_port()
    with running([*PROGRAM, "scp", str(port)], port) as server:
        yield server


def growth(scu: subprocess.Popen[bytes], scp: Server) -> list[int]:
    """How much the RSS of each grows at most until the scu has ended well."""
    processes = [psutil.Process(pid) for pid in (scu.pid, scp.process.pid)]
    base: list[int] = [each.memory_info().rss for each in processes]
    peak = base
    assert scu.stdin is not None
    scu.stdin.write(b"\n")
    scu.stdin.flush()
    while scu.poll() is None:
        with suppress(psutil.NoSuchProcess):
            now = [each.memory_info().rss for each in processes]
            peak = [max(pair) for pair in zip(peak, now, strict=True)]
        with suppress(subprocess.TimeoutExpired):
            scu.wait(INTERVAL)
    assert scu.returncode == 0
    return [most - least for most, least in zip(peak, base, strict=True)]


@pytest.mark.peer
@pytest.mark.parametrize("count", [pytest.param(COUNT, id=f"{COUNT} matches")])
def test_both_ends_stream(scp: Server, count: int) -> None:
    """The warm-up has made what does not grow with the number of matches."""
    pipe = subprocess.PIPE
    args = [*PROGRAM, "scu", str(scp.port), str(count)]
    with subprocess.Popen(args, stdin=pipe, stdout=pipe) as scu:
        try:
            assert scu.stdout is not None
            assert scu.stdout.readline() == b"warm\n", scp.log()
            grown = growth(scu, scp)
            seconds = float(scu.stdout.read())
        finally:
            scu.kill()
    sys.stdout.write(f"{count / seconds:.0f} matches/s; SCU, SCP grew {grown} bytes\n")
    assert max(grown) < MOST, f"SCU, SCP: {grown} bytes"
