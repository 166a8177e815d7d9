"""What the tests of the audit trail share: records, and a site that makes them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from pydicom import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage
from twisted.internet.defer import Deferred, succeed

import dimse
from dimse import STUDY_ROOT
from dimse.archive.archive import Archive
from dimse.security.trail import AuditTrail
from dimse.testing import Network
from tests.security.schema import checked
from tests.wire import EXPLICIT

NOW = datetime(2026, 11, 26, 9, 30, 5, tzinfo=UTC)
CT, MR = str(CTImageStorage), str(MRImageStorage)


class Outlet:
    """Keeps what it is given, checked against the schema; or fails."""

    def __init__(self) -> None:
        self.messages: list[Element] = []
        self.broken = False
        self.closed = False

    def open(self) -> None:
        """Nothing to open."""

    def take(self, message: bytes) -> None:
        if self.broken:
            raise ZeroDivisionError("Doe^Jane")
        self.messages.append(checked(message.partition(b"\xef\xbb\xbf")[2]))

    def close(self) -> "Deferred[None]":
        self.closed = True
        return succeed(None)


def audited(network: Network, outlet: Outlet) -> AuditTrail:
    """The audit trail of a site."""
    return AuditTrail(
        [outlet],
        "NODE",
        clock=network.clock,
        ae_titles=["ARCHIVE"],
        host="pacs.example",
        now=lambda: NOW,
    )


class Record(NamedTuple):
    """What counts of a message."""

    event: str
    action: str
    outcome: str
    participants: list[str]  # user@access point, and the role; the requestor has a star
    objects: list[str]
    sop_classes: dict[str, int]


def record(message: Element) -> Record:
    event = message.find("EventIdentification")
    assert event is not None
    name = event.find("EventID")
    kind = event.find("EventTypeCode")
    assert name is not None
    said = name.get("originalText", "")
    said += f": {kind.get('originalText')}" if kind is not None else ""
    participants = []
    for each in message.findall("ActiveParticipant"):
        role = each.find("RoleIDCode")
        star = "*" if each.get("UserIsRequestor") == "true" else ""
        who = f"{each.get('UserID')}@{each.get('NetworkAccessPointID')}{star}"
        words = role.get("originalText", "").split() if role is not None else []
        participants.append(" ".join([who, *words[:1]]))
    objects = message.findall("ParticipantObjectIdentification")
    return Record(
        said,
        event.get("EventActionCode", ""),
        event.get("EventOutcomeIndicator", ""),
        participants,
        [each.get("ParticipantObjectID", "") for each in objects],
        {c.get("UID", ""): int(c.get("NumberOfInstances", "")) for c in message.iter("SOPClass")},
    )


class Site:
    """An archive with an audit trail, and a peer."""

    def __init__(self, network: Network, archive: Archive, trail: AuditTrail, outlet: Outlet):
        self.network, self.archive, self.trail, self.outlet = network, archive, trail, outlet
        self.destination = network.listen([dimse.StorageSCP(dimse.MemoryStore())])
        destinations = {"WORKSTATION": self.destination}
        self.endpoint = network.listen(
            archive.scps(destinations=destinations), audit=trail, ae_titles=["ARCHIVE"]
        )
        self.options = {"calling_ae_title": "CT1", "called_ae_title": "ARCHIVE"}

    def associate(self, contexts: Any, **options: Any) -> dimse.Association:
        return self.network.associate(self.endpoint, contexts, **self.options | options)[0]

    def store(self, *data_sets: Dataset) -> dimse.Association:
        classes = sorted({str(each.SOPClassUID) for each in data_sets})
        association = self.associate([(uid, [EXPLICIT]) for uid in classes])
        for each in data_sets:
            self.network.result(dimse.store(association, each))
        return association

    def release(self, association: dimse.Association) -> None:
        self.network.result(association.release())

    def records(self) -> list[Record]:
        """Those since the last call."""
        messages, self.outlet.messages = self.outlet.messages, []
        return [record(message) for message in messages]


def identifier(**keys: str) -> Dataset:
    dataset = Dataset()
    dataset.QueryRetrieveLevel = "STUDY"
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return dataset


def got(site: Site, studies: Sequence[str], classes: Sequence[str] = (CT,)) -> Any:
    """The numbers of a C-GET of these studies."""
    association = site.associate(dimse.get_contexts(STUDY_ROOT, list(classes)))
    keys = identifier()
    keys.StudyInstanceUID = list(studies)
    with dimse.MemoryStore() as received:
        return site.network.result(dimse.get(association, keys, received).result())
