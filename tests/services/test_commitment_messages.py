"""What is no request for a commitment, or no result of one, and what both look like (PS3.4 J.3)."""

from collections.abc import Iterator

import pytest
from pydicom import Dataset
from twisted.internet.defer import Deferred

from dimse import (
    CommitmentResult,
    CommitmentSCP,
    CommitmentSCU,
    ContextError,
    DimseError,
    FailureReason,
    MisuseError,
    Reference,
    StatusError,
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
from dimse.testing import Network
from tests.services.commitments import AS_SCP, ONE, TWO, Archive
from tests.tables import rows
from tests.wire import EXPLICIT, IMPLICIT

WELL_KNOWN = SOP_CLASSES[PUSH].instance


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


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
