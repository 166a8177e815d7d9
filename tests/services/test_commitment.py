"""Storage commitment in both roles, on the same association and on another one (PS3.4 J)."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom import Dataset
from twisted.internet.defer import Deferred

from dimse import (
    AssociationAbortedError,
    CommitmentRequest,
    CommitmentResult,
    CommitmentSCP,
    CommitmentSCU,
    ContextError,
    DimseError,
    FailureReason,
    Instance,
    MisuseError,
    NormalizedSCP,
    Operation,
    Reference,
    StatusError,
    TimedOutError,
    associate,
    commit,
    n_action,
    n_event_report,
    n_get,
    report,
    request_commitment,
)
from dimse.message.messages import NActionRQ
from dimse.services import commitment_information as information
from dimse.services.dataset import decode, encode
from dimse.sop_classes import SOP_CLASSES
from dimse.sop_classes import STORAGE_COMMITMENT_PUSH as PUSH
from dimse.testing import Endpoint, Network
from tests.tables import rows
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT

WELL_KNOWN = SOP_CLASSES[PUSH].instance
ONE, TWO = Reference(CT_STORAGE, "1.2.1"), Reference(CT_STORAGE, "1.2.2")
AS_SCP = {PUSH: (False, True)}


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


class Archive:
    """Keeps `kept`, and what it was asked; reports on the same association in the next turn."""

    def __init__(self, network: Network, *kept: Reference, reports: bool = True) -> None:
        self.kept = kept
        self.asked: list[CommitmentRequest] = []
        self.reported: list[Any] = []
        self._network = network
        self._reports = reports

    def listen(self, **options: Any) -> Endpoint:
        return self._network.listen([CommitmentSCP(self._request)], **options)

    def _request(self, request: CommitmentRequest, operation: Operation) -> None:
        self.asked.append(request)
        if self._reports:
            result = request.result(self.kept)
            self._network.clock.callLater(0, self._report, operation, result)

    def _report(self, operation: Operation, result: CommitmentResult) -> None:
        report(operation.association, result).addBoth(self.reported.append)


class TestOnTheSameAssociation:
    def test_all_are_committed(self, network: Network):
        archive = Archive(network, ONE, TWO)
        ours, _ = network.associate(archive.listen(), [PUSH], calling_ae_title="MODALITY")
        result = network.result(commit(ours, [ONE, TWO], transaction_uid="1.2.9"))
        assert result == CommitmentResult("1.2.9", (ONE, TWO))
        assert result.ok
        (asked,) = archive.asked
        assert (asked.transaction_uid, asked.references) == ("1.2.9", (ONE, TWO))
        assert (asked.peer.ae_title, asked.ae_title) == ("MODALITY", "ANY-SCP")
        assert archive.reported == [0]

    def test_what_is_not_committed_has_failed(self, network: Network):
        ours, _ = network.associate(Archive(network, TWO).listen(), [PUSH])
        result = network.result(commit(ours, [ONE, TWO]))
        assert not result.ok
        assert result.committed == (TWO,)
        assert result.failed == {ONE: FailureReason.NO_SUCH_OBJECT_INSTANCE}

    def test_instances_and_pairs(self, network: Network):
        """What was sent can be committed as it is; an instance is referenced only once."""
        archive = Archive(network, ONE)
        ours, _ = network.associate(archive.listen(), [PUSH])
        instance = Instance(*ONE, EXPLICIT, data=b"")
        network.result(commit(ours, [instance, tuple(ONE)]))  # type: ignore[list-item]
        assert archive.asked[0].references == (ONE,)

    @pytest.mark.parametrize("junk", [[], [("1.2", "")], [("1.2", "nonsense")]])
    def test_no_instance(self, network: Network, junk: list[tuple[str, str]]):
        ours, _ = network.associate(Archive(network).listen(), [PUSH])
        with pytest.raises(MisuseError):
            network.result(commit(ours, junk))

    def test_the_association_ends_before_the_result(self, network: Network):
        ours, theirs = network.associate(Archive(network, reports=False).listen(), [PUSH])
        result = commit(ours, [ONE])
        network.run()
        theirs.abort()
        with pytest.raises(AssociationAbortedError):
            network.result(result)

    def test_the_result_takes_too_long(self, network: Network):
        """The association lives on, and takes the next."""
        ours, _ = network.associate(Archive(network, reports=False).listen(), [PUSH])
        result = commit(ours, [ONE], wait=10)
        network.advance(9.9)
        assert not result.called
        network.advance(0.2)
        with pytest.raises(TimedOutError, match="storage commitment time-out of 10 s"):
            network.result(result)
        assert ours.ended is None
        again = commit(ours, [ONE])
        network.run()
        again.cancel()
        again.addErrback(lambda _: None)

    def test_one_commit_at_a_time(self, network: Network):
        """A `CommitmentSCU` can have any number of them."""
        archive = Archive(network, ONE, reports=False)
        ours, _ = network.associate(archive.listen(), [PUSH])
        first = commit(ours, [ONE], wait=1)
        with pytest.raises(MisuseError, match="one commit"):
            network.result(commit(ours, [ONE]))
        first.cancel()
        first.addErrback(lambda _: None)

    def test_a_refusal(self, network: Network):
        def refuse(*_: object) -> None:
            raise StatusError(0x0213, "full")

        ours, _ = network.associate(network.listen([CommitmentSCP(refuse)]), [PUSH])
        with pytest.raises(StatusError, match="0x0213") as caught:
            network.result(commit(ours, [ONE]))
        assert caught.value.comment == "full"


class TestOnAnotherAssociation:
    RESULT = CommitmentResult("1.2.9", (ONE,), {TWO: 0x0213}, "ARCHIVE")

    @pytest.mark.parametrize("roles", [AS_SCP, {}])
    def test_a_result(self, network: Network, roles: dict[str, tuple[bool, bool]]):
        """With role selection, and without, as many do it."""
        scu = CommitmentSCU()
        ours, _ = network.associate(Archive(network, reports=False).listen(), [PUSH])
        result = scu.commit(ours, [ONE, TWO], transaction_uid="1.2.9")
        network.run()
        network.result(ours.release())
        reporting, _ = network.associate(network.listen([scu]), [PUSH], roles=roles)
        assert network.result(report(reporting, self.RESULT)) == 0
        assert network.result(result) == self.RESULT

    def test_roles_are_held_to_when_negotiated(self, network: Network):
        """Who says that he is no SCP cannot report."""
        scu = CommitmentSCU(lambda *_: None)
        both = [scu, CommitmentSCP(lambda *_: None)]
        ours, _ = network.associate(network.listen(both), [PUSH], roles={PUSH: (True, False)})
        with pytest.raises(ContextError, match="as SCP"):
            network.result(report(ours, self.RESULT))

    def test_a_node_is_both(self, network: Network):
        """A request and a result on one port, on an association without role selection."""
        heard: list[object] = []
        scps = [CommitmentSCP(lambda request, _: heard.append(request)), CommitmentSCU()]
        scps[1] = CommitmentSCU(lambda result, _: heard.append(result))
        ours, _ = network.associate(network.listen(scps), [PUSH])
        network.result(request_commitment(ours, [ONE], transaction_uid="1.2.3"))
        network.result(report(ours, self.RESULT))
        assert [type(each).__name__ for each in heard] == ["CommitmentRequest", "CommitmentResult"]

    def test_beside_another_listener(self, network: Network):
        """The first that needs no roles hears of it."""
        heard: list[object] = []
        other = NormalizedSCP(
            [PUSH], n_event_report=lambda _, told: heard.append(told), without_roles=True
        )
        ours, _ = network.associate(network.listen([other, CommitmentSCU()]), [PUSH])
        network.result(report(ours, self.RESULT))
        assert len(heard) == 1

    def test_what_is_in_both_lists_is_not_committed(self, network: Network):
        heard: list[CommitmentResult] = []
        scu = CommitmentSCU(lambda result, _: heard.append(result))
        ours, _ = network.associate(network.listen([scu]), [PUSH], roles=AS_SCP)
        network.result(report(ours, CommitmentResult("1.2.9", (ONE, TWO), {TWO: 0x0110})))
        assert heard == [CommitmentResult("1.2.9", (ONE,), {TWO: 0x0110})]

    def test_a_result_that_nobody_awaits(self, network: Network):
        """As after a restart: it goes to a function, or is refused, and so tried again."""
        refusing = network.associate(network.listen([CommitmentSCU()]), [PUSH], roles=AS_SCP)[0]
        with pytest.raises(StatusError, match="0x0115") as caught:
            network.result(report(refusing, self.RESULT))
        assert caught.value.comment == "this Transaction UID is not awaited (PS3.4 J.3)"
        heard: list[CommitmentResult] = []

        async def hear(result: CommitmentResult, operation: Operation) -> None:
            assert operation.peer.ae_title == "ARCHIVE"
            heard.append(result)

        hearing, _ = network.associate(
            network.listen([CommitmentSCU(hear)]),
            [PUSH],
            roles=AS_SCP,
            calling_ae_title="ARCHIVE",
        )
        network.result(report(hearing, self.RESULT))
        assert heard == [self.RESULT]

    def test_many_at_a_time(self, network: Network):
        archive = Archive(network, ONE, TWO)
        scu = CommitmentSCU()
        ours, _ = network.associate(archive.listen(), [PUSH], scps=[scu])
        results = [scu.commit(ours, [each]) for each in (ONE, TWO)]
        assert [network.result(each).committed for each in results] == [(ONE,), (TWO,)]

    def test_a_transaction_uid_is_used_once(self, network: Network):
        scu = CommitmentSCU()
        ours, _ = network.associate(Archive(network, reports=False).listen(), [PUSH])
        first = scu.commit(ours, [ONE], transaction_uid="1.2.9", wait=5)
        with pytest.raises(MisuseError, match=r"1\.2\.9 is in use"):
            network.result(scu.commit(ours, [ONE], transaction_uid="1.2.9"))
        first.cancel()
        first.addErrback(lambda _: None)

    def test_what_the_result_does_not_mention_is_not_committed(self, network: Network):
        scu = CommitmentSCU()
        ours, _ = network.associate(Archive(network, reports=False).listen(), [PUSH])
        awaited = scu.commit(ours, [ONE, TWO], transaction_uid="1.2.9")
        reporting, _ = network.associate(network.listen([scu]), [PUSH], roles=AS_SCP)
        network.result(report(reporting, CommitmentResult("1.2.9", (ONE,))))
        result = network.result(awaited)
        assert (result.committed, result.unanswered, result.ok) == ((ONE,), (TWO,), False)


def dataset(*references: tuple[str, str], uid: str | None = "1.2.9") -> Dataset:
    """An Action Information, as pydicom makes it."""
    made = Dataset()
    if uid is not None:
        made.TransactionUID = uid
    made.ReferencedSOPSequence = []
    for sop_class, instance in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        made.ReferencedSOPSequence.append(item)
    return made


def without(tag: str) -> Dataset:
    made = dataset(ONE)
    delattr(made.ReferencedSOPSequence[0], tag)
    return made


class TestRefusals:
    @pytest.mark.parametrize(
        ("instance", "action", "data", "status", "offending"),
        [
            pytest.param("1.2.3", 1, dataset(ONE), 0x0112, (), id="instance"),
            pytest.param(WELL_KNOWN, 2, dataset(ONE), 0x0123, (), id="action"),
            pytest.param(WELL_KNOWN, 1, None, 0x0115, (0x00081195,), id="no-information"),
            pytest.param(WELL_KNOWN, 1, dataset(ONE, uid=None), 0x0115, (0x00081195,), id="no-uid"),
            pytest.param(WELL_KNOWN, 1, dataset(ONE, uid=""), 0x0115, (0x00081195,), id="empty"),
            pytest.param(WELL_KNOWN, 1, dataset(), 0x0115, (0x00081199,), id="no-instance"),
            pytest.param(
                WELL_KNOWN,
                1,
                without("ReferencedSOPClassUID"),
                0x0115,
                (0x00081199,),
                id="no-class",
            ),
            pytest.param(
                WELL_KNOWN,
                1,
                without("ReferencedSOPInstanceUID"),
                0x0115,
                (0x00081199,),
                id="no-instance-uid",
            ),
        ],
    )
    def test_a_request(
        self,
        network: Network,
        instance: str,
        action: int,
        data: Dataset | None,
        status: int,
        offending: tuple[int, ...],
    ):
        """Nothing reaches the archive, and the association lives."""
        archive = Archive(network)
        ours, _ = network.associate(archive.listen(), [PUSH])
        with pytest.raises(StatusError) as caught:
            network.result(n_action(ours, PUSH, instance, action, data))
        assert (caught.value.status, caught.value.offending) == (status, offending)
        assert not archive.asked
        assert ours.ended is None

    def test_a_data_set_that_is_none(self, network: Network):
        client = network.scripted_requestor(Archive(network).listen())
        client.associate([(PUSH, [IMPLICIT])])
        request = NActionRQ(
            message_id=1,
            requested_sop_class_uid=PUSH,
            requested_sop_instance_uid=WELL_KNOWN,
            action_type_id=1,
        )
        client.command(request, b"\xff" * 20)
        (answer,) = client.messages
        assert getattr(answer.message, "status", None) == 0x0115
        assert not client.closed

    def test_an_event_type(self, network: Network):
        ours, _ = network.associate(
            network.listen([CommitmentSCU(lambda *_: None)]), [PUSH], roles=AS_SCP
        )
        with pytest.raises(StatusError, match="0x0113"):
            network.result(n_event_report(ours, PUSH, WELL_KNOWN, 3, dataset(ONE)))

    def test_another_operation(self, network: Network):
        ours, _ = network.associate(Archive(network).listen(), [PUSH])
        with pytest.raises(StatusError, match="0x0211"):
            network.result(n_get(ours, PUSH, WELL_KNOWN))

    def test_h_d26_a_transaction_uid_that_is_being_looked_at(self, network: Network):
        """Which of them are in use beyond that, the archive knows, and says so."""
        waits: Deferred[None] = Deferred()
        endpoint = network.listen([CommitmentSCP(lambda *_: waits)])
        (one, _), (two, _) = (network.associate(endpoint, [PUSH]) for _ in range(2))
        first = request_commitment(one, [ONE], transaction_uid="1.2.9")
        network.run()
        with pytest.raises(StatusError, match="0x0115") as caught:
            network.result(request_commitment(two, [ONE], transaction_uid="1.2.9"))
        assert caught.value.comment.startswith("the Transaction UID is in use")
        waits.callback(None)
        assert network.result(first) == "1.2.9"
        assert network.result(request_commitment(two, [ONE], transaction_uid="1.2.9")) == "1.2.9"

    def test_a_result_of_nothing(self, network: Network):
        ours, _ = network.associate(network.listen([CommitmentSCU()]), [PUSH], roles=AS_SCP)
        with pytest.raises(MisuseError, match="no instance"):
            network.result(report(ours, CommitmentResult("1.2.9")))

    def test_another_transfer_syntax(self, network: Network):
        ours, _ = network.associate(Archive(network).listen(), [(PUSH, [IMPLICIT])])
        (context,) = ours.contexts.values()
        object.__setattr__(context, "transfer_syntax", "1.2.840.10008.1.2.2")
        with pytest.raises(ContextError, match="little endian"):
            network.result(commit(ours, [ONE]))


MANY = tuple(Reference(CT_STORAGE, f"1.2.3.{number}") for number in range(100_000))


class TestManyInstances:
    def test_h_d26_100_000_unknown_instances(self, network: Network):
        """All of them come back as failed, in seconds."""
        ours, _ = network.associate(Archive(network).listen(), [PUSH])
        result = network.result(commit(ours, MANY))
        assert result.committed == ()
        assert tuple(result.failed) == MANY

    def test_h_d26_one_more(self, network: Network):
        archive = Archive(network)
        ours, _ = network.associate(archive.listen(), [PUSH])
        with pytest.raises(StatusError, match="0x0213") as caught:
            network.result(commit(ours, [*MANY, ONE]))
        assert caught.value.comment.startswith("more than 100000 instances")
        assert not archive.asked

    @pytest.mark.parametrize(
        ("prefix", "element"),
        [
            pytest.param(b"", b"\x08\0\1\0\0\0\0\0", id="elements"),
            pytest.param(b"\x08\0\1\0\xff\xff\xff\xff", b"\xfe\xff\0\xe0\0\0\0\0", id="items"),
        ],
    )
    def test_h_d26_elements_that_nobody_asked_for(self, prefix: bytes, element: bytes):
        """They cost time too."""
        with pytest.raises(StatusError, match="0x0213"):
            information.decode(prefix + element * 1_600_001, IMPLICIT)


ITEMS = (
    information.Item(*ONE, 0x0112),
    information.Item(*TWO, None, "ARCHIVE"),
)


class TestInformation:
    """The codec against pydicom's."""

    @pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
    def test_pydicom_reads_it(self, syntax: str):
        whole = information.Information("1.2.9", ITEMS[1:], ITEMS[:1], "ODD")
        read = decode(information.encode(whole, syntax), syntax)
        assert (read.TransactionUID, read.RetrieveAETitle) == ("1.2.9", "ODD")
        (failed,) = read.FailedSOPSequence
        assert (failed.ReferencedSOPClassUID, failed.ReferencedSOPInstanceUID) == ONE
        assert failed.FailureReason == 0x0112
        (kept,) = read.ReferencedSOPSequence
        assert (kept.ReferencedSOPInstanceUID, kept.RetrieveAETitle) == ("1.2.2", "ARCHIVE")
        assert information.decode(information.encode(whole, syntax), syntax) == whole

    @pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
    @pytest.mark.parametrize("sequence_undefined", [True, False])
    @pytest.mark.parametrize("items_undefined", [True, False])
    def test_it_reads_pydicom(self, syntax: str, sequence_undefined: bool, items_undefined: bool):
        """Lengths defined or not; what is in between, private or nested, is passed over."""
        made = dataset(ONE, TWO)
        made.StorageMediaFileSetID = "SET"
        made.add_new(0x00091001, "UN", b"1234")
        made.ReferencedStudySequence = [dataset(TWO)]
        made.ReferencedSOPSequence[0].ReferencedSeriesSequence = [dataset(TWO)]
        for element in made.iterall():
            if element.VR == "SQ":
                element.is_undefined_length = sequence_undefined
                for item in element.value:
                    item.is_undefined_length_sequence_item = items_undefined
        read = information.decode(encode(made, syntax), syntax)
        assert read == information.Information(
            "1.2.9", (information.Item(*ONE), information.Item(*TWO))
        )

    @pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
    def test_every_cut_is_noticed(self, syntax: str):
        """What ends inside an element is refused, and nothing else than `DimseError` is raised."""
        whole = information.encode(information.Information("1.2.9", ITEMS, ITEMS), syntax)
        ends = []
        for end in range(len(whole) + 1):
            try:
                information.decode(whole[:end], syntax)
            except DimseError:
                continue
            ends.append(end)
        assert len(ends) == 4  # nothing, the Transaction UID, one sequence, both

    @pytest.mark.parametrize(
        "data",
        [
            b"\x08\0\x99\x11\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff" * 3,
            b"\x08\0\x99\x11\xff\xff\xff\xff" + b"\x08\0\x99\x11\xff\xff\xff\xff",
            b"\x08\0\x99\x11\x08\0\0\0" + b"\x08\0\x99\x11\0\0\0\0",
            (b"\x08\0\x99\x11\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff") * 100,
            b"\x08\0\x99\x11\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\x7f",
        ],
        ids=["items-in-items", "no-item", "no-item-defined", "depth", "item-too-long"],
    )
    def test_junk(self, data: bytes):
        with pytest.raises(DimseError, match=r"PS3\.5 7"):
            information.decode(data, IMPLICIT)


