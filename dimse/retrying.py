"""Trying again what may succeed later: which errors are transient, and when (PS3.8 9.3.4)."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from dimse.errors import (
    AbortReason,
    AbortSource,
    AssociationAbortedError,
    AssociationRejectedError,
    ConnectionLostError,
    DimseError,
    MisuseError,
    ReleasedError,
    StatusError,
    TimedOutError,
)

T = TypeVar("T")

# 1.5 s, and half as much again for each that follows, but no more than a minute; and up to a
# second by chance, so that many who failed together do not come back together.
BACKOFF = backoffPolicy()

TRANSIENT_STATUSES: tuple[range, ...] = (
    range(0x0213, 0x0214),  # Resource limitation (PS3.7 C.5.22)
    range(0xA700, 0xA702),  # Refused: out of resources (PS3.4 B.2.3, C.4.1.1.4, C.4.2.1.5)
    # A702H says of a retrieval that all of its sub-operations failed, whyever (PS3.4 C.4.2.1.5).
    range(0xA703, 0xA710),
    # A710H is a Prior Record Key that is not valid, and stays so (PS3.4 C.6.4.3).
    range(0xA711, 0xA800),
)
"""Statuses of an operation that the peer could not perform now. What a status from C000H on means
is up to its service, so none of those is here."""

_TRANSIENT_TIMEOUTS = ("connect", "associate", "idle")


def _by_the_peer_itself(error: AssociationAbortedError) -> bool:
    """Not because of what we sent, which will be the same next time (PS3.8 Table 9-26)."""
    blameless = error.source == AbortSource.SERVICE_USER
    return error.by_peer and (blameless or error.reason == AbortReason.NOT_SPECIFIED)


TRANSIENT: dict[type[DimseError], tuple[Callable[[Any], bool], str]] = {
    AssociationRejectedError: (lambda error: error.transient, "result 2, rejected-transient"),
    AssociationAbortedError: (_by_the_peer_itself, "by the peer, and not for what we sent"),
    ConnectionLostError: (lambda error: True, "no connection, or no longer"),
    ReleasedError: (lambda error: True, "the peer had released the association before"),
    TimedOutError: (
        lambda error: error.which in _TRANSIENT_TIMEOUTS,
        "connect, associate or idle: the peer did not begin the operation",
    ),
    StatusError: (
        lambda error: any(error.status in codes for codes in TRANSIENT_STATUSES),
        "one of TRANSIENT_STATUSES: the peer lacks resources",
    ),
}
"""Which errors may be gone at the next attempt: the test, and what it means. No other is."""


def is_transient(error: Exception) -> bool:
    """Whether the same operation may succeed later, as `TRANSIENT` has it."""
    return any(isinstance(error, kind) and test(error) for kind, (test, _) in TRANSIENT.items())


def retry(
    operation: Callable[[], Awaitable[T]],
    *,
    attempts: int = 5,
    policy: Callable[[int], float] = BACKOFF,
    transient: Callable[[Exception], bool] = is_transient,
    clock: Any = None,
) -> "Deferred[T]":
    """Call `operation` until it succeeds, fails for good, or has failed `attempts` times.

    `operation` returns a Deferred or a coroutine, a new one for each call. When the connection is
    lost while a response is awaited, nobody knows whether the peer has performed the request: what
    must not happen twice is not for `retry`. `policy(failed)` is the delay in seconds after so
    many failed attempts, as for `twisted.application.internet.ClientService`;
    `transient(error)` tells whether to try again.

    Fires with the result of `operation`, or fails with its last error. Cancelling ends the
    waiting, or the attempt that is under way. Raises `MisuseError` for less than one attempt.
    """
    if clock is None:  # late, for whoever imports it installs it
        from twisted.internet import reactor as clock
    if attempts < 1:
        raise MisuseError(f"retry with {attempts} attempts")
    return Deferred.fromCoroutine(_retry(operation, attempts, policy, transient, clock))


async def _retry(
    operation: Callable[[], Awaitable[T]],
    attempts: int,
    policy: Callable[[int], float],
    transient: Callable[[Exception], bool],
    clock: Any,
) -> T:
    for failed in range(1, attempts):
        try:
            return await operation()
        except Exception as error:
            if isinstance(error, CancelledError) or not transient(error):
                raise
        await deferLater(clock, policy(failed))
    return await operation()
