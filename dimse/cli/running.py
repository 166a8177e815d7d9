"""Running the coroutine of a command: the reactor, the log, errors and the exit code."""

import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import click
from pydicom.datadict import keyword_for_tag
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.task import deferLater, react
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    globalLogBeginner,
)
from zope.interface import provider

from dimse.cli.endpoint import PeerEndpoint
from dimse.cli.main import INTERRUPTED
from dimse.cli.options import Target, Verbosity
from dimse.cli.secured import client_context
from dimse.errors import AssociationError, DimseError, StatusError
from dimse.security.tls import ClientContext

FAILED = 1

Work = Callable[[PeerEndpoint], Coroutine[Deferred[Any], Any, int]]


def run(target: Target, work: Work) -> NoReturn:
    """Run `work` with the way to its peer in a reactor, and exit with the code it returns.

    A `DimseError` becomes one line on stderr. A signal cancels `work`, which aborts what it
    has open.
    """
    tls = client_context(target.tls)
    _begin_log(target.verbosity)
    react(_attend, (target, work, tls))


def say(text: str) -> None:
    """One line on stderr. What peers and file systems make up cannot steer the terminal."""
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    click.echo("".join(shown), err=True)


def text_of(error: BaseException) -> str:
    """What it says, with the keywords of the elements that a peer complains of."""
    text = str(error)
    for tag in dict.fromkeys(error.offending) if isinstance(error, StatusError) else ():
        shown = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        text = text.replace(shown, f"{shown} {keyword_for_tag(tag)}".rstrip())
    return text


def comment_of(error: BaseException | None, verbosity: Verbosity) -> str:
    """The Error Comment of a peer, which may tell why and name a patient: only who asks sees it."""
    if isinstance(error, StatusError) and error.comment and verbosity.tells_events:
        return f" ({error.comment})"
    return ""


async def _attend(reactor: Any, target: Target, work: Work, tls: ClientContext | None) -> NoReturn:
    endpoint = PeerEndpoint(target, reactor, tls)
    task = Deferred.fromCoroutine(_begin(reactor, endpoint, work))
    over: Deferred[None] = Deferred()
    interrupted = False

    def interrupt() -> Deferred[None] | None:
        nonlocal interrupted
        if task.called:
            return None
        interrupted = True
        task.cancel()
        return over

    reactor.addSystemEventTrigger("before", "shutdown", interrupt)
    try:
        code = await task
    except BrokenPipeError:  # nobody reads our results, nor what Python flushes at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except (DimseError, CancelledError, ConnectingCancelledError) as error:
        code = FAILED
        if not interrupted:
            text = text_of(error)
            if isinstance(error, AssociationError):
                text = target.explain(error)
            say(f"Error: {text}{comment_of(error, target.verbosity)}")
    await endpoint.closed()
    over.callback(None)
    raise SystemExit(INTERRUPTED if interrupted else code)


async def _begin(reactor: Any, endpoint: PeerEndpoint, work: Work) -> int:
    await deferLater(reactor, 0)  # a signal before the reactor runs would break into `work`
    return await work(endpoint)


def _begin_log(verbosity: Verbosity) -> None:
    if not verbosity.tells_events:
        return  # Twisted's own beginning shows what is critical, a bug of ours, and nothing else
    whole = verbosity is Verbosity.DEBUG
    levels = LogLevelFilterPredicate(LogLevel.debug if whole else LogLevel.critical)
    levels.setLogLevelForNamespace("dimse", LogLevel.debug if whole else LogLevel.info)
    levels.setLogLevelForNamespace("dimse.performance", LogLevel.debug)  # each instance of a C-GET

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        click.echo(eventAsText(event, includeTimestamp=whole, includeSystem=whole), err=True)

    observer = FilteringLogObserver(observe, [levels])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
