"""A network that is never well: `python -m benchmarks.network [--count 1000] [--seed 1]`.

C-STOREs go through a process that delays all bytes by 100 ms each way, splits them, down to single
bytes, holds them up for up to two seconds, and cuts connections: with a reset, with an end that
looks orderly, or by letting nothing through any more. What happens to a connection, and at which of
its bytes, is drawn from the seed. The requestor tries again (`dimse.retry`), as C-STORE allows.

Each receiver is judged by its files: those that it acknowledged are there (else it was a false
success), with the bytes that were sent, once. Then all are sent again, without the proxy in the
way, and it is judged again. Fails for a fault of our node.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

import dimse
from benchmarks.common import Receiver, dimse_node_durable, make_instances, running, storescp
from benchmarks.proxy import Proxy, Way

DELAY = 0.1  # seconds, in each direction
SENDERS = 10
SIZES = {0.7: 4_000, 0.25: 60_000, 0.05: 400_000}  # bytes, by their share of the instances
LIMITS = dimse.Limits(connect=5, associate=5, response=8, write_stall=8, close=1)
PATIENCE = 50  # attempts for one instance
FATES = ("reset", "closed", "silent")
WEIGHTS = (45, 45, 10)  # a silent one costs a time-out
# Where a connection is cut, in bytes of its requestor or of its acceptor: some in the negotiation,
# some in or before a response, which is lost then though the instance is stored.
CUTS = ((400, 0), (400_000, 0), (0, 200), (0, 3_000))


class Rough(Way):
    """One direction of a connection; at byte `cut`, if there is one, its `fate` comes true."""

    def __init__(self, reactor: Any, random: Random, cut: int, fate: str, told: Any) -> None:
        super().__init__(reactor, DELAY)
        self._random = random
        self._left = cut or sys.maxsize
        self._fate = fate
        self._told = told
        self.silent = False

    def passes(self, data: bytes) -> None:
        """In pieces, up to the cut."""
        assert self.other is not None
        if self.silent:
            return
        if self._random.random() < 0.02:
            self._told["stalls"] += 1
            self.later(lambda: None, self._random.uniform(0.5, 2))
        for piece in self._pieces(data[: self._left]):
            self.later(partial(self.other.transport.write, piece), 0.0005)
        self._left -= min(self._left, len(data))
        if not self._left:
            self._told[self._fate] += 1
            self.silent = self.other.silent = True  # type: ignore[attr-defined]
            self.later(self._cut, 0.0005)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        tiny = 30 if self._random.random() < 0.2 else 0  # so many of them
        while data:
            length = self._random.randint(1, 7 if tiny else 16_384)
            tiny = max(tiny - 1, 0)
            yield data[:length]
            data = data[length:]

    def _cut(self) -> None:
        assert self.other is not None
        for end in self, self.other:
            if self._fate == "reset":
                end.transport.abortConnection()
            elif self._fate == "closed":
                end.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        """The other end of a silent one never hears of it."""
        if self.silent:
            self.lost.callback(None)
        else:
            super().connectionLost(reason)


async def stand_between(reactor: Any, port: int, seed: str) -> None:
    """The proxy; it says on which port, and tells what it has done when it hears a line."""
    told: Counter[str] = Counter()

    def ways() -> tuple[Rough, Rough]:
        told["connections"] += 1
        random = Random(f"{seed} {told['connections']}")
        [fate] = random.choices(FATES, WEIGHTS)
        there, back = (most and random.randint(1, most) for most in random.choice(CUTS))
        near, far = (
            Rough(reactor, random, there, fate, told),
            Rough(reactor, random, back, fate, told),
        )
        return near, far

    near = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    listening = await near.listen(Proxy(reactor, port, ways))
    print(listening.getHost().port, flush=True)
    await deferToThread(sys.stdin.readline)
    print(json.dumps(told))


@contextmanager
def proxy(port: int, seed: str, told: Counter[str]) -> Iterator[int]:
    """The port of a proxy in a process of its own; adds what it has done to `told`."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.network", "--proxy", str(port), "--seed", seed],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        told.update(json.loads(process.communicate("\n")[0]))


