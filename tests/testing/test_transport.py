"""Connections in memory: when bytes arrive, and how connections end."""

from typing import Any

import pytest
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    ITransport,
)
from zope.interface.verify import verifyObject

from dimse.testing import Network
from tests.testing.recorder import joined


class TestConnections:
    def test_both_ends_are_transports(self, network: Network):
        near, far, _ = joined(network)
        for interface in (ITransport, IConsumer, IPushProducer):
            assert verifyObject(interface, near.transport)
        assert near.transport.getHost() == far.transport.getPeer()
        assert near.transport.getPeer() == far.transport.getHost()
        assert near.transport.getHost() != near.transport.getPeer()

    def test_bytes_move_when_the_network_runs(self, network: Network):
        near, far, _ = joined(network)
        near.transport.write(b"ab")
        near.transport.writeSequence([b"c", b"d"])
        assert far.segments == []
        network.run()
        assert far.segments == [b"abcd"]
        assert near.transport.writes == [b"ab", b"cd"]

    def test_only_bytes_can_be_written(self, network: Network):
        near, _, _ = joined(network)
        wrong: Any = bytearray(b"ab")
        with pytest.raises(TypeError):
            near.transport.write(wrong)

    def test_segments(self):
        with Network(segments=[1, 3]) as network:
            near, far, _ = joined(network)
            near.transport.write(b"abcdefghi")
            network.run()
            assert far.segments == [b"a", b"bcd", b"e", b"fgh", b"i"]

    def test_step_by_step(self, network: Network):
        near, far, link = joined(network)
        near.transport.write(b"a")
        far.transport.write(b"b")
        assert link.step()
        assert (far.segments, near.segments) == ([b"a"], [])
        link.run(1)
        assert near.segments == [b"b"]
        assert not link.step()

    def test_an_end_that_does_not_read(self, network: Network):
        near, far, _ = joined(network)
        far.transport.deaf = True
        near.transport.write(b"a")
        network.run()
        assert far.segments == []
        far.transport.deaf = False
        network.run()
        assert far.segments == [b"a"]

    def test_a_protocol_that_does_not_read(self, network: Network):
        near, far, _ = joined(network)
        far.transport.pauseProducing()
        near.transport.write(b"a")
        network.run()
        assert far.segments == []
        far.transport.resumeProducing()
        network.run()
        assert far.segments == [b"a"]
        assert far.transport.timeline == ["pause", "resume"]

    def test_a_producer_is_paused_until_all_is_read(self):
        with Network(segments=[60]) as network:
            near, _, link = joined(network)
            near.transport.registerProducer(near, True)
            near.transport.bufferSize = 100
            near.transport.write(bytes(100))
            assert near.calls == []
            near.transport.write(b"x")
            assert near.calls == ["pause"]
            assert link.step()
            assert near.calls == ["pause"]
            network.run()
            assert near.calls == ["pause", "resume"]

    def test_a_producer_that_has_to_be_asked(self, network: Network):
        near, _, _ = joined(network)
        near.transport.registerProducer(near, False)
        near.transport.write(b"a")
        assert near.calls == ["resume"]
        network.run()
        assert near.calls == ["resume", "resume"]

    def test_close_after_all_is_read(self, network: Network):
        near, far, _ = joined(network)
        near.transport.write(b"last words")
        near.transport.loseConnection()
        assert near.end is None
        network.run()
        assert far.segments == [b"last words"]
        assert isinstance(near.end, ConnectionDone)
        assert isinstance(far.end, ConnectionDone)
        far.transport.write(b"nobody hears this")
        network.run()

    def test_a_producer_that_is_waited_for_keeps_it_open(self, network: Network):
        near, _, _ = joined(network)
        near.transport.registerProducer(near, False)
        near.transport.stopProducing()
        network.run()
        assert near.end is None
        near.transport.unregisterProducer()
        network.run()
        assert isinstance(near.end, ConnectionDone)

    def test_a_producer_that_writes_when_it_wants_does_not(self, network: Network):
        near, _, _ = joined(network)
        near.transport.registerProducer(near, True)
        near.transport.loseConnection()
        network.run()
        assert isinstance(near.end, ConnectionDone)

    def test_abort(self, network: Network):
        near, far, _ = joined(network)
        near.transport.write(b"lost")
        near.transport.abortConnection()
        network.run()
        assert isinstance(near.end, ConnectionAborted)
        assert far.end is not None
        assert far.segments == []

    def test_cut(self, network: Network):
        near, far, _ = joined(network)
        near.transport.write(b"lost")
        network.cut()
        assert isinstance(near.end, ConnectionLost)
        assert isinstance(far.end, ConnectionLost)
        assert far.segments == []
