"""What a service class provider is: the contract between it and us (PS3.7 6.2)."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from dimse.errors import DimseError, StatusError
from dimse.message.base import Request
from dimse.ul.negotiation import AcceptedContext, SupportedContext
from dimse.ul.tcp import describe

if TYPE_CHECKING:
    from dimse.association import Association


@dataclass(frozen=True, slots=True)
class Peer:
    """The application entity at the other end: its AE title and its transport address."""

    ae_title: str
    address: str

    @classmethod
    def at(cls, ae_title: str, address: object) -> Self:
        """With the address as Twisted gives it: host and port, or what else it is."""
        return cls(ae_title, describe(address))

    def __str__(self) -> str:
        """Fit for a log."""
        return f"{escaped(self.ae_title)}@{self.address}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the final response of an operation says, where a status alone is not enough.

    `data` is its data set, encoded in the transfer syntax of the context; `comment` and
    `offending` are as in `StatusError`, and `elements` further fields of the response.
    """

    status: int
    data: bytes | None = None
    comment: str = ""
    offending: tuple[int, ...] = ()
    elements: Mapping[str, Any] = field(default_factory=dict)


class Sink(Protocol):
    """Takes the data set of one request and ends in one way: `finish` or `abort`.

    Exactly one of the two is called, once, whatever happens. An exception from `write` or
    `finish` becomes the response: `StatusError` gives its status, any other one 0x0110.
    """

    def write(self, data: memoryview) -> None:
        """The next bytes of the data set; the view is valid only during the call."""

    def finish(self) -> "Deferred[int] | Deferred[Outcome] | Deferred[int | Outcome]":
        """The data set is complete; fires with the status of the response, or an `Outcome`.

        The Deferred is cancelled when the peer cancels the operation, when `Limits.perform` is
        over, and when the association ends; for C-STORE it is not, what is complete is kept.
        """

    def abort(self, reason: DimseError) -> None:
        """The data set will not be complete: undo what was begun."""


class Control(Protocol):
    """What an `Operation` passes on to whoever runs it."""

    def set_paused(self, paused: bool, /) -> None:
        """Stop reading from the peer, or go on."""

    def pend(self, outcome: Outcome, /) -> "Deferred[None]":
        """Send a Pending response."""

    def progress(self) -> None:
        """It is not stuck."""


@implementer(IPushProducer)
class Operation:
    """A request that is being performed, as an SCP sees it.

    `request` is the message, `context` the presentation context it came in, `association` that
    of both, on which an SCP may invoke operations of its own. It is an `IPushProducer`: a sink
    that cannot keep up calls `pauseProducing`, and the peer waits until `resumeProducing`.

    `scope` is what of an archive the peer may see: values by keyword, each a key that is joined to
    whatever it asks for. It is empty unless an SCP around this one has set it.
    """

    __slots__ = ("_control", "association", "context", "request", "scope")

    def __init__(
        self,
        request: Request,
        context: AcceptedContext,
        association: "Association",
        control: Control,
    ) -> None:
        self.request = request
        self.context = context
        self.association = association
        self._control = control
        self.scope: Mapping[str, Sequence[str]] = {}

    @property
    def peer(self) -> Peer:
        """Who asks."""
        return self.association.peer

    @property
    def ae_title(self) -> str:
        """How the peer called us."""
        return self.association.ae_title

    def pending(self, status: int, data: bytes | None = None, **elements: Any) -> "Deferred[None]":
        """Send a Pending response of C-FIND, C-GET or C-MOVE (PS3.7 9.1.2, C.2).

        `status` is FF00H or FF01H, `data` its data set, encoded, `elements` are fields of the
        response. Fires when there is room for the next one; a peer that does not read keeps it
        from firing. Fails with `MisuseError` for another status or what cannot be encoded, and
        with `CancelledError` when the operation is answered or its association over.
        """
        return self._control.pend(Outcome(status, data, elements=elements))

    def progressed(self) -> None:
        """Say that what takes long goes on: `Limits.perform` begins anew."""
        self._control.progress()

    def pauseProducing(self) -> None:
        """Let the peer wait."""
        self._control.set_paused(True)

    def resumeProducing(self) -> None:
        """Go on."""
        self._control.set_paused(False)

    def stopProducing(self) -> None:
        """A sink that wants no more raises from `write` instead."""


class Performing:
    """A sink for what is no stream: it keeps the data set and then runs `perform(data)`, a
    coroutine that returns a status or an `Outcome`.

    A data set above `longest` bytes is answered with the status `too_long`, one that does not fit
    beside those of the other associations with `no_room`, until some of them are performed.
    """

    def __init__(
        self,
        operation: Operation,
        perform: Callable[[bytes], Coroutine["Deferred[Any]", Any, int | Outcome]],
        longest: int,
        *,
        too_long: int,
        no_room: int,
    ) -> None:
        self._budget = operation.association.budget
        self._perform = perform
        self._longest = longest
        self._too_long, self._no_room = too_long, no_room
        self._data = bytearray()

    def write(self, data: memoryview) -> None:
        """Keep it."""
        if len(self._data) + len(data) > self._longest:
            raise StatusError(self._too_long, f"a data set above {self._longest} bytes")
        if not self._budget.take(len(data)):
            raise StatusError(self._no_room, f"all data sets above {self._budget.length} bytes")
        self._data += data

    def finish(self) -> "Deferred[int | Outcome]":
        """Perform."""
        performing = Deferred.fromCoroutine(self._perform(bytes(self._data)))
        return performing.addBoth(self._performed)

    def abort(self, reason: DimseError) -> None:
        """Nothing was begun."""
        self._performed(None)

    def _performed(self, outcome: Any) -> Any:
        self._budget.give_back(len(self._data))
        self._data.clear()
        return outcome


class SCP(Protocol):
    """A service class provider: what it supports, and how it performs it."""

    @property
    def contexts(self) -> Mapping[str, SupportedContext]:
        """What it supports, by abstract syntax."""

    def otherwise(self, abstract_syntax: str) -> SupportedContext | None:
        """What it supports of an abstract syntax that no SCP here lists; mostly None."""

    def perform(self, operation: Operation) -> Sink:
        """Begin to perform a request. The sink takes its data set; without one, `finish` follows.

        Must return at once; what takes time belongs behind the Deferred of `finish`.
        """


def escaped(text: str) -> str:
    """What a peer sent, fit for a log: control and other characters are escaped."""
    return text.encode("unicode_escape").decode("ascii")
