"""What a service class provider is: the contract between it and us (PS3.7 6.2)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from dimse.errors import DimseError
from dimse.message.messages import Request
from dimse.ul.negotiation import AcceptedContext, SupportedContext
from dimse.ul.tcp import describe


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


class Sink(Protocol):
    """Takes the data set of one request and ends in one way: `finish` or `abort`.

    Exactly one of the two is called, once, whatever happens. An exception from `write` or
    `finish` becomes the response: `StatusError` gives its status, any other one 0x0110.
    """

    def write(self, data: memoryview) -> None:
        """The next bytes of the data set; the view is valid only during the call."""

    def finish(self) -> "Deferred[int]":
        """The data set is complete; fires with the status of the response."""

    def abort(self, reason: DimseError) -> None:
        """The data set will not be complete; nothing is answered any more, or a failure."""


@implementer(IPushProducer)
class Operation:
    """A request that is being performed, as an SCP sees it.

    `request` is the message, `context` the presentation context it came in, `peer` who asks and
    `ae_title` how it called us. It is an `IPushProducer`: a sink that cannot keep up calls
    `pauseProducing`, and the peer waits until `resumeProducing`.
    """

    def __init__(
        self,
        request: Request,
        context: AcceptedContext,
        peer: Peer,
        ae_title: str,
        set_paused: Callable[[bool], None],
    ) -> None:
        self.request = request
        self.context = context
        self.peer = peer
        self.ae_title = ae_title
        self._set_paused = set_paused

    def pauseProducing(self) -> None:
        """Let the peer wait."""
        self._set_paused(True)

    def resumeProducing(self) -> None:
        """Go on."""
        self._set_paused(False)

    def stopProducing(self) -> None:
        """A sink that wants no more raises from `write` instead."""


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
