"""What HeaderScan keeps of a data set: every encoding, sequences, character sets, bounds."""

import struct
import warnings
from timeit import repeat

import pytest

from dimse.archive import elements, values
from dimse.archive.header import INFLATED, HeaderScan
from dimse.errors import StatusError
from tests.archive.data_sets import (
    BIG_ENDIAN,
    CHARSET,
    CODES,
    DEFLATED,
    END_OF_ITEM,
    END_OF_SEQUENCE,
    ITEM,
    JPEG,
    MEANING,
    MODALITY,
    NAME,
    PATIENT_ID,
    PIXELS,
    PRIVATE,
    REQUEST,
    ROWS,
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STEP_ID,
    STUDY,
    UID,
    UIDS,
    UNDEFINED,
    WANTED,
    data_set,
    deflate,
    delimiter,
    element,
    order_of,
    received,
    scan,
    sequence,
)
from tests.wire import EXPLICIT, IMPLICIT

SYNTAXES = (IMPLICIT, EXPLICIT, BIG_ENDIAN)
HANGING_PROTOCOL = "1.2.840.10008.5.1.4.38.1"


def typical(syntax: str, undefined: bool = False) -> bytes:
    """A small image with nested sequences, one of them not wanted, and private elements."""

    def short(tag: int, value: int) -> bytes:
        return element(tag, "US", struct.pack(order_of(syntax) + "H", value), syntax)

    code = element(MEANING, "LO", b"Chest ", syntax)
    codes = sequence(CODES, code, code, syntax=syntax, undefined=undefined)
    step = element(PRIVATE, "OB", b"1234", syntax) + codes + element(STEP_ID, "SH", b"S1", syntax)
    return data_set(
        element(MODALITY, "CS", b"CT", syntax),
        sequence(0x00081140, code, syntax=syntax, undefined=undefined),
        element(0x00090010, "LO", b"MAKER ", syntax),
        element(PRIVATE, "UN", b"\xff" * 20, syntax),
        element(NAME, "PN", b"Doe^Jane", syntax),
        element(PATIENT_ID, "LO", b"", syntax),
        short(ROWS, 512),
        sequence(REQUEST, step, b"", syntax=syntax, undefined=undefined),
        syntax=syntax,
    ) + element(PIXELS, "OW", bytes(1000), syntax)


EXPECTED = {
    **UIDS,
    MODALITY: "CT",
    NAME: "Doe^Jane",
    PATIENT_ID: "",
    ROWS: "512",
    REQUEST: [{CODES: [{MEANING: "Chest"}, {MEANING: "Chest"}], STEP_ID: "S1"}, {}],
}


class TestEncodings:
    @pytest.mark.parametrize("undefined", [False, True])
    @pytest.mark.parametrize("syntax", SYNTAXES)
    def test_uncompressed(self, syntax: str, undefined: bool):
        assert scan(typical(syntax, undefined), syntax) == EXPECTED

    def test_deflated(self):
        assert scan(deflate(typical(EXPLICIT)), DEFLATED) == EXPECTED

    def test_deflated_with_padding_or_the_trailer_of_gzip(self):
        whole = deflate(typical(EXPLICIT) + element(PIXELS, "OW", bytes(200_000)))
        for behind in (b"\0", b"\x12\x34\x56\x78\x9a\xbc\xde\xf0\0"):
            assert scan(whole + behind, DEFLATED) == EXPECTED
            assert scan(whole + behind, DEFLATED, cuts=range(len(whole + behind))) == EXPECTED

    def test_encapsulated_pixel_data_and_what_follows_it(self):
        """The fragments hold what looks like delimiters, and end with their own."""
        fragment = delimiter(END_OF_SEQUENCE) + b"\xff\xd8" * 5
        fragments = delimiter(ITEM) + delimiter(ITEM, len(fragment)) + fragment
        pixels = element(PIXELS, "OB", fragments + delimiter(END_OF_SEQUENCE), length=UNDEFINED)
        data = typical(EXPLICIT).replace(element(PIXELS, "OW", bytes(1000)), pixels)
        assert scan(data + element(0xFFFCFFFC, "OB", bytes(6)), JPEG) == EXPECTED

    @pytest.mark.parametrize("syntax", SYNTAXES)
    def test_trailing_padding(self, syntax: str):
        assert scan(typical(syntax) + element(0xFFFCFFFC, "OB", bytes(10), syntax), syntax)

    def test_odd_lengths(self):
        """Old writers send them, and pad the whole with a NUL."""
        data = data_set(element(NAME, "PN", b"Doe"), element(PATIENT_ID, "LO", b"7"))
        for whole in (data, data + b"\0"):
            assert scan(whole) == {**UIDS, NAME: "Doe", PATIENT_ID: "7"}

    def test_any_order_of_tags_and_the_last_of_two(self):
        late = element(NAME, "PN", b"A") + element(SOP_INSTANCE, "UI", UID.encode())
        assert scan(data_set() + late + element(NAME, "PN", b"B")) == {**UIDS, NAME: "B"}


