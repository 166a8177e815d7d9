"""C-GET and C-MOVE between us and real peers that take few transfer syntaxes, and by UIDs alone."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)

from dimse import FolderStore, associate, get, get_contexts, move
from dimse.sop_classes import COMPOSITE_INSTANCE_ROOT, WITHOUT_BULK_DATA
from tests.interop.archives import ROOT, script, succeeding
from tests.interop.corpus import DATA, Receiver, read
from tests.peers import Argument, free_port, running, tool

pytest.importorskip("numpy", reason="pip install 'dimse[transcode]'")
pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

NAMES = {  # each with the same pixels in another transfer syntax, and a UID of its own here
    "MR_small.dcm": "1.2.3.1",
    "MR_small_implicit.dcm": "1.2.3.2",
    "MR_small_expb.dcm": "1.2.3.3",
    "MR_small_RLE.dcm": "1.2.3.4",
    "MR_small_jp2klossless.dcm": "1.2.3.5",
    "MR_small_jpeg_ls_lossless.dcm": "1.2.3.6",
}
PIXELS = dcmread(DATA / "test_files" / "MR_small.dcm").PixelData
UIDS = list(NAMES.values())
STUDY = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with these instances."""
    folder = tmp_path_factory.mktemp("stored")
    for name, uid in NAMES.items():
        dataset = dcmread(DATA / "test_files" / name)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid)
        dataset.save_as(folder / name)
    return folder


@pytest.fixture(scope="module")
def archive(stored: Path) -> Iterator[str]:
    """The port of our own, which has them."""
    port = free_port()
    with running([*script("retrieve_node"), str(port), stored], port, cwd=ROOT):
        yield str(port)


