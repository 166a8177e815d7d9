"""A process that keeps associations busy with C-STORE, and asks what is there, as it is told.

python -m tests.interop.busy_senders LOG

A line of JSON on its stdin is a command, and one on its stdout the answer:

    ["echo", PORT]                              when it was answered
    ["load", PORT, SEED, [STUDY...], COUNT]     an association a study; when all have sent COUNT
                                                instances, or the connections are lost
    ["find", PORT, STUDY, SERIES]               the SOP Instance UIDs of a series
    ["get", PORT, STUDY, SERIES, INSTANCE]      the SHA-256 of the data set

The log has a line `sent UID SHA-256` before each instance, and `stored UID` behind its success.
"""

import json
import sys
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from dimse import (
    STUDY_ROOT,
    DimseError,
    Instance,
    MemoryStore,
    associate,
    echo,
    find,
    get,
    get_contexts,
    store,
)
from dimse.services.dataset import encode

VERIFICATION = "1.2.840.10008.1.1"
SMALL, MIDDLE = (500, 8_000), (200_000, 525_000)  # bytes
SERIES = 3  # of each study


def instance(study: str, number: int, random: Random) -> Instance:
    """One in eleven is of middle size; each has bytes that no other has."""
    series = f"{study}.{number % SERIES + 1}"
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, f"{series}.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID = study, series
    made.Modality, made.PatientID, made.PatientName = "CT", study, "Doe^Jane"
    made.InstanceNumber = number
    made.BitsAllocated = 8
    made.PixelData = random.randbytes(
        random.randrange(*(SMALL if number % 11 else MIDDLE)) // 2 * 2
    )
    made["PixelData"].VR = "OB"
    data = encode(made, ExplicitVRLittleEndian)
    return Instance(CTImageStorage, made.SOPInstanceUID, ExplicitVRLittleEndian, data=data)


class Senders:
    """What the commands do; `note` writes a line of the log."""

    def __init__(self, reactor: Any, log: Path) -> None:
        self._reactor = reactor
        self._log = log.open("ab", buffering=0)

    def note(self, line: str) -> None:
        self._log.write(f"{line}\n".encode())

    async def associate(self, port: int, contexts: Any) -> Any:
        return await associate(f"127.0.0.1:{port}", contexts, reactor=self._reactor)

    async def echo(self, port: int) -> None:
        association = await self.associate(port, [VERIFICATION])
        await echo(association)
        await association.release()

    async def load(self, port: int, seed: str, studies: list[str], count: int) -> None:
        busy = [self._send(port, f"{seed} {study}", study, count) for study in studies]
        await gatherResults(list(map(Deferred.fromCoroutine, busy)))

    async def _send(self, port: int, seed: str, study: str, count: int) -> None:
        random = Random(seed)
        association = None
        try:
            association = await self.associate(port, [CTImageStorage])
            for number in range(1, count + 1):
                made = instance(study, number, random)
                uid = made.sop_instance_uid
                self.note(f"sent {uid} {sha256(made.data or b'').hexdigest()}")
                status = await store(association, made)
                self.note(f"stored {uid}" if status == 0 else f"refused {uid} {status}")
            await association.release()
        except DimseError:
            if association is not None and association.ended is None:
                raise

    async def find(self, port: int, study: str, series: str) -> list[str]:
        association = await self.associate(port, [STUDY_ROOT.find])
        found = await find(association, _identifier(study, series, ""), STUDY_ROOT)
        await association.release()
        return [match.SOPInstanceUID for match in found]

    async def get(self, port: int, study: str, series: str, uid: str) -> list[str]:
        association = await self.associate(port, get_contexts(STUDY_ROOT, [CTImageStorage]))
        with MemoryStore() as received:
            await get(association, _identifier(study, series, uid), received, STUDY_ROOT)
            await association.release()
            return [sha256(held.instance().data or b"").hexdigest() for held in received.instances]


def _identifier(study: str, series: str, uid: str) -> Dataset:
    asked = Dataset()
    asked.QueryRetrieveLevel, asked.StudyInstanceUID = "IMAGE", study
    asked.SeriesInstanceUID, asked.SOPInstanceUID = series, uid
    return asked


async def main(reactor: Any, log: str) -> None:
    senders = Senders(reactor, Path(log))
    while line := await deferToThread(sys.stdin.readline):  # connections close meanwhile
        command, *arguments = json.loads(line)
        answer = await getattr(senders, command)(*arguments)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    react(lambda reactor, *argv: Deferred.fromCoroutine(main(reactor, *argv)), sys.argv[1:])
