"""What systemd is told (sd_notify(3)): to a socket of the test in its place."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from dimse.server.node import State
from dimse.server.systemd import Systemd

OURS = str(os.getpid())


class Listening:
    """The end of systemd."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def heard(self) -> list[str]:
        """The messages that have come."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    listening = Listening(str(tmp_path / "notify"))
    yield listening
    listening.close()


def systemd(tmp_path: Path, clock: Clock, **environ: str) -> Systemd:
    return Systemd({"NOTIFY_SOCKET": str(tmp_path / "notify"), **environ}, clock)


def test_the_life_of_a_node(tmp_path: Path, listening: Listening) -> None:
    told, clock = systemd(tmp_path, Clock()), Clock()
    said = []
    for state in (State.READY, State.RELOADING, State.READY, State.STOPPING, State.STOPPED):
        told.heard(state)
        (message,) = listening.heard()
        said.append(dict(line.split("=", 1) for line in message.splitlines()))
    assert [next((key for key in each if each[key] == "1"), None) for each in said] == [
        "READY",
        "RELOADING",
        "READY",
        "STOPPING",
        None,
    ]
    assert [each["STATUS"] for each in said][0::3] == ["takes associations", State.STOPPING.value]
    assert int(said[1]["MONOTONIC_USEC"]) > 0  # systemd wants it with a RELOADING=1
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("process", [{}, {"WATCHDOG_PID": OURS}], ids=["any", "ours"])
def test_the_watchdog_hears_that_the_reactor_runs(
    tmp_path: Path, listening: Listening, process: dict[str, str]
) -> None:
    """By half of its time, from the start until the node has stopped."""
    clock = Clock()
    told = systemd(tmp_path, clock, WATCHDOG_USEC="20000000", **process)
    told.heard(State.READY)
    listening.heard()
    for state in (State.RELOADING, State.READY, State.STOPPING):
        clock.advance(10)
        assert listening.heard() == ["WATCHDOG=1"]
        told.heard(state)
        listening.heard()
    told.heard(State.STOPPED)
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"},
    ],
    ids=["none", "off", "wrong", "of another process"],
)
def test_no_watchdog(tmp_path: Path, listening: Listening, environ: dict[str, str]) -> None:
    clock = Clock()
    systemd(tmp_path, clock, **environ).heard(State.READY)
    assert len(listening.heard()) == 1
    assert clock.getDelayedCalls() == []


def test_an_abstract_socket() -> None:
    name = f"dimse-test-{OURS}"
    listening = Listening(f"\0{name}")
    Systemd({"NOTIFY_SOCKET": f"@{name}"}, Clock()).heard(State.READY)
    (message,) = listening.heard()
    listening.close()
    assert "READY=1" in message.splitlines()


def test_without_systemd_nobody_is_told() -> None:
    with capturedLogs() as events:
        Systemd({}, Clock()).heard(State.READY)
    assert events == []


def test_a_socket_that_is_gone_is_in_the_log(tmp_path: Path) -> None:
    """And the node goes on."""
    with capturedLogs() as events:
        systemd(tmp_path, Clock()).heard(State.READY)
    (line,) = map(formatEvent, events)
    assert line is not None
    assert line.startswith("systemd is not told")
