"""A process that sends one instance, waits for a line, and then sends the others all at once.

python send_at_once.py PORT WARM_UP FILE...
"""

import sys
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from dimse import send


async def main(reactor: Any, port: str, warm_up: str, *paths: str) -> None:
    async def one(path: str) -> None:
        async for result in send(f"127.0.0.1:{port}", [path], reactor=reactor):
            assert result.ok, result.error

    await one(warm_up)
    sys.stdout.write("warm\n")
    sys.stdout.flush()
    sys.stdin.readline()
    await gatherResults([Deferred.fromCoroutine(one(path)) for path in paths])


if __name__ == "__main__":
    react(lambda reactor, *argv: Deferred.fromCoroutine(main(reactor, *argv)), sys.argv[1:])
