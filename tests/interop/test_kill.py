"""The node is killed, or told to end, while four associations send (H-R16, H-R17).

`DIMSE_KILLS=100` and `DIMSE_STOPS=100` set the numbers of times, `DIMSE_SEED` the moments; all are
printed. With `DIMSE_STOPS` an end must come within a second after the grace.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.interop.archives import ROOT, script
from tests.interop.corpus import read_head
from tests.peers import Server, twistd_dimse

pytestmark = pytest.mark.peer

KILLS = int(os.environ.get("DIMSE_KILLS", "5"))
STOPS = int(os.environ.get("DIMSE_STOPS", "3"))
LATE = 1.0 if "DIMSE_STOPS" in os.environ else 20.0  # seconds after the grace: others may be busy
SEED = os.environ.get("DIMSE_SEED") or str(random.randrange(10**9))
LONGEST = 0.8  # seconds under load until the node ends
GRACE = 0.5  # s
SAMPLE = 3  # instances that are retrieved each time
ASSOCIATIONS = 4
ROOT_UID = "1.2.826.0.1.3680043.10.7"


class Senders:
    """The process of `busy_senders`, and what its log says."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def ask(self, *command: Any) -> Any:
        self.begin(*command)
        return self.answer()

    def begin(self, *command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def log(self) -> tuple[dict[str, str], list[str]]:
        """The digest of each instance that was sent, and those that were acknowledged."""
        sent: dict[str, str] = {}
        stored = []
        for line in self._log.read_text().splitlines():
            match line.split():
                case ["sent", uid, digest]:
                    sent[uid] = digest
                case ["stored", uid]:
                    stored.append(uid)
                case _:
                    pytest.fail(line)
        return sent, stored


@contextmanager
def senders(log: Path) -> Iterator[Senders]:
    with subprocess.Popen(
        [*script("busy_senders"), str(log)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Senders(process, log)
        finally:
            process.kill()


class Kept:
    """What is in the store; each file is read once, for none may ever change."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._read: dict[Path, tuple[str, str]] = {}

    def instances(self) -> dict[str, str]:
        """The digest of the data set of each instance that is visible, by its UID."""
        for path in (self._store / "objects").rglob("*.dcm"):
            if path not in self._read:
                self._read[path] = _uid_and_digest(path)
        return dict(self._read.values())

    def unaltered(self) -> bool:
        """Whether all files are what they were when they were first read."""
        return all(_uid_and_digest(path) == before for path, before in self._read.items())

    def rows(self) -> dict[str, str]:
        """The same, from the index."""
        url = f"file:{self._store / 'index.sqlite'}?mode=ro"
        with closing(sqlite3.connect(url, uri=True)) as index:
            return dict(index.execute("select instance_uid, digest from instances"))


def _uid_and_digest(path: Path) -> tuple[str, str]:
    (_, uid, _), offset = read_head(path)
    with path.open("rb") as file:
        file.seek(offset)
        return uid, sha256(file.read()).hexdigest()


def check(
    store: Path, kept: Kept, port: int, clients: Senders, studies: list[str], choose: random.Random
) -> None:
    """All that was acknowledged is there and whole; nothing else is but what was sent."""
    assert list((store / "incoming").iterdir()) == []
    sent, stored = clients.log()
    there = kept.instances()
    assert kept.rows() == there
    assert set(stored) <= there.keys()
    assert there.items() <= sent.items()
    for study in studies:
        for series in {uid.rpartition(".")[0] for uid in there if uid.startswith(f"{study}.")}:
            found = clients.ask("find", port, study, series)
            assert sorted(found) == sorted(uid for uid in there if uid.rpartition(".")[0] == series)
    for uid in choose.sample(stored, min(SAMPLE, len(stored))):
        series = uid.rpartition(".")[0]
        study = series.rpartition(".")[0]
        assert clients.ask("get", port, study, series, uid) == [sent[uid]]


def under_load(
    folder: Path, times: int, end: Callable[[Server, Path], None], *options: str
) -> None:
    """Start, check and `end` the node again and again, with full durability; then check all."""
    choose = random.Random(SEED)
    store, starts = folder / "store", []
    kept, studies = Kept(store), list[str]()
    with senders(folder / "log") as clients:
        for number in range(times + 1):
            begin = time.monotonic()
            with twistd_dimse(store, *options) as node:
                clients.ask("echo", node.port)
                starts.append(time.monotonic() - begin)
                check(store, kept, node.port, clients, studies, choose)
                if number == times:
                    break
                studies = [f"{ROOT_UID}.{number}.{each}" for each in range(1, ASSOCIATIONS + 1)]
                clients.begin("load", node.port, SEED, studies, 10**9)
                with suppress(subprocess.TimeoutExpired):
                    node.process.wait(choose.uniform(0, LONGEST))
                end(node, store)
                clients.answer()
        sent, stored = clients.log()
    assert kept.unaltered()
    assert len(stored) > times  # there was a load
    sys.stdout.write(
        f"{len(stored)} of {len(sent)} acknowledged, {len(kept.instances())} kept; "
        f"start {median(starts):.2f} s, at most {max(starts):.2f} s\n"
    )


@pytest.mark.parametrize("times", [pytest.param(KILLS, id=f"{KILLS} times")])
def test_h_r17_no_acknowledged_instance_is_lost(tmp_path: Path, times: int):
    """SIGKILL: what was begun is removed at the next start."""
    sys.stdout.write(f"DIMSE_SEED={SEED} DIMSE_KILLS={times}\n")
    under_load(tmp_path, times, lambda node, store: node.process.send_signal(signal.SIGKILL))


@pytest.mark.parametrize("times", [pytest.param(STOPS, id=f"{STOPS} times")])
def test_h_r16_the_node_ends_in_time_and_leaves_nothing_behind(tmp_path: Path, times: int):
    """SIGTERM (G19): the associations, which would never end, are aborted after the grace."""
    sys.stdout.write(f"DIMSE_SEED={SEED} DIMSE_STOPS={times}\n")
    ends = []

    def stop(node: Server, store: Path) -> None:
        begin = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        code = node.process.wait(GRACE + 20)
        ends.append(time.monotonic() - begin)
        assert code in (0, -signal.SIGTERM), node.log()  # as twistd has it
        assert "Traceback" not in node.log()
        assert list((store / "incoming").iterdir()) == []

    under_load(tmp_path, times, stop, "--grace", str(GRACE))
    sys.stdout.write(f"ends after {' '.join(f'{end:.2f}' for end in sorted(ends))} s\n")
    assert max(ends) <= GRACE + LATE
