"""An association in use, both sides in memory: release, abort, `async with` (PS3.8 7.2, 7.3)."""

from dataclasses import replace
from traceback import walk_tb
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost

from dimse.association import Association
from dimse.errors import (
    AssociationAbortedError,
    ConnectionLostError,
    ContextError,
    MisuseError,
    ReleasedError,
)
from dimse.limits import Limits
from dimse.services.verification import echo
from dimse.testing import Link
from dimse.ul.pdu import Abort, AssociateAC, ReleaseRP, ReleaseRQ, UserInformation
from dimse.ul.table import Sta
from tests.memory import CONTEXTS, Net, RecordingSink
from tests.scripted import (
    AC,
    ECHO,
    RELEASE_RP,
    RELEASE_RQ,
    RQ,
    STORE,
    UNEXPECTED,
    Bytes,
    data,
    echo_rq,
    echo_rsp,
    store_rq,
)
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT, VERIFICATION

MR_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
Pair = tuple[Association, Association, Link]


@pytest.fixture
def pair(net: Net) -> Pair:
    """A requestor, an acceptor, and the link between them."""
    return net.pair()


def both_ended(pair: Pair, kind: type[Exception]) -> None:
    assert isinstance(pair[0].ended, kind)
    assert isinstance(pair[1].ended, kind)


class TestEstablished:
    def test_what_each_side_knows(self, pair: Pair):
        requestor, acceptor, _ = pair
        assert (requestor.is_requestor, acceptor.is_requestor) == (True, False)
        assert (requestor.ae_title, requestor.peer.ae_title) == ("MODALITY", "ARCHIVE")
        assert (acceptor.ae_title, acceptor.peer.ae_title) == ("ARCHIVE", "MODALITY")
        assert str(acceptor.peer) == "MODALITY@10.0.0.1:4242"
        assert requestor.ended is acceptor.ended is None
        assert not requestor.busy

    def test_contexts(self, pair: Pair):
        for side, scu in zip(pair[:2], (True, False), strict=True):
            contexts = side.contexts.values()
            assert [(c.context_id, c.abstract_syntax) for c in contexts] == [
                (1, VERIFICATION),
                (3, CT_STORAGE),
            ]
            assert all((c.scu, c.scp) == (scu, not scu) for c in contexts)

    @pytest.mark.parametrize(("theirs", "ours"), [(0, 4096), (1000, 1000), (16384, 4096)])
    def test_pdus_are_no_longer_than_both_allow(self, net: Net, theirs: int, ours: int):
        """PS3.8 D.1: the maximum length that was received bounds what is sent; 0 is no limit."""
        answer = AssociateAC.decode(memoryview(AC)[6:])
        server = net.server(limits=Limits(send_length=4096))
        server.send(replace(answer, user_information=UserInformation(theirs)).encode())
        server.received.clear()
        association = server.outcome.value
        net.outcome(association.request(association.contexts[3], store_rq(), Bytes(bytes(50_000))))
        server.link.run()
        assert max(len(pdu.encode()) - 6 for pdu in server.pdus) == ours


class TestContexts:
    def test_first_that_fits(self, pair: Pair):
        assert pair[0].context_for(VERIFICATION).context_id == 1
        assert pair[0].context_for(CT_STORAGE, EXPLICIT).context_id == 3

    def test_by_transfer_syntax(self, net: Net):
        contexts = [(CT_STORAGE, (IMPLICIT,)), (CT_STORAGE, (EXPLICIT,))]
        requestor, *_ = net.pair(contexts=contexts)
        assert requestor.context_for(CT_STORAGE, EXPLICIT).context_id == 3
        assert requestor.context_for(CT_STORAGE).context_id == 1

    def test_not_proposed(self, pair: Pair):
        """That is nobody's refusal."""
        what = f"did not propose MR Image Storage ({MR_STORAGE}) (PS3.8 9.3.2.2)"
        for association, who in ((pair[0], "we"), (pair[1], "MODALITY@10.0.0.1:4242")):
            with pytest.raises(ContextError) as caught:
                association.context_for(MR_STORAGE)
            assert str(caught.value) == f"{who} {what}"

    def test_refused(self, net: Net):
        """Each proposal that was not accepted, and the reason in the error of who wants it."""
        contexts = [VERIFICATION, (MR_STORAGE, (EXPLICIT, IMPLICIT))]
        requestor, acceptor, _ = net.pair(contexts=contexts)
        reason = (
            f"context 3, {MR_STORAGE} in {EXPLICIT}, {IMPLICIT}: "
            "result 3, abstract syntax not supported"
        )
        assert requestor.refused == acceptor.refused
        assert [str(refusal) for refusal in requestor.refused] == [reason]
        with pytest.raises(ContextError) as caught:
            requestor.context_for(MR_STORAGE)
        assert str(caught.value).endswith(f": {reason}")

    def test_another_transfer_syntax(self, pair: Pair):
        with pytest.raises(ContextError) as caught:
            pair[0].context_for(CT_STORAGE, IMPLICIT)
        name = f"CT Image Storage ({CT_STORAGE})"
        assert f"accepted {name} with {EXPLICIT} but not with {IMPLICIT}" in str(caught.value)

    def test_not_in_the_role_of_scu(self, pair: Pair):
        with pytest.raises(ContextError, match=r"we accepted no context .* with us as SCU"):
            pair[1].context_for(VERIFICATION)


