"""C-FIND as SCU: the studies of a patient.

python examples/find_scu.py HOST PORT [PATIENT_ID]
"""

import sys
from typing import Any

from pydicom import Dataset
from twisted.internet.task import react

import dimse


async def main(reactor: Any, host: str, port: str, patient_id: str = "*") -> None:
    """Print each match as it comes."""
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.PatientID = patient_id
    keys.StudyInstanceUID = ""
    keys.ModalitiesInStudy = ""
    async with dimse.associate(
        f"{host}:{port}",
        [dimse.STUDY_ROOT.find],
        called_ae_title="REMOTE_SCP",
        calling_ae_title="MY_SCU",
        extended={dimse.STUDY_ROOT.find: dimse.QueryOptions(fuzzy_names=True)},
        reactor=reactor,
    ) as association:
        async for match in dimse.find(association, keys):  # leaving the loop sends C-CANCEL
            print(match.StudyInstanceUID)
        print(len(await dimse.find(association, keys)), "in all")


if __name__ == "__main__":
    react(main, sys.argv[1:])
