"""Hostile A-ASSOCIATE-RQ and -AC, case by case, as far as decoding and negotiation decide them.

Where a case leaves a choice, the test says which one is ours.
"""

from dataclasses import replace

import pytest

from dimse.errors import AbortReason, ProtocolError
from dimse.ul.machine import Machine
from dimse.ul.negotiation import Policy, Result, SupportedContext, negotiate, settle
from dimse.ul.pdu import (
    AssociateAC,
    AssociateRJ,
)
from dimse.ul.table import Evt, Sta
from tests.provider import RecordingProvider
from tests.wire import (
    APPLICATION,
    APPLICATION_CONTEXT,
    CLASS_UID,
    CONTEXT,
    CT_STORAGE,
    EXPLICIT,
    IMPLICIT,
    LIMITS,
    MAXIMUM,
    USER,
    VERIFICATION,
    answer,
    context,
    item,
    receive,
    receive_request,
    refused,
    request,
    syntaxes,
    uid_item,
    with_contexts,
    with_user,
)

POLICY = Policy(
    contexts={VERIFICATION: SupportedContext(), CT_STORAGE: SupportedContext()},
    maximum_length=LIMITS.maximum_length,
    ae_titles=frozenset({"ARCHIVE"}),
    maximum_transfer_syntaxes=LIMITS.transfer_syntaxes,
)


def answered(wire: bytes) -> AssociateAC | AssociateRJ:
    """What the acceptor answers."""
    return negotiate(receive_request(wire), POLICY)


def accepted(wire: bytes) -> AssociateAC:
    reply = answered(wire)
    assert isinstance(reply, AssociateAC)
    return reply


def results(wire: bytes) -> list[int]:
    return [context.result for context in accepted(wire).contexts]


@pytest.mark.parametrize(
    ("version", "taken"),
    [(0, False), (2, False), (0xFFFE, False), (1, True), (3, True), (0xFFFF, True)],
)
def test_h_p13_protocol_version(version: int, taken: bool):
    """Bit 0 alone; the machine answers RJ(1,2,2)."""
    decoded = receive_request(request(version=version))
    provider = RecordingProvider()
    machine = Machine(provider, requestor=False)
    machine.handle(Evt.Evt5)
    machine.handle(Evt.Evt6, decoded)
    if taken:
        assert machine.state is Sta.Sta3
        assert isinstance(negotiate(decoded, POLICY), AssociateAC)
    else:
        assert machine.state is Sta.Sta13
        assert provider.sent == [AssociateRJ(1, 2, 2).encode()]


@pytest.mark.parametrize("names", [(), (APPLICATION, APPLICATION)])
def test_h_p14_application_context_absent_or_twice(names: tuple[bytes, ...]):
    with pytest.raises(ProtocolError):
        receive(request(*names, CONTEXT, USER))


@pytest.mark.parametrize("name", ["", "1.2.3", APPLICATION_CONTEXT + ".1"])
def test_h_p14_application_context_wrong(name: str):
    assert answered(request(uid_item(0x10, name), CONTEXT, USER)) == AssociateRJ(1, 1, 2)


def test_h_p15_no_context():
    assert answered(request(APPLICATION, USER)) == AssociateRJ(1, 1, 1)


def test_h_p16_128_contexts():
    good = syntaxes(VERIFICATION.encode(), IMPLICIT.encode())
    wire = with_contexts(*(context(each, good) for each in range(1, 256, 2)))
    assert results(wire) == [0] * 128


@pytest.mark.parametrize("count", [129, 1000])
def test_h_p17_more_than_128_contexts(count: int):
    good = syntaxes(VERIFICATION.encode(), IMPLICIT.encode())
    refused(with_contexts(*(context((2 * each + 1) % 256, good) for each in range(count))))


def test_h_p18_duplicate_context_id():
    other = context(1, syntaxes(CT_STORAGE.encode(), IMPLICIT.encode()))
    refused(with_contexts(CONTEXT, other))


