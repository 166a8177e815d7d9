"""The reading of one association, which stops while anybody wants it to."""

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dimse.ul.protocol import UpperLayerProtocol


class Reading:
    """Stops the reading from the peer while one of those who take what comes cannot keep up.

    It goes on in a turn of its own: who lets it may be in the middle of something that the next
    PDU ends.
    """

    def __init__(self, protocol: UpperLayerProtocol, clock: IReactorTime) -> None:
        self._protocol = protocol
        self._clock = clock
        self._paused_by: set[object] = set()
        self._resuming: IDelayedCall | None = None

    @property
    def paused(self) -> bool:
        """Whether anybody wants it stopped."""
        return bool(self._paused_by)

    def set_paused(self, by: object, paused: bool) -> None:
        """Stop, or go on when nobody else wants it stopped."""
        if paused:
            self._stay()
            self._paused_by.add(by)
            self._protocol.pause_reading()
        elif by in self._paused_by:
            self._paused_by.discard(by)
            if not self._paused_by:
                self._resuming = self._clock.callLater(0, self._go_on)

    def end(self) -> None:
        """The association is over: go on at once, else its close would not be seen."""
        self._stay()
        self._paused_by.clear()
        self._protocol.resume_reading()

    def _stay(self) -> None:
        resuming, self._resuming = self._resuming, None
        if resuming is not None:
            resuming.cancel()

    def _go_on(self) -> None:
        self._resuming = None
        self._protocol.resume_reading()
