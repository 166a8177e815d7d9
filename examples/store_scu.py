"""C-STORE as SCU: send files and folders, and say what became of each instance.

python examples/store_scu.py HOST PORT PATH...
"""

import sys
from contextlib import aclosing
from typing import Any

from twisted.internet.task import react

import dimse


async def main(reactor: Any, host: str, port: str, *paths: str) -> None:
    """Send everything; exit with 1 if anything was not stored."""
    complete = True
    results = dimse.send(
        f"{host}:{port}",
        paths,
        called_ae_title="REMOTE_SCP",
        calling_ae_title="MY_SCU",
        reactor=reactor,
    )
    async with aclosing(results):  # an exception in the loop then aborts the association at once
        async for result in results:
            print(result.source, result.error or result.status)
            complete = complete and (result.ok or result.skipped)
    sys.exit(0 if complete else 1)


if __name__ == "__main__":
    react(main, sys.argv[1:])