class TestUnusualVRs:
    @pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN])
    @pytest.mark.parametrize("undefined", [False, True])
    def test_un_is_what_the_dictionary_says_in_implicit_vr(self, syntax: str, undefined: bool):
        """PS3.5 6.2.2: little endian inside, whatever is around it."""
        within = sequence(
            REQUEST,
            element(STEP_ID, "SH", b"S1", IMPLICIT),
            syntax=IMPLICIT,
            undefined=undefined,
        )[8:]
        length = UNDEFINED if undefined else None
        whole = data_set(
            element(NAME, "UN", b"Doe ", syntax),
            element(PRIVATE + 1, "UN", within, syntax, length),
            element(REQUEST, "UN", within, syntax, length),
            syntax=syntax,
        )
        assert scan(whole, syntax) == {**UIDS, NAME: "Doe", REQUEST: [{STEP_ID: "S1"}]}

    def test_unknown_vr_has_a_long_length(self):
        """PS3.5 6.2: so will every new one."""
        whole = data_set(element(0x00091002, "ZZ", bytes(70000)), element(NAME, "ZZ", b"Doe "))
        assert scan(whole) == {**UIDS, NAME: "Doe"}

    def test_what_is_a_sequence_for_one_side_alone_is_not_kept(self):
        whole = data_set(
            sequence(NAME, element(STEP_ID, "SH", b"S1"), undefined=True),
            sequence(PATIENT_ID, element(STEP_ID, "SH", b"S1")),
            element(REQUEST, "LO", b"text"),
        )
        assert scan(whole) == UIDS

    def test_of_items_neither_binary_nor_group_lengths(self):
        item = element(0x00080000, "UL", bytes(4)) + element(MEANING, "LO", b"x")
        item += b"".join(element(PRIVATE, vr, bytes(8)) for vr in ("OB", "OW", "OF", "OD", "UN"))
        item += element(PRIVATE + 1, "LO", b"private")
        whole = data_set(sequence(REQUEST, item))
        assert scan(whole)[REQUEST] == [{MEANING: "x", PRIVATE + 1: "private"}]

    @pytest.mark.parametrize("undefined", [False, True])
    def test_empty_sequence(self, undefined: bool):
        whole = data_set(sequence(REQUEST, undefined=undefined), element(NAME, "PN", b"A"))
        assert scan(whole) == {**UIDS, REQUEST: [], NAME: "A"}


