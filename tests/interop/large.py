"""Instances of 512 MB that cost no memory to make, and none to compare."""

import hashlib
import os
from pathlib import Path

from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset

from tests.interop.corpus import read_head
from tests.interop.syntaxes import LARGE_STORAGE

ROWS = COLUMNS = 1024
FRAMES = 256
PIXELS = ROWS * COLUMNS * 2 * FRAMES  # bytes: 512 MiB
_SOME = 1024 * 1024


def write_head(path: Path, sop_instance_uid: str) -> None:
    """A 16-bit multi-frame Secondary Capture up to its pixel data, which is to be appended."""
    dataset = Dataset()
    dataset.SOPClassUID = LARGE_STORAGE
    dataset.SOPInstanceUID = sop_instance_uid
    dataset.PatientID = "1"
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = "1.2.3"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = ROWS, COLUMNS, FRAMES
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    with path.open("ab") as file:  # (7FE0,0010), OW (PS3.5 7.1.2)
        file.write(b"\xe0\x7f\x10\0OW\0\0" + PIXELS.to_bytes(4, "little"))


def write_random(path: Path) -> None:
    """With a megabyte of noise, shifted by a byte every time so that no two are the same."""
    write_head(path, "1.2.3.512")
    noise = os.urandom(_SOME)
    with path.open("ab") as file:
        for number in range(PIXELS // _SOME):
            file.write(noise[number:] + noise[:number])


def write_sparse(path: Path, number: int) -> None:
    """All zeros, and no block on the disk."""
    write_head(path, f"1.2.3.1024.{number}")
    os.truncate(path, path.stat().st_size + PIXELS)


def digest(path: Path) -> str:
    """SHA-256 of the data set."""
    _, offset = read_head(path)
    with path.open("rb") as file:
        file.seek(offset)
        return hashlib.file_digest(file, "sha256").hexdigest()