class TestStandard:
    """Against the tables."""

    def test_failure_reasons(self):
        assert {int(row["code"], 16) for row in rows("storage_commitment_failure_reasons")} == {
            *FailureReason
        }

    @pytest.mark.parametrize(("event", "failed"), [(1, {}), (2, {TWO: 0x0112})])
    def test_the_event_information_has_what_it_must(
        self, network: Network, event: int, failed: dict[Reference, int]
    ):
        """Every attribute of type 1 of the event type, and the type that belongs to the result."""
        acceptor_at = network.endpoint()
        peer = network.scripted_acceptor(acceptor_at)
        associating = associate(acceptor_at, [(PUSH, [IMPLICIT])], reactor=network.clock)
        network.run()
        peer.accept()
        ours = network.result(associating)
        reported = report(ours, CommitmentResult("1.2.9", (ONE,), failed))
        network.run()
        (message,) = peer.messages
        assert getattr(message.message, "event_type_id", None) == event
        assert getattr(message.message, "affected_sop_instance_uid", None) == WELL_KNOWN
        sent = decode(message.data, IMPLICIT)
        for row in rows("storage_commitment"):
            of_event = row["message"].startswith("N-EVENT") and row["type_id"] == str(event)
            if of_event and row["requirement_scp"] == "1":
                parent = row["parent"].replace(" ", "")
                items = sent[parent].value if parent else [sent]
                assert all(item.get(row["keyword"]) for item in items), row
        reported.addErrback(lambda _: None)
        ours.abort()
