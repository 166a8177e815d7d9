"""A node in memory that peers come to from any address, with any certificate and user."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from twisted.internet.defer import Deferred, fail, succeed

import dimse
from dimse import AssociationRejectedError, Limits, VerificationSCP
from dimse.archive.archive import Archive
from dimse.security.access import KnownPeer
from dimse.security.identity import VerifiedUser
from dimse.server.config import Configuration
from dimse.server.names import Names
from dimse.server.peers import PeerBook
from dimse.testing import Network
from tests.wire import VERIFICATION

RESOLVED = {"ct.example": ["10.2.0.1"]}


def certificate(common_name: str, *names: x509.GeneralName) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(1))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, SHA256())


CERTIFICATES = {
    "right": certificate("SIGNED", x509.DNSName("signed.example")),
    # Nothing of it is the name: not the CN, not a wild card, not another kind.
    "wrong": certificate(
        "signed.example",
        x509.DNSName("*.example"),
        x509.UniformResourceIdentifier("signed.example"),
    ),
}


def look_up(name: str) -> "Deferred[Any]":
    return succeed(RESOLVED[name]) if name in RESOLVED else fail(OSError(2, "not known"))


class Node:
    """A node in memory; `ask` comes to it as somebody."""

    def __init__(
        self, network: Network, archive: Archive, configuration: Configuration, **options: Any
    ) -> None:
        self.network = network
        self.names = Names(network.clock, look_up)
        self.configuration = configuration
        limits = Limits(disk_reserve=0)
        self.book = PeerBook(
            configuration.peers,
            limits,
            configuration.unlisted,
            clock=network.clock,
            ae_titles=configuration.ae_titles,
            names=self.names,
            **options,
        )
        self.names.startService()
        self.scps = [
            VerificationSCP(),
            *archive.scps(destinations=self.book.destination, reports={}),
        ]
        self.asks: dict[str, Any] = {}
        self.user: str | None = None
        self.endpoint = network.listen(
            self.scps, limits=limits, ae_titles=configuration.ae_titles, admit=self.admit
        )

    def admit(self, requesting: Any) -> Any:
        user = VerifiedUser(self.user) if self.user is not None else None
        return self.book.admission(self.scps, replace(requesting, **self.asks), user)

    def ask(
        self,
        ae_title: str,
        host: str = "192.0.2.1",
        security: str = "plain",
        user: str | None = None,
        called: str = "ARCHIVE",
        contexts: Sequence[Any] = (VERIFICATION,),
        roles: Any = None,
    ) -> Any:
        self.asks = {
            "host": host,
            "encrypted": security != "plain",
            "certificate": CERTIFICATES.get(security),
        }
        self.user = user
        pending = dimse.associate(
            self.endpoint,
            contexts,
            calling_ae_title=ae_title,
            called_ae_title=called,
            roles=roles,
            reactor=self.network.clock,
        )
        self.network.run()
        return pending

    def taken(self, *args: Any, **options: Any) -> Any:
        return self.network.result(self.ask(*args, **options))

    def refused(self, *args: Any, **options: Any) -> tuple[int, int, int]:
        with pytest.raises(AssociationRejectedError) as caught:
            self.taken(*args, **options)
        return caught.value.result, caught.value.source, caught.value.reason


def one(network: Network, archive: Archive, **given: Any) -> Node:
    """A node that knows PEER."""
    peer = KnownPeer(ae_title="PEER", **given)
    other = KnownPeer(ae_title="OTHER")
    return Node(network, archive, Configuration(peers={"PEER": peer, "OTHER": other}))
