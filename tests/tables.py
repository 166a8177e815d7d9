"""The tables and worked examples of tests/standard: what the code is held against."""

import csv
from pathlib import Path

STANDARD = Path(__file__).parent / "standard"

Row = dict[str, str]


def rows(name: str) -> list[Row]:
    """The rows of a table, by the names in its header."""
    with (STANDARD / f"{name}.csv").open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def example(name: str) -> list[bytes]:
    """The PDUs of a worked example."""
    text = (STANDARD / "worked_examples" / f"{name}.hex").read_text(encoding="ascii")
    return [bytes.fromhex(line) for line in text.split()]


def codes(text: str) -> range:
    """The codes that `B000` or `C000-CFFF` names."""
    first, _, last = text.partition("-")
    return range(int(first, 16), int(last or first, 16) + 1)
