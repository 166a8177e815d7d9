"""What is retrieved is read page by page: the memory does not grow with it (K13)."""

import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from pydicom import Dataset
from twisted.internet.defer import Deferred

from dimse import (
    STUDY_ROOT,
    Instance,
    MemoryStore,
    RetrieveSCP,
    StatusError,
    StorageSCP,
    get,
    get_contexts,
    move,
)
from dimse.archive import retrieval
from dimse.archive.archive import Archive
from dimse.archive.index import Index
from dimse.archive.objects import StoredInstance, key_of
from dimse.archive.retrieval import Found, Retriever
from dimse.services import sending
from dimse.services.storage import ReceivedInstance
from dimse.testing import Network
from dimse.ul.pdu import ReleaseRQ
from tests.archive.archives import Client, data_set, open_archive, put, synchronously
from tests.archive.storing import Hand
from tests.wire import CT_STORAGE, EXPLICIT

STUDIES = {"1.2.1": 9_000, "1.2.2": 20_000}
"""Both are more than what is kept in memory of keys."""


def asked(study: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = study
    return identifier


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """Of instances without objects."""
    path = tmp_path_factory.mktemp("index") / "index.sqlite"
    index = Index(f"sqlite:///{path}", durable=False).open()
    for study, count in STUDIES.items():
        index.add([row(study, number) for number in range(count)])
    yield index
    index.close()


def row(study: str, number: int) -> StoredInstance:
    received = ReceivedInstance(CT_STORAGE, f"{study}.1.{number}", EXPLICIT, "", "")
    attributes: Any = {0x0020000D: study, 0x0020000E: f"{study}.1", 0x00200013: str(number)}
    return StoredInstance(received, 300, 1000, f"{number:064x}", attributes)


def peak(index: Index, study: str) -> int:
    """Bytes that it takes at most to retrieve a study, and the instances of it in their order."""
    objects, operation = Mock(), Mock(scope={})
    objects.instance = lambda stored: stored.received.sop_instance_uid
    operation.context.abstract_syntax = STUDY_ROOT.get
    operation.association.extended = {}
    uids: list[Any] = []

    async def all_of_it() -> int:
        found: Found = await Retriever(index, objects, synchronously).retrieve(
            asked(study), operation
        )
        async for uid in found:
            if len(uids) < 3:
                uids.append(uid)
        return len(found)

    tracemalloc.start()
    try:
        done = Deferred.fromCoroutine(all_of_it())
        assert done.result == STUDIES[study]
        assert uids == [f"{study}.1.{number}" for number in range(3)]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_k13_memory_is_flat(index: Index):
    """Twice as many instances need no more: as a list they were 7 MB more."""
    few, many = (peak(index, study) for study in STUDIES)
    assert abs(many - few) < 128 * 1024
    assert many < 2 * 1024 * 1024


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    """Seven instances on four pages, and keys in a file."""
    monkeypatch.setattr(retrieval, "_PAGE", 2)
    monkeypatch.setattr(retrieval, "_IN_MEMORY", 64)
    with open_archive(tmp_path) as archive:
        for number in range(1, 8):
            assert put(archive, data_set(f"1.2.1.{number}")) == 0
        yield archive


def test_c_get_goes_through_the_pages(archive: Archive):
    with Network() as network:
        done, held = Client(network, archive).get("STUDY", StudyInstanceUID="1.2")
    assert (done.completed, done.failed) == (7, 0)
    assert [each.InstanceNumber for each in held] == list(range(1, 8))


def test_c_move_goes_through_the_pages(archive: Archive):
    with Network() as network, MemoryStore() as screen:
        place = network.listen([StorageSCP(screen)])
        client = Client(network, archive, destinations={"SCREEN": place})
        association = client.associate([STUDY_ROOT.move])
        done = network.result(move(association, asked("1.2"), "SCREEN", STUDY_ROOT).result())
        assert [each.dataset().InstanceNumber for each in screen.instances] == list(range(1, 8))
    assert (done.completed, done.failed) == (7, 0)


def test_a_c_move_that_is_cancelled_while_it_waits_for_a_page(monkeypatch: pytest.MonkeyPatch):
    """What was sent counts, and the association with the destination is released."""
    monkeypatch.setattr(sending, "_AHEAD", 1)
    never: Deferred[None] = Deferred()

    class Two:
        def __len__(self) -> int:
            return 2

        async def __aiter__(self) -> AsyncIterator[Instance]:
            yield Instance(CT_STORAGE, "1.2.1.1", EXPLICIT, data=b"\x08\0\x18\0UI\2\0001\0")
            await never

    with Network() as network:
        screen = network.endpoint()
        scp = RetrieveSCP(lambda *_: Two(), destinations={"SCREEN": screen})
        association, _ = network.associate(network.listen([scp]), [STUDY_ROOT.move])
        destination = network.scripted_acceptor(screen)
        answers = move(association, asked("1.2"), "SCREEN", STUDY_ROOT)
        result = answers.result()
        network.run()
        destination.accept()
        destination.respond()
        answers.cancel()
        network.run()
        assert isinstance(destination.pdus[-1], ReleaseRQ)
        destination.release_response()
        done = network.result(result)
    assert (done.status, done.completed, done.remaining) == (0xFE00, 1, 1)


def test_what_is_gone_meanwhile_is_left_out(archive: Archive):
    """And what comes meanwhile is not sent: the numbers of the responses stay true."""
    with Network() as network:
        hand = Hand()
        retriever = Retriever(archive.index, archive.objects, hand)
        operation = Mock(scope={})
        operation.context.abstract_syntax, operation.association.extended = STUDY_ROOT.get, {}
        found: list[str] = []

        async def all_of_it() -> None:
            async for instance in await retriever.retrieve(asked("1.2"), operation):
                found.append(instance.sop_instance_uid)

        done = Deferred.fromCoroutine(all_of_it())
        hand.go()
        put(archive, data_set("1.2.1.8"))
        archive.index.remove([key_of("1.2.1.5")])
        while hand.steps:
            hand.go()
        network.result(done)
    assert found == [f"1.2.1.{number}" for number in (1, 2, 3, 4, 6, 7)]


def test_an_index_that_fails_on_a_page(archive: Archive, monkeypatch: pytest.MonkeyPatch):
    """C001H, and nothing else."""
    real = archive.index.fetch
    calls = iter([real, real])

    def fails(statement: Any) -> Any:
        return next(calls, Mock(side_effect=OSError(5, "disk")))(statement)

    monkeypatch.setattr(archive.index, "fetch", fails)
    with Network() as network:
        association = Client(network, archive).associate(get_contexts(STUDY_ROOT, [CT_STORAGE]))
        with MemoryStore() as store, pytest.raises(StatusError) as caught:
            network.result(get(association, asked("1.2"), store, STUDY_ROOT).result())
    assert caught.value.status == 0xC001
