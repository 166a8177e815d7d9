"""What came out of a negotiation, in words, for both sides."""

from dataclasses import replace
from typing import Any

import pytest

from dimse.errors import ProtocolError
from dimse.ul.explanation import explain, omissions
from dimse.ul.identity import username_and_passcode
from dimse.ul.items import (
    AsynchronousOperationsWindow,
    PresentationContextAC,
    PresentationContextRQ,
    RoleSelection,
    SOPClassExtendedNegotiation,
    UserIdentityAC,
)
from dimse.ul.negotiation import SupportedContext
from dimse.ul.pdu import AssociateAC, AssociateRQ, UserInformation
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT, VERIFICATION

JPEG_2000 = "1.2.840.10008.1.2.4.90"
JPEG_2000_NAME = "JPEG 2000 Image Compression (Lossless Only)"
FIND = "1.2.840.10008.5.1.4.1.2.1.1"
FIND_NAME = "Patient Root Query/Retrieve Information Model - FIND"
GET = "1.2.840.10008.5.1.4.1.2.1.3"
HOSTILE = "\x1b[2J\n" + "x" * 1000
CONTEXTS = (
    PresentationContextRQ(1, VERIFICATION, (IMPLICIT,)),
    PresentationContextRQ(3, CT_STORAGE, (EXPLICIT, IMPLICIT)),
    PresentationContextRQ(5, CT_STORAGE, (JPEG_2000,)),
    PresentationContextRQ(7, FIND, (IMPLICIT,)),
)
ACCEPTED = tuple(PresentationContextAC(each.context_id, 0, EXPLICIT) for each in CONTEXTS[1:2])


def both(
    proposed: tuple[PresentationContextRQ, ...],
    answered: tuple[PresentationContextAC, ...],
    request: dict[str, Any] | None = None,
    answer: dict[str, Any] | None = None,
) -> tuple[list[str], list[str]]:
    """The words of the requestor and of the acceptor; what is added is user information."""
    rq = AssociateRQ("A", "B", proposed, UserInformation(16384, "1.2", **(request or {})))
    ac = AssociateAC(answered, UserInformation(0, "1.3", **(answer or {})), bytes(64))
    return explain(rq, ac), explain(rq, ac, requestor=False)


@pytest.mark.parametrize(
    ("also", "roles", "said"),
    [
        (GET, (), 1),
        (GET, (RoleSelection(CT_STORAGE, False, True),), 0),
        (FIND, (), 0),
    ],
)
def test_who_retrieves_and_cannot_get_instances_is_told_of_roles(
    also: str, roles: tuple[RoleSelection, ...], said: int
):
    """Not who stores, at an acceptor that lets it retrieve alone."""
    contexts = (*CONTEXTS[:2], PresentationContextRQ(9, also, (IMPLICIT,)))
    rq = AssociateRQ("A", "B", contexts, UserInformation(16384, "1.2", roles=roles))
    supported = {CT_STORAGE: SupportedContext(scp=False, scu=True)}
    ac = AssociateAC((), UserInformation(0, "1.3"), bytes(64))
    told = list(omissions(rq, ac, supported))
    assert len(told) == said
    assert all("did not propose to be its SCP" in line for line in told)


