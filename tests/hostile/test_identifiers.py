"""H-D15 to H-D21 for the data sets that are decoded: Identifiers of requests and of answers, and
those of DIMSE-N. (Instances are kept as they come.) Each test is named by its case."""

import zlib
from collections.abc import AsyncIterator, Iterator
from struct import pack
from typing import Any

import pytest
from pydicom import Dataset
from twisted.internet.defer import Deferred

from dimse import (
    STUDY_ROOT,
    DimseError,
    NormalizedSCP,
    Operation,
    QuerySCP,
    RetrieveSCP,
    associate,
    find,
    n_get,
)
from dimse.errors import AssociationAbortedError, DataSetError
from dimse.message.messages import CCancelRQ, CFindRQ, CGetRQ, CMoveRQ, NSetRQ
from dimse.services.dataset import decode, encode
from dimse.sop_classes import STORAGE_COMMITMENT_PUSH
from dimse.testing import Network, ScriptedPeer
from tests.wire import EXPLICIT, IMPLICIT

DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
SYNTAXES = [IMPLICIT, EXPLICIT, DEFLATED]
FIND, GET, MOVE = STUDY_ROOT.find, STUDY_ROOT.get, STUDY_ROOT.move
UNDEFINED = 0xFFFFFFFF

KEYS = Dataset()
KEYS.QueryRetrieveLevel = "STUDY"
KEYS.StudyInstanceUID = "1.2.3"
GOOD = encode(KEYS, IMPLICIT)


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


