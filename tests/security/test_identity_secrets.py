"""What proves who a user is, is not sent in clear, and not kept (H-T14, H-T16)."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from twisted.cred.credentials import IUsernamePassword

import dimse
import dimse.ul.identity
from dimse import (
    AssociationRejectedError,
    Identification,
    MisuseError,
    Requesting,
    VerificationSCP,
    VerifiedUser,
    associate,
)
from dimse.security.identity import DELAY
from dimse.testing import Network
from dimse.ul.items import UserIdentityRQ
from tests.security.identities import ANNA, WRONG, Checker, Node, anna_alone, request_of


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def node(network: Network) -> Node:
    return Node(network)


SECRETS = {
    "passcode": ANNA,
    "ticket": dimse.ul.identity.kerberos(b"ticket"),
    "assertion": dimse.ul.identity.saml(b"<Assertion/>"),
    "token": dimse.ul.identity.jwt("a.b.c"),
}


class TestHT14Plain:
    @pytest.mark.parametrize("identity", SECRETS.values(), ids=list(SECRETS))
    @pytest.mark.parametrize("required", [True, False])
    def test_h_t14_secrets_without_tls(
        self, node: Node, identity: UserIdentityRQ, required: bool
    ) -> None:
        """K31: refused before anybody looks at them."""
        checker = Checker(IUsernamePassword)
        node.tls = False
        node.listen([checker], required=required)
        assert node.rejected(identity) == (1, 2, 1)
        assert checker.asked == []
        assert "without TLS" in node.log()

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", ""])
    def test_h_t14_not_even_from_this_machine(self, node: Node, host: str) -> None:
        """It may be a proxy whose other side is in clear."""
        node.listen([anna_alone()])
        asks = Requesting(dimse.Peer("OTHER", "here"), request_of(ANNA), host)
        pending = node.identification.identify(asks)
        node.network.advance(DELAY)
        with pytest.raises(AssociationRejectedError):
            node.network.result(pending)

    def test_they_may_be_allowed(self, node: Node) -> None:
        node.tls = False
        node.listen([anna_alone()], allow_plain=True)
        node.network.result(node.request(ANNA))
        assert node.users == [VerifiedUser("anna")]

    @pytest.mark.parametrize("identity", SECRETS.values(), ids=list(SECRETS))
    def test_we_do_not_send_them_to_a_host_and_port(self, identity: UserIdentityRQ) -> None:
        """Which is plain TCP; an endpoint is for its owner to encrypt."""
        with pytest.raises(MisuseError, match="allow_plain_identity"):
            associate("pacs.example:104", user_identity=identity, reactor=object())


class TestHT16:
    TITLES: Sequence[tuple[str, str]] = (
        ("ARCHIVE", "CT1"),
        ("ARCHIVE", "STRANGER"),
        ("NOBODY", "CT1"),
        ("NOBODY", "STRANGER"),
    )

    @pytest.mark.parametrize("identity", [None, WRONG], ids=["none", "wrong"])
    def test_h_t16_ae_titles_cannot_be_found_without_a_user(
        self, network: Network, identity: UserIdentityRQ | None
    ) -> None:
        """Known or unknown, called or calling: one answer after one delay, where a user is
        required."""
        identification = Identification(
            [anna_alone()], clock=network.clock, required=True, allow_plain=True
        )

        def known(requesting: Requesting, user: Any) -> None:
            if requesting.peer.ae_title != "CT1":
                raise AssociationRejectedError(1, 1, 3)

        endpoint = network.listen(
            [VerificationSCP()], ae_titles=["ARCHIVE"], admit=identification.admit(known)
        )
        for called, calling in self.TITLES:
            pending = associate(
                endpoint,
                called_ae_title=called,
                calling_ae_title=calling,
                user_identity=identity,
                reactor=network.clock,
            )
            network.advance(DELAY - 0.01)
            assert not pending.called
            network.advance(0.01)
            with pytest.raises(AssociationRejectedError) as caught:
                network.result(pending)
            assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 2, 1)
