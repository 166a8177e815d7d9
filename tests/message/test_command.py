"""Command sets (PS3.7 6.3.1): what is encoded, what is skipped, what is refused."""

import pytest

from dimse.errors import MisuseError, ProtocolError
from dimse.message import command


def element(number: int, value: bytes, group: int = 0) -> bytes:
    return (
        group.to_bytes(2, "little")
        + number.to_bytes(2, "little")
        + len(value).to_bytes(4, "little")
        + value
    )


FIELD = element(0x0100, b"\x30\x00")


class TestEncode:
    def test_group_length_comes_first_and_counts_the_rest(self):
        assert command.encode({"CommandField": 0x30}) == element(0, b"\x0a\0\0\0") + FIELD

    def test_nothing(self):
        assert command.encode({}) == element(0, bytes(4))

    def test_a_given_group_length_does_not_count(self):
        """So what was decoded can be encoded again."""
        elements = command.decode(command.encode({"CommandField": 0x30, "ErrorComment": "x"}))
        assert elements["CommandGroupLength"] == 20
        assert command.encode(elements) == command.encode(
            {"ErrorComment": "x", "CommandField": 0x30, "CommandGroupLength": 7}
        )
        assert command.decode(command.encode(elements)) == elements

    @pytest.mark.parametrize(
        ("keyword", "value", "encoded"),
        [
            ("AffectedSOPClassUID", "1.2.3", b"1.2.3\0"),
            ("AffectedSOPClassUID", "1.23", b"1.23"),
            ("MoveDestination", "ABC", b"ABC "),
            ("ErrorComment", "abc", b"abc "),
            ("OffendingElement", (0x00080018, 0x7FE00010), b"\x08\0\x18\0\xe0\x7f\x10\0"),
            ("MessageID", 0x0102, b"\2\1"),
            ("MessageID", 0xFFFF, b"\xff\xff"),
        ],
    )
    def test_values(self, keyword: str, value: command.Value, encoded: bytes):
        number, _ = command.ELEMENTS[keyword]
        assert command.encode({keyword: value})[12:] == element(number, encoded)

    @pytest.mark.parametrize("value", [b"", b"\1\2\3"])
    def test_bytes_stay_as_they_are(self, value: bytes):
        """So what did not fit its VR can be encoded again."""
        assert command.encode({"MessageID": value})[12:] == element(0x0110, value)

    @pytest.mark.parametrize(
        ("comment", "encoded"),
        [
            ("\u0444\xe9!", b"??! "),
            ("a\\b", b"a/b "),
            ("x" * 65, b"x" * 64),
            ("x" * 62 + "\\\\\\", b"x" * 62 + b"//"),
        ],
    )
    def test_a_comment_always_arrives(self, comment: str, encoded: bytes):
        """In ASCII, one value, of at most 64 characters."""
        assert command.encode({"ErrorComment": comment})[20:] == encoded

    @pytest.mark.parametrize("keyword", ["AffectedSOPClassUID", "MoveDestination"])
    def test_other_text_has_to_be_ascii(self, keyword: str):
        with pytest.raises(MisuseError, match="ASCII"):
            command.encode({keyword: "\xe9"})

    @pytest.mark.parametrize(
        ("keyword", "value"),
        [
            ("Status", 0x10000),
            ("MessageID", -1),
            ("OffendingElement", (0x100000000,)),
            ("OffendingElement", (-1,)),
        ],
    )
    def test_numbers_that_do_not_fit(self, keyword: str, value: command.Value):
        with pytest.raises(MisuseError, match="fit"):
            command.encode({keyword: value})


class TestDecode:
    def test_nothing(self):
        assert command.decode(b"") == {}

    def test_group_length_decides_nothing(self):
        """H-D02: absent, zero, too large: the length of the command set is what came."""
        lengths = [element(0, size.to_bytes(4, "little")) for size in (0, 9, 2**32 - 1)]
        for length in (b"", *lengths):
            elements = command.decode(length + FIELD)
            assert elements["CommandField"] == 0x30

    @pytest.mark.parametrize(
        ("number", "encoded", "text"),
        [
            (0x0002, b"1.2\0", "1.2"),
            (0x0002, b"1.2 ", "1.2"),
            (0x0002, b"1.2", "1.2"),
            (0x0600, b" AB ", "AB"),
            (0x0902, b"\xe9\0", "\xe9"),
        ],
    )
    def test_text_without_its_padding(self, number: int, encoded: bytes, text: str):
        assert list(command.decode(element(number, encoded)).values()) == [text]

    def test_tags(self):
        elements = command.decode(element(0x0901, b"\x08\0\x18\0\xe0\x7f\x10\0"))
        assert elements == {"OffendingElement": (0x00080018, 0x7FE00010)}

    @pytest.mark.parametrize(
        "skipped",
        [
            element(0x0018, b"1.2\0", group=8),
            element(0x0011, b"any", group=9),
            element(0x4000, b"retired "),
            element(0x0002, b"x" * 70000, group=0xFFFF),
        ],
    )
    def test_what_is_not_in_the_table_is_skipped(self, skipped: bytes):
        """H-D04: other groups, retired and private elements; in any order."""
        assert command.decode(skipped + FIELD + skipped) == {"CommandField": 0x30}

    def test_out_of_order(self):
        elements = command.decode(element(0x0900, b"\0\0") + FIELD)
        assert elements == {"Status": 0, "CommandField": 0x30}

    def test_the_first_of_two_counts(self):
        assert command.decode(FIELD + element(0x0100, b"\1\0")) == {"CommandField": 0x30}

    @pytest.mark.parametrize("length", range(1, 10))
    def test_ends_inside_an_element(self, length: int):
        with pytest.raises(ProtocolError):
            command.decode(FIELD + FIELD[:length])

    @pytest.mark.parametrize("claim", [3, 0x7FFFFFFF, 0xFFFFFFFF])
    def test_h_d03_length_beyond_the_end(self, claim: int):
        with pytest.raises(ProtocolError, match="0000,0100"):
            command.decode(FIELD[:4] + claim.to_bytes(4, "little") + b"\0\0")

    @pytest.mark.parametrize(
        ("number", "length"),
        [(0x0000, 2), (0x0100, 1), (0x0100, 4), (0x0901, 2), (0x0901, 6), (0x1005, 5)],
    )
    def test_h_d03_wrong_length_of_a_number_or_tag(self, number: int, length: int):
        """It stays bytes, for the request to be refused (H-D01); so does an empty value."""
        wire = element(number, b"\1" * length)
        assert list(command.decode(wire).values()) == [b"\1" * length]
        assert list(command.decode(element(number, b"")).values()) == [b""]
