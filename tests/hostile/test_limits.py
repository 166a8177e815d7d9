"""Every limit of `Limits`: what is allowed at it, and what happens one step beyond."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom import Dataset
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, execute

from dimse import FileStore, NormalizedSCP, QuerySCP, StorageSCP, associate, echo, find
from dimse.archive.committing import GroupCommit
from dimse.association import Association
from dimse.limits import Limits
from dimse.message.messages import CFindRQ, NSetRQ
from dimse.services.dataset import encode
from dimse.sop_classes import STORAGE_COMMITMENT_PUSH, STUDY_ROOT
from dimse.testing import ScriptedPeer
from dimse.ul.negotiation import Result
from dimse.ul.pdu import AssociateAC, AssociateRJ, PDataTF, UserInformation
from tests.memory import Net, RawPeer
from tests.scripted import (
    AC,
    COMMAND,
    ECHO,
    RQ,
    STORE,
    Bytes,
    command,
    data,
    echo_rq,
    p_data,
    store_rq,
)
from tests.wire import IMPLICIT, VERIFICATION

SOON = 0.01  # s before a time-out
LIMIT_EXCEEDED = AssociateRJ(2, 3, 2)  # PS3.8 9.3.4
ANY_LENGTH = UserInformation(0, "1.2.3.4")  # of PDUs (PS3.8 D.1)
PUSH = STORAGE_COMMITMENT_PUSH


def connected(net: Net, **limits: Any) -> RawPeer:
    """A requestor at our acceptor, with an association."""
    return net.associated(net.acceptor(limits=Limits(**limits)))


def established(net: Net, **limits: Any) -> tuple[Association, RawPeer]:
    """Our requestor's association, and its acceptor."""
    server = net.server(limits=Limits(**limits))
    server.received.clear()
    server.send(AC)
    return server.outcome.value, server


class Nowhere:
    """An endpoint that never gets through."""

    def connect(self, factory: object) -> "Deferred[Any]":
        return Deferred()


# Times: each begins a wait and returns whether it is over.


def artim(net: Net, **limits: Any) -> Callable[[], object]:
    client = net.client(net.acceptor(limits=Limits(**limits)))
    client.send(RQ[:-1])
    return lambda: client.closed


def connect(net: Net, **limits: Any) -> Callable[[], object]:
    endpoint: Any = Nowhere()
    pending = associate(endpoint, limits=Limits(**limits), reactor=net.clock)
    return lambda: net.outcome(pending).firings


def no_answer(net: Net, **limits: Any) -> Callable[[], object]:
    server = net.server(limits=Limits(**limits))
    return lambda: server.outcome.firings


def response(net: Net, **limits: Any) -> Callable[[], object]:
    association, _ = established(net, **limits)
    outcome = net.outcome(echo(association))
    return lambda: outcome.firings


def perform(net: Net, **limits: Any) -> Callable[[], object]:
    client = connected(net, **limits)
    net.scp.on_finish = lambda sink: Deferred()
    client.send(ECHO)
    return lambda: client.news


def idle(net: Net, **limits: Any) -> Callable[[], object]:
    client = connected(net, **limits)
    return lambda: client.news


def write_stall(net: Net, **limits: Any) -> Callable[[], object]:
    client = connected(net, **limits)
    client.link.far.bufferSize = 10
    client.stop_reading()
    client.send(ECHO)
    return lambda: client.link.far.lost


def progress(net: Net, **limits: Any) -> Callable[[], object]:
    client = connected(net, **limits)
    client.send(STORE)
    return lambda: client.news


def close(net: Net, **limits: Any) -> Callable[[], object]:
    client = connected(net, **limits)
    client.stop_reading()
    client.subject.transport.write(bytes(100))
    client.subject.close_transport()
    return lambda: client.link.far.lost


def grace(net: Net, **limits: Any) -> Callable[[], object]:
    factory = net.acceptor(limits=Limits(**limits))
    client = net.client(factory)
    client.send(RQ)
    client.received.clear()
    net.outcome(factory.drain(factory.limits.grace))
    return lambda: client.news


def commit(net: Net, **limits: Any) -> Callable[[], object]:
    pending: GroupCommit[None] = GroupCommit(lambda _: [], lambda _: None, lambda _: Deferred())
    pending.add(None)
    closed = net.outcome(pending.idle(Limits(**limits).commit, net.clock, str))
    return lambda: closed.firings


TIMES: Mapping[str, Callable[..., Callable[[], object]]] = {
    "artim": artim,
    "connect": connect,
    "associate": no_answer,
    "response": response,
    "perform": perform,
    "idle": idle,
    "write_stall": write_stall,
    "progress": progress,
    "close": close,
    "grace": grace,
    "commit": commit,
}


@pytest.mark.parametrize("name", TIMES)
def test_a_time(net: Net, name: str):
    """Not over until then, and over then."""
    over = TIMES[name](net, **{name: 3})
    net.advance(3 - SOON)
    assert not over()
    net.advance(SOON)
    assert over()


