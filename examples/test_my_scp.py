"""Tests of an SCP and of a client of our own: no sockets, no sleeping, and peers that misbehave.

pytest examples/test_my_scp.py
"""

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from twisted.internet.defer import Deferred, succeed

import dimse
from dimse.message.messages import MEDIUM, CStoreRQ
from dimse.testing import Endpoint, Network
from dimse.ul.pdu import PDV, Abort, PDataTF


class Memory:
    """What is tested, an InstanceStore: it keeps data sets of at most 1000 bytes."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def begin(self, instance: dimse.ReceivedInstance, operation: dimse.Operation) -> "Keeping":
        """Make the sink of an instance."""
        return Keeping(self.kept, instance.sop_instance_uid)


class Keeping:
    """The sink of one instance."""

    def __init__(self, kept: dict[str, bytes], uid: str) -> None:
        self._kept, self._uid = kept, uid
        self._data = bytearray()

    def write(self, data: memoryview) -> None:
        """Copy it; refuse what is too long."""
        self._data += data
        if len(self._data) > 1000:
            raise dimse.StatusError(0xA700, "too long")

    def finish(self) -> Deferred[int]:
        """All is there."""
        self._kept[self._uid] = bytes(self._data)
        return succeed(dimse.Status(0x0000))

    def abort(self, reason: dimse.DimseError) -> None:
        """Nothing is kept."""


async def ask(pacs: Any, reactor: Any) -> str:
    """What is tested, a client: how is the node at the endpoint `pacs`?"""
    limits = dimse.Limits(connect=5, response=5)
    try:
        async with dimse.associate(pacs, limits=limits, reactor=reactor) as association:
            await dimse.echo(association)
    except dimse.AssociationRejectedError:
        return "does not want us"
    except dimse.TimedOutError:
        return "hangs"
    except dimse.AssociationError:
        return "is broken"
    return "is well"


# The tests


@pytest.fixture
def network() -> Iterator[Network]:
    """A network; after the test no timer may be left, and no error may have been logged."""
    with Network() as network:
        yield network


@pytest.fixture
def store() -> Memory:
    """What the SCP puts instances into."""
    return Memory()


@pytest.fixture
def archive(network: Network, store: Memory) -> Endpoint:
    """Where our SCP listens."""
    return network.listen([dimse.StorageSCP(store)])


def make_dataset(comment: str) -> Dataset:
    """An instance, no longer than its comment and some UIDs."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
    dataset.ImageComments = comment
    return dataset


def test_an_instance_is_kept(network: Network, store: Memory, archive: Endpoint) -> None:
    """Two associations of dimse, joined in memory: ours is the requestor's, theirs the SCP's."""
    ours, theirs = network.associate(archive, [(CTImageStorage, [ExplicitVRLittleEndian])])
    dataset = make_dataset("a comment")
    assert network.result(dimse.store(ours, dataset)) == 0x0000
    assert b"a comment" in store.kept[dataset.SOPInstanceUID]
    network.result(ours.release())
    assert isinstance(theirs.ended, dimse.ReleasedError)


def test_a_long_instance_is_refused(network: Network, store: Memory, archive: Endpoint) -> None:
    """The status is that of the sink."""
    ours, _ = network.associate(archive, [(CTImageStorage, [ExplicitVRLittleEndian])])
    with pytest.raises(dimse.StatusError, match="0xA700") as caught:
        network.result(dimse.store(ours, make_dataset("x" * 1000)))
    assert caught.value.comment == "too long"
    assert store.kept == {}


def test_half_an_instance_is_not_kept(network: Network, store: Memory, archive: Endpoint) -> None:
    """A requestor that goes in the middle of a data set."""
    peer = network.scripted_requestor(archive)
    peer.associate([CTImageStorage])
    request = CStoreRQ(
        message_id=1,
        affected_sop_class_uid=CTImageStorage,
        affected_sop_instance_uid="1.2.3",
        priority=MEDIUM,
    )
    peer.command(request, b"half a data set", complete=False)
    peer.close()
    assert store.kept == {}


def test_junk_is_aborted(network: Network, archive: Endpoint) -> None:
    """A requestor that speaks something else, once it is associated."""
    peer = network.scripted_requestor(archive)
    peer.associate([CTImageStorage])
    peer.send(b"GET / HTTP/1.1\r\n\r\n")
    assert isinstance(peer.pdus[-1], Abort)


def test_a_node_that_is_well(network: Network) -> None:
    """An acceptor of dimse."""
    pacs = network.listen([dimse.VerificationSCP()])
    assert network.result(ask(pacs, network.clock)) == "is well"


def test_a_node_that_rejects(network: Network) -> None:
    """A scripted acceptor: it does nothing by itself."""
    pacs = network.endpoint()
    peer = network.scripted_acceptor(pacs)
    answer = Deferred.fromCoroutine(ask(pacs, network.clock))
    peer.reject(result=1, source=1, reason=7)
    assert network.result(answer) == "does not want us"


def test_a_node_that_does_not_respond(network: Network) -> None:
    """Time passes when the test says so."""
    pacs = network.endpoint()
    peer = network.scripted_acceptor(pacs)
    answer = Deferred.fromCoroutine(ask(pacs, network.clock))
    peer.accept()
    network.advance(5)
    assert network.result(answer) == "hangs"


def test_a_node_that_aborts_in_the_middle_of_its_response(network: Network) -> None:
    """A fragment of a command set, not the last one, and A-ABORT."""
    pacs = network.endpoint()
    peer = network.scripted_acceptor(pacs)
    answer = Deferred.fromCoroutine(ask(pacs, network.clock))
    peer.accept()
    peer.send(PDataTF((PDV(1, 0x01, b"half"),)), Abort(0, 0))
    assert network.result(answer) == "is broken"


def test_nobody_is_there(network: Network) -> None:
    """An endpoint where nobody listens."""
    assert network.result(ask(network.endpoint(), network.clock)) == "is broken"
