"""What is recorded of what a node does: over associations in memory, with an archive."""

import gc
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

import dimse
from dimse import STUDY_ROOT
from dimse.security import trail
from dimse.security.trail import AuditTrail
from dimse.services.dataset import decode
from dimse.sop_classes import MODALITY_WORKLIST
from dimse.testing import Network
from tests.archive.archives import data_set, open_archive
from tests.security.trails import CT, MR, Outlet, Site, audited, got, identifier
from tests.wire import EXPLICIT

HANGING_PROTOCOL = "1.2.840.10008.5.1.4.38.1"


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

    def test_what_took_the_place_of_another_is_an_update(
        self, tmp_path: Path, outlet: Outlet
    ) -> None:
        with Network() as network:
            audit = audited(network, outlet)
            folder = tmp_path / "replacing"
            with open_archive(folder, audit=audit, duplicates="replace") as archive:
                site = Site(network, archive, audit, outlet)
                for name in ("Doe^Jane", "Doe^Joan", "Doe^Joan"):
                    site.release(site.store(data_set("1.2.0.1.1", PatientName=name)))
                records = site.records()
        assert [each.action for each in records] == ["C", "U", "R"]

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


class TestSent:
    def test_with_c_get_each_study_has_a_beginning_and_an_end(self, stored: Site) -> None:
        assert got(stored, ["1.2.0", "1.2.1"]).completed == 3
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
        got(stored, ["1.2.1"])
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
        done = got(site, ["1.2.0"])
        assert (done.completed, done.failed) == (2, 1)
        _, sent, failed = site.records()
        assert (sent.outcome, sent.sop_classes) == ("0", {CT: 2})
        assert (failed.outcome, failed.sop_classes) == ("4", {MR: 1})

    def test_what_is_not_there_has_no_record(self, stored: Site) -> None:
        got(stored, ["9.9"])
        assert stored.records() == []

    def test_what_says_nothing_of_its_study_is_recorded_by_its_class(self, site: Site) -> None:
        """An SCP of a user of the library, which sends a Dataset."""
        scp = dimse.RetrieveSCP(lambda keys, operation: [data_set("1.2.0.1.1")], audit=site.trail)
        site.endpoint = site.network.listen([scp])
        assert got(site, ["1.2.0"]).completed == 1
        assert [each.event for each in site.records()] == [
            "Begin Transferring DICOM Instances",
            "DICOM Instances Transferred",
        ]


def test_nothing_is_kept_of_an_association_that_has_ended(site: Site) -> None:
    for number in range(5):
        site.release(site.store(data_set(f"1.2.{number}.1.1")))
    gc.collect()
    assert site.trail._received == {}