class TestRelease:
    def test_in_order(self, net: Net, pair: Pair):
        requestor, _, link = pair
        ends = [net.outcome(side.when_ended()) for side in pair[:2]]
        released = net.outcome(requestor.release())
        link.run()
        assert released.value is None
        both_ended(pair, ReleasedError)
        assert [end.value for end in ends] == [side.ended for side in pair[:2]]
        assert link.near.lost
        assert net.clock.getDelayedCalls() == []

    def test_when_ended_cancelled(self, pair: Pair):
        """Before the end, and by another one in the middle of it: all others fire."""
        first, second, third, last = (pair[0].when_ended() for _ in range(4))
        first.addErrback(lambda failure: failure.trap(CancelledError)).cancel()
        third.addErrback(lambda failure: failure.trap(CancelledError))
        second.addCallback(lambda _: third.cancel())
        pair[0].abort()
        assert all(each.called for each in (second, third, last))

    def test_when_ended_afterwards(self, net: Net, pair: Pair):
        pair[0].abort()
        assert net.outcome(pair[0].when_ended()).value is pair[0].ended

    def test_it_waits_for_what_is_outstanding(self, net: Net, pair: Pair):
        done: Deferred[int] = Deferred()
        net.scp.on_finish = lambda sink: done
        requestor, _, link = pair
        echoes = [net.outcome(echo(requestor)) for _ in range(2)]
        released = net.outcome(requestor.release())
        link.run()
        assert released.firings == []
        done.callback(0)
        net.scp.on_finish = lambda sink: Deferred()
        link.run()
        assert [len(each.firings) for each in (*echoes, released)] == [1, 0, 0]
        requestor.abort()

    def test_nothing_is_asked_after_it(self, net: Net, pair: Pair):
        released = net.outcome(pair[0].release())
        assert isinstance(net.outcome(echo(pair[0])).value, MisuseError)
        pair[2].run()
        assert released.value is None

    def test_twice_waits_for_the_same(self, net: Net, pair: Pair):
        released = [net.outcome(pair[0].release()) for _ in range(2)]
        assert [each.firings for each in released] == [[], []]
        pair[2].run()
        assert [each.value for each in released] == [None, None]
        assert net.outcome(pair[0].release()).value is None

    def test_one_cancels_another(self, net: Net, pair: Pair):
        first, second = (pair[0].release() for _ in range(2))
        first.addCallback(lambda _: second.cancel())
        outcomes = [net.outcome(first), net.outcome(second)]
        pair[2].run()
        assert outcomes[0].value is None
        assert isinstance(outcomes[1].value, CancelledError)
        assert isinstance(pair[0].ended, ReleasedError)

    def test_only_the_requestor_may(self, net: Net, pair: Pair):
        assert isinstance(net.outcome(pair[1].release()).value, MisuseError)

    def test_after_an_abort(self, net: Net, pair: Pair):
        pair[0].abort()
        assert net.outcome(pair[0].release()).value is pair[0].ended

    def test_cancelling_it_aborts(self, net: Net, pair: Pair):
        released, other = (net.outcome(pair[0].release()) for _ in range(2))
        released.deferred.cancel()
        pair[2].run()
        assert isinstance(released.value, CancelledError)
        assert other.value is pair[0].ended
        assert isinstance(pair[0].ended, AssociationAbortedError)
        assert "its release was cancelled" in str(pair[0].ended)

    @pytest.mark.parametrize("ending", ["abort", "cut"])
    def test_it_fails_if_the_association_ends_otherwise(self, net: Net, pair: Pair, ending: str):
        released = net.outcome(pair[0].release())
        if ending == "abort":
            pair[1].abort()
            pair[2].run()
        else:
            pair[2].cut()
        assert isinstance(released.value, AssociationAbortedError | ConnectionLostError)


