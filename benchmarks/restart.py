"""How long a node takes to start: `python -m benchmarks.restart [--instances 10000] [--below DIR]`.

Fills a store, kills the node over it, and prints the seconds from the start of the process until
it has answered a C-ECHO: over an empty store, over this one, and when its index is gone.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from twisted.internet.defer import execute

from benchmarks.common import dimse_node_durable, free_port
from dimse import DimseError, Limits, blocking
from dimse.archive.archive import Archive
from dimse.services.dataset import encode
from dimse.services.storage import ReceivedInstance

ROOT = "1.2.826.0.1.3680043.10.1.98"


def fill(folder: Path, count: int) -> None:
    """An archive of so many instances of 4 kB, a hundred a study."""
    archive = Archive(
        folder, durability="relaxed", limits=Limits(disk_reserve=0), in_thread=execute
    ).open()
    operation: Any = None
    for number in range(count):
        made = Dataset()
        made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, f"{ROOT}.{number // 100}.{number}"
        made.StudyInstanceUID = f"{ROOT}.{number // 100}"
        made.SeriesInstanceUID = f"{ROOT}.{number // 100}.1"
        made.PatientID, made.Modality, made.PixelData = f"P{number // 200}", "CT", bytes(4000)
        made["PixelData"].VR = "OB"
        received = ReceivedInstance(
            CTImageStorage, made.SOPInstanceUID, ExplicitVRLittleEndian, "BENCHMARK", "ARCHIVE"
        )
        sink = archive.begin(received, operation)
        sink.write(memoryview(encode(made, ExplicitVRLittleEndian)))
        sink.finish()
    archive.close()


def start(folder: Path) -> float:
    """Seconds until a node over the store answers; then it is killed."""
    port = free_port()
    begin = time.perf_counter()
    process = subprocess.Popen(
        dimse_node_durable(port, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                blocking.echo(f"127.0.0.1:{port}")
            except DimseError:
                assert process.poll() is None
                time.sleep(0.01)
            else:
                return time.perf_counter() - begin
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Fill, start and kill, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--below", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dimse-benchmark-", dir=options.below) as folder:
        empty, full = Path(folder, "empty"), Path(folder, "full")
        fill(full, options.instances)
        os.sync()
        for name, store in (("empty", empty), (f"{options.instances} instances", full)):
            print(name, _line([start(store) for _ in range(options.rounds)]))
        for path in full.glob("index.sqlite*"):
            path.unlink()
        print(f"{options.instances} instances, index gone", _line([start(full)]))


def _line(seconds: list[float]) -> str:
    return f"{median(seconds):6.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    main()
