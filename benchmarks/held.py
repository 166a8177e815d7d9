"""Many associations held open: `python -m benchmarks.held [--held 500] [--active 50] [--tls]`.

So many requestors have an association, with one C-ECHO behind them, and do nothing; so many others
send files meanwhile, and somebody else measures C-ECHO, each on an association of its own. At the
end each of those who waited asks once more and releases. Prints the failures, the C-ECHO, and what
an association costs the node: the growth of its resident memory over the number held. Who holds is
a process of its own, without Twisted, and who sends is another.
"""

import argparse
import asyncio
import json
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

import dimse
from benchmarks.common import (
    KIB,
    Receiver,
    echo_times,
    free_port,
    make_instances,
    percentile,
    running,
)
from benchmarks.siege import ECHO, REQUEST, connect, node
from dimse.ul.pdu import PDUType, ReleaseRQ

TLS = dimse.ClientTLS(insecure_unverified=True)  # the node has just made its certificate
AT_ONCE = 20  # associations that are requested at a time
SETTLED = 2  # seconds


class Holder:
    """One association that is held."""

    def __init__(self, number: int, port: int) -> None:
        self._number = number
        self._port = port

    async def begin(self, slots: asyncio.Semaphore, tls: ssl.SSLContext | None) -> None:
        """An association, and a C-ECHO."""
        async with slots:
            self._reader, self._writer = await connect(self._number, self._port, tls=tls)
            await self._ask(REQUEST, PDUType.ASSOCIATE_AC)
            await self._ask(ECHO, PDUType.P_DATA_TF)

    async def end(self) -> None:
        """Another C-ECHO, and the release."""
        await self._ask(ECHO, PDUType.P_DATA_TF)
        await self._ask(ReleaseRQ().encode(), PDUType.RELEASE_RP)
        self._writer.close()

    async def _ask(self, request: bytes, expected: PDUType) -> None:
        self._writer.write(request)
        header = await self._reader.readexactly(6)
        await self._reader.readexactly(int.from_bytes(header[2:], "big"))
        if header[0] != expected:
            raise ConnectionError(f"{PDUType(header[0]).name} instead of {expected.name}")


async def hold(port: int, count: int, secured: bool) -> None:
    """Tell when all are there, wait for a line, and tell how many could not be ended in order."""
    tls = ssl.create_default_context() if secured else None
    if tls is not None:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    holders, slots = [Holder(number, port) for number in range(count)], asyncio.Semaphore(AT_ONCE)
    await asyncio.gather(*(holder.begin(slots, tls) for holder in holders))
    print("held", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    ends = await asyncio.gather(*(holder.end() for holder in holders), return_exceptions=True)
    print(json.dumps(Counter(repr(end) for end in ends if end is not None)))


async def send(reactor: Any, port: int, folders: list[str], secured: bool) -> None:
    """An association for each folder, all at once; tells what became of their files."""
    results: Counter[str] = Counter()

    async def one(folder: str) -> None:
        tls = TLS if secured else None
        async for result in dimse.send(f"127.0.0.1:{port}", [folder], tls=tls, reactor=reactor):
            results[repr(result.error or int(result.status or 0))] += 1

    await gatherResults([Deferred.fromCoroutine(one(folder)) for folder in folders])
    print(json.dumps(results))


def measure(receiver: Receiver, port: int, folders: list[str], options: Any) -> int:
    """Print all; returns the failures."""
    secured, failures = ["--tls"] * options.tls, 0
    me = [sys.executable, "-m", "benchmarks.held", *secured]
    echoes = partial(echo_times, port, tls=TLS if options.tls else None)
    end = time.perf_counter() + SETTLED
    say("nobody else", echoes(lambda: time.perf_counter() > end))
    base = receiver.memory
    with subprocess.Popen(
        [*me, "--hold", str(port), "--held", str(options.held)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holders:
        assert holders.stdout is not None
        if holders.stdout.readline() != "held\n":
            sys.exit("not all associations were accepted")
        time.sleep(SETTLED)
        each = (receiver.memory - base) / options.held / KIB
        print(f"{options.held} held: {each:.1f} KiB each, above {base / KIB:.0f} KiB")
        begin = time.perf_counter()
        with subprocess.Popen(
            [*me, "--send", str(port), *folders], stdout=subprocess.PIPE, text=True
        ) as senders:
            say(f"{options.active} send", echoes(lambda: senders.poll() is not None))
            results, _ = senders.communicate()
        seconds = time.perf_counter() - begin
        print(f"C-STORE: {results.strip()} (status or error) in {seconds:.1f} s")
        failures += sum(n for result, n in json.loads(results).items() if result != "0")
        failures += senders.returncode
        ends, _ = holders.communicate("end\n")
    failures += sum(json.loads(ends).values())
    print(f"could not be ended in order: {ends.strip()}")
    return int(failures)


def say(title: str, times: list[float]) -> None:
    """One line of what was measured."""
    print(
        f"{title:12} {len(times):5} C-ECHO: median {median(times):6.1f} ms, "
        f"p99 {percentile(times, 0.99):6.1f} ms, longest {times[-1]:6.1f} ms"
    )


def held_node(options: Any, tls_port: int, port: int, folder: Path) -> list[str]:
    """One that takes so many."""
    most = str(options.held + 2 * options.active + 10)
    allowed = ("--associations", most, "--associations-per-address", most)
    return [*node(port, folder, tls_port), *allowed]


def main() -> None:
    """Run one of the three processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--held", type=int, default=500)
    parser.add_argument("--active", type=int, default=50)
    parser.add_argument("--files", type=int, default=80, help="of each who sends")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--hold", metavar="PORT", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--send", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hold:
        asyncio.run(hold(options.hold, options.held, options.tls))
        return
    if options.send:
        port, *folders = options.send
        react(lambda reactor: Deferred.fromCoroutine(send(reactor, port, folders, options.tls)))
    with tempfile.TemporaryDirectory() as name:
        below, tls_port = Path(name), free_port()
        folders = [
            str(make_instances(below / f"files{number}", options.files, 128 * KIB))
            for number in range(options.active)
        ]
        with running(partial(held_node, options, tls_port), below) as receiver:
            port = tls_port if options.tls else receiver.port
            sys.exit(measure(receiver, port, folders, options) > 0)


if __name__ == "__main__":
    main()