def element(value: bytes, tag: int = 0x00081110, length: int | None = None) -> bytes:
    return pack("<HHI", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def deflated(data: bytes, end: int = zlib.Z_FINISH) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(data) + deflate.flush(end)


def nested(depth: int) -> bytes:
    """Sequences of undefined length."""
    begin = element(b"", length=UNDEFINED) + element(b"", 0xFFFEE000, UNDEFINED)
    return GOOD + begin * depth + (element(b"", 0xFFFEE00D) + element(b"", 0xFFFEE0DD)) * depth


def nested_in_lengths(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = element(element(data, 0xFFFEE000))
    return GOOD + data


class Node:
    """What is asked, if anything is; nothing is there."""

    def __init__(self, network: Network, syntax: str) -> None:
        self.asked: list[Dataset] = []
        scps: list[Any] = [
            QuerySCP(self.find, transfer_syntaxes=SYNTAXES),
            RetrieveSCP(self.retrieve, destinations={"DEST": network.endpoint()}),
            NormalizedSCP([STORAGE_COMMITMENT_PUSH], n_set=self.change),
        ]
        self.peer = network.scripted_requestor(network.listen(scps))
        uids = [FIND, GET, MOVE, STORAGE_COMMITMENT_PUSH]
        self.peer.associate([(uid, [syntax]) for uid in uids])

    async def find(self, identifier: Dataset, operation: Operation) -> AsyncIterator[Dataset]:
        self.asked.append(identifier)
        for match in list[Dataset]():
            yield match

    def retrieve(self, identifier: Dataset, operation: Operation) -> list[Any]:
        self.asked.append(identifier)
        return []

    def change(self, operation: Operation, dataset: Dataset) -> None:
        self.asked.append(dataset)

    def statuses(self, data: bytes, syntax: str) -> list[int]:
        """Of each request with `data` as its data set."""
        uids = {"requested_sop_class_uid": STORAGE_COMMITMENT_PUSH}
        requests: list[Any] = [CFindRQ(message_id=1, affected_sop_class_uid=FIND, priority=0)]
        if syntax != DEFLATED:  # C-GET and C-MOVE do not take it for an Identifier
            move = {"affected_sop_class_uid": MOVE, "move_destination": "DEST"}
            requests += [
                CGetRQ(message_id=2, affected_sop_class_uid=GET, priority=0),
                CMoveRQ(message_id=3, priority=0, **move),
                NSetRQ(message_id=4, requested_sop_instance_uid="1.2", **uids),
            ]
        for number, request in enumerate(requests):
            self.peer.command(request, data, context_id=2 * number + 1)
        assert not self.peer.closed
        answers: list[Any] = [each.message for each in self.peer.messages]
        return [answer.status for answer in answers]


def refused_by_scp(network: Network, data: bytes, syntax: str) -> None:
    """A900H, for DIMSE-N 0106H; nobody is asked, and the association lives."""
    node = Node(network, syntax)
    statuses = node.statuses(data, syntax)
    assert statuses == [0xA900, 0xA900, 0xA900, 0x0106][: len(statuses)]
    assert node.asked == []


def answering(network: Network, uid: str, syntax: str) -> tuple[Any, ScriptedPeer]:
    endpoint = network.endpoint()
    server = network.scripted_acceptor(endpoint)
    pending = associate(endpoint, [(uid, [syntax])], reactor=network.clock)
    server.accept()
    return network.result(pending), server


def refused_by_scu(network: Network, data: bytes, syntax: str) -> None:
    """The query fails, with C-CANCEL for the rest of it; so does a request of DIMSE-N."""
    ours, server = answering(network, FIND, syntax)
    matches = find(ours, KEYS).result()
    network.run()
    server.respond(0xFF00, data)
    with pytest.raises(DimseError, match="no data set in"):
        network.result(matches)
    assert isinstance(server.messages[-1].message, CCancelRQ)
    server.respond(0xFE00)
    assert (ours.ended, ours.busy) == (None, False)
    ours, server = answering(network, STORAGE_COMMITMENT_PUSH, syntax)
    reply = n_get(ours, STORAGE_COMMITMENT_PUSH, "1.2")
    network.run()
    server.respond(0, data)
    with pytest.raises(DimseError, match="no data set in"):
        network.result(reply)
    assert ours.ended is None


REFUSED = pytest.mark.parametrize("by", [refused_by_scp, refused_by_scu])


@REFUSED
@pytest.mark.parametrize(
    ("data", "syntax"),
    [
        (encode(KEYS, EXPLICIT), IMPLICIT),
        (GOOD, EXPLICIT),
        (encode(KEYS, BIG_ENDIAN), EXPLICIT),
        (encode(KEYS, BIG_ENDIAN), IMPLICIT),
        (bytes(range(256)) * 10, IMPLICIT),
        (bytes(range(256)) * 10, EXPLICIT),
    ],
)
def test_h_d15_another_transfer_syntax(network: Network, by: Any, data: bytes, syntax: str):
    """Nothing is guessed: what is agreed is what is read."""
    by(network, data, syntax)


def of_vr(vr: bytes) -> bytes:
    return encode(KEYS, EXPLICIT) + pack("<HH2sH", 0x0020, 0x0010, vr, 4) + b"ABCD"


VRS = pytest.mark.parametrize("vr", [b"??", b"ZZ"])


@REFUSED
@VRS
def test_an_unknown_vr(network: Network, by: Any, vr: bytes):
    """How long the element is, and where the next one begins, nobody can tell."""
    by(network, of_vr(vr), EXPLICIT)


@VRS
def test_a_match_of_an_unknown_vr_does_not_end_the_others(network: Network, vr: bytes):
    """The error says whose it is, the tag and the clause, and nothing of a value."""
    ours, server = answering(network, FIND, EXPLICIT)
    matches = find(ours, KEYS)

    async def following() -> list[str]:
        found: list[str] = []
        while True:
            try:
                found.append((await anext(matches)).StudyInstanceUID)
            except DataSetError as error:
                found.append(str(error))
            except StopAsyncIteration:
                return found

    following_ = Deferred.fromCoroutine(following())
    for data in (encode(KEYS, EXPLICIT), of_vr(vr), encode(KEYS, EXPLICIT)):
        server.respond(0xFF00, data)
    server.respond(0)
    first, error, last = network.result(following_)
    assert (first, last) == ("1.2.3", "1.2.3")
    assert error.startswith(f"{ours.peer}: a match cannot be read: (0020,0010) has an unknown VR")
    assert "PS3.5 6.2" in error
    assert "ABCD" not in error
    assert not any(isinstance(each.message, CCancelRQ) for each in server.messages)
    assert ours.ended is None


@REFUSED
@pytest.mark.parametrize("data", [nested(65), nested(60_000), nested_in_lengths(65)])
def test_h_d16_sequences_nested_too_deep(network: Network, by: Any, data: bytes):
    by(network, data[: 2**20], IMPLICIT)


@pytest.mark.parametrize("data", [nested(64), nested_in_lengths(64)])
def test_h_d16_sequences_nested_as_deep_as_may_be(network: Network, data: bytes):
    node = Node(network, IMPLICIT)
    assert node.statuses(data, IMPLICIT) == [0] * 4
    for dataset in node.asked:
        assert len(list(dataset.iterall())) == 2 + 64  # whoever looks at all of it can


@REFUSED
@pytest.mark.parametrize(
    "data",
    [
        GOOD[:-1],
        GOOD + element(b"", length=UNDEFINED) + element(GOOD, 0xFFFEE000),
        GOOD + element(element(GOOD, 0xFFFEE000, UNDEFINED), length=UNDEFINED),
        GOOD + element(b"ABCD", 0x00100010, UNDEFINED),
        GOOD + element(b"ABCD", 0x00100010, 100),
        GOOD + element(b"ABCD", 0x00100010, 0x80000000),
        GOOD + element(b"ABCD", 0x00100010, 0xFFFFFFFE),
        GOOD + element(element(GOOD, 0xFFFEE000, 500)),
        GOOD + element(b"junk for items.."),
    ],
)
def test_h_d17_lengths_that_are_none(network: Network, by: Any, data: bytes):
    """No value is taken that is not whole, in a sequence neither."""
    by(network, data, IMPLICIT)


@REFUSED
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(deflated(bytes(2**26)), id="64 MiB"),
        pytest.param(deflated(pack("<HH2sH", 9, 0x1010, b"LO", 0) * 10**6), id="10^6 elements"),
        pytest.param(encode(KEYS, DEFLATED)[:-2], id="truncated"),
        pytest.param(deflated(encode(KEYS, EXPLICIT), zlib.Z_SYNC_FLUSH), id="without end"),
        pytest.param(encode(KEYS, DEFLATED) + b"junk", id="trailing garbage"),
        pytest.param(encode(KEYS, EXPLICIT), id="not deflated"),
    ],
)
def test_h_d18_deflated(network: Network, by: Any, data: bytes):
    """A bomb unfolds to what an Identifier may be, and no more."""
    by(network, data, DEFLATED)


