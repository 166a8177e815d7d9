"""A router: each instance goes on to another node, and only then its sender hears how it went.

python examples/router_scp.py HOST PORT DESTINATION_HOST:PORT
"""

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

import dimse


async def main(reactor: Any, host: str, port: str, destination: str) -> None:
    """Route until somebody stops it."""

    async def forward(held: dimse.HeldInstance, operation: dimse.Operation) -> int:
        instance = held.instance()
        print(instance.sop_instance_uid, held.length, "bytes for", destination)
        async with dimse.associate(
            destination, instance.context_proposals(), reactor=reactor
        ) as association:
            return await dimse.store(association, instance)

    await dimse.listen(
        f"tcp:{port}:interface={host}",
        [dimse.VerificationSCP(), dimse.StorageSCP(dimse.CallbackStore(forward))],
        reactor=reactor,
    )
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