# Sizes and counts: each brings `count` of something, and returns whether it was taken.


def maximum_length(net: Net, count: int, **limits: Any) -> bool:
    client = connected(net, **limits)
    client.send(p_data((1, COMMAND, bytes(count - 6))))
    return not client.news


def send_length(net: Net, count: int, **limits: Any) -> bool:
    """Whether a PDU of `count` bytes carries the whole of a data set."""
    server = net.server(limits=Limits(**limits))
    server.send(replace(AssociateAC.decode(memoryview(AC)[6:]), user_information=ANY_LENGTH))
    server.received.clear()
    association = server.outcome.value
    source = Bytes(bytes(count - 6))
    net.outcome(association.request(association.contexts[3], store_rq(), source))
    net.run()
    return sum(isinstance(pdu, PDataTF) for pdu in server.pdus) == 2


def associate_length(net: Net, count: int, **limits: Any) -> bool:
    client = net.client(net.acceptor(limits=Limits(**limits)))
    client.send(bytes((1, 0)) + count.to_bytes(4, "big"))
    return not client.news


def command_length(net: Net, count: int, **limits: Any) -> bool:
    client = connected(net, **limits)
    client.send(p_data((1, COMMAND, bytes(count))))
    return not client.news


def padded(count: int) -> bytes:
    """A data set of so many bytes."""
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyInstanceUID = "1.2"
    begin = encode(keys, IMPLICIT)
    keys.add_new(0x00091010, "UN", bytes(count - len(begin) - 8))
    return encode(keys, IMPLICIT)


async def nothing(*_: object) -> AsyncIterator[Dataset]:
    for match in list[Dataset]():
        yield match


def department(net: Net, **limits: Any) -> Callable[[], ScriptedPeer]:
    """Makes requestors of queries, in context 1, and of changes, in 3."""
    scps = [QuerySCP(nothing), NormalizedSCP([PUSH], n_set=lambda *_: None)]
    factory = net.acceptor(scps, limits=Limits(**limits))

    def connected() -> ScriptedPeer:
        client = net.client(factory)
        client.associate([(STUDY_ROOT.find, [IMPLICIT]), (PUSH, [IMPLICIT])])
        return client

    return connected


def change(client: ScriptedPeer, count: int, *, complete: bool = True) -> list[int]:
    """Send an N-SET with `count` bytes; the statuses that came."""
    request = NSetRQ(message_id=1, requested_sop_class_uid=PUSH, requested_sop_instance_uid="1.2")
    client.command(request, padded(count), context_id=3, complete=complete)
    return statuses(client)


def statuses(client: ScriptedPeer) -> list[int]:
    answers: list[Any] = [each.message for each in client.messages]
    return [answer.status for answer in answers]


def identifier_length(net: Net, count: int, **limits: Any) -> bool:
    client = department(net, **limits)()
    request = CFindRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT.find, priority=0)
    client.command(request, padded(count))
    assert statuses(client) in ([0x0000], [0xA900])
    return statuses(client) == [0x0000]


def dataset_length(net: Net, count: int, **limits: Any) -> bool:
    answer = change(department(net, **limits)(), count)
    assert answer in ([0x0000], [0x0213])
    return answer == [0x0000]


def kept_length(net: Net, count: int, **limits: Any) -> bool:
    """Of all associations, until the one that keeps the most has gone."""
    requestor = department(net, **limits)
    first = requestor()
    assert change(first, 1024, complete=False) == []
    answer = change(requestor(), count - 1024)
    assert answer in ([0x0000], [0x0213])
    first.abort()
    assert change(requestor(), limits["kept_length"]) == [0x0000]
    return answer == [0x0000]


def instance_length(net: Net, count: int, **limits: Any) -> bool:
    client = connected(net, **limits)
    client.send(STORE, data(bytes(count)))
    return isinstance(client.news[0], PDataTF)


def progress_bytes(net: Net, count: int, **limits: Any) -> bool:
    """At least so many in a `progress`, the command set not among them."""
    client = connected(net, **limits)
    client.send(STORE)
    whole = data(bytes(count), last=False)
    client.send(data(bytes(2 * count - len(whole)), last=False))  # with its headers
    net.advance(Limits().progress)
    return not client.news


