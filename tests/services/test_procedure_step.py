"""Modality Performed Procedure Step in both roles (PS3.4 F.7, F.8)."""

from collections.abc import Callable, Iterator
from typing import Any
from warnings import catch_warnings

import pytest
from pydicom import Dataset
from twisted.internet.defer import Deferred, succeed

from dimse import (
    MemorySteps,
    MisuseError,
    Operation,
    ProcedureStepSCP,
    StatusError,
    begin_step,
    complete_step,
    discontinue_step,
    n_create,
    n_get,
    n_set,
)
from dimse.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP as MPPS
from dimse.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE as RETRIEVE
from dimse.testing import Network
from tests.services.steps import begun, ended, of, series

UID = "1.2.3.4"
STATUS = 0x00400252


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def steps() -> MemorySteps:
    return MemorySteps()


@pytest.fixture
def scu(network: Network, steps: MemorySteps) -> Any:
    endpoint = network.listen([ProcedureStepSCP(steps)])
    return network.associate(endpoint, [MPPS, RETRIEVE], calling_ae_title="MODALITY")[0]


def refused(network: Network, deferred: Deferred[Any]) -> StatusError:
    with pytest.raises(StatusError) as caught:
        network.result(deferred)
    return caught.value


class TestStates:
    @pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
    def test_from_begin_to_end(self, network: Network, scu: Any, steps: MemorySteps, status: str):
        reply = network.result(n_create(scu, MPPS, begun(), UID))
        assert (reply.status, reply.sop_instance_uid) == (0, UID)
        assert steps.steps[UID] == begun()
        more = of(PerformedProcedureStepDescription="Head", PerformedSeriesSequence=[series()])
        network.result(n_set(scu, MPPS, UID, more))
        assert steps.steps[UID].PerformedProcedureStepStatus == "IN PROGRESS"
        network.result(n_set(scu, MPPS, UID, ended(status)))
        kept = steps.steps[UID]
        assert kept.PerformedProcedureStepStatus == status
        assert kept.PerformedProcedureStepDescription == "Head"
        assert kept.PatientName == "Secret^Name"
        assert len(kept.PerformedSeriesSequence) == 1

    @pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
    @pytest.mark.parametrize("then", ["IN PROGRESS", "COMPLETED", "DISCONTINUED"])
    def test_h_d25_a_final_state(
        self, network: Network, scu: Any, steps: MemorySteps, status: str, then: str
    ):
        """It cannot be left, nor set again (PS3.4 Table F.7.2-2)."""
        network.result(n_create(scu, MPPS, begun(), UID))
        network.result(n_set(scu, MPPS, UID, ended(status)))
        before = steps.steps[UID]
        error = refused(network, n_set(scu, MPPS, UID, ended(then)))
        assert (error.status, error.error_id) == (0x0110, 0xA710)
        assert error.comment == "Performed Procedure Step Object may no longer be updated"
        assert steps.steps[UID] is before

    def test_h_d25_a_uid_that_exists(self, network: Network, scu: Any, steps: MemorySteps):
        network.result(n_create(scu, MPPS, begun(), UID))
        before = steps.steps[UID]
        assert refused(network, n_create(scu, MPPS, begun(), UID)).status == 0x0111
        assert steps.steps[UID] is before

    def test_h_d25_a_uid_that_is_unknown(self, network: Network, scu: Any):
        assert refused(network, n_set(scu, MPPS, UID, ended())).status == 0x0112
        assert refused(network, n_get(scu, RETRIEVE, UID)).status == 0x0112

    @pytest.mark.parametrize("uid", [None, "nonsense"])
    def test_a_uid_that_is_none(self, network: Network, scu: Any, uid: str | None):
        assert refused(network, n_create(scu, MPPS, begun(), uid)).status == 0x0117

    @pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED", "SCHEDULED"])
    def test_it_begins_in_progress(self, network: Network, scu: Any, status: str):
        step = begun()
        step.PerformedProcedureStepStatus = status
        error = refused(network, n_create(scu, MPPS, step, UID))
        assert (error.status, error.offending) == (0x0106, (STATUS,))

    def test_a_status_that_is_none(self, network: Network, scu: Any):
        network.result(n_create(scu, MPPS, begun(), UID))
        error = refused(network, n_set(scu, MPPS, UID, ended("DONE")))
        assert (error.status, error.offending) == (0x0106, (STATUS,))

    def test_a_final_state_may_come_in_pieces(self, network: Network, scu: Any):
        """What counts is what the step then has (PS3.4 F.7.2.2.2)."""
        network.result(n_create(scu, MPPS, begun(), UID))
        network.result(n_set(scu, MPPS, UID, of(PerformedSeriesSequence=[series()])))
        rest = ended()
        del rest.PerformedSeriesSequence
        assert network.result(n_set(scu, MPPS, UID, rest)).status == 0

    @pytest.mark.parametrize(
        "missing",
        [
            "PerformedProcedureStepEndDate",
            "PerformedProcedureStepEndTime",
            "PerformedSeriesSequence",
        ],
    )
    def test_what_the_final_state_lacks(
        self, network: Network, scu: Any, steps: MemorySteps, missing: str
    ):
        network.result(n_create(scu, MPPS, begun(), UID))
        results = ended()
        del results[missing]
        error = refused(network, n_set(scu, MPPS, UID, results))
        assert (error.status, error.comment) == (0x0121, f"without value: {missing}")
        assert steps.steps[UID] == begun()


