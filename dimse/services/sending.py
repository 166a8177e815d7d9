"""Sending many instances: contexts derived from them, a result for each (PS3.4 Annex B)."""

import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.threads import deferToThreadPool

from dimse.association import Association
from dimse.errors import AssociationError, DimseError, NotAnInstanceError
from dimse.limits import Limits
from dimse.message.messages import MEDIUM
from dimse.message.status import Status
from dimse.requestor import associate
from dimse.services.instance import Instance
from dimse.services.storage import store
from dimse.ul.pdu import MAXIMUM_CONTEXTS

Sendable = str | os.PathLike[str] | Dataset | Instance


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of one source: a `status` of the peer, or the `error` that kept it away.

    `source` is the file, for a Dataset or an `Instance` what was given.
    """

    source: Sendable
    status: Status | None = None
    error: DimseError | None = None

    @property
    def ok(self) -> bool:
        """Whether the peer has it."""
        return self.status is not None

    @property
    def skipped(self) -> bool:
        """Whether it was not sent because it is no instance."""
        return isinstance(self.error, NotAnInstanceError)


def find_files(path: str | os.PathLike[str]) -> Iterator[Path]:
    """The file itself, or all files in a folder and below it, in the order of their names."""
    if not os.path.isdir(path):
        yield Path(path)
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names))


async def send(
    peer: str | IStreamClientEndpoint,
    sources: Iterable[Sendable],
    *,
    called_ae_title: str = "ANY-SCP",
    calling_ae_title: str = "DIMSE",
    priority: int = MEDIUM,
    limits: Limits | None = None,
    progress: Callable[[int], None] | None = None,
    reactor: Any = None,
) -> AsyncIterator[SendResult]:
    """Send files, folders, Datasets and Instances to `peer`, one result for each instance.

    Exactly the SOP classes and transfer syntaxes of what is to be sent are proposed; when they
    need more than 128 presentation contexts, one association follows the other. Nothing that
    happens to one instance raises: an association that fails is the error of those it was for.

    `peer`, the AE titles, `limits` and `reactor` are as in `associate`; `progress(count)` is
    called with each number of bytes read. Raises `MisuseError` for arguments that are wrong.
    """
    if reactor is None:  # late, for whoever imports it installs it
        from twisted.internet import reactor
    planned: list[tuple[Sendable, Instance]] = []
    skipped: list[SendResult] = []

    def plan() -> None:
        for source in _each(sources):
            try:
                planned.append((source, Instance.of(source)))
            except NotAnInstanceError as error:
                skipped.append(SendResult(source, error=error))

    await deferToThreadPool(reactor, reactor.getThreadPool(), plan)
    for result in skipped:
        yield result
    for batch in _batches(planned):
        contexts = dict.fromkeys(
            (instance.sop_class_uid, (instance.transfer_syntax,)) for _, instance in batch
        )
        try:
            async with associate(
                peer,
                contexts,
                called_ae_title=called_ae_title,
                calling_ae_title=calling_ae_title,
                limits=limits,
                reactor=reactor,
            ) as association:
                while batch:
                    source, instance = batch[0]
                    result = await _send_one(association, source, instance, priority, progress)
                    del batch[0]
                    yield result
        except AssociationError as error:
            for source, _ in batch:
                yield SendResult(source, error=error)


async def _send_one(
    association: Association,
    source: Sendable,
    instance: Instance,
    priority: int,
    progress: Callable[[int], None] | None,
) -> SendResult:
    try:
        status = await store(association, instance, priority=priority, progress=progress)
    except DimseError as error:
        return SendResult(source, error=error)
    return SendResult(source, status=status)


def _each(sources: Iterable[Sendable]) -> Iterator[Sendable]:
    for source in sources:
        if isinstance(source, Dataset | Instance):
            yield source
        else:
            yield from find_files(source)


def _batches(
    planned: list[tuple[Sendable, Instance]],
) -> Iterator[list[tuple[Sendable, Instance]]]:
    """Cut where the contexts of one association are used up (PS3.8 9.3.2.2)."""
    batch: list[tuple[Sendable, Instance]] = []
    contexts: set[tuple[str, str]] = set()
    for source, instance in planned:
        context = (instance.sop_class_uid, instance.transfer_syntax)
        if context not in contexts and len(contexts) == MAXIMUM_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        contexts.add(context)
        batch.append((source, instance))
    if batch:
        yield batch
