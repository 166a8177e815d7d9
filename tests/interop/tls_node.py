"""A process that answers C-ECHO and keeps what comes in memory, over TLS, in several ways at once.

python -m tests.interop.tls_node JSON, which has the arguments of `ServerTLS` by port.
"""

import json
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from dimse import SCP, MemoryStore, ServerTLS, StorageSCP, VerificationSCP, listen


async def main(reactor: Any, settings: str) -> None:
    """Listen for good."""
    scps: list[SCP] = [VerificationSCP(), StorageSCP(MemoryStore())]
    for port, given in json.loads(settings).items():
        endpoint = f"tcp:{port}:interface=127.0.0.1"
        await listen(endpoint, scps, tls=ServerTLS(**given), reactor=reactor)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor, *argv: Deferred.fromCoroutine(main(reactor, *argv)), sys.argv[1:])
