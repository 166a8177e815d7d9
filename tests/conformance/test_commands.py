"""Command elements and the messages made of them (PS3.7 9.3, E.1), read back by pydicom."""

from dataclasses import MISSING, fields
from io import BytesIO

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from dimse.message import command
from dimse.message.base import RESPONSE_BIT, Request
from dimse.message.messages import MESSAGES
from tests.conformance.messages import KINDS, ROWS, VALUES, build
from tests.tables import Row, rows

ELEMENTS = rows("command_elements")
DATA_SETS = {
    row["message"]: row["data_set"] for row in rows("dimse_messages") if row["message"] in KINDS
}


def read(command_set: bytes) -> Dataset:
    """The command set as another library reads it."""
    return read_dataset(BytesIO(command_set), is_implicit_VR=True, is_little_endian=True)


class TestElements:
    CURRENT = [row for row in ELEMENTS if row["retired"] == "no"]  # noqa: RUF012  a constant

    def test_there_are_24(self):
        assert len(command.ELEMENTS) == len(self.CURRENT) == 24

    @pytest.mark.parametrize("row", CURRENT, ids=lambda row: row["keyword"])
    def test_current(self, row: Row):
        group, element = (int(part, 16) for part in row["tag"].strip("()").split(","))
        assert group == 0
        assert command.ELEMENTS[row["keyword"]] == (element, row["vr"])

    @pytest.mark.parametrize(
        "row", [row for row in ELEMENTS if row["retired"] == "yes"], ids=lambda row: row["keyword"]
    )
    def test_retired_are_skipped(self, row: Row):
        assert row["keyword"] not in command.ELEMENTS
        element = int(row["tag"][6:10], 16)
        wire = b"\0\0" + element.to_bytes(2, "little") + b"\2\0\0\0ab"
        assert command.decode(wire) == {}

    def test_as_pydicom_reads_them(self):
        """One value of each element, in ascending order of tags whatever order it was given in."""
        by_vr: dict[str, command.Value] = {
            "US": 0x0102,
            "UI": "1.2.3",
            "AE": "TITLE",
            "AT": (0x00100020, 0xFFFEE000),
            "LO": "text",
        }
        values = {row["keyword"]: by_vr[row["vr"]] for row in reversed(self.CURRENT[1:])}
        command_set = command.encode(values)
        data_set = read(command_set)
        assert data_set.CommandGroupLength == len(command_set) - 12
        del data_set.CommandGroupLength
        for element in data_set:
            value = tuple(element.value) if element.VM > 1 else element.value
            assert value == values[element.keyword]
        assert len(data_set) == 23
        tags = [element.tag for element in data_set]
        assert tags == sorted(tags)
        assert command.decode(command_set) == {
            "CommandGroupLength": len(command_set) - 12,
            **values,
        }


def test_there_are_23_messages():
    assert len(KINDS) == 23
    assert set(MESSAGES.values()) == set(KINDS.values())


@pytest.mark.parametrize("name", KINDS)
class TestMessage:
    def test_command_field(self, name: str):
        kind = KINDS[name]
        assert name == kind.NAME
        [field] = {row["command_field_hex"] for row in ROWS[name]}
        assert int(field, 16) == kind.COMMAND_FIELD
        assert MESSAGES[kind.COMMAND_FIELD] is kind
        assert bool(kind.COMMAND_FIELD & RESPONSE_BIT) == name.endswith("RSP")

    def test_mandatory_elements(self, name: str):
        """A message made of what is mandatory has those elements and no other."""
        expected = {row["keyword"] for row in ROWS[name] if row["requirement"] == "M"}
        assert {element.keyword for element in read(build(name, "M").encode())} == expected

    def test_all_elements(self, name: str):
        message = build(name, "MUSC")
        data_set = read(message.encode())
        assert {element.keyword for element in data_set} == {row["keyword"] for row in ROWS[name]}
        assert KINDS[name].decode(command.decode(message.encode())) == message

    def test_defaults_are_what_is_not_mandatory(self, name: str):
        mandatory = {row["keyword"].lower() for row in ROWS[name] if row["requirement"] == "M"}
        ours = {
            each.name.replace("_", "") for each in fields(KINDS[name]) if each.default is MISSING
        }
        assert ours == mandatory - {"commandgrouplength", "commandfield", "commanddatasettype"}

    @pytest.mark.parametrize(
        ("change", "status"), [(None, 0x0120), (b"", 0x0121), (b"\1" * 3, 0x0106)]
    )
    def test_h_d01_refusal(self, name: str, change: bytes | None, status: int):
        """Each mandatory element that is missing, empty, or of a wrong length, is named."""
        elements = command.decode(build(name, "M").encode())
        assert KINDS[name].refusal(elements) is None
        for row in ROWS[name]:
            keyword, vr = row["keyword"], row["vr"]
            structural = keyword in ("CommandGroupLength", "CommandField", "CommandDataSetType")
            if row["requirement"] != "M" or structural or (change and vr in ("UI", "AE")):
                continue
            changed = {each: value for each, value in elements.items() if each != keyword}
            if change is not None:
                changed[keyword] = change
            refusal = KINDS[name].refusal(changed)
            assert refusal is not None
            many = name in ("C-FIND-RQ", "C-GET-RQ", "C-MOVE-RQ")
            assert refusal.status == (0xA900 if many else status)
            assert keyword in refusal.comment
            assert refusal.offending == (command.ELEMENTS[keyword][0],)

    def test_fixed_values(self, name: str):
        data_set = read(build(name, "M").encode())
        for row in ROWS[name]:
            if row["fixed_value"] == "any value other than 0101H":
                assert data_set[row["keyword"]].value != 0x0101
            elif row["fixed_value"].endswith("H"):
                assert f"{data_set[row['keyword']].value:04X}H" == row["fixed_value"]

    def test_data_set(self, name: str):
        kind = KINDS[name]
        rules = {True: ["always"], False: ["never"], None: ["optional", "conditional"]}
        assert DATA_SETS[name] in rules[kind.HAS_DATA_SET]
        for follows in (True, False):
            announced = read(build(name, "M").encode(has_data_set=follows)).CommandDataSetType
            expected = follows if kind.HAS_DATA_SET is None else kind.HAS_DATA_SET
            assert (announced != 0x0101) == expected


@pytest.mark.parametrize(
    "name", [name for name in KINDS if name.endswith("RQ") and name != "C-CANCEL-RQ"]
)
def test_response_repeats_what_the_table_says(name: str):
    """Message ID, SOP class and instance equal those of the request."""
    request = build(name, "MU")
    assert isinstance(request, Request)
    response = request.respond(0x0122, "not here")
    assert type(response) is KINDS[name.replace("RQ", "RSP")]
    data_set = read(response.encode())
    assert data_set.MessageIDBeingRespondedTo == VALUES["MessageID"]
    assert data_set.Status == 0x0122
    assert data_set.ErrorComment == "not here"
    for row in ROWS[name.replace("RQ", "RSP")]:
        if row["condition"].startswith("when sent it equals"):
            assert data_set[row["keyword"]].value == VALUES[row["keyword"]]
    assert "ErrorComment" not in read(request.respond(0).encode())
