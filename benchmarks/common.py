"""What the benchmarks share: input files, receivers, and runs in pairs."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    generate_uid,
)

from dimse import ClientTLS, blocking

KIB, MIB = 1024, 1024 * 1024
START_SECONDS = 30


def make_instances(
    folder: Path, count: int, size: int, pixels: Callable[[int], bytes] = bytes
) -> Path:
    """`count` DICOM files of about `size` bytes, each with its own SOP Instance UID.

    `pixels(size)` makes what is in them.
    """
    folder.mkdir(parents=True)
    for number in range(count):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
        dataset.SOPInstanceUID = generate_uid()
        dataset.StudyInstanceUID = dataset.SeriesInstanceUID = generate_uid()
        dataset.Modality = "OT"
        dataset.PatientID = "BENCHMARK"
        dataset.Rows = dataset.Columns = 512
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit = 15
        dataset.PixelRepresentation = 0
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.NumberOfFrames = max(size // (512 * 1024), 1)
        dataset.PixelData = pixels(size)
        dataset.save_as(folder / f"{number:05}.dcm", enforce_file_format=True)
    return folder


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass(frozen=True)
class Receiver:
    """A program that listens to `port` and writes into `folder`."""

    port: int
    folder: Path
    process: psutil.Process

    @property
    def memory(self) -> int:
        """Resident, in bytes."""
        return int(self.process.memory_info().rss)

    @property
    def peak(self) -> int:
        """The most memory that it had since `forget_peak`, as the kernel has seen it."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * KIB

    def forget_peak(self) -> None:
        """Its memory of now is the most (proc(5), clear_refs)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


@contextmanager
def running(
    command: Callable[[int, Path], Sequence[str]], below: Path, **environment: str
) -> Iterator[Receiver]:
    """Run a receiver that writes into a folder of its own `below` another."""
    port, folder = free_port(), Path(tempfile.mkdtemp(dir=below))
    process = subprocess.Popen(
        command(port, folder),
        env=os.environ | environment,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await_port(port)
        yield Receiver(port, folder, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


@contextmanager
def server(
    command: Callable[[int, Path], Sequence[str]], below: Path, **environment: str
) -> Iterator[int]:
    """The same; yields its port."""
    with running(command, below, **environment) as receiver:
        yield receiver.port


def _await_port(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def dimse_node(port: int, folder: Path) -> list[str]:
    """Our node, without fsync, because no peer here syncs either."""
    return [
        *(sys.executable, "-m", "twisted", "--log-file", os.devnull, "dimse"),
        *("--listen", f"tcp:{port}:interface=127.0.0.1", "--durability", "relaxed"),
        *("--storage", str(folder)),
    ]


def dimse_node_durable(port: int, folder: Path) -> list[str]:
    """Our node as it is by default: synced before each success."""
    return [word for word in dimse_node(port, folder) if word not in ("--durability", "relaxed")]


def storescp(port: int, folder: Path) -> list[str]:
    """DCMTK's receiver, writing what comes as it comes."""
    return [tool("storescp"), "+B", "-od", str(folder), str(port)]


def pynetdicom_storescp(port: int, folder: Path) -> list[str]:
    """pynetdicom's receiver."""
    return [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-q", "-od", str(folder)]


def tool(name: str) -> str:
    """A program of DCMTK, not the script of the same name that pynetdicom installs."""
    beside = Path(sys.executable).parent
    path = os.pathsep.join(
        each for each in os.environ["PATH"].split(os.pathsep) if Path(each) != beside
    )
    found = shutil.which(name, path=path)
    if found is None:
        sys.exit(f"{name} is missing: apt-get install dcmtk")
    return found


def timed(command: Sequence[str], **environment: str) -> float:
    """Seconds that a command takes; it has to succeed."""
    begin = time.perf_counter()
    # Without a time-out, for waiting with one looks only every 50 ms.
    subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def echo_times(port: int, over: Callable[[], bool], tls: ClientTLS | None = None) -> list[float]:
    """Milliseconds of C-ECHOs, each with an association of its own, in order of their length."""
    times = []
    while not over():
        begin = time.perf_counter()
        with blocking.associate(f"127.0.0.1:{port}", tls=tls) as association:
            association.echo()
        times.append(1000 * (time.perf_counter() - begin))
    return sorted(times)


def percentile(times: Sequence[float], share: float) -> float:
    """Of times in their order."""
    return times[min(int(share * len(times)), len(times) - 1)]


def compare(rounds: int, runs: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Run each in turn, `rounds` times, so that noise of the machine meets all alike.

    What one has left to be written to the disk does not burden the next.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            os.sync()
            seconds[name].append(run())
    return seconds


def report(title: str, seconds: dict[str, list[float]]) -> None:
    """One line a run: median, range, and the median of the ratios to the first, pair by pair."""
    first, *_ = seconds.values()
    print(f"\n{title}")
    for name, each in seconds.items():
        ratio = median(one / base for one, base in zip(each, first, strict=True))
        print(
            f"  {name:28} {median(each):8.2f} s  ({min(each):.2f} to {max(each):.2f})"
            f"  {ratio:6.2f} x"
        )
