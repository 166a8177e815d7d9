"""Every exception that dimse raises: whose fault it is, and what goes on the wire because of it.

    DimseError
    |-- MisuseError                 ours: a call that the state or the arguments do not allow
    |-- ProtocolError               the peer's: what PS3.7 or PS3.8 forbid       -> A-ABORT
    |-- DataSetError                the peer's: what should be a data set is none
    |-- NotAnInstanceError          what should be sent is no composite instance
    |-- ContextError                no presentation context for what was asked
    |-- StatusError                 an operation that failed, and its status -> response
    `-- AssociationError            the association could not be had, or is over
        |-- AssociationRejectedError    A-ASSOCIATE-RJ
        |-- AssociationAbortedError     A-ABORT, ours or the peer's
        |-- ConnectionLostError         the transport connection closed
        |-- TLSError                    no secure transport connection (PS3.15 B)
        |-- ReleasedError               the association was released
        `-- TimedOutError               a time-out of `dimse.limits.Limits` ran out       -> A-ABORT

Any other exception that leaves dimse is a bug of dimse. No text of ours holds patient data: the
Error Comment of a peer, which may, is in `StatusError.comment` alone.
"""

from enum import IntEnum
from typing import Any


class AbortSource(IntEnum):
    """Who aborts (PS3.8 9.3.8 Table 9-26)."""

    SERVICE_USER = 0
    SERVICE_PROVIDER = 2


class AbortReason(IntEnum):
    """Why the service-provider aborts (PS3.8 9.3.8 Table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER_VALUE = 6


class RejectResult(IntEnum):
    """Whether to try again makes sense (PS3.8 9.3.4 Table 9-21)."""

    PERMANENT = 1
    TRANSIENT = 2


class RejectSource(IntEnum):
    """Who rejects (PS3.8 9.3.4 Table 9-21)."""

    SERVICE_USER = 1
    SERVICE_PROVIDER_ACSE = 2
    SERVICE_PROVIDER_PRESENTATION = 3


REJECT_REASONS: dict[tuple[int, int], str] = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
"""What (source, reason) of an A-ASSOCIATE-RJ means (PS3.8 9.3.4); others are reserved."""


class DimseError(Exception):
    """Base of all exceptions of dimse."""


class MisuseError(DimseError):
    """A call that the arguments or the state of the association do not allow."""


class ProtocolError(DimseError):
    """The peer broke a rule of PS3.7 or PS3.8; the association is aborted.

    `reason` goes into the A-ABORT (PS3.8 9.3.8). `in_step` tells whether the next PDU still
    begins where the framing expects it.
    """

    def __init__(
        self,
        message: str,
        reason: AbortReason = AbortReason.INVALID_PARAMETER_VALUE,
        *,
        in_step: bool = True,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.in_step = in_step


class DataSetError(DimseError):
    """What came is no data set in its transfer syntax (PS3.5 7); what comes behind it can be read.

    The text names tag and clause where it is known what is wrong.
    """


class NotAnInstanceError(DimseError):
    """A file or Dataset that should be sent is no composite SOP instance (PS3.10 7)."""


class ContextError(DimseError):
    """No accepted presentation context carries what was asked (PS3.8 9.3.3.2)."""


class StatusError(DimseError):
    """A DIMSE operation failed with `status` (PS3.7 Annex C).

    Raised to the SCU for a response of the category Failure; raised by what performs an
    operation to answer with `status` and, when given, `comment` as Error Comment (0000,0902), the
    tags `offending` as Offending Element (0000,0901) or Attribute Identifier List (0000,1005),
    `error_id` as Error ID (0000,0903), and `data`, an encoded data set, where the response has
    them. At the SCU `response` is the message that came, and of a C-GET or C-MOVE `sub_operations`
    its `SubOperations`.
    """

    def __init__(
        self,
        status: int,
        comment: str = "",
        offending: tuple[int, ...] = (),
        *,
        data: bytes | None = None,
        error_id: int | None = None,
        response: object = None,
    ) -> None:
        if not 0 <= status <= 0xFFFF:
            raise ValueError(f"{status:#x} is no status (PS3.7 E.1)")
        text, why = f"status 0x{status:04X}", comment
        if response is not None:  # then the comment is the peer's
            why = getattr(status, "meaning", "")
            why += "".join(f" ({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in offending)
        super().__init__(f"{text}: {why}" if why else text)
        self.status = status
        self.comment = comment
        self.offending = offending
        self.data = data
        self.error_id = error_id
        self.response = response
        self.sub_operations: Any = None


class AssociationError(DimseError):
    """The association could not be established, or it is over.

    `peer` is with whom, where that is known and not a part of the text. `may_expect_tls` tells that
    the peer answered a request over plain TCP with a TLS alert, or with nothing at all.
    """

    peer: str = ""
    may_expect_tls: bool = False

    def __str__(self) -> str:
        text = super().__str__()
        if self.may_expect_tls:
            text += " (the peer may expect TLS)"
        return f"{self.peer}: {text}" if self.peer else text


class AssociationRejectedError(AssociationError):
    """The acceptor answered A-ASSOCIATE-RJ; the values are kept as they came (PS3.8 9.3.4).

    When `admit` raises it, `why` is for the log of the acceptor alone; None keeps the rejection
    out of the log, for who has told of it, or was asked the same too often.
    """

    def __init__(self, result: int, source: int, reason: int, why: str | None = "") -> None:
        meaning = REJECT_REASONS.get((source, reason), "reserved value")
        kind = {1: "permanent", 2: "transient"}.get(result, "unknown")
        super().__init__(
            f"association rejected: {meaning} ({kind}; "
            f"result {result}, source {source}, reason {reason}; PS3.8 9.3.4)"
        )
        self.result = result
        self.source = source
        self.reason = reason
        self.why = why

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.result == RejectResult.TRANSIENT


class AssociationAbortedError(AssociationError):
    """An A-ABORT ended the association; `by_peer` tells whose, and `why` what we abort for
    (PS3.8 9.3.8)."""

    def __init__(self, source: int, reason: int, *, by_peer: bool = True, why: str = "") -> None:
        who = "the peer" if by_peer else "us"
        super().__init__(
            f"association aborted by {who} (source {source}, reason {reason}; PS3.8 9.3.8)"
            + (f": {why}" if why else "")
        )
        self.source = source
        self.reason = reason
        self.by_peer = by_peer
        self.why = why


class ConnectionLostError(AssociationError):
    """The transport connection closed while it was needed (A-P-ABORT, PS3.8 7.4)."""


class TLSError(AssociationError):
    """There is no TLS with the peer, or it broke: trying again changes nothing (PS3.15 B.12)."""


class ReleasedError(AssociationError):
    """The association was released, so nothing can be sent on it any more (PS3.8 7.2)."""


class TimedOutError(AssociationError):
    """The time-out named `which` in `dimse.limits.Limits` ran out after `seconds`.

    `request` names what was to be answered until then.
    """

    def __init__(self, which: str, seconds: float, request: str = "") -> None:
        super().__init__(f"the {which} time-out of {seconds:g} s ran out")
        self.request = request
        self.which = which
        self.seconds = seconds

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} for {self.request}" if self.request else text
