"""What the operations window hides of a delay: `python -m benchmarks.window [--count 200]`.

C-STOREs of 4 kB on one association through a proxy that holds every byte for 50 ms each way, with
windows of 1 and of 16 operations (PS3.7 D.3.3.3). Prints the seconds of both, and their ratio.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import react

import dimse
from benchmarks.common import dimse_node, make_instances, server
from benchmarks.proxy import Proxy, Way

DELAY = 0.05  # seconds, in each direction
WINDOWS = (1, 16)


async def send(reactor: Any, port: int, files: Sequence[Path], window: int) -> float:
    """Seconds until all have their response."""
    instances = [dimse.Instance.of(file) for file in files]
    async with dimse.associate(
        f"127.0.0.1:{port}",
        list(dict.fromkeys(each.context_proposals()[0] for each in instances)),
        limits=dimse.Limits(operations_invoked=window),
        reactor=reactor,
    ) as association:
        begin = time.perf_counter()
        await gatherResults([dimse.store(association, each) for each in instances])
        return time.perf_counter() - begin


async def main(reactor: Any, count: int) -> None:
    """One node, and each window once."""
    with tempfile.TemporaryDirectory() as folder:
        files = sorted(make_instances(Path(folder, "files"), count, 4000).iterdir())
        seconds = []
        for window in WINDOWS:
            node = partial(_node, window)
            with server(node, Path(folder)) as port:
                proxy = Proxy(reactor, port, lambda: (Way(reactor, DELAY), Way(reactor, DELAY)))
                near = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
                listening = await near.listen(proxy)
                seconds.append(await send(reactor, listening.getHost().port, files, window))
                await listening.stopListening()
                await proxy.over()  # else the node, which is about to stop, waits for its peer
            print(f"window {window:2}: {seconds[-1]:6.2f} s for {count} C-STOREs of 4 kB")
    print(f"{seconds[0] / seconds[-1]:.1f} times sooner")


def _node(window: int, port: int, folder: Path) -> list[str]:
    return [*dimse_node(port, folder), "--operations-performed", str(window)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    react(main, [parser.parse_args().count])
