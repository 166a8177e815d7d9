"""What a node does to a process that is its own: signals, its end, and files that may be open."""

import codecs
import encodings
import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pkgutil import iter_modules
from threading import Timer, current_thread, main_thread
from typing import Any

from twisted.logger import Logger

from dimse.limits import Limits
from dimse.server.node import State
from dimse.server.systemd import Systemd

_EACH = 4  # files of an association: socket, partial file, and the same for a C-MOVE
_OTHERS = 128  # index, log, threads of PostgreSQL, what Python itself has open
_PATIENCE = 5.0  # s for threads to end; those that wait for a disk that hangs never do

_LATE = ("alembic.command", "alembic.config", "sqlalchemy.ext.compiler")

log = Logger()


def own_process(reactor: Any, limits: Limits) -> Callable[[State], None]:
    """Make a process fit for a node with these limits; what is to hear of each state of it."""
    allow_open_files(limits)
    if os.geteuid() == 0:
        import_early()
    ending, systemd = Ending(reactor), Systemd(os.environ, reactor)

    def heard(state: State) -> None:
        ending.heard(state)
        systemd.heard(state)

    return heard


class Ending:
    """The end of a process that serves one node.

    The first SIGTERM or SIGINT lets the node stop, the second one ends the process at once. When
    threads hang it ends without them, with code 1.
    """

    def __init__(self, reactor: Any) -> None:
        self._serves = self._ends = False
        reactor.addSystemEventTrigger("before", "shutdown", self._begin_to_end)
        # Ahead of the triggers that wait for threads, which come when these are first used.
        reactor.addSystemEventTrigger("during", "shutdown", self._end_in_time)

    def heard(self, state: State) -> None:
        """The node is at `state` now."""
        if state is State.READY:
            self._serves = True
        elif state is State.STOPPED:
            self._serves = self._ends

    def _begin_to_end(self) -> None:
        self._ends = self._serves
        if self._ends and current_thread() is main_thread():
            for each in (signal.SIGTERM, signal.SIGINT):
                signal.signal(each, signal.SIG_DFL)

    def _end_in_time(self) -> None:
        if self._ends:
            end = Timer(_PATIENCE, _end_at_once)
            end.daemon = True
            end.start()


def _end_at_once() -> None:
    log.critical("threads hang: the process ends without them")
    os._exit(1)


def count_steadily(reactor: Any) -> None:
    """Let timers go by a clock that nobody sets.

    Twisted's go by the time of day: when that jumps, all time-outs run out at once, or none does.
    """
    if hasattr(reactor, "seconds") and not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


def import_early() -> None:
    """Import what else is when it is needed: the user that `twistd --uid` makes of root may not
    be able to read it."""
    for name in _LATE:
        import_module(name)
    for module in iter_modules(encodings.__path__):
        with suppress(LookupError):  # of another platform
            codecs.lookup(module.name)


def allow_open_files(limits: Limits) -> None:
    """Raise what the process may open to what `limits` need, or warn that it cannot be."""
    needed = limits.connections + _EACH * limits.associations + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard == resource.RLIM_INFINITY or hard >= needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, needed))  # root may
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        log.warn(
            "{hard} files may be open, the limits of connections and associations need {needed}",
            hard=hard,
            needed=needed,
        )
