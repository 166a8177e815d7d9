"""In which line of a TOML file a key is, which `tomllib` does not tell."""

import tomllib
from collections.abc import Sequence
from typing import Any

KeyPath = Sequence[str | int]
"""How to get to a value: keys of tables, and positions in arrays."""


def line_of(document: str, path: KeyPath) -> int:
    """The number of the line where the statement begins that gives `path` its value.

    `document` is a valid one. Its first lines are one themselves exactly where a statement ends,
    so the statement begins behind the last of those beginnings that has no such value.
    """
    lines = document.split("\n")  # and nowhere else
    before, limit = 0, len(lines)
    while limit - before > 1:
        middle = (before + limit) // 2
        end, beginning = _next_beginning(lines, middle, limit)
        if beginning is None or _holds(beginning, path):
            limit = middle
        else:
            before = end
    return before + 1


def _next_beginning(lines: Sequence[str], first: int, limit: int) -> tuple[int, Any]:
    """How many lines, at least `first`, are a document, and what it says; at most `limit`."""
    for end in range(first, limit):
        try:
            return end, tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:  # it ends inside a value
            continue
    return limit, None


def _holds(value: Any, path: KeyPath) -> bool:
    for step in path:
        if isinstance(step, int):
            if not isinstance(value, list) or step >= len(value):
                return False
        elif not isinstance(value, dict) or step not in value:
            return False
        value = value[step]
    return True
