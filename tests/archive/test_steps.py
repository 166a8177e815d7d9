"""Performed procedure steps of the archive (PS3.4 F.7)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

import dimse
from dimse import StatusError
from dimse.archive.archive import Archive
from dimse.archive.steps import Steps, completed, steps_of
from dimse.services.procedure_step import changed
from dimse.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP as MPPS
from dimse.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE as MPPS_RETRIEVE
from dimse.testing import Network
from tests.archive.archives import open_archive, synchronously
from tests.services.steps import begun, ended, of

UID = "1.2.40"
NOBODY: Any = None


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def archive(
    tmp_path: Path, network: Network, new_index: Callable[[], str | None]
) -> Iterator[Archive]:
    with open_archive(tmp_path, index=new_index(), clock=network.clock) as archive:
        yield archive


def scheduled(**values: str) -> Dataset:
    """A step that was scheduled."""
    step = begun()
    for keyword, value in values.items():
        setattr(step.ScheduledStepAttributesSequence[0], keyword, value)
    return step


def associate(network: Network, archive: Archive) -> Any:
    association, _ = network.associate(network.listen(archive.scps()), [MPPS, MPPS_RETRIEVE])
    return association


class TestOverAnAssociation:
    def test_from_its_begin_to_its_end(self, network: Network, archive: Archive):
        """And what is final stays as it is (0x0110)."""
        association = associate(network, archive)
        network.result(dimse.begin_step(association, begun(), UID))
        with pytest.raises(StatusError, match="0x0111"):
            network.result(dimse.begin_step(association, begun(), UID))
        network.result(dimse.complete_step(association, UID, ended()))
        with pytest.raises(StatusError, match="0x0110"):
            network.result(dimse.discontinue_step(association, UID, ended("DISCONTINUED")))
        got = network.result(dimse.n_get(association, MPPS_RETRIEVE, UID)).dataset
        assert got is not None
        assert got.PerformedProcedureStepStatus == "COMPLETED"
        assert got.PerformedSeriesSequence[0].SeriesInstanceUID == "1.2.6"

    def test_an_unknown_step(self, network: Network, archive: Archive):
        association = associate(network, archive)
        with pytest.raises(StatusError, match="0x0112"):
            network.result(dimse.complete_step(association, UID, ended()))


class TestStore:
    def test_survives_a_restart(
        self, tmp_path: Path, network: Network, new_index: Callable[[], str | None]
    ):
        """With text in its character set."""
        index = new_index()
        step = begun()
        step.SpecificCharacterSet, step.PatientName = "ISO_IR 192", "山田^太郎"
        with open_archive(tmp_path, index=index) as archive:
            steps = Steps(archive.index, synchronously)
            assert network.result(steps.create(UID, step, NOBODY))
        with open_archive(tmp_path, index=index) as archive:
            steps = Steps(archive.index, synchronously)
            assert network.result(steps.get(UID, NOBODY)) == step

    def test_two_changes_at_once(self, network: Network, archive: Archive):
        """The one that comes second is made on top of the first."""
        steps = Steps(archive.index, synchronously)
        network.result(steps.create(UID, begun(), NOBODY))
        calls = []

        def with_comment(step: Dataset) -> Dataset:
            calls.append(step)
            if len(calls) == 1:
                other = of(PerformedProcedureStepDescription="first")
                assert network.result(
                    steps.update(UID, lambda before: changed(before, other), NOBODY)
                )
            return changed(step, of(PerformedLocation="second"))

        assert network.result(steps.update(UID, with_comment, NOBODY))
        step = network.result(steps.get(UID, NOBODY))
        assert step is not None
        assert (step.PerformedProcedureStepDescription, step.PerformedLocation) == (
            "first",
            "second",
        )
        assert len(calls) == 2

    def test_a_change_that_raises(self, network: Network, archive: Archive):
        """Leaves the step as it was."""
        steps = Steps(archive.index, synchronously)
        network.result(steps.create(UID, begun(), NOBODY))

        def refused(_: Dataset) -> Dataset:
            raise StatusError(0x0106)

        with pytest.raises(StatusError):
            network.result(steps.update(UID, refused, NOBODY))
        assert network.result(steps.get(UID, NOBODY)) == begun()

    def test_what_it_was_scheduled_as(self, network: Network, archive: Archive):
        """It is found by its study, and by what was scheduled once it is completed."""
        steps = Steps(archive.index, synchronously)
        step = scheduled(ScheduledProcedureStepID="S1", AccessionNumber="A1")
        network.result(steps.create(UID, step, NOBODY))
        assert steps_of(archive.index, "1.2.5") == [UID]
        assert steps_of(archive.index, "1.2.6") == []
        assert completed(archive.index, ["S1"]) == set()
        network.result(steps.update(UID, lambda before: changed(before, ended()), NOBODY))
        assert completed(archive.index, ["S1", "S2"]) == {("1.2.5", "S1", "A1")}
