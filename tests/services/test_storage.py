"""C-STORE in both roles (PS3.4 Annex B): bit for bit, and what is refused."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import ExplicitVRLittleEndian
from twisted.internet.defer import execute

from dimse.archive.files import FileStore
from dimse.errors import (
    AssociationAbortedError,
    ContextError,
    DimseError,
    NotAnInstanceError,
    StatusError,
)
from dimse.limits import Limits
from dimse.message.messages import CEchoRQ
from dimse.services.instance import Instance
from dimse.services.storage import ReceivedInstance, StorageSCP, store
from dimse.services.verification import VerificationSCP
from dimse.sop_classes import STORAGE_SOP_CLASSES
from dimse.ul.negotiation import SupportedContext
from tests.memory import Net, RecordingSCP, RecordingSink
from tests.scripted import RQ, command, data, echo_rq, store_rq
from tests.services.test_instance import SHIPPED
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT, VERIFICATION

PRIVATE = "1.2.3.4.5.6.7"
BLANK = [  # of the standard's root, and pydicom knows no name
    uid for uid, (name, kind, *_) in UID_dictionary.items() if kind == "SOP Class" and not name
]
INSTANCE = Instance(CT_STORAGE, "1.2.3", EXPLICIT, data=bytes(range(256)) * 100)


class SinkStore:
    """An `InstanceStore` whose sinks record, and who begins what."""

    def __init__(self, scp: RecordingSCP) -> None:
        self.scp = scp
        self.begun: list[ReceivedInstance] = []

    def begin(self, instance: ReceivedInstance, operation: Any) -> RecordingSink:
        self.begun.append(instance)
        return self.scp.perform(operation)


@pytest.fixture
def sinks(net: Net) -> SinkStore:
    return SinkStore(net.scp)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[FileStore]:
    limits = Limits(disk_reserve=0)
    files = FileStore(tmp_path / "store", limits=limits, durability="relaxed", in_thread=execute)
    yield files.open()
    files.close()


def test_every_file_that_pydicom_ships(net: Net, files: FileStore):
    """What is stored is bit for bit the data set of the file."""
    acceptor = net.acceptor([StorageSCP(files)])
    seen = set()
    for path in SHIPPED:
        try:
            instance = Instance.from_file(path)
        except NotAnInstanceError:
            continue
        if instance.sop_instance_uid in seen or instance.sop_class_uid not in STORAGE_SOP_CLASSES:
            continue
        seen.add(instance.sop_instance_uid)
        contexts = [(instance.sop_class_uid, (instance.transfer_syntax,))]
        requestor, _, link = net.pair(acceptor, contexts=contexts)
        stored = net.outcome(store(requestor, path))
        link.run()
        link.cut()
        assert stored.value == 0, path
        content = path.read_bytes()[instance.offset :]
        received = files.path_of(instance.sop_instance_uid).read_bytes()
        found = Instance.from_file(files.path_of(instance.sop_instance_uid))
        assert received[found.offset :] == content + bytes(len(content) % 2)
        assert found.transfer_syntax == instance.transfer_syntax
        assert found.sop_class_uid == instance.sop_class_uid
    assert len(seen) > 40


def test_a_file_in_many_pdus(net: Net, files: FileStore):
    limits = Limits(maximum_length=4096)
    acceptor = net.acceptor([StorageSCP(files)], limits=limits)
    requestor, _, link = net.pair(acceptor, limits=limits)
    link.sizes = iter(lambda: 1460, None)
    counts: list[int] = []
    stored = net.outcome(store(requestor, INSTANCE, progress=counts.append))
    link.run()
    assert stored.value == 0
    assert INSTANCE.data is not None
    assert sum(counts) == len(INSTANCE.data)
    assert files.path_of("1.2.3").read_bytes().endswith(INSTANCE.data)


def test_a_dataset(net: Net, files: FileStore):
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.PatientID = CT_STORAGE, "1.2.3", "ABC"
    requestor, _, link = net.pair(net.acceptor([StorageSCP(files)]))
    stored = net.outcome(store(requestor, dataset))
    link.run()
    assert stored.value == 0
    assert dcmread(files.path_of("1.2.3")) == dataset


class TestSCU:
    @pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
    def test_a_warning_is_a_success(self, net: Net, status: int):
        net.scp.on_finish = lambda sink: execute(lambda: status)
        requestor, _, link = net.pair()
        stored = net.outcome(store(requestor, INSTANCE))
        link.run()
        assert stored.value == status

    def test_a_failure(self, net: Net):
        def refuse(_: object) -> None:
            raise StatusError(0xA700, "no room left")

        net.scp.on_begin = refuse
        requestor, _, link = net.pair()
        stored = net.outcome(store(requestor, INSTANCE))
        link.run()
        error = stored.value
        assert isinstance(error, StatusError)
        assert (error.status, error.comment) == (0xA700, "no room left")

    def test_no_context_for_its_transfer_syntax(self, net: Net):
        requestor, *_ = net.pair()
        other = Instance(CT_STORAGE, "1.2.3", "1.2.840.10008.1.2.4.100", data=b"ab")
        error = net.outcome(store(requestor, other)).value
        assert isinstance(error, ContextError)
        assert EXPLICIT in str(error)

    def test_no_instance(self, net: Net, tmp_path: Path):
        requestor, *_ = net.pair()
        (tmp_path / "x").write_text("no instance")
        assert isinstance(net.outcome(store(requestor, tmp_path / "x")).value, NotAnInstanceError)

    def test_a_file_that_vanished(self, net: Net, tmp_path: Path):
        requestor, *_ = net.pair()
        gone = Instance(CT_STORAGE, "1.2.3", EXPLICIT, path=tmp_path / "x", length=10)
        assert isinstance(net.outcome(store(requestor, gone)).value, DimseError)
        assert requestor.ended is None

    @pytest.mark.parametrize("left", [0, 10, 600_000])
    def test_a_file_that_became_shorter(self, net: Net, tmp_path: Path, left: int):
        """Before its first piece it fails alone."""
        path = tmp_path / "x"
        path.write_bytes(bytes(left))
        requestor, _, link = net.pair()
        short = Instance(CT_STORAGE, "1.2.3", EXPLICIT, path=path, length=1_000_000)
        stored = net.outcome(store(requestor, short))
        link.run()
        assert isinstance(stored.value, DimseError)
        assert requestor.ended is None

    def test_a_file_that_becomes_shorter(self, net: Net, tmp_path: Path):
        """In the middle of it the association has to end: the peer waits for the rest."""
        path = tmp_path / "x"
        path.write_bytes(bytes(10_000_000))
        requestor, _, link = net.pair()
        link.far.deaf = True
        instance = Instance(CT_STORAGE, "1.2.3", EXPLICIT, path=path, length=10_000_000)
        stored = net.outcome(store(requestor, instance))
        link.run()
        os.truncate(path, 5_000_000)
        link.far.deaf = False
        link.run()
        assert isinstance(stored.value, AssociationAbortedError)

    def test_its_file_is_closed(self, net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        path = tmp_path / "x"
        path.write_bytes(bytes(10_000_000))
        requestor, _, link = net.pair()
        link.far.deaf = True
        link.near.deaf = True
        closed: list[bool] = []
        instance = Instance(CT_STORAGE, "1.2.3", EXPLICIT, path=path, length=10_000_000)
        opened = Instance.open

        def watched(self: Instance, progress: Any = None) -> Any:
            manager: Any = opened(self, progress)
            return closing(Watched(manager.thing))

        class Watched:
            def __init__(self, source: Any) -> None:
                self.length, self.read, self._source = source.length, source.read, source

            def close(self) -> None:
                closed.append(True)
                self._source.close()

        monkeypatch.setattr(Instance, "open", watched)
        stored = net.outcome(store(requestor, instance))
        link.run()
        assert closed == []
        stored.deferred.cancel()
        assert closed == [True]
        assert isinstance(requestor.ended, AssociationAbortedError)


class TestSCP:
    def test_what_the_store_is_told(self, net: Net, sinks: SinkStore):
        requestor, _, link = net.pair(net.acceptor([StorageSCP(sinks)]))
        stored = net.outcome(store(requestor, INSTANCE))
        link.run()
        assert stored.value == 0
        assert sinks.begun == [
            ReceivedInstance(CT_STORAGE, "1.2.3", EXPLICIT, "MODALITY", "ARCHIVE")
        ]
        assert bytes(net.scp.sinks[0].data) == INSTANCE.data

    @pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2.3/x", "1" * 66, "1..2", "a", "%s"])
    def test_h_a01_an_instance_uid_that_is_none(self, net: Net, sinks: SinkStore, uid: str):
        """0x0117, and nobody tries to keep it."""
        client = net.client(net.acceptor([StorageSCP(sinks)]))
        client.send(RQ)
        client.received.clear()
        client.send(command(store_rq(uid=uid), 3), data(b"ab"))
        assert b"\0\0\0\x09\x02\0\0\0\x17\x01" in client.received
        assert sinks.begun == []

    def test_another_request_in_its_context(self, net: Net, sinks: SinkStore):
        class Confused(StorageSCP):
            """Takes Verification for a storage SOP class."""

        scp = Confused(sinks, sop_classes=[VERIFICATION])
        client = net.client(net.acceptor([scp]))
        client.send(RQ)
        client.received.clear()
        assert isinstance(echo_rq(), CEchoRQ)
        client.send(command(echo_rq()))
        assert b"\0\0\0\x09\x02\0\0\0\x11\x02" in client.received  # 0x0211

    def test_all_storage_sop_classes(self, sinks: SinkStore):
        contexts = StorageSCP(sinks).contexts
        assert set(contexts) == set(STORAGE_SOP_CLASSES)
        assert len(contexts) > 150
        assert CT_STORAGE in contexts
        for other in ("1.2.840.10008.1.3.10", "1.2.840.10008.1.20.1", VERIFICATION):
            assert other not in contexts

    def test_its_choices(self, sinks: SinkStore):
        scp = StorageSCP(sinks, sop_classes=[CT_STORAGE], transfer_syntaxes=[EXPLICIT, IMPLICIT])
        assert dict(scp.contexts) == {CT_STORAGE: SupportedContext((EXPLICIT, IMPLICIT))}
        assert scp.otherwise(PRIVATE) is None

    def test_promiscuous(self, sinks: SinkStore):
        """Of unknown SOP classes only: a known one that is no storage stays refused."""
        scp = StorageSCP(sinks, promiscuous=True)
        for taken in (PRIVATE, *BLANK):
            assert scp.otherwise(taken) == SupportedContext(None)
        for refused in (VERIFICATION, "1.2.840.10008.1.20.1", str(ExplicitVRLittleEndian)):
            assert scp.otherwise(refused) is None

    def test_promiscuous_over_an_association(self, net: Net, sinks: SinkStore):
        acceptor = net.acceptor([VerificationSCP(), StorageSCP(sinks, promiscuous=True)])
        net.scp.contexts[PRIVATE] = SupportedContext(None)
        requestor, _, link = net.pair(acceptor, contexts=[(PRIVATE, (EXPLICIT,)), VERIFICATION])
        stored = net.outcome(store(requestor, Instance(PRIVATE, "1.2", EXPLICIT, data=b"ab")))
        link.run()
        assert stored.value == 0
        assert sinks.begun[0].sop_class_uid == PRIVATE
