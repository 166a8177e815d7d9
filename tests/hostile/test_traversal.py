"""H-A01: names that want to be paths, at a server and at a client; nothing appears elsewhere."""

import random
import re
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pytest
from pydicom import Dataset
from twisted.internet.defer import execute

from dimse import (
    STUDY_ROOT,
    FolderStore,
    ReceivedInstance,
    StatusError,
    associate,
    get,
    get_contexts,
)
from dimse.archive.objects import key_of
from dimse.message.messages import CGetRQ, CMoveRQ, CStoreRQ
from dimse.testing import ScriptedPeer
from dimse.uids import is_uid
from tests.archive.archives import open_archive
from tests.archive.data_sets import SERIES, SOP_CLASS, SOP_INSTANCE, STUDY, data_set, element
from tests.memory import Net
from tests.wire import CT_STORAGE, EXPLICIT

PARTS = (
    *(
        "..",
        ".",
        "/",
        "\\",
        "%2f",
        "%2e%2e",
        "\0",
        "\n",
        "\r",
        "~",
        "C:",
        "//",
        "-rf",
        "$(touch x)",
    ),
    *("`touch x`", "|touch x", ";", "*", "1.2.3", "1", "PWNED", "etc", "store", "got", ".dcm", " "),
)
WHOLE = (
    "..",
    ".",
    "",
    "/",
    "../x",
    "..\\x",
    "C:x",
    "a%2fb",
    "1" * 65,
    "1.2.3\n",
    "-rf",
    "1/../../x",
)
KEYS = Dataset()
KEYS.QueryRetrieveLevel, KEYS.StudyInstanceUID = "STUDY", "1.2"


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the store is, among things that are worth a path; the process is there too."""
    for name in ("store", "got", "cwd", "etc", "incoming"):
        (tmp_path / name).mkdir()
    for name in ("canary.dcm", "x", "PWNED", "cwd/1.2.3.dcm", "etc/PWNED.dcm"):
        (tmp_path / name).write_text("worth it")
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path


def snapshot(parent: Path, *without: str) -> dict[str, tuple[int, str]]:
    """Everything in a folder but for some of it, by what it is."""
    found = {}
    for path in parent.rglob("*"):
        name = path.relative_to(parent)
        if name.parts[0] not in without:
            content = sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(name)] = path.lstat().st_mode, content
    return found


def hostile(parent: Path) -> Iterator[str]:
    """Names without end, the known ones first."""
    choose = random.Random("H-A01")
    yield from WHOLE
    yield f"{parent}/absolute"
    while True:
        yield "".join(choose.choices(PARTS, k=choose.randint(1, 8)))


def with_names(names: Iterator[str]) -> bytes:
    """A data set in which a name is every UID, and a Patient ID."""
    uids = {tag: next(names) for tag in (SOP_INSTANCE, STUDY, SERIES)}
    patient = element(0x00100020, "LO", next(names).encode())
    return data_set(patient, uids={SOP_CLASS: CT_STORAGE, **uids})


def store_rq(name: str, **others: str) -> CStoreRQ:
    return CStoreRQ(
        message_id=1,
        affected_sop_class_uid=CT_STORAGE,
        affected_sop_instance_uid=name,
        priority=0,
        **others,  # type: ignore[arg-type]
    )


def test_h_a01_at_the_server(net: Net, parent: Path):
    """5,000 operations of C-STORE, C-GET and C-MOVE, under hostile AE titles: all are answered."""
    before, names = snapshot(parent, "store"), hostile(parent)
    contexts: list[Any] = [(CT_STORAGE, [EXPLICIT]), STUDY_ROOT.get, STUDY_ROOT.move]
    with open_archive(parent / "store") as archive:
        endpoint, answered = net.listen(archive.scps()), 0
        for _ in range(1250):
            peer = net.scripted_requestor(endpoint)
            titles = [re.sub(r"[^ -~]|\\", "?", next(names))[:16].strip() or "?" for _ in range(2)]
            peer.associate(contexts, called_ae_title=titles[0], calling_ae_title=titles[1])
            name = next(names)
            data = data_set(
                uids={SOP_CLASS: CT_STORAGE, SOP_INSTANCE: name, STUDY: "1.2", SERIES: "1.2.3"}
            )
            peer.command(store_rq(name), data)
            for request in (
                store_rq(next(names), move_originator_application_entity_title=next(names)[:16]),
                CGetRQ(message_id=3, affected_sop_class_uid=STUDY_ROOT.get, priority=0),
                CMoveRQ(
                    message_id=5,
                    affected_sop_class_uid=STUDY_ROOT.move,
                    priority=0,
                    move_destination=next(names)[:16],
                ),
            ):
                context_id = {CStoreRQ: 1, CGetRQ: 3, CMoveRQ: 5}[type(request)]
                peer.command(request, with_names(names), context_id=context_id)
            answered += len(peer.messages)
            peer.abort()
            net.events.clear()
        assert answered == 5000
        assert list((parent / "store" / "incoming").iterdir()) == []
        kept = [path.relative_to(parent / "store") for path in (parent / "store").rglob("*.*")]
    assert any(path.suffix == ".dcm" for path in kept)  # some are UIDs
    for path in kept:
        assert re.fullmatch(r"objects/../[0-9a-f]{64}\.dcm|index\.sqlite(-wal|-shm)?", str(path))
    assert snapshot(parent, "store") == before


def test_h_a01_at_the_client(net: Net, parent: Path):
    """An archive sends 5,000 such instances: whatever the folder takes has a UID for its name."""
    before, names = snapshot(parent, "got"), hostile(parent)
    answered = 0
    for _ in range(50):
        ours, server = connected(net)
        result = get(ours, KEYS, FolderStore(parent / "got", in_thread=execute)).result()
        net.run()
        server.received.clear()
        for name in islice(names, 100):
            server.command(store_rq(name), with_names(names), context_id=3)
        answered += len(server.messages)
        server.abort()
        result.addErrback(lambda _: None)
        net.run()
        net.events.clear()
    assert answered == 5000
    assert all(re.fullmatch(r"[0-9.]+\.dcm", path.name) for path in (parent / "got").iterdir())
    assert snapshot(parent, "got") == before


def connected(net: Net) -> tuple[Any, ScriptedPeer]:
    endpoint = net.endpoint()
    server = net.scripted_acceptor(endpoint)
    pending = associate(endpoint, get_contexts(STUDY_ROOT, [CT_STORAGE]), reactor=net.clock)
    server.accept()
    return net.result(pending), server


def test_h_a01_at_the_stores_themselves(parent: Path):
    """10,000 names past the checks of the services: a hash in an archive, refused by a folder."""
    before, names = snapshot(parent, "store", "got"), hostile(parent)
    folder, operation = FolderStore(parent / "got", in_thread=execute), cast(Any, None)
    with open_archive(parent / "store") as archive:
        for name in islice(names, 10_000):
            instance = ReceivedInstance(CT_STORAGE, name, EXPLICIT, next(names), next(names))
            archive.begin(instance, operation).abort(StatusError(0xC000))
            assert re.fullmatch("[0-9a-f]{64}.dcm", archive.objects.path_of(key_of(name)).name)
            with pytest.raises(StatusError) as refused:
                folder.begin(instance, operation).finish()
            # For a UID because the data set is empty.
            assert refused.value.status == (0xC000 if is_uid(name) else 0x0117)
    assert list((parent / "got").iterdir()) == []
    assert snapshot(parent, "store", "got") == before
