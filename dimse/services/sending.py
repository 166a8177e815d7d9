"""Sending many instances: contexts derived from them, a result for each (PS3.4 Annex B)."""

import os
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Container,
    Iterable,
    Iterator,
)
from dataclasses import dataclass, field
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
from dimse.requestor import Associating, associate
from dimse.security.tls import ClientContext, ClientTLS
from dimse.security.trail import AuditTrail
from dimse.services.instance import Instance, uid_of
from dimse.services.storage import store
from dimse.ul.items import UserIdentityRQ
from dimse.ul.pdu import MAXIMUM_CONTEXTS

# So many are known, with the contexts they need, when an association is requested; memory is
# bounded however many there are.
_AHEAD = 10_000

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


def send(
    peer: str | IStreamClientEndpoint,
    sources: Iterable[Sendable] | AsyncIterable[Sendable],
    *,
    called_ae_title: str = CALLED_AE_TITLE,
    calling_ae_title: str = CALLING_AE_TITLE,
    priority: int = MEDIUM,
    limits: Limits | None = None,
    progress: Callable[[int], None] | None = None,
    move_originator: tuple[str, int] | None = None,
    transfer_syntaxes: Container[str] = (),
    tls: ClientTLS | ClientContext | None = None,
    user_identity: UserIdentityRQ | None = None,
    allow_plain_identity: bool = False,
    audit: AuditTrail | None = None,
    reactor: Any = None,
) -> AsyncGenerator[SendResult, None]:
    """Send files, folders, Datasets and Instances to `peer`, one result for each instance.

    The SOP classes and transfer syntaxes of what is to be sent are proposed, and what it can be
    converted to for a peer that takes nothing else (`context_proposals`); when that needs more than
    128 presentation contexts, one association follows the other. `transfer_syntaxes` narrow that
    down for what is in one of them, or can be converted to one. Nothing that happens to one
    instance raises, or keeps another from being sent: when an association ends, the instances on
    their way have that error, and the rest goes on a new one. After three in a row that brought
    nothing, or one that cannot be established, the rest gets its error too.

    The heads of the first 10,000 files are read before one is sent, and so far ahead of the sending
    the others; what then needs another context goes on the next association. Of a folder that is
    all files. An Instance says who it is and is not opened, and `sources` are taken as they are
    needed; who has to wait for them gives an async iterable. Leaving the iteration early aborts:
    use `contextlib.aclosing`, so that it happens there and then.

    With `Limits.operations_invoked` above 1, so many instances are on their way at a time as the
    peer agrees to; the results keep the order of the instances.

    `peer`, AE titles, `limits`, `tls`, `user_identity`, `allow_plain_identity`, `audit` and
    `reactor` are as in `associate`; `progress(count)` is called with each number of bytes read;
    `move_originator` is as in `store`, and with it what is on its way when the iteration is
    cancelled has its result first. Raises `MisuseError` for arguments that are wrong.
    """
    if reactor is None:  # late, for whoever imports it installs it
        from twisted.internet import reactor
    connect = partial(
        associate,
        peer,
        called_ae_title=called_ae_title,
        calling_ae_title=calling_ae_title,
        limits=limits,
        tls=tls,
        user_identity=user_identity,
        allow_plain_identity=allow_plain_identity,
        audit=audit,
        reactor=reactor,
    )
    one = partial(store, priority=priority, progress=progress, move_originator=move_originator)
    new_flight = partial(_Flight, one, transfer_syntaxes, to_their_end=move_originator is not None)
    # The generator itself: one around it that is collected while this one waits cannot close it.
    return _flights(_Plans(sources, reactor), connect, new_flight)


async def _flights(
    plans: "_Plans", connect: Callable[..., Associating], new_flight: Callable[[], "_Flight"]
) -> AsyncGenerator[SendResult, None]:
    """One association after the other, until all is sent or patience is at its end."""
    async for failed in plans.look_ahead():
        yield failed
    patience, associated = _PATIENCE, False
    while plans.waiting:
        flight = new_flight()
        flight.take(plans.waiting)
        ended: AssociationError = ReleasedError("the peer released the association")
        try:
            async with connect(contexts=list(flight.contexts)) as association:
                flight.negotiated = True
                while flight.begin(association):
                    yield await flight.next()
                    try:
                        async for failed in plans.look_ahead(beside=len(flight.batch)):
                            yield failed
                    except CancelledError:
                        if not flight.to_their_end:
                            raise
                        flight.cancelled = True
                    flight.take(plans.waiting)
        except AssociationError as error:
            ended = error
            ended.may_expect_tls = ended.may_expect_tls and not associated
        associated = associated or flight.negotiated
        if flight.cancelled:
            raise CancelledError
        plans.waiting.extendleft(reversed(flight.batch))
        patience = _PATIENCE if flight.brought or not flight.batch else patience - 1
        if flight.batch and not (flight.begun and patience):
            break
    while plans.waiting:
        source, instance = plans.waiting.popleft()
        yield SendResult(source, error=ended, sop_instance_uid=instance.sop_instance_uid)
        async for failed in plans.look_ahead():
            yield failed


