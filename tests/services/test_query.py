"""C-FIND in both roles: streams, collected answers, cancel, refusals (PS3.4 C.4.1, PS3.7 9.1.2)."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from threading import Thread
from typing import Any

import pytest
from pydicom import Dataset
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import formatEvent

from dimse import (
    MODALITY_WORKLIST,
    STUDY_ROOT,
    AssociationAbortedError,
    ContextError,
    Limits,
    MisuseError,
    Operation,
    ProtocolError,
    QueryOptions,
    QuerySCP,
    ReleasedError,
    StatusError,
    TimedOutError,
    VerificationSCP,
    associate,
    echo,
    find,
)
from dimse.message.messages import CCancelRQ, CEchoRQ, CFindRQ, CFindRSP
from dimse.services.dataset import decode, encode
from dimse.testing import Network, ScriptedPeer
from tests.sides import SIDES
from tests.sides import joined as joined_by
from tests.wire import EXPLICIT, IMPLICIT, VERIFICATION

FIND = STUDY_ROOT.find
LIMITS = Limits()


def study(number: int) -> Dataset:
    dataset = Dataset()
    dataset.QueryRetrieveLevel = "STUDY"
    dataset.StudyInstanceUID = f"1.2.{number}"
    return dataset


KEYS = Dataset()
KEYS.QueryRetrieveLevel = "STUDY"
KEYS.StudyInstanceUID = ""


class Index:
    """Yields `count` studies; remembers what was asked, how far it got and how it ended."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[Dataset] = []
        self.yielded = 0
        self.closed = 0
        self.waits: Deferred[None] | None = None

    async def __call__(self, identifier: Dataset, operation: Operation) -> AsyncIterator[Dataset]:
        self.asked.append(identifier)
        try:
            for number in range(self.count):
                self.yielded += 1
                yield study(number)
            if self.waits is not None:
                await self.waits
        finally:
            self.closed += 1


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


def joined(network: Network, find: Any, **options: Any) -> tuple[Any, Any]:
    endpoint = network.listen([QuerySCP(find)], limits=options.get("limits"))
    return network.associate(endpoint, [FIND], **options)


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


class TestCancel:
    def test_of_the_deferred(self, network: Network):
        """C-CANCEL goes out, the generator is closed, and the final status is waited for."""
        index = Index(1)
        index.waits = Deferred()
        ours, theirs = joined(network, index)
        result = find(ours, KEYS).result()
        network.run()
        assert theirs.busy
        result.cancel()
        network.run()
        with pytest.raises(CancelledError):
            network.result(result)
        assert index.closed == 1
        assert not ours.busy
        assert not theirs.busy
        assert ours.ended is None

    def test_by_leaving_the_loop(self, network: Network):
        index = Index(10_000)
        ours, theirs = joined(network, index)

        async def first() -> Dataset:
            async for match in find(ours, KEYS):
                return match
            raise AssertionError

        assert network.result(first()).StudyInstanceUID == "1.2.0"
        network.run()
        assert index.closed == 1
        assert index.yielded < 2000  # what fits the buffers
        assert not ours.busy
        assert not theirs.busy

    def test_aclosing_waits_for_the_final_response(self, network: Network):
        index = Index(10_000)
        ours, _ = joined(network, index)

        async def first() -> None:
            async with aclosing(find(ours, KEYS)) as matches:
                async for _ in matches:
                    break
            assert not ours.busy

        network.result(first())
        assert index.closed == 1

    def test_asked_for_the_rest_is_no_error(self, network: Network):
        ours, _ = joined(network, Index(10_000))

        async def some() -> int:
            answers = find(ours, KEYS)
            seen = 0
            async for _ in answers:
                seen += 1
                if seen == 3:
                    answers.cancel()
            assert answers.status == 0xFE00
            return seen

        assert 3 <= network.result(some()) < 2000

    @pytest.mark.parametrize("how", ["abort", "cut"])
    def test_the_end_of_the_association_closes_the_generator(self, network: Network, how: str):
        index = Index(1)
        index.waits = Deferred()
        ours, _ = joined(network, index)
        result = find(ours, KEYS).result()
        network.run()
        if how == "abort":
            ours.abort()
            network.run()
        else:
            network.cut()
        assert index.closed == 1
        with pytest.raises(Exception, match=r"association|connection"):
            network.result(result)

    def test_before_it_was_sent(self, network: Network):
        """With the window full, nothing of it ever reaches the peer."""
        index = Index(1)
        index.waits = Deferred()
        ours, _ = joined(network, index)
        first, second = find(ours, KEYS).result(), find(ours, KEYS).result()
        network.run()
        second.cancel()
        with pytest.raises(CancelledError):
            network.result(second)
        index.waits.callback(None)
        assert len(network.result(first)) == 1
        assert len(index.asked) == 1


