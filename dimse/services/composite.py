"""Retrieval of composite instances by their UIDs alone, also without bulk data (PS3.4 Y, Z)."""

import os
from typing import BinaryIO, Literal

from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dimse.errors import DimseError, NotAnInstanceError, StatusError
from dimse.message.status import IDENTIFIER_MISMATCH
from dimse.services.dataset import encode, uids_of
from dimse.services.instance import Instance
from dimse.services.transcoding import LONGEST, encapsulated, held, read
from dimse.uids import is_uid

BULK_DATA: dict[str, tuple[int, int]] = {
    "Float Pixel Data": (0x7FE00008, 0xFFFFFFFF),
    "Double Float Pixel Data": (0x7FE00009, 0xFFFFFFFF),
    "Pixel Data": (0x7FE00010, 0xFFFFFFFF),
    "Pixel Data Provider URL": (0x00287FE0, 0xFFFFFFFF),
    "Spectroscopy Data": (0x56000020, 0xFFFFFFFF),
    "Overlay Data": (0x60003000, 0xFF00FFFF),
    "Curve Data": (0x50003000, 0xFF00FFFF),
    "Audio Sample Data": (0x5000200C, 0xFF00FFFF),
    "Encapsulated Document": (0x00420011, 0xFFFFFFFF),
}
"""What is left out at the top of a data set: tag and mask (PS3.4 Z.1.3 Table Z.1-1)."""

_WAVEFORM_DATA = 0x54001010  # in the items of Waveform Sequence

_FRAMES_CANNOT_BE_EXTRACTED = 0xAA02  # PS3.4 Y.4.1.1.4

_UNDEFINED = 0xFFFFFFFF
_ITEM = b"\xfe\xff\x00\xe0"
_LEVEL, _SOP_INSTANCE_UID = 0x00080052, 0x00080018


def instance_uids(identifier: Dataset) -> list[str]:
    """What an Identifier of these SOP classes asks for, its SOP Instance UIDs (PS3.4 Y.6, Z.6).

    For the function of a `RetrieveSCP` with `COMPOSITE_INSTANCE_ROOT` or `WITHOUT_BULK_DATA`.
    Raises `StatusError`, to be answered: A900H unless the level is IMAGE, and for SOP Instance UIDs
    that are missing or none, AA02H for the level FRAME, as no new instances are made of frames.
    """
    try:
        level, uids = identifier.get("QueryRetrieveLevel"), uids_of(identifier, "SOPInstanceUID")
    except Exception:  # noqa: BLE001  whatever pydicom says of it; the text may hold a value
        raise StatusError(IDENTIFIER_MISMATCH, "the Identifier cannot be read") from None
    if level == "FRAME":
        raise StatusError(_FRAMES_CANNOT_BE_EXTRACTED, "only whole instances are sent")
    if level != "IMAGE":
        raise StatusError(IDENTIFIER_MISMATCH, "the level is not IMAGE", (_LEVEL,))
    if not uids or not all(map(is_uid, uids)):
        raise StatusError(IDENTIFIER_MISMATCH, "UIDs are needed", (_SOP_INSTANCE_UID,))
    return uids


def without_bulk_data(instance: Instance) -> Instance:
    """The same instance without its `BULK_DATA` and Waveform Data (PS3.4 Z.1.3).

    Of a file that is not deflated what is left out is not read, unless it is Waveform Data; the
    rest, up to `LONGEST` bytes, is whole in memory. What was compressed becomes explicit VR little
    endian, for nothing of it is compressed any more, unless an icon is. It takes long: use
    `in_thread`. Raises `NotAnInstanceError` for what is no data set, `DimseError` for a longer one.
    """
    dataset = read(_spliced(instance))
    for tag in filter(_is_bulk, list(dataset.keys())):
        del dataset[tag]
    for item in dataset.get("WaveformSequence") or ():
        item.pop(_WAVEFORM_DATA, None)
    syntax = instance.transfer_syntax
    if UID(syntax).is_compressed and not encapsulated(dataset):
        syntax = str(ExplicitVRLittleEndian)
    return held(instance, syntax, encode(dataset, syntax))


def _is_bulk(tag: int) -> bool:
    return any(tag & mask == bulk for bulk, mask in BULK_DATA.values())


def _spliced(instance: Instance) -> Instance:
    """What is before, between and behind bulk data, where that can be had without reading it."""
    syntax = UID(instance.transfer_syntax)
    if instance.path is None or syntax.type != "Transfer Syntax" or syntax.is_deflated:
        return instance
    kept: list[bytes] = []
    try:
        with open(instance.path, "rb") as file:
            start = file.seek(instance.offset)
            while True:
                _seek_bulk(file, syntax)
                end = file.tell()
                if sum(map(len, kept)) + end - start > LONGEST:
                    raise DimseError(f"its data set is longer than {LONGEST} bytes")
                file.seek(start)
                kept.append(file.read(end - start))
                if not _skip_element(file, syntax):
                    break
                start = file.tell()
    except OSError as error:
        raise DimseError(f"{instance.path}: {error.strerror}") from error
    return held(instance, instance.transfer_syntax, b"".join(kept))


def _seek_bulk(file: BinaryIO, syntax: UID) -> None:
    """Go to the next element that is left out, else to the end."""
    try:
        read_dataset(
            file,
            syntax.is_implicit_VR,
            syntax.is_little_endian,
            stop_when=lambda tag, vr, length: _is_bulk(tag),
        )
    except Exception:  # noqa: BLE001  whatever pydicom says of it; the text may hold values
        raise NotAnInstanceError(f"{file.name}: no data set in {syntax.name} (PS3.5 7)") from None


def _skip_element(file: BinaryIO, syntax: UID) -> bool:
    """Go behind it, its value or its fragments (PS3.5 7.1, A.4); returns whether there was one."""
    header = file.read(8 if syntax.is_implicit_VR else 12)
    if not header:
        return False
    order: Literal["little", "big"] = "little" if syntax.is_little_endian else "big"
    length = int.from_bytes(header[-4:], order)
    if length != _UNDEFINED:
        file.seek(length, os.SEEK_CUR)
        return True
    while (header := file.read(8)).startswith(_ITEM):
        file.seek(int.from_bytes(header[4:], "little"), os.SEEK_CUR)
    return bool(header)
