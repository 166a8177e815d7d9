"""A C-FIND that is left: C-CANCEL goes out, and each end ends once (PS3.7 9.3.2.3)."""

from collections.abc import Iterator
from contextlib import aclosing
from threading import Thread
from typing import Any

import pytest
from pydicom import Dataset
from twisted.internet.defer import CancelledError, Deferred

from dimse import (
    MisuseError,
    find,
)
from dimse.testing import Network
from tests.services.queries import KEYS, Index, joined


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


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
