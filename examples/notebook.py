"""A script without callbacks: C-ECHO and C-FIND, each call waiting for its outcome.

python examples/notebook.py HOST PORT
"""

import sys

from pydicom import Dataset

import dimse
from dimse import blocking


def main(host: str, port: str) -> None:
    """As in a notebook; the reactor runs in a thread behind it."""
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyInstanceUID = ""
    contexts = ["1.2.840.10008.1.1", dimse.STUDY_ROOT.find]
    with blocking.associate(f"{host}:{port}", contexts) as association:
        print(association.echo())
        for match in association.find(keys):
            print(match.StudyInstanceUID)


if __name__ == "__main__":
    main(*sys.argv[1:])
