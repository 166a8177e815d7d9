"""C-ECHO as SCU: is there a DICOM node, and does it answer us?

python examples/echo_scu.py HOST PORT
"""

import sys
from typing import Any

from twisted.internet.task import react

import dimse


async def main(reactor: Any, host: str, port: str) -> None:
    """Associate, echo, release; or say why not."""
    try:
        async with dimse.associate(
            f"{host}:{port}",
            called_ae_title="REMOTE_SCP",
            calling_ae_title="MY_SCU",
            reactor=reactor,
        ) as association:
            print(await dimse.echo(association))
    except dimse.AssociationRejectedError as error:
        sys.exit(f"{error}; try again later" if error.transient else str(error))
    except dimse.DimseError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    react(main, sys.argv[1:])
