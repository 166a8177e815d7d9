"""Requests and answers: what the acceptor takes, and what the requestor makes of an answer."""

from dataclasses import replace

import pytest

from dimse.errors import AbortReason, MisuseError, ProtocolError
from dimse.uids import is_uid
from dimse.ul.items import (
    PresentationContextAC,
    PresentationContextRQ,
    RoleSelection,
    SOPClassExtendedNegotiation,
)
from dimse.ul.negotiation import (
    AcceptedContext,
    Policy,
    Result,
    SupportedContext,
    is_ae_title,
    negotiate,
    propose,
    refusals,
    settle,
)
from dimse.ul.pdu import AssociateAC, AssociateRJ, AssociateRQ, UserInformation
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT, VERIFICATION

JPEG = "1.2.840.10008.1.2.4.50"
PRIVATE = "1.2.840.113619.5.2"
POLICY = Policy(
    contexts={
        VERIFICATION: SupportedContext(),
        CT_STORAGE: SupportedContext((EXPLICIT, IMPLICIT)),
    },
    maximum_length=16384,
)
USER = UserInformation(16384, "1.2.3")


def rq(*contexts: tuple[str, tuple[str, ...]], **changes: object) -> AssociateRQ:
    """A request for (abstract syntax, transfer syntaxes) with ids 1, 3, ..., changed by name."""
    items = tuple(
        PresentationContextRQ(2 * index + 1, *context) for index, context in enumerate(contexts)
    )
    request = AssociateRQ("ARCHIVE", "MODALITY", items, USER, echo=bytes(range(64)))
    return replace(request, **changes)  # type: ignore[arg-type]  # names and values of its fields


def ac(*contexts: PresentationContextAC, **changes: object) -> AssociateAC:
    return replace(AssociateAC(contexts, USER, bytes(64)), **changes)  # type: ignore[arg-type]  # as above


ECHO = (VERIFICATION, (IMPLICIT,))


def results(request: AssociateRQ, policy: Policy = POLICY) -> list[tuple[int, int, str]]:
    answer = negotiate(request, policy)
    assert isinstance(answer, AssociateAC)
    return [(each.context_id, each.result, each.transfer_syntax) for each in answer.contexts]


class TestNames:
    @pytest.mark.parametrize("text", ["1", "1.2.840", "2.25." + "1" * 59, "1.02"])
    def test_uid(self, text: str):
        assert is_uid(text)

    @pytest.mark.parametrize(
        "text",
        ["", ".", "1.", ".1", "1..2", "1.a", "1.2\n", "1.2\0", "1" * 65, "\u0661", "-1", "1 "],
    )
    def test_no_uid(self, text: str):
        assert not is_uid(text)

    @pytest.mark.parametrize("text", ["A", "0123456789ABCDEF", " a ", "../..", "%s", "~[]"])
    def test_ae_title(self, text: str):
        assert is_ae_title(text)

    @pytest.mark.parametrize(
        "text", ["", " ", " " * 16, "A" * 17, "A\\B", "A\n", "\x1b[1m", "\x7f", "\xe9", "A\0B"]
    )
    def test_no_ae_title(self, text: str):
        assert not is_ae_title(text)