class TestOnce:
    """An `Answers` is good for one operation, which may be none."""

    @pytest.mark.parametrize("how", ["cancel", "aclose"])
    def test_given_up_before_it_began(self, network: Network, how: str):
        """Then nothing is sent, and the loop ends at once."""
        index = Index(3)
        ours, _ = joined(network, index)
        answers = find(ours, KEYS)

        async def user() -> list[Dataset]:
            if how == "cancel":
                answers.cancel()
            else:
                await answers.aclose()
            return [match async for match in answers]

        assert network.result(user()) == []
        assert index.asked == []

    def test_cancelled_while_it_waits_for_its_turn(self, network: Network):
        """It is known which of the two `CancelledError` it is: nobody's bug."""
        index = Index(1)
        index.waits = Deferred()
        ours, _ = joined(network, index)
        first, second = find(ours, KEYS).result(), find(ours, KEYS)
        result = second.result()
        network.run()
        second.cancel()
        with pytest.raises(CancelledError):
            network.result(result)
        index.waits.callback(None)
        network.result(first)
        assert len(index.asked) == 1

    def test_cancelled_before_it_is_awaited(self, network: Network):
        ours, _ = joined(network, Index(1))
        answers = find(ours, KEYS)
        answers.cancel()
        with pytest.raises(CancelledError):
            network.result(answers.result())

    @pytest.mark.parametrize("how", ["result", "loop", "aclose"])
    def test_awaited_when_nothing_is_left(self, network: Network, how: str):
        """That there are no matches would be a lie."""
        ours, _ = joined(network, Index(3))

        async def twice() -> list[Dataset]:
            answers = find(ours, KEYS)
            if how == "result":
                assert len(await answers) == 3
            elif how == "loop":
                assert len([match async for match in answers]) == 3
            else:
                await answers.__anext__()
                await answers.aclose()
            return await answers

        with pytest.raises(MisuseError):
            network.result(twice())

    def test_the_garbage_collector_of_another_thread(
        self, network: Network, monkeypatch: pytest.MonkeyPatch
    ):
        """It runs wherever it likes, and leaves the transport to the thread of the reactor."""
        calls: list[Any] = []
        ours, _ = joined(network, Index(10_000))
        answers = [find(ours, KEYS)]
        network.result(answers[0].__anext__())
        monkeypatch.setattr(network.clock, "callFromThread", calls.append)
        written = len(network.links[0].near.writes)
        thread = Thread(target=answers.clear)
        thread.start()
        thread.join()
        assert len(network.links[0].near.writes) == written
        (call,) = calls
        call()
        network.run()
        assert not ours.busy


class TestPace:
    def test_h_d22_a_peer_that_does_not_read_stops_the_generator(self, network: Network):
        index = Index(100_000)
        ours, theirs = joined(network, index)
        network.links[0].near.deaf = True
        find(ours, KEYS).result().addErrback(lambda _: None)
        for _ in range(50):
            network.run()
            network.clock.advance(0)
        stopped = index.yielded
        assert stopped < 5_000
        network.run()
        network.clock.advance(0)
        assert index.yielded == stopped
        theirs.abort()

    def test_h_d22_a_slow_loop_stops_the_generator(self, network: Network):
        index = Index(100_000)
        ours, _ = joined(network, index, limits=Limits(answers=8))
        answers = find(ours, KEYS)
        network.result(answers.__anext__())
        for _ in range(50):
            network.advance(0)
        stopped = index.yielded
        assert stopped < 5_000
        network.advance(0)
        assert index.yielded == stopped
        for _ in range(1000):
            network.result(answers.__anext__())
        assert index.yielded > 1000
        network.result(answers.aclose())

    def test_time_out_starts_again_with_each_response(self, network: Network):
        endpoint = network.endpoint()
        server = network.scripted_acceptor(endpoint)
        ours = connected(network, endpoint, server)
        result = find(ours, KEYS, timeout=10).result()
        network.run()
        for _ in range(3):
            network.advance(9)
            server.respond(0xFF00, encode(study(1), IMPLICIT))
        network.advance(9)
        assert ours.ended is None
        network.advance(2)
        with pytest.raises(TimedOutError):
            network.result(result)


