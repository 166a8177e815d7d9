"""What a node does to a process of its own. Its signals are tested where there is a process."""

import resource
from collections.abc import Iterator, Sequence

import pytest
from twisted.logger import LogEvent, capturedLogs, formatEvent

from dimse import Limits
from dimse.server.process import allow_open_files

NEEDED = 1000 + 4 * 500 + 128  # of the default limits


class Allowed:
    """The soft and the hard limit; root may raise the hard one."""

    def __init__(self, soft: int, hard: int, *, root: bool = False) -> None:
        self.now = soft, hard
        self._root = root

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.now

    def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
        infinite = resource.RLIM_INFINITY
        if self.now[1] != infinite and not self._root and limits[1] > self.now[1]:
            raise ValueError("not allowed to raise maximum limit")
        self.now = limits


@pytest.fixture
def said() -> Iterator[Sequence[LogEvent]]:
    with capturedLogs() as events:
        yield events


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1024, 524288), (NEEDED, 524288)),
        ((1024, resource.RLIM_INFINITY), (NEEDED, resource.RLIM_INFINITY)),
        ((NEEDED, NEEDED), (NEEDED, NEEDED)),
        ((resource.RLIM_INFINITY,) * 2, (resource.RLIM_INFINITY,) * 2),
    ],
)
def test_h_r10_files_may_be_open(
    monkeypatch: pytest.MonkeyPatch,
    said: Sequence[LogEvent],
    before: tuple[int, int],
    after: tuple[int, int],
) -> None:
    allowed = Allowed(*before)
    monkeypatch.setattr("dimse.server.process.resource.getrlimit", allowed.getrlimit)
    monkeypatch.setattr("dimse.server.process.resource.setrlimit", allowed.setrlimit)
    allow_open_files(Limits())
    assert allowed.now == after
    assert list(said) == []


@pytest.mark.parametrize("root", [False, True])
def test_h_r10_what_cannot_be_raised_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch, said: Sequence[LogEvent], root: bool
) -> None:
    allowed = Allowed(64, 256, root=root)
    monkeypatch.setattr("dimse.server.process.resource.getrlimit", allowed.getrlimit)
    monkeypatch.setattr("dimse.server.process.resource.setrlimit", allowed.setrlimit)
    allow_open_files(Limits())
    assert allowed.now == ((NEEDED, NEEDED) if root else (256, 256))
    lines = [formatEvent(event) for event in said]
    expected = f"256 files may be open, the limits of connections and associations need {NEEDED}"
    assert lines == ([] if root else [expected])
