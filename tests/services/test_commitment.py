"""Storage commitment in both roles: what is asked, and how it is answered (PS3.4 J.3)."""

from collections.abc import Iterator

import pytest

from dimse import (
    AssociationAbortedError,
    CommitmentResult,
    CommitmentSCP,
    CommitmentSCU,
    ContextError,
    FailureReason,
    Instance,
    MisuseError,
    NormalizedSCP,
    Operation,
    Reference,
    StatusError,
    TimedOutError,
    commit,
    report,
    request_commitment,
)
from dimse.services import commitment_information as information
from dimse.sop_classes import STORAGE_COMMITMENT_PUSH as PUSH
from dimse.testing import Network
from tests.services.commitments import AS_SCP, ONE, TWO, Archive
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


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
