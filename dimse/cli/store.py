"""`dimse store`: C-STORE of files and folders (PS3.4 Annex B)."""

from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from warnings import catch_warnings

import click

from dimse.cli.endpoint import PeerEndpoint
from dimse.cli.options import Target, Verbosity, takes_target
from dimse.cli.progress import Bar, Tally
from dimse.cli.running import FAILED, comment_of, run, say
from dimse.errors import AssociationError, DimseError, NotAnInstanceError
from dimse.message.messages import HIGH, LOW, MEDIUM
from dimse.message.status import Category
from dimse.services.instance import Instance
from dimse.services.sending import SendResult, find_files, send

_PRIORITIES = {"low": LOW, "medium": MEDIUM, "high": HIGH}


@click.command("store")
@takes_target
@click.option(
    "--priority",
    type=click.Choice(list(_PRIORITIES)),
    default="medium",
    show_default=True,
    help="Priority of the requests.",
)
@click.argument(
    "paths",
    metavar="PATH...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path),
)
def command(target: Target, priority: str, paths: tuple[Path, ...]) -> None:
    """Send DICOM files, and those in folders and below, to the peer at HOST and PORT (C-STORE).

    Files that are no DICOM instances are skipped and counted; with nothing else to send that is
    a failure. What the peer stored with a warning counts as sent.
    """
    with Bar(target.verbosity) as bar:
        sending = Sending(target, _PRIORITIES[priority], bar)
        sending.find(paths)  # before the reactor runs, so that Ctrl-C ends it at once
        if not sending.instances:
            raise click.ClickException("no DICOM instance to send")
        run(target, sending.run)


class Sending:
    """The instances to send, and what becomes of them."""

    def __init__(self, target: Target, priority: int, bar: Bar) -> None:
        self.instances: list[Instance] = []
        self._target = target
        self._priority = priority
        self._bar = bar
        self._tally = Tally()
        self._given_up: AssociationError | None = None

    def find(self, paths: Iterable[Path]) -> None:
        """Look for instances; what is none is skipped, what cannot be read has failed."""
        with catch_warnings(action="ignore"):  # pydicom's, which may quote what is in a file
            for path in paths:
                try:
                    for file in find_files(path):
                        self._look_at(file)
                except OSError as error:  # a folder that cannot be listed
                    self._fail(f"{error.filename}: {error.strerror}")

    async def run(self, endpoint: PeerEndpoint) -> int:
        """Send them; returns the exit code."""
        begun = perf_counter()
        try:
            await self._send(endpoint)
        finally:
            self._bar.stop()
            self._tally.seconds = perf_counter() - begun
            if self._target.verbosity is not Verbosity.QUIET:
                click.echo(self._tally)
        return FAILED if self._tally.failed or self._tally.not_sent else 0

    async def _send(self, endpoint: PeerEndpoint) -> None:
        total, done = sum(instance.length for instance in self.instances), 0
        self._bar.show(f"0/{len(self.instances)} files", done, total)
        results = send(
            endpoint,
            self.instances,
            called_ae_title=self._target.called_ae_title,
            calling_ae_title=self._target.calling_ae_title,
            user_identity=self._target.user_identity,
            priority=self._priority,
            limits=self._target.limits,
            progress=self._bar.advance,
        )
        async for result in results:
            instance, error = result.source, result.error
            assert isinstance(instance, Instance)
            if isinstance(error, AssociationError) and (
                error is self._given_up or not endpoint.ended_by(error)
            ):
                self._leave(instance, error)
                continue
            self._count(instance, result)
            done += instance.length
            number = len(self.instances) - self._tally.not_sent
            self._bar.show(f"{number}/{len(self.instances)} files", done, total)

    def _leave(self, instance: Instance, error: AssociationError) -> None:
        """It was not tried; the reason, the same for all that are left, is said once."""
        if error is not self._given_up:
            self._given_up = error
            say(self._target.explain(error))
        self._mention(f"{instance.path}: not sent")

    def _count(self, instance: Instance, result: SendResult) -> None:
        self._tally.not_sent -= 1
        if isinstance(result.error, AssociationError):
            self._given_up = result.error
            self._fail(f"{instance.path}: {self._target.explain(result.error)}")
            return
        if result.status is None:
            comment = comment_of(result.error, self._target.verbosity)
            self._fail(f"{instance.path}: {result.error}{comment}")
            return
        self._tally.sent += 1
        self._tally.sent_bytes += instance.length
        if result.status.category is Category.WARNING:
            self._tally.warnings += 1
            self._mention(f"{instance.path}: {result.status}")

    def _look_at(self, file: Path) -> None:
        try:
            self.instances.append(Instance.of(file))
        except NotAnInstanceError as error:
            self._tally.skipped += 1
            self._mention(f"{error} (skipped)")
        except DimseError as error:
            self._fail(str(error))
        else:
            self._tally.not_sent += 1
            self._bar.show(f"{len(self.instances)} found")

    def _fail(self, why: str) -> None:
        self._tally.failed += 1
        say(why)

    def _mention(self, text: str) -> None:
        if self._target.verbosity.tells_events:
            say(text)