class TestReleaseOfThePeer:
    """H-S07: it gets our answer when its requests have theirs."""

    def test_it_waits_for_what_is_performed(self, net: Net):
        done: Deferred[int] = Deferred()
        net.scp.on_finish = lambda sink: done
        client = net.client(net.acceptor(limits=Limits(perform=2000)))
        client.send(RQ, STORE, data(b"ab"), RELEASE_RQ)
        client.received.clear()
        assert client.subject.state is Sta.Sta8
        client.link.advance(1000)
        assert client.received == b""
        done.callback(0)
        client.link.run()
        assert [type(pdu).__name__ for pdu in client.news] == ["PDataTF", "ReleaseRP"]
        assert net.scp.sinks[0].endings == ["finish"]
        client.link.near.loseConnection()
        client.link.run()
        assert net.clock.getDelayedCalls() == []

    def test_inside_a_message(self, net: Net):
        client = net.client()
        client.send(RQ, STORE)
        client.received.clear()
        client.send(RELEASE_RQ)
        assert client.news == [UNEXPECTED]

    def test_what_we_still_wait_for_fails(self, net: Net):
        server = net.server()
        server.send(AC)
        echoed = net.outcome(echo(server.outcome.value))
        server.send(RELEASE_RQ)
        assert isinstance(echoed.value, ReleasedError)
        assert server.pdus[-1] == ReleaseRP()

    def test_before_ours_was_sent(self, net: Net):
        """Ours waits for an operation; the peer's ends both."""
        server = net.server()
        server.send(AC)
        echoed = net.outcome(echo(server.outcome.value))
        released = net.outcome(server.outcome.value.release())
        server.received.clear()
        server.link.run()
        server.send(RELEASE_RQ)
        assert server.pdus[-1] == ReleaseRP()
        assert released.value is None
        assert isinstance(echoed.value, ReleasedError)

    def test_collision(self, net: Net):
        """AR-8: the requestor answers first and then waits for its own confirmation."""
        server = net.server()
        server.send(AC)
        server.received.clear()
        released = net.outcome(server.outcome.value.release())
        server.link.run()
        server.send(RELEASE_RQ)
        assert server.news == [ReleaseRQ(), ReleaseRP()]
        assert released.firings == []
        server.send(RELEASE_RP)
        assert released.value is None
        assert server.closed
        assert net.clock.getDelayedCalls() == []

    def test_p_data_before_the_confirmation(self, net: Net):
        """AR-6: it is delivered, and what cannot be answered any more is not."""
        server = net.server(scps=[net.scp])
        server.send(AC)
        released = net.outcome(server.outcome.value.release())
        server.send(ECHO)
        assert len(net.scp.sinks) in (0, 1)
        server.received.clear()
        server.send(RELEASE_RP)
        assert released.value is None
        assert server.received == b""


class TestAbort:
    def test_it_says_why(self, net: Net, pair: Pair):
        pair[0].abort("the disk is full")
        assert str(pair[0].ended).endswith(": the disk is full")

    def test_when_closed_is_after_the_end(self, net: Net, pair: Pair):
        closed = net.outcome(pair[0].when_closed())
        pair[0].abort()
        assert pair[0].ended is not None
        assert closed.firings == []
        pair[2].run()
        assert closed.value is None

    def test_a_lost_connection_names_its_cause(self, net: Net, pair: Pair):
        pair[2].cut()
        both_ended(pair, ConnectionLostError)
        assert pair[0].ended is not None
        assert isinstance(pair[0].ended.__cause__, ConnectionLost)
        assert str(ConnectionLost()) in str(pair[0].ended)

    @pytest.mark.parametrize("side", [0, 1])
    def test_both_sides_know(self, net: Net, pair: Pair, side: int):
        outstanding = net.outcome(echo(pair[0]))
        net.scp.on_finish = lambda sink: Deferred()
        pair[2].run()
        sides = pair[:2]
        sides[side].abort()
        sides[side].abort()
        pair[2].run()
        both_ended(pair, AssociationAbortedError)
        ours, theirs = sides[side].ended, sides[1 - side].ended
        assert isinstance(ours, AssociationAbortedError)
        assert isinstance(theirs, AssociationAbortedError)
        assert (ours.by_peer, theirs.by_peer) == (False, True)
        assert (theirs.source, theirs.reason) == (0, 0)  # PS3.8 9.3.8: the service-user
        assert outstanding.value is pair[0].ended
        net.run()
        assert net.clock.getDelayedCalls() == []

    def test_a_lost_connection(self, net: Net, pair: Pair):
        outstanding = net.outcome(echo(pair[0]))
        pair[2].cut()
        both_ended(pair, ConnectionLostError)
        assert isinstance(outstanding.value, ConnectionLostError)