_Planned = tuple[Sendable, Instance]


class _Plans:
    """What there is to send: so much of it as `_AHEAD` says is `waiting`, the rest is to come."""

    def __init__(self, sources: Iterable[Sendable] | AsyncIterable[Sendable], reactor: Any) -> None:
        self.waiting: deque[_Planned] = deque()
        self._sources = one_by_one(sources)
        self._reactor = reactor

    async def look_ahead(self, beside: int = 0) -> AsyncGenerator[SendResult, None]:
        """Fill up what is waiting, with the `beside` that do so elsewhere; yields what cannot be
        sent. A file is opened in a thread; an Instance is taken at once."""
        while len(self.waiting) + beside < _AHEAD:
            try:
                source = await anext(self._sources)
            except StopAsyncIteration:
                return
            if isinstance(source, Instance):
                self.waiting.append((source, source))
                continue
            step = partial(_plan, source)
            pool = self._reactor.getThreadPool()
            for plan in await deferToThreadPool(self._reactor, pool, step):
                if isinstance(plan, SendResult):
                    yield plan
                else:
                    self.waiting.append(plan)


@dataclass(slots=True)
class _Flight:
    """What goes on one association: a batch that waits, and what is under way, in its order.

    With `to_their_end`, who is cancelled gets the results of what is under way all the same.
    """

    store: Callable[[Association, Instance], Deferred[Status]]
    transfer_syntaxes: Container[str]
    to_their_end: bool
    batch: deque[_Planned] = field(default_factory=deque)
    contexts: dict[tuple[str, tuple[str]], None] = field(default_factory=dict)  # in their order
    negotiated: bool = False  # then no context can be added any more
    cancelled: bool = False
    begun: bool = False
    brought: bool = False  # whether the peer has answered anything
    _under_way: "deque[Deferred[SendResult]]" = field(default_factory=deque)

    def take(self, waiting: deque[_Planned]) -> None:
        """As many of those that wait as its contexts can carry (PS3.8 9.3.2.2), in their order."""
        while waiting:
            contexts = self.contexts | dict.fromkeys(self._proposals(waiting[0][1]))
            if len(contexts) > (len(self.contexts) if self.negotiated else MAXIMUM_CONTEXTS):
                return
            self.contexts = contexts
            self.batch.append(waiting.popleft())

    def _proposals(self, instance: Instance) -> list[tuple[str, tuple[str]]]:
        """What to propose for it: what has one of the transfer syntaxes wanted, if any has."""
        proposals = instance.context_proposals()
        wanted = self.transfer_syntaxes
        return [each for each in proposals if each[1][0] in wanted] or proposals

    def begin(self, association: Association) -> bool:
        """Fill the operations window; returns whether anything is under way."""
        window, _ = association.window
        while self.batch and len(self._under_way) < window:
            if association.ended is not None or self.cancelled:
                break
            planned = self.batch.popleft()
            self._under_way.append(Deferred.fromCoroutine(self._send(association, *planned)))
        return bool(self._under_way)

    async def next(self) -> SendResult:
        """The result of what was begun first."""
        result: SendResult
        if self.to_their_end:
            outcome, cancelled = await to_its_end(self._under_way.popleft())
            self.cancelled = self.cancelled or cancelled
            if isinstance(outcome, Failure):
                outcome.raiseException()
            result = outcome
        else:
            result = await self._under_way.popleft()
        self.begun = True
        self.brought = self.brought or not isinstance(result.error, AssociationError)
        return result

    async def _send(
        self, association: Association, source: Sendable, instance: Instance
    ) -> SendResult:
        uid = instance.sop_instance_uid
        try:
            status = await self.store(association, instance)
        except DimseError as error:
            return SendResult(source, error=error, sop_instance_uid=uid)
        return SendResult(source, status=status, sop_instance_uid=uid)


async def one_by_one(
    sources: Iterable[Sendable] | AsyncIterable[Sendable],
) -> AsyncGenerator[Sendable, None]:
    """Sources as they are needed, whether there is to be waited for them or not."""
    if isinstance(sources, AsyncIterable):
        async for source in sources:
            yield source
    else:
        for source in sources:
            yield source


async def to_its_end(deferred: "Deferred[Any]") -> tuple[Any, bool]:
    """What `deferred` fires or fails with, and whether who waited was cancelled meanwhile.

    Who is cancelled a second time waits no longer: `deferred` is cancelled too.
    """
    waiters: list[Deferred[list[Any]]] = [Deferred()]
    deferred.addBoth(lambda outcome: waiters[-1].callback([outcome]))
    try:
        return (await waiters[0])[0], False
    except CancelledError:
        waiters.append(Deferred(lambda _: deferred.cancel()))
        return (await waiters[1])[0], True


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
            plans.append(SendResult(one, error=error, sop_instance_uid=uid_of(one)))
    return plans
