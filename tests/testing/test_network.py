"""Networks in memory: time, results, endpoints, associations, and what is checked at the end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import (
    CannotListenError,
    ConnectionRefusedError,
    NoProtocol,
)
from twisted.internet.interfaces import (
    IListeningPort,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

import dimse
from dimse.testing import Network, ScriptedPeer
from tests.memory import RecordingSCP
from tests.testing.recorder import Recorder, joined
from tests.wire import CT_STORAGE

LIMITS = dimse.Limits(connect=3, associate=4, response=5, idle=6)


class TestTime:
    def test_calls_come_when_they_are_due_and_bytes_between_them(self, network: Network):
        near, far, _ = joined(network)
        seen: list[object] = []
        network.clock.callLater(
            2, lambda: seen.append((network.clock.seconds(), len(far.segments)))
        )
        network.clock.callLater(1, near.transport.write, b"a")
        network.clock.callLater(3, seen.append, "not yet")
        network.advance(2.5)
        assert seen == [(2, 1)]
        assert network.clock.seconds() == 2.5
        network.advance(0.5)
        assert seen[1:] == ["not yet"]

    def test_a_call_that_follows_from_a_call(self, network: Network):
        seen: list[float] = []

        def again() -> None:
            seen.append(network.clock.seconds())
            if len(seen) < 3:
                network.clock.callLater(1, again)

        again()
        network.advance(10)
        assert seen == [0, 1, 2]

    def test_run_begins_what_is_due_but_lets_no_time_pass(self, network: Network):
        seen: list[str] = []
        network.clock.callLater(0, seen.append, "now")
        later = network.clock.callLater(0.001, seen.append, "later")
        network.run()
        assert seen == ["now"]
        later.cancel()

    def test_two_that_never_stop(self, network: Network, monkeypatch: pytest.MonkeyPatch):
        for module in ("network", "transport"):
            monkeypatch.setattr(f"dimse.testing.{module}.ENDLESS", 100)
        near, far, link = joined(network)
        near.dataReceived = near.transport.write  # type: ignore[method-assign]  # an echo of an echo
        far.dataReceived = far.transport.write  # type: ignore[method-assign]
        near.transport.write(b"a")
        with pytest.raises(AssertionError, match="100 things"):
            link.run()
        with pytest.raises(AssertionError, match="100 things"):
            network.run()
        link.cut()

    def test_threads(self, network: Network):
        """What runs in a thread is done at once, and so is what it fails with."""
        pool: Any = network.clock
        done = deferToThreadPool(network.clock, pool.getThreadPool(), divmod, 7, 2)
        assert network.result(done) == (3, 1)
        failed = deferToThreadPool(network.clock, pool.getThreadPool(), divmod, 7, 0)
        with pytest.raises(ZeroDivisionError):
            network.result(failed)


class TestResult:
    def test_of_a_deferred(self, network: Network):
        assert network.result(succeed(3)) == 3
        with pytest.raises(ZeroDivisionError):
            network.result(fail(ZeroDivisionError()))

    def test_of_a_coroutine(self, network: Network):
        async def body() -> int:
            later: Deferred[int] = Deferred()
            network.clock.callLater(0, later.callback, 3)
            return await later

        assert network.result(body()) == 3

    def test_there_is_none(self, network: Network):
        with pytest.raises(AssertionError, match="no timer runs"):
            network.result(Deferred())
        timer = network.clock.callLater(30, lambda: None)
        network.advance(10)
        with pytest.raises(AssertionError, match="in 20 s"):
            network.result(Deferred())
        timer.cancel()


class TestCheck:
    def test_a_timer(self):
        network = Network()
        network.clock.callLater(1, lambda: None)
        with pytest.raises(AssertionError, match="1 timers are left"):
            network.check()

    def test_connections_have_none(self, scp: RecordingSCP):
        with Network() as network:
            network.associate(network.listen([scp]))
            assert network.clock.getDelayedCalls()

    def test_a_logged_error(self):
        network = Network()
        Logger().failure("it broke", Failure(ZeroDivisionError("what it was")))
        with pytest.raises(AssertionError, match="what it was"):
            network.check()

    def test_an_error_that_nobody_took(self, scp: RecordingSCP):
        network = Network()
        ours, _ = network.associate(network.listen([scp]))
        scp.on_finish = lambda sink: Deferred()
        dimse.echo(ours)
        del ours
        with pytest.raises(AssertionError, match="ConnectionLostError"):
            network.check()

    def test_a_logged_error_that_was_expected(self, scp: RecordingSCP):
        with Network() as network:
            ours, _ = network.associate(network.listen([scp]))
            scp.on_finish = lambda sink: fail(ZeroDivisionError())
            with pytest.raises(dimse.StatusError):
                network.result(dimse.echo(ours))
            assert network.flush_logged_errors(KeyError) == []
            assert [each.type for each in network.flush_logged_errors(ZeroDivisionError)] == [
                ZeroDivisionError
            ]

    def test_the_error_of_the_test_comes_first(self):
        def body() -> None:
            with Network() as network:
                network.clock.callLater(1, lambda: None)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            body()

    @pytest.mark.parametrize("end", [Network.check, Network.close])
    def test_the_log_is_left_even_when_a_protocol_fails(self, end: Callable[[Network], None]):
        class Broken(Protocol):
            def connectionLost(self, reason: Failure = connectionDone) -> None:
                raise ZeroDivisionError

        network = Network()
        network.join(Broken(), Protocol())
        with pytest.raises(ZeroDivisionError):
            end(network)
        Logger().info("of somebody else")
        assert network.events == []

    @pytest.mark.parametrize("end", [Network.check, Network.close])
    def test_the_log_is_not_looked_at_any_more(self, end: Callable[[Network], None]):
        network = Network()
        end(network)
        Logger().failure("of somebody else", Failure(ZeroDivisionError()))
        assert (network.events, network.failures) == ([], [])


class TestEndpoints:
    def test_they_are_endpoints(self, network: Network):
        endpoint = network.endpoint()
        assert verifyObject(IStreamClientEndpoint, endpoint)
        assert verifyObject(IStreamServerEndpoint, endpoint)
        port = network.result(endpoint.listen(Factory.forProtocol(Recorder)))
        assert verifyObject(IListeningPort, port)
        port.startListening()
        assert port.getHost() == endpoint.address

    def test_nobody_listens(self, network: Network):
        with pytest.raises(dimse.ConnectionLostError, match="refused"):
            network.associate(network.endpoint())
        with pytest.raises(ConnectionRefusedError):
            network.scripted_requestor(network.endpoint())

    def test_a_host_that_does_not_answer(self, network: Network):
        endpoint = network.endpoint()
        endpoint.silent = True
        associating = dimse.associate(endpoint, limits=LIMITS, reactor=network.clock)
        network.advance(2.9)
        assert not associating.called
        network.advance(0.1)
        with pytest.raises(dimse.TimedOutError, match="connect"):
            network.result(associating)

    def test_two_cannot_listen(self, network: Network, scp: RecordingSCP):
        endpoint = network.listen([scp])
        with pytest.raises(CannotListenError):
            network.scripted_acceptor(endpoint)

    def test_code_that_listens_and_connects_itself(self, network: Network, scp: RecordingSCP):
        endpoint = network.endpoint()
        listener = network.result(dimse.listen(endpoint, [scp], reactor=network.clock))
        assert listener.address == endpoint.address
        ours = network.result(dimse.associate(endpoint, reactor=network.clock))
        assert ours.peer.address == "10.0.0.2:104"
        stopped = listener.stop()
        with pytest.raises(AssertionError, match="no result"):
            network.result(stopped)  # the association is open
        with pytest.raises(dimse.ConnectionLostError):
            network.associate(endpoint)
        network.result(ours.release())
        network.result(stopped)

    def test_a_factory_that_starts_and_stops(self, network: Network):
        factory = Factory.forProtocol(Recorder)
        endpoint = network.endpoint()
        port = network.result(endpoint.listen(factory))
        assert factory.numPorts == 1
        port.stopListening()
        port.stopListening()
        assert factory.numPorts == 0

    def test_a_server_that_refuses_a_connection(self, network: Network):
        class Refusing(Factory):
            def buildProtocol(self, addr: object) -> None:
                return None

        endpoint = network.endpoint()
        network.result(endpoint.listen(Refusing()))
        peer = network.scripted_requestor(endpoint)
        assert peer.closed
        with pytest.raises(dimse.ConnectionLostError):
            network.associate(endpoint)

    def test_a_client_without_a_protocol(self, network: Network, scp: RecordingSCP):
        class Without(ClientFactory):
            def buildProtocol(self, addr: object) -> None:
                return None

        with pytest.raises(NoProtocol):
            network.result(network.listen([scp]).connect(Without()))


class TestAssociations:
    def test_both_sides(self, network: Network, scp: RecordingSCP):
        ours, theirs = network.associate(
            network.listen([scp]), [CT_STORAGE], calling_ae_title="MODALITY"
        )
        assert (ours.is_requestor, theirs.is_requestor) == (True, False)
        assert theirs.peer.ae_title == "MODALITY"
        assert theirs.peer.address == "10.0.0.1:4242"
        assert set(ours.contexts) == set(theirs.contexts) == {1}
        theirs.abort()
        network.run()
        assert isinstance(ours.ended, dimse.AssociationAbortedError)

    def test_options_of_listen(self, network: Network, scp: RecordingSCP):
        endpoint = network.listen([scp], ae_titles=["ARCHIVE"], limits=dimse.Limits(associations=1))
        with pytest.raises(dimse.AssociationRejectedError, match="called AE title"):
            network.associate(endpoint)
        network.associate(endpoint, called_ae_title="ARCHIVE")
        with pytest.raises(dimse.AssociationRejectedError, match="local limit"):
            network.associate(endpoint, called_ae_title="ARCHIVE")

    def test_many_at_once(self, network: Network, scp: RecordingSCP):
        endpoint = network.listen([scp])
        pairs = [network.associate(endpoint) for _ in range(3)]
        echoes = [dimse.echo(ours) for ours, _ in pairs]
        assert [network.result(echo) for echo in echoes] == [0, 0, 0]
        network.result(pairs[1][0].release())
        assert [theirs.ended is None for _, theirs in pairs] == [True, False, True]

    def test_files_are_sent_and_stored(self, network: Network, tmp_path: Path):
        file = get_testdata_file("CT_small.dcm")
        limits = dimse.Limits(disk_reserve=0)
        store = dimse.FileStore(tmp_path, durability="relaxed", limits=limits)
        endpoint = network.listen([dimse.StorageSCP(store)])

        async def send() -> list[bool]:
            results = dimse.send(endpoint, [str(file)], reactor=network.clock)
            return [result.ok async for result in results]

        assert network.result(send()) == [True]
        assert store.path_of(dcmread(str(file)).SOPInstanceUID).exists()
        network.result(store.close())

    def test_what_is_no_acceptor_of_dimse(self, network: Network):
        class Willing(ScriptedPeer):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                self.accept()

        class Others(Factory):
            def buildProtocol(self, addr: object) -> Willing:
                return Willing(lambda: None)

        endpoint = network.endpoint()
        network.result(endpoint.listen(Others()))
        with pytest.raises(AssertionError, match="no acceptor"):
            network.associate(endpoint)