@pytest.mark.parametrize(("size", "status"), [(2**20 - 1000, 0), (2**20, 0xA900)])
def test_h_d18_a_long_identifier(network: Network, size: int, status: int):
    """It may unfold to what one that is not deflated may be."""
    private = pack("<HH2sHI", 7, 0x1010, b"UN", 0, size) + bytes(size)
    data = deflated(private + encode(KEYS, EXPLICIT))
    assert len(data) < 10_000
    assert Node(network, DEFLATED).statuses(data, DEFLATED) == [status]


def test_h_d18_a_deflated_identifier(network: Network):
    """Good ones are taken, padded to even length or not (PS3.5 A.5)."""
    data = encode(KEYS, DEFLATED)
    for each in (data, data + b"\0"):
        node = Node(network, DEFLATED)
        assert node.statuses(each, DEFLATED) == [0]
        assert node.asked == [KEYS]


def test_h_d19_elements_of_a_file(network: Network):
    """A Transfer Syntax UID in the data set is an element as others: nobody acts on it."""
    node = Node(network, IMPLICIT)
    syntax = element(BIG_ENDIAN.encode() + b"\0", 0x00020010)
    assert node.statuses(syntax + GOOD, IMPLICIT) == [0] * 4
    for dataset in node.asked:
        assert dataset.StudyInstanceUID == "1.2.3"


@REFUSED
def test_h_d19_a_whole_file(network: Network, by: Any):
    by(network, bytes(128) + b"DICM" + GOOD, IMPLICIT)


@pytest.mark.parametrize("count", [120_000, 450_000])
def test_h_d20_private_elements_before_the_keys(network: Network, count: int):
    """As many as an Identifier holds are taken; more of them, in DIMSE-N, are refused."""
    node = Node(network, IMPLICIT)
    data = element(b"", 0x00071010) * count + GOOD
    kept = count == 120_000
    expected = [0] * 4 if kept else [0xA900, 0xA900, 0xA900, 0x0106]
    assert node.statuses(data, IMPLICIT) == expected
    assert [each.StudyInstanceUID for each in node.asked] == ["1.2.3"] * (4 if kept else 0)


def test_h_d21_a_match_too_long(network: Network):
    """Against our requestor: A-ABORT, and nothing above the limit is kept."""
    ours, server = answering(network, FIND, IMPLICIT)
    matches = find(ours, KEYS).result()
    network.run()
    server.respond(0xFF00, element(bytes(2**20), 0x00091010))
    with pytest.raises(AssociationAbortedError, match="above 1048576 bytes"):
        network.result(matches)


@pytest.mark.parametrize("data", [None, b""])
def test_h_d21_a_match_without_identifier(network: Network, data: bytes | None):
    """A Pending response that brings nothing is no match; an empty one is (PS3.4 C.4.1.1.3)."""
    ours, server = answering(network, FIND, IMPLICIT)
    matches = find(ours, KEYS).result()
    network.run()
    server.respond(0xFF00, data)
    if data is None:
        with pytest.raises(DimseError, match="without Identifier"):
            network.result(matches)
    server.respond(0)
    if data is not None:
        assert network.result(matches) == [Dataset()]
    assert ours.ended is None


def test_good_data_sets(network: Network):
    """What the cases change is good."""
    for syntax in (IMPLICIT, EXPLICIT):
        node = Node(network, syntax)
        assert node.statuses(encode(KEYS, syntax), syntax) == [0] * 4
        assert node.asked == [KEYS] * 4
    assert decode(GOOD, IMPLICIT) == KEYS
