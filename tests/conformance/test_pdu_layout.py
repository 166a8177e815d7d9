"""Every field of every PDU and item, and how often items occur (PS3.8 9.3, D.1; PS3.7 D.3.3)."""

from dataclasses import replace

import pytest

from dimse.errors import ProtocolError
from dimse.ul.pdu import COMMAND_BIT, LAST_BIT, PDU, PDV, AssociateAC, PDataTF
from dimse.ul.pdv import MessageReader
from tests.conformance.layout import ECHO, SAMPLES, Sample
from tests.tables import Row, rows
from tests.wire import (
    APPLICATION,
    CLASS_UID,
    EXPLICIT,
    IMPLICIT,
    MAXIMUM,
    VERIFICATION,
    fixed,
    item,
    pdu,
    receive,
    uid_item,
)

CONTROL = "Message control header"  # its rows are bits, tested below
LAYOUT = [row for row in rows("pdu_layout") if row["structure"] != CONTROL]
BITS = {row["field"]: row for row in rows("pdu_layout") if row["structure"] == CONTROL}


def named(row: Row) -> str:
    return f"{row['structure']}-{row['order']}"


def length_of(text: str, sample: Sample) -> int | None:
    """The length that the table states, None for a variable one."""
    text = text.partition(" (")[0]
    return int(text) if text.isdigit() else sample.lengths.get(text)


def offset_of(text: str, sample: Sample) -> int:
    """`10+n+m` with the lengths of the sample."""
    return sum(int(term) if term.isdigit() else sample.lengths[term] for term in text.split("+"))


def fixed_value(text: str) -> bytes | None:
    if not text or text.startswith("copy"):
        return None
    value, _, times = text.partition(" x ")
    return bytes.fromhex(value) * int(times or 1)


def without_echo(decoded: PDU) -> PDU:
    return replace(decoded, echo=b"") if isinstance(decoded, AssociateAC) else decoded


def test_every_structure_has_a_sample():
    structures = {row["structure"] for row in LAYOUT}
    assert structures == set(SAMPLES)
    for structure in structures:
        fields = [row["field"] for row in LAYOUT if row["structure"] == structure]
        assert len(fields) == len(SAMPLES[structure].fields)


@pytest.mark.parametrize("row", LAYOUT, ids=named)
class TestRow:
    def test_sample_follows_the_table(self, row: Row):
        """Offset, length and fixed value; so what is encoded and decoded below follows it too."""
        sample = SAMPLES[row["structure"]]
        index = int(row["order"]) - 1
        content = sample.fields[index]
        assert offset_of(row["offset"], sample) == sum(map(len, sample.fields[:index]))
        length = length_of(row["length_bytes"], sample)
        assert length in (None, len(content))
        assert fixed_value(row["fixed_value_hex"]) in (None, content)
        if row["type_hex"] and index == 0:
            assert content.hex() == row["type_hex"].lower()
        if row["field"] in ("PDU-length", "Item-length"):
            assert int.from_bytes(content, "big") == sum(map(len, sample.fields[index + 1 :]))

    def test_what_is_not_tested_changes_nothing(self, row: Row):
        if row["tested_on_receipt"] not in ("no", "not stated"):
            return
        sample = SAMPLES[row["structure"]]
        index = int(row["order"]) - 1
        content = sample.fields[index]
        for position in range(len(content)):
            flipped = content[:position] + b"\xff" + content[position + 1 :]
            fields = [*sample.fields[:index], flipped, *sample.fields[index + 1 :]]
            decoded = receive(sample.around(b"".join(fields)))
            assert without_echo(decoded) == without_echo(sample.decoded)


@pytest.mark.parametrize("structure", SAMPLES)
class TestStructure:
    def test_decode(self, structure: str):
        sample = SAMPLES[structure]
        assert receive(sample.around(sample.wire)) == sample.decoded

    def test_encode(self, structure: str):
        sample = SAMPLES[structure]
        assert sample.decoded.encode() == sample.around(sample.wire)


def test_the_answer_echoes_the_request():
    """Bytes 11 to 74 of the A-ASSOCIATE-AC are those of the request, whatever they are."""
    wire = bytearray(SAMPLES["A-ASSOCIATE-RQ PDU"].wire)
    wire[42:74] = bytes(range(32))
    request = receive(bytes(wire))
    echoed = AssociateAC((), None, request.echo).encode()  # type: ignore[union-attr]  # an RQ
    assert echoed[10:74] == wire[10:74]
    assert wire[10:42] == ECHO[:32]


def test_later_versions_of_57h_may_add_at_its_end():
    """Field 10 of the sub-item is reserved for them."""
    body = b"\0\1\x31\0\1\x32\0\0"
    wire = [
        pdu(1, fixed() + APPLICATION + item(0x50, item(0x57, body + more)))
        for more in (b"", b"\xff" * 5)
    ]
    assert receive(wire[0]) == receive(wire[1])


