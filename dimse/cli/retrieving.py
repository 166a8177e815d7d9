"""What `dimse get` and `dimse move` share: where instances go, how far it is, and its end."""

from collections.abc import Awaitable
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import click
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.python.failure import Failure

from dimse.cli.options import Command, Target, Verbosity
from dimse.cli.progress import MEGABYTE, Bar
from dimse.cli.query import Query
from dimse.cli.running import FAILED, comment_of, say, text_of
from dimse.errors import DimseError, MisuseError, StatusError
from dimse.message.status import SUCCESS
from dimse.performing import Operation, Sink
from dimse.services.receiving import FolderStore
from dimse.services.retrieve import Retrieval, SubOperations
from dimse.services.storage import InstanceStore, ReceivedInstance


def takes_folder(command: Command) -> Command:
    """Give a command -od and --ignore; it gets `folder` and `ignore`."""
    for option in reversed(_FOLDER_OPTIONS):
        command = option(command)
    return command


_FOLDER_OPTIONS = (
    click.option(
        "-od",
        "--output-directory",
        "folder",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        help="Where the instances go, as <SOP Instance UID>.dcm; unless given, here.",
    ),
    click.option("--ignore", is_flag=True, help="Receive the instances, but keep none."),
)
relational_option = click.option(
    "--relational", is_flag=True, help="Negotiate relational retrievals."
)


def store_of(folder: Path | None, ignore: bool) -> InstanceStore:
    """The store of these options."""
    try:
        return Ignored() if ignore else FolderStore(folder or Path())
    except MisuseError as error:
        raise click.ClickException(str(error)) from error


def check_unique_keys(query: Query) -> None:
    """Raise a usage error unless the identifier says what to retrieve (PS3.4 C.4.2.1.4)."""
    level, keywords = query.level, list(query.model.levels.values())
    unique = query.model.levels[level]
    if not query.identifier.get(unique):
        raise click.BadParameter(
            f"level {level} needs {unique}=VALUE, or another -L (PS3.4 C.4.2.1.4)",
            param_hint="-k",
        )
    for keyword in keywords[keywords.index(unique) + 1 :]:
        if query.identifier.get(keyword):
            raise click.BadParameter(
                f"{keyword} is of a level below {level}: give the level with -L", param_hint="-k"
            )


class Ignored:
    """A store that takes instances and keeps none."""

    def begin(self, instance: ReceivedInstance, operation: Operation) -> Sink:
        """A sink for one (`InstanceStore`)."""
        return _Ignored()


class _Ignored:
    def write(self, data: memoryview) -> None:
        """Drop it."""

    def finish(self) -> Deferred[int]:
        """It came, and that was all."""
        return succeed(SUCCESS)

    def abort(self, reason: DimseError) -> None:
        """There is nothing to undo."""


class Received:
    """A store that counts what another one takes, and says why that one refuses something."""

    def __init__(self, store: InstanceStore, bar: Bar) -> None:
        self.count = self.length = 0
        self.refused: set[str] = set()
        self._store = store
        self._bar = bar

    def begin(self, instance: ReceivedInstance, operation: Operation) -> Sink:
        """A sink for one (`InstanceStore`)."""
        try:
            return _Counted(self._store.begin(instance, operation), instance, self)
        except StatusError as error:
            self.refuse(instance, error)
            raise

    def advance(self, length: int) -> None:
        """More bytes of one have come."""
        self.length += length
        self._bar.advance(length)

    def take(self) -> None:
        """One is whole, and kept."""
        self.count += 1
        self._bar.show(f"{self.count} instances", self.length)

    def refuse(self, instance: ReceivedInstance, error: BaseException | None) -> None:
        """One is not kept."""
        self.refused.add(instance.sop_instance_uid)
        say(f"{instance.sop_instance_uid}: {error}")


class _Counted:
    def __init__(self, sink: Sink, instance: ReceivedInstance, received: Received) -> None:
        self._sink = sink
        self._instance = instance
        self._received = received

    def write(self, data: memoryview) -> None:
        """The next bytes of the data set."""
        try:
            self._sink.write(data)
        except StatusError as error:
            self._received.refuse(self._instance, error)
            raise
        self._received.advance(len(data))

    def finish(self) -> Deferred[Any]:
        """Count it, if the other store keeps it."""
        return maybeDeferred(self._sink.finish).addCallbacks(self._took, self._refused)

    def abort(self, reason: DimseError) -> None:
        """It is not whole."""
        self._sink.abort(reason)

    def _took(self, outcome: Any) -> Any:
        self._received.take()
        return outcome

    def _refused(self, failure: Failure) -> Failure:
        self._received.refuse(self._instance, failure.value)
        return failure


class Retrieving:
    """Follows one retrieval: shows how far it is, and sums it up.

    `received` is our own store, if the instances come to us. It is a context manager, which shows
    the sum in any case.
    """

    def __init__(self, target: Target, bar: Bar, received: Received | None = None) -> None:
        self._target = target
        self._bar = bar
        self._received = received
        self._last: SubOperations | None = None
        self._seconds = 0.0

    def __enter__(self) -> Self:
        self._seconds = perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        self._seconds = perf_counter() - self._seconds
        if self._target.verbosity is not Verbosity.QUIET:
            click.echo(self._sum())

    def follow(self, numbers: SubOperations) -> None:
        """The numbers in a response."""
        self._last = numbers
        done = sum(filter(None, (numbers.completed, numbers.failed, numbers.warning)))
        length = self._received.length if self._received is not None else 0
        if numbers.remaining is not None:
            self._bar.show(f"{done}/{done + numbers.remaining} instances", length)

    async def each(self, retrieval: Retrieval) -> None:
        """Follow all responses of a retrieval to its end."""
        try:
            async for numbers in retrieval:
                self.follow(numbers)
        finally:
            if retrieval.outcome is not None:
                self.follow(retrieval.outcome)

    async def conclude(self, retrieval: Awaitable[object]) -> int:
        """Wait for its end, say what failed, and return the exit code."""
        code = 0
        try:
            await retrieval
        except StatusError as error:
            comment = comment_of(error, self._target.verbosity)
            say(f"{self._target}: {text_of(error)}{comment}")
            code = FAILED
        said = self._received.refused if self._received is not None else set()
        last = self._last
        for uid in last.failed_sop_instance_uids if last is not None else ():
            if uid not in said:
                say(f"{uid}: failed")
        failed = bool(said) or (last is not None and bool(last.failed))
        return FAILED if failed else code

    def _sum(self) -> str:
        took, received, last = self._seconds, self._received, self._last
        time = f"{took:.1f} s"
        if received is not None:
            megabytes = received.length / MEGABYTE
            rate = megabytes / took if took else 0
            time = f"{megabytes:.1f} MB in {time} ({rate:.1f} MB/s)"
        if last is None or (last.completed, last.failed) == (None, None):
            number = (
                "the peer told no numbers" if received is None else f"{received.count} received"
            )
            return f"{number}; {time}"
        warnings, completed = last.warning or 0, last.completed or 0
        number = (
            f"{completed + warnings} moved" if received is None else f"{received.count} received"
        )
        remaining = f", {last.remaining} remaining" if last.remaining else ""
        return f"{number}, {warnings} warnings, {last.failed or 0} failed{remaining}; {time}"