class TestResults:
    def test_accepted(self):
        assert results(rq(ECHO)) == [(1, Result.ACCEPTANCE, IMPLICIT)]

    def test_preference_is_that_of_the_acceptor(self):
        assert results(rq((CT_STORAGE, (IMPLICIT, JPEG, EXPLICIT)))) == [(1, 0, EXPLICIT)]

    def test_any_transfer_syntax_takes_the_first_of_the_requestor(self):
        policy = replace(POLICY, contexts={CT_STORAGE: SupportedContext(None)})
        assert results(rq((CT_STORAGE, (JPEG, EXPLICIT))), policy) == [(1, 0, JPEG)]

    @pytest.mark.parametrize(
        ("proposed", "chosen"), [((PRIVATE, JPEG, EXPLICIT), JPEG), ((PRIVATE, "1.3.5"), PRIVATE)]
    )
    def test_any_takes_a_private_one_only_if_there_is_no_other(
        self, proposed: tuple[str, ...], chosen: str
    ):
        policy = replace(POLICY, contexts={CT_STORAGE: SupportedContext(None)})
        assert results(rq((CT_STORAGE, proposed)), policy) == [(1, 0, chosen)]

    @pytest.mark.parametrize(
        ("proposed", "chosen"),
        [((JPEG, IMPLICIT, EXPLICIT), IMPLICIT), ((JPEG, EXPLICIT), EXPLICIT), ((JPEG,), JPEG)],
    )
    def test_any_transfer_syntax_takes_a_preferred_one_first(
        self, proposed: tuple[str, ...], chosen: str
    ):
        context = SupportedContext(None, preferred=(EXPLICIT, IMPLICIT))
        policy = replace(POLICY, contexts={CT_STORAGE: context})
        assert results(rq((CT_STORAGE, proposed)), policy) == [(1, 0, chosen)]

    def test_any_transfer_syntax_has_to_be_one(self):
        policy = replace(POLICY, contexts={CT_STORAGE: SupportedContext(None)})
        request = rq((CT_STORAGE, ("../x", JPEG)), (CT_STORAGE, ("", "x")))
        assert results(request, policy) == [(1, 0, JPEG), (3, 4, IMPLICIT)]

    def test_abstract_syntax_not_supported(self):
        assert results(rq(("1.2.3", (IMPLICIT,)))) == [(1, 3, IMPLICIT)]

    def test_transfer_syntaxes_not_supported(self):
        request = rq((CT_STORAGE, (JPEG,)), (CT_STORAGE, ()))
        assert results(request) == [(1, 4, IMPLICIT), (3, 4, IMPLICIT)]

    def test_too_many_transfer_syntaxes(self):
        policy = replace(POLICY, maximum_transfer_syntaxes=2)
        request = rq((CT_STORAGE, (IMPLICIT,) * 2), (CT_STORAGE, (IMPLICIT,) * 3))
        assert results(request, policy) == [(1, 0, IMPLICIT), (3, Result.NO_REASON, IMPLICIT)]

    def test_otherwise_is_asked_about_what_is_not_listed(self):
        """Promiscuous storage, for UIDs only; what is listed keeps what was said of it."""
        asked: list[str] = []

        def otherwise(uid: str) -> SupportedContext | None:
            asked.append(uid)
            return SupportedContext(None) if uid.startswith("1.") else None

        policy = replace(POLICY, otherwise=otherwise)
        request = rq(
            ("1.9", (JPEG,)),
            ("2.9", (JPEG,)),
            ("1.x", (JPEG,)),
            ("", (JPEG,)),
            (CT_STORAGE, (JPEG,)),
        )
        assert [result for _, result, _ in results(request, policy)] == [0, 3, 3, 3, 4]
        assert asked == ["1.9", "2.9"]

    def test_128_contexts(self):
        request = rq(*[ECHO] * 128)
        assert results(request) == [(each, 0, IMPLICIT) for each in range(1, 256, 2)]
        answer = negotiate(request, POLICY)
        assert isinstance(answer, AssociateAC)
        assert len(settle(request, answer, requestor=True)) == 128

    def test_the_answer(self):
        answer = negotiate(rq(ECHO), POLICY)
        assert isinstance(answer, AssociateAC)
        assert answer.echo == bytes(range(64))
        assert answer.protocol_version == 1
        assert answer.user_information is not None
        assert answer.user_information.maximum_length == 16384


class TestRejections:
    """Each reason that we give, permanent all of them."""

    @pytest.mark.parametrize(
        ("changes", "source", "reason"),
        [
            ({"application_context_name": "1.2.3"}, 1, 2),
            ({"application_context_name": ""}, 1, 2),
            ({"calling_ae_title": ""}, 1, 3),
            ({"calling_ae_title": "A\\B"}, 1, 3),
            ({"called_ae_title": ""}, 1, 7),
            ({"called_ae_title": "\x1b"}, 1, 7),
            ({"called_ae_title": "OTHER"}, 1, 7),
            ({"contexts": ()}, 1, 1),
            ({"user_information": None}, 1, 1),
            ({"user_information": replace(USER, maximum_length=7)}, 1, 1),
        ],
    )
    def test_reason(self, changes: dict[str, object], source: int, reason: int):
        policy = replace(POLICY, ae_titles=frozenset({"ARCHIVE"}))
        assert negotiate(rq(ECHO, **changes), policy) == AssociateRJ(1, source, reason)

    def test_why_is_for_the_log_only(self):
        answer = negotiate(rq(ECHO, application_context_name="1.2.3"), POLICY)
        assert isinstance(answer, AssociateRJ)
        assert "1.2.3" in answer.why
        assert answer.encode() == bytes.fromhex("03000000000400010102")  # PS3.8 Table 9-21

    @pytest.mark.parametrize("length", [None, 0, 8, 0xFFFFFFFF])
    def test_maximum_length_that_is_taken(self, length: int | None):
        request = rq(ECHO, user_information=replace(USER, maximum_length=length))
        assert isinstance(negotiate(request, POLICY), AssociateAC)


