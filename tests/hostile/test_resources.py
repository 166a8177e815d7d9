"""H-R: peers that only want to hold what others need. Each test is named by its case."""

import gc
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydicom import Dataset
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, execute

from dimse import FileStore, QuerySCP, StorageSCP
from dimse.acceptor import AcceptorFactory
from dimse.errors import TimedOutError
from dimse.limits import Limits
from dimse.message.messages import CFindRQ
from dimse.services.dataset import encode
from dimse.sop_classes import STUDY_ROOT
from dimse.ul.pdu import Abort, AssociateRJ, PDataTF
from tests.memory import Net, RawPeer
from tests.scripted import ECHO, RELEASE_RQ, RQ, STORE, data
from tests.wire import IMPLICIT

LIMITS = Limits()
LIMIT_EXCEEDED = AssociateRJ(2, 3, 2)  # PS3.8 9.3.4


@pytest.fixture
def factory(net: Net) -> AcceptorFactory:
    return net.acceptor()


def echoes(net: Net, factory: AcceptorFactory, host: str = "10.9.9.9") -> None:
    """A peer that behaves has its turn, without time going by."""
    client = net.associated(factory, host)
    client.send(ECHO)
    assert isinstance(client.news[0], PDataTF)
    client.send(RELEASE_RQ)
    client.close()


def reason(client: RawPeer) -> str:
    error = client.subject.user.ended
    assert isinstance(error, TimedOutError)
    return error.which


def test_h_r01_five_thousand_that_say_nothing(net: Net, factory: AcceptorFactory):
    """Fifty of each address; they count apart from associations, and are gone after ARTIM."""
    before = [net.associated(factory, f"10.1.0.{number}") for number in range(10)]
    silent = []
    for number in range(5000):
        address = IPv4Address("TCP", f"10.0.0.{number % 9}", 1000 + number)
        if (protocol := factory.buildProtocol(address)) is not None:
            silent.append(net.raw(protocol, address.host))
        if number % 500 == 0:
            echoes(net, factory)
    assert len(silent) == 9 * LIMITS.connections_per_address
    net.advance(LIMITS.artim)
    assert all(client.closed for client in silent)
    assert not any(client.closed for client in before)
    assert factory.buildProtocol(IPv4Address("TCP", "10.0.0.0", 1)) is not None


def test_h_r01_a_crowd_does_not_keep_others_out(net: Net):
    """Who has waited longest, of the address with the most, gives way; of two alike nobody does."""
    factory = net.acceptor(limits=Limits(connections=6, connections_per_address=4))
    silent = [net.client(factory, host) for host in ["10.0.0.1"] * 2 + ["10.0.0.2"] * 4]
    echoes(net, factory)
    assert [client.closed for client in silent] == [False, False, True, False, False, False]
    net.client(factory, "10.0.0.3")
    net.client(factory, "10.0.0.4")
    net.run()
    assert [client.closed for client in silent] == [False, False, True, True, False, False]
    assert factory.buildProtocol(IPv4Address("TCP", "10.0.0.1", 1)) is None
    net.advance(LIMITS.artim)
    assert factory._waiting == {}


def test_h_r01_a_crowd_of_ipv6_has_one_network(net: Net):
    """Its addresses all differ, and it gives way all the same; at one that is larger, it does."""
    factory = net.acceptor(limits=Limits(connections=4))
    silent = [net.client(factory, f"2001:db8::{number}") for number in range(3)]
    one = net.client(factory, "2001:db8:0:1::1")
    two = net.client(factory, "2001:db8:0:1::2")  # three of the crowd, and one
    net.run()
    assert [client.closed for client in silent] == [True, False, False]
    assert factory.buildProtocol(IPv6Address("TCP", "2001:db8:0:1::3", 1)) is None  # two and two
    assert not one.closed
    assert not two.closed


def test_h_r01_who_gives_way_is_not_admitted_any_more(net: Net):
    """The verdict comes in the turn in which his connection ends: he would count for ever."""
    verdicts: list[Deferred[None]] = []

    def admit(_: object) -> "Deferred[None]":
        verdicts.append(Deferred())
        return verdicts[-1]

    factory = net.acceptor(admit=admit, limits=Limits(connections=2))
    for _ in range(2):
        net.client(factory).send(RQ)
    net.client(factory, "10.0.0.2")
    verdicts[0].callback(None)
    net.run()
    assert factory._associated == {}
    assert factory._waiting == {"10.0.0.1": 1, "10.0.0.2": 1}
    net.cut()
    assert (factory._connections, factory._waiting) == ({}, {})


def test_h_r02_three_hundred_that_trickle(net: Net, factory: AcceptorFactory):
    """A byte now and then moves no deadline."""
    trickling = [net.client(factory, f"10.0.0.{number % 6}") for number in range(300)]
    for second in range(int(LIMITS.artim)):
        for client in trickling:
            client.transport.write(RQ[second : second + 1])
        net.run()
        assert not any(client.closed for client in trickling)
        net.advance(1)
    assert all(client.closed for client in trickling)
    echoes(net, factory)


def test_h_r03_idle(net: Net, factory: AcceptorFactory):
    client = net.associated(factory)
    net.advance(LIMITS.idle)
    assert client.news == [Abort(0, 0)]
    assert reason(client) == "idle"
    net.advance(LIMITS.artim)
    assert client.closed