class TestContexts:
    @pytest.mark.parametrize(
        ("answered", "requestor", "acceptor"),
        [
            pytest.param(
                (1, 0, IMPLICIT),
                "context 1, Verification SOP Class: accepted with Implicit VR Little Endian; "
                "we are SCU",
                "context 1, Verification SOP Class: accepted with Implicit VR Little Endian; "
                "we are SCP",
                id="accepted",
            ),
            pytest.param(
                (1, 1, IMPLICIT),
                "context 1, Verification SOP Class: rejected by the peer, user rejection",
                "context 1, Verification SOP Class: rejected by us, user rejection",
                id="user rejection",
            ),
            pytest.param(
                (1, 2, ""),
                "context 1, Verification SOP Class: rejected by the peer, no reason",
                "context 1, Verification SOP Class: rejected by us, no reason",
                id="no reason",
            ),
            pytest.param(
                (1, 3, ""),
                "context 1, Verification SOP Class: rejected by the peer, abstract syntax not "
                "supported",
                "context 1, Verification SOP Class: rejected by us, abstract syntax not supported",
                id="abstract syntax",
            ),
            pytest.param(
                (1, 77, ""),
                "context 1, Verification SOP Class: rejected by the peer, result 77, reserved",
                "context 1, Verification SOP Class: rejected by us, result 77, reserved",
                id="reserved",
            ),
            pytest.param(
                (3, 4, ""),
                "context 3, CT Image Storage: rejected, the peer took none of Explicit VR Little "
                "Endian, Implicit VR Little Endian",
                "context 3, CT Image Storage: rejected, we took none of Explicit VR Little "
                "Endian, Implicit VR Little Endian",
                id="transfer syntaxes",
            ),
            pytest.param(
                (1, 0, EXPLICIT),
                "context 1, Verification SOP Class: not usable, the peer took Explicit VR Little "
                "Endian, which was not proposed",
                "context 1, Verification SOP Class: not usable, we took Explicit VR Little Endian, "
                "which was not proposed",
                id="another transfer syntax",
            ),
        ],
    )
    def test_answer(self, answered: tuple[int, int, str], requestor: str, acceptor: str):
        proposed = tuple(each for each in CONTEXTS if each.context_id == answered[0])
        ours, theirs = both(proposed, (PresentationContextAC(*answered),))
        assert (ours[0], theirs[0]) == (requestor, acceptor)

    def test_no_answer(self):
        ours, theirs = both(CONTEXTS[:1], ())
        assert ours[0] == "context 1, Verification SOP Class: not answered by the peer"
        assert theirs[0] == "context 1, Verification SOP Class: not answered by us"

    def test_what_was_taken_instead(self):
        """In contexts of the same abstract syntax, and only those that were accepted."""
        answered = (
            PresentationContextAC(1, 0, IMPLICIT),
            PresentationContextAC(3, 0, EXPLICIT),
            PresentationContextAC(5, 4),
            PresentationContextAC(7, 4),
        )
        ours, theirs = both(CONTEXTS, answered)
        start = "context 5, CT Image Storage: rejected, "
        end = " took Explicit VR Little Endian in context 3"
        assert ours[2] == f"{start}the peer took none of {JPEG_2000_NAME}; it{end}"
        assert theirs[2] == f"{start}we took none of {JPEG_2000_NAME}; we{end}"
        assert ours[3].endswith("took none of Implicit VR Little Endian")

    def test_a_context_without_transfer_syntax(self):
        proposed = (PresentationContextRQ(1, CT_STORAGE, ()),)
        ours, _ = both(proposed, (PresentationContextAC(1, 4),))
        assert ours[0].endswith("rejected by the peer, transfer syntaxes not supported")

    def test_each_in_the_order_of_the_request(self):
        answered = tuple(PresentationContextAC(number, 3) for number in (7, 3, 5, 1))
        for lines in both(CONTEXTS, answered):
            assert [line.split(",")[0] for line in lines[:-1]] == [
                "context 1",
                "context 3",
                "context 5",
                "context 7",
            ]

    def test_one_that_was_not_proposed(self):
        ours, theirs = both(CONTEXTS[1:2], (*ACCEPTED, PresentationContextAC(9, 0, IMPLICIT)))
        assert ours[1] == "context 9: answered by the peer, but not proposed"
        assert theirs[1] == "context 9: answered by us, but not proposed"

    def test_an_unknown_uid_stands_for_itself(self):
        ours, _ = both(
            (PresentationContextRQ(1, "1.2.3", ("1.2.4",)),), (PresentationContextAC(1, 4),)
        )
        assert ours[0] == "context 1, 1.2.3: rejected, the peer took none of 1.2.4"

    @pytest.mark.parametrize("uid", [HOSTILE, "", "\xe9"], ids=["long", "empty", "latin"])
    def test_what_is_no_uid_is_fit_for_a_log(self, uid: str):
        """Wherever a peer may have put it, on either side."""
        proposed = (
            PresentationContextRQ(1, uid, (IMPLICIT,)),
            PresentationContextRQ(3, VERIFICATION, (uid + "a",)),
            PresentationContextRQ(5, VERIFICATION, (IMPLICIT,)),
        )
        answered = (
            PresentationContextAC(1, 0, IMPLICIT),
            PresentationContextAC(3, 4),
            PresentationContextAC(5, 0, uid),
        )
        user = {
            "roles": (RoleSelection(uid, scu=True, scp=True),),
            "extended": (SOPClassExtendedNegotiation(uid, b"\1"),),
        }
        for lines in both(proposed, answered, user):
            assert len(lines) == 6
            for line in lines[:-1]:
                assert "'" in line
                assert line.isascii()
                assert line.isprintable()
                assert len(line) < 300

    def test_an_answer_that_makes_no_association(self):
        with pytest.raises(ProtocolError):
            both(CONTEXTS[1:2], ACCEPTED * 2)


