"""What a node tells systemd, where that has started it: sd_notify(3), sd_watchdog_enabled(3)."""

import os
import socket
import time
from collections.abc import Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from dimse.server.node import State

_SAID = {
    State.READY: "READY=1",
    State.RELOADING: "RELOADING=1",
    State.STOPPING: "STOPPING=1",
}


class Systemd:
    """Tells it each `State` of a node, and that the reactor runs, as often as it wants.

    Nothing comes of it where `environ` names no socket.
    """

    log = Logger()

    def __init__(self, environ: Mapping[str, str], clock: IReactorTime) -> None:
        self._environ = environ
        self._alive = LoopingCall(self._tell, "WATCHDOG=1")
        self._alive.clock = clock

    def heard(self, state: State) -> None:
        """The node is at `state` now."""
        lines = [f"STATUS={state.value}"]
        if state in _SAID:
            lines.append(_SAID[state])
        if state is State.RELOADING:
            lines.append(f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._tell("\n".join(lines))
        if state is State.READY and not self._alive.running:
            self._watch()
        if state is State.STOPPED and self._alive.running:
            self._alive.stop()

    def _watch(self) -> None:
        """Half the time of the watchdog; one of another process is none of ours."""
        microseconds = self._environ.get("WATCHDOG_USEC", "0")
        process = self._environ.get("WATCHDOG_PID", "") or str(os.getpid())
        if microseconds.isdecimal() and int(microseconds) and process == str(os.getpid()):
            self._alive.start(int(microseconds) / 2_000_000)

    def _tell(self, text: str) -> None:
        """Without waiting: what does not go out is in the log, and the node goes on."""
        path = self._environ.get("NOTIFY_SOCKET")
        if not path:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                to.setblocking(False)
                to.sendto(text.encode(), path.replace("@", "\0", 1) if path[0] == "@" else path)
        except OSError as error:
            self.log.warn("systemd is not told {text}: {error}", text=text, error=error)
