"""Whatever a scripted peer says, each Deferred fires exactly once, and nothing is left."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dimse.message.base import Message, Request
from dimse.message.messages import (
    CCancelRQ,
    CEchoRQ,
    CFindRQ,
    CGetRQ,
    CMoveRQ,
    CStoreRQ,
    NActionRQ,
    NCreateRQ,
    NGetRQ,
)
from dimse.services.dataset import encode
from dimse.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP as MPPS
from dimse.testing import ScriptedPeer
from tests.property.exchange import (
    CONTEXTS,
    EVENTS,
    KEYS,
    STUDY,
    VERBS,
    Exchange,
    Fate,
    exchanging,
    fates,
    instance,
    mostly,
    segments,
)
from tests.wire import CT_STORAGE, EXPLICIT, VERIFICATION

CLASSES = [context if isinstance(context, str) else context[0] for context in CONTEXTS]

DATA: dict[str, bytes | None] = {
    "no": None,
    "empty": b"",
    "identifier": encode(KEYS, EXPLICIT),
    "large": instance(7, 9000).data,
    "junk": b"no data set",
}
data = st.sampled_from(["fitting"] * 10 + list(DATA))
whole = st.sampled_from([True] * 9 + [False])
moves = st.one_of(
    st.sampled_from(["release", "release_response", "abort", "close"]),
    st.sampled_from(["stop_reading", "start_reading"]),
    st.tuples(st.integers(0, 30)),  # which Deferred is cancelled
    st.sampled_from([1, 6, 14, 29, 60]),  # seconds
    st.binary(min_size=1, max_size=20),
    st.sampled_from(sorted(EVENTS.keys() - {"stop"})),
)
statuses = st.sampled_from([0x0000, 0x0000, 0xFF00, 0x0107, 0x0110, 0xA700, 0xB000, 0xFE00, 0xFF00])
responses = st.tuples(st.integers(0, 9), statuses, data, whole)
verbs = st.sampled_from(sorted(VERBS.keys() - {"n-event-report"}))

message_ids = st.integers(1, 4)
_ABOUT: list[tuple[type[Message], dict[str, Any]]] = [
    (CEchoRQ, {"affected_sop_class_uid": VERIFICATION}),
    (
        CStoreRQ,
        {
            "affected_sop_class_uid": CT_STORAGE,
            "affected_sop_instance_uid": "1.2.3",
            "priority": 0,
        },
    ),
    (CFindRQ, {"affected_sop_class_uid": STUDY.find, "priority": 0}),
    (CGetRQ, {"affected_sop_class_uid": STUDY.get, "priority": 0}),
    (
        CMoveRQ,
        {"affected_sop_class_uid": STUDY.move, "priority": 0, "move_destination": "OTHER"},
    ),
    (NGetRQ, {"requested_sop_class_uid": MPPS, "requested_sop_instance_uid": "1.2"}),
    (
        NActionRQ,
        {
            "requested_sop_class_uid": MPPS,
            "requested_sop_instance_uid": "1.2",
            "action_type_id": 1,
        },
    ),
    (NCreateRQ, {"affected_sop_class_uid": MPPS}),
]
requests = mostly(
    st.builds(
        lambda about, message_id: about[0](message_id=message_id, **about[1]),
        st.sampled_from(_ABOUT),
        message_ids,
    ),
    st.builds(lambda number: CCancelRQ(message_id_being_responded_to=number), message_ids),
)


def data_set(kind: str, *, needed: bool) -> bytes | None:
    """The data set of that kind; one that is fitting is there where it is needed."""
    if kind == "fitting":
        kind = "identifier" if needed else "no"
    return DATA[kind]


def respond(peer: ScriptedPeer, index: int, status: int, kind: str, complete: bool) -> None:
    """To any request that has come, however often."""
    asked = [
        (each.message, each.context_id)
        for each in peer.messages
        if isinstance(each.message, Request)
    ]
    if asked:
        request, context_id = asked[index % len(asked)]
        needed = status == 0xFF00 and isinstance(request, CFindRQ)
        sent = data_set(kind, needed=needed)
        peer.command(request.respond(status), sent, context_id=context_id, complete=complete)


def ask(peer: ScriptedPeer, message: Message, kind: str, complete: bool) -> None:
    """In the context of its SOP class."""
    uid = message.sop_class_uid if isinstance(message, Request) else STUDY.find
    needed = isinstance(message, CStoreRQ | CFindRQ | CGetRQ | CMoveRQ)
    sent = data_set(kind, needed=needed)
    peer.command(message, sent, context_id=2 * CLASSES.index(uid) + 1, complete=complete)


def do(exchange: Exchange, peer: ScriptedPeer, move: Any) -> None:
    if isinstance(move, bytes):
        peer.send(move)
    elif isinstance(move, tuple) and len(move) == 4:
        respond(peer, *move)
    elif isinstance(move, tuple) and len(move) == 3:
        ask(peer, *move)
    elif isinstance(move, str) and move not in EVENTS:
        getattr(peer, move)()
    else:
        exchange.happen(move)


@settings(max_examples=2 * settings().max_examples)
@given(
    sizes=segments,
    window=st.sampled_from([1, 3]),
    accepts=st.sampled_from([True, True, True, False]),
    asked=st.lists(verbs, min_size=1, max_size=5),
    script=st.lists(mostly(responses, moves), max_size=12),
)
def test_a_requestor_and_whatever_its_peer_answers(
    sizes: list[int], window: int, accepts: bool, asked: list[str], script: list[Any]
):
    with exchanging([Fate(0, "now")], window, sizes) as exchange:
        place = exchange.network.endpoint()
        peer = exchange.network.scripted_acceptor(place)
        exchange.associate(place)
        for verb in asked:
            exchange.happen(verb)
        if accepts:
            peer.accept()
        for move in script:
            do(exchange, peer, move)


@settings(max_examples=2 * settings().max_examples)
@given(
    sizes=segments,
    fates=fates,
    window=st.sampled_from([1, 3]),
    script=st.lists(mostly(st.tuples(requests, data, whole), responses | moves), max_size=12),
)
def test_an_acceptor_and_whatever_its_peer_asks(
    sizes: list[int], fates: list[Fate], window: int, script: list[Any]
):
    with exchanging(fates, window, sizes) as exchange:
        peer = exchange.requestor(exchange.listen())
        for move in script:
            do(exchange, peer, move)
