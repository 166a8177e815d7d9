"""The many answers to C-FIND, C-GET and C-MOVE as an async iterator (PS3.7 9.1.2 to 9.1.4)."""

from collections import deque
from collections.abc import Generator
from contextlib import ExitStack
from typing import Any, Generic, Self, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from dimse.association import Association
from dimse.errors import DataSetError, DimseError, MisuseError
from dimse.invoking import Answer, Invocation
from dimse.message.base import Request
from dimse.message.status import CANCEL, Status
from dimse.sending import Whole
from dimse.services.verification import status_of, succeeded
from dimse.ul.negotiation import AcceptedContext

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Inbox:
    """The answers that came and were not taken. The association knows it, and not the iterator, so
    that the iterator can be dropped."""

    def __init__(self, association: Association) -> None:
        self.association = association
        self.pending: deque[Answer] = deque()
        self.final: Answer | Failure | None = None
        self.invocation: Invocation | None = None
        self.stopped = False
        self._waiters: list[Deferred[None]] = []

    def put(self, answer: Answer) -> None:
        """A Pending response came; with too many of them the peer has to wait."""
        self.pending.append(answer)
        if len(self.pending) >= self.association.limits.answers:
            self._set_full(True)
        self._wake()

    def take(self) -> Answer:
        """The next answer."""
        answer = self.pending.popleft()
        if len(self.pending) <= self.association.limits.answers // 2:
            self._set_full(False)
        return answer

    def end(self, final: Answer | Failure) -> None:
        """The final response came, or there will be none."""
        self.final = final
        self._wake()

    def changed(self) -> "Deferred[None]":
        """Fires when something has come."""
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        return waiter

    @property
    def outstanding(self) -> bool:
        """Whether the final response is still to come."""
        return self.invocation is not None and self.final is None

    @property
    def cut(self) -> bool:
        """Whether the association was released before all answers were taken."""
        return self.invocation is not None and self.invocation.stopped and not self.stopped

    def stop(self) -> None:
        """Send C-CANCEL, or nothing at all, if there is still something to cancel."""
        if self.final is not None or self.stopped:
            return
        self.stopped = True
        if self.invocation is not None:
            self.association.stop(self.invocation)
        else:
            self.end(Failure(CancelledError()))

    def drop(self) -> None:
        """Nobody wants what came, and what still comes: stop, and let nobody wait for it."""
        self.stop()
        self.pending.clear()

    def _set_full(self, full: bool) -> None:
        if self.invocation is not None:
            self.association.set_full(self.invocation, full)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.called:  # else it was cancelled
                waiter.callback(None)


class Answers(Generic[Item, Result]):
    """The answers to one request, as they come: an async iterator, or to be awaited for all.

    The request is sent when the first answer is asked for. A peer that is faster than the loop
    is made to wait, unless another response is waited for: then `Limits.answers` is no bound.

    Leaving a loop over the call itself, `async for match in find(...)`, sends C-CANCEL. A variable
    keeps the operation alive: then `aclose`, or `contextlib.aclosing` around the loop, sends it,
    and waits for the final response; so does cancelling the Deferred of `result`. A failure
    raises `StatusError` at the end; `status` is that of the last response.
    """

    _kept = True  # whether `_result` is made of the items

    def __init__(self, association: Association, timeout: float | None) -> None:
        self.status: Status | None = None
        self._association = association
        self._timeout = timeout
        self._inbox = _Inbox(association)
        self._resources = ExitStack()
        self._concluded = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        inbox = self._inbox
        if inbox.invocation is None and inbox.final is None:
            self._start()
        while not inbox.pending:
            if inbox.final is not None:
                self._conclude(inbox.final)
                raise StopAsyncIteration
            try:
                await inbox.changed()
            except CancelledError:
                inbox.drop()
                raise
        answer = inbox.take()
        self.status = status_of(answer)
        try:
            return self._item(answer)
        except DataSetError:
            raise  # it is one of many
        except DimseError:
            inbox.drop()
            raise

    def cancel(self) -> None:
        """Send C-CANCEL; the loop goes on with what has come, and ends with the final response.

        What comes after this call is dropped, also when the peer then ends with a success.
        """
        self._inbox.stop()

    async def aclose(self) -> None:
        """Send C-CANCEL if it is not over, and wait for the final response."""
        self._inbox.drop()
        self._concluded = True
        while self._inbox.outstanding:
            await self._inbox.changed()

    def __del__(self) -> None:
        if self._inbox.outstanding:
            reactor: Any = self._association.clock
            reactor.callFromThread(self._inbox.drop)  # whose garbage collection this is, who knows

    def result(self) -> "Deferred[Result]":
        """All of it: fires when the final response has come, fails with `StatusError` or
        `AssociationError`, with `CancelledError` when it was cancelled before it was sent, or with
        `MisuseError` when all was taken before. Cancelling sends C-CANCEL and waits for the final
        response."""
        return Deferred.fromCoroutine(self._collect())

    def __await__(self) -> Generator[Any, Any, Result]:
        return self.result().__await__()

    async def _collect(self) -> Result:
        if self._concluded:
            raise MisuseError("its answers were taken before: ask again with a new call")
        try:
            items = [item async for item in self if self._kept]
        except CancelledError:
            await self.aclose()
            raise
        except DataSetError:
            self._inbox.drop()
            raise
        final = self._inbox.final
        if isinstance(final, Failure):
            final.raiseException()  # CancelledError: the loop ended without an answer
        assert isinstance(final, Answer)
        return self._result(items, final)

    def _start(self) -> None:
        inbox = self._inbox
        try:
            context, request, data = self._request()
            self._resources = self._prepare()
            invocation = self._association.invoke(
                context, request, Whole(data), inbox.put, timeout=self._timeout
            )
        except BaseException:
            self._resources.close()
            inbox.end(Failure())
            raise
        inbox.invocation = invocation
        resources = self._resources

        def ended(final: Answer | Failure) -> None:
            resources.close()
            inbox.end(final)

        invocation.answer.addBoth(ended)

    def _conclude(self, final: Answer | Failure) -> None:
        self._concluded = True
        if isinstance(final, Failure):
            if self._inbox.stopped and final.check(CancelledError):
                return  # it was taken back before anything was sent
            final.raiseException()
        assert isinstance(final, Answer)
        self.status = status_of(final)
        if self._inbox.cut:
            raise MisuseError("the association was released before all answers were taken")
        if not (self._inbox.stopped and self.status == CANCEL):
            self.status = succeeded(final)

    # What each kind of answer is

    def _prepare(self) -> ExitStack:
        """What has to be open while it goes on."""
        return ExitStack()

    def _request(self) -> tuple[AcceptedContext, Request, bytes]:
        """What to send: the context, the request, and its encoded Identifier."""
        raise NotImplementedError

    def _item(self, answer: Answer) -> Item:
        """What a Pending response says."""
        raise NotImplementedError

    def _result(self, items: list[Item], final: Answer) -> Result:
        """What the whole says."""
        raise NotImplementedError
