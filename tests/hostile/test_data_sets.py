"""H-D13 to H-D20: data sets that lie, explode or never end; each test is named by its case."""

import os
import random
import tracemalloc
import zlib
from time import process_time

import pytest

from dimse.archive.elements import DEPTH, MOST_ELEMENTS
from dimse.archive.header import HeaderScan
from tests.archive.data_sets import (
    BIG_ENDIAN,
    CODES,
    DEFLATED,
    END_OF_ITEM,
    ITEM,
    JPEG,
    MODALITY,
    NAME,
    PIXELS,
    PRIVATE,
    REQUEST,
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STEP_ID,
    STUDY,
    UIDS,
    UNDEFINED,
    WANTED,
    data_set,
    deflate,
    delimiter,
    element,
    outcome,
    received,
    scan,
    sequence,
)
from tests.wire import EXPLICIT, IMPLICIT

MISMATCH, CANNOT_UNDERSTAND = 0xA900, 0xC000
MIB = 1 << 20


def refused(data: bytes, syntax: str = EXPLICIT, *tags: int) -> bool:
    """Whether it is refused with 0xC000, however it is cut; because of `tags`, if there are."""
    whole = outcome(data, syntax)
    in_pieces = outcome(data, syntax, cuts=range(0, len(data), max(1, len(data) // 1000)))
    assert isinstance(whole, tuple), "it was taken"
    # How much zlib inflates before an error depends on the cuts.
    assert in_pieces[0] == whole[0] if syntax == DEFLATED else in_pieces == whole
    return whole[0] == CANNOT_UNDERSTAND and (not tags or whole[1] == tags)


@pytest.mark.parametrize("tag", [SOP_CLASS, SOP_INSTANCE])
@pytest.mark.parametrize("uid", ["1.2.3.44", "1.2.3", "1.2.840.10008.5.1.4.1.1.4"])
def test_h_d13_not_what_the_command_says(tag: int, uid: str):
    assert outcome(data_set(uids={**UIDS, tag: uid})) == (MISMATCH, (tag,))


def test_h_d13_the_second_of_two_lies():
    lie = element(SOP_INSTANCE, "UI", b"1.2.3.5\0")
    assert outcome(data_set(lie)) == (MISMATCH, (SOP_INSTANCE,))
    assert outcome(lie + data_set()) == (MISMATCH, (SOP_INSTANCE,))


@pytest.mark.parametrize("tag", [SOP_CLASS, SOP_INSTANCE, STUDY, SERIES])
def test_h_d14_uid_missing(tag: int):
    assert refused(data_set(uids={key: uid for key, uid in UIDS.items() if key != tag}), "", tag)


@pytest.mark.parametrize("tag", [SOP_INSTANCE, STUDY, SERIES])
@pytest.mark.parametrize(
    "uid", ["", "\0", "1" * 65, "1" * 66000, "1.2.x", "1..2", "../../etc", "1.2\\1.3", "1.2\0.3"]
)
def test_h_d14_no_uid(tag: int, uid: str):
    vr = "UI" if len(uid) < 65536 else "UT"
    lie = element(tag, vr, uid.encode())
    assert refused(data_set(uids={key: uid for key, uid in UIDS.items() if key != tag}) + lie)
    assert refused(data_set() + lie, EXPLICIT, tag)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, JPEG])
@pytest.mark.parametrize("encoded", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_h_d15_another_transfer_syntax(syntax: str, encoded: str):
    within = EXPLICIT if encoded == DEFLATED else encoded
    data = data_set(element(NAME, "PN", b"Doe^Jane", within), syntax=within)
    data += element(PIXELS, "OW", bytes(3 * MIB), within)
    if encoded == DEFLATED:
        data = deflate(data)
    if encoded == syntax or (encoded, syntax) == (EXPLICIT, JPEG):  # the header is the same
        assert scan(data, syntax)[NAME] == "Doe^Jane"
    else:
        assert refused(data, syntax)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, JPEG])
def test_h_d15_random_bytes(syntax: str):
    for seed in range(200):
        assert refused(random.Random(seed).randbytes(seed * 10), syntax)


