"""DIMSE-N as SCU: report a performed procedure step (MPPS, PS3.4 F.7).

python examples/procedure_step_scu.py HOST PORT
"""

import sys
from typing import Any

from pydicom import Dataset
from pydicom.uid import generate_uid
from twisted.internet.task import react

import dimse
from dimse.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP as MPPS


async def main(reactor: Any, host: str, port: str) -> None:
    """Create a step, and complete it."""
    uid = generate_uid()
    begun, completed = Dataset(), Dataset()
    begun.PerformedProcedureStepStatus = "IN PROGRESS"
    completed.PerformedProcedureStepStatus = "COMPLETED"
    async with dimse.associate(
        f"{host}:{port}",
        [MPPS],
        called_ae_title="REMOTE_SCP",
        calling_ae_title="MY_SCU",
        reactor=reactor,
    ) as association:
        reply = await dimse.n_create(association, MPPS, begun, uid)
        print(reply.status)
        reply = await dimse.n_set(association, MPPS, uid, completed)
        print(reply.status)


if __name__ == "__main__":
    react(main, sys.argv[1:])
