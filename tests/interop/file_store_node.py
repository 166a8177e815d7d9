"""A node over a `FileStore`, which takes whatever comes, for it does not look into data sets.

python -m tests.interop.file_store_node PORT FOLDER
"""

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from dimse import SCP, FileStore, StorageSCP, VerificationSCP, listen


async def main(reactor: Any, port: str, folder: str) -> None:
    """Listen for good."""
    scps: list[SCP] = [VerificationSCP(), StorageSCP(FileStore(folder).open())]
    await listen(f"tcp:{port}:interface=127.0.0.1", scps, reactor=reactor)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor, *argv: Deferred.fromCoroutine(main(reactor, *argv)), sys.argv[1:])
