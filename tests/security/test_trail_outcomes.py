"""What is recorded of who was turned away, of users, and of what could not be recorded."""

import logging

import pytest
from twisted.logger import formatEvent

import dimse
from dimse import STUDY_ROOT, AssociationRejectedError
from dimse.admission import Requesting
from dimse.security import audit
from dimse.security.addresses import host_of
from tests.archive.archives import data_set
from tests.security.trails import CT, Site, got, identifier
from tests.wire import EXPLICIT, VERIFICATION


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
        assert got(site, ["1.2.0"]).completed == 1
        with pytest.raises(AssociationRejectedError):
            site.associate([VERIFICATION], called_ae_title="OTHER")
        said = "\n".join(filter(None, map(formatEvent, site.network.events))) + caplog.text
        assert said.count("an audit record could not be made: ZeroDivisionError") == 5
        assert "Doe" not in said

    def test_patients_are_in_the_records_and_in_no_log(self, stored: Site) -> None:
        got(stored, ["1.2.1"])
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
