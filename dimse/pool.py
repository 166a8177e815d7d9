"""A pool of associations with one peer, for many users (PS3.8 7.1, 7.2)."""

from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from dimse.association import Association
from dimse.errors import AssociationError, MisuseError

T = TypeVar("T")


class AssociationPool:
    """Lends associations with one peer, each to one user at a time, and keeps them in between.

    `connect` requests one more: `lambda: associate("pacs:11112", contexts)`. At most `limit` are
    open at a time, with those that are being established or released; who finds none free waits,
    and is served in order. One that is given back is lent again, the last one first, until it was
    idle for `linger` seconds or lent `maximum_uses` times; then it is released.

    An association that is over is not lent. One that the peer ends in the moment in which it is
    lent fails the first request on it, with an `AssociationError` as always; `dimse.retrying.retry`
    around `run` then takes another.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Association]],
        *,
        limit: int = 4,
        linger: float = 30.0,
        maximum_uses: int | None = None,
        clock: Any = None,
    ) -> None:
        """Raises `MisuseError` for a `limit` or `maximum_uses` below 1."""
        if clock is None:  # late, for whoever imports it installs it
            from twisted.internet import reactor as clock
        if limit < 1 or (maximum_uses is not None and maximum_uses < 1):
            raise MisuseError(f"limit {limit} or maximum_uses {maximum_uses} is below 1")
        self._connect = connect
        self._limit = limit
        self._linger = linger
        self._maximum_uses = maximum_uses
        self._clock = clock
        self._open = 0  # those being established too
        self._uses: Counter[Association] = Counter()
        self._idle: dict[Association, IDelayedCall] = {}  # in the order in which they came back
        self._waiting: deque[Deferred[Association | None]] = deque()
        self._serving = False
        self._closing = False
        self._close_waiters: list[Deferred[None]] = []

    @asynccontextmanager
    async def association(self) -> AsyncIterator[Association]:
        """`async with pool.association() as association`: one for this user alone.

        Its end is up to the pool. A body that ends with an operation still under way, as one that
        is cancelled does, aborts it; after an error such as a `StatusError` it is as good as
        before. Raises what `connect` fails with, or `MisuseError` when the pool is closed.
        """
        association = await self._take()
        try:
            yield association
        finally:
            self._give_back(association)

    def run(self, work: Callable[[Association], Awaitable[T]]) -> "Deferred[T]":
        """Call `work` with an association, and give that back when its Deferred or coroutine ends.

        Fires with the result of `work`, or fails as it or as `association` does. Cancelling takes
        a user who waits out of the queue.
        """
        return Deferred.fromCoroutine(self._run(work))

    def close(self) -> "Deferred[None]":
        """Release what is idle, and what is lent when it comes back; refuse users from now on.

        Those who wait are refused too, with `MisuseError`. Fires when no association is left.
        """
        self._closing = True
        while self._waiting:
            self._waiting.popleft().errback(_closed())
        for association in list(self._idle):
            self._release(association)
        if not self._open:
            return succeed(None)
        self._close_waiters.append(Deferred())
        return self._close_waiters[-1]

    # Inside

    async def _run(self, work: Callable[[Association], Awaitable[T]]) -> T:
        # Not `async with self.association()`: where a user is forgotten in the middle, the garbage
        # collector may end that one's generator first, and closing this coroutine then raises.
        association = await self._take()
        try:
            return await work(association)
        finally:
            self._give_back(association)

    async def _take(self) -> Association:
        if self._closing:
            raise _closed()
        turn: Deferred[Association | None] = Deferred(self._waiting.remove)
        self._waiting.append(turn)
        self._serve()
        association = await turn
        return await self._establish() if association is None else association

    async def _establish(self) -> Association:
        """One more, which is counted already."""
        try:
            association = await self._connect()
        except BaseException:
            self._leave()
            raise
        association.when_ended().addCallback(lambda _: self._ended(association))
        return association

    def _serve(self) -> None:
        """Let those who wait have what is idle, or else a place for one more."""
        if self._serving:  # a user was done at once; the loop below goes on, however many do so
            return
        self._serving = True
        while self._waiting and (self._idle or self._open < self._limit):
            if not self._idle:
                self._open += 1
                self._waiting.popleft().callback(None)
                continue
            association, timer = self._idle.popitem()
            timer.cancel()
            if association.ended is None and not association.releasing:
                self._waiting.popleft().callback(association)
        self._serving = False

    def _give_back(self, association: Association) -> None:
        if association.busy:  # the next user would wait for it, and get its instances
            association.abort("its user in the pool left an operation under way")
        if association.ended is not None or association.releasing:
            return
        self._uses[association] += 1
        if self._closing or self._uses[association] == self._maximum_uses:
            self._release(association)
            return
        timer = self._clock.callLater(self._linger, self._release, association)
        self._idle[association] = timer
        self._serve()

    def _release(self, association: Association) -> None:
        self._forget_idle(association)
        association.release().addErrback(lambda failure: failure.trap(AssociationError))

    def _ended(self, association: Association) -> None:
        self._forget_idle(association)
        del self._uses[association]
        self._leave()

    def _forget_idle(self, association: Association) -> None:
        timer = self._idle.pop(association, None)
        if timer is not None and timer.active():
            timer.cancel()

    def _leave(self) -> None:
        """There is one less."""
        self._open -= 1
        self._serve()
        while self._close_waiters and not self._open:
            self._close_waiters.pop().callback(None)


def _closed() -> MisuseError:
    return MisuseError("the pool is closed")