class _Log:
    """The user of a MessageReader."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def command_received(self, context_id: int, command: bytes) -> bool:
        self.seen.append("command")
        return True

    def data_received(self, fragment: memoryview) -> None:
        self.seen.append("data")

    def data_ended(self) -> None:
        self.seen.append("end")


class TestMessageControlHeader:
    def seen(self, *controls: int) -> list[str]:
        log = _Log()
        reader = MessageReader(log, {1}, command_length=99, data_length=99, empty_fragments=1)
        reader.receive(PDataTF(tuple(PDV(1, control, b"ab") for control in controls)))
        return log.seen

    def test_bit_0_is_a_command(self):
        assert BITS["Bit 0"]["meaning"].startswith("1 = command fragment")
        assert COMMAND_BIT == 1 << 0
        assert self.seen(0b01, 0b11, 0b00) == ["command", "data"]

    def test_bit_1_is_the_last_fragment(self):
        assert BITS["Bit 1"]["meaning"].startswith("1 = last fragment")
        assert LAST_BIT == 1 << 1
        assert self.seen(0b11, 0b00, 0b10) == ["command", "data", "data", "end"]

    @pytest.mark.parametrize("bit", range(2, 8))
    def test_other_bits_are_not_tested(self, bit: int):
        assert BITS["Bits 2-7"]["tested_on_receipt"] == "no"
        controls = [0b01, 0b11, 0b00, 0b10]
        assert self.seen(*controls) == self.seen(*(each | 1 << bit for each in controls))


USER_DATA = {
    "51": MAXIMUM,
    "52": CLASS_UID,
    "53": item(0x53, b"\0\1\0\1"),
    "54": item(0x54, b"\0\x031.2\1\0"),
    "55": item(0x55, b"NAME"),
    "56": item(0x56, b"\0\x031.2\1"),
    "57": item(0x57, b"\0\x031.2\0\x031.2\0\0"),
    "58": item(0x58, b"\1\0\0\1A\0\0"),
    "59": item(0x59, b"\0\0"),
}
CONTEXTS = {
    "rq": item(0x20, b"\1\0\0\0" + uid_item(0x30, VERIFICATION) + uid_item(0x40, IMPLICIT)),
    "ac": item(0x21, b"\1\0\0\0" + uid_item(0x40, IMPLICIT)),
}

# Where we take less than the standard asks for: (type, side, how often) and why.
LENIENT = {
    ("51", "rq", 0): "as no limit, which our own send length bounds",
    ("51", "ac", 0): "as no limit, which our own send length bounds",
    ("52", "rq", 0): "it identifies and decides nothing",
    ("52", "ac", 0): "it identifies and decides nothing",
    ("20", "rq", 0): "answered A-ASSOCIATE-RJ, which a broken PDU would not be",
    ("21", "ac", 0): "no context is usable then, as if all were refused",
    ("50", "rq", 0): "answered A-ASSOCIATE-RJ",
    ("50", "ac", 0): "all its items have defaults",
    ("40", "rq", 0): "answered result 4",
    ("20", "ac", 1): "an item that is unknown there is skipped",
    ("20", "ac", 2): "an item that is unknown there is skipped",
    ("21", "rq", 1): "an item that is unknown there is skipped",
    ("21", "rq", 2): "an item that is unknown there is skipped",
    ("30", "ac", 1): "an item that is unknown there is skipped",
    ("30", "ac", 2): "an item that is unknown there is skipped",
    **{
        (kind, side, 1): "nothing reads it there"
        for kind, side in (("57", "ac"), ("58", "ac"), ("59", "rq"))
    },
    ("57", "ac", 2): "nothing reads it there",
}


def build(kind: str, side: str, count: int) -> bytes:
    """An A-ASSOCIATE-RQ or -AC with `count` items of a type, and one of each other mandatory."""
    pdu_type = 1 if side == "rq" else 2
    users = {"51": MAXIMUM, "52": CLASS_UID}
    context = "20" if side == "rq" else "21"
    subs = {"30": uid_item(0x30, VERIFICATION), "40": uid_item(0x40, IMPLICIT)}
    if side == "ac":
        del subs["30"]
    if kind in ("30", "40"):
        subs[kind] = {"30": uid_item(0x30, VERIFICATION), "40": uid_item(0x40, EXPLICIT)}[
            kind
        ] * count
    if kind in USER_DATA:
        users[kind] = USER_DATA[kind] * count
    whole = item(int(context, 16), b"\1\0\0\0" + b"".join(subs[key] for key in sorted(subs)))
    items = {
        "10": APPLICATION,
        context: whole,
        "50": item(0x50, b"".join(users.values())),
    }
    if kind == context:
        # Ids differ, for a repeated one is refused for that alone.
        items[kind] = b"".join(
            whole[:4] + bytes((2 * index + 1,)) + whole[5:] for index in range(count)
        )
    elif kind in ("10", "50"):
        items[kind] *= count
    elif kind in ("20", "21"):
        items[kind] = CONTEXTS["rq" if kind == "20" else "ac"] * count
    return pdu(pdu_type, fixed() + b"".join(items[key] for key in sorted(items)))


def allowed(cardinality: str) -> range:
    """`1`, `0..1`, `1..128`, `0..n`, each `per 0x20`."""
    least, _, most = cardinality.split(" per ", maxsplit=1)[0].partition("..")
    return range(int(least), (99 if most == "n" else int(most or least)) + 1)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("side", ["rq", "ac"])
@pytest.mark.parametrize(
    "row", [row for row in rows("pdu_items") if row["kind"] != "PDU"], ids=lambda r: r["type_hex"]
)
def test_cardinality(row: Row, side: str, count: int):
    """How often an item may occur; what we take beyond that has a reason in `LENIENT`."""
    kind = row["type_hex"]
    legal = count in allowed(row[f"cardinality_in_{side}"])
    wire = build(kind, side, count)
    if legal or (kind, side, count) in LENIENT:
        assert not (legal and (kind, side, count) in LENIENT)
        receive(wire)
    else:
        with pytest.raises(ProtocolError):
            receive(wire)
