"""Sending many instances: contexts derived from them, a result for each (PS3.4 Annex B)."""

import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydicom import Dataset
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from dimse.association import Association
from dimse.errors import AssociationError, DimseError, NotAnInstanceError, ReleasedError
from dimse.implementation import CALLED_AE_TITLE, CALLING_AE_TITLE
from dimse.limits import Limits
from dimse.message.messages import MEDIUM
from dimse.message.status import Status
from dimse.requestor import associate
from dimse.services.instance import Instance
from dimse.services.storage import store
from dimse.ul.pdu import MAXIMUM_CONTEXTS

_PATIENCE = 3  # associations in a row that bring nothing, before the peer is given up

Sendable = str | os.PathLike[str] | Dataset | Instance


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of one source: a `status` of the peer, or the `error` that kept it away.

    `source` is the file, for a Dataset or an `Instance` what was given.
    """

    source: Sendable
    status: Status | None = None
    error: DimseError | None = None
    sop_instance_uid: str = ""

    @property
    def ok(self) -> bool:
        """Whether the peer has it."""
        return self.status is not None

    @property
    def skipped(self) -> bool:
        """Whether it was not sent because it is no instance."""
        return isinstance(self.error, NotAnInstanceError)


def find_files(path: str | os.PathLike[str]) -> Iterator[Path]:
    """The file itself, or all files in a folder and below it, in the order of their names.

    Raises `OSError` for a folder that cannot be read.
    """
    if not os.path.isdir(path):
        yield Path(path)
        return
    for folder, folders, names in os.walk(path, onerror=_raise):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names))


def _raise(error: OSError) -> None:
    raise error


async def send(
    peer: str | IStreamClientEndpoint,
    sources: Iterable[Sendable],
    *,
    called_ae_title: str = CALLED_AE_TITLE,
    calling_ae_title: str = CALLING_AE_TITLE,
    priority: int = MEDIUM,
    limits: Limits | None = None,
    progress: Callable[[int], None] | None = None,
    move_originator: tuple[str, int] | None = None,
    reactor: Any = None,
) -> AsyncGenerator[SendResult, None]:
    """Send files, folders, Datasets and Instances to `peer`, one result for each instance.

    The SOP classes and transfer syntaxes of what is to be sent are proposed, and for what is not
    compressed the default transfer syntax (`context_proposals`); when that needs more than 128
    presentation contexts, one association follows the other. Nothing that happens to one
    instance raises, or keeps another from being sent: when an association ends, the instance on
    its way has that error, and the rest goes on a new one. After three in a row that brought
    nothing, or one that cannot be established, the rest gets its error too.

    The head of every file is read before the first is sent. Leaving the iteration early aborts:
    use `contextlib.aclosing`, so that it happens there and then.

    `peer`, the AE titles, `limits` and `reactor` are as in `associate`; `progress(count)` is
    called with each number of bytes read; `move_originator` is as in `store`, and with it the
    instance on its way when the iteration is cancelled has its result first. Raises `MisuseError`
    for arguments that are wrong.
    """
    if reactor is None:  # late, for whoever imports it installs it
        from twisted.internet import reactor
    planned: deque[_Planned] = deque()
    for result in await _plan_all(sources, planned, reactor):
        yield result
    connect = partial(
        associate,
        peer,
        called_ae_title=called_ae_title,
        calling_ae_title=calling_ae_title,
        limits=limits,
        reactor=reactor,
    )
    patience = _PATIENCE
    while planned:
        batch = _next_batch(planned)
        begun = brought = cancelled = False
        ended: AssociationError = ReleasedError("the peer released the association")
        try:
            async with connect(contexts=_contexts(batch)) as association:
                while batch and association.ended is None and not cancelled:
                    source, instance = batch.popleft()
                    result, cancelled = await _send_one(
                        association, source, instance, priority, progress, move_originator
                    )
                    begun = True
                    brought = brought or not isinstance(result.error, AssociationError)
                    yield result
        except AssociationError as error:
            ended = error
        if cancelled:
            raise CancelledError
        planned.extendleft(reversed(batch))
        patience = _PATIENCE if brought or not batch else patience - 1
        if batch and not (begun and patience):
            for source, instance in planned:
                yield SendResult(source, error=ended, sop_instance_uid=instance.sop_instance_uid)
            return


_Planned = tuple[Sendable, Instance]


async def _send_one(
    association: Association,
    source: Sendable,
    instance: Instance,
    priority: int,
    progress: Callable[[int], None] | None,
    move_originator: tuple[str, int] | None,
) -> tuple[SendResult, bool]:
    """What became of it, and whether who waited was cancelled meanwhile."""
    uid = instance.sop_instance_uid
    cancelled = False
    try:
        stored = store(
            association,
            instance,
            priority=priority,
            progress=progress,
            move_originator=move_originator,
        )
        if move_originator is None:
            return SendResult(source, status=await stored, sop_instance_uid=uid), False
        outcome, cancelled = await to_its_end(stored)
        if isinstance(outcome, Failure):
            outcome.raiseException()
    except DimseError as error:
        return SendResult(source, error=error, sop_instance_uid=uid), cancelled
    return SendResult(source, status=outcome, sop_instance_uid=uid), cancelled


async def to_its_end(deferred: "Deferred[Status]") -> tuple[Status | Failure, bool]:
    """What `deferred` fires or fails with, and whether who waited was cancelled meanwhile."""
    waiters: list[Deferred[list[Status | Failure]]] = [Deferred()]
    deferred.addBoth(lambda outcome: waiters[-1].callback([outcome]))
    try:
        return (await waiters[0])[0], False
    except CancelledError:
        waiters.append(Deferred())
        return (await waiters[1])[0], True


async def _plan_all(
    sources: Iterable[Sendable], planned: deque[_Planned], reactor: Any
) -> list[SendResult]:
    """Append what there is to send to `planned`; returns what cannot be sent."""
    failed = []
    for source in sources:
        step = partial(_plan, source)
        for plan in await deferToThreadPool(reactor, reactor.getThreadPool(), step):
            if isinstance(plan, SendResult):
                failed.append(plan)
            else:
                planned.append(plan)
    return failed


def _plan(source: Sendable) -> list[_Planned | SendResult]:
    """What there is to send of a source; runs in a thread, for it reads files."""
    try:
        each = [source] if isinstance(source, Dataset | Instance) else list(find_files(source))
    except OSError as error:
        return [SendResult(source, error=DimseError(f"{error.filename}: {error.strerror}"))]
    plans: list[_Planned | SendResult] = []
    for one in each:
        try:
            plans.append((one, Instance.of(one)))
        except DimseError as error:
            plans.append(SendResult(one, error=error))
    return plans


def _contexts(batch: Iterable[_Planned]) -> list[tuple[str, tuple[str]]]:
    proposals = (proposal for _, instance in batch for proposal in instance.context_proposals())
    return list(dict.fromkeys(proposals))


def _next_batch(planned: deque[_Planned]) -> deque[_Planned]:
    """Take what the contexts of one association can carry (PS3.8 9.3.2.2)."""
    batch: deque[_Planned] = deque()
    contexts: set[tuple[str, tuple[str]]] = set()
    while planned:
        wanted = contexts.union(planned[0][1].context_proposals())
        if len(wanted) > MAXIMUM_CONTEXTS:
            break
        contexts = wanted
        batch.append(planned.popleft())
    return batch
