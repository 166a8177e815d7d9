"""Text of values: numbers, padding, and as what a value is kept; PS3.5 6.2."""

import struct

import pytest

from dimse.archive.values import kind_of, number, tidy

NAME, ROWS, REQUEST, PIXELS = 0x00100010, 0x00280010, 0x00400275, 0x7FE00010
SMALLEST, LUT, PRIVATE = 0x00280106, 0x00283006, 0x00091001


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("vr", "code", "values", "expected"),
    [
        ("US", "H", (512,), "512"),
        ("SS", "h", (-1, 2), "-1\\2"),
        ("UL", "I", (2**32 - 1,), "4294967295"),
        ("SL", "i", (-(2**31),), "-2147483648"),
        ("UV", "Q", (2**64 - 1,), "18446744073709551615"),
        ("SV", "q", (-(2**63),), "-9223372036854775808"),
        ("FL", "f", (0.5, -2.0), "0.5\\-2.0"),
        ("FD", "d", (0.1,), "0.1"),
        ("AT", "H", (0x0008, 0x0018, 0x7FE0, 0x0010), "00080018\\7FE00010"),
        ("US", "H", (), ""),
    ],
)
def test_number(order: str, vr: str, code: str, values: tuple[float, ...], expected: str):
    raw = struct.pack(f"{order}{len(values)}{code}", *values)
    assert number(raw, vr, order) == expected
    assert number(raw + b"\xff", vr, order) == expected  # no whole number


@pytest.mark.parametrize(
    ("vr", "text", "expected"),
    [
        ("LO", " a b ", "a b"),
        ("CS", "A \\ B \\", "A\\B\\"),
        ("UI", "1.2\0", "1.2"),
        ("PN", " Doe ", " Doe"),  # leading spaces count in these
        ("LT", " a\\b \\ ", " a\\b \\"),  # and in these a backslash is one
        ("LO", "a\0b\0", "a\ufffdb"),
        ("DA", "20260101 ", "20260101"),
        ("LO", " \0", ""),
    ],
)
def test_padding(vr: str, text: str, expected: str):
    assert tidy(text, vr) == expected


@pytest.mark.parametrize(
    ("vr", "tag", "expected"),
    [
        (b"", NAME, "PN"),
        (b"UN", NAME, "PN"),
        (b"LO", NAME, "LO"),
        (b"SQ", NAME, ""),
        (b"LO", REQUEST, ""),
        (b"OB", REQUEST, ""),
        (b"??", REQUEST, "SQ"),
        (b"", SMALLEST, "US"),  # US or SS
        (b"SS", SMALLEST, "SS"),
        (b"", LUT, ""),  # US or OW
        (b"", PIXELS, ""),
        (b"", PRIVATE, ""),
        (b"SQ", PRIVATE, "SQ"),
        (b"LO", PRIVATE, "LO"),
        (b"UL", 0x00080000, ""),  # a group length
    ],
)
def test_kind(vr: bytes, tag: int, expected: str):
    assert kind_of(vr, tag) == expected
