"""The Verification service class: C-ECHO, SCU and SCP (PS3.4 Annex A)."""

from collections.abc import Mapping

from twisted.internet.defer import Deferred, succeed

from dimse.association import Association
from dimse.errors import DimseError, StatusError
from dimse.invoking import Answer
from dimse.message.messages import CEchoRQ
from dimse.message.status import SUCCESS, UNRECOGNIZED_OPERATION, Status
from dimse.performing import Operation, Sink
from dimse.requestor import VERIFICATION
from dimse.sop_classes import service_of
from dimse.ul.negotiation import SupportedContext


def echo(association: Association, *, timeout: float | None = None) -> "Deferred[Status]":
    """Ask the peer whether it is there (C-ECHO, PS3.4 A.4).

    `timeout`, in seconds, takes the place of `Limits.response`. Fires with the `Status`, a
    success. Fails with `StatusError` for any other one, with `ContextError` when the peer did not
    accept Verification, or with the `AssociationError` that ended the association.
    """
    return Deferred.fromCoroutine(_echo(association, timeout))


async def _echo(association: Association, timeout: float | None) -> Status:
    context = association.context_for(VERIFICATION)
    request = CEchoRQ(message_id=association.next_message_id(), affected_sop_class_uid=VERIFICATION)
    return succeeded(await association.request(context, request, timeout=timeout))


def status_of(answer: Answer) -> Status:
    """The status of an answer, with the meaning that it has to its service."""
    response = answer.response
    service = service_of(response.affected_sop_class_uid or answer.context.abstract_syntax)
    return Status(response.status, response.NAME.removesuffix("-RSP"), service)


def succeeded(answer: Answer) -> Status:
    """The status of an answer if its operation was done; raises `StatusError` if not."""
    status, response = status_of(answer), answer.response
    if not status.is_success:
        lists = ("offending_element", "attribute_identifier_list")
        offending = next((tags for name in lists if (tags := getattr(response, name, None))), ())
        comment = response.error_comment or ""
        raise StatusError(
            status,
            comment,
            offending,
            data=answer.data,
            error_id=getattr(response, "error_id", None),
            response=response,
        )
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
        if not isinstance(operation.request, CEchoRQ):
            raise StatusError(UNRECOGNIZED_OPERATION)
        return _Echo()


class _Echo:
    def write(self, data: memoryview) -> None:
        """A C-ECHO-RQ has no data set."""

    def finish(self) -> Deferred[int]:
        return succeed(SUCCESS)

    def abort(self, reason: DimseError) -> None:
        """Nothing was begun."""
