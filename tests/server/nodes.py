"""What the tests of the node share: how it is made, and what it says."""

import os
import signal
from pathlib import Path
from typing import Any

from twisted.internet import reactor  # noqa: TID253  pytest-twisted has installed it
from twisted.internet.task import deferLater

from dimse.server.options import Options
from dimse.server.service import Node, makeService
from tests.peers import free_port

CLOCK: Any = reactor


def start(service: Node) -> None:
    """As twistd does it."""
    service.privilegedStartService()
    service.startService()


def made(folder: Path, *args: str) -> tuple[Node, str]:
    """A started node as the command line describes it, and its address."""
    port = free_port()
    options = Options()
    listen = f"tcp:{port}:interface=127.0.0.1"
    options.parseOptions(
        ["--listen", listen, "--storage", str(folder), "--disk-reserve", "0", *args]
    )
    service = makeService(options)
    start(service)
    return service, f"127.0.0.1:{port}"


async def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)
    await deferLater(CLOCK, 0)
    await deferLater(CLOCK, 0)
