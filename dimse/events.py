"""Events: what associations tell of themselves to whoever subscribes, for metrics and traces.

Nothing is made or measured while nobody listens. Events hold no patient data: names, counts,
times, UIDs of no instance. Of an exception that is not ours there is its kind alone, for its text
may say anything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from twisted.logger import Logger

from dimse.errors import DimseError

NAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "association.start": (("system_time",), ("mode",)),
    "association.stop": (("duration", "bytes_received", "bytes_sent"), ("mode", "reason")),
    "association.exception": (("duration",), ("mode", "kind", "reason")),
    "negotiation.start": (
        ("system_time",),
        ("mode", "calling_ae", "called_ae", "proposed_contexts_count"),
    ),
    "negotiation.stop": (
        ("duration",),
        (
            *("mode", "calling_ae", "called_ae", "proposed_contexts_count"),
            *("accepted_contexts_count", "rejected_contexts_count", "result"),
        ),
    ),
    "tls.handshake": ((), ("protocol_version", "cipher_suite")),
    "pdu.received": (("byte_size",), ("pdu_type",)),
    "pdu.sent": (("byte_size",), ("pdu_type",)),
    "command.start": (("system_time",), ("command_field", "message_id")),
    "command.stop": (("duration",), ("command_field", "message_id", "status")),
    "command.exception": (("duration",), ("command_field", "message_id", "kind", "reason")),
    "handler.start": (("system_time",), ("callback", "command_field")),
    "handler.stop": (("duration",), ("callback", "command_field", "status")),
    "handler.exception": (("duration",), ("callback", "command_field", "kind", "reason")),
    "sub_operation.start": (("system_time",), ("type", "total_instances")),
    "sub_operation.progress": ((), ("type", "total_instances", "completed", "failed", "remaining")),
    "sub_operation.stop": (
        ("duration",),
        ("type", "total_instances", "completed", "failed", "warning"),
    ),
}
"""Name to the names of its measurements and of its metadata; each has `association_id` too."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; times are seconds of the association's clock.

    `name` is one of `NAMES`, `measurements` are numbers, `metadata` says of what.
    """

    name: str
    measurements: Mapping[str, float]
    metadata: dict[str, Any]


Subscriber = Callable[[Event], object]

_everywhere: list[Subscriber] = []
_ids = count(1)
_log = Logger()


def subscribe(subscriber: Subscriber) -> Callable[[], None]:
    """Call `subscriber(event)` for every event of this process; returns what ends that.

    It is called in the middle of things: it must return at once. What it raises is logged.
    """
    return _subscribe(_everywhere, subscriber)


def _subscribe(subscribers: list[Subscriber], subscriber: Subscriber) -> Callable[[], None]:
    subscribers.append(subscriber)

    def unsubscribe() -> None:
        if subscriber in subscribers:
            subscribers.remove(subscriber)

    return unsubscribe


class Events:
    """The events of one association; false while nobody listens."""

    __slots__ = ("_own", "association_id")

    def __init__(self) -> None:
        self.association_id = next(_ids)
        self._own: list[Subscriber] = []

    def __bool__(self) -> bool:
        return bool(_everywhere or self._own)

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """As `dimse.events.subscribe`, for this association alone."""
        return _subscribe(self._own, subscriber)

    def emit(self, name: str, measurements: Mapping[str, float], /, **metadata: Any) -> None:
        """Tell all who listen."""
        event = Event(name, measurements, {"association_id": self.association_id, **metadata})
        for subscriber in (*_everywhere, *self._own):
            try:
                subscriber(event)
            except Exception:  # noqa: BLE001  a bug of a subscriber stays its own
                _log.failure("a subscriber of events failed")


class Span:
    """One start event now, and one stop or exception event later, with the time between."""

    __slots__ = ("_began", "_clock", "_events", "_metadata", "_name")

    def __init__(
        self,
        events: Events,
        clock: Callable[[], float],
        name: str,
        metadata: dict[str, Any],
    ) -> None:
        """`metadata` goes into all events of the span; silent if nobody listens now."""
        self._events = events if events else None
        self._clock = clock
        self._name = name
        self._metadata = metadata
        if self._events is not None:
            self._began = clock()
            events.emit(f"{name}.start", {"system_time": self._began}, **metadata)

    def stop(self, measurements: Mapping[str, float] | None = None, /, **metadata: Any) -> None:
        """The end, when all went well."""
        self._end("stop", measurements, metadata)

    def fail(self, error: BaseException) -> None:
        """The end by an exception."""
        reason = str(error) if isinstance(error, DimseError) else ""
        self._end("exception", None, {"kind": type(error).__name__, "reason": reason})

    def _end(
        self, how: str, measurements: Mapping[str, float] | None, metadata: dict[str, Any]
    ) -> None:
        events, self._events = self._events, None
        if events is not None:
            duration = {"duration": self._clock() - self._began}
            metadata = self._metadata | metadata
            events.emit(f"{self._name}.{how}", duration | dict(measurements or {}), **metadata)
