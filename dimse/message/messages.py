"""The 23 DIMSE messages (PS3.7 9.3, 10.3); their fields are the elements of their tables."""

from dataclasses import dataclass
from typing import ClassVar

from dimse.message.base import AffectingRequest, Message, RequestingRequest, Response
from dimse.message.status import IDENTIFIER_MISMATCH

MEDIUM, HIGH, LOW = 0x0000, 0x0001, 0x0002  # Priority (PS3.7 E.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CEchoRSP(Response):
    """C-ECHO-RSP (PS3.7 9.3.5.2)."""

    NAME: ClassVar[str] = "C-ECHO-RSP"
    COMMAND_FIELD: ClassVar[int] = 0x8030


@dataclass(frozen=True, slots=True, kw_only=True)
class CEchoRQ(AffectingRequest):
    """C-ECHO-RQ (PS3.7 9.3.5.1)."""

    NAME: ClassVar[str] = "C-ECHO-RQ"
    COMMAND_FIELD: ClassVar[int] = 0x0030
    RESPONSE: ClassVar[type[Response]] = CEchoRSP


@dataclass(frozen=True, slots=True, kw_only=True)
class CStoreRSP(Response):
    """C-STORE-RSP (PS3.7 9.3.1.2)."""

    NAME: ClassVar[str] = "C-STORE-RSP"
    COMMAND_FIELD: ClassVar[int] = 0x8001
    offending_element: tuple[int, ...] | None = None
    affected_sop_instance_uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CStoreRQ(AffectingRequest):
    """C-STORE-RQ (PS3.7 9.3.1.1); the data set that follows is the instance."""

    NAME: ClassVar[str] = "C-STORE-RQ"
    COMMAND_FIELD: ClassVar[int] = 0x0001
    HAS_DATA_SET: ClassVar[bool | None] = True
    RESPONSE: ClassVar[type[Response]] = CStoreRSP
    priority: int
    affected_sop_instance_uid: str
    move_originator_application_entity_title: str | None = None
    move_originator_message_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyResponsesRQ(AffectingRequest):
    """What C-FIND, C-GET and C-MOVE have in common: the data set is the Identifier."""

    HAS_DATA_SET: ClassVar[bool | None] = True
    HAS_MANY_RESPONSES: ClassVar[bool] = True
    priority: int

    @classmethod
    def _status_of_refusal(cls, status: int) -> int:
        return IDENTIFIER_MISMATCH  # the services list none of PS3.7 C.5 (PS3.4 C.4.1.1.4)


@dataclass(frozen=True, slots=True, kw_only=True)
class CFindRSP(Response):
    """C-FIND-RSP (PS3.7 9.3.2.2); a Pending one is followed by the Identifier of a match."""

    NAME: ClassVar[str] = "C-FIND-RSP"
    COMMAND_FIELD: ClassVar[int] = 0x8020
    HAS_DATA_SET: ClassVar[bool | None] = None
    offending_element: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CFindRQ(ManyResponsesRQ):
    """C-FIND-RQ (PS3.7 9.3.2.1)."""

    NAME: ClassVar[str] = "C-FIND-RQ"
    COMMAND_FIELD: ClassVar[int] = 0x0020
    RESPONSE: ClassVar[type[Response]] = CFindRSP


@dataclass(frozen=True, slots=True, kw_only=True)
class SubOperationsRSP(Response):
    """What C-GET-RSP and C-MOVE-RSP have in common; the data set is the list of what failed."""

    HAS_DATA_SET: ClassVar[bool | None] = None
    offending_element: tuple[int, ...] | None = None
    number_of_remaining_suboperations: int | None = None
    number_of_completed_suboperations: int | None = None
    number_of_failed_suboperations: int | None = None
    number_of_warning_suboperations: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CGetRSP(SubOperationsRSP):
    """C-GET-RSP (PS3.7 9.3.3.2)."""

    NAME: ClassVar[str] = "C-GET-RSP"
    COMMAND_FIELD: ClassVar[int] = 0x8010


@dataclass(frozen=True, slots=True, kw_only=True)
class CGetRQ(ManyResponsesRQ):
    """C-GET-RQ (PS3.7 9.3.3.1)."""

    NAME: ClassVar[str] = "C-GET-RQ"
    COMMAND_FIELD: ClassVar[int] = 0x0010
    RESPONSE: ClassVar[type[Response]] = CGetRSP


@dataclass(frozen=True, slots=True, kw_only=True)
class CMoveRSP(SubOperationsRSP):
    """C-MOVE-RSP (PS3.7 9.3.4.2)."""

    NAME: ClassVar[str] = "C-MOVE-RSP"
    COMMAND_FIELD: ClassVar[int] = 0x8021


