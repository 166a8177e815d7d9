"""C-MOVE as SCU: let the archive send a study to a third node.

python examples/move_scu.py HOST PORT STUDY_INSTANCE_UID DESTINATION
"""

import sys
from typing import Any

from pydicom import Dataset
from twisted.internet.task import react

import dimse


async def main(reactor: Any, host: str, port: str, study: str, destination: str) -> None:
    """Move, and print how far it is."""
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyInstanceUID = study
    async with dimse.associate(
        f"{host}:{port}",
        [dimse.STUDY_ROOT.move],
        called_ae_title="REMOTE_SCP",
        calling_ae_title="MY_SCU",
        reactor=reactor,
    ) as association:
        try:
            done = await dimse.move(association, keys, destination)
        except dimse.StatusError as error:
            sys.exit(f"not moved: {error}")
    print(done.completed, "completed,", done.failed, "failed,", done.warning, "with warnings")
    if done.failed or done.warning:
        sys.exit(f"{done.status}: {' '.join(done.failed_sop_instance_uids)}")


if __name__ == "__main__":
    react(main, sys.argv[1:])