class TestBesideOthers:
    """The user of a loop does something else on its association, or leaves it."""

    COUNTS = (10, 100, 1000)  # below and above `Limits.answers`

    def both(self, network: Network, count: int, window: int = 1) -> tuple[Any, Any]:
        limits = Limits(operations_invoked=window, operations_performed=window)
        endpoint = network.listen([QuerySCP(Index(count)), VerificationSCP()], limits=limits)
        return network.associate(endpoint, [FIND, VERIFICATION], limits=limits)

    @pytest.mark.parametrize("window", [1, 4])
    @pytest.mark.parametrize("count", COUNTS)
    def test_an_echo_for_each_match(self, network: Network, count: int, window: int):
        """Its response comes behind matches that nobody takes meanwhile."""
        ours, _ = self.both(network, count, window)

        async def user() -> list[int]:
            return [await echo(ours) async for _ in find(ours, KEYS)]

        assert network.result(user()) == [0] * count

    def test_the_loop_is_slow_again_afterwards(self, network: Network):
        """What is read for the sake of the other operation does not open the gates for ever."""
        index = Index(100_000)
        limits = Limits(operations_invoked=2, operations_performed=2)
        endpoint = network.listen([QuerySCP(index), VerificationSCP()], limits=limits)
        ours, _ = network.associate(endpoint, [FIND, VERIFICATION], limits=limits)
        answers = find(ours, KEYS)
        network.result(answers.__anext__())
        assert not network.links[0].near.reading
        network.result(echo(ours))
        network.result(answers.__anext__())
        assert not network.links[0].near.reading
        network.result(answers.aclose())

    def test_two_slow_loops(self, network: Network):
        """Neither waits for what the other one does not take: both make the peer wait."""
        index = Index(100_000)
        limits = Limits(operations_invoked=2, operations_performed=2)
        endpoint = network.listen([QuerySCP(index)], limits=limits)
        ours, _ = network.associate(endpoint, [FIND], limits=limits)
        one, other = find(ours, KEYS), find(ours, KEYS)
        first = one.__anext__()
        network.result(other.__anext__())
        network.result(first)
        for _ in range(10):
            network.advance(0)
        assert not network.links[0].near.reading
        assert index.yielded < 10_000
        for _ in range(200):
            network.result(one.__anext__())
        network.result(one.aclose())
        network.result(other.aclose())

    @pytest.mark.parametrize("count", COUNTS)
    def test_release_in_the_loop(self, network: Network, count: int):
        """It waits for nobody who would have to take the answers first."""
        index = Index(count)
        ours, _ = joined(network, index)

        async def user() -> None:
            async for _ in find(ours, KEYS):
                await ours.release()

        if count > LIMITS.answers:
            with pytest.raises(MisuseError, match="released before all answers"):
                network.result(user())
        else:
            network.result(user())
        assert isinstance(ours.ended, ReleasedError)
        assert index.closed == 1

    @pytest.mark.parametrize("count", COUNTS)
    def test_release_after_a_loop_over_a_variable(self, network: Network, count: int):
        endpoint = network.listen([QuerySCP(Index(count))])

        async def user() -> str:
            async with associate(endpoint, [FIND], reactor=network.clock) as ours:
                matches = find(ours, KEYS)
                async for match in matches:
                    return str(match.StudyInstanceUID)
            raise AssertionError

        assert network.result(user()) == "1.2.0"

    def test_release_lets_others_take_what_they_asked_for(self, network: Network):
        """A query whose matches are taken ends as if nobody had asked for the release."""
        ours, _ = joined(network, Index(1000))
        matches, released = find(ours, KEYS).result(), ours.release()
        assert len(network.result(matches)) == 1000
        network.result(released)

    def test_the_abort_of_the_peer_is_heard(self, network: Network):
        endpoint = network.endpoint()
        server = network.scripted_acceptor(endpoint)
        ours = connected(network, endpoint, server, [VERIFICATION])

        async def user() -> None:
            async for _ in find(ours, KEYS):
                await echo(ours)

        using = Deferred.fromCoroutine(user())
        network.run()
        for _ in range(100):
            server.respond(0xFF00, encode(study(1), IMPLICIT))
        server.abort()
        with pytest.raises(AssociationAbortedError):
            network.result(using)


def connected(
    network: Network, endpoint: Any, server: ScriptedPeer, contexts: Sequence[str] = ()
) -> Any:
    proposed = [(uid, [IMPLICIT]) for uid in (FIND, *contexts)]
    pending = associate(endpoint, proposed, reactor=network.clock)
    network.run()
    server.accept()
    return network.result(pending)


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
