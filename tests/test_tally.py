"""What the end of an association says of its requests."""

import pytest

from dimse.message.status import Status
from dimse.tally import Tally


@pytest.mark.parametrize(
    ("answered", "text"),
    [
        ([], ""),
        ([(0, "C-STORE")], "1 instance stored"),
        (
            [(0, "C-STORE")] * 12 + [(0x0111, "C-STORE")],
            "12 instances stored, 1 refused with 0x0111",
        ),
        ([(0xB000, "C-STORE")] * 2, "2 instances stored with 0xB000"),
        (
            [(0xFE00, "C-FIND"), (0, "C-FIND"), (0xA900, "C-FIND"), (0, "C-ECHO")],
            "1 C-ECHO, 1 C-FIND, 1 C-FIND answered with 0xA900, 1 C-FIND cancelled",
        ),
        ([(0, "N-ACTION 1"), (0, "N-ACTION 2")], "2 N-ACTION"),
        ([(0x0211, "")], "1 unknown request answered with 0x0211"),
    ],
)
def test_words(answered: list[tuple[int, str]], text: str):
    tally = Tally()
    for code, operation in answered:
        tally.count(Status(code, operation))
    assert str(tally) == text
