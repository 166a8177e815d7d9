"""C-FIND in both roles: streams, collected answers, messages (PS3.4 C.4.1, PS3.7 9.1.2)."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom import Dataset
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent

from dimse import (
    MODALITY_WORKLIST,
    ContextError,
    MisuseError,
    Operation,
    ProtocolError,
    QueryOptions,
    QuerySCP,
    StatusError,
    find,
)
from dimse.message.messages import CCancelRQ, CEchoRQ, CFindRQ, CFindRSP
from dimse.services.dataset import decode, encode
from dimse.testing import Network, ScriptedPeer
from tests.services.queries import FIND, KEYS, Index, connected, joined, study
from tests.sides import SIDES
from tests.sides import joined as joined_by
from tests.wire import EXPLICIT, IMPLICIT


class Countdown:
    """An async iterator that is a class."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __aiter__(self) -> "Countdown":
        return self

    async def __anext__(self) -> Dataset:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return study(self.left)


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


class TestAnswers:
    def test_all_in_a_list(self, network: Network):
        index = Index(3)
        ours, _ = joined(network, index)
        matches = network.result(find(ours, KEYS).result())
        assert [match.StudyInstanceUID for match in matches] == ["1.2.0", "1.2.1", "1.2.2"]
        assert index.asked == [KEYS]
        assert index.closed == 1

    def test_none_is_a_success(self, network: Network):
        ours, _ = joined(network, Index(0))
        assert network.result(find(ours, KEYS).result()) == []

    @pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, "1.2.840.10008.1.2.1.99"])
    def test_in_each_transfer_syntax(self, network: Network, syntax: str):
        scp = QuerySCP(Index(2), transfer_syntaxes=[syntax])
        ours, _ = network.associate(network.listen([scp]), [(FIND, [syntax])])
        assert len(network.result(find(ours, KEYS).result())) == 2

    def test_one_by_one(self, network: Network):
        ours, _ = joined(network, Index(200))

        async def count() -> int:
            answers = find(ours, KEYS)
            seen = [match async for match in answers]
            assert answers.status == 0
            return len(seen)

        assert network.result(count()) == 200

    @pytest.mark.parametrize(("status", "unsupported"), [(0xFF00, False), (0xFF01, True)])
    def test_whether_all_keys_were_matched(self, network: Network, status: int, unsupported: bool):
        """FF01H with any of the matches (PS3.4 C.4.1.1.4)."""

        async def both(identifier: Dataset, operation: Operation) -> Any:
            yield status, study(1)
            yield 0xFF00, study(2)

        ours, _ = joined(network, both)
        answers = find(ours, KEYS)
        assert len(network.result(answers.result())) == 2
        assert answers.unsupported_keys is unsupported

    def test_the_log_says_which_uids_were_asked_for_and_nothing_of_patients(self, network: Network):
        """Not even what only stands where a UID does."""
        ours, _ = joined(network, Index(1))
        keys = Dataset()
        keys.QueryRetrieveLevel, keys.PatientID, keys.PatientName = "IMAGE", "SECRET", "SECRET"
        keys.StudyInstanceUID, keys.SeriesInstanceUID = ["1.2", "1.3", "1.4"], "SECRET*"
        network.result(find(ours, keys).result())
        said = [formatEvent(event) or "" for event in network.events]
        assert [
            each
            for each in said
            if "FIND, IMAGE, StudyInstanceUID 1.2 and 2 more: 1 matches" in each
        ]
        assert not [each for each in said if "SECRET" in each]

    def test_a_status_with_the_match(self, network: Network):
        async def partly(identifier: Dataset, operation: Operation) -> Any:
            yield 0xFF01, study(1)

        ours, _ = joined(network, partly)

        async def statuses() -> list[int]:
            answers = find(ours, KEYS)
            return [int(answers.status or 0) async for _ in answers]

        assert network.result(statuses()) == [0xFF01]

    @pytest.mark.parametrize("status", [0x0000, 0xA700, 0xFE00, 0xB000, 0x0110])
    def test_a_pair_with_another_status_is_the_last(self, network: Network, status: int):
        """It answers the query, and the generator is closed."""
        index, closed = Index(2), list[bool]()

        async def ends(identifier: Dataset, operation: Operation) -> Any:
            try:
                async for each in index(identifier, operation):
                    yield each
                    yield status, None
            finally:
                closed.append(True)

        client = network.scripted_requestor(network.listen([QuerySCP(ends)]))
        client.associate([(FIND, [IMPLICIT])])
        request = CFindRQ(message_id=1, affected_sop_class_uid=FIND, priority=0)
        client.command(request, encode(KEYS, IMPLICIT))
        network.run()
        assert statuses(client) == [0xFF00, status]
        assert (index.yielded, closed) == (1, [True])

    @pytest.mark.parametrize("status", [None, "0xA700", 0x1FF00])
    def test_a_pair_without_status(self, network: Network, status: Any):
        """H-R25: 0x0110, as for a performer that returns junk."""

        async def junk(identifier: Dataset, operation: Operation) -> Any:
            yield status, study(1)

        ours, _ = joined(network, junk)
        with pytest.raises(StatusError, match="0x0110"):
            network.result(find(ours, KEYS).result())
        assert len(network.flush_logged_errors(TypeError)) == 1

    def test_an_iterator_that_is_no_generator(self, network: Network):
        """It has no `aclose`, and needs none."""
        ours, _ = joined(network, lambda identifier, operation: Countdown(3))
        assert len(network.result(find(ours, KEYS).result())) == 3

    @pytest.mark.parametrize("how", ["generator", "coroutine"])
    def test_a_function_of_another_kind(self, how: str):
        """It is found out before the first query."""

        def generator(identifier: Dataset, operation: Operation) -> Any:
            yield study(1)

        async def coroutine(identifier: Dataset, operation: Operation) -> Any:
            return [study(1)]

        with pytest.raises(MisuseError, match="async generator"):
            QuerySCP(generator if how == "generator" else coroutine)  # type: ignore[arg-type]

    def test_a_failure(self, network: Network):
        async def full(identifier: Dataset, operation: Operation) -> Any:
            yield study(1)
            raise StatusError(0xA700, "too many")

        ours, _ = joined(network, full)
        with pytest.raises(StatusError, match="0xA700") as caught:
            network.result(find(ours, KEYS).result())
        assert caught.value.comment == "too many"

    def test_a_bug_of_the_generator(self, network: Network):
        """H-R25: 0x0110, and the association lives on."""

        async def broken(identifier: Dataset, operation: Operation) -> Any:
            yield study(1)
            raise ZeroDivisionError

        ours, _ = joined(network, broken)
        with pytest.raises(StatusError, match="0x0110"):
            network.result(find(ours, KEYS).result())
        assert len(network.flush_logged_errors(ZeroDivisionError)) == 1
        assert ours.ended is None

    def test_without_context(self, network: Network):
        ours, _ = joined(network, Index(1))
        with pytest.raises(ContextError):
            network.result(find(ours, KEYS, MODALITY_WORKLIST).result())


