"""Archives side by side: `python -m benchmarks.archive [--only in-400x525kB] [--rounds 5] ...`.

Our node beside dcmqrscp (DCMTK), qrscp (pynetdicom) and Orthanc, all with an index: instances in
from one storescu and from eight at once, a query with 5,000 matches by findscu, and a C-GET by
getscu. The figure is the time of the whole command, sender and receiver with TCP_NODELAY=1. Rounds
are interleaved; for each line in, every receiver begins empty.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from math import inf
from pathlib import Path
from shutil import which

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from benchmarks.common import (
    compare,
    dimse_node,
    dimse_node_durable,
    free_port,
    report,
    server,
    timed,
    tool,
)

NODELAY = {"TCP_NODELAY": "1"}
CALLED = "ARCHIVE"
MATCHES = 5000
SENDERS = 8

Node = Callable[[int, Path], list[str]]
Run = Callable[[], float]


def dcmqrscp(port: int, folder: Path) -> list[str]:
    """DCMTK's archive, with as many studies as its index can have, which is 500."""
    (folder / "storage").mkdir()
    config = folder / "dcmqrscp.cfg"
    config.write_text(
        f"""NetworkTCPPort = {port}
MaxPDUSize = 131072
MaxAssociations = 32
HostTable BEGIN
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
{CALLED} {folder / "storage"} RW (500, 1024mb) ANY
AETable END
"""
    )
    return [tool("dcmqrscp"), "-c", str(config)]


def qrscp(port: int, folder: Path) -> list[str]:
    """pynetdicom's archive."""
    (folder / "storage").mkdir()
    return [
        *(sys.executable, "-m", "pynetdicom", "qrscp", "-q", "--port", str(port)),
        *("-ba", "127.0.0.1", "-aet", CALLED, "-pdu", "131072"),
        *("--database-location", str(folder / "index.sqlite")),
        *("--instance-location", str(folder / "storage")),
    ]


