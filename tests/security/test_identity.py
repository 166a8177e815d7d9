"""Who the user of an association is, is verified (PS3.7 D.3.3.7)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from zope.interface import implementer

import dimse
import dimse.ul.identity
from dimse import (
    Admission,
    AssociationRejectedError,
    Identification,
    Requesting,
    VerificationSCP,
    VerifiedUser,
    associate,
    identity_refused,
)
from dimse.security.credentials import IKerberosTicket, ISAMLAssertion
from dimse.security.identity import DELAY, FAILURES, IVerifiedUser, UserNames
from dimse.testing import Network
from dimse.ul.items import UserIdentityRQ
from tests.security.identities import ANNA, SECRET, WRONG, Checker, Node, anna_alone, request_of


@implementer(IRealm)
class Realm:
    """Gives whoever logs in as an avatar, with who asks."""

    def __init__(self) -> None:
        self.minds: list[Any] = []
        self.logouts = 0

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        self.minds.append(mind)
        return IVerifiedUser, VerifiedUser(f"{avatarId.decode()} of radiology"), self.logout

    def logout(self) -> None:
        self.logouts += 1


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def node(network: Network) -> Node:
    return Node(network)


class TestVerified:
    @pytest.mark.parametrize("asks", [True, False])
    def test_the_user_reaches_the_admission_and_the_response_who_asked(
        self, node: Node, asks: bool
    ) -> None:
        """H-T15: type 2 with a response requested gets an empty one."""
        node.listen([anna_alone()])
        identity = dimse.username_and_passcode("anna", SECRET, response=asks)
        association = node.network.result(node.request(identity))
        assert node.users == [VerifiedUser("anna")]
        answer = association.peer_information.user_identity_response
        assert (answer is not None) is asks
        assert answer is None or answer.response == b""

    def test_a_server_response_of_the_checker(self, node: Node) -> None:
        """PS3.7 Table D.3-15: a server ticket."""
        checker = Checker(IKerberosTicket)
        node.listen([checker])
        pending = node.request(dimse.ul.identity.kerberos(b"ticket", response=True))
        assert checker.asked[0].ticket == b"ticket"
        checker.verdicts[0].callback(VerifiedUser("anna@HOSPITAL", b"server ticket"))
        answer = node.network.result(pending).peer_information.user_identity_response
        assert answer.response == b"server ticket"
        assert node.users == [VerifiedUser("anna@HOSPITAL", b"server ticket")]

    def test_a_portal_of_ones_own(self, node: Node) -> None:
        """Its realm learns who asks, and makes the user; the session ends at once."""
        realm = Realm()
        node.listen(Portal(realm, [anna_alone()]))
        node.network.result(node.request(ANNA))
        assert [user.name for user in node.users] == ["anna of radiology"]
        assert [mind.peer.ae_title for mind in realm.minds] == ["DIMSE"]
        assert realm.logouts == 1

    def test_the_admission_keeps_what_it_says(self, node: Node) -> None:
        node.answer = Admission(limits=dimse.Limits(maximum_length=8192))
        association = node.network.result(node.listen([anna_alone()]).request(ANNA))
        assert association.peer_information.maximum_length == 8192

    def test_without_an_admission(self, network: Network) -> None:
        identification = Identification([anna_alone()], clock=network.clock, allow_plain=True)
        endpoint = network.listen([VerificationSCP()], admit=identification.admit())
        identity = dimse.username_and_passcode("anna", SECRET, response=True)
        association, _ = network.associate(endpoint, user_identity=identity)
        assert association.peer_information.user_identity_response is not None

    def test_identify_alone(self, node: Node) -> None:
        """For who has an `admit` of his own."""
        node.listen([anna_alone()])
        node.answer = None
        seen: list[Requesting] = []
        endpoint = node.network.listen([VerificationSCP()], admit=seen.append)
        node.network.result(associate(endpoint, reactor=node.network.clock, user_identity=ANNA))
        asks = replace(seen[0], encrypted=True)
        assert node.network.result(node.identification.identify(asks)) == VerifiedUser("anna")

    def test_a_user_name_is_believed_where_that_is_wanted(self, node: Node) -> None:
        """PS3.15 B.4; over plain TCP too, for it is no secret."""
        node.tls = False
        node.listen([UserNames()], required=True)
        node.network.result(node.request(dimse.username("anna")))
        assert node.users == [VerifiedUser("anna")]

    def test_log_names_who_was_verified(self, node: Node) -> None:
        node.network.result(node.listen([anna_alone()]).request(ANNA))
        assert "the user is anna" in node.log()
        assert SECRET not in node.log()

    def test_a_response_does_not_show(self) -> None:
        """It may be a ticket that others can use."""
        shown = repr(VerifiedUser("anna", b"ticket")) + repr(Admission(identity_response=b"ticket"))
        assert "ticket" not in shown


class TestNotVerified:
    def test_h_t15_required_but_absent(self, node: Node) -> None:
        node.listen([anna_alone()], required=True)
        assert node.rejected(None) == (1, 2, 1)
        assert node.users == []

    def test_absent_where_it_is_not_required(self, node: Node) -> None:
        node.listen([anna_alone()])
        node.network.result(node.request(None))
        assert node.users == [None]

    def test_a_type_that_nobody_checks_is_ignored(self, node: Node) -> None:
        """No user, and no response, which would say that it was verified (PS3.7 D.3.3.7)."""
        node.listen([anna_alone()])
        identity = dimse.ul.identity.saml(b"<Assertion/>", response=True)
        association = node.network.result(node.request(identity))
        assert node.users == [None]
        assert association.peer_information.user_identity_response is None

    def test_a_type_that_nobody_checks_does_not_do_where_one_is_required(self, node: Node) -> None:
        node.listen([anna_alone()], required=True)
        assert node.rejected(dimse.ul.identity.saml(b"<Assertion/>")) == (1, 2, 1)
        assert node.rejected(dimse.username("anna")) == (1, 2, 1)

    def test_what_the_admission_rejects_takes_as_long(self, node: Node) -> None:
        node.answer = AssociationRejectedError(1, 1, 3)
        assert node.listen([anna_alone()]).rejected(ANNA) == (1, 1, 3)

    def test_the_admission_asks_for_a_user(self, node: Node) -> None:
        """The seam for a peer of which an identity is required."""
        node.answer = identity_refused()
        assert node.listen([anna_alone()]).rejected(None) == (1, 2, 1)

    def test_a_broken_checker_is_no_wrong_identity(self, node: Node) -> None:
        checker = Checker(IUsernamePassword)
        pending = node.listen([checker]).request(ANNA)
        checker.verdicts[0].errback(ZeroDivisionError())
        with pytest.raises(AssociationRejectedError) as caught:
            node.network.result(pending)
        assert (caught.value.result, caught.value.source) == (2, 3)
        assert node.network.flush_logged_errors(ZeroDivisionError)


PASSCODE_FIELDS = {
    "wrong passcode": (b"anna", b"wr0ng passcode"),
    "unknown user": (b"n0body", SECRET.encode()),
    "empty user": (b"", SECRET.encode()),
    "empty passcode": (b"anna", b""),
    "NUL in the user": (b"anna\0", SECRET.encode()),
    "NUL in the passcode": (b"anna", SECRET.encode() + b"\0"),
    "NUL alone": (b"anna", b"\0"),
    "64 KiB user": (b"u" * 32000, SECRET.encode()),
    "64 KiB passcode": (b"anna", b"p" * 65000),
    "user that is no UTF-8": (b"ann\xe4", SECRET.encode()),
    "passcode that is no UTF-8": (b"anna", b"\xff\xfe"),
    "line ends": (b"anna\r\nlogin ok", SECRET.encode()),
}


class TestHT13:
    @pytest.mark.parametrize("fields", PASSCODE_FIELDS.values(), ids=list(PASSCODE_FIELDS))
    def test_h_t13_one_answer_whatever_is_wrong(
        self, node: Node, fields: tuple[bytes, bytes]
    ) -> None:
        """RJ(1,2,1) after the same delay, and nothing of it in the log (H-P33)."""
        node.listen([anna_alone()])
        assert node.rejected(UserIdentityRQ(2, *fields)) == (1, 2, 1)
        for field in fields:
            text = field.decode(errors="replace").strip("\0")
            assert not text or text not in node.log().replace("DIMSE", "")
        assert node.users == []

    @pytest.mark.parametrize("kind", [1, 3, 4, 5])
    def test_h_t13_malformed_of_other_types(self, node: Node, kind: int) -> None:
        """Empty, or with the passcode that only type 2 has."""
        node.listen([anna_alone(), UserNames(), Checker(IKerberosTicket, ISAMLAssertion)])
        assert node.rejected(UserIdentityRQ(kind, b"")) == (1, 2, 1)
        assert node.rejected(UserIdentityRQ(kind, b"anna", b"passcode")) == (1, 2, 1)

    def test_h_t13_a_slow_checker_does_not_add_to_the_delay(self, node: Node) -> None:
        """Who fails late is answered when all are: the time tells nothing."""
        checker = Checker(IUsernamePassword)
        pending = node.listen([checker]).request(ANNA)
        node.network.advance(DELAY / 2)
        checker.verdicts[0].errback(UnauthorizedLogin())
        node.network.advance(DELAY / 2 - 0.01)
        assert not pending.called
        node.network.advance(0.01)
        with pytest.raises(AssociationRejectedError):
            node.network.result(pending)

    def test_h_t13_rate_limit(self, node: Node) -> None:
        """Then not even the right passcode is looked at, for a minute; and it is told apart."""
        node.listen([anna_alone()])
        for _ in range(FAILURES):
            assert node.rejected(WRONG) == (1, 2, 1)
        assert node.rejected(ANNA) == (2, 3, 1)
        assert node.users == []
        node.network.advance(60)
        node.network.result(node.request(ANNA))

    def test_h_t13_many_at_a_time_are_counted_too(self, node: Node) -> None:
        """They have their turn one after the other, and most of them never."""
        checker = Checker(IUsernamePassword)
        node.listen([checker])
        waiting = [node.request(WRONG) for _ in range(3 * FAILURES)]
        for number in range(FAILURES):
            assert len(checker.verdicts) == number + 1
            checker.verdicts[number].errback(UnauthorizedLogin())
            node.network.run()
        assert len(checker.verdicts) == FAILURES
        node.network.advance(DELAY)
        results = []
        for each in waiting:
            with pytest.raises(AssociationRejectedError) as caught:
                node.network.result(each)
            results.append(caught.value.result)
        assert results == [1] * FAILURES + [2] * 2 * FAILURES

    def test_h_t13_a_network_of_ipv6_has_one_turn(self, node: Node) -> None:
        """It is counted as one, so its addresses must not try at a time (RFC 6177)."""
        checker = Checker(IUsernamePassword)
        node.listen([checker])
        for number in range(3 * FAILURES):
            host = f"2001:db8::{number:x}"
            asks = Requesting(
                dimse.Peer("X", f"[{host}]:1"), request_of(WRONG), host, encrypted=True
            )
            node.identification.identify(asks).addErrback(lambda _: None)
        assert len(checker.verdicts) == 1
        for number in range(FAILURES):
            checker.verdicts[number].errback(UnauthorizedLogin())
        assert len(checker.verdicts) == FAILURES
        node.network.advance(DELAY)
        assert node.identification._turns == {}

    def test_h_t13_who_hangs_up_is_counted_and_others_have_their_turn(self, node: Node) -> None:
        checker = Checker(IUsernamePassword)
        node.listen([checker])
        hung_up, waits = node.request(WRONG), node.request(ANNA)
        hung_up.cancel()
        node.network.run()
        assert len(checker.verdicts) == 2
        checker.verdicts[1].callback(b"anna")
        node.network.result(waits)
        hung_up.addErrback(lambda _: None)
        for _ in range(FAILURES - 1):
            node.request(WRONG).addErrback(lambda _: None).cancel()
            node.network.run()
        assert node.rejected(ANNA) == (2, 3, 1)

    def test_h_t13_who_hangs_up_in_the_delay_leaves_no_timer(self, node: Node) -> None:
        node.listen([anna_alone()])
        pending = node.request(WRONG)
        pending.addErrback(lambda _: None)
        pending.cancel()
        node.network.run()
        node.network.advance(10)  # ARTIM
        assert node.network.clock.getDelayedCalls() == []

    def test_another_address_is_not_held_up(self, node: Node) -> None:
        node.listen([anna_alone()], failures=1)
        assert node.rejected(WRONG) == (1, 2, 1)
        assert node.rejected(ANNA) == (2, 3, 1)
        asks: Any = Requesting(
            dimse.Peer("OTHER", "10.9.9.9:1"), request_of(ANNA), "10.9.9.9", encrypted=True
        )
        assert node.network.result(node.identification.identify(asks)) == VerifiedUser("anna")

    def test_success_is_not_counted(self, node: Node) -> None:
        node.listen([anna_alone()], failures=1)
        for _ in range(3):
            node.network.result(node.request(ANNA))
