"""The Storage service class: C-STORE, SCU and SCP (PS3.4 Annex B)."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from pydicom import Dataset
from pydicom._uid_dict import UID_dictionary
from twisted.internet.defer import Deferred

from dimse.association import Association
from dimse.errors import (
    ContextError,
    DimseError,
    MisuseError,
    NotAnInstanceError,
    StatusError,
)
from dimse.message.messages import MEDIUM, CStoreRQ
from dimse.message.status import INVALID_SOP_INSTANCE, UNRECOGNIZED_OPERATION, Status
from dimse.performing import Operation, Sink
from dimse.services.instance import Instance
from dimse.services.transcoding import transcoded
from dimse.services.verification import succeeded
from dimse.sop_classes import NOT_STORAGE, STORAGE_SOP_CLASSES
from dimse.uids import is_uid
from dimse.ul.negotiation import (
    AcceptedContext,
    SupportedContext,
    is_ae_title,
)


def store(
    association: Association,
    source: str | os.PathLike[str] | Dataset | Instance,
    *,
    priority: int = MEDIUM,
    progress: Callable[[int], None] | None = None,
    timeout: float | None = None,
    move_originator: tuple[str, int] | None = None,
) -> "Deferred[Status]":
    """Send one composite instance (C-STORE, PS3.4 B.2).

    `source` is the path of a DICOM file, a Dataset, or an `Instance`. A file is streamed as it
    is, and never whole in memory; only when the peer accepted its SOP class without its
    transfer syntax, but with one of its `conversions`, it is converted (`transcode`).
    `progress(count)` is called with each number of bytes read from it, `timeout` takes the place of
    `Limits.response`, and `move_originator` is the AE title and Message ID of the C-MOVE that this
    is a sub-operation of.

    Fires with the `Status`, a success or a warning. Fails with `StatusError` for any other one,
    `NotAnInstanceError`, `ContextError` when the peer did not accept its SOP class in its
    transfer syntax, nor in one that it could be converted to, or the `AssociationError` that
    ended the association.
    """
    return Deferred.fromCoroutine(
        _store(association, source, priority, progress, timeout, move_originator or (None, None))
    )


async def _store(
    association: Association,
    source: str | os.PathLike[str] | Dataset | Instance,
    priority: int,
    progress: Callable[[int], None] | None,
    timeout: float | None,
    move_originator: tuple[str | None, int | None],
) -> Status:
    if move_originator[0] is not None and not is_ae_title(move_originator[0]):
        raise MisuseError(f"{move_originator[0]!r} is no AE title (PS3.5 6.2)")
    instance = Instance.of(source)
    context = _context_for(association, instance)
    if context.transfer_syntax != instance.transfer_syntax:
        try:
            instance = await transcoded(instance, context.transfer_syntax, association.clock)
        except NotAnInstanceError:
            raise
        except DimseError as error:
            raise ContextError(
                f"{association.peer} accepted {instance.sop_class_uid} with "
                f"{context.transfer_syntax} but not with {instance.transfer_syntax} "
                f"(PS3.8 9.3.3.2); not converted: {error}"
            ) from error
    request = CStoreRQ(
        message_id=association.next_message_id(),
        affected_sop_class_uid=instance.sop_class_uid,
        affected_sop_instance_uid=instance.sop_instance_uid,
        priority=priority,
        move_originator_application_entity_title=move_originator[0],
        move_originator_message_id=move_originator[1],
    )
    with instance.open(progress) as data:
        return succeeded(await association.request(context, request, data, timeout=timeout))


def _context_for(association: Association, instance: Instance) -> AcceptedContext:
    """The context of its transfer syntax, else the best of those it can be converted to."""
    try:
        return association.context_for(instance.sop_class_uid, instance.transfer_syntax)
    except ContextError:
        for syntax in instance.conversions:
            with suppress(ContextError):
                return association.context_for(instance.sop_class_uid, syntax)
        raise


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """Who an instance is that is about to be received, and who sends it to whom."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    sending_ae_title: str
    receiving_ae_title: str


class InstanceStore(Protocol):
    """Where a `StorageSCP` or `get` puts what it receives: `FileStore`, `FolderStore`,
    `MemoryStore`, `CallbackStore`, or yours."""

    def begin(self, instance: ReceivedInstance, operation: Operation) -> Sink:
        """Take an instance: `write` gets its data set as it is encoded, `finish` says when it is
        safe. `operation` is the producer to pause. Raises `StatusError` to refuse."""


class StorageSCP:
    """Receives instances and gives them to a store, bit for bit as they come.

    `sop_classes` are those it supports, all of `STORAGE_SOP_CLASSES` unless given;
    `transfer_syntaxes` are those it takes, in its order of preference, any unless given.
    `promiscuous` takes instances of SOP classes unknown to pydicom, such as private ones, too.
    """

    def __init__(
        self,
        store: InstanceStore,
        *,
        sop_classes: Iterable[str] = STORAGE_SOP_CLASSES,
        transfer_syntaxes: Sequence[str] | None = None,
        promiscuous: bool = False,
    ) -> None:
        accepted = None if transfer_syntaxes is None else tuple(map(str, transfer_syntaxes))
        self._supported = SupportedContext(transfer_syntaxes=accepted)
        self._store = store
        self._promiscuous = promiscuous
        self.contexts: Mapping[str, SupportedContext] = dict.fromkeys(
            map(str, sop_classes), self._supported
        )

    def otherwise(self, abstract_syntax: str) -> SupportedContext | None:
        """What it takes of other SOP classes."""
        name, kind, *_ = UID_dictionary.get(abstract_syntax, ("", "SOP Class"))
        other = kind != "SOP Class" or (name and "Storage" not in name)
        if not self._promiscuous or other or abstract_syntax in NOT_STORAGE:
            return None
        return self._supported

    def perform(self, operation: Operation) -> Sink:
        """Receive one instance."""
        request, context = operation.request, operation.context
        if not isinstance(request, CStoreRQ):
            raise StatusError(UNRECOGNIZED_OPERATION)
        if not is_uid(request.affected_sop_instance_uid):
            raise StatusError(INVALID_SOP_INSTANCE, "not a UID (PS3.5 9.1)")
        instance = ReceivedInstance(
            sop_class_uid=request.affected_sop_class_uid,
            sop_instance_uid=request.affected_sop_instance_uid,
            transfer_syntax=context.transfer_syntax,
            sending_ae_title=operation.peer.ae_title,
            receiving_ae_title=operation.ae_title,
        )
        return self._store.begin(instance, operation)
