"""H-D23 to H-D25: retrieval and procedure steps with a hostile peer at the other end; what of them
concerns our SCPs alone is in tests/services/test_get.py and test_move.py. Each test is named by
its case."""

from typing import Any

import pytest
from pydicom import Dataset
from twisted.internet.defer import Deferred

from dimse import (
    STUDY_ROOT,
    Instance,
    RetrieveSCP,
    StatusError,
    StorageSCP,
    TimedOutError,
    associate,
    get,
    get_contexts,
    move,
    n_create,
    n_set,
)
from dimse.errors import AssociationAbortedError
from dimse.message.messages import CStoreRQ, NCreateRSP, NSetRSP
from dimse.services.dataset import encode
from dimse.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP
from dimse.testing import ScriptedPeer
from tests.archive.data_sets import element
from tests.memory import Net, RecordingSink
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT

KEYS = Dataset()
KEYS.QueryRetrieveLevel = "STUDY"
KEYS.StudyInstanceUID = "1.2"
STEP = MODALITY_PERFORMED_PROCEDURE_STEP
CONTEXTS = [*get_contexts(sop_classes=[CT_STORAGE]), STUDY_ROOT.move]
STORE = CStoreRQ(
    message_id=1, affected_sop_class_uid=CT_STORAGE, affected_sop_instance_uid="1.2.3", priority=0
)


class Store:
    """Keeps what comes in the sinks of the network."""

    def __init__(self, net: Net) -> None:
        self.scp = net.scp

    def begin(self, instance: object, operation: Any) -> RecordingSink:
        self.scp.sinks.append(RecordingSink(self.scp, operation))
        return self.scp.sinks[-1]


def connected(net: Net, contexts: list[Any]) -> tuple[Any, ScriptedPeer]:
    endpoint = net.endpoint()
    server = net.scripted_acceptor(endpoint)
    pending = associate(endpoint, contexts, reactor=net.clock)
    server.accept()
    return net.result(pending), server


def test_h_d23_the_destination_is_ourselves(net: Net):
    """An archive that knows its own AE title sends to itself, as to any other node."""
    endpoint, received = net.endpoint(), net.scp.sinks
    found = [Instance(CT_STORAGE, "1.2.3", EXPLICIT, data=b"ab" * 100)]
    scp = RetrieveSCP(lambda *_: found, destinations={"SELF": endpoint}, reactor=net.clock)
    listening: Any = net.acceptor([scp, StorageSCP(Store(net))])
    net.result(endpoint.listen(listening))
    ours, _ = net.associate(endpoint, CONTEXTS)
    done = net.result(move(ours, KEYS, "SELF").result())
    assert (done.status, done.completed, done.failed) == (0, 1, 0)
    assert [bytes(sink.data) for sink in received] == [b"ab" * 100]
    assert ours.ended is None


def test_h_d23_counts_that_are_none(net: Net):
    """Our SCU says what came: numbers that rise and fall, or are not there, decide nothing."""
    ours, server = connected(net, CONTEXTS)

    async def progress() -> list[Any]:
        answers = move(ours, KEYS, "DEST")
        seen = [(each.remaining, each.completed) async for each in answers]
        return [*seen, answers.status]

    result = Deferred.fromCoroutine(progress())
    net.run()
    pending = [(65535, 65535), (None, None), (0, 7), (3, 0)]
    for remaining, completed in pending:
        server.respond(
            0xFF00,
            number_of_remaining_suboperations=remaining,
            number_of_completed_suboperations=completed,
        )
    server.respond(0)
    assert net.result(result) == [*pending, 0]


FAILED_LIST = 0x00080058


