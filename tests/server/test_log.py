"""From which level on a node logs."""

import signal
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.logger import LogBeginner, LogEvent, Logger, LogLevel, LogPublisher, formatEvent
from twisted.python.usage import UsageError

from dimse.server.log import LEVELS, Threshold
from dimse.server.options import Options
from tests.cli.command import dimse
from tests.peers import Server, twistd_dimse


def heard(events: Sequence[LogEvent]) -> list[str | None]:
    return [formatEvent(each) for each in events]


def say_all(logger: Logger) -> None:
    for level in LogLevel.iterconstants():
        logger.emit(level, level.name)


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_and_what_is_above(level: str):
    events: list[LogEvent] = []
    observer: Any = events.append
    say_all(Logger(observer=Threshold(level).kept(observer)))
    assert heard(events) == list(LEVELS)[list(LEVELS).index(level) :]


@pytest.mark.parametrize("later", [None, "critical"])
def test_why_a_node_does_not_start_is_kept_at_any_level(later: str | None):
    """twistd has begun logging then, and what is printed to stderr is there alone."""
    events: list[LogEvent] = []
    observer: Any = events.append
    threshold = Threshold("critical")
    if later is not None:
        threshold.set(later)
    Logger("stderr", observer=threshold.kept(observer)).error("dimse does not start: in use")
    assert heard(events) == ["dimse does not start: in use"]


def test_the_levels_are_those_of_twisted():
    assert list(LEVELS) == [level.name for level in LogLevel.iterconstants()]


def test_another_level_while_it_runs():
    events: list[LogEvent] = []
    observer: Any = events.append
    threshold = Threshold("error")
    logger = Logger(observer=threshold.kept(observer))
    threshold.set("debug")
    say_all(logger)
    assert heard(events) == list(LEVELS)


def test_what_logging_begins_with_hears_no_more():
    """Nor of what was said before that: twistd begins when the node is made."""
    publisher, events = LogPublisher(), list[LogEvent]()
    beginner = LogBeginner(publisher, StringIO(), sys, SimpleNamespace(showwarning=None))
    logger = Logger(observer=publisher)
    Threshold("warn").before(beginner)
    say_all(logger)
    observer: Any = events.append
    beginner.beginLoggingTo([observer], redirectStandardIO=False)
    say_all(logger)
    assert heard(events) == ["warn", "error", "critical"] * 2


def test_an_unknown_level_is_wrong_usage():
    with pytest.raises(UsageError, match="--log-level: it must be one of debug, info, warn"):
        Options().parseOptions(["--log-level", "loud"])


def echo(server: Server, called: str = "NODE") -> int:
    return dimse("echo", "-aec", called, "127.0.0.1", server.port).returncode


def test_twistd_keeps_to_it(tmp_path: Path) -> None:
    """Its own lines too; and SIGHUP takes another one of the file."""
    file = tmp_path / "dimse.toml"
    file.write_text('[log]\nlevel = "warn"\n[node]\nae_titles = ["NODE"]\n', "utf-8")
    with twistd_dimse(tmp_path / "store", "--config", file) as server:
        assert (echo(server), echo(server, "OTHER")) == (0, 1)
        server.wait_until_said("association rejected")
        assert "#info" not in server.log()
        assert "0x0000" not in server.log()
        file.write_text('[log]\nlevel = "debug"\n[node]\nae_titles = ["NODE"]\n', "utf-8")
        server.process.send_signal(signal.SIGHUP)
        server.wait_until_said("0 peers are known now")
        assert echo(server) == 0
        server.wait_until_said("1 C-ECHO")
        assert "C-ECHO-RQ of 1.2.840.10008.1.1: 0x0000" in server.log()