def statuses(client: ScriptedPeer) -> list[int]:
    found = [each.message for each in client.messages]
    assert all(isinstance(message, CFindRSP) for message in found)
    return [message.status for message in found if isinstance(message, CFindRSP)]


class TestMessages:
    """A scripted SCU of who answers, be that the acceptor or, with roles for it, the requestor."""

    @pytest.fixture(params=SIDES)
    def client(self, network: Network, request: pytest.FixtureRequest) -> ScriptedPeer:
        self.index = Index(2)
        return joined_by(network, request.param, [QuerySCP(self.index)], [FIND])[1]

    def request(self, message_id: int = 1) -> CFindRQ:
        return CFindRQ(message_id=message_id, affected_sop_class_uid=FIND, priority=0)

    def test_pending_with_identifier_then_success_without(self, client: ScriptedPeer):
        client.command(self.request(), encode(KEYS, IMPLICIT))
        assert statuses(client) == [0xFF00, 0xFF00, 0x0000]
        first, _, last = client.messages
        assert first.data is not None
        assert decode(first.data, IMPLICIT).StudyInstanceUID == "1.2.0"
        assert not last.data

    def test_a_match_without_identifier(self, network: Network):
        """The peer broke PS3.7 9.3.2.2: the loop ends with an error, and C-CANCEL is sent."""
        endpoint = network.endpoint()
        server = network.scripted_acceptor(endpoint)
        association = connected(network, endpoint, server)
        result = find(association, KEYS).result()
        server.respond(0xFF00)
        with pytest.raises(ProtocolError, match="without Identifier"):
            network.result(result)
        assert isinstance(server.messages[-1].message, CCancelRQ)

    def test_a_request_that_is_no_query(self, client: ScriptedPeer):
        client.command(CEchoRQ(message_id=1, affected_sop_class_uid=FIND))
        assert [each.message.status for each in client.messages] == [0x0211]  # type: ignore[attr-defined]

    def test_h_d21_an_identifier_that_is_none(self, client: ScriptedPeer):
        client.command(self.request(), b"\xff" * 7)
        assert statuses(client) == [0xA900]
        assert self.index.asked == []

    def test_h_d21_an_identifier_too_long(self, client: ScriptedPeer):
        long = Dataset()
        long.StudyInstanceUID = ["1.2.3.4.5.6.7.8"] * 200_000
        client.command(self.request(), encode(long, IMPLICIT))
        assert statuses(client) == [0xA900]

    @pytest.mark.parametrize("message_id", [1, 7])
    def test_h_d10_a_cancel_for_nothing(self, client: ScriptedPeer, message_id: int):
        client.command(self.request(), encode(KEYS, IMPLICIT))
        assert len(client.messages) == 3
        client.command(CCancelRQ(message_id_being_responded_to=message_id))
        client.command(self.request(2), encode(KEYS, IMPLICIT))
        assert len(client.messages) == 6

    @pytest.mark.parametrize("waits", [False, True])
    def test_h_d10_a_cancel_twice(self, client: ScriptedPeer, network: Network, waits: bool):
        """One final response; the second finds nothing that it could cancel."""
        self.index.count = 0 if waits else 100_000
        self.index.waits = Deferred()
        client.stop_reading()
        client.command(self.request(), encode(KEYS, IMPLICIT))
        for _ in range(2):
            client.command(CCancelRQ(message_id_being_responded_to=1))
        client.start_reading()
        network.run()
        found = statuses(client)
        assert found == [0xFF00] * (len(found) - 1) + [0xFE00]
        assert self.index.closed == 1

    def test_h_d11_a_flood_of_cancels(self, client: ScriptedPeer, network: Network):
        self.index.count = 100_000
        client.stop_reading()
        client.command(self.request(), encode(KEYS, IMPLICIT))
        for _ in range(100):
            client.command(CCancelRQ(message_id_being_responded_to=1))
        client.start_reading()
        network.run()
        for _ in range(10):
            network.advance(0)
        assert statuses(client)[-1] == 0xFE00
        assert statuses(client).count(0xFE00) == 1
        assert self.index.closed == 1

    def test_h_d08_a_duplicate_message_id(self, client: ScriptedPeer, network: Network):
        self.index.waits = Deferred()
        client.command(self.request(), encode(KEYS, IMPLICIT))
        client.command(self.request(), encode(KEYS, IMPLICIT))
        assert statuses(client) == [0xFF00, 0xFF00, 0x0210]
        self.index.waits.callback(None)
        network.run()
        assert statuses(client)[-1] == 0x0000

    def test_it_never_ends(self, client: ScriptedPeer, network: Network):
        """H-R25: answered by its time-out, and the association lives on."""
        self.index.waits = Deferred()
        client.command(self.request(), encode(KEYS, IMPLICIT))
        network.advance(299)
        assert statuses(client) == [0xFF00, 0xFF00]
        network.advance(2)
        assert statuses(client)[-1] == 0x0110
        assert self.index.closed == 1
        self.index.waits = None
        client.command(self.request(2), encode(KEYS, IMPLICIT))
        assert statuses(client)[-1] == 0x0000


def test_extended_negotiation(network: Network):
    """What both sides support is agreed; what is answered can be asked for."""
    scp = QuerySCP(Index(1), options=QueryOptions(relational=True))
    wanted = QueryOptions(relational=True, fuzzy_names=True)
    ours, theirs = network.associate(network.listen([scp]), [FIND], extended={FIND: wanted})
    for association in (ours, theirs):
        assert QueryOptions.decode(association.extended[FIND]) == QueryOptions(relational=True)
