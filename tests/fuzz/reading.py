"""What is read out of data sets of peers: by services, the archive and the command line."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache

from pydicom import Dataset

from dimse.archive.query import texts_of
from dimse.cli.keys import KeyPath
from dimse.cli.matches import _row
from dimse.errors import DimseError
from dimse.services import commitment_information
from dimse.services.attributes import FINAL, N_CREATE, N_SET, check
from dimse.services.availability import AvailabilityNotification, AvailableInstance
from dimse.services.commitment_information import Information, Item, Reference
from dimse.services.composite import instance_uids
from dimse.services.dataset import decode, encode, uids_of
from dimse.services.procedure_step_attributes import PROCEDURE_STEP
from dimse.services.query import asked
from tests.fuzz.corpus import EXPLICIT, IMPLICIT, Seed, elements_seed
from tests.fuzz.decoders import Target, parts
from tests.fuzz.mutation import Dice, mutated
from tests.services.steps import begun, of, series

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
COLUMNS = tuple(
    map(
        KeyPath.of,
        (
            "PatientName",
            "StudyDate",
            "ProcedureCodeSequence",
            "ProcedureCodeSequence[0].CodeValue",
            "ScheduledStepAttributesSequence[0].StudyInstanceUID",
            "ReferencedSeriesSequence[0].ReferencedSOPSequence[0].RetrieveAETitle",
        ),
    )
)


@cache
def _seeds() -> dict[str, list[Seed]]:
    """A data set for each reader, and those of the corpus."""
    reference, item = Reference(CT_STORAGE, "1.2.3"), Item(CT_STORAGE, "1.2.3", 0x0110, "ARCHIVE")
    available = AvailableInstance("1.2.4", reference, "ARCHIVE")
    made = [
        of(FailedSOPInstanceUIDList=["1.2.3", "1.2.4"]),
        of(QueryRetrieveLevel="IMAGE", SOPInstanceUID=["1.2.3", "1.2.4"]),
        of(QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3", TimezoneOffsetFromUTC="+0100"),
        AvailabilityNotification("1.2.5", (available,), ("1.2.6",)).dataset(),
        begun(),
        of(PerformedProcedureStepStatus="COMPLETED", PerformedSeriesSequence=[series()]),
    ]
    information = Information("1.2.7", (item,), (item, item), "ARCHIVE")
    return {
        syntax: [
            *(elements_seed(encode(each, syntax), syntax) for each in made),
            elements_seed(commitment_information.encode(information, syntax), syntax),
            *parts().data[syntax],
        ]
        for syntax in (EXPLICIT, IMPLICIT)
    }


def _make(dice: Dice) -> tuple[bytes, str]:
    syntax = dice.of((EXPLICIT, EXPLICIT, IMPLICIT))
    return mutated(_seeds()[syntax], dice), syntax


READ: tuple[Callable[[Dataset], object], ...] = (
    lambda dataset: uids_of(dataset, "FailedSOPInstanceUIDList"),
    lambda dataset: texts_of(dataset, "TimezoneOffsetFromUTC"),
    instance_uids,
    AvailabilityNotification.of,
    lambda dataset: check(dataset, PROCEDURE_STEP, N_CREATE),
    lambda dataset: check(dataset, PROCEDURE_STEP, N_SET),
    lambda dataset: check(dataset, PROCEDURE_STEP, FINAL),
    asked,
    lambda dataset: _row(dataset, COLUMNS),
)


def _run(data: bytes, syntax: str) -> bool:
    """Each reader finds what it looks for, or raises one of our errors."""
    with suppress(DimseError):
        commitment_information.decode(data, syntax)
    with warnings.catch_warnings(action="ignore"):  # pydicom has its opinion of values
        for read in READ:
            dataset = decode(data, syntax)
            with suppress(DimseError):
                read(dataset)
    return True


READERS = (Target("data sets", 4, _make, _run, (DimseError,), memory=64, measured=decode),)