@dataclass(frozen=True, slots=True, kw_only=True)
class CMoveRQ(ManyResponsesRQ):
    """C-MOVE-RQ (PS3.7 9.3.4.1)."""

    NAME: ClassVar[str] = "C-MOVE-RQ"
    COMMAND_FIELD: ClassVar[int] = 0x0021
    RESPONSE: ClassVar[type[Response]] = CMoveRSP
    move_destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CCancelRQ(Message):
    """C-CANCEL-RQ (PS3.7 9.3.2.3, 9.3.3.3, 9.3.4.3); it has no response of its own."""

    NAME: ClassVar[str] = "C-CANCEL-RQ"
    COMMAND_FIELD: ClassVar[int] = 0x0FFF
    message_id_being_responded_to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NResponse(Response):
    """What every response of DIMSE-N has (PS3.7 10.3)."""

    HAS_DATA_SET: ClassVar[bool | None] = None
    error_id: int | None = None
    affected_sop_instance_uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NEventReportRSP(NResponse):
    """N-EVENT-REPORT-RSP (PS3.7 10.3.1.2); the data set is the Event Reply."""

    NAME: ClassVar[str] = "N-EVENT-REPORT-RSP"
    COMMAND_FIELD: ClassVar[int] = 0x8100
    event_type_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NEventReportRQ(AffectingRequest):
    """N-EVENT-REPORT-RQ (PS3.7 10.3.1.1); the data set is the Event Information."""

    NAME: ClassVar[str] = "N-EVENT-REPORT-RQ"
    COMMAND_FIELD: ClassVar[int] = 0x0100
    HAS_DATA_SET: ClassVar[bool | None] = None
    RESPONSE: ClassVar[type[Response]] = NEventReportRSP
    affected_sop_instance_uid: str
    event_type_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NGetRSP(NResponse):
    """N-GET-RSP (PS3.7 10.3.2.2); the data set is the Attribute List."""

    NAME: ClassVar[str] = "N-GET-RSP"
    COMMAND_FIELD: ClassVar[int] = 0x8110
    attribute_identifier_list: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NGetRQ(RequestingRequest):
    """N-GET-RQ (PS3.7 10.3.2.1)."""

    NAME: ClassVar[str] = "N-GET-RQ"
    COMMAND_FIELD: ClassVar[int] = 0x0110
    RESPONSE: ClassVar[type[Response]] = NGetRSP
    attribute_identifier_list: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NSetRSP(NResponse):
    """N-SET-RSP (PS3.7 10.3.3.2); the data set is the Attribute List."""

    NAME: ClassVar[str] = "N-SET-RSP"
    COMMAND_FIELD: ClassVar[int] = 0x8120
    attribute_identifier_list: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NSetRQ(RequestingRequest):
    """N-SET-RQ (PS3.7 10.3.3.1); the data set is the Modification List."""

    NAME: ClassVar[str] = "N-SET-RQ"
    COMMAND_FIELD: ClassVar[int] = 0x0120
    HAS_DATA_SET: ClassVar[bool | None] = True
    RESPONSE: ClassVar[type[Response]] = NSetRSP


@dataclass(frozen=True, slots=True, kw_only=True)
class NActionRSP(NResponse):
    """N-ACTION-RSP (PS3.7 10.3.4.2); the data set is the Action Reply."""

    NAME: ClassVar[str] = "N-ACTION-RSP"
    COMMAND_FIELD: ClassVar[int] = 0x8130
    attribute_identifier_list: tuple[int, ...] | None = None
    action_type_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NActionRQ(RequestingRequest):
    """N-ACTION-RQ (PS3.7 10.3.4.1); the data set is the Action Information."""

    NAME: ClassVar[str] = "N-ACTION-RQ"
    COMMAND_FIELD: ClassVar[int] = 0x0130
    HAS_DATA_SET: ClassVar[bool | None] = None
    RESPONSE: ClassVar[type[Response]] = NActionRSP
    action_type_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NCreateRSP(NResponse):
    """N-CREATE-RSP (PS3.7 10.3.5.2); the data set is the Attribute List."""

    NAME: ClassVar[str] = "N-CREATE-RSP"
    COMMAND_FIELD: ClassVar[int] = 0x8140
    attribute_identifier_list: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NCreateRQ(AffectingRequest):
    """N-CREATE-RQ (PS3.7 10.3.5.1); the data set is the Attribute List."""

    NAME: ClassVar[str] = "N-CREATE-RQ"
    COMMAND_FIELD: ClassVar[int] = 0x0140
    HAS_DATA_SET: ClassVar[bool | None] = None
    RESPONSE: ClassVar[type[Response]] = NCreateRSP
    affected_sop_instance_uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NDeleteRSP(NResponse):
    """N-DELETE-RSP (PS3.7 10.3.6.2)."""

    NAME: ClassVar[str] = "N-DELETE-RSP"
    COMMAND_FIELD: ClassVar[int] = 0x8150
    HAS_DATA_SET: ClassVar[bool | None] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NDeleteRQ(RequestingRequest):
    """N-DELETE-RQ (PS3.7 10.3.6.1)."""

    NAME: ClassVar[str] = "N-DELETE-RQ"
    COMMAND_FIELD: ClassVar[int] = 0x0150
    RESPONSE: ClassVar[type[Response]] = NDeleteRSP


MESSAGES: dict[int, type[Message]] = {
    kind.COMMAND_FIELD: kind
    for kind in (
        *(CStoreRQ, CStoreRSP, CFindRQ, CFindRSP, CGetRQ, CGetRSP, CMoveRQ, CMoveRSP),
        *(CEchoRQ, CEchoRSP, CCancelRQ, NEventReportRQ, NEventReportRSP, NGetRQ, NGetRSP),
        *(NSetRQ, NSetRSP, NActionRQ, NActionRSP, NCreateRQ, NCreateRSP, NDeleteRQ, NDeleteRSP),
    )
}
"""Command Field to message (PS3.7 E.1)."""