class Sender:
    """Sends one instance after the other, on an association as long as there is one."""

    def __init__(self, reactor: Any, port: int, errors: Counter[str]) -> None:
        self._reactor = reactor
        self._peer = f"127.0.0.1:{port}"
        self._errors = errors
        self._association: dimse.Association | None = None

    async def send(self, instances: Sequence[dimse.Instance]) -> list[str]:
        """The SOP Instance UIDs of those that were acknowledged."""
        acknowledged = []
        for instance in instances:
            try:
                status = await dimse.retry(
                    partial(self._try, instance),
                    attempts=PATIENCE,
                    policy=lambda failed: 0.1,
                    transient=self._is_transient,
                    clock=self._reactor,
                )
            except dimse.DimseError as error:
                self._errors[f"given up: {error}"] += 1
            else:
                self._errors[f"status {status}"] += status != 0
                acknowledged.append(instance.sop_instance_uid)
        if self._association is not None:
            with suppress(dimse.DimseError):
                await self._association.release()
        return acknowledged

    async def _try(self, instance: dimse.Instance) -> int:
        if self._association is None or self._association.ended is not None:
            self._association = await dimse.associate(
                self._peer, instance.context_proposals(), limits=LIMITS, reactor=self._reactor
            )
        return await dimse.store(self._association, instance)

    def _is_transient(self, error: Exception) -> bool:
        self._errors[type(error).__name__] += 1
        # Whether it was stored when no response came is not known, and a C-STORE may be repeated.
        return dimse.is_transient(error) or isinstance(error, dimse.TimedOutError)


def digest(instance: dimse.Instance) -> str:
    """SHA-256 of its data set."""
    assert instance.path is not None
    return hashlib.sha256(instance.path.read_bytes()[instance.offset :]).hexdigest()


def judge(receiver: Receiver, sent: dict[str, str], acknowledged: Sequence[str]) -> int:
    """Print, and return the number of faults."""
    paths = [path for path in receiver.folder.rglob("*") if path.suffix != ".part"]
    found: dict[str, list[str]] = {}
    for path in paths:
        with suppress(dimse.DimseError):
            instance = dimse.Instance.of(path)
            found.setdefault(instance.sop_instance_uid, []).append(digest(instance))
    false = [uid for uid in acknowledged if uid not in found]
    wrong = [uid for uid, digests in found.items() if set(digests) != {sent.get(uid)}]
    twice = [uid for uid, digests in found.items() if len(digests) > 1]
    print(
        f"  {len(acknowledged)} of {len(sent)} acknowledged, {len(found)} there: "
        f"{len(false)} false successes, {len(wrong)} with other bytes, {len(twice)} twice"
    )
    return len(sent) - len(acknowledged) + len(false) + len(wrong) + len(twice)


async def measure(reactor: Any, receiver: Receiver, files: Sequence[Path], seed: str) -> int:
    """Through the proxy, then again without; returns the number of faults."""
    instances = [dimse.Instance.of(file) for file in files]
    sent = {instance.sop_instance_uid: digest(instance) for instance in instances}
    told: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    begin = time.perf_counter()
    with proxy(receiver.port, seed, told) as port:
        sending: list[Any] = [
            Deferred.fromCoroutine(Sender(reactor, port, errors).send(instances[each::SENDERS]))
            for each in range(SENDERS)
        ]
        acknowledged = list(chain.from_iterable(await gatherResults(sending)))
        seconds = time.perf_counter() - begin
    print(f"  {dict(told)} in {seconds:.0f} s")
    print(f"  {sum(errors.values())} attempts more: {dict(+errors)}")
    faults = judge(receiver, sent, acknowledged)
    again = [result async for result in dimse.send(f"127.0.0.1:{receiver.port}", files)]
    print(f"  sent again: {Counter(str(each.error or each.status) for each in again)}")
    faults += judge(receiver, sent, [each.sop_instance_uid for each in again if each.ok])
    partial_files = len(list(receiver.folder.rglob("*.part")))
    print(f"  partial files: {partial_files}")
    return faults + partial_files


def forking_storescp(port: int, folder: Path) -> list[str]:
    """DCMTK's receiver, for more than one association at a time."""
    return [*storescp(port, folder), "--fork"]


async def main(reactor: Any, count: int, seed: str) -> None:
    """One receiver after the other."""
    random, faults = Random(seed), {}
    with tempfile.TemporaryDirectory() as name:
        files = [
            file
            for share, size in SIZES.items()
            for file in make_instances(
                Path(name, f"of{size}"), round(count * share), size, random.randbytes
            ).iterdir()
        ]
        random.shuffle(files)
        for title, command in (("dimse", dimse_node_durable), ("storescp", forking_storescp)):
            with running(command, Path(name)) as receiver:
                print(f"{title}:")
                faults[title] = await measure(reactor, receiver, files, seed)
    raise SystemExit(faults["dimse"] > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--proxy", metavar="PORT", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    run = stand_between if options.proxy else main
    arguments = (options.proxy or options.count, options.seed)
    react(lambda reactor: Deferred.fromCoroutine(run(reactor, *arguments)))
