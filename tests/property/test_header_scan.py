"""HeaderScan under any input: any data set and any cut of it, any bytes; PS3.5 7."""

import json
import struct
from collections.abc import Callable
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from dimse.archive.attributes import Attributes
from tests.archive.data_sets import (
    BIG_ENDIAN,
    CHARSET,
    CODES,
    DEFLATED,
    END_OF_SEQUENCE,
    ITEM,
    JPEG,
    MEANING,
    NAME,
    PATIENT_ID,
    PIXELS,
    PRIVATE,
    REQUEST,
    ROWS,
    STEP_ID,
    UIDS,
    UNDEFINED,
    data_set,
    deflate,
    delimiter,
    element,
    order_of,
    outcome,
    sequence,
)
from tests.wire import EXPLICIT, IMPLICIT

SYNTAXES = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, JPEG)
Encoded = Callable[[str], bytes]  # in a transfer syntax
Both = tuple[Encoded, Attributes]  # how a part of a data set is encoded, and what is kept of it

letters = st.text("ABCxyz^=19", max_size=20)


def text_of(tag: int, vr: str, value: str) -> Both:
    return lambda syntax: element(tag, vr, value.encode(), syntax), {tag: value}


def rows_of(value: int) -> Both:
    return (
        lambda syntax: element(ROWS, "US", struct.pack(order_of(syntax) + "H", value), syntax),
        {ROWS: str(value)},
    )


def ignored(tag: int, vr: str, value: bytes) -> Both:
    return lambda syntax: element(tag, vr, value, syntax), {}


def sequence_of(tag: int, undefined: bool, items: list[list[Both]]) -> Both:
    def encoded(syntax: str) -> bytes:
        bodies = [b"".join(part(syntax) for part, _ in item) for item in items]
        return sequence(tag, *bodies, syntax=syntax, undefined=undefined)

    return encoded, {tag: [kept_of(item) for item in items]}


def kept_of(parts: list[Both]) -> Attributes:
    found: Attributes = {}
    for _, kept in parts:
        found.update(kept)
    return found


binary = st.builds(
    ignored, st.sampled_from([PRIVATE, 0x00283006]), st.sampled_from(["OB", "OW", "UN"]),
    st.binary(max_size=300),
)  # fmt: skip
inner: Any = st.deferred(
    lambda: st.one_of(
        binary,
        st.builds(text_of, st.just(STEP_ID), st.just("SH"), letters),
        st.builds(text_of, st.just(MEANING), st.just("LO"), letters),
        st.builds(
            sequence_of, st.just(CODES), st.booleans(),
            st.lists(st.lists(inner, max_size=3), max_size=3),
        ),
    )
)  # fmt: skip
outer = st.one_of(
    binary,
    st.builds(text_of, st.just(NAME), st.just("PN"), letters),
    st.builds(text_of, st.just(PATIENT_ID), st.just("LO"), letters),
    st.builds(rows_of, st.integers(0, 0xFFFF)),
    st.builds(
        sequence_of, st.just(REQUEST), st.booleans(),
        st.lists(st.lists(inner, max_size=4), max_size=3),
    ),
)  # fmt: skip
parts = st.lists(outer, max_size=8)
cuts = st.lists(st.integers(0, 4000), max_size=30)


def encode(parts: list[Both], syntax: str) -> bytes:
    """A data set of these parts, with pixels in it."""
    within = EXPLICIT if syntax in (DEFLATED, JPEG) else syntax
    data = data_set(*(part(within) for part, _ in parts), syntax=within)
    if syntax == JPEG:
        fragments = delimiter(ITEM) + delimiter(ITEM, 40) + bytes(40) + delimiter(END_OF_SEQUENCE)
        data += element(PIXELS, "OB", fragments, length=UNDEFINED)
    else:
        data += element(PIXELS, "OW", bytes(200), within)
    return deflate(data) if syntax == DEFLATED else data


def cut(data: bytes, places: list[int]) -> list[int]:
    return [place % (len(data) + 1) for place in places]


@settings(max_examples=300, deadline=None)
@given(parts, st.sampled_from(SYNTAXES), cuts)
def test_any_data_set_in_any_fragments(parts: list[Both], syntax: str, places: list[int]):
    data = encode(parts, syntax)
    expected = {**UIDS, **kept_of(parts)}
    assert outcome(data, syntax) == expected
    assert outcome(data, syntax, cuts=cut(data, places)) == expected
    assert outcome(data, syntax, cuts=range(len(data))) == expected


Change = tuple[int, bytes, int]  # where, what is put there, and how many bytes it takes away
changes = st.lists(
    st.tuples(
        st.integers(0, 4000),
        st.one_of(
            st.binary(max_size=4),
            st.sampled_from([b"\xff\xff\xff\xff", b"SQ", b"UN", b"OB", b"\x1b$B", b"\x80"]),
            st.sampled_from([delimiter(tag) for tag in (ITEM, END_OF_SEQUENCE, 0xFFFEE00D)]),
            st.just(element(CHARSET, "CS", b"ISO_IR 192")),
        ),
        st.integers(0, 8),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=600, deadline=2000)
@given(parts, st.sampled_from(SYNTAXES), changes, cuts)
def test_any_change_of_bytes(
    parts: list[Both], syntax: str, changes: list[Change], places: list[int]
):
    """It is read or refused, in the same way wherever it is cut; what is read is text."""
    data = encode(parts, syntax)
    for place, new, old in changes:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + old :]
    judge(data, syntax, places)


@settings(max_examples=300, deadline=2000)
@given(st.binary(max_size=2000), st.sampled_from(SYNTAXES), cuts)
@example(b"", EXPLICIT, [])
def test_any_bytes(behind: bytes, syntax: str, places: list[int]):
    judge(behind, syntax, places)
    within = EXPLICIT if syntax in (DEFLATED, JPEG) else syntax
    whole = data_set(syntax=within) + behind
    judge(deflate(whole) if syntax == DEFLATED else whole, syntax, places)


def judge(data: bytes, syntax: str, places: list[int]) -> None:
    found = outcome(data, syntax)
    in_fragments = outcome(data, syntax, cuts=cut(data, places))
    if isinstance(found, dict):
        # As databases take it: without NULs and lone surrogates.
        assert b"\\u0000" not in json.dumps(found, ensure_ascii=False).encode()
    if syntax != DEFLATED:  # how much zlib inflates before an error depends on the cuts
        assert in_fragments == found
    else:
        assert isinstance(in_fragments, dict) == isinstance(found, dict)