@pytest.mark.parametrize("context_id", [0, 2, 254])
def test_h_p19_even_id(context_id: int):
    good = syntaxes(VERIFICATION.encode(), IMPLICIT.encode())
    refused(with_contexts(CONTEXT, context(context_id, good)))


@pytest.mark.parametrize("count", [0, 2])
def test_h_p20_abstract_syntaxes(count: int):
    """Ours: refused, as the item itself is broken."""
    sub_items = uid_item(0x30, VERIFICATION) * count + uid_item(0x40, IMPLICIT)
    refused(with_contexts(context(1, sub_items)))


def test_h_p20_no_transfer_syntax():
    """Ours: result 4, and the others go on."""
    wire = with_contexts(context(3, syntaxes(VERIFICATION.encode())), CONTEXT)
    assert results(wire) == [Result.TRANSFER_SYNTAXES_NOT_SUPPORTED, Result.ACCEPTANCE]


def test_h_p21_1000_transfer_syntaxes():
    """Ours: result 2 above the limit of 64, whatever is among them."""
    for count, result in ((64, Result.ACCEPTANCE), (65, Result.NO_REASON), (1000, 2)):
        wire = with_contexts(
            context(3, syntaxes(VERIFICATION.encode(), *[IMPLICIT.encode()] * count))
        )
        assert results(wire) == [result]


BAD_UIDS = [b"", b"1" * 65, b"1" * 65000, b"\xe9.1", b"1.2\x00.3", b"../../x", b"1.2\n"]


@pytest.mark.parametrize("uid", BAD_UIDS, ids=lambda uid: f"{uid[:7]!r}{len(uid)}")
class TestHP21BadUIDs:
    """Refused for that context alone, also by an acceptor that takes any storage."""

    PROMISCUOUS = replace(POLICY, otherwise=lambda _: SupportedContext(None))

    def test_h_p21_abstract_syntax(self, uid: bytes):
        wire = with_contexts(context(3, syntaxes(uid, IMPLICIT.encode())), CONTEXT)
        for policy in (POLICY, self.PROMISCUOUS):
            reply = negotiate(receive_request(wire), policy)
            assert isinstance(reply, AssociateAC)
            assert [each.result for each in reply.contexts] == [3, 0]

    def test_h_p21_transfer_syntax(self, uid: bytes):
        wire = with_contexts(context(3, syntaxes(b"1.2.3.4", uid)), CONTEXT)
        reply = negotiate(receive_request(wire), self.PROMISCUOUS)
        assert isinstance(reply, AssociateAC)
        assert [each.result for each in reply.contexts] == [4, 0]
        reply.encode()  # whatever was proposed, the answer can be sent


@pytest.mark.parametrize("padding", [b"\0", b" ", b"\0\0 "])
def test_h_p22_padded_uids(padding: bytes):
    """Taken without it, everywhere; PS3.8 F.1 forbids it, and the field does it."""
    wire = request(
        item(0x10, APPLICATION_CONTEXT.encode() + padding),
        context(1, syntaxes(VERIFICATION.encode() + padding, IMPLICIT.encode() + padding)),
        USER,
    )
    assert receive(wire) == receive(request())
    assert results(wire) == [0]


@pytest.mark.parametrize("body", [b"", b"\0", b"x" * 1000, item(0x51, b"")])
@pytest.mark.parametrize("kind", [0x00, 0x11, 0x4F, 0x5A, 0xFF])
def test_h_p23_unknown_items(kind: int, body: bytes):
    unknown = item(kind, body)
    assert receive(request(unknown, APPLICATION, CONTEXT, USER)) == receive(request())
    assert receive(with_user(unknown, MAXIMUM, CLASS_UID)) == receive(request())


def test_h_p24_user_information():
    """Ours: missing is RJ(1,1,1); empty goes with the defaults; twice is refused."""
    assert answered(request(APPLICATION, CONTEXT)) == AssociateRJ(1, 1, 1)
    assert results(with_user()) == [0]
    refused(request(APPLICATION, CONTEXT, USER, USER), AbortReason.UNEXPECTED_PARAMETER)


