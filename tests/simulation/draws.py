"""What one seed decides, and what came of it."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256
from random import Random
from typing import TypeVar

T = TypeVar("T")

_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")  # of an object in memory: another one in each run


class Violation(AssertionError):
    """Something happened that must never happen."""


class Draws:
    """Everything that is left to chance, drawn from one seed in one order.

    `counts` are how often something happened, by its name.
    """

    def __init__(self, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self._random = Random(seed)

    def chance(self, probability: float) -> bool:
        """Whether something of that probability happens; what is impossible draws nothing."""
        return probability > 0 and self._random.random() < probability

    def pick(self, options: Sequence[T]) -> T:
        return options[self._random.randrange(len(options))]

    def number(self, low: int, high: int) -> int:
        """From `low` to `high`, both included."""
        return self._random.randint(low, high)

    def seconds(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return self._random.sample(items, len(items))

    def hexadecimal(self, size: int) -> str:
        return f"{self._random.getrandbits(8 * size):0{2 * size}x}"


class Trace:
    """Everything that happened, line by line, of which the hash stays; `echo` prints it too.

    `violations` are what must never happen, and did.
    """

    def __init__(self, seconds: Callable[[], float], *, echo: bool) -> None:
        self.lines = 0
        self.violations: list[str] = []
        self.root = ""  # of the files, which is another one in each run
        self._seconds = seconds
        self._hash = sha256()
        self._echo = echo

    def say(self, text: str) -> None:
        text = _ADDRESS.sub("0x", text).replace(self.root, "") if self.root else text
        line = f"{self._seconds():12.6f} {text}"
        self.lines += 1
        self._hash.update(line.encode("utf-8", "backslashreplace") + b"\n")
        if self._echo:
            print(line, flush=True)  # noqa: T201  that is what it was asked for

    def violate(self, text: str) -> None:
        self.say(f"VIOLATION: {text}")
        self.violations.append(text)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()