class TestRoles:
    @pytest.mark.parametrize(
        ("offered", "agreed", "requestor", "acceptor"),
        [
            ((True, True), (True, False), "the peer declined us as SCP", "we declined the peer as "
             "SCP"),
            ((True, True), (False, True), "the peer declined us as SCU", "we declined the peer as "
             "SCU"),
            ((False, True), (True, False), "the peer declined us as SCP", "we declined the peer "
             "as SCP"),
            ((True, True), (False, False), "the peer declined us as SCU and as SCP",
             "we declined the peer as SCU and as SCP"),
        ],
    )  # fmt: skip
    def test_declined(
        self,
        offered: tuple[bool, bool],
        agreed: tuple[bool, bool],
        requestor: str,
        acceptor: str,
    ):
        ours, theirs = both(
            CONTEXTS[1:2],
            ACCEPTED,
            {"roles": (RoleSelection(CT_STORAGE, *offered),)},
            {"roles": (RoleSelection(CT_STORAGE, *agreed),)},
        )
        assert ours[1:-1] == [f"roles, CT Image Storage: {requestor}"]
        assert theirs[1:-1] == [f"roles, CT Image Storage: {acceptor}"]

    @pytest.mark.parametrize(
        ("agreed", "requestor", "acceptor"),
        [
            ((True, True), "SCU and SCP", "SCU and SCP"),
            ((False, True), "SCP", "SCU"),
            ((False, False), "neither SCU nor SCP", "neither SCU nor SCP"),
        ],
    )
    def test_of_a_context(self, agreed: tuple[bool, bool], requestor: str, acceptor: str):
        ours, theirs = both(
            CONTEXTS[1:2],
            ACCEPTED,
            {"roles": (RoleSelection(CT_STORAGE, scu=True, scp=True),)},
            {"roles": (RoleSelection(CT_STORAGE, *agreed),)},
        )
        assert ours[0].endswith(f"; we are {requestor}")
        assert theirs[0].endswith(f"; we are {acceptor}")

    @pytest.mark.parametrize("offered", [(True, True), (False, True)])
    def test_not_answered(self, offered: tuple[bool, bool]):
        ours, theirs = both(
            CONTEXTS[1:2], ACCEPTED, {"roles": (RoleSelection(CT_STORAGE, *offered),)}
        )
        start, end = "roles, CT Image Storage: not answered by", "the requestor is SCU"
        assert ours[1] == f"{start} the peer, {end} (PS3.7 D.3.3.4)"
        assert theirs[1] == f"{start} us, {end} (PS3.7 D.3.3.4)"

    def test_nothing_is_said_of_what_came_as_proposed(self):
        default = RoleSelection(CT_STORAGE, scu=True, scp=False)
        everything = RoleSelection(CT_STORAGE, scu=True, scp=True)
        for offered, answered in (
            ((default,), ()),
            ((default,), (everything,)),
            ((everything,), (everything,)),
            ((), (default,)),
        ):
            for lines in both(CONTEXTS[1:2], ACCEPTED, {"roles": offered}, {"roles": answered}):
                assert len(lines) == 2

    def test_nothing_is_said_of_a_sop_class_that_was_not_accepted(self):
        roles = (RoleSelection(FIND, scu=True, scp=True),)
        extended = (SOPClassExtendedNegotiation(FIND, b"\1"),)
        user = {"roles": roles, "extended": extended}
        for lines in both(CONTEXTS[3:], (PresentationContextAC(7, 3),), user):
            assert len(lines) == 2


