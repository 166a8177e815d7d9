"""The stores ready to use, fed as C-STORE and C-GET feed them (PS3.4 B.2, C.4.3)."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian
from twisted.internet.defer import Deferred, execute

from dimse import (
    CallbackStore,
    ConnectionLostError,
    FolderStore,
    HeldInstance,
    Instance,
    MemoryStore,
    MisuseError,
    NotAnInstanceError,
    ReceivedInstance,
    RetrieveSCP,
    StatusError,
    StorageSCP,
    get,
    store,
)
from dimse.testing import Network
from tests.services.retrieving import CONTEXTS, KEYS
from tests.wire import EXPLICIT

CONTENT = b"\x08\0\x18\0UI\x06\x001.2.3\0"  # SOP Instance UID (0008,0018)

TRAVERSALS = [
    *("..", ".", "/abs", "../x", "..\\x", "C:x", "a%2fb", "1.2\0", "1.2\n", "-rf", ""),
    *("1" * 65, "1..2", ".1", "1.", "1.2/../3"),
]
"""What K14 of the hostile cases lists, and what comes close to a UID."""


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "got"


def kept(folder: Path) -> FolderStore:
    return FolderStore(folder, in_thread=execute)


def received(uid: str = "1.2.3") -> ReceivedInstance:
    return ReceivedInstance(CTImageStorage, uid, EXPLICIT, "MODALITY", "ARCHIVE")


def put(network: Network, into: Any, content: bytes = CONTENT, uid: str = "1.2.3") -> Any:
    """Receive one instance in two pieces; the status, or the `StatusError`."""

    def receive() -> "Deferred[Any]":
        sink = into.begin(received(uid), None)
        for piece in filter(None, (content[:4], content[4:])):
            sink.write(memoryview(piece))
        outcome: Deferred[Any] = sink.finish()
        return outcome

    try:
        return network.result(execute(lambda: None).addCallback(lambda _: receive()))
    except StatusError as error:
        return error


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestFolderStore:
    def test_what_came_is_a_dicom_file_named_by_its_uid(self, network: Network, folder: Path):
        into = kept(folder)
        assert put(network, into) == 0
        assert names(folder) == ["1.2.3.dcm"]
        assert into.path_of("1.2.3").read_bytes().endswith(CONTENT)
        found = dcmread(into.path_of("1.2.3"))
        assert (found.SOPInstanceUID, found.file_meta.TransferSyntaxUID) == ("1.2.3", EXPLICIT)

    @pytest.mark.parametrize("uid", TRAVERSALS)
    def test_h_a01_a_uid_that_is_none(self, network: Network, tmp_path: Path, uid: str):
        """It never becomes a name, in or outside the folder (K14)."""
        error = put(network, kept(tmp_path / "deep" / "got"), uid=uid)
        assert error.status == 0x0117
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    def test_h_a01_from_a_hostile_c_get(self, network: Network, folder: Path):
        """The SCP of a C-GET names the instances: the requestor refuses those names too."""
        scp = RetrieveSCP(lambda *_: [Instance(CTImageStorage, "../x", EXPLICIT, data=CONTENT)])
        ours, _ = network.associate(network.listen([scp]), CONTEXTS)
        with pytest.raises(StatusError, match="0xA702"):
            network.result(get(ours, KEYS, kept(folder)).result())
        assert names(folder) == []
        assert names(folder.parent) == ["got"]

    def test_the_same_again_is_a_success(self, network: Network, folder: Path):
        into = kept(folder)
        put(network, into)
        before = into.path_of("1.2.3").stat().st_ino
        assert put(network, into) == 0
        assert into.path_of("1.2.3").stat().st_ino == before
        assert names(folder) == ["1.2.3.dcm"]

    def test_another_data_set_keeps_the_first(self, network: Network, folder: Path):
        into = kept(folder)
        put(network, into)
        before = into.path_of("1.2.3").read_bytes()
        assert put(network, into, CONTENT + b"more").status == 0x0111
        assert into.path_of("1.2.3").read_bytes() == before
        assert names(folder) == ["1.2.3.dcm"]

    def test_a_file_that_others_wrote_under_its_name_is_kept(self, network: Network, folder: Path):
        into = kept(folder)
        into.path_of("1.2.3").write_bytes(b"another program's")
        assert put(network, into).status == 0xA700
        assert into.path_of("1.2.3").read_bytes() == b"another program's"

    def test_replace(self, network: Network, folder: Path):
        into = FolderStore(folder, replace=True)
        put(network, into)
        assert put(network, into, CONTENT + b"more") == 0
        assert into.path_of("1.2.3").read_bytes().endswith(CONTENT + b"more")
        assert names(folder) == ["1.2.3.dcm"]

    @pytest.mark.parametrize("replace", [False, True])
    def test_h_a04_a_broken_re_send_leaves_the_first(
        self, network: Network, folder: Path, replace: bool
    ):
        """K16: cut at every byte, with the connection lost or the peer's abort."""
        into = FolderStore(folder, replace=replace, in_thread=execute)
        put(network, into)
        before = sha256(into.path_of("1.2.3").read_bytes()).digest()
        for cut in range(len(CONTENT)):
            sink = into.begin(received(), None)  # type: ignore[arg-type]
            if cut:
                sink.write(memoryview(CONTENT[:cut]))
            sink.abort(ConnectionLostError("gone"))
            assert sha256(into.path_of("1.2.3").read_bytes()).digest() == before
        assert names(folder) == ["1.2.3.dcm"]

    @pytest.mark.parametrize("replace", [False, True])
    def test_h_a05_a_symlink_or_folder_at_the_target(
        self, network: Network, folder: Path, tmp_path: Path, replace: bool
    ):
        """A link is never followed; with `replace` the link itself gives way."""
        victim = tmp_path / "victim"
        victim.write_bytes(b"precious")
        into = FolderStore(folder, replace=replace, in_thread=execute)
        into.path_of("1.2.3").symlink_to(victim)
        into.path_of("1.2.4").mkdir()
        outcome = put(network, into)
        assert outcome == 0 if replace else outcome.status == 0xA700
        assert put(network, into, uid="1.2.4").status == 0xA700
        assert victim.read_bytes() == b"precious"
        assert names(folder) == ["1.2.3.dcm", "1.2.4.dcm"]

    def test_h_a06_modes_whatever_the_umask(self, network: Network, folder: Path):
        umask = os.umask(0)
        try:
            put(network, kept(folder))
        finally:
            os.umask(umask)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "1.2.3.dcm").stat().st_mode) == 0o600

    @pytest.mark.parametrize("name", ["open", "write", "link"])
    def test_a_full_disk(
        self, network: Network, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ):
        """0xA700 (PS3.4 B.2.3), nothing is left, and it works again when the disk does."""
        into = kept(folder)

        def full(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            assert put_and_abort(network, into).status == 0xA700
        assert names(folder) == []
        assert put(network, into) == 0

    def test_an_empty_data_set(self, network: Network, folder: Path):
        assert put(network, kept(folder), b"").status == 0xC000
        assert names(folder) == []

    def test_a_folder_that_cannot_be(self, tmp_path: Path):
        (tmp_path / "file").write_text("")
        with pytest.raises(MisuseError, match=r"file: .*[Ee]xists"):
            FolderStore(tmp_path / "file")


def put_and_abort(network: Network, into: Any) -> Any:
    """As `put`, and the sink hears of its own failure to write, as a performer tells it."""
    try:
        sink = into.begin(received(), None)
    except StatusError as error:
        return error
    try:
        sink.write(memoryview(CONTENT))
    except StatusError as error:
        sink.abort(error)
        return error
    try:
        return network.result(sink.finish())
    except StatusError as error:
        return error


@pytest.fixture
def memory() -> Iterator[MemoryStore]:
    with MemoryStore(threshold=40, limit=100) as store:
        yield store


class TestMemoryStore:
    def test_what_came(self, network: Network, memory: MemoryStore):
        assert put(network, memory) == 0
        (held,) = memory.instances
        assert (held.received, held.length, held.on_disk) == (received(), len(CONTENT), False)
        assert held.dataset().SOPInstanceUID == "1.2.3"
        assert held.open().read().endswith(CONTENT)
        assert held.instance() == Instance(CTImageStorage, "1.2.3", EXPLICIT, data=CONTENT)

    def test_above_the_threshold_it_is_on_the_disk(self, network: Network, memory: MemoryStore):
        """The bytes are the same, and the file is gone with the store."""
        for number in range(4):
            assert put(network, memory, uid=f"1.2.{number}") == 0
        assert [held.on_disk for held in memory.instances] == [False, False, True, True]
        (whole, path) = (memory.instances[0], memory.instances[3].instance().path)
        assert memory.instances[3].open().read().endswith(CONTENT)
        assert memory.instances[3].dataset() == whole.dataset()
        assert path is not None
        with memory.instances[3].instance().open() as source:
            assert source.read(100) == CONTENT
        memory.close()
        assert memory.instances == []
        assert not path.exists()

    def test_one_that_grows_over_the_threshold(self, network: Network, memory: MemoryStore):
        assert put(network, memory, CONTENT * 4) == 0
        assert memory.instances[0].on_disk
        assert memory.instances[0].open().read().endswith(CONTENT * 4)

    def test_the_limit(self, network: Network, memory: MemoryStore):
        """Above it 0xA700; what is closed or aborted makes room again."""
        assert put(network, memory, bytes(90)) == 0
        sink = memory.begin(received(), None)  # type: ignore[arg-type]
        with pytest.raises(StatusError, match="holds 100 bytes"):
            sink.write(memoryview(bytes(11)))
        sink.write(memoryview(bytes(10)))
        sink.abort(ConnectionLostError("gone"))
        assert put(network, memory, bytes(10)) == 0
        memory.close()
        assert put(network, memory, bytes(100)) == 0

    def test_an_empty_data_set(self, network: Network, memory: MemoryStore):
        assert put(network, memory, b"").status == 0xC000
        assert memory.instances == []

    def test_a_full_disk(
        self, network: Network, memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ):
        def full(**_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("dimse.services.receiving.NamedTemporaryFile", full)
        sink = memory.begin(received(), None)  # type: ignore[arg-type]
        with pytest.raises(StatusError, match="No space"):
            sink.write(memoryview(bytes(50)))
        sink.abort(ConnectionLostError("gone"))
        assert put(network, memory, bytes(40)) == 0

    def test_what_pydicom_cannot_read(self, network: Network, memory: MemoryStore):
        """The error names no value."""
        deflated = replace(received(), transfer_syntax=DeflatedExplicitVRLittleEndian)
        sink = memory.begin(deflated, None)  # type: ignore[arg-type]
        sink.write(memoryview(b"DOE^JANE"))
        assert network.result(sink.finish()) == 0
        with pytest.raises(NotAnInstanceError, match=r"1\.2\.3: pydicom") as caught:
            memory.instances[0].dataset()
        assert "DOE" not in str(caught.value)


def storing(network: Network, callback: Callable[..., Any], **options: Any) -> Any:
    """What a C-STORE is answered by a node with a `CallbackStore`."""
    scp = StorageSCP(CallbackStore(callback, **options))
    ours, _ = network.associate(network.listen([scp]), [CTImageStorage])
    return store(ours, Instance(CTImageStorage, "1.2.3", EXPLICIT, data=CONTENT))


class TestCallbackStore:
    def test_none_is_a_success(self, network: Network):
        seen = []

        def callback(held: HeldInstance, operation: Any) -> None:
            seen.append((held.received.sop_instance_uid, held.open().read()[-len(CONTENT) :]))

        assert network.result(storing(network, callback)) == 0
        assert seen == [("1.2.3", CONTENT)]

    def test_a_status(self, network: Network):
        assert network.result(storing(network, lambda *_: 0xB007)) == 0xB007

    def test_a_status_error(self, network: Network):
        def callback(held: HeldInstance, operation: Any) -> None:
            raise StatusError(0xC123, "not ours")

        with pytest.raises(StatusError) as caught:
            network.result(storing(network, callback))
        assert (caught.value.status, caught.value.comment) == (0xC123, "not ours")

    def test_an_exception_is_0110(self, network: Network):
        with pytest.raises(StatusError) as caught:
            network.result(storing(network, lambda *_: 1 // 0))
        assert caught.value.status == 0x0110
        network.flush_logged_errors(ZeroDivisionError)

    def test_later(self, network: Network):
        """The answer waits for the Deferred, and the instance is open until then."""
        waits: Deferred[int] = Deferred()
        seen: list[HeldInstance] = []

        async def callback(held: HeldInstance, operation: Any) -> int:
            seen.append(held)
            return await waits

        answer = storing(network, callback)
        network.run()
        assert not answer.called
        assert seen[0].open().read().endswith(CONTENT)
        waits.callback(0)
        assert network.result(answer) == 0
        with pytest.raises(ValueError, match="closed"):
            seen[0].open()

    def test_its_status_answers_the_sub_operations_of_a_c_get(self, network: Network):
        sent = [Instance(CTImageStorage, f"1.2.{n}", EXPLICIT, data=CONTENT) for n in range(3)]
        ours, _ = network.associate(network.listen([RetrieveSCP(lambda *_: sent)]), CONTEXTS)
        statuses = iter([0, 0xA700, 0xB000])
        done = network.result(get(ours, KEYS, CallbackStore(lambda *_: next(statuses))).result())
        assert (done.completed, done.failed, done.warning) == (1, 1, 1)
        assert done.failed_sop_instance_uids == ("1.2.1",)

    def test_room_is_free_again_after_each(self, network: Network):
        into = CallbackStore(lambda *_: None, limit=len(CONTENT))
        assert [put(network, into) for _ in range(3)] == [0, 0, 0]


def test_one_c_get_at_a_time(network: Network):
    """Two at once on one association could not be told apart; the first goes on."""
    waits: Deferred[list[Instance]] = Deferred()
    ours, _ = network.associate(network.listen([RetrieveSCP(lambda *_: waits)]), CONTEXTS)
    first = get(ours, KEYS, CallbackStore(lambda *_: None)).result()
    network.run()
    with pytest.raises(MisuseError, match="one C-GET at a time"):
        network.result(get(ours, KEYS, CallbackStore(lambda *_: None)).result())
    waits.callback([Instance(CTImageStorage, "1.2.3", EXPLICIT, data=CONTENT)])
    assert network.result(first).completed == 1
