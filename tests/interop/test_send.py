"""`dimse store` to real peers and to ourselves: every file that pydicom ships.

What is sent is the data set as it is in the file, with a zero byte behind an odd length. Peers
that keep the bits are held to that; those that decode and encode anew, to equal data sets.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian

from tests.interop.corpus import (
    DATA,
    DCMTK_CANNOT_READ,
    NO_INSTANCE,
    PYNETDICOM_CANNOT_STORE,
    Receiver,
    Stored,
    as_sent,
    files,
    header,
    instances,
    name_of,
    read,
    rounds,
    take,
)
from tests.peers import Argument, run

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),  # the files are meant to be odd
]


def store(port: int, *paths: Argument, code: int = 0) -> str:
    """Run `dimse store` and return what it says."""
    args = [sys.executable, "-m", "dimse", "store", "-aet", "SENDER", "-aec", "ARCHIVE", "-v"]
    done = run([*args, "127.0.0.1", str(port), *paths])
    assert done.returncode == code, done.stdout
    return done.stdout


def expected(paths: Sequence[Path]) -> dict[str, Stored]:
    """The files as a peer should have them."""
    sent = {}
    for one in map(read, paths):
        sent[one.sop_instance_uid] = Stored(
            one.sop_class_uid,
            one.sop_instance_uid,
            one.transfer_syntax,
            as_sent(one.data_set),
        )
    return sent


@pytest.mark.parametrize("peer", ["node", "storescp_bits"])
def test_every_file(peer: str, request: pytest.FixtureRequest):
    """Byte for byte, with the UIDs of the file meta information."""
    receiver: Receiver = request.getfixturevalue(peer)
    for each in rounds(instances()):
        store(receiver.port, *each)
        assert take(receiver.folder) == expected(each)


@pytest.mark.parametrize(
    ("peer", "unable"),
    [("storescp", DCMTK_CANNOT_READ), ("pynetdicom_storescp", PYNETDICOM_CANNOT_STORE)],
    ids=["storescp", "pynetdicom"],
)
def test_every_file_decoded(peer: str, unable: dict[str, str], request: pytest.FixtureRequest):
    """By peers that read what they get, so each must be what its request said it is."""
    receiver: Receiver = request.getfixturevalue(peer)
    able = [path for path in instances() if name_of(path) not in unable]
    same_uid = [p for p in able if header(p).SOPInstanceUID == read(p).sop_instance_uid]
    for each in rounds(same_uid):
        store(receiver.port, *each)
        written = {read(path).sop_instance_uid: path for path in receiver.folder.iterdir()}
        assert written.keys() == expected(each).keys()
        for path in each:
            other = written[read(path).sop_instance_uid]
            assert essence(path) == essence(other), name_of(path)
            other.unlink()


@pytest.mark.parametrize("peer", ["storescp_implicit", "pynetdicom_implicit"])
def test_the_default_transfer_syntax_only(peer: str, request: pytest.FixtureRequest):
    """What can be is converted; the rest is refused by us, by name."""
    receiver: Receiver = request.getfixturevalue(peer)
    converted = [DATA / "test_files" / name for name in ("CT_small.dcm", "image_dfl.dcm")]
    store(receiver.port, *converted)
    written = {read(path).sop_instance_uid: path for path in receiver.folder.iterdir()}
    for path in converted:
        other = written.pop(read(path).sop_instance_uid)
        assert read(other).transfer_syntax == ImplicitVRLittleEndian
        assert essence(path) == essence(other)
    assert written == {}
    for name in ("rtdose_expb.dcm", "MR_truncated.dcm"):
        assert name in store(receiver.port, DATA / "test_files" / name, code=1)


def test_the_whole_folder(node: Receiver):
    """Folders are walked; what is no instance is named, and does not hinder the others."""
    said = store(node.port, DATA, code=1)
    for name in NO_INSTANCE:
        assert str(DATA / name) in said
    firsts = next(rounds(instances()))
    assert take(node.folder).keys() >= {read(path).sop_instance_uid for path in firsts}


def test_no_preamble(node: Receiver, tmp_path: Path):
    """File meta information at byte 0 is not sent either."""
    whole = DATA / "test_files" / "CT_small.dcm"
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(whole.read_bytes()[132:])
    store(node.port, cut)
    assert take(node.folder) == expected([whole])


def test_nothing_is_left_out():
    """What is excluded from all this exists, and each has its reason."""
    names = {name_of(path) for path in files()}
    assert names >= NO_INSTANCE.keys() | DCMTK_CANNOT_READ.keys()
    assert len(instances()) == len(names) - len(NO_INSTANCE)


def essence(path: Path) -> Dataset:
    """All but what says nothing: group lengths, padding (PS3.5 7.2, PS3.10 7.2), and whether
    pixel data is called OB or OW."""
    dataset = dcmread(path, force=True)
    for tag in list(dataset.keys()):
        if tag.element == 0 or tag == 0xFFFCFFFC:
            del dataset[tag]
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OW"
    return dataset
