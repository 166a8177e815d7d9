"""Large objects: `python -m benchmarks.large [--objects 50] [--size 256MiB] [--one 5GiB]`.

So many objects are sent at once, each on an association of its own, and then one that is larger
than any length of 32 bits: its pixels are encapsulated, in fragments. The sender is a process that
makes the bytes as it sends them. Prints the growth of the resident memory of node and sender, what
the C-STOREs were answered, C-ECHO meanwhile, and whether the files have the length, and some of
them the SHA-256, of what was sent. The files are on the disk: `--folder` says where.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from resource import RUSAGE_SELF, getrusage
from statistics import median
from typing import Any

from pydicom import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    VLWholeSlideMicroscopyImageStorage,
)
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

import dimse
from benchmarks.common import (
    KIB,
    MIB,
    Receiver,
    dimse_node_durable,
    echo_times,
    percentile,
    running,
)
from dimse.message.messages import CStoreRQ
from dimse.services.dataset import encode

UNITS = {"KiB": KIB, "MiB": MIB, "GiB": 1024 * MIB}
SOP_CLASS, SYNTAX = str(VLWholeSlideMicroscopyImageStorage), str(JPEGBaseline8Bit)
BLOCK = MIB  # of noise, of which an object has the same over and over, each time turned further
FRAGMENT = 64 * MIB  # of the pixels
ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"  # PS3.5 A.4
CHECKED = 3  # of the objects, by their SHA-256
PATIENCE = 600.0  # seconds for a response: a disk may take long to write it all


def uid(number: int) -> str:
    """The SOP Instance UID of an object."""
    return f"1.2.826.0.1.3680043.10.1.{number}"


def head(number: int) -> bytes:
    """Of the data set: all before the pixels."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = SOP_CLASS, uid(number)
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.10.2"
    dataset.Modality, dataset.PatientID = "SM", "LARGE"
    return encode(dataset, ExplicitVRLittleEndian)


