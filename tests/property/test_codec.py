"""Codecs under any input: round trips, any cut, any bytes; PS3.8 9.3 and PS3.7 6.3.1."""

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import MISSING, replace
from dataclasses import fields as dataclass_fields
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from dimse.errors import ProtocolError
from dimse.limits import MIB
from dimse.message import command
from dimse.message.base import Message
from dimse.message.messages import MESSAGES
from dimse.ul.framing import Framer
from dimse.ul.items import (
    AsynchronousOperationsWindow,
    ImplementationClassUID,
    ImplementationVersionName,
    MaximumLength,
    PresentationContextAC,
    PresentationContextRQ,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityAC,
    UserIdentityRQ,
    split_items,
)
from dimse.ul.negotiation import Policy, SupportedContext, negotiate, settle
from dimse.ul.pdu import (
    PDU,
    PDUS,
    PDV,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    ReleaseRP,
    ReleaseRQ,
    UserInformation,
)
from dimse.ul.pdv import MessageReader, cut, fragment_length
from tests.wire import APPLICATION, APPLICATION_CONTEXT, CONTEXT, admit, fixed, item, pdu, receive

byte = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
ids = st.integers(0, 127).map(lambda index: 2 * index + 1)
uids = st.from_regex(r"\A[0-9]{1,9}(\.[0-9]{1,9}){0,5}\Z")
titles = st.from_regex(r"\A[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?\Z")
fields = st.binary(max_size=200)

contexts_rq = st.builds(PresentationContextRQ, ids, uids, st.lists(uids, max_size=4).map(tuple))
contexts_ac = st.builds(PresentationContextAC, ids, byte, uids)
windows = st.builds(AsynchronousOperationsWindow, u16, u16)
roles = st.builds(RoleSelection, uids, st.booleans(), st.booleans())
extended = st.builds(SOPClassExtendedNegotiation, uids, fields)
common = st.builds(
    SOPClassCommonExtendedNegotiation, uids, uids, st.lists(uids, max_size=3).map(tuple)
)
identities = st.builds(UserIdentityRQ, byte, fields, fields, st.booleans())
responses = st.builds(UserIdentityAC, fields)
names = titles
items = st.one_of(
    contexts_rq,
    contexts_ac,
    st.builds(MaximumLength, u32),
    st.builds(ImplementationClassUID, uids),
    windows,
    roles,
    st.builds(ImplementationVersionName, names),
    extended,
    common,
    identities,
    responses,
)
users = st.builds(
    UserInformation,
    st.none() | u32,
    st.just("") | uids,
    st.just("") | names,
    st.none() | windows,
    st.lists(roles, max_size=3).map(tuple),
    st.lists(extended, max_size=2).map(tuple),
    st.lists(common, max_size=2).map(tuple),
    st.none() | identities,
    st.none() | responses,
)
requests = st.builds(
    AssociateRQ,
    titles,
    titles,
    st.lists(contexts_rq, max_size=5, unique_by=lambda each: each.context_id).map(tuple),
    st.none() | users,
    uids,
    u16,
)
answers = st.builds(
    AssociateAC,
    st.lists(contexts_ac, max_size=5).map(tuple),
    st.none() | users,
    st.binary(min_size=64, max_size=64),
    uids,
    u16,
)
pdvs = st.builds(PDV, byte, byte, fields)
pdus = st.one_of(
    requests,
    answers,
    st.builds(AssociateRJ, byte, byte, byte),
    st.builds(PDataTF, st.lists(pdvs, min_size=1, max_size=4).map(tuple)),
    st.just(ReleaseRQ()),
    st.just(ReleaseRP()),
    st.builds(Abort, byte, byte),
)

text = st.from_regex(r"\A[!-\[\]-~]{1,16}\Z")
values: dict[str, st.SearchStrategy] = {
    "US": u16,
    "UL": u32,
    "UI": uids,
    "AE": text,
    "LO": text,
    "AT": st.lists(u32, min_size=1, max_size=3).map(tuple),
}
command_sets = st.fixed_dictionaries(
    {},
    optional={
        keyword: values[vr]
        for keyword, (number, vr) in command.ELEMENTS.items()
        if number  # the group length is made
    },
)