def test_what_has_ended_it_keeps_nobody_alive(pair: Pair):
    """Each request afterwards raises the same error, whose traceback would keep all callers."""
    ours: Any = pair[0]
    ours.abort()

    def depth() -> int:
        with pytest.raises(AssociationAbortedError):
            ours.invoke(ours.contexts[1], echo_rq(), None, lambda _: None)
        return len(list(walk_tb(ours.ended.__traceback__)))

    assert len({depth() for _ in range(5)}) == 1


class TestContextManager:
    def test_success_releases(self, net: Net, pair: Pair):
        async def body() -> int:
            async with pair[0] as association:
                return await echo(association)

        outcome = net.outcome(Deferred.fromCoroutine(body()))
        pair[2].run()
        assert outcome.value == 0
        both_ended(pair, ReleasedError)

    def test_an_exception_aborts(self, net: Net, pair: Pair):
        async def body() -> None:
            async with pair[0]:
                raise ZeroDivisionError

        outcome = net.outcome(Deferred.fromCoroutine(body()))
        pair[2].run()
        assert isinstance(outcome.value, ZeroDivisionError)
        both_ended(pair, AssociationAbortedError)

    def test_an_association_that_is_over(self, net: Net, pair: Pair):
        async def body() -> None:
            async with pair[0]:
                pair[1].abort()
                pair[2].run()

        outcome = net.outcome(Deferred.fromCoroutine(body()))
        assert isinstance(outcome.value, AssociationAbortedError)
        assert outcome.value.by_peer

    def test_cancelling_the_coroutine_aborts(self, net: Net, pair: Pair):
        async def body() -> None:
            async with pair[0]:
                await Deferred()

        outcome = net.outcome(Deferred.fromCoroutine(body()))
        outcome.deferred.cancel()
        pair[2].run()
        assert isinstance(outcome.value, CancelledError)
        both_ended(pair, AssociationAbortedError)


def test_both_sides_at_work_at_once(net: Net):
    """The acceptor is SCU in the role it was given, while it performs (PS3.7 D.3.3.4)."""
    requestor, acceptor, link = net.pair(scps=[net.scp])
    context = acceptor.contexts[1]
    theirs = net.outcome(acceptor.request(context, echo_rq()))
    ours = net.outcome(echo(requestor))
    link.run()
    assert ours.value == 0
    assert theirs.value.response.status == 0x0122  # without role selection the requestor is no SCP


def test_a_slow_reader_and_a_large_instance(net: Net):
    """Neither side holds more than about one read and one write of a message of any length."""
    requestor, _, link = net.pair()
    highest = 0

    def on_write(_: RecordingSink) -> None:
        nonlocal highest
        highest = max(highest, len(link.near.buffer))

    net.scp.on_write = on_write
    link.sizes = iter(lambda: 10_000, None)
    context = requestor.context_for(CT_STORAGE)
    stored = net.outcome(requestor.request(context, store_rq(), Bytes(bytes(5_000_000))))
    link.run()
    assert stored.value.response.status == 0
    assert len(net.scp.sinks[0].data) == 5_000_000
    assert highest < 700_000


def test_reading_and_writing_paused_on_both_sides(net: Net):
    """A sink that pauses at every fragment lets everything through in the end."""

    def on_write(sink: RecordingSink) -> None:
        sink.operation.pauseProducing()
        net.clock.callLater(1, sink.operation.resumeProducing)

    net.scp.on_write = on_write
    requestor, _, link = net.pair(limits=Limits(maximum_length=100_000))
    context = requestor.context_for(CT_STORAGE)
    content = bytes(range(256)) * 8000
    stored: Any = net.outcome(requestor.request(context, store_rq(), Bytes(content)))
    link.run()
    while not stored.firings:
        link.advance(1)
    link.advance(1)
    assert net.scp.sinks[0].data == content


@pytest.mark.parametrize("contexts", [CONTEXTS, (VERIFICATION,) * 128])
def test_as_many_contexts_as_there_are_ids(net: Net, contexts: tuple[str, ...]):
    requestor, acceptor, _ = net.pair(contexts=contexts)
    assert len(requestor.contexts) == len(acceptor.contexts) == len(contexts)


def test_an_echo_after_the_response_time(net: Net):
    """A response in time stops the timer; nothing of it is left."""
    server = net.server()
    server.send(AC)
    for number in (1, 2):
        echoed = net.outcome(echo(server.outcome.value))
        server.link.advance(59)
        server.send(echo_rsp(number))
        assert echoed.value == 0
    assert Abort(0, 0) not in server.pdus