def without(keyword: str) -> Callable[[Dataset], None]:
    return lambda dataset: delattr(dataset, keyword)


def empty(keyword: str) -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset, keyword, None)


def study(change: Callable[[Dataset], None]) -> Callable[[Dataset], None]:
    return lambda dataset: change(dataset.ScheduledStepAttributesSequence[0])


def code(**values: str) -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset, "ProcedureCodeSequence", [of(**values)])


def issuer(**values: str) -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset, "IssuerOfAdmissionIDSequence", [of(**values)])


class TestTypes:
    @pytest.mark.parametrize(
        ("change", "status", "name"),
        [
            (without("Modality"), 0x0120, "Modality"),
            (without("PatientID"), 0x0120, "PatientID"),
            (empty("Modality"), 0x0121, "Modality"),
            (without("ScheduledStepAttributesSequence"), 0x0120, "ScheduledStepAttributesSequence"),
            (empty("ScheduledStepAttributesSequence"), 0x0121, "ScheduledStepAttributesSequence"),
            (
                study(without("StudyInstanceUID")),
                0x0120,
                "ScheduledStepAttributesSequence[0].StudyInstanceUID",
            ),
            (
                study(empty("StudyInstanceUID")),
                0x0121,
                "ScheduledStepAttributesSequence[0].StudyInstanceUID",
            ),
            (code(CodeMeaning="x"), 0x0120, "ProcedureCodeSequence[0].CodeValue"),
            (code(CodeValue="x"), 0x0120, "ProcedureCodeSequence[0].CodingSchemeDesignator"),
            (
                code(CodeValue="x", CodingSchemeDesignator=""),
                0x0121,
                "ProcedureCodeSequence[0].CodingSchemeDesignator",
            ),
            (issuer(), 0x0120, "IssuerOfAdmissionIDSequence[0].LocalNamespaceEntityID"),
            (
                issuer(UniversalEntityID="x"),
                0x0120,
                "IssuerOfAdmissionIDSequence[0].UniversalEntityIDType",
            ),
        ],
    )
    def test_n_create(
        self,
        network: Network,
        scu: Any,
        steps: MemorySteps,
        change: Callable[[Dataset], None],
        status: int,
        name: str,
    ):
        """The refusal names what is wrong, by path and tag, and nothing is created."""
        step = begun()
        change(step)
        error = refused(network, n_create(scu, MPPS, step, UID))
        assert error.status == status
        assert name[:40] in error.comment
        keyword = name.rpartition(".")[2]
        assert of(**{keyword: ""}).keys() <= set(error.offending)
        assert not steps.steps

    @pytest.mark.parametrize(
        "change",
        [
            code(CodeValue="x", CodingSchemeDesignator="99X"),
            code(LongCodeValue="x", CodingSchemeDesignator="99X"),
            code(URNCodeValue="urn:x"),
            issuer(LocalNamespaceEntityID="x"),
            issuer(UniversalEntityID="x", UniversalEntityIDType="DNS"),
            empty("StudyID"),
            lambda dataset: dataset.add_new(0x00091001, "LO", "private"),
            lambda dataset: setattr(dataset, "FilmConsumptionSequence", []),
        ],
    )
    def test_n_create_takes(self, network: Network, scu: Any, change: Callable[[Dataset], None]):
        """What the table allows, and what it says nothing of."""
        step = begun()
        change(step)
        assert network.result(n_create(scu, MPPS, step, UID)).status == 0

    def test_every_fault_of_a_kind_is_named(self, network: Network, scu: Any):
        step = begun()
        del step.Modality, step.StudyID
        error = refused(network, n_create(scu, MPPS, step, UID))
        assert (error.comment, error.offending) == (
            "missing: Modality, StudyID",
            (0x00080060, 0x00200010),
        )

    def test_a_sequence_that_is_none(self, network: Network, scu: Any):
        step = begun()
        del step.PerformedSeriesSequence
        step.add_new(0x00400340, "LO", "text")
        error = refused(network, n_create(scu, MPPS, step, UID))
        assert (error.status, error.offending) == (0x0106, (0x00400340,))

    @pytest.mark.parametrize(
        ("modifications", "status", "tag"),
        [
            (of(PatientID="1"), 0x0105, 0x00100020),
            (of(Modality="MR"), 0x0105, 0x00080060),
            (of(PerformedProcedureStepEndDate=""), 0x0121, 0x00400250),
            (of(PerformedSeriesSequence=[]), 0x0121, 0x00400340),
            (of(PerformedSeriesSequence=[of(ProtocolName="x")]), 0x0121, 0x00081050),
        ],
    )
    def test_n_set(
        self,
        network: Network,
        scu: Any,
        steps: MemorySteps,
        modifications: Dataset,
        status: int,
        tag: int,
    ):
        network.result(n_create(scu, MPPS, begun(), UID))
        error = refused(network, n_set(scu, MPPS, UID, modifications))
        assert error.status == status
        assert tag in error.offending
        assert steps.steps[UID] == begun()

    def test_no_refusal_holds_patient_data(self, network: Network, scu: Any):
        """Nor the log, nor a warning of pydicom."""
        step = begun()
        with catch_warnings(action="ignore"):
            step.ScheduledStepAttributesSequence[0].StudyInstanceUID = "Secret^Name"
        del step.Modality
        with catch_warnings(record=True, action="always") as warnings:
            error = refused(network, n_create(scu, MPPS, step, UID))
        said = str(error) + str(network.events) + str([str(each) for each in warnings])
        assert "secret" not in said.lower()


