"""A small share of what `python -m tests.fuzz` does, and its own tests (cases K01 to K11, G01)."""

from typing import Any

import pytest

from dimse.errors import ProtocolError
from tests.fuzz import run
from tests.fuzz.__main__ import main
from tests.fuzz.decoders import Target
from tests.fuzz.run import Report, batch, judge, make, watched

CASES = 6000


@pytest.mark.parametrize("start", range(0, CASES, 1000))
def test_mutated_inputs(start: int):
    report = batch(1, range(start, start + 1000))
    assert report.failures == []


def test_a_case_is_the_same_again():
    for case in range(50):
        target, made = make(5, case)
        again, made_again = make(5, case)
        assert (again.name, made_again) == (target.name, made)


def judged(monkeypatch: pytest.MonkeyPatch, behave: Any) -> str:
    """The one failure of a target that behaves so."""
    target = Target("bad", 100, lambda dice: (b"data",), behave, (ProtocolError,))
    monkeypatch.setattr(run, "SHARES", [target])
    monkeypatch.setattr(run, "TARGETS", (target,))
    report = Report()
    with watched():
        judge(9, 3, report, thorough=True)
    (failure,) = report.failures
    assert failure.startswith("9:3 bad\n")
    return failure


def test_an_error_that_is_not_ours_is_found(monkeypatch: pytest.MonkeyPatch):
    def crash(data: bytes) -> bool:
        raise KeyError(data)

    assert "KeyError" in judged(monkeypatch, crash)


def test_too_much_work_is_found(monkeypatch: pytest.MonkeyPatch):
    def toil(data: bytes) -> bool:
        for _ in range(60_000):
            pass
        return True

    assert "lines for 4 bytes" in judged(monkeypatch, toil)


def test_too_much_memory_is_found(monkeypatch: pytest.MonkeyPatch):
    assert "times the memory" in judged(monkeypatch, lambda data: bytes(70_000))


def test_an_input_without_end_is_found(monkeypatch: pytest.MonkeyPatch):
    def wait(data: bytes) -> bool:
        while True:
            pass

    monkeypatch.setattr(run, "HANG", 0.05)
    assert "Hang" in judged(monkeypatch, wait)


def test_the_command_prints_a_table_and_what_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert main(["--inputs", "100", "--processes", "1"]) == 0
    assert "100 inputs" in capsys.readouterr().out
    monkeypatch.setattr(run, "LINES_PER_BYTE", 0)
    monkeypatch.setattr(run, "LINES", 1)
    assert main(["--replay", "7:21"]) == 1
    printed = capsys.readouterr().out
    assert "lines for" in printed
    assert printed.endswith("python -m tests.fuzz --replay 7:21\n")
