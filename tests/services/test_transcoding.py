"""Instances in other transfer syntaxes: what is converted how, what is not, and the threads."""

from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGBaseline8Bit,
    RLELossless,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from dimse.errors import DimseError, NotAnInstanceError
from dimse.services import transcoding
from dimse.services.dataset import encode
from dimse.services.instance import Instance
from dimse.services.transcoding import in_thread, read, transcode
from dimse.testing.clock import MemoryClock
from tests.services.test_instance import SHIPPED, part10, read_all
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT

DEFLATED = str(DeflatedExplicitVRLittleEndian)
BIG_ENDIAN = str(ExplicitVRBigEndian)
RLE = str(RLELossless)


def shipped(name: str) -> Path:
    return next(path for path in SHIPPED if path.name == name)


def comparable(dataset: Dataset) -> Dataset:
    """Without group lengths (PS3.5 7.2) and padding (PS3.10 7.2), and the VR of pixels (A.1)."""
    whole = deepcopy(dataset)
    for group in {element.tag.group for element in whole}:
        whole.pop((group, 0), None)
    whole.pop(0xFFFCFFFC, None)
    if "PixelData" in whole:
        whole["PixelData"].VR = "OW"
    return whole


class TestUncompressed:
    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED])
    @pytest.mark.parametrize(
        "name",
        ["CT_small.dcm", "image_dfl.dcm", "rtplan.dcm", "reportsi.dcm"],
    )
    def test_the_data_set_stays_the_same(self, name: str, syntax: str):
        instance = replace(Instance.from_file(shipped(name)), sop_instance_uid="1.2.3")
        if instance.transfer_syntax == syntax:
            assert syntax not in instance.conversions
            return
        converted = transcode(instance, syntax)
        assert converted.transfer_syntax == syntax
        assert converted.sop_class_uid == instance.sop_class_uid
        assert converted.sop_instance_uid == "1.2.3"  # that of the file, not of the data set
        meta = (0x0010, b"UI", syntax.encode() + b"\0" * (len(syntax) % 2))
        found = dcmread(BytesIO(part10(meta, rest=read_all(converted))))
        assert comparable(found) == comparable(dcmread(shipped(name)))

    def test_pixels_of_big_endian_are_swapped(self):
        big = Instance.from_file(shipped("MR_small_expb.dcm"))
        assert big.transfer_syntax == BIG_ENDIAN
        converted = read(transcode(big, EXPLICIT))
        little = dcmread(shipped("MR_small.dcm"))
        assert converted.PixelData == little.PixelData
        assert (converted.Rows, converted.PatientID) == (little.Rows, little.PatientID)

    def test_those_of_32_bits_are_refused(self):
        """Here they are numbers of 32 bits, while others swap 16 bits as OW says."""
        with pytest.raises(DimseError, match="more than 16 bits"):
            transcode(Instance.from_file(shipped("rtdose_expb.dcm")), EXPLICIT)

    @pytest.mark.parametrize(
        ("vr", "big", "little"),
        [
            ("OW", b"\1\2\3\4", b"\2\1\4\3"),
            ("OF", b"\1\2\3\4", b"\4\3\2\1"),
            ("OL", b"\1\2\3\4", b"\4\3\2\1"),
            ("OD", b"\1\2\3\4\5\6\7\x08", b"\x08\7\6\5\4\3\2\1"),
            ("OV", b"\1\2\3\4\5\6\7\x08", b"\x08\7\6\5\4\3\2\1"),
            ("OB", b"\1\2\3\4", b"\1\2\3\4"),
            ("UN", b"\1\2\3\4", b"\1\2\3\4"),
        ],
    )
    def test_by_their_vr_at_every_depth(self, vr: str, big: bytes, little: bytes):
        def one(value: bytes) -> Dataset:
            item, outer = Dataset(), Dataset()
            item.add_new(0x00091001, vr, value)
            outer.add_new(0x00091001, vr, value)
            outer.add_new(0x00081115, "SQ", [item])
            return outer

        instance = Instance(CT_STORAGE, "1.2", BIG_ENDIAN, data=encode(one(big), BIG_ENDIAN))
        assert transcode(instance, EXPLICIT).data == encode(one(little), EXPLICIT)


def rle(dataset: Dataset) -> Instance:
    return Instance(CT_STORAGE, "1.2.3", RLE, data=encode(dataset, RLE))