def nested(depth: int, tag: int, syntax: str, undefined: bool) -> bytes:
    """Sequences in sequences."""
    if undefined:
        begin = element(tag, "SQ", b"", syntax, UNDEFINED) + delimiter(ITEM, UNDEFINED, syntax)
        end = delimiter(END_OF_ITEM, 0, syntax) + delimiter(0xFFFEE0DD, 0, syntax)
        return begin * depth + end * depth
    parts = []
    size = 0
    for _ in range(depth):
        header = element(tag, "SQ", b"", syntax, size + 8) + delimiter(ITEM, size, syntax)
        parts.append(header)
        size += len(header)
    return b"".join(reversed(parts))


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("tag", [REQUEST, CODES])
def test_h_d16_nested_sequences(syntax: str, undefined: bool, tag: int):
    """Too deep is refused where it is looked into; what has a length and is not wanted is not."""
    for depth in (DEPTH - 1, DEPTH):
        whole = data_set(nested(depth, tag, syntax, undefined), syntax=syntax)
        assert isinstance(outcome(whole, syntax), dict)
    for depth in (DEPTH + 1, 100_000):
        whole = data_set(nested(depth, tag, syntax, undefined), syntax=syntax)
        if undefined or tag == REQUEST:
            assert refused(whole, syntax, tag)
        else:
            assert outcome(whole, syntax) == UIDS


@pytest.mark.parametrize(
    "fragments",
    [
        b"",
        delimiter(ITEM),
        delimiter(ITEM) + delimiter(ITEM, 10) + bytes(10),
        delimiter(ITEM) + delimiter(ITEM, 10) + bytes(9),
        delimiter(ITEM, 0xFFFFFFFE) + bytes(10),
        delimiter(ITEM, UNDEFINED) + bytes(10),
        delimiter(ITEM) + element(NAME, "PN", b"Doe^Jane"),
        delimiter(END_OF_ITEM) + delimiter(0xFFFEE0DD),
    ],
)
def test_h_d17_fragments_without_an_end(fragments: bytes):
    pixels = element(PIXELS, "OB", fragments, length=UNDEFINED)
    assert refused(data_set() + pixels, JPEG)


