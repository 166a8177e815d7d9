"""Status codes: their category and meaning (PS3.7 Annex C; PS3.4)."""

from enum import Enum
from functools import lru_cache
from typing import Self

from dimse.message.statuses import ROWS, Row


class Category(Enum):
    """What a status says of the operation (PS3.7 Annex C)."""

    SUCCESS = "Success"
    WARNING = "Warning"
    FAILURE = "Failure"
    CANCEL = "Cancel"
    PENDING = "Pending"
    UNKNOWN = "not allowed"


PENDING_CODES = range(0xFF00, 0xFF02)
"""More responses follow; the second says that optional keys were not matched (PS3.4 C.4.1.1.4)."""

CATEGORIES: tuple[tuple[range, Category], ...] = (
    (range(0x0000, 0x0001), Category.SUCCESS),
    (range(0x0001, 0x0002), Category.WARNING),
    (range(0x0107, 0x0108), Category.WARNING),
    (range(0x0116, 0x0117), Category.WARNING),
    (range(0x0100, 0x0300), Category.FAILURE),
    (range(0xA000, 0xB000), Category.FAILURE),
    (range(0xB000, 0xC000), Category.WARNING),
    (range(0xC000, 0xD000), Category.FAILURE),
    (range(0xFE00, 0xFE01), Category.CANCEL),
    (PENDING_CODES, Category.PENDING),
)
"""The first range that holds a code decides."""

_SERVICES = {
    "C-ECHO": "Verification",
    "C-STORE": "Storage",
    "C-FIND": "Query/Retrieve",
    "C-GET": "Query/Retrieve",
    "C-MOVE": "Query/Retrieve",
}
"""Whose codes a DIMSE-C operation has when the service is not known, as in private SOP classes."""


def allowed(operation: str = "", service: str = "") -> tuple[Row, ...]:
    """What may answer `operation` ("C-MOVE"; of one action "N-ACTION 1") in `service`.

    `service` is what `dimse.sop_classes.service_of` says. The codes of the service stand first,
    then those that every service has (PS3.7 9.1, 10.1), unless the service redefines them.
    """
    service = service or _SERVICES.get(operation, "")
    rows: list[Row] = []
    for scope in dict.fromkeys((service, service.partition(" (")[0], "")):
        defined = [row.codes for row in rows]
        rows += [
            row
            for row in ROWS
            if row.service == scope
            and _covers(row.operation, operation)
            and not any(row.codes.start in codes for codes in defined)
        ]
    return tuple(rows)


def _covers(one: str, other: str) -> bool:
    """Whether one operation is the other, or an action of it."""
    return other in ("", one) or one.startswith(f"{other} ") or other.startswith(f"{one} ")


class Status(int):
    """A status code, as the answer to `operation` in `service`; see `allowed` for their words.

    `category` and `meaning` explain it. It is equal to any other int of that value.
    """

    operation: str = ""
    service: str = ""

    def __new__(cls, code: int, operation: str = "", service: str = "") -> Self:
        """Of any 16 bits."""
        self = super().__new__(cls, code)
        if operation:
            self.operation = operation
        if service:
            self.service = service
        return self

    @property
    def category(self) -> Category:
        """What kind of outcome it is (PS3.7 Annex C)."""
        code = int(self)  # a range looks for a subclass of int one by one
        for codes, category in CATEGORIES:
            if code in codes:
                return category
        return Category.UNKNOWN

    @property
    def meaning(self) -> str:
        """What it means to its service, or in general; else the name of its category."""
        return _meaning(int(self), self.operation, self.service) or self.category.value

    @property
    def is_success(self) -> bool:
        """Whether the operation was done, with or without a warning."""
        return self.category in (Category.SUCCESS, Category.WARNING)

    def __repr__(self) -> str:
        return f"Status(0x{self:04X})"

    def __str__(self) -> str:
        return f"0x{self:04X} ({self.meaning})"


@lru_cache(1024)  # every instance stored is logged with its status; peers choose the codes
def _meaning(code: int, operation: str, service: str) -> str:
    """The meaning in the first of these tables that knows the code, if it has but one there."""
    anywhere = () if operation or service else ROWS
    for rows in (allowed(operation, service), allowed(), anywhere):
        meanings = {row.meaning for row in rows if code in row.codes}
        if meanings:
            return meanings.pop() if len(meanings) == 1 else ""
    return ""


SUCCESS = Status(0x0000)
NO_SUCH_ATTRIBUTE = Status(0x0105)
INVALID_ATTRIBUTE_VALUE = Status(0x0106)
ATTRIBUTE_LIST_ERROR = Status(0x0107)
PROCESSING_FAILURE = Status(0x0110)
DUPLICATE_SOP_INSTANCE = Status(0x0111)
NO_SUCH_SOP_INSTANCE = Status(0x0112)
NO_SUCH_EVENT_TYPE = Status(0x0113)
NO_SUCH_ARGUMENT = Status(0x0114)
INVALID_ARGUMENT_VALUE = Status(0x0115)
ATTRIBUTE_VALUE_OUT_OF_RANGE = Status(0x0116)
INVALID_SOP_INSTANCE = Status(0x0117)
NO_SUCH_SOP_CLASS = Status(0x0118)
CLASS_INSTANCE_CONFLICT = Status(0x0119)
MISSING_ATTRIBUTE = Status(0x0120)
MISSING_ATTRIBUTE_VALUE = Status(0x0121)
SOP_CLASS_NOT_SUPPORTED = Status(0x0122)
NO_SUCH_ACTION = Status(0x0123)
NOT_AUTHORIZED = Status(0x0124)
DUPLICATE_INVOCATION = Status(0x0210)
UNRECOGNIZED_OPERATION = Status(0x0211)
MISTYPED_ARGUMENT = Status(0x0212)
RESOURCE_LIMITATION = Status(0x0213)
OUT_OF_RESOURCES = Status(0xA700)
UNABLE_TO_COUNT_MATCHES = Status(0xA701)
UNABLE_TO_PERFORM_SUBOPERATIONS = Status(0xA702)
MOVE_DESTINATION_UNKNOWN = Status(0xA801)
DATA_SET_MISMATCH = Status(0xA900)
IDENTIFIER_MISMATCH = Status(0xA900)
SUBOPERATIONS_WARNING = Status(0xB000)
CANNOT_UNDERSTAND = Status(0xC000)
UNABLE_TO_PROCESS = Status(0xC000)
CANCEL = Status(0xFE00)
PENDING = Status(0xFF00)
PENDING_WARNING = Status(0xFF01)