@pytest.fixture(scope="module")
def pynetdicom(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The port of pynetdicom's, which has two of them."""
    port, folder = free_port(), tmp_path_factory.mktemp("some")
    for name in ("MR_small.dcm", "MR_small_implicit.dcm"):
        shutil.copy(stored / name, folder)
    args: list[Argument] = [*script("composite_pynetdicom"), "serve", str(port), folder]
    with running(args, port, cwd=ROOT):
        yield str(port)


def check(folder: Path, syntax: str, uids: list[str] = UIDS) -> None:
    """All are there, in that transfer syntax, with the pixels they had; takes them away."""
    found = {path: read(path) for path in folder.iterdir()}
    assert sorted(each.sop_instance_uid for each in found.values()) == sorted(uids)
    for path, each in found.items():
        assert each.transfer_syntax == syntax
        dataset = dcmread(path)
        assert dataset.PixelData == PIXELS
        assert dataset.SOPInstanceUID == each.sop_instance_uid
        path.unlink()


@pytest.mark.parametrize(
    ("option", "syntax"),
    [
        ("+xe", ExplicitVRLittleEndian),
        ("+xb", ExplicitVRLittleEndian),
        ("+xr", ExplicitVRLittleEndian),
        ("+xs", ExplicitVRLittleEndian),
        ("+xd", DeflatedExplicitVRLittleEndian),
    ],
)
def test_getscu(archive: str, tmp_path: Path, option: str, syntax: str):
    """It proposes what it prefers before the uncompressed ones, all in one context."""
    args: list[Argument] = [tool("getscu"), "-S", option, *STUDY, "-od", tmp_path]
    succeeding([*args, "127.0.0.1", archive], cwd=tmp_path)
    check(tmp_path, syntax)


def moved(archive: str, folder: Path, *options: str) -> dict[str, str]:
    """The transfer syntax in which each instance gets to a storescp with these options."""
    port = free_port()
    with running([tool("storescp"), *options, "-od", folder, str(port)], port):
        args: list[Argument] = [tool("movescu"), "-S", *STUDY, "-aem", str(port)]
        succeeding([*args, "127.0.0.1", archive], cwd=folder)
    return {each.sop_instance_uid: each.transfer_syntax for each in map(read, folder.iterdir())}


def test_movescu_to_a_storescp_of_the_default_alone(archive: str, tmp_path: Path):
    moved(archive, tmp_path, "+xi")
    check(tmp_path, ImplicitVRLittleEndian)


def test_movescu_to_a_storescp_of_all(archive: str, tmp_path: Path):
    """Nothing is converted where nothing need be."""
    syntaxes = moved(archive, tmp_path, "+B", "+xa")
    assert len(set(syntaxes.values())) == len(NAMES) == len(syntaxes)


def test_movescu_to_a_storescp_of_uncompressed_ones(archive: str, tmp_path: Path):
    """They stay as they are; the others become explicit VR little endian."""
    syntaxes = moved(archive, tmp_path, "+B", "+xe")
    assert syntaxes.pop(NAMES["MR_small_implicit.dcm"]) == ImplicitVRLittleEndian
    assert syntaxes.pop(NAMES["MR_small_expb.dcm"]) == ExplicitVRBigEndian
    assert list(syntaxes.values()) == [ExplicitVRLittleEndian] * (len(NAMES) - 2)


class TestByUIDsAlone:
    """Composite Instance Root Retrieve, and Retrieve Without Bulk Data (PS3.4 Y, Z)."""

    def ask(self, *arguments: Argument) -> None:
        succeeding([*script("composite_pynetdicom"), *arguments], cwd=ROOT)

    def test_pynetdicom_gets_from_us(self, archive: str, tmp_path: Path):
        self.ask("get", archive, tmp_path, *UIDS[2:])
        check(tmp_path, ExplicitVRLittleEndian, UIDS[2:])

    def test_pynetdicom_moves_from_us(self, archive: str, pynetdicom_implicit: Receiver):
        self.ask("move", archive, str(pynetdicom_implicit.port), *UIDS[:4])
        check(pynetdicom_implicit.folder, ImplicitVRLittleEndian, UIDS[:4])

    def test_pynetdicom_gets_from_us_without_bulk_data(
        self, archive: str, stored: Path, tmp_path: Path
    ):
        self.ask("bare", archive, tmp_path, *UIDS)
        for name, uid in NAMES.items():
            bare, whole = dcmread(tmp_path / uid), dcmread(stored / name)
            assert "PixelData" not in bare
            del whole.PixelData
            assert essence(bare) == essence(whole)

    @pytest.mark.parametrize("model", [COMPOSITE_INSTANCE_ROOT, WITHOUT_BULK_DATA])
    @pytest_twisted.ensureDeferred
    async def test_we_get_from_pynetdicom(self, pynetdicom: str, tmp_path: Path, model: Any):
        contexts = get_contexts(model, [MRImageStorage], [ImplicitVRLittleEndian])
        async with associate(f"127.0.0.1:{pynetdicom}", contexts) as association:
            done = await get(association, keys(UIDS[:2]), FolderStore(tmp_path), model)
        assert done.completed == 2
        for uid in UIDS[:2]:
            assert ("PixelData" in dcmread(tmp_path / f"{uid}.dcm")) is (
                model is COMPOSITE_INSTANCE_ROOT
            )

    @pytest_twisted.ensureDeferred
    async def test_we_move_from_pynetdicom(self, pynetdicom: str, storescp_bits: Receiver):
        model, title = COMPOSITE_INSTANCE_ROOT, str(storescp_bits.port)
        async with associate(f"127.0.0.1:{pynetdicom}", [model.move]) as association:
            done = await move(association, keys(UIDS[:1]), title, model)
        assert done.completed == 1
        check(storescp_bits.folder, ExplicitVRLittleEndian, UIDS[:1])


def keys(uids: list[str]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "IMAGE"
    identifier.SOPInstanceUID = uids
    return identifier


def essence(dataset: Dataset) -> Dataset:
    """All but group lengths and padding (PS3.5 7.2, PS3.10 7.2)."""
    for tag in list(dataset.keys()):
        if tag.element == 0 or tag == 0xFFFCFFFC:
            del dataset[tag]
    return dataset
