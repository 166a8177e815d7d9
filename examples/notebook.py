"""A script without callbacks: C-ECHO, C-FIND and C-GET, each call waiting for its outcome.

python examples/notebook.py HOST PORT
"""

import sys

from pydicom import Dataset
from pydicom.uid import CTImageStorage

import dimse
from dimse import blocking


def main(host: str, port: str) -> None:
    """As in a notebook; the reactor runs in a thread behind it."""
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyInstanceUID = ""
    getting = dimse.get_contexts(sop_classes=[CTImageStorage])
    contexts = ["1.2.840.10008.1.1", dimse.STUDY_ROOT.find, *getting]
    with blocking.associate(f"{host}:{port}", contexts) as association:
        print(association.echo())
        for match in association.find(keys):
            print(match.StudyInstanceUID)
            with dimse.MemoryStore() as store:
                association.get(match, store)
                for held in store.instances:
                    image = held.dataset()
                    print(image.Rows, "x", image.Columns)


if __name__ == "__main__":
    main(*sys.argv[1:])
