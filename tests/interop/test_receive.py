"""C-STORE of real peers to `twistd dimse`: every syntax, every file.

The peers decode a file and encode it anew before they send it: DCMTK drops group lengths and
padding, for instance. So what arrives here is held against what arrives, from the same peer with
the same arguments, at DCMTK's storescp, which is told to keep the bits (`+B`): byte for byte.
"""

import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate

from tests.interop.corpus import (
    DATA,
    DCMTK_CANNOT_READ,
    PYNETDICOM_CANNOT_SEND,
    PYNETDICOM_ENCODES_ANEW,
    Receiver,
    as_sent,
    header,
    instances,
    name_of,
    read,
    rounds,
    take,
    transfer_syntax,
)
from tests.interop.syntaxes import COMPRESSED, UNCOMPRESSED, VIDEO, VIDEO_STORAGE
from tests.peers import Argument, free_port, run, tool

pytestmark = pytest.mark.peer

NODELAY = {"TCP_NODELAY": "1"}  # DCMTK's own variable

FOR_DCMTK = [path for path in instances() if name_of(path) not in DCMTK_CANNOT_READ]
PLAIN = [path for path in FOR_DCMTK if transfer_syntax(path) in UNCOMPRESSED.values()]


def dcmtk(
    receiver: Receiver, files: Iterable[Path], *options: str, env: dict[str, str] | None = None
) -> None:
    args: list[Argument] = [tool("storescu"), *options, "127.0.0.1", str(receiver.port), *files]
    done = run(args, env=NODELAY if env is None else env)
    assert done.returncode == 0, done.stdout


def pynetdicom(receiver: Receiver, folder: Path) -> None:
    args = [sys.executable, "-m", "pynetdicom", "storescu", "-v", "-r", "-cx"]
    done = run([*args, "127.0.0.1", str(receiver.port), folder])
    assert done.returncode == 0, done.stdout


def uids(paths: Sequence[Path]) -> set[str]:
    """Those of the data sets, by which both peers go."""
    return {header(path).SOPInstanceUID for path in paths}


@pytest.mark.parametrize(("option", "syntax"), (UNCOMPRESSED | COMPRESSED).items())
def test_dcmtk_in_every_syntax(node: Receiver, storescp_bits: Receiver, option: str, syntax: str):
    """All files that storescu can send in that syntax.

    It converts only what it has to: the other uncompressed syntaxes are in a second context.
    """
    same = [path for path in FOR_DCMTK if transfer_syntax(path) == syntax]
    files = PLAIN if option in UNCOMPRESSED else same
    assert files
    for each in rounds(files):
        for receiver in (node, storescp_bits):
            dcmtk(receiver, each, "-R", option)
        stored = take(node.folder)
        assert stored == take(storescp_bits.folder)
        assert stored.keys() == uids(each)
        own = {header(path).SOPInstanceUID: transfer_syntax(path) for path in each}
        for one in stored.values():
            assert one.transfer_syntax in (syntax, own[one.sop_instance_uid])


@pytest.mark.parametrize(("option", "syntax"), VIDEO.items())
def test_dcmtk_sends_video(
    node: Receiver, storescp_bits: Receiver, tmp_path: Path, option: str, syntax: uid.UID
):
    """Without `-R`: it proposes every SOP class that it knows beside the one it needs."""
    path = video(tmp_path, syntax)
    for receiver in (node, storescp_bits):
        dcmtk(receiver, [path], option)
    stored = take(node.folder)
    assert stored == take(storescp_bits.folder)
    assert [one.transfer_syntax for one in stored.values()] == [syntax]


@pytest.mark.parametrize("env", [{}, NODELAY], ids=["Nagle", "TCP_NODELAY"])
@pytest.mark.parametrize("combine", [[], ["+C"]], ids=["separate", "combined"])
def test_dcmtk_as_it_comes(
    node: Receiver, storescp_bits: Receiver, env: dict[str, str], combine: list[str]
):
    """No option at all, and one context for all transfer syntaxes, in which the acceptor picks."""
    first = next(rounds(PLAIN))
    dcmtk(node, first, "-R", *combine, env=env)
    dcmtk(storescp_bits, first, "-R", *combine)
    stored = take(node.folder)
    assert stored == take(storescp_bits.folder)
    assert stored.keys() == uids(first)


def test_dcmtk_invents_uids(node: Receiver):
    """One file 200 times on one association, each time as another instance."""
    ct = DATA / "test_files" / "CT_small.dcm"
    dcmtk(node, [ct], "-R", "+II", "--repeat", "200")
    assert len(take(node.folder)) == 200


@pytest.mark.parametrize("name", DCMTK_CANNOT_READ)
def test_dcmtk_refuses(name: str):
    """The list is right: storescu ends before it connects. Our own sender sends these."""
    done = run([tool("storescu"), "-R", "127.0.0.1", str(free_port()), DATA / name])
    assert "missing SOP class (or instance) in file" in done.stdout


def test_pynetdicom(node: Receiver, tmp_path: Path):
    """Every file that it can send, in its own syntax, and byte for byte where it leaves it so."""
    unable = PYNETDICOM_CANNOT_SEND | PYNETDICOM_ENCODES_ANEW
    files = [path for path in FOR_DCMTK if name_of(path) not in unable]
    for number, each in enumerate(rounds(files)):
        pynetdicom(node, copies(each, tmp_path / str(number)))
        stored = take(node.folder)
        assert stored.keys() == uids(each)
        for path in each:
            sent, got = read(path), stored[header(path).SOPInstanceUID]
            assert got.transfer_syntax == sent.transfer_syntax
            assert got.data_set == as_sent(sent.data_set), name_of(path)


def test_pynetdicom_encodes_anew(node: Receiver, storescp_bits: Receiver, tmp_path: Path):
    """The other files, held against storescp."""
    files = [DATA / name for name in PYNETDICOM_ENCODES_ANEW]
    for number, each in enumerate(rounds(files)):
        for receiver in (node, storescp_bits):
            pynetdicom(receiver, copies(each, tmp_path / f"{number}.{receiver.port}"))
        stored = take(node.folder)
        assert stored == take(storescp_bits.folder)
        assert stored.keys() == uids(each)


def copies(paths: Sequence[Path], folder: Path) -> Path:
    """A folder with nothing else in it, for a sender that takes one argument."""
    folder.mkdir()
    for number, path in enumerate(paths):
        shutil.copy(path, folder / f"{number}.dcm")
    return folder


def video(folder: Path, syntax: uid.UID) -> Path:
    """A multi-frame image with frames that are no video."""
    dataset = Dataset()
    dataset.SOPClassUID = VIDEO_STORAGE
    dataset.SOPInstanceUID = uid.generate_uid()
    dataset.PatientID = "1"
    dataset.Rows = dataset.Columns = 64
    dataset.NumberOfFrames = 2
    dataset.PixelData = encapsulate([b"\1\2\3\4" * 1000, b"\5\6" * 501])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    path = folder / "video.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path
