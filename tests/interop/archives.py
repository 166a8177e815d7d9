"""Archives that the tests query, and the scripts of this folder that run as processes."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interop.exchanges import ARCHIVE
from tests.peers import Argument, Server, run

ROOT = Path(__file__).parents[2]
NODELAY = {"TCP_NODELAY": "1"}  # DCMTK's own variable


@dataclass(frozen=True, slots=True)
class Archive:
    """An SCP of other services than C-STORE, which has the studies."""

    server: Server

    @property
    def port(self) -> str:
        return str(self.server.port)

    def requests(self) -> list[dict[str, Any]]:
        """Those of DIMSE-N that it got."""
        lines = self.server.log().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


def ours(service: str, *others: Argument) -> str:
    """Invoke a service with our own verbs."""
    return succeeding([*script("matrix_verbs"), service, *others], cwd=ROOT)


def succeeding(args: Sequence[Argument], cwd: Path) -> str:
    """Run a tool; what it says. It ends with 0."""
    done = run(args, env=NODELAY, cwd=cwd)
    assert done.returncode == 0, done.stdout
    return done.stdout


def fill(archive: Archive, *folders: Path) -> None:
    """Send what is in the folders to the archive, as it is: storescu would encode it anew."""
    to = ["-aec", ARCHIVE, "127.0.0.1", archive.port]
    succeeding([sys.executable, "-m", "dimse", "store", *to, *folders], cwd=ROOT)


def script(name: str) -> list[str]:
    """The command that runs a script of this folder, in `ROOT`."""
    return [sys.executable, "-m", f"tests.interop.{name}"]


def last_line(said: str) -> Any:
    """The result that a script prints."""
    return json.loads(said.splitlines()[-1])