def messages_of(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Messages of a class; what has a default may be absent."""
    vrs = {keyword.lower(): vr for keyword, (_, vr) in command.ELEMENTS.items()}
    elements: dict[str, st.SearchStrategy] = {}
    for each in dataclass_fields(kind):
        value = values[vrs[each.name.replace("_", "")]]
        elements[each.name] = value if each.default is MISSING else st.none() | value
    return st.builds(kind, **elements)


kinds = st.sampled_from(list(MESSAGES.values()))
messages = st.one_of(*map(messages_of, MESSAGES.values()))
some = settings(max_examples=50)
many = settings(max_examples=200)


def only_protocol_errors(call: Callable[[], object]) -> None:
    with suppress(ProtocolError):
        call()


class TestRoundTrips:
    @many
    @given(items)
    def test_item(self, value):
        [(item_type, body)] = split_items(memoryview(value.encode()))
        assert item_type == value.ITEM_TYPE
        assert type(value).decode(body) == value

    @given(users)
    def test_user_information(self, value: UserInformation):
        [(item_type, body)] = split_items(memoryview(value.encode()))
        assert item_type == 0x50
        assert UserInformation.decode(body) == value

    @some
    @given(pdus)
    def test_pdu(self, value: PDU):
        """Three ways, as in tests/wire.py."""
        decoded = receive(value.encode())
        assert decoded == value
        assert decoded.encode() == value.encode()

    @given(command_sets)
    def test_command_set(self, elements: dict[str, command.Value]):
        wire = command.encode(elements)
        decoded = command.decode(wire)
        assert decoded.pop("CommandGroupLength") == len(wire) - 12
        assert decoded == elements
        assert len(wire) % 2 == 0

    @many
    @given(messages, st.booleans())
    def test_message(self, message: Message, has_data_set: bool):
        elements = command.decode(message.encode(has_data_set=has_data_set))
        assert elements["CommandField"] == message.COMMAND_FIELD
        assert MESSAGES[message.COMMAND_FIELD].refusal(elements) is None
        assert MESSAGES[message.COMMAND_FIELD].decode(elements) == message


class _Messages:
    """The user of a MessageReader: keeps all, and takes every command to announce data."""

    def __init__(self) -> None:
        self.found: list[tuple[int, bytes, bytes]] = []
        self.ended = 0

    def command_received(self, context_id: int, command_set: bytes) -> bool:
        self.found.append((context_id, command_set, b""))
        return True

    def data_received(self, fragment: memoryview) -> None:
        context_id, command_set, data = self.found[-1]
        self.found[-1] = context_id, command_set, data + fragment

    def data_ended(self) -> None:
        self.ended += 1


def reader(user: _Messages) -> MessageReader:
    return MessageReader(
        user, range(1, 256, 2), command_length=4096, data_length=4096, empty_fragments=3
    )


def cut_up(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The chunks of a stream that is cut at any places."""
    places = [0, *sorted(place % (len(stream) + 1) for place in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(places)]


class TestCuts:
    @some
    @given(st.lists(pdus, min_size=1, max_size=4), st.lists(u16, max_size=8))
    def test_any_cut_gives_the_same_pdus(self, sent: list[PDU], cuts: list[int]):
        stream = b"".join(each.encode() for each in sent)
        framer = Framer(admit)
        found = []
        for chunk in cut_up(stream, cuts):
            framer.feed(chunk)
            while (each := framer.next_pdu()) is not None:
                found.append(PDUS[each[0]].decode(each[1]))
        assert found == sent
        assert not framer.incomplete

    @some
    @given(
        st.lists(
            st.tuples(ids, st.binary(min_size=1, max_size=300), st.binary(max_size=300)), max_size=4
        ),
        st.integers(8, 200),
        st.lists(u16, max_size=8),
    )
    def test_what_is_cut_is_read_back(
        self, sent: list[tuple[int, bytes, bytes]], maximum: int, cuts: list[int]
    ):
        """Messages to PDUs of any maximum length, over any segments, and back."""
        fragment = fragment_length(maximum)
        stream = b""
        for context_id, command_set, data in sent:
            pieces = cut(context_id, 1, command_set, fragment, last=True)
            pieces += cut(context_id, 0, data, fragment, last=True)
            stream += b"".join(pieces)
        user = _Messages()
        messages_in = reader(user)
        framer = Framer(admit)
        for chunk in cut_up(stream, cuts):
            framer.feed(chunk)
            while (each := framer.next_pdu()) is not None:
                assert len(each[1]) <= maximum
                messages_in.receive(PDataTF.decode(each[1]))
        assert user.found == sent
        assert user.ended == len(sent)
        assert not messages_in.incomplete


class TestAnyBytes:
    """Nothing but a ProtocolError ever comes out."""

    @many
    @given(st.sampled_from(list(PDUS.values())), st.binary(max_size=300))
    def test_decode(self, kind: type[PDU], body: bytes):
        only_protocol_errors(lambda: kind.decode(memoryview(body)))

    @many
    @given(st.binary(max_size=200))
    def test_user_information(self, body: bytes):
        only_protocol_errors(lambda: UserInformation.decode(memoryview(body)))

    @many
    @given(st.sampled_from([1, 2]), st.binary(max_size=300))
    def test_items_of_an_association(self, pdu_type: int, body: bytes):
        wire = fixed() + APPLICATION + body
        only_protocol_errors(lambda: PDUS[pdu_type].decode(memoryview(wire)))

    @some
    @given(requests | answers, st.lists(st.tuples(u16, byte), min_size=1, max_size=5))
    def test_a_good_pdu_with_some_bytes_changed(self, value: PDU, changes: list[tuple[int, int]]):
        wire = bytearray(value.encode())
        for position, new in changes:
            wire[position % len(wire)] = new
        only_protocol_errors(lambda: receive_all(bytes(wire)))

    @many
    @given(st.lists(st.binary(max_size=60), max_size=6))
    def test_framer(self, chunks: list[bytes]):
        only_protocol_errors(lambda: receive_all(*chunks))

    @many
    @given(
        st.lists(
            st.builds(PDV, st.sampled_from([0, 1, 2, 3]), st.integers(0, 7), st.binary(max_size=6)),
            min_size=1,
            max_size=12,
        )
    )
    def test_message_reader(self, given_pdvs: list[PDV]):
        messages_in = reader(_Messages())
        only_protocol_errors(lambda: messages_in.receive(PDataTF(tuple(given_pdvs))))

    @many
    @given(st.binary(max_size=100))
    def test_command_set(self, wire: bytes):
        only_protocol_errors(lambda: command.decode(wire))

    @many
    @given(command_sets, st.lists(st.tuples(u16, byte), max_size=4))
    def test_a_good_command_set_with_some_bytes_changed(
        self, elements: dict[str, command.Value], changes: list[tuple[int, int]]
    ):
        wire = bytearray(command.encode(elements))
        for position, new in changes:
            wire[position % len(wire)] = new
        only_protocol_errors(lambda: command.decode(bytes(wire)))

    @many
    @given(kinds, messages, st.dictionaries(st.sampled_from(list(command.ELEMENTS)), fields))
    def test_what_is_not_refused_is_a_message(
        self, kind: type[Message], message: Message, changes: dict[str, bytes]
    ):
        """Any elements, of another message even, with any bytes instead of some."""
        elements = command.decode(command.encode(command.decode(message.encode()) | changes))
        if kind.refusal(elements) is None:
            assert isinstance(kind.decode(elements), kind)


def receive_all(*chunks: bytes) -> list[PDU]:
    """What a stream of any bytes decodes to."""
    framer = Framer(admit)
    found = []
    for chunk in chunks:
        framer.feed(chunk)
        while (each := framer.next_pdu()) is not None:
            found.append(PDUS[each[0]].decode(each[1]))
    return found


class TestNegotiation:
    @some
    @given(
        requests, st.none() | st.lists(uids, max_size=3).map(tuple), st.booleans(), st.booleans()
    )
    def test_both_sides_agree(
        self,
        request_: AssociateRQ,
        syntaxes: tuple[str, ...] | None,
        scp: bool,
        scu: bool,
    ):
        """Any request gets an answer that can be sent; both sides make the same of it."""
        policy = Policy({}, 16384, otherwise=lambda _: SupportedContext(syntaxes, scp, scu))
        sent = receive(replace(request_, application_context_name=APPLICATION_CONTEXT).encode())
        assert isinstance(sent, AssociateRQ)
        reply = negotiate(sent, policy)
        received = receive(reply.encode())
        assert received == reply
        if isinstance(received, AssociateAC):
            ours = settle(sent, received, requestor=True)
            theirs = settle(sent, received, requestor=False)
            assert {key: (each.scp, each.scu) for key, each in ours.items()} == {
                key: (each.scu, each.scp) for key, each in theirs.items()
            }
            assert len(received.contexts) == len(sent.contexts)
            for each in ours.values():
                assert syntaxes is None or each.transfer_syntax in syntaxes


@some
@given(st.integers(0x50, 0x5F), st.integers(1, 16000), st.integers(0, 9) | u16)
def test_h_p34_memory(kind: int, count: int, claim: int):
    """Sub-items of 4 bytes with any claim: 4 times what came, and what one 64 KiB item may cost."""
    sub_items = bytes((kind, 0)) + claim.to_bytes(2, "big")
    user = item(0x50, (sub_items * count)[:0xFFFF])
    wire = pdu(1, fixed() + APPLICATION + CONTEXT + user)
    tracemalloc.start()
    try:
        only_protocol_errors(lambda: receive_all(wire))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 4 * len(wire) + MIB
