"""What the kernel is asked for, and when: nothing is acknowledged that is not on the disk.

`DIMSE_TRACED=500` sets the number of instances.
"""

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from tests.interop.test_kill import senders
from tests.peers import Argument, run, tool, twistd_dimse

pytestmark = pytest.mark.peer

TRACED = int(os.environ.get("DIMSE_TRACED", "100"))
PATIENCE = 30.0  # s
CALLS = "fsync,fdatasync,link,linkat,rename,renameat,renameat2,pwrite64,sendto,sendmsg"
STRACE = ("-f", "--seccomp-bpf", "-y", "-s", "400", "-e", f"trace={CALLS}", "-o")
ROOT_UID = "1.2.826.0.1.3680043.10.8"

_LINE = re.compile(r"^(?P<thread>\d+) +(?P<resumed><\.\.\. )?(?P<name>\w+)(?P<rest>.*)$")
_UNFINISHED = "<unfinished ...>"


@dataclass(frozen=True)
class Call:
    """A system call, and the lines at which it begins and ends."""

    name: str
    text: str
    begin: int
    end: int


def strace() -> str:
    """The program; without it, or where a process may not be traced, the test skips."""
    program = tool("strace")
    done = run([program, "--seccomp-bpf", "-f", "-o", os.devnull, "true"])
    if done.returncode:
        message = f"strace cannot trace here: {done.stdout}"
        if os.environ.get("DIMSE_REQUIRE_PEERS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return program


def calls(trace: Path) -> Iterator[Call]:
    """Those that ended, in the order in which they did."""
    begun: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(trace.read_text().splitlines()):
        if (match := _LINE.match(line)) is None:
            continue  # a signal, or the end of a thread
        thread, name, rest = match["thread"], match["name"], match["rest"]
        if match["resumed"]:
            begin, text = begun.pop(thread)
            yield Call(name, text + rest, begin, number)
        elif rest.endswith(_UNFINISHED):
            begun[thread] = number, rest.removesuffix(_UNFINISHED)
        else:
            yield Call(name, rest, number, number)


def violations(trace: Path, uids: list[str]) -> dict[str, str]:
    """By the instance, which step is missing where it belongs."""
    found = list(calls(trace))
    syncs = [call for call in found if call.name in ("fsync", "fdatasync") and "= 0" in call.text]
    written = [call for call in found if call.name == "pwrite64" and "-wal>" in call.text]
    sends = [call for call in found if call.name.startswith("send")]
    links = [call for call in found if re.match("link|rename", call.name)]
    wrong = {}
    for uid in uids:
        final = f"objects/{(key := sha256(uid.encode()).hexdigest())[:2]}/{key}.dcm"
        (link,) = (call for call in links if final in call.text)
        (answer,) = (call for call in sends if re.search(rf"{re.escape(uid)}(?![\d.])", call.text))
        part = link.text.split('"')[1]
        steps = {
            "fsync of the file": [call for call in syncs if f"<{part}>" in call.text],
            "link": [link],
            "fsync of the folder": [call for call in syncs if f"{final[:10]}>" in call.text],
            "write of the index": written,
            "answer": [answer],
        }
        last = -1
        for step, those in steps.items():
            last = min((call.end for call in those if call.begin > last), default=-1)
            if last < 0:
                wrong[uid] = step
                break
    return wrong


def traced(folder: Path, count: int, associations: int, *options: Argument) -> dict[str, str]:
    """The violations among `count` stores."""
    trace, studies = folder / "trace", [f"{ROOT_UID}.{each}" for each in range(associations)]
    command: list[Argument] = [strace(), *STRACE, trace]
    with (
        twistd_dimse(folder / "store", *options, under=command) as node,
        senders(folder / "log") as clients,
    ):
        clients.ask("load", node.port, "traced", studies, count // associations)
        os.killpg(node.process.pid, signal.SIGTERM)  # strace itself blocks it, and writes all
        node.process.wait(PATIENCE)
    _, stored = clients.log()
    assert len(stored) == count // associations * associations
    return violations(trace, stored)


@pytest.mark.parametrize("associations", [1, 4])
@pytest.mark.parametrize("count", [pytest.param(TRACED, id=f"{TRACED} instances")])
def test_a_success_is_sent_when_all_is_on_the_disk(tmp_path: Path, count: int, associations: int):
    """fsync of the file < link < fsync of the folder < commit of the index < C-STORE-RSP.

    The index is written, and not synced: a start finds what it has not among the objects.
    """
    assert traced(tmp_path, count, associations) == {}


def test_without_syncs_the_trace_says_so(tmp_path: Path):
    """The check itself: `relaxed` does not sync."""
    wrong = traced(tmp_path, 8, 4, "--durability", "relaxed")
    assert set(wrong.values()) == {"fsync of the file"}
    assert len(wrong) == 8
