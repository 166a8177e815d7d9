"""Instance Availability Notification of the archive, when a study has ended (PS3.4 R)."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import sqlalchemy as sa
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from dimse.archive.index import Index
from dimse.archive.schema import INSTANCES
from dimse.archive.steps import steps_of
from dimse.archive.studies import EndedStudy
from dimse.archive.waiting import Waiting
from dimse.errors import DimseError
from dimse.performing import escaped
from dimse.retrying import retry
from dimse.security.trail import AuditTrail
from dimse.services.availability import AvailabilityNotification, AvailableInstance
from dimse.services.commitment_information import Reference
from dimse.services.partial_file import InThread
from dimse.services.reporting import notify_availability_to
from dimse.services.retrieving import Destination

_GRACE = 5  # seconds to tell what is being told when the archive closes


class Notifier:
    """Tells peers of every instance of a study that has ended, all of them ONLINE.

    `peers()` are those to tell, as they are now: where they are, by AE title. What is transient
    is tried again; a peer that was not reached is not told later, and the log says so. `audit` is
    told of those that are not who they should be.
    """

    log = Logger()

    def __init__(
        self,
        index: Index,
        in_thread: InThread,
        peers: Callable[[], Mapping[str, Destination]],
        clock: Any,
        audit: AuditTrail | None = None,
    ) -> None:
        self._index = index
        self._in_thread = in_thread
        self._peers = peers
        self._clock = clock
        self._audit = audit
        self._running: set[Deferred[None]] = set()
        self._waiting = Waiting()

    def notify(self, study: EndedStudy) -> "Deferred[None]":
        """Tell all, one after the other; fires when each was told, or given up."""
        running = Deferred.fromCoroutine(self._notify(study))
        self._running.add(running)
        running.addErrback(lambda failure: failure.trap(CancelledError) and None)
        return running.addBoth(self._done, running)

    def stop(self) -> "Deferred[None]":
        """Tell nobody any more, but for those that are told in a few seconds; fires then."""
        if not self._running:
            return succeed(None)
        return self._waiting.wait(_GRACE, self._clock).addCallback(self._cancel)

    def _cancel(self, _: object) -> None:
        for running in list(self._running):
            running.cancel()

    def _done(self, result: Any, running: "Deferred[None]") -> Any:
        self._running.discard(running)
        if not self._running:
            self._waiting.is_over()
        return result

    async def _notify(self, study: EndedStudy) -> None:
        peers = dict(self._peers())
        if not peers:
            return
        step = partial(available, self._index, study.study_instance_uid, study.ae_title)
        notification = await self._in_thread(step)
        if notification.instances:
            for ae_title, to in peers.items():
                await self._tell(ae_title, to, notification, study)

    def _tell(
        self,
        ae_title: str,
        to: Destination,
        notification: AvailabilityNotification,
        study: EndedStudy,
    ) -> "Deferred[Any]":
        telling = retry(
            lambda: notify_availability_to(
                to.place,
                notification.study_instance_uid,
                notification.instances,
                notification.procedure_steps,
                called_ae_title=ae_title,
                calling_ae_title=study.ae_title,
                limits=to.limits,
                tls=to.tls,
                audit=self._audit,
                reactor=self._clock,
            ),
            clock=self._clock,
        )

        def failed(failure: Failure) -> None:
            failure.trap(DimseError)
            self.log.error(
                "{peer}: was not notified of study {uid}: {error}",
                peer=escaped(ae_title),
                uid=study.study_instance_uid,
                error=failure.value,
            )

        return telling.addErrback(failed)


def available(index: Index, study_instance_uid: str, ae_title: str) -> AvailabilityNotification:
    """What can be had of a study from us, who are `ae_title`; blocks."""
    columns = (INSTANCES.c.series_uid, INSTANCES.c.sop_class_uid, INSTANCES.c.instance_uid)
    statement = (
        sa.select(*columns).where(INSTANCES.c.study_uid == study_instance_uid).order_by(*columns)
    )
    return AvailabilityNotification(
        study_instance_uid,
        tuple(
            AvailableInstance(series, Reference(sop_class, uid), ae_title)
            for series, sop_class, uid in index.fetch(statement)
        ),
        tuple(steps_of(index, study_instance_uid)),
    )
