"""What a node keeps of those who have left: `python -m benchmarks.leaks [--only connects]`.

Connections that say nothing, associations, C-STOREs cut off in their data set, requests that are
rejected: so many of each, one after the other, and the resident memory of the node over the second
half of them, in bytes for each. Descriptors, threads and partial files have to be as before.
"""

import argparse
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.common import dimse_node, free_port
from dimse import blocking
from dimse.message.messages import CStoreRQ
from dimse.ul.negotiation import propose
from dimse.ul.pdu import PDV, PDataTF, ReleaseRQ

VERIFICATION, CT = "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
SETTLED = 2  # seconds in which the node has taken all that wait to be accepted
SAMPLES = 20  # of the memory, over the second half


def _request(called: str) -> bytes:
    return propose(
        [(VERIFICATION, [EXPLICIT]), (CT, [EXPLICIT])],
        called_ae_title=called,
        calling_ae_title="LEAKS",
        maximum_length=16384,
    ).encode()


REQUEST, WRONG = _request("ARCHIVE"), _request("ELSE")
RELEASE = ReleaseRQ().encode()
STORE = CStoreRQ(
    message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3", priority=0
).encode(has_data_set=True)
CUT_OFF = PDataTF((PDV(3, 3, STORE),)).encode() + PDataTF((PDV(3, 0, bytes(8192)),)).encode()


def connects(peer: socket.socket) -> None:
    """Nothing is said."""


def associations(peer: socket.socket) -> None:
    """One, and its release."""
    peer.sendall(REQUEST)
    peer.recv(65536)
    peer.sendall(RELEASE)
    peer.recv(65536)


def aborted_stores(peer: socket.socket) -> None:
    """The connection is reset in the middle of a data set."""
    peer.sendall(REQUEST)
    peer.recv(65536)
    peer.sendall(CUT_OFF)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def rejected(peer: socket.socket) -> None:
    """For its called AE title."""
    peer.sendall(WRONG)
    peer.recv(65536)


KINDS: dict[str, tuple[Callable[[socket.socket], None], int]] = {
    "connects": (connects, 100_000),
    "associations": (associations, 10_000),
    "aborted_stores": (aborted_stores, 10_000),
    "rejected": (rejected, 10_000),
}


def slope(samples: list[tuple[int, int]]) -> float:
    """Of the line nearest to (count, bytes)."""
    xs, ys = zip(*samples, strict=True)
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    above = sum((a - x) * (b - y) for a, b in samples)
    return float(above / sum((a - x) ** 2 for a in xs))


def run(process: psutil.Process, port: int, one: Callable[[socket.socket], None], n: int) -> float:
    """Bytes for each of `n`, over the second half."""
    samples = []
    for number in range(n):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as peer:
            one(peer)
        if number >= n // 2 and number % (n // 2 // SAMPLES) == 0:
            samples.append((number, process.memory_info().rss))
    time.sleep(SETTLED)
    return slope(samples)


def held(process: psutil.Process, folder: Path) -> tuple[int, int, int]:
    """Descriptors, threads, and partial files."""
    return process.num_fds(), process.num_threads(), len(list(folder.glob("**/*.part")))


def main() -> None:
    """Each kind at a node that has done all of them before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=KINDS, action="append")
    parser.add_argument("--share", type=float, default=1, help="of the counts, such as 0.1")
    options = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        command = [*dimse_node(port, Path(name)), "--aet", "ARCHIVE"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as node:
            try:
                process = psutil.Process(node.pid)
                _await(port)
                for one, _ in KINDS.values():
                    run(process, port, one, 200)
                time.sleep(1)
                before = held(process, Path(name))
                for kind in options.only or KINDS:
                    one, count = KINDS[kind]
                    count = int(count * options.share)
                    begin = time.perf_counter()
                    each = run(process, port, one, count)
                    seconds = time.perf_counter() - begin
                    print(f"{kind:15} {count:7}: {each:7.1f} bytes each  ({seconds:.0f} s)")
                time.sleep(1)
                after = held(process, Path(name))
                print(f"descriptors, threads, partial files: {before} before, {after} after")
            finally:
                node.terminate()
    sys.exit(before != after)


def _await(port: int) -> None:
    while True:
        try:
            with blocking.associate(f"127.0.0.1:{port}", called_ae_title="ARCHIVE"):
                return
        except Exception as error:  # noqa: BLE001  until it listens
            print(f"waiting: {type(error).__name__}", file=sys.stderr)
            time.sleep(0.5)


if __name__ == "__main__":
    main()
