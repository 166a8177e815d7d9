"""negotiation_rules.csv: each rule has a test here, or a reason why its test is elsewhere."""

import re
from dataclasses import replace

import pytest

from dimse.errors import ProtocolError
from dimse.ul.items import (
    AsynchronousOperationsWindow,
    PresentationContextAC,
    PresentationContextRQ,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityRQ,
)
from dimse.ul.negotiation import Policy, SupportedContext, negotiate, propose, settle
from dimse.ul.pdu import (
    PDV,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    UserInformation,
    check_length,
)
from dimse.ul.pdv import MessageReader, fragment_length
from dimse.ul.table import TABLE, Action, Evt, Sta
from tests.tables import Row, rows
from tests.wire import (
    APPLICATION,
    APPLICATION_CONTEXT,
    CLASS_UID,
    CONTEXT,
    CT_STORAGE,
    EXPLICIT,
    IMPLICIT,
    MAXIMUM,
    USER,
    VERIFICATION,
    item,
    receive_request,
    request,
    with_user,
)

RULES = rows("negotiation_rules")

ELSEWHERE = {
    "user identity not answered": "nothing of ours asks for a positive response",
    "one connection": "the connection belongs to the protocol, with its tests",
    "release": "what ends an association, and when, is of the association",
    "abort effect": "outstanding operations are of the association",
    "outstanding message IDs": "message ids are given by the association",
    "early failed response": "a service answers early, so it is of the storage service",
    "ARTIM use": "test_fsm holds every action against its column artim",
    "transport close": "a socket option of the protocol",
}

POLICY = Policy(
    contexts={
        VERIFICATION: SupportedContext(),
        CT_STORAGE: SupportedContext((EXPLICIT, IMPLICIT), scp=True, scu=True),
    },
    maximum_length=65536,
)
REQUEST = receive_request(request())


def with_information(**changes: object) -> AssociateRQ:
    """A request for CT storage whose user information is changed."""
    user = replace(UserInformation(16384, "1.2.3"), **changes)  # type: ignore[arg-type]  # by name
    context = PresentationContextRQ(1, CT_STORAGE, (IMPLICIT,))
    return AssociateRQ("ARCHIVE", "MODALITY", (context,), user)


def accepted(rq: AssociateRQ, policy: Policy = POLICY) -> AssociateAC:
    answer = negotiate(rq, policy)
    assert isinstance(answer, AssociateAC)
    return answer


def information(pdu: AssociateRQ | AssociateAC) -> UserInformation:
    assert pdu.user_information is not None
    return pdu.user_information


def name_of(topic: str) -> str:
    return "test_" + re.sub(r"\W+", "_", topic).lower()


@pytest.mark.parametrize("row", RULES, ids=lambda row: row["topic"])
def test_every_rule_is_somewhere(row: Row):
    assert (row["topic"] in ELSEWHERE) != (name_of(row["topic"]) in globals())


def test_application_context():
    """Exactly one is proposed; another one in the answer cannot be used."""
    assert REQUEST.application_context_name == APPLICATION_CONTEXT
    assert accepted(REQUEST).application_context_name == APPLICATION_CONTEXT
    for names in ((), (APPLICATION, APPLICATION)):
        with pytest.raises(ProtocolError):
            receive_request(request(*names, CONTEXT, USER))
    with pytest.raises(ProtocolError):
        settle(REQUEST, replace(accepted(REQUEST), application_context_name="1.2"), requestor=True)


def test_item_order():
    """Sent in increasing type, also inside the user information; taken in any."""
    full = replace(
        REQUEST,
        user_information=UserInformation(
            1024,
            "1.2",
            "NAME",
            AsynchronousOperationsWindow(1, 1),
            (RoleSelection(VERIFICATION, scu=True, scp=False),),
            (SOPClassExtendedNegotiation(VERIFICATION, b"\1"),),
            (SOPClassCommonExtendedNegotiation(VERIFICATION, "1.2"),),
            UserIdentityRQ(1, b"user"),
        ),
    )
    items = types_in(full.encode()[74:])
    assert [kind for kind, _ in items] == [0x10, 0x20, 0x50]
    assert [kind for kind, _ in types_in(items[2][1])] == [*range(0x51, 0x59)]
    assert receive_request(request(USER, CONTEXT, APPLICATION)) == REQUEST
    assert receive_request(with_user(CLASS_UID, MAXIMUM)) == REQUEST


def types_in(window: bytes) -> list[tuple[int, bytes]]:
    """(type, body) of the items in `window`."""
    found = []
    while window:
        end = 4 + int.from_bytes(window[2:4], "big")
        found.append((window[0], window[4:end]))
        window = window[end:]
    return found


def test_unknown_items():
    unknown = item(0x7F, b"whatever")
    assert receive_request(request(APPLICATION, unknown, CONTEXT, USER, unknown)) == REQUEST
    assert receive_request(with_user(unknown, MAXIMUM, CLASS_UID)) == REQUEST


