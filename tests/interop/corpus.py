"""What the tests send: every DICOM file that pydicom ships, what peers say of it, and rounds.

Files are read here with pydicom alone, so that what `dimse` makes of them is held against it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

import pydicom
from pydicom import Dataset, dcmread
from pydicom.filereader import data_element_generator, read_dataset
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

DATA = Path(pydicom.__file__).parent / "data"

NO_DICOM = frozenset({".py", ".pyc", ".json", ".txt", ".md", ".gz", ".icc", ".dump"})
"""Endings of what lies beside the DICOM files."""

NO_INSTANCE = {
    "test_files/dicomdirtests/TINY_ALPHA/README": "text",
    "test_files/meta_missing_tsyntax.dcm": "no SOP Class UID, no SOP Instance UID",
    "test_files/nested_priv_SQ.dcm": "no SOP Class UID, no SOP Instance UID",
    "test_files/no_meta.dcm": "no SOP Class UID, no SOP Instance UID",
    "test_files/empty_charset_LEI.dcm": "no SOP Class UID, no SOP Instance UID",
    "test_files/dicomdirtests/DICOMDIR": "a DICOMDIR is no composite instance",
    "test_files/dicomdirtests/DICOMDIR-bigEnd": "a DICOMDIR",
    "test_files/dicomdirtests/DICOMDIR-empty.dcm": "a DICOMDIR",
    "test_files/dicomdirtests/DICOMDIR-implicit": "a DICOMDIR",
    "test_files/dicomdirtests/DICOMDIR-nooffset": "a DICOMDIR",
    "test_files/dicomdirtests/DICOMDIR-nopatient": "a DICOMDIR",
    "test_files/dicomdirtests/DICOMDIR-reordered": "a DICOMDIR",
    "test_files/dicomdirtests/TINY_ALPHA/DICOMDIR": "a DICOMDIR",
}
"""Files of which no test can store anything, and why."""

DCMTK_CANNOT_READ = {
    "charset_files/chrSQEncoding.dcm": "its UIDs are in the file meta information only",
    "charset_files/chrSQEncoding1.dcm": "its UIDs are in the file meta information only",
    "test_files/UN_sequence.dcm": "its UIDs are in the file meta information only",
    "test_files/no_meta_group_length.dcm": "its UIDs are in the file meta information only",
    "test_files/priv_SQ.dcm": "its UIDs are in the file meta information only",
    "test_files/MR_truncated.dcm": "it ends in the middle of the pixel data",
    "test_files/rtplan_truncated.dcm": "it ends in the middle of an element",
    "test_files/rtdose_rle.dcm": "an element has an odd length",
    "test_files/rtdose_rle_1frame.dcm": "an element has an odd length",
    "test_files/SC_rgb_jpeg.dcm": "it says that it is explicit VR, and is implicit",
}
"""Instances that DCMTK's storescu refuses to send."""

PYNETDICOM_CANNOT_SEND = {
    "test_files/ExplVR_BigEndNoMeta.dcm": "no file meta information",
    "test_files/ExplVR_LitEndNoMeta.dcm": "no file meta information",
    "test_files/rtstruct.dcm": "no file meta information",
}
"""Instances that DCMTK sends, and pynetdicom's storescu does not."""

PYNETDICOM_ENCODES_ANEW = {
    "charset_files/chrJapMulti.dcm": "it has group lengths",
    "charset_files/chrJapMultiExplicitIR6.dcm": "it has group lengths",
    "charset_files/chrKoreanMulti.dcm": "it has group lengths",
    "palettes/winter.dcm": "it has an element twice",
    "test_files/693_J2KI.dcm": "it has group lengths",
    "test_files/ExplVR_BigEnd.dcm": "it has group lengths",
    "test_files/image_dfl.dcm": "it is deflated",
}
"""Instances of which pynetdicom's storescu does not send the very bytes."""

_PALETTES = ("fall", "hotiron", "hotmetalblue", "pet", "pet20step", "spring", "summer", "winter")

PYNETDICOM_CANNOT_STORE = {
    **{f"palettes/{name}.dcm": "Color Palettes are not in its contexts" for name in _PALETTES},
    **{
        name: reason
        for name, reason in DCMTK_CANNOT_READ.items()
        if "UIDs" in reason or "explicit" in reason
    },
}
"""Instances that pynetdicom's storescp refuses."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A storage SCP on `port` and the folder below which it keeps what it gets."""

    port: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of an instance: its identity as the file meta information has it, if it has one.

    `data_set` are the bytes behind the file meta information.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    data_set: bytes


