"""Queries over a large index: `python -m benchmarks.index [--instances 1000000] [--index URL]`.

Fills an index with studies of two series of five instances, and prints how long the database and
the matching take for study-level queries, and how large the process and the index are.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from statistics import median

from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dimse.archive.attributes import Attributes, Level
from dimse.archive.identifier import keys_of
from dimse.archive.index import Index, sqlite_url
from dimse.archive.objects import StoredInstance
from dimse.archive.selection import Selection
from dimse.services.storage import ReceivedInstance

ROOT = "1.2.826.0.1.3680043.10.1.99"
AT_ONCE = 2000
QUERIES = {
    "Patient ID": {"PatientID": "P0001234"},
    "Patient's Name": {"PatientName": "name00123*"},
    "Accession Number": {"AccessionNumber": "A0004321"},
    "Study Instance UID": {"StudyInstanceUID": f"{ROOT}.777"},
    "one day": {"StudyDate": "20200315"},
    "one day, MR": {"StudyDate": "20200315", "ModalitiesInStudy": "MR"},
    "a name nobody has": {"PatientName": "nobody*"},
}


def instances(count: int) -> Iterator[StoredInstance]:
    """So many, ten a study."""
    for number in range(count // 10):
        for image in range(10):
            study, series = f"{ROOT}.{number}", f"{ROOT}.{number}.{image // 5}"
            uid = f"{series}.{image}"
            received = ReceivedInstance(CTImageStorage, uid, ExplicitVRLittleEndian, "", "")
            patient, month, day = number // 2, number // 24 % 12 + 1, number // 288 % 28 + 1
            attributes: Attributes = {
                0x00100020: f"P{patient:07}",
                0x00100010: f"Name{patient:05}^Given",
                0x0020000D: study,
                0x0020000E: series,
                0x00080018: uid,
                0x00080016: CTImageStorage,
                0x00080020: f"20{number % 24:02}{month:02}{day:02}",
                0x00080030: f"{number % 24:02}1500",
                0x00080050: f"A{number:07}",
                0x00200010: f"S{number}",
                0x00081030: "Chest routine",
                0x00080060: "MR" if number % 3 else "CT",
                0x00200011: str(image // 5 + 1),
                0x00200013: str(image + 1),
            }
            yield StoredInstance(received, 300, 525_000, "0" * 64, attributes)


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=1_000_000)
    parser.add_argument("--index", help="URL of an empty database, SQLite in a folder unless given")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dimse-benchmark-") as folder:
        index = Index(options.index or sqlite_url(Path(folder)), durable=False).open()
        begin = time.perf_counter()
        source = instances(options.instances)
        while some := list(islice(source, AT_ONCE)):
            index.add(some)
        print(f"{options.instances} instances in {time.perf_counter() - begin:.0f} s")
        for name, keys in QUERIES.items():
            print(_ask(index, name, keys, options.rounds))
        size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(f"index {size:.0f} MB, this process at most {peak:.0f} MB")


def _ask(index: Index, name: str, keys: dict[str, str], rounds: int) -> str:
    identifier = Dataset()
    identifier.StudyInstanceUID = identifier.PatientName = identifier.StudyDescription = ""
    identifier.ModalitiesInStudy = identifier.NumberOfStudyRelatedInstances = ""
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    seconds, found = [], 0
    for _ in range(rounds):
        begin = time.perf_counter()
        found = len(list(chain(*Selection(index, Level.STUDY, keys_of(identifier)).pages())))
        seconds.append(time.perf_counter() - begin)
    return f"  {name:24} {found:6} studies {median(seconds) * 1000:8.1f} ms"


if __name__ == "__main__":
    main()
