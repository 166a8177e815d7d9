"""The two ends of a C-FIND with many matches, each a process.

python -m tests.interop.many_matches scp PORT
python -m tests.interop.many_matches scu PORT COUNT

The scu warms up with a short query, waits for a line, asks for COUNT, and prints the seconds.
"""

import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from pydicom import Dataset
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from dimse import STUDY_ROOT, Association, Operation, QuerySCP, associate, find, listen

WARM_UP = 2000  # matches


async def studies(identifier: Dataset, _: Operation) -> AsyncIterator[Dataset]:
    """As many as the Accession Number of the keys says."""
    for number in range(int(identifier.AccessionNumber)):
        match = Dataset()
        match.QueryRetrieveLevel = "STUDY"
        match.StudyInstanceUID = f"1.2.{number}"
        match.AccessionNumber = str(number)
        yield match


async def ask(association: Association, count: int) -> None:
    """All of them come, in their order."""
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyInstanceUID = ""
    keys.AccessionNumber = str(count)
    expected = 0
    async for match in find(association, keys):
        assert match.StudyInstanceUID == f"1.2.{expected}"
        expected += 1
    assert expected == count


async def scp(reactor: Any, port: str) -> None:
    await listen(f"tcp:{port}:interface=127.0.0.1", [QuerySCP(studies)], reactor=reactor)
    await Deferred()


async def scu(reactor: Any, port: str, count: str) -> None:
    contexts = [STUDY_ROOT.find]
    async with associate(f"127.0.0.1:{port}", contexts, reactor=reactor) as association:
        await ask(association, WARM_UP)
        sys.stdout.write("warm\n")
        sys.stdout.flush()
        sys.stdin.readline()
        begin = time.perf_counter()
        await ask(association, int(count))
        sys.stdout.write(f"{time.perf_counter() - begin}\n")


if __name__ == "__main__":
    ends: dict[str, Any] = {"scp": scp, "scu": scu}
    role, *rest = sys.argv[1:]
    react(ends[role], rest)
