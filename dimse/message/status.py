"""Status codes: their category and meaning (PS3.7 Annex C; PS3.4 B.2.3, A.3)."""

from enum import Enum


class Category(Enum):
    """What a status says of the operation (PS3.7 Annex C)."""

    SUCCESS = "Success"
    WARNING = "Warning"
    FAILURE = "Failure"
    CANCEL = "Cancel"
    PENDING = "Pending"
    UNKNOWN = "not allowed"


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
    (range(0xFF00, 0xFF02), Category.PENDING),
)
"""The first range that holds a code decides."""

MEANINGS: tuple[tuple[range, str], ...] = (
    (range(0x0000, 0x0001), "Success"),
    (range(0x0110, 0x0111), "Processing failure"),
    (range(0x0111, 0x0112), "Duplicate SOP Instance"),
    (range(0x0117, 0x0118), "Invalid SOP Instance"),
    (range(0x0120, 0x0121), "Missing attribute"),
    (range(0x0122, 0x0123), "Refused: SOP Class not supported"),
    (range(0x0124, 0x0125), "Refused: not authorized"),
    (range(0x0210, 0x0211), "Duplicate invocation"),
    (range(0x0211, 0x0212), "Unrecognized operation"),
    (range(0x0212, 0x0213), "Mistyped argument"),
    (range(0xA700, 0xA800), "Refused: out of resources"),
    (range(0xA900, 0xAA00), "Error: data set does not match the SOP Class"),
    (range(0xB000, 0xB001), "Stored; data elements coerced"),
    (range(0xB006, 0xB007), "Stored; elements discarded"),
    (range(0xB007, 0xB008), "Stored; data set does not match the SOP Class"),
    (range(0xC000, 0xD000), "Error: cannot understand"),
)
"""What the codes of Verification and Storage mean (PS3.4 A.3, B.2.3; PS3.7 C)."""


class Status(int):
    """A status code; `category` and `meaning` explain it."""

    __slots__ = ()

    @property
    def category(self) -> Category:
        """What kind of outcome it is (PS3.7 Annex C)."""
        code = int(self)  # a range looks for a subclass of int one by one
        return next((kind for codes, kind in CATEGORIES if code in codes), Category.UNKNOWN)

    @property
    def meaning(self) -> str:
        """Its meaning, or the name of its category for a code without one here."""
        code = int(self)
        return next((text for codes, text in MEANINGS if code in codes), self.category.value)

    @property
    def is_success(self) -> bool:
        """Whether the operation was done, with or without a warning."""
        return self.category in (Category.SUCCESS, Category.WARNING)

    def __repr__(self) -> str:
        return f"Status(0x{self:04X})"

    def __str__(self) -> str:
        return f"0x{self:04X} ({self.meaning})"


SUCCESS = Status(0x0000)
PROCESSING_FAILURE = Status(0x0110)
DUPLICATE_SOP_INSTANCE = Status(0x0111)
INVALID_SOP_INSTANCE = Status(0x0117)
MISSING_ATTRIBUTE = Status(0x0120)
SOP_CLASS_NOT_SUPPORTED = Status(0x0122)
DUPLICATE_INVOCATION = Status(0x0210)
UNRECOGNIZED_OPERATION = Status(0x0211)
MISTYPED_ARGUMENT = Status(0x0212)
OUT_OF_RESOURCES = Status(0xA700)
CANNOT_UNDERSTAND = Status(0xC000)