class TestRoles:
    """What is not answered leaves the default roles; the answers are in the conformance tests."""

    def answered(self, *roles: RoleSelection, uid: str = CT_STORAGE) -> tuple[RoleSelection, ...]:
        request = rq((uid, (IMPLICIT,)), user_information=replace(USER, roles=roles))
        answer = negotiate(request, POLICY)
        assert isinstance(answer, AssociateAC)
        assert answer.user_information is not None
        return answer.user_information.roles

    def test_for_what_was_not_proposed(self):
        assert self.answered(RoleSelection(VERIFICATION, scu=True, scp=False)) == ()

    def test_for_what_is_not_supported(self):
        assert self.answered(RoleSelection("1.2.3", scu=True, scp=False), uid="1.2.3") == ()

    def test_no_role_at_all(self):
        assert self.answered(RoleSelection(CT_STORAGE, scu=False, scp=False)) == ()

    def test_a_context_in_which_nobody_may_invoke(self):
        """User rejection (PS3.8 Table 9-18), and it is of no use to settle on."""
        role = RoleSelection(CT_STORAGE, scu=False, scp=True)  # POLICY is no SCU
        request = rq((CT_STORAGE, (IMPLICIT,)), ECHO, user_information=replace(USER, roles=(role,)))
        assert [result for _, result, _ in results(request)] == [1, 0]
        answer = negotiate(request, POLICY)
        assert isinstance(answer, AssociateAC)
        assert list(settle(request, answer, requestor=True)) == [3]

    def test_twice(self):
        role = RoleSelection(CT_STORAGE, scu=True, scp=False)
        assert self.answered(role, replace(role, scp=True)) == ()


class TestPropose:
    def propose(self, *pairs: tuple[str, list[str]], called: str = "A", calling: str = "B"):
        return propose(
            pairs, called_ae_title=called, calling_ae_title=calling, maximum_length=16384
        )

    def test_ids_are_odd_and_unique(self):
        request = self.propose(*[(VERIFICATION, [IMPLICIT])] * 128)
        assert [each.context_id for each in request.contexts] == list(range(1, 256, 2))

    def test_titles_are_stripped(self):
        request = self.propose((VERIFICATION, [IMPLICIT]), called=" A ", calling="B ")
        assert (request.called_ae_title, request.calling_ae_title) == ("A", "B")

    @pytest.mark.parametrize("count", [0, 129])
    def test_number_of_contexts(self, count: int):
        with pytest.raises(MisuseError, match=str(count)):
            self.propose(*[(VERIFICATION, [IMPLICIT])] * count)

    @pytest.mark.parametrize("titles", [("", "B"), ("A", "B\\"), ("A" * 17, "B")])
    def test_titles(self, titles: tuple[str, str]):
        with pytest.raises(MisuseError, match="AE title"):
            self.propose((VERIFICATION, [IMPLICIT]), called=titles[0], calling=titles[1])

    @pytest.mark.parametrize("pair", [("x", [IMPLICIT]), (VERIFICATION, [IMPLICIT, "1..2"])])
    def test_uids(self, pair: tuple[str, list[str]]):
        with pytest.raises(MisuseError, match="no UID"):
            self.propose(pair)

    def test_no_transfer_syntax(self):
        with pytest.raises(MisuseError, match="transfer syntax"):
            self.propose((VERIFICATION, []))


REQUEST = rq(ECHO, (CT_STORAGE, (EXPLICIT, IMPLICIT)))


