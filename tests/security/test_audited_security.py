"""What the audit trail hears of TLS and of users: over associations in memory (H-T17)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from xml.etree.ElementTree import Element, tostring

import pytest
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse

import dimse
from dimse import STUDY_ROOT, AssociationRejectedError
from dimse.admission import Requesting
from dimse.security import audit
from dimse.ul.items import UserIdentityRQ
from dimse.ul.negotiation import propose
from tests.archive.archives import data_set
from tests.certificates import PKI
from tests.scripted import RQ
from tests.security.peers import Careless, client_tls, server_tls, tls_requestor
from tests.security.trails import CT, Site, identifier
from tests.wire import EXPLICIT, VERIFICATION


def description(message: Element) -> str:
    return message.findtext("EventIdentification/EventOutcomeDescription") or ""


class TestNoTLS:
    """H-T17: who does not get as far as a request is an alert too, with nothing but an address."""

    @pytest.fixture
    def endpoint(self, site: Site, pki: PKI) -> Iterator[Any]:
        endpoint, scps = site.network.endpoint(), [dimse.VerificationSCP()]
        pending = dimse.listen(
            endpoint, scps, tls=server_tls(pki), audit=site.trail, reactor=site.network.clock
        )
        listener = site.network.result(pending)
        yield endpoint
        site.network.result(listener.stop(0))

    def alert(self, site: Site) -> str:
        """The one that there is, and what it says."""
        (message,) = site.outlet.messages
        (alert,) = site.records()
        assert alert[:3] == ("Security Alert: Node Authentication", "E", "4")
        assert alert.participants == ["NODE@pacs.example", "<none>@10.0.0.1"]
        assert alert.objects == ["10.0.0.1"]
        return description(message)

    @pytest.mark.parametrize("shown", ["stranger", None])
    def test_h_t17_a_certificate_that_is_refused(
        self, site: Site, pki: PKI, endpoint: Any, shown: str | None
    ) -> None:
        certificate = getattr(pki, shown) if shown else None
        peer = tls_requestor(site.network, endpoint, Careless(certificate))
        assert peer.closed
        said = self.alert(site)
        why = "the certificate CN=stranger is signed by nobody that is trusted here"
        assert said == f"no TLS: {why if shown else 'the peer showed no certificate'}"

    def test_h_t17_a_handshake_that_fails(self, site: Site, pki: PKI, endpoint: Any) -> None:
        peer = site.network.scripted_requestor(endpoint)
        peer.send(RQ)
        assert peer.closed
        assert self.alert(site) == "no TLS: what came is no TLS; plain DICOM?"

    def test_h_t17_a_handshake_that_does_not_end(self, site: Site, pki: PKI, endpoint: Any) -> None:
        site.network.scripted_requestor(endpoint)
        site.network.advance(dimse.Limits().artim)
        assert "ran out for the TLS handshake" in self.alert(site)

    def test_who_knocks_and_who_is_let_in_are_none(
        self, site: Site, pki: PKI, endpoint: Any
    ) -> None:
        peer = site.network.scripted_requestor(endpoint)
        peer.transport.loseConnection()
        site.network.run()
        site.release(site.network.associate(endpoint, tls=client_tls(pki))[0])
        assert site.records() == []

    def test_what_comes_after_the_handshake_is_no_failure_of_it(
        self, site: Site, pki: PKI, endpoint: Any
    ) -> None:
        peer = tls_requestor(site.network, endpoint, Careless(pki.modality))
        site.network.advance(dimse.Limits().artim)
        assert peer.closed
        assert site.records() == []


class TestMany:
    """Whoever has no right to anything must not fill the disk with what is recorded of that."""

    def test_h_t17_alerts_of_an_address_are_bounded_and_counted(self, site: Site) -> None:
        for host in 150 * ["[2001:db8::1]"] + 150 * ["[2001:db8::2]"] + ["10.0.0.9"]:
            peer = dimse.Peer("KNOCKS", f"{host}:4242")
            site.trail.alert(audit.NODE_AUTHENTICATION, peer, "knocks")
        said = [description(each) for each in site.outlet.messages]
        assert said == 100 * ["knocks"] + ["knocks (and 200 of who does that all the time)"]
        site.records()
        site.network.advance(60)
        site.trail.alert(audit.NODE_AUTHENTICATION, dimse.Peer("A", "[2001:db8::1]:1"), "knocks")
        assert [description(each) for each in site.outlet.messages] == ["knocks"]

    def test_h_t17_who_does_what_he_may_is_never_left_out(self, site: Site) -> None:
        asks = Requesting(dimse.Peer("CT1", "10.0.0.9:1"), proposed(), "10.0.0.9")
        for _ in range(150):
            site.trail.authenticated(asks, "jane")
        assert len(site.records()) == 150
        for _ in range(150):
            site.trail.authenticated(asks, "jane", "wrong")
        assert len(site.records()) == 100


def proposed() -> Any:
    return propose(
        [(VERIFICATION, [EXPLICIT])],
        called_ae_title="ARCHIVE",
        calling_ae_title="CT1",
        maximum_length=0,
    )


class TestUsers:
    SECRET = "s3cret"

    def listen(self, site: Site, **options: Any) -> Any:
        checker = InMemoryUsernamePasswordDatabaseDontUse(jane=self.SECRET.encode())
        identification = dimse.Identification(
            [checker], clock=site.network.clock, audit=site.trail, **options
        )
        admit = identification.admit()
        site.endpoint = site.network.listen(
            site.archive.scps(destinations={"WORKSTATION": site.destination}),
            audit=site.trail,
            admit=lambda asks: admit(replace(asks, encrypted=True)),
        )

    def associate(self, site: Site, identity: Any, contexts: Any = (VERIFICATION,)) -> Any:
        pending = dimse.associate(
            site.endpoint,
            contexts,
            user_identity=identity,
            reactor=site.network.clock,
            calling_ae_title="CT1",
            called_ae_title="ARCHIVE",
        )
        site.network.advance(1)
        return site.network.result(pending)

    def test_h_t17_who_is_verified(self, site: Site) -> None:
        self.listen(site)
        self.associate(site, dimse.username_and_passcode("jane", self.SECRET))
        (login,) = site.records()
        who = ["jane@10.0.0.1*", "ARCHIVE@pacs.example"]
        assert login == ("User Authentication: Login", "E", "0", who, [], {})

    @pytest.mark.parametrize(
        ("identity", "named", "why"),
        [
            (dimse.username_and_passcode("jane", "wr0ng"), "jane", "it is wrong"),
            (dimse.username_and_passcode("j\n<&>\u202e", "wr0ng"), r"j\n<&>\u202e", "it is wrong"),
            (UserIdentityRQ(2, b"j\xff", b"wr0ng"), r"j\xff", "it is wrong"),
            (dimse.username("jane"), "jane", "nobody here verifies its type"),
            (dimse.jwt("wr0ng.wr0ng.wr0ng"), "<none>", "nobody here verifies its type"),
            (None, "<none>", "none was given, and one is required"),
        ],
    )
    def test_h_t17_who_is_refused(self, site: Site, identity: Any, named: str, why: str) -> None:
        """By the name that he gives himself, as PS3.15 A.5.3.12 wants it; never by a secret."""
        self.listen(site, required=True)
        with pytest.raises(AssociationRejectedError):
            self.associate(site, identity)
        messages = site.outlet.messages
        assert description(messages[0]) == why
        assert b"wr0ng" not in b"".join(map(tostring, messages))
        login, rejection = site.records()
        assert login[:3] == ("User Authentication: Login", "E", "8")
        assert login.participants[0] == f"{named}@10.0.0.1*"
        assert rejection.event == "Security Alert: Node Authentication"

    def test_h_t17_too_many_of_them(self, site: Site) -> None:
        self.listen(site, failures=1)
        for _ in range(2):
            with pytest.raises(AssociationRejectedError):
                self.associate(site, dimse.username_and_passcode("jane", "wr0ng"))
        said = [description(each) for each in site.outlet.messages]
        assert [each for each in said if "rejected" not in each] == [
            "it is wrong",
            "there were too many wrong ones",
        ]

    def test_the_user_is_in_the_records_of_what_he_does(self, site: Site) -> None:
        self.listen(site)
        jane = dimse.username_and_passcode("jane", self.SECRET)
        contexts = [(CT, [EXPLICIT]), STUDY_ROOT.find, STUDY_ROOT.move]
        association = self.associate(site, jane, contexts)
        site.network.result(dimse.store(association, data_set("1.2.0.1.1")))
        found = dimse.find(association, identifier(PatientName="Doe*"), STUDY_ROOT).result()
        site.network.result(found)
        wanted = identifier(StudyInstanceUID="1.2.0")
        site.network.result(dimse.move(association, wanted, "WORKSTATION").result())
        site.release(association)
        records = site.records()
        assert [each.event for each in records] == [
            "User Authentication: Login",
            "Query",
            "Begin Transferring DICOM Instances",
            "DICOM Instances Transferred",
            "DICOM Instances Transferred",
        ]
        assert all("jane@10.0.0.1*" in each.participants for each in records)