class TestCharacterSets:
    JAPANESE = "山田^太郎".encode("iso2022_jp")

    @pytest.mark.parametrize(
        ("charset", "raw", "expected"),
        [
            (b"ISO_IR 100", "Müller^Jürgen".encode("latin-1"), "Müller^Jürgen"),
            (b"ISO-IR 100", "Müller".encode("latin-1"), "Müller"),  # as some write it
            (b"ISO_IR 192", "Янсен^山田".encode(), "Янсен^山田"),
            (b"GB18030", "王^小东".encode("gb18030"), "王^小东"),
            (b"\\ISO 2022 IR 87", b"Yamada^Taro=" + JAPANESE, "Yamada^Taro=山田^太郎"),
            (b"ISO_IR 192", b"M\xfcller", "M\ufffdller"),  # not what it says to be
            (b"no such set", b"M\xfcller", "Müller"),  # the default, as pydicom reads it
            (b"", b"M\xfcller", "Müller"),
            (b"", "Müller^山田".encode(), "Müller^山田"),  # not declared, and nothing else
            (b"\\ISO 2022 IR 87", "Müller".encode(), "Müller"),
            (b"punycode", b"M\xfcller", "Müller"),  # a codec of Python, and no character set
        ],
    )
    def test_text(self, charset: bytes, raw: bytes, expected: str):
        whole = data_set(element(CHARSET, "CS", charset), element(NAME, "PN", raw))
        assert scan(whole)[NAME] == expected

    @pytest.mark.parametrize("raw", [b"A\x1bB\x1b$B\xff\xff", b"\x1b", b"\x1b$)C\x1b-A\xff"])
    def test_escapes_that_mean_nothing_raise_nothing(self, raw: bytes):
        """Neither where warnings are errors nor where they are not."""
        whole = data_set(element(CHARSET, "CS", b"\\ISO 2022 IR 87"), element(NAME, "PN", raw))
        for action in ("error", "ignore"):
            with warnings.catch_warnings():
                warnings.simplefilter(action)
                assert isinstance(scan(whole)[NAME], str)

    def test_escapes_without_end_are_not_followed(self, monkeypatch: pytest.MonkeyPatch):
        """Each takes pydicom a while, and 256 KiB of them would take it four seconds."""
        monkeypatch.setattr(values, "decode_bytes", None)
        raw = b"\x1b" * (elements.MOST_ESCAPES + 1)
        whole = data_set(element(CHARSET, "CS", b"\\ISO 2022 IR 87"), element(NAME, "PN", raw))
        assert scan(whole)[NAME] == raw.decode("ascii")

    def test_backslash_inside_of_a_character_parts_no_values(self):
        name = b"\x83\x5c"  # its second byte is that of a backslash
        whole = data_set(element(CHARSET, "CS", b"ISO_IR 13"), element(NAME, "PN", name + b"\\A"))
        assert scan(whole)[NAME] == "ソ\\A"

    def test_items_have_their_own_or_that_of_what_they_are_in(self):
        latin = element(CHARSET, "CS", b"ISO_IR 100") + element(MEANING, "LO", b"\xfc")
        inner = sequence(CODES, element(MEANING, "LO", "ü".encode()))
        own = latin + sequence(CODES, element(MEANING, "LO", b"\xfc"))
        whole = data_set(
            element(CHARSET, "CS", b"ISO_IR 192"), sequence(REQUEST, own, inner), latin[:0]
        )
        one = {MEANING: "ü"}
        assert scan(whole)[REQUEST] == [{**one, CODES: [one]}, {CODES: [one]}]

    def test_comes_after_the_text(self):
        whole = data_set(element(NAME, "PN", "ü".encode()), element(CHARSET, "CS", b"ISO_IR 192"))
        assert scan(whole)[NAME] == "ü"
        assert CHARSET not in scan(whole, wanted=frozenset({NAME}))


class TestRefusals:
    @pytest.mark.parametrize("tag", [SOP_CLASS, SOP_INSTANCE])
    def test_padding_of_the_command_does_not_matter(self, tag: int):
        spaced = {**UIDS, tag: UIDS[tag] + " \0"}
        instance = received(uid=f"{UID}\0", sop_class=f"{UIDS[SOP_CLASS]} ")
        assert scan(data_set(uids=spaced), instance=instance) == UIDS

    def test_non_patient_objects_have_no_study(self):
        uids = {SOP_CLASS: HANGING_PROTOCOL, SOP_INSTANCE: UID}
        instance = received(sop_class=HANGING_PROTOCOL)
        assert scan(data_set(uids=uids), instance=instance) == uids

    def test_no_value_is_in_the_text(self):
        for tag in UIDS:
            with pytest.raises(StatusError) as caught:
                scan(data_set(uids={**UIDS, tag: "9.8.secret"}))
            assert "secret" not in str(caught.value)
            assert len(caught.value.comment) <= 64  # Error Comment is LO

    def test_from_feed_as_soon_as_it_is_certain(self):
        header = HeaderScan(received(), WANTED)
        with pytest.raises(StatusError) as caught:
            header.feed(data_set(uids={SOP_INSTANCE: "1.2.9"}))
        assert (caught.value.status, caught.value.offending) == (0xA900, (SOP_INSTANCE,))


