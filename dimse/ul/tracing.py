"""The events of a connection of the Upper Layer; called only while somebody listens."""

from typing import Any

from twisted.internet.interfaces import IReactorTime

from dimse.errors import AssociationError, AssociationRejectedError, ReleasedError
from dimse.events import Events, Span
from dimse.ul.framing import HEADER
from dimse.ul.pdu import AssociateRQ, PDUType


def pdu(events: Events, name: str, pdu_type: int, length: int) -> None:
    """A PDU with a body of `length` bytes was sent or received."""
    size = {"byte_size": HEADER.size + length}
    events.emit(name, size, pdu_type=PDUType(pdu_type).name.lower())


def sent(events: Events, data: bytes) -> None:
    """Whole PDUs were sent."""
    position = 0
    while position < len(data):
        pdu_type, length = HEADER.unpack_from(data, position)
        pdu(events, "pdu.sent", pdu_type, length)
        position += HEADER.size + length


def handshake(events: Events, connection: Any) -> None:
    """TLS has agreed; `connection` is that of pyOpenSSL."""
    events.emit(
        "tls.handshake",
        {},
        protocol_version=connection.get_protocol_version_name(),
        cipher_suite=connection.get_cipher_name(),
    )


def negotiation(events: Events, clock: IReactorTime, mode: str, request: AssociateRQ) -> Span:
    """A negotiation begins; `mode` is our side, "scu" or "scp"."""
    metadata = {
        "mode": mode,
        "calling_ae": request.calling_ae_title,
        "called_ae": request.called_ae_title,
        "proposed_contexts_count": len(request.contexts),
    }
    return Span(events, clock.seconds, "negotiation", metadata)


def negotiated(span: Span, result: str, accepted: int, proposed: int) -> None:
    """It has ended, with so many contexts."""
    span.stop(
        result=result,
        accepted_contexts_count=accepted,
        rejected_contexts_count=proposed - accepted,
    )


def ended(
    span: Span, outcome: AssociationError | None, bytes_received: int, bytes_sent: int
) -> None:
    """The connection is gone: in order, or by an error."""
    if outcome is None or isinstance(outcome, ReleasedError | AssociationRejectedError):
        sizes = {"bytes_received": bytes_received, "bytes_sent": bytes_sent}
        span.stop(sizes, reason=str(outcome or "no association was asked for"))
    else:
        span.fail(outcome)
