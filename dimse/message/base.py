"""What all DIMSE messages have in common (PS3.7 9.3, 10.3).

A class says which elements its message has, in the words of the standard; `encode` and `decode`
are the same for all. Optional and conditional elements are None when they are absent.
"""

from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Self

from dimse.errors import StatusError
from dimse.message import command
from dimse.message.status import (
    INVALID_ATTRIBUTE_VALUE,
    MISSING_ATTRIBUTE,
    MISSING_ATTRIBUTE_VALUE,
)

RESPONSE_BIT = 0x8000  # of the Command Field (PS3.7 E.1)

_SQUEEZED = {keyword.lower(): keyword for keyword in command.ELEMENTS}


_elements: dict["type[Message]", tuple[dict[str, str], tuple[str, ...]]] = {}


def _elements_of(kind: "type[Message]") -> tuple[dict[str, str], tuple[str, ...]]:
    """Field name to element keyword (`message_id` is MessageID), and what is mandatory: the
    keywords of fields without default. Looked at once for each class."""
    if kind not in _elements:
        keywords = {each.name: _SQUEEZED[each.name.replace("_", "")] for each in fields(kind)}
        mandatory = (keywords[each.name] for each in fields(kind) if each.default is MISSING)
        _elements[kind] = keywords, tuple(mandatory)
    return _elements[kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A DIMSE message; every field is the element of its name (PS3.7 E.1).

    `HAS_DATA_SET` tells whether a data set follows: always, never, or, with None, as it happens.
    """

    NAME: ClassVar[str]
    COMMAND_FIELD: ClassVar[int]
    HAS_DATA_SET: ClassVar[bool | None] = False

    def encode(self, *, has_data_set: bool = False) -> bytes:
        """The command set, with Command Field and Command Data Set Type.

        `has_data_set` counts only for a message that may have one or not.
        """
        follows = has_data_set if self.HAS_DATA_SET is None else self.HAS_DATA_SET
        elements: dict[str, command.Value] = {
            "CommandField": self.COMMAND_FIELD,
            "CommandDataSetType": command.DATA_SET if follows else command.NO_DATA_SET,
        }
        for name, keyword in _elements_of(type(self))[0].items():
            value = getattr(self, name)
            if value is not None and value != ():
                elements[keyword] = value
        return command.encode(elements)

    @classmethod
    def decode(cls, elements: dict[str, command.Value]) -> Self:
        """From the elements of a command set; `refusal` tells beforehand what is wrong."""
        values: dict[str, Any] = {
            name: elements[keyword]
            for name, keyword in _elements_of(cls)[0].items()
            if elements.get(keyword, b"") != b""
        }
        return cls(**values)

    @classmethod
    def refusal(cls, elements: dict[str, command.Value]) -> StatusError | None:
        """What is wrong with the elements: mandatory ones that are missing or empty, and values
        that do not fit their VR (PS3.7 9.3, 10.3, C.5.11 to C.5.14)."""
        keywords_of, mandatory = _elements_of(cls)
        missing = [keyword for keyword in mandatory if keyword not in elements]
        empty = [keyword for keyword in mandatory if elements.get(keyword) == b""]
        odd = [key for key in keywords_of.values() if isinstance(elements.get(key), bytes)]
        for status, what, keywords in (
            (MISSING_ATTRIBUTE, "missing", missing),
            (MISSING_ATTRIBUTE_VALUE, "without value:", empty),
            (INVALID_ATTRIBUTE_VALUE, "invalid:", [key for key in odd if elements[key]]),
        ):
            if keywords:
                tags = tuple(command.ELEMENTS[keyword][0] for keyword in keywords)
                return StatusError(
                    cls._status_of_refusal(status), f"{what} {', '.join(keywords)}", tags
                )
        return None

    @classmethod
    def _status_of_refusal(cls, status: int) -> int:
        return status


@dataclass(frozen=True, slots=True, kw_only=True)
class Response(Message):
    """What every response has."""

    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str | None = None
    error_comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Message, ABC):
    """What every request has; `RESPONSE` is the class of its answer, `HAS_MANY_RESPONSES` tells
    whether Pending responses may come before the final one, and C-CANCEL may end it."""

    RESPONSE: ClassVar[type[Response]]
    HAS_MANY_RESPONSES: ClassVar[bool] = False
    message_id: int

    @property
    @abstractmethod
    def sop_class_uid(self) -> str:
        """The SOP class that the request concerns, Affected or Requested."""

    @property
    @abstractmethod
    def sop_instance_uid(self) -> str | None:
        """The SOP instance that the request concerns, if it names one."""

    def respond(self, status: int, comment: str = "", **elements: Any) -> Response:
        """The response with `status`, for this request: its SOP class and instance are repeated.

        `elements` are further fields; what the response does not have is left out. `offending`
        tags go where the response has a place for them.
        """
        offending = elements.pop("offending", ()) or None
        given = {
            "affected_sop_class_uid": self.sop_class_uid,
            "affected_sop_instance_uid": _sendable(self.sop_instance_uid),
            "error_comment": comment or None,
            "offending_element": offending,
            "attribute_identifier_list": offending,
            **elements,
        }
        known, _ = _elements_of(self.RESPONSE)
        return self.RESPONSE(
            message_id_being_responded_to=self.message_id,
            status=status,
            **{name: value for name, value in given.items() if name in known},
        )


def _sendable(uid: str | None) -> str | None:
    return uid if uid is not None and uid.isascii() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AffectingRequest(Request):
    """A request with an Affected SOP Class UID: DIMSE-C, N-EVENT-REPORT, N-CREATE."""

    affected_sop_class_uid: str

    @property
    def sop_class_uid(self) -> str:
        """Affected SOP Class UID."""
        return self.affected_sop_class_uid

    @property
    def sop_instance_uid(self) -> str | None:
        """Affected SOP Instance UID, if the message has it."""
        return getattr(self, "affected_sop_instance_uid", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestingRequest(Request):
    """A request with Requested SOP Class and Instance UIDs: N-GET, N-SET, N-ACTION, N-DELETE."""

    requested_sop_class_uid: str
    requested_sop_instance_uid: str

    @property
    def sop_class_uid(self) -> str:
        """Requested SOP Class UID."""
        return self.requested_sop_class_uid

    @property
    def sop_instance_uid(self) -> str:
        """Requested SOP Instance UID."""
        return self.requested_sop_instance_uid
