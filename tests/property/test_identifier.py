"""Identifiers that a peer made up: keys or A900H, whatever the bytes (cases D21, K10, K11)."""

import struct
import warnings
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dimse.archive.attributes import Attributes
from dimse.archive.identifier import Rules, keys_of
from dimse.archive.matching import matches, requested
from dimse.archive.query import texts_of
from dimse.errors import DimseError, StatusError
from dimse.services.dataset import decode
from tests.tables import rows

SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
TAGS = [
    0x00080005, 0x00080018, 0x00080020, 0x00080030, 0x0008002A, 0x00080052, 0x00080061, 0x00080201,
    0x00081110, 0x00081150, 0x00090010, 0x00091001, 0x00100010, 0x00100020, 0x00100030, 0x00100032,
    0x00101001, 0x00101030, 0x0020000D, 0x00200013, 0x00280009, 0x00280010, 0x00280106, 0x00400100,
    0x00400002, 0x00400003, 0x0040A730, 0x00420011, 0x7FE00010, 0x00000000, 0x00080000, 0xFFFCFFFC,
    0xFFFEE000, 0xFFFEE00D, 0x60000010, 0x00187FFE,
]  # fmt: skip
LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
VRS = [row["vr"].encode() for row in rows("matching_by_vr")] + [b"ZZ", b"\0\0", b"  "]
TEXTS = [
    "", "*", "A*B?", '""', "A\\B", "\\\\", "^=^", "20240101", "20240101-20240102", "-",
    "99999999-", "1030-", "202401010000+0100-", "+0100", "1.5", "NaN", "1E999999999999",
    "1.2.3\\1.2.4", "\x1b$B;3", "idna", "ISO_IR 192", "\\ISO 2022 IR 87", "\xff\xfe",
]  # fmt: skip
VALUES = st.one_of(
    st.binary(max_size=24), st.sampled_from([text.encode("latin-1") for text in TEXTS])
)
ENTITIES = st.dictionaries(
    st.sampled_from(TAGS),
    st.recursive(
        st.sampled_from(
            ["", "A", "A\\B", "20240101", "1030", "20240101+0100", "Smith^J=X", "1.2.3"]
        ),
        lambda value: st.lists(
            st.dictionaries(st.sampled_from(TAGS), value, max_size=2), max_size=2
        ),
        max_leaves=4,
    ),
    max_size=6,
)
RULES = st.builds(
    Rules,
    fuzzy=st.booleans(),
    combined=st.booleans(),
    timezone=st.sampled_from([None, 0, 60, -720]),
    empty_value=st.booleans(),
    multiple_value=st.booleans(),
    worklist=st.booleans(),
    unknown_matches=st.frozensets(st.sampled_from(TAGS), max_size=3),
)


def element(syntax: str, tag: int, vr: bytes, value: bytes, undefined: bool) -> bytes:
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    length = 0xFFFFFFFF if undefined else len(value)
    end = struct.pack(order + "HHI", 0xFFFE, 0xE0DD, 0) if undefined else b""
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if syntax == ImplicitVRLittleEndian:
        return head + struct.pack("<I", length) + value + end
    if vr in LONG:
        return head + vr + struct.pack(order + "HI", 0, length) + value + end
    return head + vr + struct.pack(order + "H", len(value)) + value


@st.composite
def identifiers(draw: st.DrawFn) -> tuple[str, bytes]:
    """Elements with any VR and any value, items in them, and bytes that went wrong."""
    syntax = draw(st.sampled_from(SYNTAXES))
    order = ">" if syntax == ExplicitVRBigEndian else "<"

    def data(depth: int) -> bytes:
        made = b""
        for tag in sorted(draw(st.sets(st.sampled_from(TAGS), max_size=4))):
            value = draw(VALUES)
            if depth and draw(st.booleans()):
                inside = data(depth - 1)
                length = draw(st.sampled_from([len(inside), 0xFFFFFFFF, len(inside) + 9]))
                value = struct.pack(order + "HHI", 0xFFFE, 0xE000, length) + inside
                if length == 0xFFFFFFFF:
                    value += struct.pack(order + "HHI", 0xFFFE, 0xE00D, 0)
            vr = draw(st.sampled_from(VRS))
            made += element(syntax, tag, vr, value, draw(st.booleans()))
        return made

    made = data(3)
    if made and draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(made) - 1))
        made = made[:at] + draw(st.binary(max_size=2)) + made[at + 1 :]
    return syntax, made


@given(identifiers(), RULES, st.lists(ENTITIES, max_size=3))
def test_an_identifier_has_keys_or_is_refused(
    identifier: tuple[str, bytes], rules: Rules, entities: list[Attributes]
) -> None:
    """Nothing but StatusError, and matching with what came out never fails."""
    syntax, data = identifier
    dataset = Dataset()
    with warnings.catch_warnings(action="ignore"), suppress(DimseError):
        dataset = decode(data, syntax)
    keys = {}
    with warnings.catch_warnings(record=True, action="always") as warned:
        try:
            keys = keys_of(dataset, rules)
        except StatusError as error:
            refused = error.status, len(error.offending)
            assert refused == (0xA900, 1)
    assert not [each for each in warned if "Invalid value" in str(each.message)], "it quotes one"
    with warnings.catch_warnings(action="ignore"):
        texts = texts_of(dataset, "TimezoneOffsetFromUTC")  # of any VR, a number too
    assert all(isinstance(text, str) for text in texts)
    for entity in entities:
        assert matches(keys, entity) in {True, False}
        assert set(requested(keys, entity)) == set(keys)


@given(
    st.sampled_from([0x00080018, 0x00080020, 0x00080061, 0x00100010, 0x00100020]),
    st.one_of(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1), VALUES)
    .map(lambda value: value if isinstance(value, bytes) else value.encode())
    # pydicom takes all that Unicode calls white space for padding.
    .filter(lambda value: value and min(value) >= 32 and not {0x85, 0xA0} & set(value)),
    ENTITIES,
)
def test_a_key_does_not_depend_on_who_looked_first(
    tag: int, value: bytes, entity: Attributes
) -> None:
    """What pydicom has decoded before is the same as what it left encoded."""
    data = element(ImplicitVRLittleEndian, tag, b"", value, False)
    outcomes: list[object] = []
    for looked in (False, True):
        dataset = decode(data, ImplicitVRLittleEndian)
        with warnings.catch_warnings(action="ignore"):
            if looked:
                dataset[tag].value  # noqa: B018
            try:
                outcomes.append(matches(keys_of(dataset), entity))
            except StatusError as error:
                outcomes.append(error.offending)
    assert outcomes[0] == outcomes[1]
