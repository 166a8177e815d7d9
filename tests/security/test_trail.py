"""What is recorded of what a node does: over associations in memory, with an archive."""

import gc
import logging
from base64 import b64decode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage
from twisted.internet.defer import Deferred, succeed
from twisted.logger import formatEvent

import dimse
from dimse import STUDY_ROOT, AssociationRejectedError
from dimse.admission import Requesting
from dimse.archive.archive import Archive
from dimse.security import audit, trail
from dimse.security.addresses import host_of
from dimse.security.trail import AuditTrail
from dimse.services.dataset import decode
from dimse.sop_classes import MODALITY_WORKLIST
from dimse.testing import Network
from tests.archive.archives import data_set, open_archive
from tests.security.schema import checked
from tests.wire import EXPLICIT, VERIFICATION

NOW = datetime(2026, 11, 26, 9, 30, 5, tzinfo=UTC)
CT, MR = str(CTImageStorage), str(MRImageStorage)
HANGING_PROTOCOL = "1.2.840.10008.5.1.4.38.1"


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


@pytest.fixture
def outlet() -> Outlet:
    return Outlet()


@pytest.fixture
def site(tmp_path: Path, outlet: Outlet) -> Iterator[Site]:
    with Network() as network:
        audited = AuditTrail(
            [outlet],
            "NODE",
            clock=network.clock,
            ae_titles=["ARCHIVE"],
            host="pacs.example",
            now=lambda: NOW,
        )
        with open_archive(tmp_path / "store", audit=audited) as archive:
            yield Site(network, archive, audited, outlet)


def identifier(**keys: str) -> Dataset:
    dataset = Dataset()
    dataset.QueryRetrieveLevel = "STUDY"
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return dataset


TO_PEER = ["ARCHIVE@pacs.example Source", "CT1@10.0.0.1* Destination"]
SENT = ["CT1@10.0.0.1* Source", "ARCHIVE@pacs.example Destination"]


class TestNode:
    def test_its_start_and_its_stop(self, site: Site) -> None:
        site.trail.start()
        stopped = site.trail.stop()
        assert stopped.called
        assert site.outlet.closed
        start, stop = site.records()
        node = ["NODE@pacs.example Application"]
        assert start == ("Application Activity: Application Start", "E", "0", node, [], {})
        assert stop == ("Application Activity: Application Stop", "E", "0", node, [], {})

    def test_an_outlet_that_cannot_be_opened_closes_the_others(self, outlet: Outlet) -> None:
        class Unusable(Outlet):
            def open(self) -> None:
                raise dimse.MisuseError("no such folder")

        with Network() as network:
            audited = AuditTrail([outlet, Unusable()], "NODE", clock=network.clock)
            with pytest.raises(dimse.MisuseError):
                audited.start()
        assert outlet.closed


