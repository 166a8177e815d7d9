"""What was done on an association, counted: one line for its end, and not one for each instance."""

from collections import Counter

from dimse.message.status import CANCEL, SUCCESS, Status

_TOLD = 8  # failures that differ, of one association: the texts of some have what a peer sent


class Tally:
    """The requests of a peer that were answered, by operation and status.

    As text it is such as "12 instances stored, 1 refused with 0x0111, 2 C-ECHO"; "" without any.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, int]] = Counter()
        self._told: set[str] = set()

    def count(self, status: Status) -> None:
        """One more that was answered with `status`, which knows its operation."""
        operation = status.operation.partition(" ")[0]  # peers choose the number of an action
        self._counts[operation or "unknown request", int(status)] += 1

    def is_news(self, failure: str) -> bool:
        """Whether the log should tell of it aloud: once of each, and of the first few alone."""
        if failure in self._told or len(self._told) >= _TOLD:
            return False
        self._told.add(failure)
        return True

    def __str__(self) -> str:
        return ", ".join(
            _words(operation, Status(code, operation), count)
            for (operation, code), count in sorted(self._counts.items())
        )


def _words(operation: str, status: Status, count: int) -> str:
    if operation == "C-STORE" and status.is_success:
        kept = "instance stored" if count == 1 else "instances stored"
        return f"{count} {kept}" + ("" if status == SUCCESS else f" with 0x{status:04X}")
    if operation == "C-STORE":
        return f"{count} refused with 0x{status:04X}"
    done = f"{count} {operation}"
    if status == SUCCESS:
        return done
    return f"{done} cancelled" if status == CANCEL else f"{done} answered with 0x{status:04X}"