class TestExtended:
    PROPOSED = CONTEXTS[3:]
    ACCEPTED = (PresentationContextAC(7, 0, IMPLICIT),)

    def lines(
        self, offered: bytes, *answered: SOPClassExtendedNegotiation
    ) -> tuple[list[str], list[str]]:
        offer = (SOPClassExtendedNegotiation(FIND, offered),)
        ours, theirs = both(
            self.PROPOSED, self.ACCEPTED, {"extended": offer}, {"extended": answered}
        )
        return ours[1:-1], theirs[1:-1]

    def test_declined(self):
        ours, theirs = self.lines(b"\1\1", SOPClassExtendedNegotiation(FIND, b"\1\0"))
        assert ours == [f"extended negotiation, {FIND_NAME}: the peer answered 01 00 to 01 01"]
        assert theirs == [f"extended negotiation, {FIND_NAME}: we answered 01 00 to 01 01"]

    def test_not_answered(self):
        other = SOPClassExtendedNegotiation(VERIFICATION, b"\1")
        ours, theirs = self.lines(b"\1\1", other)
        assert ours == [f"extended negotiation, {FIND_NAME}: not answered by the peer"]
        assert theirs == [f"extended negotiation, {FIND_NAME}: not answered by us"]

    def test_agreed(self):
        assert self.lines(b"\1\1", SOPClassExtendedNegotiation(FIND, b"\1\1")) == ([], [])

    def test_long_information_is_cut(self):
        ours, _ = self.lines(b"", SOPClassExtendedNegotiation(FIND, bytes(60000)))
        assert ours[0].endswith(f" answered {bytes(16).hex(' ')}... to nothing")


class TestWindow:
    @pytest.mark.parametrize(
        ("offered", "answered", "requestor", "acceptor"),
        [
            ((4, 2), (3, 1), "invoke 3 and perform 1", "invoke 1 and perform 3"),
            ((0, 1), (0, 1), "invoke any number and perform 1", "invoke 1 and perform any number"),
            ((2, 2), (9, 9), "invoke 2 and perform 2", "invoke 2 and perform 2"),
        ],
    )
    def test_agreed(
        self,
        offered: tuple[int, int],
        answered: tuple[int, int],
        requestor: str,
        acceptor: str,
    ):
        ours, theirs = both(
            CONTEXTS[1:2],
            ACCEPTED,
            {"window": AsynchronousOperationsWindow(*offered)},
            {"window": AsynchronousOperationsWindow(*answered)},
        )
        assert ours[1] == f"asynchronous operations window: we {requestor} at a time"
        assert theirs[1] == f"asynchronous operations window: we {acceptor} at a time"

    def test_not_answered(self):
        window = {"window": AsynchronousOperationsWindow(4, 4)}
        start = "asynchronous operations window: we invoke 1 and perform 1 at a time, "
        ours, theirs = both(CONTEXTS[1:2], ACCEPTED, window)
        assert ours[1] == f"{start}not answered by the peer"
        assert theirs[1] == f"{start}not answered by us"

    def test_not_proposed(self):
        window = {"window": AsynchronousOperationsWindow(4, 4)}
        for lines in both(CONTEXTS[1:2], ACCEPTED, {}, window):
            assert len(lines) == 2


class TestUserIdentity:
    def test_no_response(self):
        identity = username_and_passcode("somebody", "secret", response=True)
        ours, theirs = both(CONTEXTS[1:2], ACCEPTED, {"user_identity": identity})
        start = "user identity: a response was asked for, and not given by"
        assert ours[1:-1] == [f"{start} the peer"]
        assert theirs[1:-1] == [f"{start} us"]

    @pytest.mark.parametrize("response", [True, False])
    def test_nothing_to_say(self, response: bool):
        identity = username_and_passcode("somebody", "secret", response=response)
        answer = {"user_identity_response": UserIdentityAC(b"secret")} if response else {}
        for lines in both(CONTEXTS[1:2], ACCEPTED, {"user_identity": identity}, answer):
            assert len(lines) == 2
            assert not any("secret" in line for line in lines)


class TestMaximumLength:
    def test_of_both_sides(self):
        ours, theirs = both(CONTEXTS[1:2], ACCEPTED)
        start = "maximum length of P-DATA-TF:"
        assert ours[-1] == f"{start} 16384 bytes to us, no limit to the peer"
        assert theirs[-1] == f"{start} no limit to us, 16384 bytes to the peer"

    def test_not_stated(self):
        request = AssociateRQ("A", "B", CONTEXTS[1:2], UserInformation(1024, "1.2"))
        answer = AssociateAC(ACCEPTED, None, bytes(64))
        assert explain(request, answer)[-1].endswith(" 1024 bytes to us, not stated to the peer")
        unstated = replace(answer, user_information=UserInformation())
        assert explain(request, unstated) == explain(request, answer)
