"""H-D01 to H-D05: command sets that are none, from both sides; each test is named by its case."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dimse.errors import AssociationAbortedError
from dimse.message import command
from dimse.message.base import Response
from dimse.sending import Whole
from dimse.testing import ScriptedPeer
from dimse.ul.pdu import PDataTF
from tests.conformance.messages import KINDS, ROWS, build
from tests.memory import Net, Outcome
from tests.scripted import COMMAND, INVALID, LAST, echo_rq, p_data
from tests.sides import BOTH_SIDES, SIDES, joined
from tests.tables import Row
from tests.wire import VERIFICATION

REQUESTS = [name for name in KINDS if name.endswith("RQ") and name != "C-CANCEL-RQ"]
RETRIEVE = ("C-FIND-RQ", "C-GET-RQ", "C-MOVE-RQ")
STRUCTURE = ("CommandGroupLength", "CommandField", "CommandDataSetType")
SPOILED = pytest.mark.parametrize("how", ["missing", "empty", "twice", "length"])


def element(number: int, value: bytes, group: int = 0) -> bytes:
    tag = group.to_bytes(2, "little") + number.to_bytes(2, "little")
    return tag + len(value).to_bytes(4, "little") + value


def elements(command_set: bytes) -> list[bytes]:
    """One by one, as they are encoded."""
    found = []
    while command_set:
        end = 8 + int.from_bytes(command_set[4:8], "little")
        found.append(command_set[:end])
        command_set = command_set[end:]
    return found


def spoiled(command_set: bytes, row: Row, how: str) -> bytes:
    """With the element of `row` left out, without value, twice, or of three bytes."""
    number = int(row["tag"][6:10], 16)
    tag = element(number, b"")[:4]
    parts = {
        "missing": lambda _: b"",
        "empty": lambda _: element(number, b""),
        "twice": lambda each: each + element(number, b"\xff" * (len(each) - 8)),
        "length": lambda _: element(number, b"\1\1\1"),
    }
    return b"".join(
        parts[how](each) if each.startswith(tag) else each for each in elements(command_set)
    )


def mandatory(name: str, how: str) -> Iterator[Row]:
    """The rows of a message whose elements can be spoiled so: text has any length."""
    for row in ROWS[name]:
        if row["requirement"] == "M" and not (how == "length" and row["vr"] in ("UI", "AE")):
            yield row


def send(peer: ScriptedPeer, command_set: bytes) -> None:
    """In one fragment, in the first context; no data set, whatever it announces."""
    peer.send(p_data((1, COMMAND | LAST, command_set)))


@BOTH_SIDES
@SPOILED
@pytest.mark.parametrize("name", REQUESTS)
def test_h_d01_requests(net: Net, side: str, name: str, how: str):
    """Every mandatory element of every request missing, empty, twice, or of a wrong length: a
    status says which, nothing is performed, and the association lives. Of two the first counts.
    Without what makes it a request with a Message ID, A-ABORT."""
    statuses = {"missing": 0x0120, "empty": 0x0121, "length": 0x0106, "twice": 0}
    kind: Any = KINDS[name]
    for row in mandatory(name, how):
        _, peer = joined(net, side, [net.scp], [VERIFICATION])
        performed = len(net.scp.sinks)
        send(peer, spoiled(build(name, "M").encode(), row, how))
        keyword = row["keyword"]
        if how != "twice" and keyword in ("CommandField", "CommandDataSetType", "MessageID"):
            assert peer.pdus == [INVALID], keyword
            assert len(net.scp.sinks) == performed
            continue
        if kind.HAS_DATA_SET:
            assert peer.pdus == []
            peer.send(p_data((1, LAST, b"ab")))
        expected = 0 if keyword == "CommandGroupLength" else statuses[how]
        if expected and name in RETRIEVE:
            expected = 0xA900  # their services list none of PS3.7 C.5
        (answer,) = peer.messages
        assert isinstance(answer.message, kind.RESPONSE)
        assert (answer.message.status, answer.message.message_id_being_responded_to) == (
            expected,
            7,
        ), keyword
        assert len(net.scp.sinks) == performed + (not expected)
        assert not peer.closed


@BOTH_SIDES
@SPOILED
def test_h_d01_a_cancel(net: Net, side: str, how: str):
    """C-CANCEL has no response: one that names no operation is ignored."""
    for row in mandatory("C-CANCEL-RQ", how):
        if how == "twice" or row["keyword"] not in STRUCTURE:
            _, peer = joined(net, side, [net.scp], [VERIFICATION])
            send(peer, spoiled(build("C-CANCEL-RQ", "M").encode(), row, how))
            assert peer.pdus == []
            peer.command(echo_rq())
            assert len(peer.messages) == 1


def invoked(net: Net, side: str, name: str) -> tuple[Any, ScriptedPeer, Outcome]:
    """A request of ours with the Message ID 7, and its outcome."""
    ours, peer = joined(net, side, [net.scp], [VERIFICATION])
    request: Any = build(name, "M")
    source = Whole(b"ab") if request.HAS_DATA_SET else None
    outcome = net.outcome(ours.request(ours.contexts[1], request, source))
    net.run()
    peer.received.clear()
    return ours, peer, outcome


@BOTH_SIDES
@SPOILED
@pytest.mark.parametrize("name", REQUESTS)
def test_h_d01_responses(net: Net, side: str, name: str, how: str):
    """The same of every response: nobody can say what it means, so the request fails and the
    association is aborted. One that does not say to what it responds is ignored."""
    response = name.replace("RQ", "RSP")
    for row in mandatory(response, how):
        ours, peer, outcome = invoked(net, side, name)
        good = build(response, "M").encode()
        send(peer, spoiled(good, row, how))
        if how == "twice" or row["keyword"] == "CommandGroupLength":
            assert outcome.value.response.status == 0xB000
            assert ours.ended is None
        elif row["keyword"] == "MessageIDBeingRespondedTo":
            assert (outcome.firings, ours.ended) == ([], None)
            send(peer, good)
            assert outcome.value.response.status == 0xB000
        else:
            assert isinstance(outcome.value, AssociationAbortedError)
            assert peer.pdus == [INVALID]


@BOTH_SIDES
@pytest.mark.parametrize("name", [each for each in KINDS if each.endswith("RSP")])
def test_h_d01_optional_elements_of_a_response(net: Net, side: str, name: str):
    """Numbers and tags of a wrong length are no values; without value they are not there."""
    for row in ROWS[name]:
        if row["requirement"] == "M" or row["vr"] not in ("US", "AT"):
            continue
        whole = build(name, "MUSC").encode()
        for how, fails in (("length", True), ("empty", False)):
            _, peer, outcome = invoked(net, side, name.replace("RSP", "RQ"))
            send(peer, spoiled(whole, row, how))
            assert isinstance(outcome.value, AssociationAbortedError) is fails, row["keyword"]


class Exchange:
    """A C-ECHO-RQ of the peer or its C-ECHO-RSP to one of ours, to be spoiled."""

    def __init__(self, net: Net, side: str, kind: str) -> None:
        self.ours, self.peer = joined(net, side, [net.scp], [VERIFICATION])
        self.good = elements(echo_rq(7).encode())
        self.outcome: Outcome | None = None
        if kind == "response":
            self.good = elements(build("C-ECHO-RSP", "M").encode())
            self.outcome = net.outcome(self.ours.request(self.ours.contexts[1], echo_rq(7)))
            net.run()
            self.peer.received.clear()

    def status(self) -> int:
        """That of the one response, the association lives."""
        assert self.ours.ended is None
        if self.outcome is not None:
            response: Response = self.outcome.value.response
        else:
            (answer,) = self.peer.messages
            assert isinstance(answer.message, Response)
            response = answer.message
        assert response.message_id_being_responded_to == 7
        return response.status

    def aborted(self) -> bool:
        """Whether it ended with an A-ABORT of ours."""
        assert self.outcome is None or isinstance(self.outcome.value, AssociationAbortedError)
        return self.peer.pdus == [INVALID]


@pytest.fixture(params=SIDES)
def side(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["request", "response"])
def exchange(net: Net, side: str, request: pytest.FixtureRequest) -> Exchange:
    return Exchange(net, side, request.param)


def expected(exchange: Exchange) -> int:
    """The status of the exchange when it is not spoiled."""
    return 0 if exchange.outcome is None else 0xB000


@pytest.mark.parametrize("length", [None, 0, 1, 7, 2**16, 2**32 - 1])
def test_h_d02_group_length(exchange: Exchange, length: int | None):
    """Absent, 0, too small, too large: what came is what counts."""
    group = b"" if length is None else element(0, length.to_bytes(4, "little"))
    send(exchange.peer, group + b"".join(exchange.good[1:]))
    assert exchange.status() == expected(exchange)


@pytest.mark.parametrize("claim", [3, 0x7FFFFFFF, 0xFFFFFFFF])
def test_h_d03_a_length_beyond_the_end(exchange: Exchange, claim: int):
    *others, last = exchange.good
    send(exchange.peer, b"".join(others) + last[:4] + claim.to_bytes(4, "little") + last[8:])
    assert exchange.aborted()


@pytest.mark.parametrize("length", range(1, 10))
def test_h_d03_it_ends_inside_an_element(exchange: Exchange, length: int):
    send(exchange.peer, b"".join(exchange.good) + element(0x0900, b"\0\0")[:length])
    assert exchange.aborted()


def test_h_d03_an_odd_length(exchange: Exchange):
    """Of text: taken, for nothing is lost by it."""
    odd = element(0x0002, VERIFICATION.encode())
    assert len(VERIFICATION) % 2
    others = [each for each in exchange.good[1:] if each[:4] != odd[:4]]
    send(exchange.peer, b"".join([odd, *others]))
    assert exchange.status() == expected(exchange)


def in_reverse(good: list[bytes]) -> list[bytes]:
    return good[::-1]


def with_others(good: list[bytes]) -> list[bytes]:
    """The same element numbers in other groups, private and retired elements, in front."""
    strange = [element(int.from_bytes(each[2:4], "little"), b"\7\7", 0x0008) for each in good]
    private = [element(0x0010, b"PRIVATE "), element(0x1000, b"x" * 3000, 0x0009)]
    return (
        strange + private + [element(0x4000, b"retired "), element(0x0900, b"\7\7", 0x7FE0)] + good
    )


@pytest.mark.parametrize("change", [in_reverse, with_others])
def test_h_d04_order_and_other_groups(
    exchange: Exchange, change: Callable[[list[bytes]], list[bytes]]
):
    """Tolerated, and never used."""
    send(exchange.peer, b"".join(change(exchange.good)))
    assert exchange.status() == expected(exchange)


UNKNOWN: dict[str, command.Value] = {
    "MessageID": 9,
    "CommandDataSetType": 0x0101,
    "AffectedSOPClassUID": VERIFICATION,
}


@pytest.mark.parametrize("field", [0x0002, 0x0102, 0x7FFF])
def test_h_d05_an_unknown_request(net: Net, side: str, field: int):
    """0x0211, with the field of its response, and the association lives."""
    _, peer = joined(net, side, [net.scp], [VERIFICATION])
    send(peer, command.encode({**UNKNOWN, "CommandField": field}))
    (pdu,) = peer.pdus
    assert isinstance(pdu, PDataTF)
    (pdv,) = pdu.pdvs
    answer = command.decode(bytes(pdv.fragment))
    assert (answer["Status"], answer["MessageIDBeingRespondedTo"]) == (0x0211, 9)
    assert answer["CommandField"] == field | 0x8000
    peer.received.clear()
    peer.command(echo_rq())
    assert len(peer.messages) == 1


@pytest.mark.parametrize("field", [0x8002, 0xFFFF])
def test_h_d05_an_unknown_response(net: Net, side: str, field: int):
    """To nothing it is ignored; to a request of ours it is an A-ABORT."""
    ours, peer, outcome = invoked(net, side, "C-ECHO-RQ")
    strange = {**UNKNOWN, "CommandField": field, "Status": 0}
    send(peer, command.encode({**strange, "MessageIDBeingRespondedTo": 8}))
    assert (peer.pdus, ours.ended, outcome.firings) == ([], None, [])
    send(peer, command.encode({**strange, "MessageIDBeingRespondedTo": 7}))
    assert isinstance(outcome.value, AssociationAbortedError)
    assert peer.pdus == [INVALID]
