"""Instances to be sent: files, Datasets, bytes (PS3.10 7.1)."""

import os
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import (
    HTJ2K,
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    RLELossless,
)

from dimse.errors import DimseError, NotAnInstanceError
from dimse.services.instance import FILE_META_BEGIN, Instance
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT

SHIPPED = sorted(
    path
    for path in (Path(pydicom.__file__).parent / "data" / "test_files").rglob("*")
    if path.is_file() and path.suffix != ".py"
)
SMALL = next(path for path in SHIPPED if path.name == "CT_small.dcm")


def read_all(instance: Instance, step: int = 10_000) -> bytes:
    """The data set, read as a message does."""
    found = b""
    with instance.open() as source:
        while len(found) < source.length:
            found += source.read(min(step, source.length - len(found)))
    return found


def part10(*elements: tuple[int, bytes, bytes], rest: bytes = b"") -> bytes:
    """A file with these elements of group 0002, all explicit VR of short form."""
    meta = b"".join(
        b"\2\0" + number.to_bytes(2, "little") + vr + len(value).to_bytes(2, "little") + value
        for number, vr, value in elements
    )
    return bytes(128) + b"DICM" + meta + rest


IDENTITY = (
    (0x0002, b"UI", CT_STORAGE.encode() + b"\0"),
    (0x0003, b"UI", b"1.2.3\0"),
    (0x0010, b"UI", EXPLICIT.encode() + b"\0"),
)


class TestShipped:
    """Every file that comes with pydicom is the same to us and to pydicom, or no instance."""

    @pytest.fixture(params=SHIPPED, ids=lambda path: path.name)
    def path(self, request: pytest.FixtureRequest) -> Path:
        path: Path = request.param
        return path

    def test_identity_and_data_set(self, path: Path):
        try:
            instance = Instance.from_file(path)
        except NotAnInstanceError:
            with path.open("rb") as file:  # it is none for pydicom either
                whole = dcmread(file, force=True) if path.suffix == ".dcm" else Dataset()
            identity = (whole.get("SOPClassUID"), whole.get("SOPInstanceUID"))
            assert not all(identity) or path.name.startswith("DICOMDIR") or not path.suffix
            return
        with path.open("rb") as file:
            whole = dcmread(file, force=True, stop_before_pixels=True)
        meta = whole.file_meta
        sop_class = meta.get("MediaStorageSOPClassUID") or whole.SOPClassUID
        assert instance.sop_class_uid == sop_class
        uid = meta.get("MediaStorageSOPInstanceUID") or whole.SOPInstanceUID
        assert instance.sop_instance_uid == uid
        with path.open("rb") as file:
            if read_preamble(file, force=True):
                _read_file_meta_info(file)
                assert instance.transfer_syntax == meta.TransferSyntaxUID
                assert instance.offset == file.tell()
        content = path.read_bytes()[instance.offset :]
        assert instance.length == len(content)
        assert read_all(instance) == content + bytes(len(content) % 2)


def test_many_are_instances():
    """So that the test above is not about nothing."""
    found = 0
    for path in SHIPPED:
        try:
            Instance.from_file(path)
        except NotAnInstanceError:
            continue
        found += 1
    assert found > 60


