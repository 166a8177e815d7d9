"""An association in use: established, aborted, at work on both sides (PS3.7 6.2)."""

from dataclasses import replace
from traceback import walk_tb
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost

from dimse.errors import (
    AssociationAbortedError,
    ConnectionLostError,
    ContextError,
    ReleasedError,
)
from dimse.limits import Limits
from dimse.services.verification import echo
from dimse.ul.pdu import Abort, AssociateAC, UserInformation
from tests.memory import CONTEXTS, Net, RecordingSink
from tests.pairs import Pair, both_ended
from tests.scripted import (
    AC,
    Bytes,
    echo_rq,
    echo_rsp,
    store_rq,
)
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT, VERIFICATION

MR_STORAGE = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture
def pair(net: Net) -> Pair:
    """A requestor, an acceptor, and the link between them."""
    return net.pair()


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
