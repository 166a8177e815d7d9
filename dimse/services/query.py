"""Queries: C-FIND, SCU and SCP, of every information model (PS3.4 C, K, Q, U, V, CC)."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, nullcontext
from inspect import iscoroutinefunction, isgeneratorfunction
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID
from twisted.logger import Logger

from dimse.association import Association
from dimse.errors import DataSetError, DimseError, MisuseError, ProtocolError, StatusError
from dimse.invoking import Answer
from dimse.message.base import Request
from dimse.message.messages import MEDIUM, CFindRQ
from dimse.message.status import (
    IDENTIFIER_MISMATCH,
    OUT_OF_RESOURCES,
    PENDING,
    PENDING_CODES,
    PENDING_WARNING,
    SUCCESS,
    UNRECOGNIZED_OPERATION,
)
from dimse.performing import Operation, Outcome, Performing
from dimse.requestor import DEFAULT_TRANSFER_SYNTAXES
from dimse.security.trail import AuditTrail
from dimse.services.answers import Answers
from dimse.services.dataset import decode, encode, uids_of
from dimse.services.extended import Options, answers
from dimse.sop_classes import STUDY_ROOT, InformationModel
from dimse.uids import is_uid
from dimse.ul.negotiation import AcceptedContext, SupportedContext

_log = Logger()

_LEVELS = ("PATIENT", "STUDY", "SERIES", "IMAGE")
_UNIQUE = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


class Matches(Answers[Dataset, list[Dataset]]):
    """The matches of a query, each a Dataset; awaited, all of them in a list.

    `unsupported_keys` tells whether a match came with FF01H: the peer did not match by all keys,
    so some of what it sent may be nothing that was asked for (PS3.4 C.4.1.1.4).
    """

    def __init__(
        self,
        association: Association,
        identifier: Dataset,
        sop_class: str,
        priority: int,
        timeout: float | None,
    ) -> None:
        super().__init__(association, timeout)
        self._identifier = identifier
        self._sop_class = sop_class
        self._priority = priority
        self.unsupported_keys = False

    def _request(self) -> tuple[AcceptedContext, Request, bytes]:
        context = self._association.context_for(self._sop_class)
        request = CFindRQ(
            message_id=self._association.next_message_id(),
            affected_sop_class_uid=self._sop_class,
            priority=self._priority,
        )
        return context, request, encode(self._identifier, context.transfer_syntax)

    def _item(self, answer: Answer) -> Dataset:
        self.unsupported_keys |= self.status == PENDING_WARNING
        peer = self._association.peer
        if answer.data is None:
            raise ProtocolError(f"{peer}: a match without Identifier (PS3.7 9.3.2.2)")
        longest = self._association.limits.identifier_length
        try:
            return decode(answer.data, answer.context.transfer_syntax, longest)
        except DataSetError as error:
            raise DataSetError(f"{peer}: a match cannot be read: {error}") from error

    def _result(self, items: list[Dataset], final: Answer) -> list[Dataset]:
        return items


def find(
    association: Association,
    identifier: Dataset,
    model: InformationModel | str = STUDY_ROOT,
    *,
    priority: int = MEDIUM,
    timeout: float | None = None,
) -> Matches:
    """Query the peer (C-FIND, PS3.4 C.4.1, K.4.1).

    `identifier` holds the keys, with Query/Retrieve Level where the model has levels; `model` is
    an information model, or the UID of its FIND SOP class. `timeout`, in seconds, takes the place
    of `Limits.response`, from one response to the next.

    `async for match in find(...)` gets the matches as they come, `await find(...)` a list of all.
    Fails with `StatusError`, with `ContextError` when the peer did not accept the model, or with
    the `AssociationError` that ended the association. A match that cannot be read raises
    `DataSetError`, and `anext` goes on with the others; `await` fails with it.
    """
    sop_class = model if isinstance(model, str) else model.find
    return Matches(association, identifier, sop_class, priority, timeout)


class QuerySCP:
    """Answers C-FIND with what `find(identifier, operation)` yields, an async generator.

    `models` are the information models that it answers for, `options` what it supports of the
    extended negotiation of those that have these (`dimse.services.extended`). The generator runs
    no faster than the peer reads, and is closed when the peer cancels or the association ends; any
    other async iterator will do, and is closed if it has `aclose`. It yields Datasets that hold
    what was asked for, or pairs of a Pending status (FF00H, FF01H) and one; it raises `StatusError`
    to fail. A pair with any other status ends it: that status is the answer. What was negotiated
    is in `operation.association.extended`. `audit` is told of every query. Raises `MisuseError` for
    another kind of function.
    """

    def __init__(
        self,
        find: Callable[[Dataset, Operation], AsyncIterator[Any]],
        models: Iterable[InformationModel] = (STUDY_ROOT,),
        *,
        options: Options | None = None,
        transfer_syntaxes: Sequence[str] = DEFAULT_TRANSFER_SYNTAXES,
        audit: AuditTrail | None = None,
    ) -> None:
        if isgeneratorfunction(find) or iscoroutinefunction(find):
            raise MisuseError("find has to be an async generator function: async def, and yield")
        extended = answers(options, [model.find for model in models if model.find])
        self._find = find
        self._audit = audit
        self.contexts: Mapping[str, SupportedContext] = {
            uid: SupportedContext(tuple(transfer_syntaxes), extended=answer)
            for uid, answer in extended.items()
        }

    def otherwise(self, abstract_syntax: str) -> SupportedContext | None:
        """Nothing but its models."""
        return None

    def perform(self, operation: Operation) -> Performing:
        """Answer one query."""
        if not isinstance(operation.request, CFindRQ):
            raise StatusError(UNRECOGNIZED_OPERATION)

        async def answer(data: bytes) -> int | Outcome:
            syntax = operation.context.transfer_syntax
            if self._audit is not None:
                self._audit.queried(operation, data)
            identifier = received(data, operation)
            matches: Any = self._find(identifier, operation)
            count = 0
            async with aclosing(matches) if hasattr(matches, "aclose") else nullcontext():
                async for match in matches:
                    status, found = match if isinstance(match, tuple) else (PENDING, match)
                    if status not in PENDING_CODES:
                        return status  # type: ignore[no-any-return]  # looked at like any other
                    data = found if isinstance(found, bytes) else encode(found, syntax)
                    await operation.pending(status, data)
                    count += 1
            say(operation, asked(identifier), f"{count} matches")
            return SUCCESS

        longest = operation.association.limits.identifier_length
        too_long, no_room = IDENTIFIER_MISMATCH, OUT_OF_RESOURCES
        return Performing(operation, answer, longest, too_long=too_long, no_room=no_room)


def asked(identifier: Dataset) -> str:
    """What a line in the log tells of an Identifier: its level and its UIDs, of many the first.

    Nothing else, for other keys tell of patients; what only calls itself a UID is left out too.
    It converts what it reads, so who performs the operation has the Identifier first, as it came.
    """
    try:
        found = [str(identifier.get("QueryRetrieveLevel"))]
        found = [level for level in found if level in _LEVELS]
        for keyword in _UNIQUE:
            uids = [uid for uid in uids_of(identifier, keyword) if is_uid(uid)]
            more = f" and {len(uids) - 1} more" if len(uids) > 1 else ""
            found += [f"{keyword} {uid}{more}" for uid in uids[:1]]
    except Exception:  # noqa: BLE001  whatever pydicom says of a value; the text may hold it
        return ""
    return f", {', '.join(found)}" if found else ""


def say(operation: Operation, what: str, outcome: str) -> None:
    """A line in the log for a query or retrieval that was performed; `what` as `asked` has it."""
    request = operation.request
    _log.info(
        "{peer}: {operation} of {model}{what}: {outcome}",
        peer=operation.peer,
        operation=request.NAME.removesuffix("-RQ"),
        model=UID(request.sop_class_uid).name,
        what=what,
        outcome=outcome,
    )


def received(data: bytes, operation: Operation) -> Dataset:
    """The Identifier of a request; raises `StatusError` A900H for what is none."""
    longest = operation.association.limits.identifier_length
    try:
        return decode(data, operation.context.transfer_syntax, longest)
    except DimseError as error:
        raise StatusError(IDENTIFIER_MISMATCH, str(error)) from error
