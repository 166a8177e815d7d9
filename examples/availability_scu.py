"""Tell a peer that an instance can be retrieved (Instance Availability Notification, PS3.4 R).

python examples/availability_scu.py HOST PORT FILE
"""

import sys
from typing import Any

from pydicom import dcmread
from twisted.internet.task import react

import dimse
from dimse.sop_classes import INSTANCE_AVAILABILITY_NOTIFICATION


async def main(reactor: Any, host: str, port: str, file: str) -> None:
    """Notify of one image."""
    image = dcmread(file, stop_before_pixels=True)
    reference = dimse.Reference(image.SOPClassUID, image.SOPInstanceUID)
    instance = dimse.AvailableInstance(image.SeriesInstanceUID, reference, "ARCHIVE")
    async with dimse.associate(
        f"{host}:{port}", [INSTANCE_AVAILABILITY_NOTIFICATION], reactor=reactor
    ) as association:
        reply = await dimse.notify_availability(association, image.StudyInstanceUID, [instance])
    print(reply.status)


if __name__ == "__main__":
    react(main, sys.argv[1:])
