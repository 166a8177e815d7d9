"""C-GET as SCU: fetch a study on the same association, into a folder.

python examples/get_scu.py HOST PORT STUDY_INSTANCE_UID FOLDER
"""

import sys
from typing import Any

from pydicom import Dataset
from pydicom.uid import CTImageStorage
from twisted.internet.task import react

import dimse


async def main(reactor: Any, host: str, port: str, study: str, folder: str) -> None:
    """Get, and say what came."""
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyInstanceUID = study
    store = dimse.FolderStore(folder)  # or a MemoryStore, a CallbackStore, one of your own
    async with dimse.associate(
        f"{host}:{port}",
        dimse.get_contexts(sop_classes=[CTImageStorage]),  # the roles follow by themselves
        called_ae_title="REMOTE_SCP",
        calling_ae_title="MY_SCU",
        reactor=reactor,
    ) as association:
        try:
            done = await dimse.get(association, keys, store)
        except dimse.StatusError as error:  # nothing of it came
            sys.exit(f"not fetched: {error}")
    print(done.completed, "completed,", done.failed, "failed, in", store.folder)
    if done.failed or done.warning:
        sys.exit(f"{done.status}: {' '.join(done.failed_sop_instance_uids)}")


if __name__ == "__main__":
    react(main, sys.argv[1:])
