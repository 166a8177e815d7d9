"""The DIMSE messages as the tables of the standard have them (PS3.7 9.3, 10.3)."""

from dataclasses import fields

from dimse.message import command, messages
from dimse.message.base import Message
from tests.tables import rows


def class_name(message: str) -> str:
    """`N-EVENT-REPORT-RQ` is NEventReportRQ."""
    *words, kind = message.split("-")
    return "".join(word.capitalize() for word in words) + kind


KINDS: dict[str, type[Message]] = {
    row["message"]: getattr(messages, class_name(row["message"])) for row in rows("dimse_messages")
}
ROWS = {
    name: [
        row
        for row in rows("dimse_message_elements")
        if row["message"] == name and row["tag"] != "(data set)"
    ]
    for name in KINDS
}
VALUES: dict[str, command.Value] = {
    "AffectedSOPClassUID": "1.2.840.10008.1.1",
    "MessageID": 7,
    "MessageIDBeingRespondedTo": 7,
    "Priority": 1,
    "Status": 0xB000,
    "OffendingElement": (0x00080018, 0x0020000D),
    "ErrorComment": "odd",
    "AffectedSOPInstanceUID": "1.2.3",
    "MoveOriginatorApplicationEntityTitle": "MOVESCU",
    "MoveOriginatorMessageID": 9,
    "RequestedSOPClassUID": "1.2.840.10008.1.1",
    "RequestedSOPInstanceUID": "1.2.3",
    "MoveDestination": "DEST",
    "ErrorID": 5,
    "EventTypeID": 2,
    "ActionTypeID": 3,
    "AttributeIdentifierList": (0x00080018, 0x0020000D),
    "NumberOfRemainingSuboperations": 1,
    "NumberOfCompletedSuboperations": 2,
    "NumberOfFailedSuboperations": 3,
    "NumberOfWarningSuboperations": 4,
}


def build(name: str, requirements: str) -> Message:
    """The message with the elements whose requirement is one of `requirements`."""
    wanted = {
        row["keyword"].lower(): VALUES[row["keyword"]]
        for row in ROWS[name]
        if row["requirement"] in requirements and row["keyword"] in VALUES
    }
    return KINDS[name](
        **{
            each.name: wanted[each.name.replace("_", "")]
            for each in fields(KINDS[name])
            if each.name.replace("_", "") in wanted
        }
    )