@pytest.mark.parametrize("length", [9, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_h_d17_lengths_past_the_end(syntax: str, length: int):
    """Of an item, of an element in an item, of a value at the end."""
    item = delimiter(ITEM, length, syntax) + bytes(8)
    assert refused(data_set(element(REQUEST, "SQ", item, syntax), syntax=syntax), syntax, REQUEST)
    inner = element(PRIVATE, "UT", bytes(8), syntax, length)
    assert refused(data_set(sequence(REQUEST, inner, syntax=syntax), syntax=syntax), syntax)
    last = element(PIXELS, "OW", bytes(8), syntax, length)
    assert refused(data_set(syntax=syntax) + last, syntax, PIXELS)
    wanted = element(NAME, "UT", bytes(8), syntax, length)
    assert refused(data_set(syntax=syntax) + wanted, syntax, NAME)


@pytest.mark.parametrize(
    "body",
    [
        delimiter(ITEM, UNDEFINED) + delimiter(END_OF_ITEM),
        delimiter(ITEM, UNDEFINED) + element(CODES, "SQ", length=UNDEFINED),
        delimiter(ITEM, UNDEFINED) + element(CODES, "SQ", delimiter(ITEM, UNDEFINED)),
    ],
)
def test_h_d17_headers_that_leave_their_sequence(body: bytes):
    """The sequence ends somewhere in the header of what ends or begins in it."""
    for length in range(len(body)):
        lie = element(REQUEST, "SQ", body, length=length) + element(NAME, "PN", b"Doe^Jane")
        assert refused(data_set() + lie)


def test_h_d17_cut_off_anywhere():
    """A beginning of a data set is whole only where an element ends; the first four have to be."""
    step = sequence(REQUEST, element(STEP_ID, "SH", b"S1"), undefined=True)
    whole = data_set() + step + element(NAME, "PN", b"Doe^Jane")
    ends = {len(data_set()), len(data_set()) + len(step), len(whole)}
    for length in range(len(whole) + 1):
        assert isinstance(outcome(whole[:length]), dict) == (length in ends), length


def bomb(head: bytes, unit: bytes, size: int) -> bytes:
    """`head` and `size` bytes of `unit`, deflated; both are multiples of its length."""
    compress = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    first = compress.compress(head) + compress.flush(zlib.Z_FULL_FLUSH)
    block = compress.compress(unit * (MIB // len(unit))) + compress.flush(zlib.Z_FULL_FLUSH)
    return first + block * (size // MIB) + compress.flush()


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (element(PIXELS, "OW", length=1 << 30), (CANNOT_UNDERSTAND, tuple(UIDS))),
        (element(NAME, "UT", length=1 << 30), (CANNOT_UNDERSTAND, tuple(UIDS))),
        (data_set() + element(PIXELS, "OW", length=1 << 30), UIDS),
    ],
)
def test_h_d18_bomb(head: bytes, found: object):
    """Neither memory nor time: 4 MiB of a GiB are looked at, in pieces."""
    header = HeaderScan(received(DEFLATED), WANTED)
    data = memoryview(bomb(head, b"\0", 1 << 30))
    began = process_time()
    tracemalloc.start()
    try:
        header.feed(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MIB // 2
    assert process_time() - began < 1
    assert outcome(bytes(data), DEFLATED) == found


def test_h_d18_bomb_of_elements():
    """Each 8 bytes are an element, of a sequence that is wanted."""
    head = element(REQUEST, "SQ", length=UNDEFINED) + delimiter(ITEM, UNDEFINED)
    header = HeaderScan(received(DEFLATED), WANTED)
    began = process_time()
    header.feed(bomb(data_set() + head, element(STEP_ID, "SH"), 1 << 30))
    assert header.finish() == {**UIDS, REQUEST: [{STEP_ID: ""}]}
    assert process_time() - began < 5


@pytest.mark.parametrize(
    "data",
    [
        deflate(data_set())[:-1],
        deflate(data_set())[:20],
        b"",
        deflate(data_set()) + b"garbage behind it",
        deflate(data_set()) + deflate(data_set()),
        zlib.compress(data_set()),
        b"\xff" * 100,
        b"\x1f\x8b\x08" + bytes(100),
    ],
)
def test_h_d18_not_deflated(data: bytes):
    assert refused(data, DEFLATED)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_h_d19_file_meta_information(syntax: str):
    """Not in a data set, at its beginning or anywhere in it; nor is what stands before it."""
    meta = element(0x00020010, "UI", EXPLICIT.encode() + b"\0", syntax)
    command = element(0x00000100, "US", b"\1\0", syntax)
    for head, tag in ((meta, 0x00020010), (command, 0x00000100)):
        assert refused(head + data_set(syntax=syntax), syntax, tag)
        assert refused(data_set(syntax=syntax) + head, syntax, tag)
        inside = sequence(REQUEST, head, syntax=syntax)
        assert refused(data_set(inside, syntax=syntax), syntax, tag)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_h_d19_a_whole_file(syntax: str):
    for preamble in (bytes(128), os.urandom(128)):
        whole = preamble + b"DICM" + element(0x00020010, "UI", b"1.2.840.10008.1.2\0") + data_set()
        assert refused(whole, syntax)


@pytest.mark.parametrize("where", ["before the UIDs", "in a wanted sequence", "in one that is not"])
def test_h_d20_a_million_elements(where: str):
    """They are passed at 8 bytes each, and what is held of them does not grow."""
    piece = b"".join(element(0x00090000 | number, "LO") for number in range(0x1001, 0x2001))
    header = HeaderScan(received(), WANTED)
    tag = {"in a wanted sequence": REQUEST, "in one that is not": CODES}.get(where)
    begin = element(tag, "SQ", length=UNDEFINED) + delimiter(ITEM, UNDEFINED) if tag else b""
    end = delimiter(END_OF_ITEM) + delimiter(0xFFFEE0DD) if tag else b""
    header.feed(begin)
    for _ in range(1_000_000 // 4096):
        header.feed(piece)
    tracemalloc.start()
    try:
        header.feed(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    header.feed(end + data_set(element(MODALITY, "CS", b"CT")))
    found = header.finish()
    assert peak < MIB // 8
    if where == "in a wanted sequence":  # where nothing but the UIDs got room behind them
        assert found.keys() == {*UIDS, REQUEST}
        assert len(found[REQUEST][0]) == MOST_ELEMENTS - 2  # the sequence and the item count too
    else:
        assert found == {**UIDS, MODALITY: "CT"}
