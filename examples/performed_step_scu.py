"""Report a procedure step: that it has begun, and what came of it (MPPS, PS3.4 F).

python examples/performed_step_scu.py HOST PORT FILE
"""

import sys
from typing import Any

from pydicom import Dataset, dcmread
from twisted.internet.task import react

import dimse
from dimse.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP as MPPS


def scheduled(image: Dataset) -> Dataset:
    """What a step has at least; a worklist has more of it."""
    step, study = Dataset(), Dataset()
    study.StudyInstanceUID = image.StudyInstanceUID
    step.ScheduledStepAttributesSequence = [study]
    step.PatientName, step.PatientID = image.PatientName, image.PatientID
    step.PerformedProcedureStepID = "PPS1"
    step.Modality = image.Modality
    return step


def performed(image: Dataset) -> Dataset:
    """The series that were made, and their images."""
    results, series, reference = Dataset(), Dataset(), Dataset()
    reference.ReferencedSOPClassUID = image.SOPClassUID
    reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
    series.PerformingPhysicianName = series.OperatorsName = ""
    series.ProtocolName = "HEAD"
    series.SeriesInstanceUID = image.SeriesInstanceUID
    series.SeriesDescription = series.RetrieveAETitle = ""
    series.ReferencedImageSequence = [reference]
    series.ReferencedNonImageCompositeSOPInstanceSequence = []
    results.PerformedSeriesSequence = [series]
    return results


async def main(reactor: Any, host: str, port: str, file: str) -> None:
    """Begin a step, and complete it."""
    image = dcmread(file, stop_before_pixels=True)
    async with dimse.associate(f"{host}:{port}", [MPPS], reactor=reactor) as association:
        uid = await dimse.begin_step(association, scheduled(image))
        # ... the images are taken ...
        reply = await dimse.complete_step(association, uid, performed(image))
    print(uid, reply.status)


if __name__ == "__main__":
    react(main, sys.argv[1:])