class Generated:
    """A data set as a `Source`: a head, then `size` bytes of pixels that are made when read."""

    def __init__(self, number: int, size: int) -> None:
        self._head = head(number) + b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + ITEM + bytes(4)
        self._size = size
        self._number = number
        self.length = len(self._head) + size + 8 * -(-size // FRAGMENT) + len(DELIMITER)
        self._pieces = self._generate()
        self._piece = memoryview(b"")

    def _generate(self) -> Iterator[bytes]:
        noise = Random(self._number).randbytes(BLOCK)
        yield self._head
        for begin in range(0, self._size, FRAGMENT):
            fragment = min(FRAGMENT, self._size - begin)
            yield ITEM + fragment.to_bytes(4, "little")
            for offset in range(0, fragment, BLOCK):
                turn = (begin + offset) // BLOCK % BLOCK
                yield (noise[turn:] + noise[:turn])[: fragment - offset]
        yield DELIMITER

    def read(self, count: int) -> bytes:
        """The next bytes."""
        data = bytearray()
        while len(data) < count:
            if not self._piece:
                self._piece = memoryview(next(self._pieces))
            wanted = count - len(data)
            data += self._piece[:wanted]
            self._piece = self._piece[wanted:]
        return bytes(data)

    def digest(self) -> str:
        """The SHA-256 of all that is left."""
        digest = hashlib.sha256()
        for piece in self._pieces:
            digest.update(piece)
        return digest.hexdigest()


async def send(reactor: Any, port: int, numbers: list[int], size: int) -> None:
    """All at once; tells what they were answered, and the most memory that it took."""
    limits = dimse.Limits(response=PATIENCE)

    async def one(number: int) -> str:
        try:
            return f"0x{await status(number):04X}"
        except dimse.DimseError as error:
            return str(error)

    async def status(number: int) -> int:
        async with dimse.associate(
            f"127.0.0.1:{port}", [(SOP_CLASS, [SYNTAX])], limits=limits, reactor=reactor
        ) as association:
            request = CStoreRQ(
                message_id=association.next_message_id(),
                affected_sop_class_uid=SOP_CLASS,
                affected_sop_instance_uid=uid(number),
                priority=0,
            )
            context = association.context_for(SOP_CLASS)
            answer = await association.request(context, request, Generated(number, size))
            return int(answer.response.status)

    sending = [Deferred.fromCoroutine(one(number)) for number in numbers]
    answers = Counter(await gatherResults(sending))
    print(json.dumps({"answers": answers, "memory": getrusage(RUSAGE_SELF).ru_maxrss * KIB}))


class Measuring:
    """A node that is sent to, and the memory it had before."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        end = time.perf_counter() + 1
        echo_times(receiver.port, lambda: time.perf_counter() > end)
        self.failures = 0
        self._base = receiver.memory

    def run(self, title: str, numbers: range, size: int) -> None:
        """Send, check, delete, and print what was measured."""
        receiver, begin = self._receiver, time.perf_counter()
        receiver.forget_peak()
        command = [sys.executable, "-m", "benchmarks.large", "--send", str(receiver.port)]
        command += [str(size), *map(str, numbers)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as sender:
            times = echo_times(receiver.port, lambda: sender.poll() is not None)
            sent = json.loads(sender.communicate()[0])
        seconds = time.perf_counter() - begin
        rate = len(numbers) * size / seconds / MIB
        grown = (receiver.peak - self._base) / MIB
        print(f"{title}: {sent['answers']} in {seconds:.0f} s, {rate:.0f} MiB/s")
        print(f"  node: at most {grown:.1f} MiB above its {self._base / MIB:.0f} MiB")
        print(f"  sender: at most {sent['memory'] / MIB:.0f} MiB in all")
        print(
            f"  {len(times)} C-ECHO meanwhile: median {median(times):.0f} ms, "
            f"p99 {percentile(times, 0.99):.0f} ms, longest {times[-1]:.0f} ms"
        )
        self.failures += sent["answers"] != {"0x0000": len(numbers)}
        self._check(numbers, size)

    def _check(self, numbers: range, size: int) -> None:
        files = list(self._receiver.folder.glob("objects/*/*.dcm"))
        stored = {each.sop_instance_uid: each for each in map(dimse.Instance.of, files)}
        sources = {number: Generated(number, size) for number in numbers}
        wrong = [
            number
            for number, source in sources.items()
            if uid(number) not in stored or stored[uid(number)].length != source.length
        ]
        checked = [number for number in numbers if number not in wrong][:CHECKED]
        for number in checked:
            if _digest(stored[uid(number)]) != sources[number].digest():
                wrong.append(number)
        whole = len(files) == len(numbers) and not wrong
        self.failures += not whole
        print(f"  {len(files)} files, {len(checked)} of them by SHA-256: wrong are {wrong}")
        for file in files:
            file.unlink()


def _digest(instance: dimse.Instance) -> str:
    assert instance.path is not None
    with instance.path.open("rb") as file:
        file.seek(instance.offset)
        return hashlib.file_digest(file, "sha256").hexdigest()


def number_of_bytes(text: str) -> int:
    """Of a size such as 256MiB."""
    return int(text[:-3]) * UNITS[text[-3:]]


def main() -> None:
    """Run the node, or the sender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=50)
    parser.add_argument("--size", type=number_of_bytes, default="256MiB")
    parser.add_argument("--one", type=number_of_bytes, default="5GiB")
    parser.add_argument("--folder", help="of the node; /dev/shm would be memory")
    parser.add_argument("--send", nargs="+", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send:
        port, size, *numbers = options.send
        react(lambda reactor: Deferred.fromCoroutine(send(reactor, port, numbers, size)))
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        needed = max(options.objects * options.size, options.one) + dimse.Limits().disk_reserve
        if (free := shutil.disk_usage(name).free) < needed:
            sys.exit(f"{needed / MIB:.0f} MiB are needed, {free / MIB:.0f} MiB are free")
        with running(dimse_node_durable, Path(name)) as receiver:
            measuring = Measuring(receiver)
            measuring.run(
                f"{options.objects} x {options.size / MIB:.0f} MiB at once",
                range(1, options.objects + 1),
                options.size,
            )
            measuring.run(f"one of {options.one / MIB:.0f} MiB", range(1), options.one)
            sys.exit(measuring.failures > 0)


if __name__ == "__main__":
    main()
