"""A status explains itself; the tables of codes are held against the standard elsewhere."""

import pytest

from dimse.message import status
from dimse.message.status import Status
from tests.tables import codes, rows

STATUSES = [row for row in rows("statuses") if row["code_or_range"][0] in "0ABCF"]
CONSTANTS = {name: value for name, value in vars(status).items() if isinstance(value, Status)}


@pytest.mark.parametrize("name", CONSTANTS)
def test_names(name: str):
    """The code of a constant stands in the table, as what the name says of it."""
    category = "WARNING" if "WARNING" in name and name != "PENDING_WARNING" else None
    listed = [row for row in STATUSES if int(CONSTANTS[name]) in codes(row["code_or_range"])]
    assert listed
    assert category is None or {row["category"].upper() for row in listed} == {category}


def test_it_is_an_int():
    assert Status(0xA700) == 0xA700
    assert f"{Status(0xA700):04X}" == "A700"
    assert hash(Status(7)) == hash(7)


def test_repr_and_str():
    assert repr(Status(0x0122)) == "Status(0x0122)"
    assert str(Status(0x0122)) == "0x0122 (Refused: SOP Class not supported)"


@pytest.mark.parametrize(
    ("code", "meaning"),
    [(0xA123, "Failure"), (0xFF00, "Pending"), (3, "not allowed")],
)
def test_a_code_without_a_meaning_has_its_category(code: int, meaning: str):
    assert Status(code).meaning == meaning
    assert not Status(code).is_success


def test_codes_beyond_two_bytes():
    assert Status(0x10000).category.value == "not allowed"
    assert Status(-1).category.value == "not allowed"