def disk_reserve(net: Net, count: int, **limits: Any) -> bool:
    """With so many bytes free."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        store = FileStore(Path(folder) / "s", limits=Limits(**limits), in_thread=execute).open()
        free = SimpleNamespace(f_bavail=count, f_frsize=1)
        patch.setattr("os.statvfs", lambda _: free)
        client = net.client(net.acceptor([StorageSCP(store)]))
        client.send(RQ)
        client.received.clear()
        client.send(STORE, data(padded(100)))
        store.close()
    return statuses(client) != [0xA700]


def operations_invoked(net: Net, count: int, **limits: Any) -> bool:
    """At once; the peer would take any number."""
    endpoint = net.endpoint()
    server = net.scripted_acceptor(endpoint)
    pending = associate(endpoint, [VERIFICATION], limits=Limits(**limits), reactor=net.clock)
    net.run()
    server.accept(window=(9, 1))
    association = net.result(pending)
    server.received.clear()
    for _ in range(count):
        net.outcome(echo(association))
    net.run()
    return len(server.messages) == count


def operations_performed(net: Net, count: int, **limits: Any) -> bool:
    client = net.client(net.acceptor(limits=Limits(**limits)))
    client.associate([VERIFICATION], window=(9, 1))
    net.scp.on_finish = lambda sink: Deferred()
    for number in range(count):
        client.send(command(echo_rq(number + 1)))
    return not client.closed and len(net.scp.sinks) == count


def answers(net: Net, count: int, **limits: Any) -> bool:
    """That nobody takes; then the peer waits."""
    server = net.server(contexts=[(STUDY_ROOT.find, [IMPLICIT])], limits=Limits(**limits))
    server.accept()
    matches = find(server.outcome.value, Dataset())
    net.outcome(Deferred.fromCoroutine(anext(matches)))
    for _ in range(count + 1):  # the first is taken
        server.respond(0xFF00, padded(100))
    return not server.transport.buffer


def transfer_syntaxes(net: Net, count: int, **limits: Any) -> bool:
    client = net.client(net.acceptor(limits=Limits(**limits)))
    others = [f"1.2.{number}" for number in range(count - 1)]
    client.associate([(VERIFICATION, [IMPLICIT, *others])])
    (answer,) = client.news
    assert isinstance(answer, AssociateAC)
    return answer.contexts[0].result == Result.ACCEPTANCE


def empty_fragments(net: Net, count: int, **limits: Any) -> bool:
    client = connected(net, **limits)
    client.send(STORE, *[data(b"", last=False)] * count)
    return not client.news


def associations(net: Net, count: int, *, hosts: int = 250, **limits: Any) -> bool:
    """From so many hosts; when one leaves there is room at once."""
    factory = net.acceptor(limits=Limits(**limits))
    clients = [net.client(factory, f"10.0.0.{number % hosts}") for number in range(count)]
    for client in clients:
        client.send(RQ)
    answer = clients[-1].news[0]
    assert isinstance(answer, AssociateAC) or answer == LIMIT_EXCEEDED
    clients[0].abort()
    again = net.client(factory, "10.0.0.0")
    again.send(RQ)
    assert isinstance(again.news[0], AssociateAC)
    return isinstance(answer, AssociateAC)


def connections(net: Net, count: int, *, hosts: int = 250, **limits: Any) -> bool:
    """From so many hosts; when one leaves there is room at once."""
    factory = net.acceptor(limits=Limits(**limits))
    first = net.client(factory, "10.0.0.0")
    for number in range(1, count - 1):
        net.client(factory, f"10.0.0.{number % hosts}")
    address = IPv4Address("TCP", f"10.0.0.{(count - 1) % hosts}", 4242)
    taken = factory.buildProtocol(address) is not None
    first.close()
    net.run()
    net.client(factory, "10.0.0.0")
    return taken


COUNTS: Mapping[str, tuple[Callable[..., bool], int, int]] = {
    "maximum_length": (maximum_length, 8192, 8193),
    "send_length": (send_length, 8192, 8193),
    "associate_length": (associate_length, 2048, 2049),
    "command_length": (command_length, 2048, 2049),
    "identifier_length": (identifier_length, 2048, 2050),
    "dataset_length": (dataset_length, 2048, 2050),
    "kept_length": (kept_length, 2048, 2050),
    "instance_length": (instance_length, 2048, 2050),
    "progress_bytes": (progress_bytes, 8192, 8190),
    "disk_reserve": (disk_reserve, 10**6, 10**6 - 1),
    "operations_invoked": (operations_invoked, 2, 3),
    "operations_performed": (operations_performed, 2, 3),
    "answers": (answers, 3, 4),
    "transfer_syntaxes": (transfer_syntaxes, 3, 4),
    "empty_fragments": (empty_fragments, 3, 4),
    "associations": (associations, 3, 4),
    "associations_per_address": (partial(associations, hosts=1), 3, 4),
    "connections": (connections, 3, 4),
    "connections_per_address": (partial(connections, hosts=1), 3, 4),
}
"""What brings it, how much is allowed, and what is not; the limit is what is allowed."""


@pytest.mark.parametrize("name", COUNTS)
def test_what_is_allowed(net: Net, name: str):
    brought, allowed, _ = COUNTS[name]
    assert brought(net, allowed, **{name: allowed})


@pytest.mark.parametrize("name", COUNTS)
def test_one_step_beyond(net: Net, name: str):
    brought, allowed, beyond = COUNTS[name]
    assert not brought(net, beyond, **{name: allowed})


def test_every_limit_is_here():
    assert {*TIMES, *COUNTS} == {each.name for each in fields(Limits)}