class TestFiles:
    @pytest.mark.parametrize(
        "content", [b"", b"x", b"text\n" * 100, bytes(1000), bytes(128) + b"DICM"]
    )
    def test_what_is_none(self, tmp_path: Path, content: bytes):
        path = tmp_path / "file"
        path.write_bytes(content)
        with pytest.raises(NotAnInstanceError, match=str(path)):
            Instance.from_file(path)

    def test_what_cannot_be_read(self, tmp_path: Path):
        """What is not there is an error, not something else than an instance."""
        path = tmp_path / "missing"
        with pytest.raises(DimseError, match=str(path)) as caught:
            Instance.from_file(path)
        assert not isinstance(caught.value, NotAnInstanceError)

    def test_what_is_no_file(self, tmp_path: Path):
        """Opening a FIFO would wait for its writer."""
        os.mkfifo(tmp_path / "fifo")
        for path in (tmp_path, tmp_path / "fifo"):
            with pytest.raises(NotAnInstanceError, match=f"{path}: not a regular file"):
                Instance.from_file(path)

    @pytest.mark.parametrize("number", range(3))
    @pytest.mark.parametrize("wrong", [b"1..2\0\0", b"../../ab", b"1.2.a\0", b"1" * 66])
    def test_a_wrong_uid(self, tmp_path: Path, number: int, wrong: bytes):
        elements = list(IDENTITY)
        elements[number] = (*elements[number][:2], wrong)
        path = tmp_path / "file"
        path.write_bytes(part10(*elements, rest=b"ab"))
        with pytest.raises(NotAnInstanceError):
            Instance.from_file(path)

    def test_a_dicomdir(self, tmp_path: Path):
        path = tmp_path / "DICOMDIR"
        path.write_bytes(part10((0x0002, b"UI", b"1.2.840.10008.1.3.10"), *IDENTITY[1:]))
        with pytest.raises(NotAnInstanceError, match="DICOMDIR"):
            Instance.from_file(path)

    def test_cut_anywhere(self, tmp_path: Path):
        """A file cut in its head is none, or has what is left; never a length below 0."""
        content = SMALL.read_bytes()[:2000]
        path = tmp_path / "file"
        for length in range(120, 420):
            path.write_bytes(content[:length])
            try:
                instance = Instance.from_file(path)
            except NotAnInstanceError:
                continue
            assert instance.offset + instance.length == length
            assert instance.length >= 0

    def test_private_information_longer_than_the_file(self, tmp_path: Path):
        path = tmp_path / "file"
        path.write_bytes(part10(*IDENTITY, rest=b"\2\0\2\1OB\0\0\xff\xff\0\0" + b"only this"))
        with pytest.raises(NotAnInstanceError):
            Instance.from_file(path)

    def test_a_long_head(self, tmp_path: Path):
        """Private information of the writer may be longer than one read."""
        private = b"\2\0\2\1OB\0\0" + (100_000).to_bytes(4, "little") + bytes(100_000)
        path = tmp_path / "file"
        path.write_bytes(part10(*IDENTITY[:2], rest=private + part10(IDENTITY[2])[132:] + b"abcd"))
        instance = Instance.from_file(path)
        assert instance.transfer_syntax == EXPLICIT
        assert read_all(instance) == b"abcd"


class TestSource:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "file"
        path.write_bytes(part10(*IDENTITY, rest=b"abcde"))
        return path

    @pytest.mark.parametrize("step", [1, 2, 3, 5, 6, 100])
    def test_an_odd_length_is_made_even(self, path: Path, step: int):
        """PS3.5 A.5: by a zero byte behind the data set."""
        assert read_all(Instance.from_file(path), step) == b"abcde\0"

    def test_progress(self, path: Path):
        counts: list[int] = []
        with Instance.from_file(path).open(counts.append) as source:
            source.read(4)
            source.read(2)
        assert counts == [4, 1]

    def test_a_file_that_vanished(self, path: Path):
        instance = Instance.from_file(path)
        path.unlink()
        with pytest.raises(DimseError, match=str(path)):
            instance.open()

    @pytest.mark.parametrize("left", [0, 3, 4])
    def test_a_file_that_became_shorter(self, path: Path, left: int):
        instance = Instance.from_file(path)
        with instance.open() as source:
            path.write_bytes(path.read_bytes()[: instance.offset + left])
            assert len(source.read(6)) < 6

    @pytest.mark.parametrize("change", [b"", b"more"])
    def test_a_file_that_was_another_one_before(self, path: Path, change: bytes):
        """The data set may begin elsewhere now."""
        instance = Instance.from_file(path)
        path.write_bytes(path.read_bytes() + change if change else b"")
        with pytest.raises(DimseError, match="has changed"):
            instance.open()


