"""An association is released, by us or by the peer (PS3.8 7.2)."""

import pytest
from twisted.internet.defer import CancelledError, Deferred

from dimse.errors import (
    AssociationAbortedError,
    ConnectionLostError,
    MisuseError,
    ReleasedError,
)
from dimse.limits import Limits
from dimse.services.verification import echo
from dimse.ul.pdu import ReleaseRP, ReleaseRQ
from dimse.ul.table import Sta
from tests.memory import Net
from tests.pairs import Pair, both_ended
from tests.scripted import (
    AC,
    ECHO,
    RELEASE_RP,
    RELEASE_RQ,
    RQ,
    STORE,
    UNEXPECTED,
    data,
)


@pytest.fixture
def pair(net: Net) -> Pair:
    """A requestor, an acceptor, and the link between them."""
    return net.pair()


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
