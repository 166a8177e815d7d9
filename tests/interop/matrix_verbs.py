"""A process that invokes one service and prints what came of it, as a line of JSON.

python -m tests.interop.matrix_verbs SERVICE PORT STUDY [FOLDER | DESTINATION | FILE...]

C-STORE sends the files, C-GET receives into the folder. `cancel C-FIND` and `cancel C-GET` cancel
after the first answer, and then ask with C-ECHO whether the association is still there.
"""

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from pydicom.uid import SecondaryCaptureImageStorage
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from dimse import (
    STUDY_ROOT,
    Answers,
    Association,
    FileStore,
    Reply,
    associate,
    echo,
    find,
    get,
    get_contexts,
    move,
    n_action,
    n_create,
    n_delete,
    n_event_report,
    n_get,
    n_set,
    store,
)
from tests.interop.exchanges import (
    ARCHIVE,
    EXCHANGES,
    GRAYSCALE_PRINT,
    dataset,
    keys,
    values,
    whole,
)

VERIFICATION = "1.2.840.10008.1.1"
CANCEL = 0xFE00  # PS3.7 C.3
ATTEMPTS = 20

NORMALIZED: dict[str, Callable[[Association], Deferred[Reply]]] = {
    "N-CREATE": lambda to: n_create(to, *_of("N-CREATE", "sop_class", "sent", "sop_instance")),
    "N-SET": lambda to: n_set(to, *_of("N-SET", "sop_class", "sop_instance", "sent")),
    "N-ACTION": lambda to: n_action(
        to, *_of("N-ACTION", "sop_class", "sop_instance", "type_id", "sent")
    ),
    "N-DELETE": lambda to: n_delete(to, *_of("N-DELETE", "sop_class", "sop_instance")),
    "N-GET": lambda to: n_get(to, *_of("N-GET", "sop_class", "sop_instance", "tags")),
    "N-EVENT-REPORT": lambda to: n_event_report(
        to, *_of("N-EVENT-REPORT", "sop_class", "sop_instance", "type_id", "sent")
    ),
}


def _of(service: str, *names: str) -> list[Any]:
    """Arguments from the table."""
    exchange = EXCHANGES[service]
    return [dataset(exchange.sent) if name == "sent" else getattr(exchange, name) for name in names]


async def composite(to: Association, service: str, study: str, others: list[str]) -> Any:
    """Invoke a service of DIMSE-C; what it returns is printed."""
    identifier: Any = dataset(keys(study) if service.endswith("C-FIND") else whole(study))
    match service:
        case "C-ECHO":
            return {"status": int(await echo(to))}
        case "C-STORE":
            return {"status": [int(await store(to, path)) for path in others]}
        case "C-FIND":
            return {"found": [match.SOPInstanceUID for match in await find(to, identifier)]}
        case "C-GET":
            result = await get(to, identifier, FileStore(others[0]))
            return {"status": int(result.status), "completed": result.completed}
        case "C-MOVE":
            result = await move(to, identifier, others[0])
            return {"status": int(result.status), "completed": result.completed}
        case "cancel C-FIND":
            return await cancelled(to, lambda: find(to, identifier))
        case _:
            files = FileStore(others[0])
            return await cancelled(to, lambda: get(to, identifier, files))


async def cancelled(to: Association, ask: Callable[[], Answers[Any, Any]]) -> dict[str, Any]:
    """Cancel after the first answer; once more if the peer had sent the last before it heard."""
    status = None
    for _ in range(ATTEMPTS):
        answers = ask()
        async for _ in answers:
            answers.cancel()
        assert answers.status is not None
        status = int(answers.status)
        if status == CANCEL:
            break
    return {"status": status, "echo": int(await echo(to))}


async def normalized(to: Association, service: str) -> dict[str, Any]:
    """Invoke a service of DIMSE-N."""
    reply = await NORMALIZED[service](to)
    return {"status": int(reply.status), "answered": values(reply.dataset)}


async def main(reactor: Any, service: str, port: str, study: str, *others: str) -> None:
    """Associate, invoke, print, release."""
    roles = {GRAYSCALE_PRINT: (False, True)} if service == "N-EVENT-REPORT" else {}
    contexts: list[Any] = [
        VERIFICATION,
        STUDY_ROOT.find,
        STUDY_ROOT.move,
        GRAYSCALE_PRINT,
        SecondaryCaptureImageStorage,
    ]
    if service.endswith("C-GET"):
        contexts = [VERIFICATION, *get_contexts(sop_classes=[SecondaryCaptureImageStorage])]
    asked: Awaitable[Any]
    async with associate(
        f"127.0.0.1:{port}", contexts, called_ae_title=ARCHIVE, roles=roles, reactor=reactor
    ) as to:
        if service in NORMALIZED:
            asked = normalized(to, service)
        else:
            asked = composite(to, service, study, list(others))
        sys.stdout.write(json.dumps(await asked) + "\n")


if __name__ == "__main__":
    react(lambda reactor, *argv: Deferred.fromCoroutine(main(reactor, *argv)), sys.argv[1:])