def read_head(path: Path) -> tuple[list[str], int]:
    """SOP class, SOP instance and transfer syntax of the file meta information, each "" if it is
    not there, and where the data set begins."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            file.seek(0)
        meta: dict[int, Any] = {
            element.tag: element.value
            for element in data_element_generator(
                file, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2
            )
        }
        offset = file.tell()
    values = [meta.get(tag) or b"" for tag in (0x00020002, 0x00020003, 0x00020010)]
    return [value.decode("latin-1").rstrip("\0 ") for value in values], offset


def read(path: Path) -> Stored:
    """The whole file; what its file meta information lacks is looked for in the data set."""
    known, offset = read_head(path)
    if not all(known):
        dataset = header(path)
        found = (dataset.get("SOPClassUID"), dataset.get("SOPInstanceUID"), _syntax(dataset))
        known = [old or str(new) for old, new in zip(known, found, strict=True)]
    sop_class, sop_instance, syntax = known
    return Stored(sop_class, sop_instance, syntax, path.read_bytes()[offset:])


def header(path: Path) -> Dataset:
    """The identity in the data set."""
    tags = ["SOPClassUID", "SOPInstanceUID"]
    return dcmread(path, force=True, stop_before_pixels=True, specific_tags=tags)


def _syntax(dataset: Dataset) -> UID:
    implicit, little_endian = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian


def as_sent(data_set: bytes) -> bytes:
    """A data set of odd length gets a zero byte behind it (PS3.5 A.5, PS3.8 E.1)."""
    return data_set + bytes(len(data_set) % 2)


def name_of(path: Path) -> str:
    """The name by which the lists above know a file."""
    return path.relative_to(DATA).as_posix()


@cache
def files() -> tuple[Path, ...]:
    """All files that look like DICOM."""
    found = (path for path in DATA.rglob("*") if path.is_file() and path.suffix not in NO_DICOM)
    return tuple(sorted(found))


@cache
def instances() -> tuple[Path, ...]:
    """Those that are composite instances."""
    return tuple(path for path in files() if name_of(path) not in NO_INSTANCE)


@cache
def transfer_syntax(path: Path) -> str:
    """That of a file."""
    return read(path).transfer_syntax


def rounds(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """All of them, in lists in which no SOP Instance UID occurs twice.

    A peer may go by the UID of the file meta information or by that of the data set, and pydicom
    has files in which they differ.
    """
    seen: list[tuple[int, Path]] = []
    used: list[set[str | None]] = []
    for path in paths:
        uids = {read(path).sop_instance_uid, header(path).get("SOPInstanceUID")} - {None}
        number = next((i for i, each in enumerate(used) if not each & uids), len(used))
        if number == len(used):
            used.append(set())
        used[number] |= uids
        seen.append((number, path))
    for _, group in groupby(sorted(seen), key=lambda each: each[0]):
        yield [path for _, path in group]


def take(folder: Path) -> dict[str, Stored]:
    """What was stored below `folder`, by SOP Instance UID; it is removed, for the next round."""
    taken = {}
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        stored = read(path)
        assert stored.sop_instance_uid not in taken
        taken[stored.sop_instance_uid] = stored
        path.unlink()
    return taken


def check_same(taken: Mapping[str, Stored], sent: Mapping[str, Stored]) -> None:
    """All has arrived: byte for byte, or decoded when another transfer syntax was agreed."""
    assert taken.keys() == sent.keys()
    for uid, one in sent.items():
        if taken[uid].transfer_syntax == one.transfer_syntax:
            assert taken[uid] == one
        else:
            assert taken[uid].sop_class_uid == one.sop_class_uid
            assert _decoded(taken[uid]) == _decoded(one)


def _decoded(one: Stored) -> Dataset:
    """A data set in implicit or explicit VR little endian."""
    implicit = one.transfer_syntax == ImplicitVRLittleEndian
    assert implicit or one.transfer_syntax == ExplicitVRLittleEndian
    return read_dataset(BytesIO(one.data_set), implicit, is_little_endian=True)
