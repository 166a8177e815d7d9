"""Worklist items in files: DICOM, or DICOM JSON (PS3.18 F)."""

import json
import os
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

from pydicom import Dataset, dcmread
from twisted.logger import Logger

from dimse.archive.attributes import Attributes, Value, name_of
from dimse.archive.key_text import (
    DEFAULT_ENCODINGS,
    UnreadableError,
    encodings_of,
    text_of,
    vr_of,
    vrs_of,
)
from dimse.archive.worklist_keys import missing
from dimse.errors import MisuseError

SUFFIXES = (".dcm", ".json", ".wl")

_LONGEST = 16 * 1024 * 1024  # of a file, in bytes
_LONGEST_TEXT = 1024 * 1024
_DEEPEST = 16  # sequences in sequences
_CHARACTER_SET = 0x00080005

_Stamp = tuple[int, int, int]
"""Of a file: inode, size, time of its last change."""


class WorklistFolder:
    """Worklist items from the files of a folder with one of `SUFFIXES`, as they are now.

    A file that cannot be read is left out, and the log says why, once.
    """

    log = Logger()

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._read: dict[str, tuple[_Stamp, list[Attributes]]] = {}

    def pages(self, dates: object = None) -> Iterator[Sequence[Attributes]]:
        """The items of each file, in the order of the names; blocks."""
        read: dict[str, tuple[_Stamp, list[Attributes]]] = {}
        for name, stamp in self._files():
            before = self._read.get(name)
            if before is None or before[0] != stamp:
                before = stamp, self._items(self._folder / name)
            read[name] = before
        self._read = read
        return (items for _, items in read.values())

    def _files(self) -> list[tuple[str, _Stamp]]:
        found = []
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if entry.name.endswith(SUFFIXES) and entry.is_file():
                        stat = entry.stat()
                        stamp = stat.st_ino, stat.st_size, stat.st_mtime_ns
                        found.append((entry.name, stamp))
        except OSError as error:
            self.log.error("worklist {folder}: {error}", folder=self._folder, error=error.strerror)
        return sorted(found)

    def _items(self, path: Path) -> list[Attributes]:
        try:
            return read_items(path)
        except MisuseError as error:
            self.log.error("worklist: {error}", error=error)
            return []


def read_items(path: Path) -> list[Attributes]:
    """The worklist items of a file: one of DICOM, one or an array of them of DICOM JSON.

    Raises `MisuseError` for a file that holds none, or lacks what an item has to have; its text
    names no value.
    """
    try:
        if path.stat().st_size > _LONGEST:
            raise MisuseError(f"{path} is longer than {_LONGEST} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise MisuseError(f"{path}: {error.strerror}") from error
    with catch_warnings():
        simplefilter("ignore")  # pydicom's, which quote values
        try:
            items = [attributes_in(dataset) for dataset in _datasets(data)]
        except UnreadableError as error:
            raise MisuseError(f"{path}: {error}") from None
        except Exception:  # noqa: BLE001  whatever pydicom says of it; the text may hold values
            raise MisuseError(f"{path} is neither DICOM nor DICOM JSON") from None
    for item in items:
        if lacks := missing(item):
            raise MisuseError(f"{path} lacks {', '.join(lacks)} (PS3.4 K.6.1.2.2)")
    return items


def _datasets(data: bytes) -> list[Dataset]:
    if data.lstrip()[:1] in (b"{", b"["):
        read: Any = json.loads(data)
        return [_from_json(each) for each in (read if isinstance(read, list) else [read])]
    return [dcmread(BytesIO(data), force=True)]


def _from_json(read: Any) -> Dataset:
    """In Unicode, whatever its Specific Character Set says (PS3.18 F.2)."""
    dataset = Dataset.from_json(read)
    if _CHARACTER_SET in dataset:
        del dataset[_CHARACTER_SET]
    return dataset


def attributes_in(
    dataset: Dataset, inherited: Sequence[str] = DEFAULT_ENCODINGS, depth: int = 0
) -> Attributes:
    """The attributes of a Dataset as text; without private ones, and how it is encoded.

    Raises `UnreadableError`, whose text names the attribute and no value.
    """
    if depth > _DEEPEST:
        raise UnreadableError("sequences too deep")
    encodings = encodings_of(dataset, inherited)
    found: Attributes = {}
    for tag in sorted(map(int, dataset.keys())):
        if tag == _CHARACTER_SET or not vrs_of(tag):
            continue
        try:
            found[tag] = _value(dataset, tag, encodings, depth)
        except UnreadableError as error:
            raise UnreadableError(f"{name_of(tag)}: {error}") from None
    return found


def _value(dataset: Dataset, tag: int, encodings: Sequence[str], depth: int) -> Value:
    vr = vr_of(dataset, tag)
    if vr == "SQ":
        items = dataset[tag].value or ()
        return [attributes_in(item, encodings, depth + 1) for item in items] or ""
    return text_of(dataset, tag, vr, encodings, _LONGEST_TEXT)
