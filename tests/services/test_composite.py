"""Composite instances retrieved by their UIDs, with and without bulk data (PS3.4 Y, Z)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    RLELossless,
)

from dimse import (
    Instance,
    MemoryStore,
    NotAnInstanceError,
    RetrieveSCP,
    StatusError,
    StorageSCP,
    get,
    get_contexts,
    move,
)
from dimse.errors import DimseError
from dimse.services import composite
from dimse.services.composite import BULK_DATA, instance_uids, without_bulk_data
from dimse.services.dataset import decode, encode
from dimse.services.extended import CompositeRetrieveOptions
from dimse.services.transcoding import read
from dimse.sop_classes import COMPOSITE_INSTANCE_ROOT, WITHOUT_BULK_DATA
from dimse.testing import Network
from tests.archive.data_sets import SOP_INSTANCE, element
from tests.services.test_instance import SHIPPED
from tests.services.test_transcoding import icon, shipped
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT

RLE = str(RLELossless)
UNCOMPRESSED = [
    EXPLICIT,
    IMPLICIT,
    str(DeflatedExplicitVRLittleEndian),
    str(ExplicitVRBigEndian),
]


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


def identifier(uids: Any, level: str = "IMAGE") -> Dataset:
    keys = Dataset()
    keys.QueryRetrieveLevel, keys.SOPInstanceUID = level, uids
    return keys


IMAGE_LEVEL = element(0x00080052, "CS", b"IMAGE ")


class TestIdentifiers:
    @pytest.mark.parametrize(
        ("uids", "expected"), [("1.2", ["1.2"]), (["1.2", "1.3"], ["1.2", "1.3"])]
    )
    def test_of_one_and_of_many(self, uids: Any, expected: list[str]):
        assert instance_uids(identifier(uids)) == expected

    def test_of_more_than_64_kib(self):
        """They come as UN then (PS3.5 6.2.2)."""
        keys = identifier(None)
        del keys.SOPInstanceUID
        uids = [f"1.2.{number}" for number in range(20_000)]
        keys.add_new(0x00080018, "UN", "\\".join(uids).encode())
        assert instance_uids(keys) == uids

    @pytest.mark.parametrize(
        ("keys", "status"),
        [
            (identifier("1.2", "STUDY"), 0xA900),
            (identifier("1.2", ""), 0xA900),
            (Dataset(), 0xA900),
            (identifier(""), 0xA900),
            (identifier("1.*"), 0xA900),
            (identifier(["1.2", "x"]), 0xA900),
            (identifier("1.2", "FRAME"), 0xAA02),
            # Of another VR.
            (decode(element(SOP_INSTANCE, "US", b"\1\0") + IMAGE_LEVEL, EXPLICIT), 0xA900),
        ],
    )
    def test_that_are_none(self, keys: Dataset, status: int):
        with pytest.raises(StatusError) as caught:
            instance_uids(keys)
        assert caught.value.status == status


def with_everything() -> Dataset:
    """An element of each kind of bulk data, and such elements where they stay."""
    whole, waveform = Dataset(), Dataset()
    whole.SOPInstanceUID, whole.PatientID = "1.2.3", "ABC"
    waveform.WaveformBitsAllocated, waveform.WaveformData = 16, bytes(64)
    waveform["WaveformData"].VR = "OW"
    whole.WaveformSequence = [waveform]
    whole.IconImageSequence = [Dataset()]
    whole.IconImageSequence[0].PixelData = bytes(8)
    whole.IconImageSequence[0]["PixelData"].VR = "OB"
    whole.add_new(0x0028_7FE0, "UR", "http://x")
    whole.add_new(0x0042_0011, "OB", bytes(64))
    for group in (0x5000, 0x501E):
        whole.add_new(group << 16 | 0x0010, "US", 7)
        whole.add_new(group << 16 | 0x200C, "OW", bytes(64))
        whole.add_new(group << 16 | 0x3000, "OW", bytes(64))
    whole.add_new(0x5600_0020, "OF", bytes(64))
    for group in (0x6000, 0x601E):
        whole.add_new(group << 16 | 0x0010, "US", 7)
        whole.add_new(group << 16 | 0x3000, "OW", bytes(64))
    whole.add_new(0x7FE0_0008, "OF", bytes(64))
    whole.add_new(0x7FE0_0009, "OD", bytes(64))
    whole.add_new(0x7FE0_0010, "OW", bytes(64))
    whole.add_new(0xFFFC_FFFC, "OB", bytes(6))
    return whole


STAY = {
    *(0x0008_0018, 0x0010_0020, 0x0088_0200, 0x5400_0100, 0xFFFC_FFFC),
    *(0x5000_0010, 0x501E_0010, 0x6000_0010, 0x601E_0010),
}


class TestWithoutBulkData:
    def test_what_that_is(self):
        """The list of the standard (PS3.4 Z.1.3)."""
        assert {tag for tag, _ in BULK_DATA.values()} == {
            *(0x7FE00008, 0x7FE00009, 0x7FE00010, 0x00287FE0),
            *(0x56000020, 0x60003000, 0x50003000, 0x5000200C, 0x00420011),
        }

    @pytest.mark.parametrize("syntax", UNCOMPRESSED)
    @pytest.mark.parametrize("held", [True, False])
    def test_it_is_left_out_at_the_top(self, tmp_path: Path, syntax: str, held: bool):
        """In memory and in a file; what is in items stays, but for Waveform Data."""
        whole = with_everything()
        instance = Instance(CT_STORAGE, "1.2.3", syntax, data=encode(whole, syntax))
        if not held:
            path = tmp_path / "file"
            path.write_bytes(b"ahead" + (instance.data or b""))
            size = len(instance.data or b"")
            instance = Instance(CT_STORAGE, "1.2.3", syntax, path=path, offset=5, length=size)
        bare = without_bulk_data(instance)
        assert (bare.transfer_syntax, bare.sop_instance_uid) == (syntax, "1.2.3")
        found = read(bare)
        assert set(found.keys()) == STAY
        assert found.IconImageSequence[0].PixelData == bytes(8)
        assert list(found.WaveformSequence[0].keys()) == [0x54001004]

    def test_of_a_file_it_is_not_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """Pixels of a GiB are nothing to it: the file is sparse, and the limit far below."""
        monkeypatch.setattr(composite, "LONGEST", 100_000)
        path = tmp_path / "file"
        head = encode(Dataset(), EXPLICIT) + b"\x10\0\x20\0LO\4\0ABC "
        length = 1 << 30
        tail = b"\xfc\xff\xfc\xffOB\0\0\2\0\0\0ab"
        with path.open("wb") as file:
            file.write(head + b"\xe0\x7f\x10\0OW\0\0" + length.to_bytes(4, "little"))
            file.seek(length, 1)
            file.write(tail)
        size = path.stat().st_size
        bare = without_bulk_data(Instance(CT_STORAGE, "1.2", EXPLICIT, path=path, length=size))
        assert bare.data == head + tail

    def test_compressed_pixels(self):
        """Without them nothing is compressed any more: explicit VR little endian it is."""
        bare = without_bulk_data(Instance.from_file(shipped("MR_small_RLE.dcm")))
        assert bare.transfer_syntax == EXPLICIT
        found, whole = read(bare), dcmread(shipped("MR_small_RLE.dcm"))
        del whole.PixelData
        for group in {each.tag.group for each in whole}:
            whole.pop((group, 0), None)
        assert found == whole

    def test_an_icon_that_is_compressed_stays_as_it_is(self):
        image = icon()
        image.IconImageSequence = [icon()]
        bare = without_bulk_data(Instance(CT_STORAGE, "1.2", RLE, data=encode(image, RLE)))
        assert bare.transfer_syntax == RLE
        found = read(bare)
        assert "PixelData" not in found
        assert found.IconImageSequence[0].PixelData == icon().PixelData

    def test_every_file_that_pydicom_ships(self):
        """What is not bulk data is as it was."""
        seen = 0
        for path in SHIPPED:
            try:
                instance = Instance.from_file(path)
                whole = read(instance)
            except DimseError:
                continue
            bare = read(without_bulk_data(instance))
            kept = {tag for tag in set(whole.keys()) if tag.element and not composite._is_bulk(tag)}
            assert set(bare.keys()) == kept, path
            seen += 1
        assert seen > 150

    @pytest.mark.parametrize("name", ["MR_truncated.dcm", "rtplan_truncated.dcm"])
    def test_of_one_that_ends_early(self, name: str):
        """In its pixels, which do not count, or before."""
        instance = Instance.from_file(shipped(name))
        if name.startswith("MR"):
            assert "PixelData" not in read(without_bulk_data(instance))
            return
        with pytest.raises(NotAnInstanceError):
            without_bulk_data(instance)

    def test_of_a_long_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(composite, "LONGEST", 1000)
        path = tmp_path / "file"
        long = Dataset()
        long.add_new(0x00091001, "OB", bytes(1000))
        path.write_bytes(encode(long, EXPLICIT))
        instance = Instance(CT_STORAGE, "1.2", EXPLICIT, path=path, length=path.stat().st_size)
        with pytest.raises(DimseError, match="longer than 1000"):
            without_bulk_data(instance)

    def test_of_an_unknown_transfer_syntax(self, tmp_path: Path):
        (tmp_path / "x").write_bytes(b"ab")
        for instance in (
            Instance(CT_STORAGE, "1.2", "1.2.3.4", data=b"ab"),
            Instance(CT_STORAGE, "1.2", "1.2.3.4", path=tmp_path / "x", length=2),
        ):
            with pytest.raises(DimseError, match="nobody knows"):
                without_bulk_data(instance)


class TestRetrieval:
    """Over an association, as SCU and as SCP."""

    def archive(self, network: Network, **options: Any) -> Any:
        stored = {
            f"1.2.{number}": Instance(
                CTImageStorage, f"1.2.{number}", EXPLICIT, data=encode(with_everything(), EXPLICIT)
            )
            for number in range(3)
        }
        stored["1.2.9"] = Instance(
            CTImageStorage, "1.2.9", RLE, data=encode(with_compressed_pixels(), RLE)
        )

        def retrieve(keys: Dataset, operation: Any) -> list[Instance]:
            return [stored[uid] for uid in instance_uids(keys) if uid in stored]

        return network.listen(
            [
                RetrieveSCP(
                    retrieve,
                    [COMPOSITE_INSTANCE_ROOT, WITHOUT_BULK_DATA],
                    options=CompositeRetrieveOptions(),
                    reactor=network.clock,
                    **options,
                )
            ]
        )

    def test_get(self, network: Network):
        contexts = get_contexts(COMPOSITE_INSTANCE_ROOT, [CTImageStorage])
        ours, _ = network.associate(self.archive(network), contexts)
        store = MemoryStore()
        getting = get(ours, identifier(["1.2.0", "1.2.2", "1.2.5"]), store, COMPOSITE_INSTANCE_ROOT)
        assert network.result(getting.result()).completed == 2
        assert [held.received.sop_instance_uid for held in store.instances] == ["1.2.0", "1.2.2"]
        assert all("PixelData" in held.dataset() for held in store.instances)

    def test_move(self, network: Network):
        store = MemoryStore()
        destination = network.listen([StorageSCP(store)])
        archive = self.archive(network, destinations={"DEST": destination})
        ours, _ = network.associate(archive, [COMPOSITE_INSTANCE_ROOT.move])
        moving = move(ours, identifier("1.2.1"), "DEST", COMPOSITE_INSTANCE_ROOT)
        assert network.result(moving.result()).completed == 1
        assert [held.received.sop_instance_uid for held in store.instances] == ["1.2.1"]

    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
    def test_get_without_bulk_data(self, network: Network, syntax: str):
        """In the transfer syntax that is negotiated, whatever the instance is stored in."""
        contexts = get_contexts(WITHOUT_BULK_DATA, [CTImageStorage], [syntax])
        ours, _ = network.associate(self.archive(network), contexts)
        store = MemoryStore()
        getting = get(ours, identifier(["1.2.0", "1.2.9"]), store, WITHOUT_BULK_DATA)
        assert network.result(getting.result()).completed == 2
        for held in store.instances:
            assert held.received.transfer_syntax == syntax
            assert held.dataset().PatientID == "ABC"
            assert not any(map(composite._is_bulk, held.dataset().keys()))

    @pytest.mark.parametrize("model", [COMPOSITE_INSTANCE_ROOT, WITHOUT_BULK_DATA])
    @pytest.mark.parametrize(("level", "status"), [("FRAME", 0xAA02), ("STUDY", 0xA900)])
    def test_other_levels_are_refused(self, network: Network, model: Any, level: str, status: int):
        contexts = get_contexts(model, [CTImageStorage])
        ours, _ = network.associate(self.archive(network), contexts)
        getting = get(ours, identifier("1.2.0", level), MemoryStore(), model)
        with pytest.raises(StatusError) as caught:
            network.result(getting.result())
        assert caught.value.status == status


def with_compressed_pixels() -> Dataset:
    image = icon()
    image.SOPInstanceUID, image.PatientID = "1.2.9", "ABC"
    image.PixelData = encapsulate([b"no RLE at all "])
    image["PixelData"].VR = "OB"
    return image
