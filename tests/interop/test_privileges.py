"""The node as root starts it: what it may and does afterwards (H-A06, K15, K29)."""

import os
import pwd
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from tests.interop.archives import ROOT, script
from tests.peers import Server, run, running
from tests.scripted import RQ

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to give up"),
]

USER = pwd.getpwnam("nobody")
CLOEXEC = 0o2000000  # of Linux, as /proc shows it
NAMES = ["Yamada^Tarou=山田^太郎", "Ли^Тянь", "$(touch hacked)^`touch hacked`;touch hacked"]
CHARSETS = [["", "ISO 2022 IR 87"], "ISO_IR 144", "ISO_IR 192"]


def privileged_port() -> int:
    """One that only root can bind, and that nobody has."""
    for port in range(1023, 600, -1):
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    pytest.fail("no port below 1024 is free")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the user of the node may write; those of pytest are for root alone."""
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, USER.pw_uid, USER.pw_gid)
        yield Path(name)


@pytest.fixture
def node(folder: Path) -> Iterator[Server]:
    port = privileged_port()
    command = [*script("watched_node"), "--nodaemon", "--pidfile=", f"--rundir={folder}"]
    user = ["--uid", str(USER.pw_uid), "--gid", str(USER.pw_gid)]
    listen = f"tcp:{port}:interface=127.0.0.1"
    options = ["--listen", listen, "--storage", str(folder / "store"), "--disk-reserve", "0"]
    shell = ["sh", "-c", 'umask 000; exec "$@"', "sh", *command, *user, "dimse", *options]
    with running(shell, port, {"PYTHONPATH": str(ROOT)}, ROOT) as node:
        yield node


def dimse(node: Server, verb: str, *arguments: str) -> str:
    done = run([sys.executable, "-m", "dimse", verb, "127.0.0.1", str(node.port), *arguments])
    assert done.returncode == 0, done.stdout
    return done.stdout


def write_instances(folder: Path) -> None:
    for number, (name, charset) in enumerate(zip(NAMES, CHARSETS, strict=True), 1):
        made = Dataset()
        made.SpecificCharacterSet = charset
        made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, f"1.2.3.{number}"
        made.StudyInstanceUID, made.SeriesInstanceUID = f"1.2.{number}", "1.2.3"
        made.PatientName, made.PatientID = name, str(number)
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.save_as(folder / f"{number}.dcm", enforce_file_format=True)


def test_h_a06_all_works_without_privileges_and_nobody_else_can_read_it(
    node: Server, folder: Path, tmp_path: Path
) -> None:
    """The port is one that only root can bind, and the umask is that of somebody careless.

    Nothing is imported that the user might not be able to read, no program is run, and no name of
    an address is asked for (K15).
    """
    write_instances(tmp_path)
    dimse(node, "store", str(tmp_path))
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    (uids,) = (line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
    assert set(uids) == {str(USER.pw_uid)}
    key = ["-k", "QueryRetrieveLevel=STUDY"]
    for number, name in enumerate(("山田", "Ли"), 1):
        pattern = ["-k", "SpecificCharacterSet=ISO_IR 192", "-k", f"PatientName=*{name}*"]
        assert f"1.2.{number}" in dimse(node, "find", *key, "-k", "StudyInstanceUID", *pattern)
    for number in range(1, 4):
        study = f"StudyInstanceUID=1.2.{number}"
        dimse(node, "get", "-od", str(tmp_path / "got"), *key, "-k", study)
    assert len(list((tmp_path / "got").iterdir())) == len(NAMES)
    dimse(node, "commit", *map(str, tmp_path.glob("*.dcm")))
    assert list(folder.rglob("hacked")) == []
    for path in (folder / "store", *(folder / "store").rglob("*")):
        found = path.lstat()
        expected = 0o700 if path.is_dir() else 0o600
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (expected, USER.pw_uid), path
    node.stop()
    assert [line for line in node.log().splitlines() if "watched: " in line] == []
    assert "Traceback" not in node.log()


def test_k29_no_file_is_inherited(node: Server) -> None:
    """Whatever a hook of an application would start."""
    with socket.create_connection(("127.0.0.1", node.port)) as peer:
        peer.sendall(RQ)
        assert peer.recv(65536)[0] == 2  # A-ASSOCIATE-AC
        opened = {}
        for info in Path(f"/proc/{node.process.pid}/fdinfo").iterdir():
            (flags,) = (x for x in info.read_text().splitlines() if x.startswith("flags:"))
            if int(info.name) > 2:
                opened[os.readlink(info.parent.parent / "fd" / info.name)] = int(flags[6:], 8)
    assert any(name.startswith("socket:") for name in opened)
    assert {name for name, flags in opened.items() if not flags & CLOEXEC} == set()
