"""Send files, and ask the peer to keep them (Storage Commitment, PS3.4 J).

python examples/commitment_scu.py HOST PORT FILE...
"""

import sys
from typing import Any

from twisted.internet.task import react

import dimse
from dimse.sop_classes import STORAGE_COMMITMENT_PUSH


async def main(reactor: Any, host: str, port: str, *files: str) -> None:
    """Delete nothing here before the peer has committed itself to keep it."""
    peer = f"{host}:{port}"
    instances = [dimse.Instance.of(file) for file in files]
    async for sent in dimse.send(peer, instances, reactor=reactor):
        print(sent.error or sent.status)
    async with dimse.associate(peer, [STORAGE_COMMITMENT_PUSH], reactor=reactor) as association:
        result = await dimse.commit(association, instances, wait=60)
    for reference in result.committed:
        print(reference.sop_instance_uid, "is safe")
    for reference, reason in result.failed.items():
        print(reference.sop_instance_uid, f"is not: 0x{reason:04X}")


if __name__ == "__main__":
    react(main, sys.argv[1:])
