"""What goes to the transport: at once where that is possible, and no more than it takes."""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from dimse.ul import tcp
from dimse.ul.timers import Timers

_SMALL = 64 * 1024  # what a turn of the reactor may send in passing


@implementer(IPushProducer)
class Writer:
    """Writes to one transport, which tells when it has enough.

    `paused` says so to the user, `resumed()` that it takes bytes again. While it does not, and
    `may_stall()` does not say that another time-out rules, `stalled()` is called after
    `Limits.write_stall`.
    """

    def __init__(
        self,
        timers: Timers,
        may_stall: Callable[[], bool],
        stalled: Callable[[], object],
        resumed: Callable[[], object],
    ) -> None:
        self.paused = False
        self._timers = timers
        self._may_stall = may_stall
        self._stalled = stalled
        self._resumed = resumed
        self._transport: Any = None
        self._direct = False  # whether we may write to the socket ourselves
        self._buffered = False  # whether the transport then holds something

    def begin(self, transport: Any, *, direct: bool) -> None:
        """The connection is there; `direct` when it is plain TCP."""
        self._transport = transport
        self._direct = direct
        # A transport that is written to directly asks for more whenever it has no bytes left,
        # any other one says when it has too many and when it has none.
        transport.registerProducer(self, not direct)
        # Whoever had the transport before us may have written to it: a proxy's preamble, say.
        self._buffered = direct

    def write(self, data: bytes) -> None:
        """Hand the bytes to the transport.

        On plain TCP, and while the transport holds nothing, they go to the socket at once: that
        saves two copies and, for each response, a turn of the reactor.
        """
        if not self._direct:
            self._transport.write(data)
            return
        sent = 0 if self._buffered else tcp.send_now(self._transport, data)
        if sent < len(data):
            self._buffered = True
            self._transport.write(data[sent:])
            self.pauseProducing()
        elif sent > _SMALL:  # a peer that takes all at once must not keep the others waiting
            self.paused = True
            self._timers.start("turn", self._next_turn, 0)

    def _next_turn(self) -> None:
        if not self._buffered:  # else the transport calls when it holds nothing any more
            self.resumeProducing()

    def pauseProducing(self) -> None:
        """The peer does not read as fast as we write."""
        self.paused = True
        if self._may_stall() and "write_stall" not in self._timers:
            self._timers.start("write_stall", self._stalled)

    def resumeProducing(self) -> None:
        """All bytes are with the peer."""
        self.paused = self._buffered = False
        self._timers.stop("write_stall")
        self._resumed()

    def stopProducing(self) -> None:
        """The connection is lost; the protocol's `connectionLost` does what is to do."""