@pytest.mark.parametrize(
    "data",
    [
        *(b"\xff" * 9, encode(KEYS, EXPLICIT), b""),
        element(FAILED_LIST, "US", b"\1\0"),
        element(FAILED_LIST, "KS", b"1.2.3\0"),  # no VR of the standard
        element(FAILED_LIST, "SQ", b""),
    ],
)
def test_h_d23_a_list_of_failures_that_is_none(net: Net, data: bytes):
    """The numbers count, with or without the list (PS3.4 C.4.2.1.4.2)."""
    ours, server = connected(net, [(STUDY_ROOT.move, [EXPLICIT])])
    result = move(ours, KEYS, "DEST").result()
    net.run()
    server.respond(0xB000, data, number_of_failed_suboperations=3)
    done = net.result(result)
    assert (done.failed, done.failed_sop_instance_uids) == (3, ())


@pytest.mark.parametrize("answered", [0, 1])
def test_h_d24_the_archive_falls_silent(net: Net, answered: int):
    """Between two C-STOREs: the C-GET fails with the time-out, what was stored stays stored."""
    ours, server = connected(net, CONTEXTS)
    result = get(ours, KEYS, Store(net)).result()
    net.run()
    for _ in range(answered):
        server.command(STORE, b"ab", context_id=3)
    net.advance(ours.limits.response - 1)
    assert ours.ended is None
    net.advance(1)
    with pytest.raises(TimedOutError, match="response"):
        net.result(result)
    assert [sink.endings for sink in net.scp.sinks] == [["finish"]] * answered


def test_h_d24_the_archive_falls_silent_inside_an_instance(net: Net):
    """Then it is the progress of its message: what is half stored is undone."""
    ours, server = connected(net, CONTEXTS)
    result = get(ours, KEYS, Store(net), timeout=1000).result()
    net.run()
    server.command(STORE, b"ab", context_id=3, complete=False)
    net.advance(ours.limits.progress)
    with pytest.raises(TimedOutError, match="progress"):
        net.result(result)
    (sink,) = net.scp.sinks
    assert isinstance(sink.endings[0], TimedOutError)


def test_h_d24_we_fall_silent(net: Net):
    """A store of ours that never answers does not time the archive out: it waits for us."""
    ours, server = connected(net, CONTEXTS)
    result = get(ours, KEYS, Store(net)).result()
    net.run()
    done: Deferred[int] = Deferred()
    net.scp.on_finish = lambda sink: done
    server.command(STORE, b"ab", context_id=3)
    net.advance(4 * ours.limits.response)
    assert ours.ended is None
    done.callback(0)
    net.advance(ours.limits.response)
    with pytest.raises(TimedOutError):
        net.result(result)


def test_h_d24_the_archive_aborts_inside_an_instance(net: Net):
    ours, server = connected(net, CONTEXTS)
    result = get(ours, KEYS, Store(net)).result()
    net.run()
    server.command(STORE, b"ab", context_id=3, complete=False)
    server.abort()
    with pytest.raises(AssociationAbortedError):
        net.result(result)
    assert isinstance(net.scp.sinks[0].endings[0], AssociationAbortedError)


@pytest.mark.parametrize(
    ("create", "status", "error_id"),
    [(True, 0x0111, None), (False, 0x0112, None), (False, 0x0110, 0xA710)],
)
def test_h_d25_a_procedure_step_that_is_refused(
    net: Net, create: bool, status: int, error_id: int | None
):
    """There already, not there, or completed (PS3.4 F.7.2): the SCU has the status, the comment
    and the Error ID, and the association lives."""
    ours, server = connected(net, [(STEP, [IMPLICIT])])
    verb: Any = n_create(ours, STEP, KEYS, "1.2.3") if create else n_set(ours, STEP, "1.2.3", KEYS)
    net.run()
    server.respond(status, error_id=error_id, error_comment="no")
    with pytest.raises(StatusError, match=f"0x{status:04X}") as caught:
        net.result(verb)
    assert (caught.value.status, caught.value.comment) == (status, "no")
    response = caught.value.response
    assert isinstance(response, NCreateRSP if create else NSetRSP)
    assert response.error_id == error_id
    assert ours.ended is None
