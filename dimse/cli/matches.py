"""What becomes of the matches of a query: a table, lines, CSV, DICOM JSON, or files."""

import csv
import json
import os
import sys
from collections.abc import Iterable
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, Protocol

import click
from pydicom import DataElement, Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dimse.cli.keys import KeyPath, Step
from dimse.cli.running import say
from dimse.errors import DimseError, MisuseError


class Output(Protocol):
    """Takes the matches as they come; `end` is called in any case."""

    def add(self, match: Dataset, number: int) -> None:
        """One match; the first is number 1."""

    def end(self) -> None:
        """There are no more."""


class Lines:
    """A line for each match, the values of the keys with tabs between."""

    def __init__(self, columns: tuple[KeyPath, ...]) -> None:
        self._columns = columns

    def add(self, match: Dataset, number: int) -> None:
        """Print it."""
        click.echo("\t".join(_row(match, self._columns)))

    def end(self) -> None:
        """All is printed."""


class Csv:
    """The same as CSV, with the keys in the first line."""

    def __init__(self, columns: tuple[KeyPath, ...]) -> None:
        self._columns = columns
        self._print(map(str, columns))

    def add(self, match: Dataset, number: int) -> None:
        """Print it."""
        self._print(_row(match, self._columns))

    def end(self) -> None:
        """All is printed."""

    def _print(self, row: Any) -> None:
        line = StringIO()
        csv.writer(line, lineterminator="").writerow(row)
        click.echo(line.getvalue())


class Json:
    """An object of the DICOM JSON Model for each match, in a line (PS3.18 F)."""

    def add(self, match: Dataset, number: int) -> None:
        """Print it. What pydicom cannot convert is left out, and its tag is said."""
        attributes: dict[str, Any] = {}
        for tag in sorted(match.keys()):
            try:
                element = match[tag]
                attributes[f"{int(tag):08X}"] = element.to_json_dict(None, 0)
            except Exception:  # noqa: BLE001  whatever pydicom says; the text may hold values
                say(f"match {number}: the value of {Step(tag)} is not valid, and left out")
        click.echo(json.dumps(attributes))

    def end(self) -> None:
        """All is printed."""


class Columns:
    """A table on a terminal, printed at the end; columns that stay empty are left out."""

    def __init__(self, columns: tuple[KeyPath, ...]) -> None:
        self._columns = columns
        self._rows: list[list[str]] = []

    def add(self, match: Dataset, number: int) -> None:
        """Keep it, for its width counts."""
        self._rows.append(_row(match, self._columns))

    def end(self) -> None:
        """Print all."""
        if not self._rows:
            return
        shown = [number for number, _ in enumerate(self._columns) if any(self._of(number))]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for number in shown:
            table.add_column(self._columns[number].title, overflow="fold")
        for row in self._rows:
            table.add_row(*(Text(row[number]) for number in shown))
        Console().print(table)

    def _of(self, column: int) -> list[str]:
        return [row[column] for row in self._rows]


class Files:
    """A DICOM file for each match, `rsp00001.dcm` and so on, of mode 0600.

    Raises `MisuseError` for a folder that cannot be used.
    """

    def __init__(self, folder: Path, sop_class: str) -> None:
        self._folder = folder
        self._sop_class = sop_class
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise MisuseError(f"folder {folder}: {error.strerror}") from error

    def add(self, match: Dataset, number: int) -> None:
        """Write it; never over another file."""
        path = self._folder / f"rsp{number:05}.dcm"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        encoded = self._encoded(match, number)
        try:
            with open(os.open(path, flags, 0o600), "wb") as file:
                file.write(encoded)
        except OSError as error:
            raise DimseError(f"{path}: {error.strerror}") from error

    def end(self) -> None:
        """All is written."""

    def _encoded(self, match: Dataset, number: int) -> bytes:
        match.file_meta = FileMetaDataset()
        match.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        match.file_meta.MediaStorageSOPClassUID = UID(self._sop_class)
        match.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        match.preamble = bytes(128)
        encoded = BytesIO()
        try:
            dcmwrite(encoded, match, enforce_file_format=False)
        except Exception as error:  # whatever pydicom says of it; the text may hold values
            raise DimseError(f"match {number} cannot be written as a file") from error
        return encoded.getvalue()


def is_terminal() -> bool:
    """Whether somebody looks at what is printed."""
    return sys.stdout.isatty()


def _row(match: Dataset, columns: tuple[KeyPath, ...]) -> list[str]:
    return [_shown("; ".join(_values(match, path))) for path in columns]


def _values(dataset: Dataset, path: KeyPath | tuple[Step, ...]) -> list[str]:
    """What is at a path, in each of the items on the way."""
    step, *inside = path
    if step.tag not in dataset:
        return []
    if not inside:
        return [_text(dataset, step)]
    items = _items(dataset, step)
    return [value for item in items for value in _values(item, tuple(inside)) if value]


def _items(dataset: Dataset, step: Step) -> Iterable[Dataset]:
    """Those of a sequence; what a peer sends in its place has none."""
    try:
        value = dataset[step.tag].value
    except Exception:  # noqa: BLE001  pydicom cannot convert it
        return ()
    return value if isinstance(value, Sequence) else ()


def _text(dataset: Dataset, step: Step) -> str:
    try:
        element: DataElement = dataset[step.tag]
    except Exception:  # noqa: BLE001  pydicom cannot convert it
        return _as_it_came(dataset, step)
    value = element.value
    if element.VR == "SQ":
        return f"{len(value)} items"
    if isinstance(value, bytes):
        return _undecoded(value)
    if element.VM > 1:
        return "\\".join(map(str, value))
    return "" if element.is_empty else str(value)


def _as_it_came(dataset: Dataset, step: Step) -> str:
    try:
        value = dataset.get_item(step.tag).value
    except Exception:  # noqa: BLE001  an empty one is converted here too
        return ""
    return _undecoded(value) if isinstance(value, bytes) else ""


def _undecoded(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("ascii", "backslashreplace")


def _shown(text: str) -> str:
    """Fit for a line and a terminal, which what a peer sends cannot steer."""
    encoding = sys.stdout.encoding or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
