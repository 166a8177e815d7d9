"""Messages as classes; their elements are held against the tables in tests/conformance."""

import pytest

from dimse.message import command
from dimse.message.messages import (
    HIGH,
    LOW,
    MEDIUM,
    MESSAGES,
    CEchoRQ,
    CEchoRSP,
    CFindRQ,
    CStoreRQ,
    CStoreRSP,
)
from tests.tables import rows
from tests.wire import CT_STORAGE, VERIFICATION

ECHO = CEchoRQ(message_id=1, affected_sop_class_uid=VERIFICATION)
STORE = CStoreRQ(
    message_id=65535,
    affected_sop_class_uid=CT_STORAGE,
    priority=LOW,
    affected_sop_instance_uid="1.2.3",
)


@pytest.mark.parametrize(
    "message",
    [
        ECHO,
        STORE,
        CEchoRSP(message_id_being_responded_to=1, status=0),
        CStoreRSP(
            message_id_being_responded_to=0,
            status=0xB000,
            error_comment="odd",
            offending_element=(0x00100010, 0xFFFFFFFF),
            affected_sop_instance_uid="1.2.3",
        ),
    ],
    ids=lambda message: type(message).__name__,
)
def test_round_trip(message):
    elements = command.decode(message.encode())
    kind = MESSAGES[message.COMMAND_FIELD]
    assert kind.refusal(elements) is None
    assert kind.decode(elements) == message


def test_no_elements_is_no_element():
    """An empty list of tags is not sent as an empty element."""
    bare = CStoreRSP(message_id_being_responded_to=1, status=0)
    empty = CStoreRSP(message_id_being_responded_to=1, status=0, offending_element=())
    assert empty.encode() == bare.encode()


def test_what_a_message_does_not_have_is_ignored():
    elements = command.decode(ECHO.encode())
    assert CEchoRQ.decode({**elements, "Priority": 0, "ErrorComment": "x"}) == ECHO


def test_missing_names_all():
    refusal = CStoreRQ.refusal({})
    assert refusal is not None
    assert refusal.status == 0x0120
    for keyword in ("MessageID", "AffectedSOPClassUID", "Priority", "AffectedSOPInstanceUID"):
        assert keyword in refusal.comment


@pytest.mark.parametrize(("value", "status"), [(b"", 0x0121), (b"\1", 0x0106)])
def test_h_d01_values_that_are_none(value: bytes, status: int):
    """Without value, or of a length that does not fit; C-FIND and the like answer 0xA900."""
    elements = {**command.decode(STORE.encode()), "Priority": value}
    refusal = CStoreRQ.refusal(elements)
    assert refusal is not None
    assert (refusal.status, refusal.offending) == (status, (0x00000700,))
    find = CFindRQ.refusal({"Priority": value})
    assert find is not None
    assert find.status == 0xA900


class TestRespond:
    def test_echo(self):
        assert ECHO.respond(0) == CEchoRSP(
            message_id_being_responded_to=1, status=0, affected_sop_class_uid=VERIFICATION
        )

    def test_store(self):
        response = STORE.respond(0xA700, "full")
        assert response == CStoreRSP(
            message_id_being_responded_to=65535,
            status=0xA700,
            affected_sop_class_uid=CT_STORAGE,
            affected_sop_instance_uid="1.2.3",
            error_comment="full",
        )

    def test_offending_elements(self):
        """Only where the response has them (PS3.7 9.3.1.2): C-ECHO-RSP has not."""
        tags = (0x00080016, 0x00080018)
        elements = command.decode(STORE.respond(0xA900, offending=tags).encode())
        assert elements["OffendingElement"] == tags
        assert "OffendingElement" not in command.decode(
            ECHO.respond(0x0110, offending=tags).encode()
        )

    @pytest.mark.parametrize("request_", [ECHO, STORE])
    def test_no_comment_is_no_element(self, request_):
        assert request_.respond(0).error_comment is None


def test_priorities():
    table = {row["name"]: row["value"] for row in rows("constants")}
    ours = {"MEDIUM": MEDIUM, "HIGH": HIGH, "LOW": LOW}
    for name, value in ours.items():
        assert int(table[f"Priority {name}"], 16) == value


def test_data_set_type():
    table = {row["name"]: row["value"] for row in rows("constants")}
    assert int(table["Command Data Set Type null"], 16) == command.NO_DATA_SET
    assert command.decode(ECHO.encode())["CommandDataSetType"] == command.NO_DATA_SET
    assert command.decode(STORE.encode())["CommandDataSetType"] != command.NO_DATA_SET
