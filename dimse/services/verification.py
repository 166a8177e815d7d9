"""The Verification service class: C-ECHO, SCU and SCP (PS3.4 Annex A)."""

from collections.abc import Mapping

from twisted.internet.defer import Deferred, succeed

from dimse.association import Association
from dimse.errors import DimseError, StatusError
from dimse.message.messages import CEchoRQ, Response
from dimse.message.status import SUCCESS, Status
from dimse.performing import Operation, Sink
from dimse.requestor import VERIFICATION
from dimse.ul.negotiation import SupportedContext


def echo(association: Association) -> "Deferred[Status]":
    """Ask the peer whether it is there (C-ECHO, PS3.4 A.4).

    Fires with the `Status`, a success. Fails with `StatusError` for any other one, with
    `ContextError` when the peer did not accept Verification, or with the `AssociationError`
    that ended the association.
    """
    return Deferred.fromCoroutine(_echo(association))


async def _echo(association: Association) -> Status:
    context = association.context_for(VERIFICATION)
    request = CEchoRQ(message_id=association.next_message_id(), affected_sop_class_uid=VERIFICATION)
    return succeeded(await association.request(context, request))


def succeeded(response: Response) -> Status:
    """The status of a response if its operation was done; raises `StatusError` if not."""
    status = Status(response.status)
    if not status.is_success:
        offending = getattr(response, "offending_element", None) or ()
        raise StatusError(status, response.error_comment or status.meaning, offending)
    return status


class VerificationSCP:
    """Answers C-ECHO with success (PS3.4 A.4)."""

    def __init__(self) -> None:
        self.contexts: Mapping[str, SupportedContext] = {
            # Nothing is encoded in a transfer syntax here, so any will do.
            VERIFICATION: SupportedContext(transfer_syntaxes=None)
        }

    def otherwise(self, abstract_syntax: str) -> SupportedContext | None:
        """Nothing but Verification."""
        return None

    def perform(self, operation: Operation) -> Sink:
        """There is nothing to do."""
        return _Echo()


class _Echo:
    def write(self, data: memoryview) -> None:
        """A C-ECHO-RQ has no data set."""

    def finish(self) -> Deferred[int]:
        return succeed(SUCCESS)

    def abort(self, reason: DimseError) -> None:
        """Nothing was begun."""
