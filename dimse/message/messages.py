"""The DIMSE messages as classes over the table of command elements (PS3.7 9.3).

A class says which elements its message has, in the words of the standard; `encode` and `decode`
are the same for all. Optional elements are None when they are absent.
"""

from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Self

from dimse.message import command

RESPONSE_BIT = 0x8000  # of the Command Field (PS3.7 E.1)

MEDIUM, HIGH, LOW = 0x0000, 0x0001, 0x0002  # Priority (PS3.7 E.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A DIMSE message; every field is the element of its name (PS3.7 E.1)."""

    COMMAND_FIELD: ClassVar[int]
    HAS_DATA_SET: ClassVar[bool] = False

    def encode(self) -> bytes:
        """The command set, with Command Field and Command Data Set Type."""
        elements: dict[str, command.Value] = {
            "CommandField": self.COMMAND_FIELD,
            "CommandDataSetType": command.DATA_SET if self.HAS_DATA_SET else command.NO_DATA_SET,
        }
        for name, keyword in _KEYWORDS[type(self)].items():
            value = getattr(self, name)
            if value is not None and value != ():
                elements[keyword] = value
        return command.encode(elements)

    @classmethod
    def decode(cls, elements: dict[str, command.Value]) -> Self:
        """From the elements of a command set; `missing` tells beforehand what lacks."""
        values: dict[str, Any] = {
            name: elements[keyword]
            for name, keyword in _KEYWORDS[cls].items()
            if keyword in elements
        }
        return cls(**values)

    @classmethod
    def missing(cls, elements: dict[str, command.Value]) -> list[str]:
        """The keywords of mandatory elements that `elements` lacks (PS3.7 9.3)."""
        return [keyword for keyword in _MANDATORY[cls] if keyword not in elements]


@dataclass(frozen=True, slots=True, kw_only=True)
class Response(Message):
    """What every response has."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str | None = None
    error_comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Message):
    """What every request has; `RESPONSE` is the class of its answer."""

    RESPONSE: ClassVar[type[Response]]
    message_id: int
    affected_sop_class_uid: str

    def respond(self, status: int, comment: str = "", offending: tuple[int, ...] = ()) -> Response:
        """The response with `status`, for this request; not every kind has Offending Element."""
        return self.RESPONSE(
            message_id_being_responded_to=self.message_id,
            status=status,
            affected_sop_class_uid=self.affected_sop_class_uid,
            error_comment=comment or None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CEchoRSP(Response):
    """C-ECHO-RSP (PS3.7 9.3.5.2)."""

    COMMAND_FIELD: ClassVar[int] = 0x8030


@dataclass(frozen=True, slots=True, kw_only=True)
class CEchoRQ(Request):
    """C-ECHO-RQ (PS3.7 9.3.5.1)."""

    COMMAND_FIELD: ClassVar[int] = 0x0030
    RESPONSE: ClassVar[type[Response]] = CEchoRSP


@dataclass(frozen=True, slots=True, kw_only=True)
class CStoreRSP(Response):
    """C-STORE-RSP (PS3.7 9.3.1.2)."""

    COMMAND_FIELD: ClassVar[int] = 0x8001
    offending_element: tuple[int, ...] | None = None
    affected_sop_instance_uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CStoreRQ(Request):
    """C-STORE-RQ (PS3.7 9.3.1.1); the data set that follows is the instance."""

    COMMAND_FIELD: ClassVar[int] = 0x0001
    HAS_DATA_SET: ClassVar[bool] = True
    RESPONSE: ClassVar[type[Response]] = CStoreRSP
    priority: int
    affected_sop_instance_uid: str
    move_originator_application_entity_title: str | None = None
    move_originator_message_id: int | None = None

    def respond(self, status: int, comment: str = "", offending: tuple[int, ...] = ()) -> Response:
        """The response with `status`, for this request and its instance."""
        uid = self.affected_sop_instance_uid
        return CStoreRSP(
            message_id_being_responded_to=self.message_id,
            status=status,
            affected_sop_class_uid=self.affected_sop_class_uid,
            affected_sop_instance_uid=uid if uid.isascii() else None,  # else it cannot be sent
            error_comment=comment or None,
            offending_element=offending or None,
        )


MESSAGES: dict[int, type[Message]] = {
    kind.COMMAND_FIELD: kind for kind in (CStoreRQ, CStoreRSP, CEchoRQ, CEchoRSP)
}
"""Command Field to message (PS3.7 E.1)."""

_SQUEEZED = {keyword.lower(): keyword for keyword in command.ELEMENTS}
_KEYWORDS: dict[type[Message], dict[str, str]] = {
    kind: {each.name: _SQUEEZED[each.name.replace("_", "")] for each in fields(kind)}
    for kind in MESSAGES.values()
}
"""Field name to element keyword: `message_id` is MessageID."""

_MANDATORY = {
    kind: tuple(_KEYWORDS[kind][each.name] for each in fields(kind) if each.default is MISSING)
    for kind in MESSAGES.values()
}
"""The keywords of the elements that a message must have: fields without default."""