def icon() -> Dataset:
    """2 x 2 pixels of 7, in one RLE segment (PS3.5 G)."""
    image = Dataset()
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows = image.Columns = 2
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    header = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56)
    image.PixelData = encapsulate([header + b"\xfd\7"])
    image["PixelData"].VR = "OB"
    image["PixelData"].is_undefined_length = True
    return image


class TestCompressed:
    @pytest.fixture(autouse=True)
    def _decoders(self) -> None:
        pytest.importorskip("numpy", reason="pip install 'dimse[transcode]'")

    @pytest.mark.parametrize(
        ("name", "original"),
        [
            ("MR_small_RLE.dcm", "MR_small.dcm"),
            ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
            ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
            ("rtdose_rle.dcm", "rtdose.dcm"),
        ],
    )
    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
    def test_pixels_that_were_compressed_without_loss(self, name: str, original: str, syntax: str):
        converted = read(transcode(Instance.from_file(shipped(name)), syntax))
        expected = dcmread(shipped(original))
        for keyword in ("PixelData", "Rows", "SamplesPerPixel", "BitsAllocated"):
            assert converted[keyword].value == expected[keyword].value
        assert converted.get("NumberOfFrames") == expected.get("NumberOfFrames")

    def test_those_of_lossy_jpeg(self):
        """RGB now, as many as there are, and lossy for ever; the instance is the same one."""
        path = shipped("SC_rgb_dcmtk_+eb+cy+s2.dcm")
        before = dcmread(path)
        assert before.PhotometricInterpretation == "YBR_FULL_422"
        instance = Instance.from_file(path)
        assert instance.transfer_syntax == JPEGBaseline8Bit
        converted = transcode(instance, EXPLICIT)
        after = read(converted)
        assert after.PhotometricInterpretation == "RGB"
        assert after.PlanarConfiguration == 0
        assert len(after.PixelData) == 3 * after.Rows * after.Columns
        assert after["PixelData"].VR == "OB"
        assert after.LossyImageCompression == before.LossyImageCompression == "01"
        assert after.SOPInstanceUID == before.SOPInstanceUID == converted.sop_instance_uid

    def test_an_icon(self):
        image = Dataset()
        image.SOPInstanceUID, image.IconImageSequence = "1.2.3", [icon()]
        (found,) = read(transcode(rle(image), EXPLICIT)).IconImageSequence
        assert found.PixelData == b"\7\7\7\7"
        assert not found["PixelData"].is_undefined_length

    def test_tables_of_fragments_go(self):
        image = icon()
        image.ExtendedOffsetTable = image.ExtendedOffsetTableLengths = bytes(8)
        found = read(transcode(rle(image), EXPLICIT))
        assert found.PixelData == b"\7\7\7\7"
        assert "ExtendedOffsetTable" not in found
        assert "ExtendedOffsetTableLengths" not in found

    def test_pixels_that_cannot_be_decoded(self):
        """A fragment that is no RLE segment; nothing of it is in the error."""
        image = icon()
        image.PixelData = encapsulate([b"Doe^Jane"])
        with pytest.raises(DimseError, match="cannot be decoded") as caught:
            transcode(rle(image), EXPLICIT)
        assert "Doe" not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_as_many_as_may_be(self, monkeypatch: pytest.MonkeyPatch):
        """Rows and Columns decide before anything is decoded."""
        monkeypatch.setattr(transcoding, "LONGEST", 1000)
        image = icon()
        image.Rows, image.Columns = 25, 41
        with pytest.raises(DimseError, match="more than 1000 bytes when it is decoded"):
            transcode(rle(image), EXPLICIT)


