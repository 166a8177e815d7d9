"""A protocol that remembers what its transport does to it."""

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from dimse.testing import Link, Network, Transport


class Recorder(Protocol):
    """Remembers what its transport does to it."""

    transport: Transport

    def __init__(self) -> None:
        self.segments: list[bytes] = []
        self.end: BaseException | None = None
        self.calls: list[str] = []

    def dataReceived(self, data: bytes) -> None:
        self.segments.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.end = reason.value

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")


def joined(network: Network) -> tuple[Recorder, Recorder, Link]:
    near, far = Recorder(), Recorder()
    return near, far, network.join(near, far)