class TestCharacterSets:
    def test_they_are_joined(self, network: Network, scu: Any, steps: MemorySteps):
        """Latin 1 and Greek in one step, which then is in UTF-8."""
        step = begun()
        step.SpecificCharacterSet, step.PatientName = "ISO_IR 100", "Müller"
        step.InstitutionName = "Zürich"  # the table does not have it
        network.result(n_create(scu, MPPS, step, UID))
        greek = of(
            SpecificCharacterSet="ISO_IR 126",
            PerformedProcedureStepDescription="Διονυσιος",
            InstitutionAddress="Πολις",
        )
        network.result(n_set(scu, MPPS, UID, greek))
        kept = network.result(n_get(scu, RETRIEVE, UID)).dataset
        assert kept is not None
        assert kept.SpecificCharacterSet == "ISO_IR 192"
        assert (kept.PatientName, kept.InstitutionName) == ("Müller", "Zürich")
        assert kept.PerformedProcedureStepDescription == "Διονυσιος"
        assert kept.InstitutionAddress == "Πολις"


class TestRetrieve:
    def test_all_of_it(self, network: Network, scu: Any):
        network.result(n_create(scu, MPPS, begun(), UID))
        reply = network.result(n_get(scu, RETRIEVE, UID))
        assert (reply.status, reply.dataset) == (0, begun())

    def test_some_of_it(self, network: Network, scu: Any):
        network.result(n_create(scu, MPPS, begun(), UID))
        reply = network.result(n_get(scu, RETRIEVE, UID, [STATUS, 0x00400280]))
        assert (reply.status, reply.dataset) == (
            0,
            of(PerformedProcedureStepStatus="IN PROGRESS"),
        )

    def test_what_no_step_has(self, network: Network, scu: Any):
        """A warning, with the list (PS3.4 Table F.8.2-2)."""
        network.result(n_create(scu, MPPS, begun(), UID))
        reply = network.result(n_get(scu, RETRIEVE, UID, [STATUS, 0x00080018]))
        assert reply.status == 0x0001
        assert getattr(reply.response, "attribute_identifier_list", None) == (0x00080018,)

    def test_each_class_has_its_operations(self, network: Network, scu: Any):
        assert refused(network, n_get(scu, MPPS, UID)).status == 0x0211
        assert refused(network, n_create(scu, RETRIEVE, begun(), UID)).status == 0x0211


