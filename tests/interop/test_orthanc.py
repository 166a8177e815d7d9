"""Storage commitment with Orthanc, which reports, and is told, on associations of their own."""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from tests.peers import Server, free_port, run, running

ROOT = Path(__file__).parents[2]
ENV = {"PYTHONPATH": str(ROOT)}
INSTANCE = Path(str(get_testdata_file("CT_small.dcm")))
CLASS = "1.2.840.10008.5.1.4.1.1.2"
UID = str(dcmread(INSTANCE, stop_before_pixels=True).SOPInstanceUID)
SECONDS = 30.0

ORTHANC = shutil.which("Orthanc", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(ORTHANC is None, reason="no Orthanc: apt-get install orthanc"),
]


@contextmanager
def orthanc(folder: Path, modality: int) -> Iterator[tuple[Server, str]]:
    """Orthanc with a modality DIMSE at that port, and the address of its REST interface."""
    port, http_port = free_port(), free_port()
    settings = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "DicomModalities": {"dimse": ["DIMSE", "127.0.0.1", modality]},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    assert ORTHANC is not None
    with running([ORTHANC, folder / "orthanc.json"], port) as server:
        yield server, f"http://127.0.0.1:{http_port}"


def dimse(command: str, port: int, *more: str | Path) -> tuple[int, str]:
    """Exit code and output of the command line."""
    titles = ("-aet", "DIMSE", "-aec", "ORTHANC")
    peer = ("127.0.0.1", str(port))
    done = run([sys.executable, "-m", "dimse", command, *peer, *titles, *more], env=ENV)
    return done.returncode, done.stdout


def test_it_reports_on_an_association_of_its_own(tmp_path: Path) -> None:
    """`dimse commit --listen` takes the result there."""
    ours = free_port()
    with orthanc(tmp_path, ours) as (server, _):
        assert dimse("store", server.port, INSTANCE)[0] == 0
        more = ("--uid", f"{CLASS}:1.2.3", "--listen", str(ours))
        code, output = dimse("commit", server.port, INSTANCE, *more)
    assert code == 1
    assert "1 committed, 1 failed" in output
    assert "1.2.3: 0x0112 (no such object instance)" in output


def test_it_is_told_on_an_association_of_ours(tmp_path: Path) -> None:
    """It releases its own as soon as the request is answered."""
    ours = free_port()
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / f"{UID}.dcm").write_bytes(INSTANCE.read_bytes())
    with orthanc(tmp_path, ours) as (server, rest):
        assert dimse("store", server.port, INSTANCE)[0] == 0
        script = ROOT / "examples" / "department_scp.py"
        peer = f"ORTHANC=127.0.0.1:{server.port}"
        with running([sys.executable, script, "127.0.0.1", str(ours), kept, peer], ours, ENV):
            asked = {"DicomInstances": [[CLASS, UID], [CLASS, "1.2.3"]]}
            path = call(f"{rest}/modalities/dimse/storage-commitment", asked)["Path"]
            result = outcome(f"{rest}{path}")
    assert result["Status"] == "Failure"
    assert [each["SOPInstanceUID"] for each in result["Success"]] == [UID]
    ((uid, reason),) = (
        (each["SOPInstanceUID"], each["FailureReason"]) for each in result["Failures"]
    )
    assert (uid, reason) == ("1.2.3", 0x0112)


def call(address: str, asked: object = None) -> Any:
    """What REST answers."""
    data = None if asked is None else json.dumps(asked).encode()
    with urlopen(address, data, timeout=SECONDS) as answer:
        return json.load(answer)


def outcome(address: str) -> Any:
    """The result of a commitment, when it is there."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        result = call(address)
        if result["Status"] != "Pending":
            return result
        time.sleep(0.05)
    raise AssertionError("no result came")