def test_byte_order():
    """Lengths and numbers are big endian; the bytes of fragments are left alone."""
    wire = PDataTF((PDV(1, 0, b"\1\2\3\4"),)).encode()
    assert wire == bytes.fromhex("04 00 0000000a 00000006 01 00 01020304")
    assert MAXIMUM.endswith((16384).to_bytes(4, "big"))
    assert information(REQUEST).maximum_length == 16384


def test_presentation_contexts():
    """Each is answered, in the order of the request, with a result and one transfer syntax."""
    pairs = [(VERIFICATION, [EXPLICIT]), (CT_STORAGE, [IMPLICIT, EXPLICIT]), ("1.2.3", [IMPLICIT])]
    rq = propose(pairs, called_ae_title="A", calling_ae_title="B", maximum_length=16384)
    assert [context.context_id for context in rq.contexts] == [1, 3, 5]
    assert accepted(rq).contexts == (
        PresentationContextAC(1, 4, IMPLICIT),
        PresentationContextAC(3, 0, EXPLICIT),
        PresentationContextAC(5, 3, IMPLICIT),
    )


def test_repeated_abstract_syntax():
    pairs = [(CT_STORAGE, [IMPLICIT]), (CT_STORAGE, [EXPLICIT])]
    rq = propose(pairs, called_ae_title="A", calling_ae_title="B", maximum_length=16384)
    contexts = settle(rq, accepted(rq), requestor=True)
    assert {key: context.transfer_syntax for key, context in contexts.items()} == {
        1: IMPLICIT,
        3: EXPLICIT,
    }


def test_maximum_length():
    """Ours goes out whatever the peer's is; it counts all of a P-DATA-TF but its 6 bytes."""
    assert information(accepted(REQUEST)).maximum_length == POLICY.maximum_length
    assert information(REQUEST).maximum_length == 16384
    check_length(4, 65536, associate=1024, p_data=65536)
    with pytest.raises(ProtocolError):
        check_length(4, 65537, associate=1024, p_data=65536)
    for maximum in (16384, 16385):
        longest = PDataTF((PDV(1, 0, bytes(fragment_length(maximum))),)).encode()
        assert len(longest) - 6 == 16384  # the fragment is of even length too


def test_implementation_identification():
    rq = propose(
        [(VERIFICATION, [IMPLICIT])],
        called_ae_title="A",
        calling_ae_title="B",
        maximum_length=16384,
    )
    for pdu in (rq, accepted(REQUEST)):
        assert re.fullmatch(r"[0-9.]{1,64}", information(pdu).implementation_class_uid)
        assert 1 <= len(information(pdu).implementation_version_name) <= 16


def test_asynchronous_window_default():
    """No item says 1, 1."""
    rq = propose(
        [(VERIFICATION, [IMPLICIT])],
        called_ae_title="A",
        calling_ae_title="B",
        maximum_length=16384,
    )
    assert information(rq).window is None


@pytest.mark.parametrize("offer", [(1, 1), (0, 0), (65535, 65535), (1, 0), (3, 7)])
def test_asynchronous_window_answer(offer: tuple[int, int]):
    """Lowered, never raised; 0 is unlimited. Without an offer there is no answer."""
    answer = information(accepted(with_information(window=AsynchronousOperationsWindow(*offer))))
    assert answer.window is not None
    given = (answer.window.invoked, answer.window.performed)
    for offered, answered in zip(offer, given, strict=True):
        assert 1 <= answered <= (offered or 65535)
    assert information(accepted(with_information())).window is None


def roles(
    offered: tuple[RoleSelection, ...], answered: tuple[RoleSelection, ...], *, requestor: bool
) -> tuple[bool, bool]:
    """The (SCU, SCP) roles of one side."""
    rq = with_information(roles=offered)
    ac = AssociateAC(
        (PresentationContextAC(1, 0, IMPLICIT),), UserInformation(roles=answered), bytes(64)
    )
    context = settle(rq, ac, requestor=requestor)[1]
    return context.scu, context.scp


def test_role_default():
    both = (RoleSelection(CT_STORAGE, scu=True, scp=True),)
    for offered, answered in (((), ()), (both, ()), ((), both)):
        assert roles(offered, answered, requestor=True) == (True, False)
        assert roles(offered, answered, requestor=False) == (False, True)