def orthanc(port: int, folder: Path) -> list[str]:
    """Orthanc, without its HTTP server; what it syncs and compresses is as it comes."""
    config = folder / "orthanc.json"
    config.write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "storage"),
                "HttpServerEnabled": False,
                "HttpPort": free_port(),
                "DicomServerEnabled": True,
                "DicomAet": CALLED,
                "DicomPort": port,
                "DicomCheckCalledAet": False,
                "DicomAlwaysAllowEcho": True,
                "DicomAlwaysAllowStore": True,
                "DicomAlwaysAllowFind": True,
                "DicomAlwaysAllowGet": True,
                "RemoteAccessAllowed": False,
                "LimitFindResults": 0,
                "Plugins": [],
            }
        )
    )
    return [which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin") or "Orthanc", str(config)]


NODES: dict[str, Node] = {
    "dimse (full durability)": dimse_node_durable,
    "dimse (relaxed)": dimse_node,
    "dcmqrscp": dcmqrscp,
    "pynetdicom qrscp": qrscp,
    "Orthanc": orthanc,
}


def make_ct(folder: Path, count: int, size: int, *, per_series: int, per_study: int) -> Path:
    """`count` CT images of about `size` bytes, in a folder for each of the senders."""
    study = series = ""
    for number in range(count):
        if number % per_study == 0:
            study = generate_uid()
        if number % per_series == 0:
            series = generate_uid()
        below = folder / str(number * SENDERS // count)
        below.mkdir(parents=True, exist_ok=True)
        image = _ct_image(number, number // per_study, study, series, size)
        image.save_as(below / f"{number:05}.dcm", enforce_file_format=True)
    return folder


def _ct_image(number: int, patient: int, study: str, series: str, size: int) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SpecificCharacterSet = "ISO_IR 100"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = generate_uid()
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20240229"
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = "101500"
    image.AccessionNumber = f"A{patient:06}"
    image.Modality = "CT"
    image.Manufacturer, image.ManufacturerModelName = "ACME", "Scanner 64"
    image.InstitutionName, image.StationName = "General Hospital", "CT1"
    image.ReferringPhysicianName = "Referrer^Rita"
    image.StudyDescription, image.SeriesDescription = "CT Thorax", "Axial 1.0 mm"
    image.PatientName = f"Müller{patient}^Jörg"
    image.PatientID, image.PatientBirthDate = f"P{patient:06}", "19600101"
    image.PatientSex, image.PatientAge = "M", "064Y"
    image.BodyPartExamined, image.ProtocolName = "CHEST", "Thorax routine"
    image.SliceThickness, image.KVP, image.PatientPosition = "1.0", "120", "HFS"
    image.StudyInstanceUID, image.SeriesInstanceUID = study, series
    image.StudyID, image.SeriesNumber, image.InstanceNumber = f"S{patient}", "1", str(number + 1)
    image.FrameOfReferenceUID = study
    image.ImagePositionPatient = ["-150.0", "-150.0", f"{number}.0"]
    image.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = max(size // 1024, 1), 512
    image.PixelSpacing = ["0.6", "0.6"]
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelRepresentation = 0
    image.RescaleIntercept, image.RescaleSlope = "-1024", "1"
    image.PixelData = os.urandom(1024) * max(size // 1024, 1)
    return image


def _storescu(port: int, files: Path) -> list[str]:
    return [tool("storescu"), "+sd", "+r", "-aec", CALLED, "127.0.0.1", str(port), str(files)]


def _at_once(port: int, files: Path) -> list[str]:
    """One command that starts a storescu for each folder and succeeds when all do."""
    senders = [" ".join(_storescu(port, part)) for part in sorted(files.iterdir())]
    started = "".join(f'{sender} & all="$all $!"; ' for sender in senders)
    ended = 'status=0; for each in $all; do wait "$each" || status=1; done; exit $status'
    return ["sh", "-c", started + ended]


def _in(node: Node, below: Path, command: Callable[[int, Path], list[str]], files: Path) -> Run:
    def run() -> float:
        with server(node, below, **NODELAY) as port:
            try:
                return timed(command(port, files), **NODELAY)
            except subprocess.CalledProcessError:
                return inf  # it does not take all of them

    return run


def _find(port: int, level: str, *keys: str) -> list[str]:
    asked = [f"QueryRetrieveLevel={level}", *keys]
    words = [word for key in asked for word in ("-k", key)]
    return [tool("findscu"), "-S", "-q", "-aec", CALLED, *words, "127.0.0.1", str(port)]


STUDY_KEYS = (
    *("StudyInstanceUID", "PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "AccessionNumber", "StudyID", "StudyDescription"),
    *("ReferringPhysicianName", "ModalitiesInStudy", "NumberOfStudyRelatedInstances"),
)


def _get(port: int, study: str, into: Path) -> list[str]:
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
    options = ["-S", "+B", "-od", str(into), "-aec", CALLED]
    return [tool("getscu"), *options, *keys, "127.0.0.1", str(port)]


class Loaded:
    """Nodes that hold `files`, as long as it is open; one that refuses some is left out."""

    def __init__(self, nodes: dict[str, Node], files: Path, below: Path) -> None:
        self.ports: dict[str, int] = {}
        self._stack = ExitStack()
        for name, node in nodes.items():
            port = self._stack.enter_context(server(node, below, **NODELAY))
            try:
                timed(_storescu(port, files), **NODELAY)
            except subprocess.CalledProcessError:
                print(f"  {name}: does not take all of them")
            else:
                self.ports[name] = port

    def __enter__(self) -> dict[str, int]:
        return self.ports

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class Cases:
    """Each is a line of the report: what every node takes for the same."""

    def __init__(self, below: Path, rounds: int, nodes: dict[str, Node]) -> None:
        self._below = below
        self._rounds = rounds
        self._nodes = nodes
        self._made: dict[tuple[int, ...], Path] = {}

    def _files(self, count: int, size: int, per_series: int, per_study: int) -> Path:
        key = (count, size, per_series, per_study)
        if key not in self._made:
            folder = self._below / f"files-{len(self._made)}"
            make_ct(folder, count, size, per_series=per_series, per_study=per_study)
            self._made[key] = folder
        return self._made[key]

    def large_in(self, command: Callable[[int, Path], list[str]] = _storescu) -> None:
        """400 x 525 kB: one study of four series."""
        self._report_in("400 x 525 kB in", self._files(400, 525_000, 100, 400), command)

    def small_in(self, command: Callable[[int, Path], list[str]] = _storescu) -> None:
        """2000 x 4 kB: ten studies of four series."""
        self._report_in("2000 x 4 kB in", self._files(2000, 4_000, 50, 200), command)

    def _report_in(
        self, title: str, files: Path, command: Callable[[int, Path], list[str]]
    ) -> None:
        runs = {name: _in(node, self._below, command, files) for name, node in self._nodes.items()}
        many = f", {SENDERS} senders" if command is _at_once else ""
        report(title + many, compare(self._rounds, runs))

    def find_studies(self) -> None:
        """All studies."""
        self._report_find("STUDY", STUDY_KEYS, self._files(MATCHES, 1024, 1, 1))

    def find_images(self) -> None:
        """All images of a series, which dcmqrscp can have that many of."""
        files = self._files(MATCHES, 1025, MATCHES, MATCHES)
        first = _header(next(files.rglob("*.dcm")))
        keys = (
            f"StudyInstanceUID={first.StudyInstanceUID}",
            f"SeriesInstanceUID={first.SeriesInstanceUID}",
            *("SOPInstanceUID", "InstanceNumber", "SOPClassUID"),
        )
        self._report_find("IMAGE", keys, files)

    def _report_find(self, level: str, keys: Sequence[str], files: Path) -> None:
        with Loaded(self._nodes, files, self._below) as ports:
            asking = {name: _find(port, level, *keys) for name, port in ports.items()}
            for name, command in asking.items():
                _expect(name, _lines(["-v" if w == "-q" else w for w in command], "Pending"))
            runs: dict[str, Run] = {
                name: lambda command=command: timed(command, **NODELAY)  # type: ignore[misc]
                for name, command in asking.items()
            }
            report(f"C-FIND, {MATCHES} matches, level {level}", compare(self._rounds, runs))

    def get(self) -> None:
        """A study of 400 x 525 kB by C-GET."""
        files = self._files(400, 525_000, 100, 400)
        study = str(_header(next(files.rglob("*.dcm"))).StudyInstanceUID)

        def run(port: int) -> Run:
            def get() -> float:
                with tempfile.TemporaryDirectory(dir=self._below) as into:
                    seconds = timed(_get(port, study, Path(into)), **NODELAY)
                    if len(os.listdir(into)) != 400:
                        print(f"  {len(os.listdir(into))} of 400 came")
                    return seconds

            return get

        with Loaded(self._nodes, files, self._below) as ports:
            runs = {name: run(port) for name, port in ports.items()}
            report("400 x 525 kB out by C-GET", compare(self._rounds, runs))


def _header(path: Path) -> Dataset:
    return dcmread(path, stop_before_pixels=True)


def _lines(command: Sequence[str], word: str) -> int:
    """How many lines of what a command prints have `word`."""
    environment = os.environ | NODELAY
    done = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return sum(word.encode() in line for line in done.stdout.splitlines())


def _expect(name: str, matches: int) -> None:
    if matches != MATCHES:
        print(f"  {name}: {matches} matches, not {MATCHES}")


CASES: dict[str, Callable[[Cases], None]] = {
    "in-400x525kB": Cases.large_in,
    "in-2000x4kB": Cases.small_in,
    "in-400x525kB-8": lambda cases: cases.large_in(_at_once),
    "in-2000x4kB-8": lambda cases: cases.small_in(_at_once),
    "find-studies": Cases.find_studies,
    "find-images": Cases.find_images,
    "get-400x525kB": Cases.get,
}


def main() -> None:
    """Measure the cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=CASES, action="append")
    parser.add_argument("--nodes", choices=NODES, action="append")
    parser.add_argument("--folder", help="where files are read and written")
    options = parser.parse_args()
    nodes = {name: NODES[name] for name in options.nodes or NODES}
    with tempfile.TemporaryDirectory(prefix="dimse-benchmark-", dir=options.folder) as folder:
        cases = Cases(Path(folder), options.rounds, nodes)
        for name in options.only or CASES:
            CASES[name](cases)
            print(f"  load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
