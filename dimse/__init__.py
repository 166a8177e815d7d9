"""DICOM networking on Twisted.

The names below are loaded on first use, so `import dimse` brings neither Twisted nor a reactor.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dimse.acceptor import AcceptorFactory
    from dimse.admission import Admission, Requesting, Share
    from dimse.archive.archive import Archive
    from dimse.archive.files import FileStore
    from dimse.association import Association
    from dimse.errors import (
        AssociationAbortedError,
        AssociationError,
        AssociationRejectedError,
        ConnectionLostError,
        ContextError,
        DataSetError,
        DimseError,
        MisuseError,
        NotAnInstanceError,
        ProtocolError,
        ReleasedError,
        StatusError,
        TimedOutError,
        TLSError,
    )
    from dimse.events import Event, subscribe
    from dimse.invoking import Answer
    from dimse.limits import Limits
    from dimse.listening import Listener, listen
    from dimse.message.status import Category, Status
    from dimse.performing import SCP, Operation, Outcome, Peer, Sink
    from dimse.pool import AssociationPool
    from dimse.requestor import Associating, RequestorFactory, associate
    from dimse.retrying import is_transient, retry
    from dimse.security.identity import Identification, VerifiedUser, identity_refused
    from dimse.security.passwords import PasswordFile
    from dimse.security.tls import ClientTLS, ServerTLS
    from dimse.services.answers import Answers
    from dimse.services.availability import (
        Availability,
        AvailabilityNotification,
        AvailabilitySCP,
        AvailableInstance,
        notify_availability,
    )
    from dimse.services.commitment import (
        CommitmentSCP,
        CommitmentSCU,
        commit,
        report,
        request_commitment,
    )
    from dimse.services.commitment_information import (
        CommitmentRequest,
        CommitmentResult,
        FailureReason,
        Reference,
    )
    from dimse.services.composite import instance_uids
    from dimse.services.extended import (
        CompositeRetrieveOptions,
        QueryOptions,
        RetrieveOptions,
        StorageOptions,
        WorklistOptions,
        common_extended,
    )
    from dimse.services.instance import Instance
    from dimse.services.normalized import (
        NormalizedSCP,
        Reply,
        n_action,
        n_create,
        n_delete,
        n_event_report,
        n_get,
        n_set,
    )
    from dimse.services.procedure_step import (
        MemorySteps,
        ProcedureStepSCP,
        ProcedureStepStore,
        begin_step,
        complete_step,
        discontinue_step,
    )
    from dimse.services.query import Matches, QuerySCP, find
    from dimse.services.receiving import CallbackStore, FolderStore, HeldInstance, MemoryStore
    from dimse.services.retrieve import Retrieval, SubOperations, get, get_contexts, move, move_here
    from dimse.services.retrieving import Destination, RetrieveSCP
    from dimse.services.sending import SendResult, send
    from dimse.services.storage import InstanceStore, ReceivedInstance, StorageSCP, store
    from dimse.services.verification import VerificationSCP, echo
    from dimse.sop_classes import (
        COMPOSITE_INSTANCE_ROOT,
        MODALITY_WORKLIST,
        PATIENT_ROOT,
        STUDY_ROOT,
        WITHOUT_BULK_DATA,
        InformationModel,
    )
    from dimse.ul.identity import jwt, kerberos, saml, username, username_and_passcode
    from dimse.ul.negotiation import AcceptedContext, SupportedContext

_HOMES = {
    "dimse.acceptor": ("AcceptorFactory",),
    "dimse.listening": ("Listener", "listen"),
    "dimse.admission": ("Admission", "Requesting", "Share"),
    "dimse.archive.archive": ("Archive",),
    "dimse.archive.files": ("FileStore",),
    "dimse.association": ("Association",),
    "dimse.errors": (
        "AssociationAbortedError",
        "AssociationError",
        "AssociationRejectedError",
        "ConnectionLostError",
        "ContextError",
        "DataSetError",
        "DimseError",
        "MisuseError",
        "NotAnInstanceError",
        "ProtocolError",
        "ReleasedError",
        "StatusError",
        "TLSError",
        "TimedOutError",
    ),
    "dimse.events": ("Event", "subscribe"),
    "dimse.invoking": ("Answer",),
    "dimse.limits": ("Limits",),
    "dimse.message.status": ("Category", "Status"),
    "dimse.performing": ("Operation", "Outcome", "Peer", "SCP", "Sink"),
    "dimse.pool": ("AssociationPool",),
    "dimse.requestor": ("Associating", "RequestorFactory", "associate"),
    "dimse.retrying": ("is_transient", "retry"),
    "dimse.security.tls": ("ClientTLS", "ServerTLS"),
    "dimse.security.identity": ("Identification", "VerifiedUser", "identity_refused"),
    "dimse.security.passwords": ("PasswordFile",),
    "dimse.services.answers": ("Answers",),
    "dimse.services.availability": (
        "Availability",
        "AvailabilityNotification",
        "AvailabilitySCP",
        "AvailableInstance",
        "notify_availability",
    ),
    "dimse.services.commitment": (
        "CommitmentSCP",
        "CommitmentSCU",
        "commit",
        "report",
        "request_commitment",
    ),
    "dimse.services.commitment_information": (
        "CommitmentRequest",
        "CommitmentResult",
        "FailureReason",
        "Reference",
    ),
    "dimse.services.extended": (
        "CompositeRetrieveOptions",
        "QueryOptions",
        "RetrieveOptions",
        "StorageOptions",
        "WorklistOptions",
        "common_extended",
    ),
    "dimse.services.composite": ("instance_uids",),
    "dimse.services.instance": ("Instance",),
    "dimse.services.normalized": (
        "NormalizedSCP",
        "Reply",
        "n_action",
        "n_create",
        "n_delete",
        "n_event_report",
        "n_get",
        "n_set",
    ),
    "dimse.services.procedure_step": (
        "MemorySteps",
        "ProcedureStepSCP",
        "ProcedureStepStore",
        "begin_step",
        "complete_step",
        "discontinue_step",
    ),
    "dimse.services.query": ("Matches", "QuerySCP", "find"),
    "dimse.services.receiving": ("CallbackStore", "FolderStore", "HeldInstance", "MemoryStore"),
    "dimse.services.retrieve": (
        "Retrieval",
        "SubOperations",
        "get",
        "get_contexts",
        "move",
        "move_here",
    ),
    "dimse.services.retrieving": ("Destination", "RetrieveSCP"),
    "dimse.services.sending": ("SendResult", "send"),
    "dimse.services.storage": ("InstanceStore", "ReceivedInstance", "StorageSCP", "store"),
    "dimse.services.verification": ("VerificationSCP", "echo"),
    "dimse.sop_classes": (
        "COMPOSITE_INSTANCE_ROOT",
        "InformationModel",
        "MODALITY_WORKLIST",
        "PATIENT_ROOT",
        "STUDY_ROOT",
        "WITHOUT_BULK_DATA",
    ),
    "dimse.ul.identity": ("jwt", "kerberos", "saml", "username", "username_and_passcode"),
    "dimse.ul.negotiation": ("AcceptedContext", "SupportedContext"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # as a literal, for type checkers take nothing else as an export
    "COMPOSITE_INSTANCE_ROOT",
    "MODALITY_WORKLIST",
    "PATIENT_ROOT",
    "SCP",
    "STUDY_ROOT",
    "WITHOUT_BULK_DATA",
    "AcceptedContext",
    "AcceptorFactory",
    "Admission",
    "Answer",
    "Answers",
    "Archive",
    "Associating",
    "Association",
    "AssociationAbortedError",
    "AssociationError",
    "AssociationPool",
    "AssociationRejectedError",
    "Availability",
    "AvailabilityNotification",
    "AvailabilitySCP",
    "AvailableInstance",
    "CallbackStore",
    "Category",
    "ClientTLS",
    "CommitmentRequest",
    "CommitmentResult",
    "CommitmentSCP",
    "CommitmentSCU",
    "CompositeRetrieveOptions",
    "ConnectionLostError",
    "ContextError",
    "DataSetError",
    "DimseError",
    "Event",
    "FailureReason",
    "FileStore",
    "FolderStore",
    "HeldInstance",
    "Identification",
    "InformationModel",
    "Instance",
    "InstanceStore",
    "Limits",
    "Listener",
    "Matches",
    "MemorySteps",
    "MemoryStore",
    "MisuseError",
    "NormalizedSCP",
    "NotAnInstanceError",
    "Operation",
    "Outcome",
    "PasswordFile",
    "Peer",
    "ProcedureStepSCP",
    "ProcedureStepStore",
    "ProtocolError",
    "QueryOptions",
    "QuerySCP",
    "ReceivedInstance",
    "Reference",
    "ReleasedError",
    "Reply",
    "Requesting",
    "RequestorFactory",
    "Retrieval",
    "RetrieveOptions",
    "RetrieveSCP",
    "SendResult",
    "ServerTLS",
    "Share",
    "Sink",
    "Status",
    "StatusError",
    "StorageOptions",
    "StorageSCP",
    "SubOperations",
    "SupportedContext",
    "TLSError",
    "TimedOutError",
    "VerificationSCP",
    "VerifiedUser",
    "WorklistOptions",
    "associate",
    "begin_step",
    "commit",
    "common_extended",
    "complete_step",
    "discontinue_step",
    "echo",
    "find",
    "get",
    "get_contexts",
    "identity_refused",
    "instance_uids",
    "is_transient",
    "jwt",
    "kerberos",
    "listen",
    "move",
    "move_here",
    "n_action",
    "n_create",
    "n_delete",
    "n_event_report",
    "n_get",
    "n_set",
    "notify_availability",
    "report",
    "request_commitment",
    "retry",
    "saml",
    "send",
    "store",
    "subscribe",
    "username",
    "username_and_passcode",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dimse' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