def test_h_r04_kept_alive_by_echoes(net: Net, factory: AcceptorFactory):
    """One address holds no more than its share, however long it holds it."""
    most = LIMITS.associations_per_address
    clients = [net.associated(factory) for _ in range(most)]
    for _ in range(3):
        net.advance(LIMITS.idle - 1)
        for client in clients:
            client.send(ECHO)
    assert not any(client.closed for client in clients)
    late = net.client(factory)
    late.send(RQ)
    assert late.news == [LIMIT_EXCEEDED]
    echoes(net, factory)


@pytest.mark.parametrize("trickle", [0, 60])
def test_h_r05_stalled_in_a_data_set(net: Net, tmp_path: Path, trickle: int):
    """Nothing of it stays."""
    limits = Limits(disk_reserve=0)
    store = FileStore(tmp_path / "store", limits=limits, durability="relaxed", in_thread=execute)
    client = net.associated(net.acceptor([StorageSCP(store.open())]))
    client.send(STORE, data(bytes(1000), last=False))
    assert list((tmp_path / "store" / "incoming").iterdir()) != []
    for _ in range(trickle):
        client.send(data(b"ab", last=False))
        net.advance(1)
    net.advance(LIMITS.progress)
    assert reason(client) == "progress"
    assert list((tmp_path / "store" / "incoming").iterdir()) == []
    store.close()


class TestHR06NeverReading:
    """Who does not read is gone after the time to write; nothing piles up for it."""

    def test_h_r06_answers(self, net: Net):
        asked = 0

        async def many(*_: object) -> AsyncIterator[Dataset]:
            nonlocal asked
            while asked < 100_000:
                asked += 1
                match = Dataset()
                match.StudyInstanceUID = "1.2"
                yield match

        client = net.client(net.acceptor([QuerySCP(many)]))
        client.associate([(STUDY_ROOT.find, [IMPLICIT])])
        client.link.far.bufferSize = 1000
        client.stop_reading()
        keys = Dataset()
        keys.QueryRetrieveLevel = "STUDY"
        request = CFindRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT.find, priority=0)
        client.command(request, encode(keys, IMPLICIT))
        net.advance(LIMITS.write_stall)
        assert reason(client) == "write_stall"
        assert client.link.far.lost
        assert asked < 1000
        assert len(client.link.far.buffer) < 100_000

    def test_h_r06_an_answer_to_the_request(self, net: Net, factory: AcceptorFactory):
        client = net.client(factory)
        client.link.far.bufferSize = 1
        client.stop_reading()
        client.send(RQ)
        net.advance(LIMITS.write_stall)
        assert client.link.far.lost

    def test_h_r06_a_release(self, net: Net, factory: AcceptorFactory):
        client = net.associated(factory)
        client.link.far.bufferSize = 1
        client.stop_reading()
        client.send(RELEASE_RQ)
        net.advance(LIMITS.artim + LIMITS.close)
        assert client.link.far.lost

    def test_h_r06_a_flood_of_echoes(self, net: Net, factory: AcceptorFactory):
        """Answers to 10,000 requests are not kept for who takes none of them."""
        client = net.associated(factory)
        client.link.far.bufferSize = 1000
        client.stop_reading()
        client.send(ECHO * 10_000)
        assert len(client.link.far.buffer) < 10_000
        net.advance(LIMITS.write_stall)
        assert client.link.far.lost


def test_h_r07_a_flood_of_associations(net: Net, factory: AcceptorFactory):
    """Above the limit each is rejected as transient; who leaves makes room at once."""
    hosts = [f"10.0.0.{number}" for number in range(10)]
    clients = [net.associated(factory, hosts[number % 10]) for number in range(LIMITS.associations)]
    for _ in range(300):
        late = net.client(factory, "10.7.7.7")
        late.send(RQ)
        assert late.news == [LIMIT_EXCEEDED]
        late.close()
    clients[0].abort()
    echoes(net, factory)


@pytest.mark.parametrize("one_association", [True, False])
def test_h_r09_tiny_instances_leave_nothing(net: Net, one_association: bool):
    """On one association or each on its own: memory is as after the first hundreds."""
    factory = net.acceptor()
    client = net.associated(factory)

    def store_many() -> None:
        nonlocal client
        for _ in range(200):
            if not one_association:
                client.link.cut()
                net.links.clear()
                client = net.associated(factory)
            client.send(STORE, data(bytes(8)))
            client.received.clear()
            net.scp.sinks.clear()
        for kept in (net.events, client.link.near.writes, client.link.far.writes):
            kept.clear()  # by the network of the test

    store_many()
    tracemalloc.start()
    store_many()
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(3):
        store_many()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 600 * 40


@pytest.mark.parametrize("end", ["cut", "abort"])
def test_h_r08_a_storm_of_aborts(net: Net, tmp_path: Path, end: str):
    """In the middle of a C-STORE: no file, no timer and no slot is left of any."""
    limits = Limits(disk_reserve=0)
    store = FileStore(tmp_path / "store", limits=limits, durability="relaxed", in_thread=execute)
    factory = net.acceptor([StorageSCP(store.open())])
    for _ in range(500):
        client = net.associated(factory)
        client.send(STORE, data(bytes(1000), last=False))
        if end == "abort":
            client.abort()
        client.link.cut()
    assert list((tmp_path / "store" / "incoming").iterdir()) == []
    assert net.clock.getDelayedCalls() == []
    assert (factory._associated, factory._waiting, factory._connections) == ({}, {}, {})
    store.close()