class TestStores:
    def test_one_that_takes_its_time(self, network: Network):
        """Deferreds and coroutines, and who asks."""

        class Steps:
            def __init__(self) -> None:
                self.memory = MemorySteps()
                self.asked: list[str] = []

            def create(self, uid: str, step: Dataset, operation: Operation) -> Deferred[bool]:
                self.asked.append(operation.peer.ae_title)
                return succeed(self.memory.create(uid, step, operation))

            async def get(self, uid: str, operation: Operation) -> Dataset | None:
                return self.memory.get(uid, operation)

            async def update(self, uid: str, change: Any, operation: Operation) -> bool:
                return self.memory.update(uid, change, operation)

        steps = Steps()
        endpoint = network.listen([ProcedureStepSCP(steps)])
        ours, _ = network.associate(endpoint, [MPPS, RETRIEVE], calling_ae_title="MODALITY")
        network.result(n_create(ours, MPPS, begun(), UID))
        network.result(n_set(ours, MPPS, UID, ended()))
        assert refused(network, n_set(ours, MPPS, UID, ended())).error_id == 0xA710
        reply = network.result(n_get(ours, RETRIEVE, UID, [STATUS]))
        assert reply.dataset == of(PerformedProcedureStepStatus="COMPLETED")
        assert steps.asked == ["MODALITY"]


class TestSCU:
    LEAST = of(
        ScheduledStepAttributesSequence=[of(StudyInstanceUID="1.2.5")],
        PerformedProcedureStepID="PPS1",
        Modality="CT",
    )

    def test_what_may_be_empty_is_added(self, network: Network, scu: Any, steps: MemorySteps):
        uid = network.result(begin_step(scu, self.LEAST))
        kept = steps.steps[uid]
        assert kept.PerformedStationAETitle == "MODALITY"
        assert kept.PerformedProcedureStepStatus == "IN PROGRESS"
        assert len(kept.PerformedProcedureStepStartDate) == 8
        assert len(kept.PerformedProcedureStepStartTime) == 6
        assert "PatientName" not in self.LEAST  # it was not touched

    @pytest.mark.parametrize("end", [complete_step, discontinue_step])
    def test_an_end(self, network: Network, scu: Any, steps: MemorySteps, end: Any):
        network.result(begin_step(scu, self.LEAST, UID))
        reply = network.result(end(scu, UID, of(PerformedSeriesSequence=[series()])))
        assert reply.status == 0
        status = {complete_step: "COMPLETED", discontinue_step: "DISCONTINUED"}[end]
        assert steps.steps[UID].PerformedProcedureStepStatus == status
        assert len(steps.steps[UID].PerformedProcedureStepEndDate) == 8

    def test_a_time_that_is_given_stays(self, network: Network, scu: Any, steps: MemorySteps):
        network.result(begin_step(scu, begun(), UID))
        assert steps.steps[UID] == begun()

    def test_what_is_missing_is_said_before_it_is_sent(
        self, network: Network, scu: Any, steps: MemorySteps
    ):
        with pytest.raises(MisuseError, match="missing: PerformedProcedureStepID, Modality"):
            begin_step(scu, of(ScheduledStepAttributesSequence=[of(StudyInstanceUID="1.2.5")]))
        with pytest.raises(MisuseError, match="not allowed here: Modality"):
            complete_step(scu, UID, of(Modality="CT"))
        network.run()
        assert not steps.steps
