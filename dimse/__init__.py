"""DICOM networking on Twisted.

The names below are loaded on first use, so `import dimse` brings neither Twisted nor a reactor.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dimse.acceptor import AcceptorFactory, Listener, listen
    from dimse.archive.files import FileStore
    from dimse.association import Association
    from dimse.errors import (
        AssociationAbortedError,
        AssociationError,
        AssociationRejectedError,
        ConnectionLostError,
        ContextError,
        DimseError,
        MisuseError,
        NotAnInstanceError,
        ProtocolError,
        ReleasedError,
        StatusError,
        TimedOutError,
    )
    from dimse.limits import Limits
    from dimse.message.status import Category, Status
    from dimse.performing import SCP, Operation, Peer, Sink
    from dimse.requestor import Associating, RequestorFactory, associate
    from dimse.services.instance import Instance
    from dimse.services.sending import SendResult, send
    from dimse.services.storage import InstanceStore, ReceivedInstance, StorageSCP, store
    from dimse.services.verification import VerificationSCP, echo
    from dimse.ul.negotiation import AcceptedContext, SupportedContext

_HOMES = {
    "dimse.acceptor": ("AcceptorFactory", "Listener", "listen"),
    "dimse.archive.files": ("FileStore",),
    "dimse.association": ("Association",),
    "dimse.errors": (
        "AssociationAbortedError",
        "AssociationError",
        "AssociationRejectedError",
        "ConnectionLostError",
        "ContextError",
        "DimseError",
        "MisuseError",
        "NotAnInstanceError",
        "ProtocolError",
        "ReleasedError",
        "StatusError",
        "TimedOutError",
    ),
    "dimse.limits": ("Limits",),
    "dimse.message.status": ("Category", "Status"),
    "dimse.performing": ("SCP", "Operation", "Peer", "Sink"),
    "dimse.requestor": ("Associating", "RequestorFactory", "associate"),
    "dimse.services.instance": ("Instance",),
    "dimse.services.sending": ("SendResult", "send"),
    "dimse.services.storage": ("InstanceStore", "ReceivedInstance", "StorageSCP", "store"),
    "dimse.services.verification": ("VerificationSCP", "echo"),
    "dimse.ul.negotiation": ("AcceptedContext", "SupportedContext"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # as a literal, for type checkers take nothing else as an export
    "SCP",
    "AcceptedContext",
    "AcceptorFactory",
    "Associating",
    "Association",
    "AssociationAbortedError",
    "AssociationError",
    "AssociationRejectedError",
    "Category",
    "ConnectionLostError",
    "ContextError",
    "DimseError",
    "FileStore",
    "Instance",
    "InstanceStore",
    "Limits",
    "Listener",
    "MisuseError",
    "NotAnInstanceError",
    "Operation",
    "Peer",
    "ProtocolError",
    "ReceivedInstance",
    "ReleasedError",
    "RequestorFactory",
    "SendResult",
    "Sink",
    "Status",
    "StatusError",
    "StorageSCP",
    "SupportedContext",
    "TimedOutError",
    "VerificationSCP",
    "associate",
    "echo",
    "listen",
    "send",
    "store",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dimse' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
