"""Many C-FINDs over few associations, each tried again when the peer is busy or gone.

python examples/pool.py HOST PORT
"""

import sys
from typing import Any

from pydicom import Dataset
from twisted.internet.defer import gatherResults
from twisted.internet.task import react

import dimse


async def main(reactor: Any, host: str, port: str) -> None:
    """Ten queries, two at a time."""
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyInstanceUID = ""

    def connect() -> dimse.Associating:
        return dimse.associate(f"{host}:{port}", [dimse.STUDY_ROOT.find], reactor=reactor)

    pool = dimse.AssociationPool(connect, limit=2, clock=reactor)
    queries = [
        dimse.retry(
            lambda: pool.run(lambda association: dimse.find(association, keys)), clock=reactor
        )
        for _ in range(10)
    ]
    found = await gatherResults(queries, consumeErrors=True)  # the first error is raised here
    print(sum(map(len, found)), "matches")
    await pool.close()


if __name__ == "__main__":
    react(main, sys.argv[1:])
