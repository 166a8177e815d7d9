"""What commands show while they work, and `dimse store` counts for the end."""

import sys
from dataclasses import dataclass
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from dimse.cli.options import Verbosity

MEGABYTE = 1_000_000


class Bar:
    """Bytes, rate, time left and a text on stderr, if that is a terminal and may be used."""

    def __init__(self, verbosity: Verbosity) -> None:
        self._progress = Progress(
            BarColumn(bar_width=None),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            transient=True,
            expand=True,
            redirect_stdout=False,
            disable=verbosity is Verbosity.QUIET or not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Wipe it away."""
        self._progress.stop()

    def advance(self, count: int) -> None:
        """`count` more bytes were read."""
        self._progress.advance(self._task, count)

    def show(self, text: str, done: int = 0, total: int | None = None) -> None:
        """Show `text`, and `done` of `total` bytes."""
        self._progress.update(self._task, description=text, completed=done, total=total)


@dataclass(slots=True)
class Tally:
    """How many instances were sent, how many of those with a warning; what was not, and bytes.

    `not_sent` are those whose turn did not come, or was interrupted.
    """

    sent: int = 0
    warnings: int = 0
    failed: int = 0
    skipped: int = 0
    not_sent: int = 0
    sent_bytes: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """The summary."""
        megabytes = self.sent_bytes / MEGABYTE
        rate = megabytes / self.seconds if self.seconds else 0
        speed = f"{megabytes:.1f} MB in {self.seconds:.1f} s ({rate:.1f} MB/s)"
        not_sent = f", {self.not_sent} not sent" if self.not_sent else ""
        return (
            f"{self.sent} sent, {self.warnings} warnings, {self.failed} failed, "
            f"{self.skipped} skipped{not_sent}; {speed}"
        )