@pytest.mark.parametrize(
    "sub_item",
    [MAXIMUM, CLASS_UID, item(0x53, b"\0\1\0\1"), item(0x55, b"N"), item(0x58, b"\1\0\0\1A\0\0")],
    ids=lambda sub_item: f"{sub_item[0]:02X}",
)
def test_h_p25_duplicate_sub_items(sub_item: bytes):
    """Ours: refused, so that the last never wins."""
    refused(with_user(sub_item, sub_item), AbortReason.UNEXPECTED_PARAMETER)


@pytest.mark.parametrize("length", [0, 3, 5, 8])
def test_h_p26_maximum_length_of_another_size(length: int):
    refused(with_user(item(0x51, bytes(length))))


@pytest.mark.parametrize("value", [0, 1, 5, 7, 8, 16384, 0xFFFFFFFF])
def test_h_p26_maximum_length_values(value: int):
    """Below 8 no PDV of two bytes fits: RJ(1,1,1). 0 and huge values are for our own cap."""
    reply = answered(with_user(item(0x51, value.to_bytes(4, "big")), CLASS_UID))
    if 0 < value < 8:
        assert reply == AssociateRJ(1, 1, 1)
    else:
        assert isinstance(reply, AssociateAC)


@pytest.mark.parametrize("name", [b"", b"N" * 17, b"N" * 65000, b"\x1b[2J\n", b"\xff\0"])
def test_h_p27_version_name(name: bytes):
    """Taken, and cut to 16 characters."""
    wire = with_user(MAXIMUM, CLASS_UID, item(0x55, name))
    user = receive_request(wire).user_information
    assert user is not None
    assert len(user.implementation_version_name) <= 16
    assert results(wire) == [0]


@pytest.mark.parametrize(
    "roles",
    [
        [(CT_STORAGE, 1, 1)],
        [(VERIFICATION, 0, 0)],
        [(VERIFICATION, 1, 0), (VERIFICATION, 0, 1)],
        [("x", 1, 1)],
    ],
)
def test_h_p28_role_selection(roles: list[tuple[str, int, int]]):
    """Not offered, no role at all, twice: ignored, and the default roles go on."""
    items = [
        item(0x54, len(uid).to_bytes(2, "big") + uid.encode() + bytes((scu, scp)))
        for uid, scu, scp in roles
    ]
    wire = with_user(MAXIMUM, CLASS_UID, *items)
    reply = accepted(wire)
    assert reply.user_information is not None
    assert reply.user_information.roles == ()
    settled = settle(receive_request(wire), reply, requestor=False)[1]
    assert (settled.scu, settled.scp) == (False, True)


@pytest.mark.parametrize("length", [4, 5, 0x7FFF, 0xFFFF])
@pytest.mark.parametrize("kind", [0x56, 0x57])
def test_h_p29_inner_uid_overruns(kind: int, length: int):
    refused(with_user(item(kind, length.to_bytes(2, "big") + b"1.2")))


@pytest.mark.parametrize("window", [(0, 0), (65535, 65535), (1, 0), (0, 1)])
def test_h_p30_asynchronous_window(window: tuple[int, int]):
    """Ours is 1, 1."""
    offer = item(0x53, b"".join(each.to_bytes(2, "big") for each in window))
    user = accepted(with_user(MAXIMUM, CLASS_UID, offer)).user_information
    assert user is not None
    assert user.window is not None
    assert (user.window.invoked, user.window.performed) == (1, 1)


# No AE titles; those of PATHS are, so they are labels, and nothing else.
NO_TITLES = [b" " * 16, bytes(16), b"\n", b"A\\B", b"\xc4RCHIV", b"\x1b[2J", b"A\0B"]
PATHS = [b"../..", b"%s%n", b"$(touch x)", b"-rf"]