class TestBounds:
    def test_a_value_too_long_is_left_out(self):
        longest = element(NAME, "UT", b"x" * elements.LONGEST_VALUE)
        assert len(scan(data_set(longest))[NAME]) == elements.LONGEST_VALUE
        longer = element(NAME, "UT", b"x" * (elements.LONGEST_VALUE + 1))
        for cuts in ((), range(0, 70000, 7)):
            assert scan(data_set(longer, element(MODALITY, "CS", b"CT")), cuts=cuts) == {
                **UIDS,
                MODALITY: "CT",
            }

    def test_bytes_and_the_uids_outside_of_them(self):
        text = element(STEP_ID, "UT", b"x" * 60000)
        whole = data_set(sequence(REQUEST, *[text] * 10))
        found = scan(whole)
        assert found == {**UIDS, REQUEST: found[REQUEST]}
        assert sum(map(len, str(found))) <= elements.MOST_BYTES

    def test_elements_and_items(self):
        whole = data_set(sequence(REQUEST, *[b""] * (elements.MOST_ELEMENTS * 2)))
        assert len(scan(whole)[REQUEST]) == elements.MOST_ELEMENTS - 1  # and the sequence

    def test_without_room_what_has_a_length_is_skipped(self):
        """Wherever the fragments are cut; and that all of it came is still seen."""
        full = element(STEP_ID, "SH") * elements.MOST_ELEMENTS
        garbage = element(CODES, "SQ", b"garbage in a sequence")
        whole = data_set(sequence(REQUEST, full + garbage, garbage))
        for cuts in ((), range(0, len(whole), 50), range(0, len(whole), 7)):
            assert scan(whole, cuts=cuts) == {**UIDS, REQUEST: [{STEP_ID: ""}]}
        last = data_set() + sequence(REQUEST, full, garbage, b"garbage in an item")
        assert scan(last)
        for missing in (1, 20):
            with pytest.raises(StatusError):
                scan(last[:-missing])

    def test_deflated_is_looked_at_up_to_a_bound(self):
        """Large pixels are not inflated for nothing; a cut off end of them goes unseen."""
        pixels = element(PIXELS, "OW", bytes(2 * INFLATED))
        whole = deflate(data_set(element(MODALITY, "CS", b"CT")) + pixels)
        assert scan(whole[:-100], DEFLATED) == {**UIDS, MODALITY: "CT"}


def test_pixels_cost_nothing_by_the_byte():
    """A fragment of a megabyte that is skipped takes no longer than one of 64 bytes."""
    header = HeaderScan(received(), WANTED)
    header.feed(data_set() + element(PIXELS, "OW", length=1 << 31))

    def took(fragment: bytes) -> float:
        return min(repeat(lambda: header.feed(fragment), number=100, repeat=9))

    assert took(bytes(1 << 20)) < 5 * took(bytes(64))


def test_delimiters_where_they_are_not_allowed():
    for stray in (delimiter(END_OF_ITEM), delimiter(END_OF_SEQUENCE), delimiter(ITEM)):
        with pytest.raises(StatusError) as caught:
            scan(data_set(stray))
        assert caught.value.status == 0xC000


def test_missing_are_all_named():
    with pytest.raises(StatusError) as caught:
        scan(data_set(uids={SOP_CLASS: UIDS[SOP_CLASS], SOP_INSTANCE: UID}))
    assert caught.value.offending == (STUDY, SERIES)
