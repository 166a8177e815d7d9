"""A status explains itself; the tables of codes are held against the standard elsewhere."""

import pytest

from dimse.message import status
from dimse.message.status import Status
from tests.tables import codes, rows

ALL = [
    (row["meaning"].partition(" - ")[0], codes(row["code_or_range"]))
    for row in rows("statuses")
    if row["scope"] in ("general", "Storage")
]
# Words of the table that the names leave out.
PREFIXES = ("refused: ", "error: ", "")


@pytest.mark.parametrize(
    "name", [name for name, value in vars(status).items() if isinstance(value, Status)]
)
def test_names(name: str):
    """A constant is named as the standard names its code."""
    code = getattr(status, name)
    meanings = {meaning.lower() for meaning, span in ALL if int(code) in span}
    words = name.lower().replace("_", " ")
    assert meanings & {prefix + words for prefix in PREFIXES} or (name, int(code)) == ("SUCCESS", 0)


def test_it_is_an_int():
    assert Status(0xA700) == 0xA700
    assert f"{Status(0xA700):04X}" == "A700"
    assert hash(Status(7)) == hash(7)


def test_repr_and_str():
    assert repr(Status(0x0122)) == "Status(0x0122)"
    assert str(Status(0x0122)) == "0x0122 (Refused: SOP Class not supported)"


@pytest.mark.parametrize(
    ("code", "meaning"),
    [(0xA123, "Failure"), (0xFE00, "Cancel"), (0xFF00, "Pending"), (3, "not allowed")],
)
def test_a_code_without_a_meaning_has_its_category(code: int, meaning: str):
    assert Status(code).meaning == meaning
    assert not Status(code).is_success


def test_codes_beyond_two_bytes():
    assert Status(0x10000).category.value == "not allowed"
    assert Status(-1).category.value == "not allowed"
