"""Whose fault a retrieval that failed is, what of it is said, and what it is told to do."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage
from twisted.logger import LogLevel, formatEvent

from dimse import (
    MODALITY_WORKLIST,
    STUDY_ROOT,
    CallbackStore,
    Instance,
    MemoryStore,
    MisuseError,
    QueryOptions,
    QuerySCP,
    RetrieveOptions,
    RetrieveSCP,
    StatusError,
    StorageSCP,
    SubOperations,
    WorklistOptions,
    find,
    get,
    get_contexts,
    move,
    store,
)
from dimse.message.messages import CGetRQ, CGetRSP
from dimse.requestor import ProposedContext
from dimse.services import transcoding
from dimse.services.dataset import encode
from dimse.services.extended import Options
from dimse.testing import Network
from dimse.ul.items import RoleSelection
from dimse.ul.pdu import AssociateRQ
from tests.services.retrieving import CONTEXTS, DATA, KEYS, instance, joined
from tests.services.test_instance import read_all
from tests.services.test_transcoding import shipped
from tests.wire import EXPLICIT, IMPLICIT


async def two_matches(*_: Any) -> Any:
    yield KEYS
    yield KEYS


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


def lines(network: Network, *parts: str) -> list[str]:
    """What was logged with all of these in it."""
    return [
        line for line in map(formatEvent, network.events) if all(each in line for each in parts)
    ]


class TestFailures:
    def test_of_all(self, network: Network):
        """The numbers and the list are in the error."""
        full = CallbackStore(lambda *_: 0xA700)
        ours, _ = joined(network, [instance(1), instance(2)])
        with pytest.raises(StatusError) as caught:
            network.result(get(ours, KEYS, full).result())
        done = caught.value.sub_operations
        assert isinstance(done, SubOperations)
        assert (done.status, done.completed, done.failed) == (0xA702, 0, 2)
        assert done.failed_sop_instance_uids == ("1.2.1", "1.2.2")

    def test_of_more_than_64_kib_of_uids(self, network: Network):
        """The list is longer than a UI of explicit VR can be (PS3.5 6.2.2)."""
        root = "1.2.840." + "9" * 50
        found = [
            Instance(CTImageStorage, f"{root}.{number}", EXPLICIT, data=DATA)
            for number in range(1500)
        ]
        ours, _ = joined(network, found)
        statuses = iter([0, *[0xA700] * 1499])
        full = CallbackStore(lambda *_: next(statuses))
        done = network.result(get(ours, KEYS, full).result())
        assert (done.completed, done.failed) == (1, 1499)
        assert done.failed_sop_instance_uids == tuple(f"{root}.{n}" for n in range(1, 1500))

    def test_one_aloud_of_those_that_fail_alike(self, network: Network):
        statuses = iter([0xA700, 0xA700, 0xA900])
        ours, _ = joined(network, [instance(number) for number in range(3)])
        failing = CallbackStore(lambda *_: next(statuses))
        with pytest.raises(StatusError):
            network.result(get(ours, KEYS, failing).result())
        said = {formatEvent(each): each["log_level"] for each in network.events}
        levels = [level for line, level in said.items() if ": not sent: " in line]
        assert levels == [LogLevel.warn, LogLevel.debug, LogLevel.warn]

    def test_the_log_and_the_final_response_say_why(self, network: Network):
        scp = RetrieveSCP(lambda *_: [instance(1), instance(2)])
        client = network.scripted_requestor(network.listen([scp]))
        contexts = [(STUDY_ROOT.get, [EXPLICIT]), (CTImageStorage, [EXPLICIT])]
        client.associate(contexts, roles=[RoleSelection(CTImageStorage, scu=False, scp=True)])
        request = CGetRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT.get, priority=0)
        client.command(request, encode(KEYS, EXPLICIT))
        client.respond(0xA700, error_comment="DOE^JOHN")
        client.respond()
        last = client.messages[-1].message
        assert isinstance(last, CGetRSP)
        assert "0xA700" in (last.error_comment or "")
        assert len(lines(network, "C-GET of 1.2.1: not sent", "0xA700")) == 1
        assert not lines(network, "DOE")
        assert "DOE" not in (last.error_comment or "")

    def test_a_destination_that_is_not_there_is_told_of_once(self, network: Network):
        """In the log, and to the peer in so few words that an Error Comment has them all."""
        found = [instance(number) for number in range(1, 300)]
        nobody = network.endpoint()
        ours, _ = joined(network, found, destinations={"DEST": nobody})
        with pytest.raises(StatusError) as caught:
            network.result(move(ours, KEYS, "DEST").result())
        assert caught.value.comment == "no connection with the destination"
        assert caught.value.sub_operations.failed == 299
        assert len(lines(network, "C-MOVE to DEST: instances are not sent: ")) == 1
        assert not lines(network, "1.2.7")

    def test_of_what_cannot_be_read(self, network: Network, tmp_path: Any):
        """Its UID is listed where it is known; the peer does not hear of our paths."""
        broken, gone = Dataset(), tmp_path / "DOE^JOHN"
        broken.SOPInstanceUID = "1.2.7"  # and no SOP Class UID
        away = Instance(CTImageStorage, "1.2.8", EXPLICIT, path=gone, length=8)
        ours, _ = joined(network, [gone, broken, away, instance(1)])
        done = network.result(get(ours, KEYS, MemoryStore()).result())
        assert (done.completed, done.failed) == (1, 3)
        assert done.failed_sop_instance_uids == ("1.2.7", "1.2.8")

    def test_of_what_cannot_be_read_for_a_c_move(self, network: Network):
        broken = Dataset()
        broken.SOPInstanceUID = "1.2.7"
        place = network.listen([StorageSCP(MemoryStore())])
        ours, _ = joined(network, [broken, instance(1)], destinations={"DEST": place})
        done = network.result(move(ours, KEYS, "DEST").result())
        assert done.failed_sop_instance_uids == ("1.2.7",)


class TestAETitles:
    @pytest.mark.parametrize(("given", "calling"), [("ARCHIVE", "ARCHIVE"), (None, "ANY-SCP")])
    def test_of_the_sub_operations_of_a_c_move(
        self, network: Network, given: str | None, calling: str
    ):
        """Ours if it is given, else what the mover called us."""
        place = network.endpoint()
        destination = network.scripted_acceptor(place)
        ours, _ = joined(network, [instance(1)], destinations={"DEST": place}, ae_title=given)
        moving = move(ours, KEYS, "DEST").result()
        network.run()
        (request,) = destination.pdus
        assert isinstance(request, AssociateRQ)
        assert (request.calling_ae_title, request.called_ae_title) == (calling, "DEST")
        destination.reject()
        with pytest.raises(StatusError, match="0xA702"):
            network.result(moving)

    @pytest.mark.parametrize("title", ["", "A" * 17, "A\\B", "Röntgen", " "])
    def test_that_are_none(self, network: Network, title: str):
        ours, _ = joined(network, [])
        with pytest.raises(MisuseError, match="no AE title"):
            move(ours, KEYS, title)
        with pytest.raises(MisuseError, match="no AE title"):
            network.result(store(ours, instance(1), move_originator=(title, 1)))
        with pytest.raises(MisuseError, match="no AE title"):
            RetrieveSCP(lambda *_: [], ae_title=title)


class TestOptions:
    """Extended negotiation has a kind of options for each kind of information model."""

    def test_of_models_of_different_kinds(self, network: Network):
        options = QueryOptions(relational=True)
        models = [STUDY_ROOT, MODALITY_WORKLIST]
        scp = QuerySCP(two_matches, models, options=options)
        extended = {STUDY_ROOT.find: options, MODALITY_WORKLIST.find: WorklistOptions()}
        ours, _ = network.associate(network.listen([scp]), list(extended), extended=extended)
        assert ours.extended == {STUDY_ROOT.find: bytes([1])}

    @pytest.mark.parametrize("options", [QueryOptions(), WorklistOptions()])
    def test_that_fit_no_model(self, options: Options):
        with pytest.raises(MisuseError, match="for none of its information models"):
            RetrieveSCP(lambda *_: [], options=options)
        with pytest.raises(MisuseError, match="for none of its information models"):
            QuerySCP(two_matches, options=RetrieveOptions())


def test_the_log_has_a_line_for_each_that_was_performed(network: Network):
    place = network.listen([StorageSCP(MemoryStore())])
    scps: list[Any] = [
        QuerySCP(two_matches),
        RetrieveSCP(lambda *_: [instance(1)], destinations={"D": place}, reactor=network.clock),
    ]
    ours, theirs = network.associate(network.listen(scps), [STUDY_ROOT.find, *CONTEXTS])
    network.result(find(ours, KEYS).result())
    network.result(get(ours, KEYS, MemoryStore()).result())
    network.result(move(ours, KEYS, "D").result())
    peer, model = theirs.peer, "of Study Root Query/Retrieve Information Model"
    done, what = "1 completed, 0 failed, 0 with warnings", "STUDY, StudyInstanceUID 1.2"
    assert lines(network, str(peer), model) == [
        f"{peer}: C-FIND {model} - FIND, {what}: 2 matches",
        f"{peer}: C-GET {model} - GET, {what}: {done}",
        f"{peer}: C-MOVE {model} - MOVE, {what}, to D: {done}",
    ]


def pixels(name: str) -> Instance:
    return replace(Instance.from_file(shipped(name)), sop_class_uid=CTImageStorage)


class TestOtherTransferSyntaxes:
    """A peer that does not take that of an instance gets another one (PS3.4 C.4.2, C.4.3)."""

    @pytest.fixture(autouse=True)
    def _decoders(self) -> None:
        pytest.importorskip("numpy", reason="pip install 'dimse[transcode]'")

    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
    @pytest.mark.parametrize("verb", ["C-GET", "C-MOVE"])
    @pytest.mark.parametrize(
        "name", ["MR_small.dcm", "MR_small_expb.dcm", "MR_small_RLE.dcm", "MR_small_implicit.dcm"]
    )
    def test_it_takes(self, network: Network, name: str, verb: str, syntax: str):
        received = MemoryStore()
        taken = StorageSCP(received, transfer_syntaxes=[syntax])
        scp = RetrieveSCP(
            lambda *_: [pixels(name)],
            destinations={"DEST": network.listen([taken])},
            reactor=network.clock,
        )
        contexts = [*get_contexts(STUDY_ROOT, [CTImageStorage], [syntax]), STUDY_ROOT.move]
        ours, _ = network.associate(network.listen([scp]), contexts)
        if verb == "C-GET":
            done = network.result(get(ours, KEYS, received).result())
        else:
            done = network.result(move(ours, KEYS, "DEST").result())
        assert done.completed == 1
        (held,) = received.instances
        assert held.received.transfer_syntax == syntax
        assert held.received.sop_instance_uid == pixels(name).sop_instance_uid
        assert held.dataset().PixelData == dcmread(shipped("MR_small.dcm")).PixelData

    def test_its_own_comes_first(self, network: Network):
        """Bit for bit, when the peer takes that as well."""
        rle = pixels("MR_small_RLE.dcm")
        contexts: list[ProposedContext] = [
            STUDY_ROOT.get,
            *((CTImageStorage, [each]) for each in (EXPLICIT, IMPLICIT, rle.transfer_syntax)),
        ]
        scp = RetrieveSCP(lambda *_: [rle])
        ours, _ = network.associate(network.listen([scp]), contexts)
        received = MemoryStore()
        assert network.result(get(ours, KEYS, received).result()).completed == 1
        (held,) = received.instances
        assert held.received.transfer_syntax == rle.transfer_syntax
        assert held.open().read().endswith(read_all(rle))

    @pytest.mark.parametrize("first", ["1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"])
    def test_of_several_in_one_context_it_is_one_that_everything_can_become(
        self, network: Network, first: str
    ):
        """Big endian and RLE are none: nothing converts to them."""
        found = [pixels("MR_small.dcm"), pixels("MR_small_RLE.dcm")]
        scp = RetrieveSCP(lambda *_: found)
        contexts = get_contexts(sop_classes=[CTImageStorage], transfer_syntaxes=[first, EXPLICIT])
        ours, _ = network.associate(network.listen([scp]), contexts)
        received = MemoryStore()
        assert network.result(get(ours, KEYS, received).result()).completed == 2
        assert {held.received.transfer_syntax for held in received.instances} == {EXPLICIT}

    def test_what_cannot_be_converted_fails_alone(
        self, network: Network, monkeypatch: pytest.MonkeyPatch
    ):
        """The peer hears why: the extra is missing."""
        monkeypatch.setattr(transcoding, "find_spec", lambda name: None)
        found = [pixels("MR_small_RLE.dcm"), instance(1)]
        ours, _ = joined(network, found)
        done = network.result(get(ours, KEYS, MemoryStore()).result())
        assert (done.completed, done.failed) == (1, 1)
        assert done.failed_sop_instance_uids == (found[0].sop_instance_uid,)
        (said,) = lines(network, f"C-GET of {found[0].sop_instance_uid}: not sent")
        assert "RLE Lossless needs dimse[transcode]" in said
