"""A node under siege: `python -m benchmarks.siege [--slow 2000] [--silent 200] [--deaf 50]`.

Others open connections and send an A-ASSOCIATE-RQ byte by byte, open connections for TLS and say
nothing, or have an association, ask and ask and never read. Meanwhile somebody who belongs measures
his C-ECHO, each on an association of its own, and the rate of his C-STORE; before, he did so
without them. Prints both, and when the node let go of the last of each kind. The besiegers are
a process of their own, without Twisted; the node has its default limits.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from ssl import SSLContext
from statistics import median

from benchmarks.common import (
    dimse_node,
    echo_times,
    free_port,
    make_instances,
    percentile,
    server,
    tool,
)
from dimse import Limits
from dimse.message.messages import CEchoRQ
from dimse.ul.negotiation import propose
from dimse.ul.pdu import PDV, PDataTF

VERIFICATION, IMPLICIT = "1.2.840.10008.1.1", "1.2.840.10008.1.2"
ADDRESSES = 40  # of the besiegers: 127.0.1.1 and so on, of the deaf ones 127.0.2.1
PATIENCE = 180.0  # seconds that a besieger stays at most: three times the longest time-out
REQUEST = propose(
    [(VERIFICATION, [IMPLICIT])],
    called_ae_title="ARCHIVE",
    calling_ae_title="SIEGE",
    maximum_length=16384,
).encode()
ECHO = PDataTF(
    (PDV(1, 3, CEchoRQ(message_id=1, affected_sop_class_uid=VERIFICATION).encode()),)
).encode()


async def connect(
    number: int, port: int, net: int = 1, tls: SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """From one of the besiegers' addresses."""
    local = (f"127.0.{net}.{number % ADDRESSES + 1}", 0)
    return await asyncio.open_connection("127.0.0.1", port, local_addr=local, limit=1024, ssl=tls)


async def slow(number: int, port: int) -> None:
    """An A-ASSOCIATE-RQ, a byte every five seconds."""
    reader, writer = await connect(number, port)
    for byte in REQUEST:
        writer.write(bytes((byte,)))
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.read(), 5)
            break


async def silent(number: int, port: int) -> None:
    """Not a byte."""
    reader, _ = await connect(number, port)
    await reader.read()


async def deaf(number: int, port: int) -> None:
    """Its window closes at once; it asks and asks until it is let go."""
    _, writer = await connect(number, port, 2)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    writer.write(REQUEST)
    while True:
        writer.write(ECHO * 100)
        await writer.drain()


async def stays(kind: str, number: int, port: int) -> float:
    """Seconds until the node let go of it."""
    begin = time.perf_counter()
    besieger = {"slow": slow, "silent": silent, "deaf": deaf}[kind]
    with suppress(OSError):
        await asyncio.wait_for(besieger(number, port), PATIENCE)
    return time.perf_counter() - begin


async def besiege(counts: dict[str, int], ports: dict[str, int]) -> dict[str, float]:
    """The longest stay of each kind."""
    kinds = [(kind, number) for kind, count in counts.items() for number in range(count)]
    stayed = await asyncio.gather(*(stays(kind, n, ports[kind]) for kind, n in kinds))
    longest: dict[str, float] = dict.fromkeys(counts, 0.0)
    for (kind, _), seconds in zip(kinds, stayed, strict=True):
        longest[kind] = max(longest[kind], seconds)
    return longest


def node(port: int, folder: Path, tls_port: int) -> list[str]:
    """Ours, with a listener for TLS as well."""
    certificate = folder / "node.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=localhost", "-days", "2"),
            *("-keyout", str(certificate), "-out", str(folder / "certificate.pem")),
        ],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    with certificate.open("a") as both:
        both.write((folder / "certificate.pem").read_text())
    tls = ("--tls-cert", str(certificate), "--tls-client-auth", "none", "--tls-port", str(tls_port))
    return [*dimse_node(port, folder), *tls]


class Visitor:
    """Who belongs: his C-ECHO, until he is told to stop, and his C-STORE."""

    def __init__(self, port: int, files: Path) -> None:
        self._port = port
        self._store = [tool("storescu"), "-aec", "ARCHIVE", "+sd", "127.0.0.1", str(port)]
        self._store.append(str(files))

    def echo(self, seconds: float) -> list[float]:
        """Milliseconds of each, with its association."""
        end = time.perf_counter() + seconds
        return echo_times(self._port, lambda: time.perf_counter() >= end)

    def store(self) -> float:
        """Seconds that all files take."""
        begin = time.perf_counter()
        subprocess.run(
            self._store,
            env=os.environ | {"TCP_NODELAY": "1"},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - begin

    def measure(self, seconds: float, rounds: int) -> tuple[list[float], float]:
        """Milliseconds of each C-ECHO, and the median of the seconds for all files."""
        echoes = self.echo(seconds)
        return echoes, median(self.store() for _ in range(rounds))


def say(title: str, echoes: Sequence[float], stored: float) -> None:
    """One line of what a visitor measured."""
    print(
        f"{title:10} {len(echoes):5} C-ECHO: median {median(echoes):6.1f} ms, "
        f"p99 {percentile(echoes, 0.99):6.1f} ms;  C-STORE of all files {stored:5.2f} s"
    )


def main() -> None:
    """Measure, besiege, measure again."""
    parser = argparse.ArgumentParser(description=__doc__)
    for kind, count in (("slow", 2000), ("silent", 200), ("deaf", 50)):
        parser.add_argument(f"--{kind}", type=int, default=count)
    parser.add_argument("--besiege", metavar="PORTS", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    counts = {kind: getattr(options, kind) for kind in ("slow", "silent", "deaf")}
    if options.besiege:
        print(json.dumps(asyncio.run(besiege(counts, options.besiege))))
        return
    limits, tls_port = Limits(), free_port()
    with tempfile.TemporaryDirectory() as name:
        below = Path(name)
        files = make_instances(below / "files", 200, 64 * 1024)
        with server(lambda port, folder: node(port, folder, tls_port), below) as port:
            visitor = Visitor(port, files)
            visitor.store()
            say("in peace", *visitor.measure(5, 5))
            ports = json.dumps({"slow": port, "silent": tls_port, "deaf": port})
            numbers = [word for kind, n in counts.items() for word in (f"--{kind}", str(n))]
            with subprocess.Popen(
                [sys.executable, "-m", "benchmarks.siege", *numbers, "--besiege", ports],
                stdout=subprocess.PIPE,
            ) as besiegers:
                time.sleep(2)
                say("besieged", *visitor.measure(5, 5))
                out, _ = besiegers.communicate()
            for kind, seconds in json.loads(out).items():
                bound = limits.write_stall if kind == "deaf" else limits.artim
                print(f"the last that was {kind:7} was let go after {seconds:5.1f} s ({bound:g})")


if __name__ == "__main__":
    main()
