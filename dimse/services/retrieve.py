"""Retrieval as SCU: C-GET and C-MOVE (PS3.4 C.4.2, C.4.3)."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

from pydicom import Dataset
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python.failure import Failure

from dimse.admission import Admit
from dimse.association import Association
from dimse.errors import ContextError, DimseError, MisuseError, StatusError
from dimse.invoking import Answer
from dimse.limits import Limits
from dimse.listening import listen
from dimse.message.base import Request
from dimse.message.messages import MEDIUM, CGetRQ, CMoveRQ, SubOperationsRSP
from dimse.message.status import Status
from dimse.performing import Operation, Sink
from dimse.requestor import DEFAULT_TRANSFER_SYNTAXES, ProposedContext
from dimse.security.tls import ServerContext, ServerTLS
from dimse.services.answers import Answers
from dimse.services.dataset import decode, encode, uids_of
from dimse.services.storage import InstanceStore, ReceivedInstance, StorageSCP
from dimse.services.verification import status_of
from dimse.sop_classes import STORAGE_BY_USE, STUDY_ROOT, InformationModel
from dimse.ul.negotiation import AcceptedContext, is_ae_title
from dimse.ul.pdu import MAXIMUM_CONTEXTS

_GRACE = 1.0  # seconds for the associations of a C-MOVE that has its final response


@dataclass(frozen=True, slots=True)
class SubOperations:
    """How far a C-GET or C-MOVE is: numbers of sub-operations, None where the peer gave none.

    Of the final response, `status` says how it went, and `failed_sop_instance_uids` lists what
    failed, if the peer says so (PS3.4 C.4.2.1.4.2).
    """

    status: Status
    remaining: int | None
    completed: int | None
    failed: int | None
    warning: int | None
    failed_sop_instance_uids: tuple[str, ...] = ()

    @classmethod
    def of(cls, answer: Answer) -> Self:
        """What a response says."""
        response = answer.response
        assert isinstance(response, SubOperationsRSP)
        return cls(
            status_of(answer),
            response.number_of_remaining_suboperations,
            response.number_of_completed_suboperations,
            response.number_of_failed_suboperations,
            response.number_of_warning_suboperations,
            _failed_uids(answer),
        )


def _failed_uids(answer: Answer) -> tuple[str, ...]:
    if answer.data is None:
        return ()
    try:
        listed = decode(answer.data, answer.context.transfer_syntax)
        return tuple(uids_of(listed, "FailedSOPInstanceUIDList"))
    except DimseError:  # the numbers count, with or without the list
        return ()


@dataclass(slots=True)
class _Watched:
    """A store whose instances restart the time-out of the retrieval that brings them."""

    store: InstanceStore
    progressed: Callable[[], None]

    def begin(self, instance: ReceivedInstance, operation: Operation) -> "_WatchedSink":
        self.progressed()
        return _WatchedSink(self.store.begin(instance, operation), self.progressed)


@dataclass(slots=True)
class _WatchedSink:
    sink: Sink
    progressed: Callable[[], None]

    def write(self, data: memoryview) -> None:
        self.progressed()
        self.sink.write(data)

    def finish(self) -> "Deferred[Any]":
        return maybeDeferred(self.sink.finish).addBoth(self._finished)

    def _finished(self, outcome: Any) -> Any:
        self.progressed()
        return outcome

    def abort(self, reason: DimseError) -> None:
        self.sink.abort(reason)


class Retrieval(Answers[SubOperations, SubOperations]):
    """The Pending responses of a C-GET or C-MOVE, which not every peer sends; awaited, its result.

    `result` fires with the `SubOperations` of the final response, a success or a warning; the
    `StatusError` of a failure has them as `sub_operations`. However it ended, they are in `outcome`
    once the final response has come.
    """

    _kept = False  # the final response has all the numbers

    def __init__(
        self,
        association: Association,
        identifier: Dataset,
        sop_class: str,
        priority: int,
        timeout: float | None,
        *,
        destination: str | None = None,
        store: InstanceStore | None = None,
        progress: Callable[[SubOperations], None] | None = None,
    ) -> None:
        super().__init__(association, timeout)
        self.outcome: SubOperations | None = None
        self._progress = progress
        self._identifier = identifier
        self._sop_class = sop_class
        self._priority = priority
        self._destination = destination
        self._store = store

    def _prepare(self) -> ExitStack:
        resources = ExitStack()
        if self._store is not None:
            storage = (c.abstract_syntax for c in self._association.contexts.values() if c.scp)
            store = _Watched(self._store, self._association.progressed)
            scp = StorageSCP(store, sop_classes=dict.fromkeys(storage), promiscuous=True)
            resources.enter_context(self._association.performing(scp))
        return resources

    def _request(self) -> tuple[AcceptedContext, Request, bytes]:
        association, uid = self._association, self._sop_class
        context = association.context_for(uid)
        message_id = association.next_message_id()
        request: Request
        if self._destination is not None:
            request = CMoveRQ(
                message_id=message_id,
                affected_sop_class_uid=uid,
                priority=self._priority,
                move_destination=self._destination,
            )
        else:
            if not any(each.scp for each in association.contexts.values()):
                raise ContextError(
                    f"{association.peer} agreed to send us no SOP class (PS3.4 C.5.3)"
                )
            request = CGetRQ(
                message_id=message_id, affected_sop_class_uid=uid, priority=self._priority
            )
        return context, request, encode(self._identifier, context.transfer_syntax)

    def _item(self, answer: Answer) -> SubOperations:
        return self._tell(answer)

    def _conclude(self, final: Answer | Failure) -> None:
        if isinstance(final, Answer):
            self.outcome = self._tell(final)
        try:
            super()._conclude(final)
        except StatusError as error:
            error.sub_operations = self.outcome
            raise

    def _result(self, items: list[SubOperations], final: Answer) -> SubOperations:
        assert self.outcome is not None
        return self.outcome

    def _tell(self, answer: Answer) -> SubOperations:
        numbers = SubOperations.of(answer)
        if self._progress is not None:
            self._progress(numbers)
        return numbers


def get(
    association: Association,
    identifier: Dataset,
    store: InstanceStore,
    model: InformationModel | str = STUDY_ROOT,
    *,
    priority: int = MEDIUM,
    timeout: float | None = None,
) -> Retrieval:
    """Retrieve instances on this association (C-GET, PS3.4 C.4.3).

    `identifier` holds the unique keys. The instances are given to `store` as they come, and what
    it answers is the status of their sub-operation. The association needs contexts for the
    model and for each SOP class to receive: `associate(peer, get_contexts(model))` proposes them,
    and the roles. One at a time on an association, for sub-operations do not say whose they are.

    `async for progress in get(...)` gets the Pending responses, `await get(...)` the final
    `SubOperations`. Fails with `StatusError`, whose `sub_operations` has the numbers, with
    `ContextError`, or with the `AssociationError` that ended the association.
    """
    sop_class = model if isinstance(model, str) else model.get
    return Retrieval(association, identifier, sop_class, priority, timeout, store=store)


def move(
    association: Association,
    identifier: Dataset,
    destination: str,
    model: InformationModel | str = STUDY_ROOT,
    *,
    priority: int = MEDIUM,
    timeout: float | None = None,
) -> Retrieval:
    """Let the peer send instances to the AE title `destination`, which it has to know (C-MOVE,
    PS3.4 C.4.2); what it fires and fails with is as for `get`. Raises `MisuseError` for what is
    no AE title."""
    if not is_ae_title(destination):
        raise MisuseError(f"{destination!r} is no AE title (PS3.5 6.2)")
    sop_class = model if isinstance(model, str) else model.move
    return Retrieval(association, identifier, sop_class, priority, timeout, destination=destination)


def move_here(
    association: Association,
    identifier: Dataset,
    store: InstanceStore,
    endpoint: str | IStreamServerEndpoint,
    model: InformationModel | str = STUDY_ROOT,
    *,
    destination: str | None = None,
    priority: int = MEDIUM,
    timeout: float | None = None,
    progress: Callable[[SubOperations], None] | None = None,
    limits: Limits | None = None,
    admit: Admit | None = None,
    tls: ServerTLS | ServerContext | None = None,
) -> "Deferred[SubOperations]":
    """Let the peer send instances to us: a C-MOVE, and a Storage SCP of our own for as long.

    The instances are given to `store`. `endpoint` is where to listen, such as `tcp:11113`, and
    `destination` the AE title that the peer knows for that place: that of the association unless
    given. `progress` is called with what each response says, also the final one, whatever its
    status. `limits`, those of the association unless given, `admit` and `tls` are as in `listen`:
    whoever knows the place and that title can store as long as it is open. Fires and fails as
    `move`, or with what listening fails with.
    """
    title = destination or association.ae_title
    scp = StorageSCP(_Watched(store, association.progressed))
    sop_class = model if isinstance(model, str) else model.move
    retrieval = Retrieval(
        association, identifier, sop_class, priority, timeout, destination=title, progress=progress
    )

    async def receive() -> SubOperations:
        listener = await listen(
            endpoint,
            [scp],
            ae_titles=[title],
            limits=limits or association.limits,
            admit=admit,
            tls=tls,
            reactor=association.clock,
        )
        try:
            return await retrieval
        finally:
            await listener.stop(_GRACE)

    return Deferred.fromCoroutine(receive())


def get_contexts(
    model: InformationModel | str = STUDY_ROOT,
    sop_classes: Iterable[str] | None = None,
    transfer_syntaxes: Sequence[str] = DEFAULT_TRANSFER_SYNTAXES,
) -> list[ProposedContext]:
    """The contexts for a C-GET: its model, and the SOP classes that may come.

    Those are `sop_classes`, each in one context with `transfer_syntaxes`; raises `MisuseError`
    for more than 127, which one association cannot hold besides the model. Unless they are
    given, it is the first 127 of `dimse.sop_classes.STORAGE_BY_USE`: the retired ones are not
    among them, nor the rarest.
    """
    longest = MAXIMUM_CONTEXTS - 1
    classes = list(dict.fromkeys(STORAGE_BY_USE[:longest] if sop_classes is None else sop_classes))
    if len(classes) > longest:
        raise MisuseError(
            f"{len(classes)} SOP classes instead of at most {longest} (PS3.8 9.3.2.2)"
        )
    get_model = model if isinstance(model, str) else model.get
    return [get_model, *((uid, transfer_syntaxes) for uid in classes)]