class TestDatasets:
    @pytest.fixture
    def dataset(self) -> Dataset:
        dataset = Dataset()
        dataset.SOPClassUID = CT_STORAGE
        dataset.SOPInstanceUID = "1.2.3"
        dataset.PatientName = "Doe^Jane"
        return dataset

    def test_a_new_one_is_explicit_little_endian(self, dataset: Dataset):
        instance = Instance.of(dataset)
        assert (instance.sop_class_uid, instance.sop_instance_uid) == (CT_STORAGE, "1.2.3")
        assert instance.transfer_syntax == EXPLICIT
        assert read_all(instance).startswith(b"\x08\0\x16\0UI")
        assert not hasattr(dataset, "file_meta")

    def test_as_it_was_read(self):
        for name in ("MR_small_implicit.dcm", "MR_small_bigendian.dcm", "CT_small.dcm"):
            path = next(path for path in SHIPPED if path.name == name)
            dataset = dcmread(path)
            instance = Instance.of(dataset)
            assert instance.transfer_syntax == dataset.file_meta.TransferSyntaxUID
            del dataset.file_meta
            expected = {"MR_small_implicit.dcm": IMPLICIT, "CT_small.dcm": EXPLICIT}
            again = Instance.of(dataset).transfer_syntax
            assert again == expected.get(name, ExplicitVRBigEndian)

    def test_compressed(self):
        path = next(path for path in SHIPPED if path.name == "MR_small_RLE.dcm")
        assert Instance.of(dcmread(path)).transfer_syntax == RLELossless

    def test_one_that_is_none(self, dataset: Dataset):
        del dataset.SOPInstanceUID
        with pytest.raises(NotAnInstanceError) as caught:
            Instance.of(dataset)
        assert "Doe" not in str(caught.value)

    def test_one_that_cannot_be_encoded(self, dataset: Dataset):
        dataset.add_new(0x00280010, "US", "Doe^Jane")
        with pytest.raises(NotAnInstanceError) as caught:
            Instance.of(dataset)
        assert "Doe" not in str(caught.value)

    def test_an_instance_is_one_already(self):
        instance = Instance(CT_STORAGE, "1.2.3", str(ImplicitVRLittleEndian), data=b"abc")
        assert Instance.of(instance) is instance
        assert read_all(instance) == b"abc\0"


class TestContexts:
    """What is proposed for an instance: its own transfer syntax, and what it can become."""

    @pytest.mark.parametrize(
        ("syntax", "others"),
        [
            (EXPLICIT, [IMPLICIT]),
            (IMPLICIT, [EXPLICIT]),
            (str(DeflatedExplicitVRLittleEndian), [EXPLICIT, IMPLICIT]),
            (str(ExplicitVRBigEndian), [EXPLICIT, IMPLICIT]),
            (str(RLELossless), [EXPLICIT, IMPLICIT]),
            (str(JPEGLosslessSV1), [EXPLICIT, IMPLICIT]),
            (str(HTJ2K), [EXPLICIT, IMPLICIT]),
            (str(MPEG2MPML), []),
            ("1.2.3.4", []),
        ],
    )
    def test_of(self, syntax: str, others: list[str]):
        instance = Instance(CT_STORAGE, "1.2.3", syntax, data=b"ab")
        assert instance.context_proposals() == [(CT_STORAGE, (each,)) for each in (syntax, *others)]

    def test_deflating_comes_last_and_is_not_proposed(self):
        instance = Instance(CT_STORAGE, "1.2.3", IMPLICIT, data=b"ab")
        assert instance.conversions == (EXPLICIT, str(DeflatedExplicitVRLittleEndian))


def test_where_the_file_meta_information_begins():
    assert FILE_META_BEGIN == 132  # PS3.10 7.1