@pytest.mark.parametrize("title", [*NO_TITLES, *PATHS])
def test_h_p31_called(title: bytes):
    assert answered(request(called=title.ljust(16)[:16])) == AssociateRJ(1, 1, 7)


@pytest.mark.parametrize("title", NO_TITLES)
def test_h_p31_calling(title: bytes):
    assert answered(request(calling=title.ljust(16)[:16])) == AssociateRJ(1, 1, 3)


@pytest.mark.parametrize("title", PATHS)
def test_h_p31_calling_is_a_label(title: bytes):
    assert results(request(calling=title.ljust(16))) == [0]


@pytest.mark.parametrize("title", [b"ARCHIVE", b" ARCHIVE", b"        ARCHIVE ", b"ARCHIVE\0\0"])
def test_h_p32_padded_titles(title: bytes):
    """Spaces around it are not significant, and NUL behind it is in the field."""
    wire = request(called=title.ljust(16), calling=title.ljust(16))
    assert receive_request(wire).calling_ae_title == "ARCHIVE"
    assert results(wire) == [0]


def identity(kind: int, primary: bytes, claim: int | None = None) -> bytes:
    length = len(primary) if claim is None else claim
    return item(0x58, bytes((kind, 0)) + length.to_bytes(2, "big") + primary + b"\0\0")


class TestHP33UserIdentity:
    def test_h_p33_64_kib(self):
        assert results(with_user(MAXIMUM, identity(1, b"u" * 65000))) == [0]

    @pytest.mark.parametrize("claim", [6, 7, 0xFFFF])
    def test_h_p33_overrun(self, claim: int):
        refused(with_user(MAXIMUM, identity(1, b"user", claim)))

    @pytest.mark.parametrize("kind", [0, 6, 255])
    def test_h_p33_unknown_type(self, kind: int):
        assert answered(with_user(MAXIMUM, identity(kind, b"user"))) == AssociateRJ(1, 2, 1)


class TestHP37Answers:
    """A hostile acceptor; `settle` is what our requestor makes of its A-ASSOCIATE-AC."""

    PROPOSED = receive_request(request())

    def settled(self, *items: bytes) -> list[int]:
        decoded = receive(answer(*items))
        assert isinstance(decoded, AssociateAC)
        return list(settle(self.PROPOSED, decoded, requestor=True))

    def context(self, context_id: int, uid: str, result: int = 0) -> bytes:
        return item(0x21, bytes((context_id, 0, result, 0)) + uid_item(0x40, uid))

    @pytest.mark.parametrize("context_id", [0, 2, 3, 255])
    def test_h_p37_never_offered(self, context_id: int):
        good = self.context(1, IMPLICIT)
        assert self.settled(self.context(context_id, IMPLICIT), good, USER) == [1]

    @pytest.mark.parametrize("uid", [EXPLICIT, "", "../x"])
    def test_h_p37_transfer_syntax_not_offered(self, uid: str):
        assert self.settled(self.context(1, uid), USER) == []

    @pytest.mark.parametrize("result", [1, 2, 3, 4, 5, 255])
    def test_h_p37_not_accepted(self, result: int):
        assert self.settled(self.context(1, IMPLICIT, result), USER) == []

    def test_h_p37_no_answers(self):
        assert self.settled(USER) == []
        assert self.settled() == []

    def test_h_p37_answered_twice(self):
        with pytest.raises(ProtocolError):
            self.settled(self.context(1, IMPLICIT), self.context(1, IMPLICIT), USER)

    def test_h_p37_no_room_for_data(self):
        with pytest.raises(ProtocolError):
            self.settled(self.context(1, IMPLICIT), item(0x50, item(0x51, b"\0\0\0\7")))

    def test_h_p37_more_than_128(self):
        with pytest.raises(ProtocolError):
            self.settled(*[self.context(1, IMPLICIT)] * 129)

    def test_h_p37_accepted_without_a_transfer_syntax(self):
        refused(answer(item(0x21, b"\1\0\0\0"), USER))


def test_good_request():
    """What the cases change is accepted."""
    assert results(request()) == [0]
