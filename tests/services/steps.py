"""Attributes of performed procedure steps."""

from typing import Any

from pydicom import Dataset

from tests.wire import CT_STORAGE


def of(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def begun() -> Dataset:
    """All that an N-CREATE must have."""
    return of(
        ScheduledStepAttributesSequence=[
            of(
                StudyInstanceUID="1.2.5",
                ReferencedStudySequence=[],
                AccessionNumber="",
                RequestedProcedureID="",
                RequestedProcedureDescription="",
                ScheduledProcedureStepID="",
                ScheduledProcedureStepDescription="",
                ScheduledProtocolCodeSequence=[],
            )
        ],
        PatientName="Secret^Name",
        PatientID="",
        PatientBirthDate="",
        PatientSex="",
        ReferencedPatientSequence=[],
        PerformedProcedureStepID="PPS1",
        PerformedStationAETitle="MODALITY",
        PerformedStationName="",
        PerformedLocation="",
        PerformedProcedureStepStartDate="20260102",
        PerformedProcedureStepStartTime="1200",
        PerformedProcedureStepStatus="IN PROGRESS",
        PerformedProcedureStepDescription="",
        PerformedProcedureTypeDescription="",
        ProcedureCodeSequence=[],
        PerformedProcedureStepEndDate="",
        PerformedProcedureStepEndTime="",
        Modality="CT",
        StudyID="",
        PerformedProtocolCodeSequence=[],
        PerformedSeriesSequence=[],
    )


def series(**values: Any) -> Dataset:
    return of(
        PerformingPhysicianName="",
        ProtocolName="HEAD",
        OperatorsName="",
        SeriesInstanceUID="1.2.6",
        SeriesDescription="",
        RetrieveAETitle="",
        ReferencedImageSequence=[
            of(ReferencedSOPClassUID=CT_STORAGE, ReferencedSOPInstanceUID="1.2.7")
        ],
        ReferencedNonImageCompositeSOPInstanceSequence=[],
        **values,
    )


def ended(status: str = "COMPLETED", **values: Any) -> Dataset:
    """All that the final state must have."""
    return of(
        PerformedProcedureStepStatus=status,
        PerformedProcedureStepEndDate="20260102",
        PerformedProcedureStepEndTime="1230",
        PerformedSeriesSequence=[series()],
        **values,
    )
