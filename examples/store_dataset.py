"""C-STORE as SCU on an association of our own: a pydicom Dataset made in memory.

python examples/store_dataset.py HOST PORT
"""

import sys
from typing import Any

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from twisted.internet.task import react

import dimse


def make_dataset() -> Dataset:
    """The least that identifies an instance."""
    dataset = Dataset()
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.Modality = "OT"
    return dataset


async def main(reactor: Any, host: str, port: str) -> None:
    """Store one instance; leaving the block releases the association, an exception aborts it."""
    async with dimse.associate(
        f"{host}:{port}",
        [(SecondaryCaptureImageStorage, [ExplicitVRLittleEndian])],
        called_ae_title="REMOTE_SCP",
        calling_ae_title="MY_SCU",
        reactor=reactor,
    ) as association:
        try:
            print(await dimse.store(association, make_dataset()))
        except dimse.StatusError as error:  # the peer refused it; the association goes on
            print("not stored:", error)


if __name__ == "__main__":
    react(main, sys.argv[1:])