class TestRefusals:
    """A line for each context that cannot be used, with the reason."""

    @pytest.mark.parametrize(
        ("answers", "why"),
        [
            ((), "not answered"),
            ((PresentationContextAC(1, 1, ""),), "result 1, user rejection"),
            ((PresentationContextAC(1, 3, ""),), "result 3, abstract syntax not supported"),
            ((PresentationContextAC(1, 77, ""),), "result 77, reserved"),
            (
                (PresentationContextAC(1, 0, JPEG),),
                f"accepted with '{JPEG}', which was not proposed",
            ),
        ],
    )
    def test_why(self, answers: tuple[PresentationContextAC, ...], why: str):
        request = rq((CT_STORAGE, (EXPLICIT, IMPLICIT)))
        line = f"context 1, {CT_STORAGE} in {EXPLICIT}, {IMPLICIT}: {why}"
        assert [str(each) for each in refusals(request, ac(*answers))] == [line]

    def test_none(self):
        assert refusals(rq(ECHO), ac(PresentationContextAC(1, 0, IMPLICIT))) == []


class TestSettle:
    def test_agreed(self):
        answer = ac(PresentationContextAC(3, 0, EXPLICIT), PresentationContextAC(1, 0, IMPLICIT))
        assert settle(REQUEST, answer, requestor=True) == {
            1: AcceptedContext(1, VERIFICATION, IMPLICIT, scu=True, scp=False),
            3: AcceptedContext(3, CT_STORAGE, EXPLICIT, scu=True, scp=False),
        }

    @pytest.mark.parametrize(
        "context",
        [
            PresentationContextAC(5, 0, IMPLICIT),
            PresentationContextAC(2, 0, IMPLICIT),
            PresentationContextAC(0, 0, IMPLICIT),
            PresentationContextAC(1, 0, EXPLICIT),
            PresentationContextAC(1, 0, ""),
            *(PresentationContextAC(1, result, IMPLICIT) for result in (1, 2, 3, 4, 5, 255)),
        ],
    )
    def test_not_usable(self, context: PresentationContextAC):
        """Never proposed, another transfer syntax, refused; the others go on."""
        answer = ac(context, PresentationContextAC(3, 0, IMPLICIT))
        assert list(settle(REQUEST, answer, requestor=True)) == [3]

    @pytest.mark.parametrize("user", [None, UserInformation(), replace(USER, maximum_length=0)])
    def test_no_answers(self, user: UserInformation | None):
        assert settle(REQUEST, ac(user_information=user), requestor=True) == {}

    def test_answered_twice(self):
        answer = ac(*[PresentationContextAC(1, 0, IMPLICIT)] * 2)
        with pytest.raises(ProtocolError, match="twice") as caught:
            settle(REQUEST, answer, requestor=True)
        assert caught.value.reason == AbortReason.UNEXPECTED_PARAMETER

    def test_another_application_context(self):
        with pytest.raises(ProtocolError, match="application context"):
            settle(REQUEST, ac(application_context_name="1.2"), requestor=True)

    @pytest.mark.parametrize("length", [1, 7])
    def test_a_maximum_length_without_room(self, length: int):
        with pytest.raises(ProtocolError, match="carries no PDV"):
            settle(REQUEST, ac(user_information=UserInformation(length)), requestor=True)

    def test_a_request_without_user_information_has_no_roles(self):
        answer = ac(
            PresentationContextAC(1, 0, IMPLICIT),
            user_information=replace(
                USER, roles=(RoleSelection(VERIFICATION, scu=False, scp=True),)
            ),
        )
        request = replace(REQUEST, user_information=None)
        context = settle(request, answer, requestor=True)[1]
        assert (context.scu, context.scp) == (True, False)


@pytest.mark.parametrize(("answer", "expected"), [(None, []), (b"", [b""]), (b"\1", [b"\1"])])
def test_extended_negotiation_that_is_not_answered(answer: bytes | None, expected: list[bytes]):
    """An acceptor may leave it out (PS3.7 D.3.3.5.2); the context stays accepted."""
    supported = SupportedContext((IMPLICIT,), extended=lambda information: answer)
    request = replace(
        REQUEST,
        user_information=replace(
            USER, extended=(SOPClassExtendedNegotiation(VERIFICATION, b"\1\1"),)
        ),
    )
    policy = Policy(contexts={VERIFICATION: supported}, maximum_length=16384)
    answered = negotiate(request, policy)
    assert isinstance(answered, AssociateAC)
    assert answered.user_information is not None
    found = [each.information for each in answered.user_information.extended]
    assert found == expected
    assert answered.contexts[0].result == Result.ACCEPTANCE
