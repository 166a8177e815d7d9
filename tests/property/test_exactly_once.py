"""Whatever happens, each Deferred fires exactly once, each sink ends once, no timer is left."""

from itertools import cycle
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import deferLater

from dimse.association import Association
from dimse.errors import StatusError
from dimse.limits import Limits
from dimse.services.verification import echo
from dimse.testing import Link
from tests.memory import Net, RecordingSink
from tests.scripted import Bytes, store_rq
from tests.wire import CT_STORAGE

LIMITS = Limits(
    artim=10, associate=15, response=30, idle=50, write_stall=20, progress=20, close=5,
    maximum_length=4096, send_length=4096,
)  # fmt: skip
ADDRESS = IPv4Address("TCP", "10.0.0.1", 4242)
DONE = 60  # as many times 10 s end everything, by whichever time-outs

actions = st.sampled_from(["echo", "store", "large", "cancel", "release", "abort", "abort theirs"])
finishes = st.sampled_from(["now", "later", "fail", "crash", "pause"])
events = st.sampled_from(["cut", "deaf near", "deaf far", "hear", 1, 14, 29, 60])


class Exchange:
    """One association with everything that is asked for on it."""

    def __init__(self, net: Net, finishing: list[str], acting: list[str]) -> None:
        self.net = net
        self._finishing = cycle(finishing)
        self._acting = acting
        net.scp.on_finish = self._finish
        factory = net.acceptor(limits=LIMITS)
        requestor = net.requestor(limits=LIMITS)
        far = factory.buildProtocol(ADDRESS)
        self.link: Link = net.join(requestor.buildProtocol(ADDRESS), far)
        self.link.near.bufferSize = self.link.far.bufferSize = 5000
        net.outcome(far.when_closed())  # type: ignore[union-attr]  # it is not above a limit
        established = net.outcome(requestor.established)
        established.deferred.addCallback(lambda _: self._act(established.firings[0]))

    def _finish(self, sink: RecordingSink) -> "Deferred[int]":
        how = next(self._finishing)
        if how == "pause":
            sink.operation.pauseProducing()
            return deferLater(self.net.clock, 3, lambda: 0)
        if how == "later":
            return deferLater(self.net.clock, 7, lambda: 0)
        if how == "crash":
            raise StatusError(0x0110)
        return fail(StatusError(0xA700)) if how == "fail" else succeed(0)

    def _act(self, association: Any) -> None:
        if not isinstance(association, Association):
            return
        self.net.outcome(association.when_ended())
        outcome = self.net.outcome
        for number, action in enumerate(self._acting, 1):
            if action == "echo":
                outcome(echo(association))
            elif action in ("store", "large"):
                source = Bytes(bytes(9000 if action == "store" else 400_000))
                request = store_rq(association.next_message_id(), f"1.2.{number}")
                outcome(association.request(association.context_for(CT_STORAGE), request, source))
            elif action == "cancel":
                self.net.outcomes[-1].deferred.cancel()
            elif action == "release":
                outcome(association.release())
            elif action == "abort":
                association.abort()
            else:
                theirs: Any = self.link.far.protocol
                theirs.user.abort()

    def happen(self, event: str | int) -> None:
        if event == "cut":
            self.link.cut()
        elif event == "hear":
            self.link.near.deaf = self.link.far.deaf = False
        elif isinstance(event, int):
            self.net.clock.advance(event)
        else:
            end = self.link.near if event == "deaf near" else self.link.far
            end.deaf = True


@given(
    sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=5),
    acting=st.lists(actions, max_size=6),
    finishing=st.lists(finishes, min_size=1, max_size=4),
    happening=st.lists(st.tuples(st.integers(0, 60), events), max_size=4),
)
@example([1000], ["echo", "store", "store", "release"], ["now"], [])
@example([1], ["echo", "release"], ["later"], [(40, "cut")])
@example([9000], ["large", "cancel"], ["now"], [(3, "deaf far")])
@example([9000], ["store", "echo", "release"], ["pause"], [(10, 60)])
def test_exactly_once(
    sizes: list[int], acting: list[str], finishing: list[str], happening: list[tuple[int, Any]]
):
    net = Net()
    exchange = Exchange(net, finishing, acting)
    exchange.link.sizes = cycle(sizes)
    for steps, event in happening:
        exchange.link.run(steps)
        exchange.happen(event)
    exchange.link.run()
    for _ in range(DONE):
        exchange.link.advance(10)
    assert exchange.link.near.lost  # by itself
    assert exchange.link.far.lost or exchange.link.far.deaf
    assert all(outcome.firings for outcome in net.outcomes if not exchange.link.far.deaf)
    net.check()