class TestReceived:
    def test_one_record_for_each_study_when_the_association_ends(self, site: Site) -> None:
        association = site.store(
            data_set("1.2.0.1.1"),
            data_set("1.2.0.1.2"),
            data_set("1.2.0.2.1", SOPClassUID=MR),
            data_set("1.2.1.1.1", PatientID="P2", PatientName="Roe^Richard"),
        )
        assert site.records() == []
        site.release(association)
        first, second = site.records()
        transferred = ("DICOM Instances Transferred", "C", "0", SENT)
        assert first == (*transferred, ["1.2.0", "P1"], {CT: 2, MR: 1})
        assert second == (*transferred, ["1.2.1", "P2"], {CT: 1})

    def test_one_record_for_each_patient_of_a_study(self, site: Site) -> None:
        """Nobody should mix them, but who does is recorded."""
        site.release(site.store(data_set("1.2.0.1.1"), data_set("1.2.0.1.2", PatientID="P2")))
        assert [each.objects for each in site.records()] == [["1.2.0", "P1"], ["1.2.0", "P2"]]

    def test_what_was_there_already_is_read_and_not_created(self, site: Site) -> None:
        site.release(site.store(data_set("1.2.0.1.1")))
        site.records()
        site.release(site.store(data_set("1.2.0.1.1"), data_set("1.2.0.1.2")))
        assert [(each.action, each.outcome, each.sop_classes) for each in site.records()] == [
            ("R", "0", {CT: 1}),
            ("C", "0", {CT: 1}),
        ]

    def test_what_was_refused_is_a_failure(self, site: Site) -> None:
        """Another instance under the UID of one that is there."""
        site.release(site.store(data_set("1.2.0.1.1")))
        site.records()
        association = site.associate([(CT, [EXPLICIT])])
        other = data_set("1.2.0.1.1", PatientID="P9")
        with pytest.raises(dimse.StatusError):
            site.network.result(dimse.store(association, other))
        site.release(association)
        (failed,) = site.records()
        assert (failed.outcome, failed.objects) == ("4", ["1.2.0", "P9"])

    def test_a_non_patient_object_has_no_study(self, site: Site) -> None:
        protocol = Dataset()
        protocol.SOPClassUID, protocol.SOPInstanceUID = HANGING_PROTOCOL, "1.2.3"
        site.release(site.store(protocol))
        (transferred,) = site.records()
        assert (transferred.objects, transferred.sop_classes) == (
            [HANGING_PROTOCOL],
            {HANGING_PROTOCOL: 1},
        )

    def test_an_association_that_stays_has_a_record_after_a_while(self, site: Site) -> None:
        association = site.store(data_set("1.2.0.1.1"), data_set("1.2.0.1.2"))
        for _ in range(31):
            site.network.advance(10)
        assert [each.sop_classes for each in site.records()] == [{CT: 2}]
        assert association.ended is not None  # by Limits.idle, of 300 s
        assert site.records() == []

    def test_many_studies_have_their_records_before_the_end(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(trail, "_MOST_STUDIES", 3)
        association = site.store(*(data_set(f"1.2.{number}.1.1") for number in range(4)))
        assert len(site.records()) == 3
        site.release(association)
        assert len(site.records()) == 1

    def test_an_abort_ends_it_as_well(self, site: Site) -> None:
        site.store(data_set("1.2.0.1.1")).abort()
        site.network.run()
        assert [each.sop_classes for each in site.records()] == [{CT: 1}]

    def test_what_is_left_when_the_node_stops_comes_first(self, site: Site) -> None:
        association = site.store(data_set("1.2.0.1.1"))
        site.trail.stop()
        events = [each.event for each in site.records()]
        assert events == ["DICOM Instances Transferred", "Application Activity: Application Stop"]
        site.release(association)
        assert site.records() == []

    def test_what_is_committed_after_the_end_is_recorded(self, site: Site) -> None:
        """A commit takes its time, and its association may not wait for it."""
        association = site.store(data_set("1.2.0.1.1"))
        theirs: Any = site.network.links[-1].far.protocol
        operation: Any = type("Operation", (), {})()
        operation.association = theirs.user
        operation.peer, operation.ae_title = theirs.user.peer, "ARCHIVE"
        site.release(association)
        site.records()
        site.trail.received(operation, CT, {0x0020000D: "1.2.9"})
        (late,) = site.records()
        assert late.objects == ["1.2.9", "<none>"]
        assert site.network.clock.getDelayedCalls() == []


class TestQueries:
    @pytest.mark.parametrize("model", [STUDY_ROOT, MODALITY_WORKLIST], ids=["study", "worklist"])
    def test_each_is_recorded_with_its_identifier(
        self, site: Site, model: dimse.InformationModel
    ) -> None:
        association = site.associate([model.find])
        keys = identifier(PatientName="Doe*", StudyInstanceUID="")
        site.network.result(dimse.find(association, keys, model).result())
        (message,) = site.outlet.messages
        (found,) = site.records()
        assert found == ("Query", "E", "0", SENT, [model.find], {})
        query = b64decode(
            message.findtext("ParticipantObjectIdentification/ParticipantObjectQuery") or ""
        )
        detail = message.find("ParticipantObjectIdentification/ParticipantObjectDetail")
        assert detail is not None
        syntax = b64decode(detail.get("value") or "").decode()
        assert decode(query, syntax, 1000).PatientName == "Doe*"

    def test_one_that_cannot_be_understood_is_recorded_too(self, site: Site) -> None:
        association = site.associate([STUDY_ROOT.find])
        with pytest.raises(dimse.StatusError):
            site.network.result(dimse.find(association, Dataset(), STUDY_ROOT).result())
        assert [each.event for each in site.records()] == ["Query"]


@pytest.fixture
def stored(site: Site) -> Site:
    """With two studies of 2 and 1 instances."""
    named = data_set("1.2.1.1.1", PatientID="P2", PatientName="Roe^Richard")
    site.release(site.store(data_set("1.2.0.1.1"), data_set("1.2.0.1.2"), named))
    site.records()
    return site


class TestSent:
    def get(self, site: Site, studies: Sequence[str], classes: Sequence[str] = (CT,)) -> Any:
        association = site.associate(dimse.get_contexts(STUDY_ROOT, list(classes)))
        keys = identifier()
        keys.StudyInstanceUID = list(studies)
        with dimse.MemoryStore() as received:
            return site.network.result(dimse.get(association, keys, received).result())

    def test_with_c_get_each_study_has_a_beginning_and_an_end(self, stored: Site) -> None:
        assert self.get(stored, ["1.2.0", "1.2.1"]).completed == 3
        records = stored.records()
        begin = ("Begin Transferring DICOM Instances", "E", "0", TO_PEER)
        end = ("DICOM Instances Transferred", "R", "0", TO_PEER)
        assert records[0] == (*begin, ["1.2.0", "P1"], {})
        assert (*begin, ["1.2.1", "P2"], {}) in records
        assert records[-2:] == [
            (*end, ["1.2.0", "P1"], {CT: 2}),
            (*end, ["1.2.1", "P2"], {CT: 1}),
        ]
        assert len(records) == 4

    def test_the_patient_is_named(self, stored: Site) -> None:
        self.get(stored, ["1.2.1"])
        for message in stored.outlet.messages:
            _, patient = message.findall("ParticipantObjectIdentification")
            assert patient.findtext("ParticipantObjectName") == "Roe^Richard"

    def test_with_c_move_the_destination_is_named_and_who_asked(self, stored: Site) -> None:
        association = stored.associate([STUDY_ROOT.move])
        keys = identifier(StudyInstanceUID="1.2.0")
        moving = dimse.move(association, keys, "WORKSTATION").result()
        assert stored.network.result(moving).completed == 2
        begin, end = stored.records()
        who = ["ARCHIVE@pacs.example Source", "WORKSTATION@None Destination", "CT1@10.0.0.1*"]
        assert begin.participants == end.participants == who
        assert (end.action, end.outcome, end.sop_classes) == ("R", "0", {CT: 2})

    def test_what_could_not_be_sent_is_a_failure(self, stored: Site) -> None:
        site = stored
        site.release(site.store(data_set("1.2.0.2.1", SOPClassUID=MR)))
        site.records()
        done = self.get(site, ["1.2.0"])
        assert (done.completed, done.failed) == (2, 1)
        _, sent, failed = site.records()
        assert (sent.outcome, sent.sop_classes) == ("0", {CT: 2})
        assert (failed.outcome, failed.sop_classes) == ("4", {MR: 1})

    def test_what_is_not_there_has_no_record(self, stored: Site) -> None:
        self.get(stored, ["9.9"])
        assert stored.records() == []

    def test_what_says_nothing_of_its_study_is_recorded_by_its_class(self, site: Site) -> None:
        """An SCP of a user of the library, which sends a Dataset."""
        scp = dimse.RetrieveSCP(lambda keys, operation: [data_set("1.2.0.1.1")], audit=site.trail)
        site.endpoint = site.network.listen([scp])
        assert self.get(site, ["1.2.0"]).completed == 1
        assert [each.event for each in site.records()] == [
            "Begin Transferring DICOM Instances",
            "DICOM Instances Transferred",
        ]


class TestRejected:
    def test_h_t17_each_rejection_is_an_alert(self, site: Site) -> None:
        with pytest.raises(AssociationRejectedError):
            site.associate([VERIFICATION], called_ae_title="OTHER<&>")
        (message,) = site.outlet.messages
        (alert,) = site.records()
        assert alert[:3] == ("Security Alert: Node Authentication", "E", "4")
        assert alert.participants == ["NODE@pacs.example", "CT1@10.0.0.1"]
        assert alert.objects == ["10.0.0.1"]
        said = message.findtext("EventIdentification/EventOutcomeDescription") or ""
        assert said.startswith("called OTHER<&>: association rejected: called AE title not")

    def test_h_t17_by_who_decides_about_admission_too(self, site: Site) -> None:
        def admit(_: Requesting) -> None:
            raise AssociationRejectedError(1, 1, 3)

        site.endpoint = site.network.listen(
            [dimse.VerificationSCP()], admit=admit, audit=site.trail
        )
        with pytest.raises(AssociationRejectedError):
            site.associate([VERIFICATION])
        assert [each.event for each in site.records()] == ["Security Alert: Node Authentication"]

    def test_for_want_of_room_alone_is_no_matter_of_security(self, site: Site) -> None:
        limits = dimse.Limits(associations=1)
        site.endpoint = site.network.listen(
            [dimse.VerificationSCP()], limits=limits, audit=site.trail
        )
        site.associate([VERIFICATION])
        with pytest.raises(AssociationRejectedError):
            site.associate([VERIFICATION])
        assert site.records() == []


class TestUsers:
    @pytest.mark.parametrize(("failure", "outcome"), [("", "0"), ("wrong passcode", "8")])
    def test_who_logs_in_or_cannot(self, site: Site, failure: str, outcome: str) -> None:
        def admit(requesting: Requesting) -> None:
            site.trail.authenticated(requesting, "jane", failure)

        site.endpoint = site.network.listen([dimse.VerificationSCP()], admit=admit)
        site.associate([VERIFICATION])
        (login,) = site.records()
        who = ["jane@10.0.0.1*", "ARCHIVE@pacs.example"]
        assert login == ("User Authentication: Login", "E", outcome, who, [], {})

    def test_what_a_peer_may_not_do(self, site: Site) -> None:
        peer = dimse.Peer("CT1", "[2001:db8::7]:104")
        site.trail.alert(audit.RESTRICTED_FUNCTION, peer, "C-MOVE to X")
        (alert,) = site.records()
        assert alert.event == "Security Alert: Use of Restricted Function"
        assert alert.objects == ["2001:db8::7"]


class TestFaults:
    def test_h_r22_what_cannot_be_recorded_stops_nothing(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Instances are stored, found and sent, and the log has nothing of a patient."""
        caplog.set_level(logging.DEBUG)
        site.outlet.broken = True
        site.release(site.store(data_set("1.2.0.1.1")))
        association = site.associate([STUDY_ROOT.find])
        found = dimse.find(association, identifier(PatientName="Doe*"), STUDY_ROOT).result()
        assert len(site.network.result(found)) == 1
        assert TestSent().get(site, ["1.2.0"]).completed == 1
        with pytest.raises(AssociationRejectedError):
            site.associate([VERIFICATION], called_ae_title="OTHER")
        said = "\n".join(filter(None, map(formatEvent, site.network.events))) + caplog.text
        assert said.count("an audit record could not be made: ZeroDivisionError") == 5
        assert "Doe" not in said

    def test_patients_are_in_the_records_and_in_no_log(self, stored: Site) -> None:
        TestSent().get(stored, ["1.2.1"])
        said = "\n".join(filter(None, map(formatEvent, stored.network.events)))
        assert "Roe" not in said
        assert "P2" not in said

    def test_an_instance_shows_no_patient(self) -> None:
        instance = dimse.Instance(CT, "1.2", EXPLICIT, b"", study=audit.Study("1", "P", "Doe"))
        assert "Doe" not in repr(instance)


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("pacs.example:104", "pacs.example"),
        ("[::1]:104", "::1"),
        ("UNIXAddress", "UNIXAddress"),
    ],
)
def test_host_of_an_address(address: str, host: str) -> None:
    assert host_of(address) == host


def test_nothing_is_kept_of_an_association_that_has_ended(site: Site) -> None:
    for number in range(5):
        site.release(site.store(data_set(f"1.2.{number}.1.1")))
    gc.collect()
    assert site.trail._received == {}