@pytest.mark.parametrize("offered", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("supported", [(True, True), (True, False), (False, True), (False, False)])
def test_role_answer(offered: tuple[bool, bool], supported: tuple[bool, bool]):
    """Never 1 for a role offered as 0; both sides then know the same roles."""
    policy = replace(
        POLICY,
        contexts={CT_STORAGE: SupportedContext(scp=supported[0], scu=supported[1])},
    )
    rq = with_information(roles=(RoleSelection(CT_STORAGE, *offered),))
    ac = accepted(rq, policy)
    agreed = (offered[0] and supported[0], offered[1] and supported[1])
    assert information(ac).roles == (RoleSelection(CT_STORAGE, *agreed),)
    assert ac.contexts[0].result == (0 if any(agreed) else 1)  # user-rejection (PS3.8 9.3.3.2)
    if any(agreed):
        ours, theirs = (settle(rq, ac, requestor=side)[1] for side in (True, False))
        assert (ours.scu, ours.scp) == agreed == (theirs.scp, theirs.scu)
    # A requestor ignores what it did not offer.
    everything = (RoleSelection(CT_STORAGE, scu=True, scp=True),)
    assert roles((RoleSelection(CT_STORAGE, *offered),), everything, requestor=True) == offered


def test_role_items():
    """One for each SOP class; none in the answer when there was none in the request."""
    assert information(accepted(with_information())).roles == ()
    role = RoleSelection(CT_STORAGE, scu=True, scp=True)
    assert information(accepted(with_information(roles=(role,)))).roles == (role,)
    assert information(accepted(with_information(roles=(role, role)))).roles == ()


def test_extended_negotiation():
    """Not in the answer when the request had none; and it may be left unanswered."""
    assert information(accepted(with_information())).extended == ()
    offer = (SOPClassExtendedNegotiation(CT_STORAGE, b"\1"),)
    assert information(accepted(with_information(extended=offer))).extended == ()


def test_common_extended_negotiation():
    offer = (SOPClassCommonExtendedNegotiation(CT_STORAGE, "1.2.840.10008.4.2"),)
    assert information(accepted(with_information(common_extended=offer))).common_extended == ()


def test_user_identity():
    """It may be ignored: then 59H is not returned, for nothing was authenticated."""
    for requested in (True, False):
        identity = UserIdentityRQ(1, b"user", response_requested=requested)
        answer = accepted(with_information(user_identity=identity))
        assert information(answer).user_identity_response is None


@pytest.mark.parametrize("identity_type", range(256))
def test_user_identity_rejection(identity_type: int):
    """A type that user_identity_types.csv does not have cannot be authorized."""
    known = {int(row["value"]) for row in rows("user_identity_types")}
    answer = negotiate(with_information(user_identity=UserIdentityRQ(identity_type, b"")), POLICY)
    if identity_type in known:
        assert isinstance(answer, AssociateAC)
    else:
        assert isinstance(answer, AssociateRJ)
        assert (answer.result, answer.source) == (1, 2)


def test_called_ae_title():
    policy = replace(POLICY, ae_titles=frozenset({"ARCHIVE"}))
    assert isinstance(negotiate(REQUEST, policy), AssociateAC)
    unknown = replace(REQUEST, called_ae_title="archive")
    assert negotiate(unknown, policy) == AssociateRJ(1, 1, 7)
    assert isinstance(negotiate(unknown, POLICY), AssociateAC)


def test_release_primitives():
    """Nothing but an abort may be asked for in Sta7; in Sta8 data may still be sent."""
    local = {Evt.Evt1, Evt.Evt7, Evt.Evt8, Evt.Evt9, Evt.Evt11, Evt.Evt14, Evt.Evt15}
    assert {event for event in local if (event, Sta.Sta7) in TABLE} == {Evt.Evt15}
    assert TABLE[Evt.Evt9, Sta.Sta8] == (Action.AR_7, (Sta.Sta8,))


def test_release_collision():
    """The requestor answers first (AR-9), the acceptor hears it (AR-10) and answers (AR-4)."""
    steps = [(Evt.Evt14, Sta.Sta9), (Evt.Evt13, Sta.Sta10), (Evt.Evt14, Sta.Sta12)]
    steps.append((Evt.Evt13, Sta.Sta11))
    actions = [TABLE[step][0] for step in steps]
    assert actions == [Action.AR_9, Action.AR_10, Action.AR_4, Action.AR_3]


def test_fragmentation():
    """What we send is of even length, but for a data set of odd length, which is not ours."""
    for length in range(12, 40):
        assert fragment_length(length) % 2 == 0
        assert fragment_length(length) <= length - 6


class _Messages:
    """The user of a MessageReader: every command announces a data set."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = 0

    def command_received(self, context_id: int, command: bytes) -> bool:
        return True

    def data_received(self, fragment: memoryview) -> None:
        self.data += fragment

    def data_ended(self) -> None:
        self.ended += 1


def read(*pdvs: tuple[int, bytes]) -> _Messages:
    """PDVs as (message control header, fragment), all in one P-DATA-TF."""
    user = _Messages()
    reader = MessageReader(user, {1}, command_length=99, data_length=99, empty_fragments=4)
    reader.receive(PDataTF(tuple(PDV(1, *pdv) for pdv in pdvs)))
    return user


def test_consecutive_fragments():
    assert read((1, b"co"), (3, b"mm"), (0, b"da"), (2, b"ta")).data == b"data"


def test_empty_fragments():
    """Taken, as the receiver is advised to; that a flood of them is not is H-F03."""
    user = read((3, b"comm"), (0, b""), (0, b"data"), (0, b""), (2, b""))
    assert (user.data, user.ended) == (b"data", 1)


def test_command_and_data_in_one_pdu():
    user = read((3, b"comm"), (2, b"data"))
    assert (user.data, user.ended) == (b"data", 1)
