"""C-ECHO and C-STORE as SCP, with a store of our own: it keeps nothing but a digest.

python examples/storage_scp.py HOST PORT
"""

import sys
from hashlib import sha256
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import react

import dimse


class Digest:
    """A Sink: takes the data set of one instance as it comes, and never holds it."""

    def __init__(self, instance: dimse.ReceivedInstance) -> None:
        self._instance = instance
        self._length = 0
        self._hash = sha256()

    def write(self, data: memoryview) -> None:
        """The next bytes; the view is valid during this call only, so copy what you keep."""
        self._length += len(data)
        self._hash.update(data)

    def finish(self) -> Deferred[int]:
        """All is there. The peer gets the status that the Deferred fires with, when it fires."""
        print(self._instance.sop_instance_uid, self._length, self._hash.hexdigest())
        return succeed(dimse.Status(0x0000))

    def abort(self, reason: dimse.DimseError) -> None:
        """It will not be complete: undo what was begun. Either this is called or `finish`."""
        print(self._instance.sop_instance_uid, "not received:", reason)


class Digests:
    """An InstanceStore: makes the sink of each instance, or refuses with a StatusError."""

    def begin(self, instance: dimse.ReceivedInstance, operation: dimse.Operation) -> Digest:
        """A sink that cannot keep up calls `operation.pauseProducing` until it can again."""
        if not instance.sending_ae_title.isascii():
            raise dimse.StatusError(0x0124, "this AE title is none of ours")
        return Digest(instance)


async def main(reactor: Any, host: str, port: str) -> None:
    """Listen until a signal comes; then let open associations finish."""
    listener = await dimse.listen(
        f"tcp:{port}:interface={host}",
        [dimse.VerificationSCP(), dimse.StorageSCP(Digests())],
        limits=dimse.Limits(associations=200),
        reactor=reactor,
    )
    reactor.addSystemEventTrigger("before", "shutdown", listener.stop)
    print("listening on port", listener.address.port)
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
