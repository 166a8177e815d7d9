"""dimse in an asyncio programme: Twisted runs on the asyncio event loop.

python examples/with_asyncio.py HOST PORT
"""

import asyncio
import sys

from twisted.internet import asyncioreactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react

import dimse


async def echo(peer: str) -> dimse.Status:
    """A coroutine of Twisted: it awaits Deferreds."""
    async with dimse.associate(peer) as association:
        return await dimse.echo(association)


async def main(host: str, port: str) -> None:
    """A coroutine of asyncio: it awaits futures, so a Deferred comes in by `asFuture`."""
    loop = asyncio.get_running_loop()
    echoes = (Deferred.fromCoroutine(echo(f"{host}:{port}")).asFuture(loop) for _ in range(2))
    print(*await asyncio.gather(*echoes, asyncio.sleep(0.1, "and asyncio")))


if __name__ == "__main__":
    loop = asyncio.new_event_loop()
    asyncioreactor.install(loop)  # before anything imports a reactor
    react(
        lambda _, *arguments: Deferred.fromFuture(loop.create_task(main(*arguments))), sys.argv[1:]
    )