class TestWithoutTheExtra:
    @pytest.fixture(autouse=True)
    def _decoders(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(transcoding, "find_spec", lambda name: None)

    def test_the_error_names_it(self):
        with pytest.raises(DimseError, match=r"RLE Lossless needs dimse\[transcode\]"):
            transcode(rle(icon()), EXPLICIT)

    def test_it_is_not_needed_where_nothing_is_compressed(self):
        """Reports in a transfer syntax of images, and what is only encoded otherwise."""
        report = Dataset()
        report.SOPInstanceUID = "1.2.3"
        assert transcode(rle(report), IMPLICIT).data == encode(report, IMPLICIT)


class TestWhatIsNot:
    def test_no_data_set(self):
        instance = Instance(CT_STORAGE, "1.2.3", EXPLICIT, data=b"Doe^Jane")
        with pytest.raises(NotAnInstanceError) as caught:
            transcode(instance, IMPLICIT)
        assert "Doe" not in str(caught.value)

    @pytest.mark.parametrize("name", ["MR_truncated.dcm", "rtplan_truncated.dcm"])
    def test_one_that_ends_early(self, name: str):
        instance = Instance.from_file(shipped(name))
        with pytest.raises(NotAnInstanceError, match=name):
            transcode(instance, instance.conversions[0])

    @pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.100", "1.2.3.4"])
    def test_what_nothing_converts(self, syntax: str):
        with pytest.raises(DimseError, match="nothing converts"):
            transcode(Instance(CT_STORAGE, "1.2.3", syntax, data=b""), EXPLICIT)

    def test_into_what_is_compressed(self):
        with pytest.raises(DimseError, match="nothing converts"):
            transcode(Instance(CT_STORAGE, "1.2.3", EXPLICIT, data=b""), RLE)

    @pytest.mark.parametrize("syntax", [EXPLICIT, DEFLATED])
    def test_a_long_one(self, monkeypatch: pytest.MonkeyPatch, syntax: str):
        """As it comes, or inflated."""
        monkeypatch.setattr(transcoding, "LONGEST", 1000)
        long = Dataset()
        long.add_new(0x00091001, "OB", bytes(1000))
        instance = Instance(CT_STORAGE, "1.2.3", syntax, data=encode(long, syntax))
        with pytest.raises(DimseError):
            transcode(instance, IMPLICIT)

    def test_a_file_that_vanished(self, tmp_path: Path):
        instance = Instance(CT_STORAGE, "1.2.3", EXPLICIT, path=tmp_path / "x", length=8)
        with pytest.raises(DimseError, match="No such file"):
            transcode(instance, IMPLICIT)

    def test_an_unknown_transfer_syntax_is_not_read(self):
        with pytest.raises(DimseError, match="nobody knows"):
            read(Instance(CT_STORAGE, "1.2.3", "1.2.3.4", data=b""))


class Pool(Clock):
    """A reactor whose threads end when they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: deque[Callable[[], object]] = deque()

    def getThreadPool(self) -> "Pool":
        return self

    def callFromThread(self, step: Callable[..., Any], *args: object) -> None:
        step(*args)

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], object], call: Callable[..., object], *args: Any
    ) -> None:
        self.threads.append(lambda: done(True, call(*args)))


class TestThreads:
    def start(self, pool: Pool, result: int) -> "Deferred[int]":
        return Deferred.fromCoroutine(in_thread(lambda: result, pool))

    def test_two_at_a_time(self):
        pool = Pool()
        results: list[int] = []
        for number in range(4):
            self.start(pool, number).addCallback(results.append)
        assert len(pool.threads) == 2
        while pool.threads:
            pool.threads.popleft()()
            assert len(pool.threads) <= 2
        assert results == [0, 1, 2, 3]

    def test_one_that_nobody_waits_for_keeps_its_place_until_it_ends(self):
        pool = Pool()
        cancelled, other = self.start(pool, 0), self.start(pool, 1)
        third = self.start(pool, 2)
        cancelled.cancel()
        failed: list[Any] = []
        cancelled.addErrback(failed.append)
        assert failed[0].check(CancelledError)
        assert len(pool.threads) == 2
        pool.threads.popleft()()
        assert len(pool.threads) == 2
        while pool.threads:
            pool.threads.popleft()()
        assert (other.result, third.result) == (1, 2)

    def test_one_that_fails_gives_its_place_free(self):
        clock = MemoryClock()
        failures: list[Any] = []
        for _ in range(3):
            failing = Deferred.fromCoroutine(in_thread(lambda: 1 // 0, clock))
            failing.addErrback(failures.append)
        assert all(failure.check(ZeroDivisionError) for failure in failures)
        assert len(failures) == 3

    def test_one_that_gets_no_thread_gives_its_place_free(self):
        pool = Pool()
        failures: list[Any] = []
        with patch.object(pool, "callInThreadWithCallback", side_effect=RuntimeError("no thread")):
            for number in range(3):
                self.start(pool, number).addErrback(failures.append)
        assert len(failures) == 3
        self.start(pool, 0)
        pool.threads.popleft()()
