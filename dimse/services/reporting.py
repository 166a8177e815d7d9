"""Telling a peer something on an association of our own, made for it."""

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from dimse.limits import Limits
from dimse.message.status import Status
from dimse.requestor import associate
from dimse.security.tls import ClientContext, ClientTLS
from dimse.security.trail import AuditTrail
from dimse.services.availability import AvailableInstance, notify_availability
from dimse.services.commitment import report
from dimse.services.commitment_information import CommitmentResult
from dimse.sop_classes import INSTANCE_AVAILABILITY_NOTIFICATION, STORAGE_COMMITMENT_PUSH


def report_to(
    place: str | IStreamClientEndpoint,
    result: CommitmentResult,
    *,
    called_ae_title: str,
    calling_ae_title: str,
    limits: Limits | None = None,
    tls: ClientTLS | ClientContext | None = None,
    audit: AuditTrail | None = None,
    reactor: Any = None,
) -> "Deferred[Status]":
    """Report a result of storage commitment as `report` does, on a new association (PS3.4 J.3.3).

    The arguments are those of `associate`; we take the role of the SCP. Fires with the `Status`
    of the peer; fails as `associate` and `report` do, and when the association ends otherwise.
    """

    async def reporting() -> Status:
        async with associate(
            place,
            [STORAGE_COMMITMENT_PUSH],
            roles={STORAGE_COMMITMENT_PUSH: (False, True)},
            called_ae_title=called_ae_title,
            calling_ae_title=calling_ae_title,
            limits=limits,
            tls=tls,
            audit=audit,
            reactor=reactor,
        ) as association:
            return await report(association, result)

    return Deferred.fromCoroutine(reporting())


def notify_availability_to(
    place: str | IStreamClientEndpoint,
    study_instance_uid: str,
    instances: Iterable[AvailableInstance],
    procedure_steps: Iterable[str] = (),
    *,
    called_ae_title: str,
    calling_ae_title: str,
    limits: Limits | None = None,
    tls: ClientTLS | ClientContext | None = None,
    audit: AuditTrail | None = None,
    reactor: Any = None,
) -> "Deferred[Status]":
    """Notify as `notify_availability` does, on a new association (PS3.4 R.3.2).

    Arguments and errors are those of `associate` and `notify_availability`. Fires with the
    `Status` of the peer.
    """

    async def notifying() -> Status:
        async with associate(
            place,
            [INSTANCE_AVAILABILITY_NOTIFICATION],
            called_ae_title=called_ae_title,
            calling_ae_title=calling_ae_title,
            limits=limits,
            tls=tls,
            audit=audit,
            reactor=reactor,
        ) as association:
            reply = await notify_availability(
                association, study_instance_uid, instances, procedure_steps
            )
            return reply.status

    return Deferred.fromCoroutine(notifying())
