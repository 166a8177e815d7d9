"""How fast instances are received: `python -m benchmarks.receive [--folder /dev/shm] ...`.

One storescu at a time sends to each receiver in turn; the figure is the time of the whole
command. With the stock sender Nagle's algorithm is on; `nodelay` sets TCP_NODELAY=1 for sender
and receiver.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import (
    compare,
    dimse_node,
    dimse_node_durable,
    make_instances,
    pynetdicom_storescp,
    report,
    server,
    storescp,
    timed,
    tool,
)

MB = 1_000_000
CASES: dict[str, tuple[int, int, dict[str, str]]] = {
    "stock-400x525kB": (400, 525_000, {}),
    "nodelay-400x525kB": (400, 525_000, {"TCP_NODELAY": "1"}),
    "nodelay-2000x4kB": (2000, 4_000, {"TCP_NODELAY": "1"}),
    "nodelay-2x512MB": (2, 512 * 1024 * 1024, {"TCP_NODELAY": "1"}),
}
RECEIVERS = {
    "dimse (relaxed)": dimse_node,
    "storescp +B": storescp,
    "pynetdicom storescp": pynetdicom_storescp,
    "dimse (full durability)": dimse_node_durable,
}


def main() -> None:
    """Measure the cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=CASES, action="append")
    parser.add_argument("--receivers", choices=RECEIVERS, action="append")
    parser.add_argument("--folder", help="where files are read and written; a disk adds noise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dimse-benchmark-", dir=options.folder) as folder:
        inputs: dict[tuple[int, int], Path] = {}
        for name in options.only or CASES:
            count, size, environment = CASES[name]
            if (count, size) not in inputs:
                inputs[count, size] = make_instances(Path(folder, f"{count}x{size}"), count, size)
            files = inputs[count, size]
            runs = {
                receiver: _run(RECEIVERS[receiver], files, Path(folder), environment)
                for receiver in options.receivers or RECEIVERS
            }
            report(f"{name}: {count} x {size / MB:g} MB", compare(options.rounds, runs))


def _run(
    receiver: Callable[[int, Path], list[str]],
    files: Path,
    below: Path,
    environment: dict[str, str],
) -> Callable[[], float]:
    def run() -> float:
        with server(receiver, below, **environment) as port:
            send = [tool("storescu"), "+sd", "127.0.0.1", str(port), str(files)]
            return timed(send, **environment)

    return run


if __name__ == "__main__":
    main()
