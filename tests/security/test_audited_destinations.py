"""What the audit trail hears of peers that a node connects to over TLS (PS3.15 A.5.3.11)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dimse
from dimse import STUDY_ROOT, Reference
from dimse.services.retrieving import Destination
from dimse.sop_classes import STORAGE_COMMITMENT_PUSH
from dimse.testing import Network
from tests.archive.archives import data_set, open_archive
from tests.certificates import PKI
from tests.security.peers import client_tls, server_tls
from tests.security.test_audited_security import description
from tests.security.trails import CT, Outlet, Site, audited, identifier

UNTRUSTED = "the certificate CN=stranger is signed by nobody that is trusted here"
MISNAMED = "the certificate CN=modality is not for other.example (its subject alternative names)"


class Peer:
    """Where all that a node sends goes; `alerts` are who was not to be trusted, and why."""

    site: Site

    def __init__(self, network: Network) -> None:
        self.network, self.place = network, network.endpoint()
        self.to = Destination(self.place)
        self.listener: dimse.Listener | None = None

    def listens(self, tls: Any, **options: Any) -> None:
        scps = [dimse.StorageSCP(dimse.MemoryStore())]
        pending = dimse.listen(self.place, scps, tls=tls, reactor=self.network.clock, **options)
        self.listener = self.network.result(pending)

    def alerts(self) -> list[str]:
        messages = self.site.outlet.messages
        said = []
        for message, each in zip(messages, self.site.records(), strict=True):
            if each.event == "Security Alert: Node Authentication":
                assert each.participants == ["NODE@pacs.example", "PEER@10.0.0.2"]
                assert each.objects == ["10.0.0.2"]
                said.append(description(message))
        return said


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    with Network() as network:
        peer, outlet = Peer(network), Outlet()
        trail = audited(network, outlet)
        options = {"clock": network.clock, "notified": lambda: {"PEER": peer.to}}
        with open_archive(tmp_path / "store", audit=trail, **options) as archive:
            peer.site = Site(network, archive, trail, outlet)
            peer.site.options["calling_ae_title"] = "PEER"
            peer.site.endpoint = network.listen(archive.scps(destinations=lambda _: peer.to))
            yield peer
        if peer.listener is not None:
            network.result(peer.listener.stop(0))


def moves(site: Site) -> None:
    association = site.store(data_set("1.2.0.1.1"))
    site.release(association)
    association = site.associate([STUDY_ROOT.move])
    wanted = identifier(StudyInstanceUID="1.2.0")
    moving = dimse.move(association, wanted, "PEER").result()
    site.network.run()
    moving.addErrback(lambda failure: failure.trap(dimse.StatusError) and None)
    site.network.result(moving)
    site.release(association)


def reports(site: Site) -> None:
    association = site.associate([STORAGE_COMMITMENT_PUSH])
    asking = dimse.request_commitment(association, [Reference(CT, "1.2.3")])
    asking.addCallback(lambda _: association.abort())
    site.network.result(asking)
    site.network.run()


def notifies(site: Site) -> None:
    site.release(site.store(data_set("1.2.0.1.1")))
    site.network.advance(60)


SENDS = pytest.mark.parametrize("sends", [moves, reports, notifies])


@SENDS
def test_a_destination_whose_certificate_is_not_trusted(
    peer: Peer, pki: PKI, sends: Callable[[Site], None]
) -> None:
    peer.listens(server_tls(pki, pki.stranger, client_auth="none"))
    peer.to = Destination(peer.place, tls=client_tls(pki))
    sends(peer.site)
    assert peer.alerts() == [f"when we connected to it: no TLS: {UNTRUSTED}"]


@SENDS
def test_a_destination_whose_name_does_not_match(
    peer: Peer, pki: PKI, sends: Callable[[Site], None]
) -> None:
    peer.listens(server_tls(pki, pki.modality))
    peer.to = Destination(peer.place, tls=client_tls(pki, server_name="other.example"))
    sends(peer.site)
    assert peer.alerts() == [f"when we connected to it: no TLS: {MISNAMED}"]


def test_a_destination_that_does_not_trust_us(peer: Peer, pki: PKI) -> None:
    """With TLS 1.3 it says so when the handshake is over for us."""
    peer.listens(server_tls(pki))
    peer.to = Destination(peer.place, tls=client_tls(pki, pki.stranger))
    moves(peer.site)
    assert peer.alerts() == [
        "when we connected to it: no TLS: the peer does not trust who signed our certificate"
    ]


def test_a_destination_that_never_ends_its_handshake(peer: Peer, pki: PKI) -> None:
    peer.network.scripted_acceptor(peer.place)
    peer.to = Destination(peer.place, tls=client_tls(pki))
    reports(peer.site)
    peer.network.advance(dimse.Limits().associate)
    (alert,) = peer.alerts()
    assert "ran out for the TLS handshake" in alert


@SENDS
def test_who_is_trusted_and_who_is_away_are_none(
    peer: Peer, pki: PKI, sends: Callable[[Site], None]
) -> None:
    peer.to = Destination(peer.place, tls=client_tls(pki))
    sends(peer.site)
    peer.listens(server_tls(pki))
    sends(peer.site)
    assert peer.alerts() == []


def test_who_is_trusted_and_does_not_want_us_is_none(peer: Peer, pki: PKI) -> None:
    asked: list[object] = []

    def reject(requesting: object) -> None:
        asked.append(requesting)
        raise dimse.AssociationRejectedError(1, 1, 3)

    peer.listens(server_tls(pki), admit=reject)
    peer.to = Destination(peer.place, tls=client_tls(pki))
    moves(peer.site)
    assert len(asked) == 1
    assert peer.alerts() == []
