"""What takes long, in the threads of the reactor, so many at a time."""

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore, maybeDeferred
from twisted.internet.threads import deferToThreadPool

_T = TypeVar("_T")


async def in_thread(places: DeferredSemaphore, step: Callable[[], _T], reactor: Any) -> _T:
    """Do `step` in a thread of the reactor, when one of the `places` is free.

    Who is cancelled meanwhile waits no longer; the place is free when the thread has ended.
    """
    await places.acquire()
    done: Deferred[_T] = Deferred()

    def ended(outcome: _T) -> _T:
        places.release()
        return outcome

    pool = reactor.getThreadPool()
    doing = maybeDeferred(deferToThreadPool, reactor, pool, step)  # there may be no thread left
    doing.addBoth(ended).chainDeferred(done)
    return await done
