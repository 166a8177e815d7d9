"""A DICOM node as one service among others of a Twisted application.

python examples/in_a_twisted_service.py HOST PORT FOLDER
"""

import sys
from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.task import react

import dimse
from dimse.server.node import Node


def make_application(host: str, port: str, folder: str, clock: Any) -> MultiService:
    """The node beside a service of ours; the parent starts and stops both."""
    limits = dimse.Limits(associations=20, grace=5)
    store = dimse.FileStore(folder, limits=limits)
    factory = dimse.AcceptorFactory(
        [dimse.VerificationSCP(), dimse.StorageSCP(store)],
        ae_titles=["ARCHIVE"],
        limits=limits,
        clock=clock,
    )
    application = MultiService()
    application.addService(Node(factory, store, [f"tcp:{port}:interface={host}"]))
    application.addService(TimerService(60, print, "still here"))
    return application


async def main(reactor: Any, host: str, port: str, folder: str) -> None:
    """Run until a signal comes. Under twistd, `setServiceParent(Application(...))` does this."""
    application = make_application(host, port, folder, reactor)
    application.startService()
    reactor.addSystemEventTrigger("before", "shutdown", application.stopService)
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
