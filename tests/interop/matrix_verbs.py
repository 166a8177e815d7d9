"""A process that invokes one service and prints what came of it, as a line of JSON.

python -m tests.interop.matrix_verbs SERVICE PORT [FOLDER | DESTINATION | FILE...]

C-STORE sends the files, C-GET receives into the folder. What is `cancelled` is so after the first
answer, and then C-ECHO asks whether the association is still there.
"""

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from pydicom.uid import SecondaryCaptureImageStorage
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from dimse import (
    MODALITY_WORKLIST,
    PATIENT_ROOT,
    STUDY_ROOT,
    Answers,
    Association,
    FileStore,
    Reply,
    Retrieval,
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
    GRAYSCALE_PRINT,
    arguments,
    dataset,
    identifier,
    name,
    values,
)

VERIFICATION = "1.2.840.10008.1.1"
CANCEL = 0xFE00  # PS3.7 C.3
ATTEMPTS = 50

MODELS = {"patient": PATIENT_ROOT, "worklist": MODALITY_WORKLIST}
"""The information model of each kind of a service, Study Root of any other."""

NORMALIZED: dict[str, Callable[..., Deferred[Reply]]] = {
    "N-CREATE": n_create,
    "N-SET": n_set,
    "N-ACTION": n_action,
    "N-DELETE": n_delete,
    "N-GET": n_get,
    "N-EVENT-REPORT": n_event_report,
}


async def composite(to: Association, service: str, others: list[str]) -> Any:
    """Invoke a service of DIMSE-C; what it returns is printed."""
    verb, _, kind = service.partition(" ")
    if verb == "C-ECHO":
        return {"status": int(await echo(to))}
    if verb == "C-STORE":
        return {"status": [int(await store(to, path)) for path in others]}
    ask = query(to, service, others)
    if kind == "cancelled":
        return await cancelled(to, ask, ATTEMPTS if verb == "C-FIND" else 1)
    result = await ask()
    if verb == "C-FIND":
        return {"found": list(map(name, result))}
    return {"status": int(result.status), "completed": result.completed}


def query(to: Association, service: str, others: list[str]) -> Callable[[], Answers[Any, Any]]:
    """What invokes a C-FIND, C-GET or C-MOVE."""
    verb, _, kind = service.partition(" ")
    asked: Any = dataset(identifier(service))
    model = MODELS.get(kind, STUDY_ROOT)
    match verb:
        case "C-FIND":
            return lambda: find(to, asked, model)
        case "C-GET":
            files = FileStore(others[0])
            return lambda: get(to, asked, files, model)
        case _:
            return lambda: move(to, asked, others[0], model)


async def cancelled(
    to: Association, ask: Callable[[], Answers[Any, Any]], attempts: int
) -> dict[str, Any]:
    """Cancel after the first answer; once more if the peer had sent the last before it heard."""
    for _ in range(attempts):
        answers = ask()
        async for _ in answers:
            answers.cancel()
        if answers.status == CANCEL:
            break
    assert answers.status is not None
    said = {"status": int(answers.status), "echo": int(await echo(to))}
    if not isinstance(answers, Retrieval):
        return said
    assert answers.outcome is not None
    return {**said, "completed": answers.outcome.completed}


async def normalized(to: Association, service: str) -> dict[str, Any]:
    """Invoke a service of DIMSE-N."""
    reply = await NORMALIZED[service](to, *arguments(service))
    return {"status": int(reply.status), "answered": values(reply.dataset)}


async def main(reactor: Any, service: str, port: str, *others: str) -> None:
    """Associate, invoke, print, release."""
    roles = {GRAYSCALE_PRINT: (False, True)} if service == "N-EVENT-REPORT" else {}
    verb, _, kind = service.partition(" ")
    model = MODELS.get(kind, STUDY_ROOT)
    contexts: list[Any] = [VERIFICATION, GRAYSCALE_PRINT, SecondaryCaptureImageStorage]
    contexts += [uid for uid in (model.find, model.move) if uid]
    if verb == "C-GET":
        contexts = [VERIFICATION, *get_contexts(model, [SecondaryCaptureImageStorage])]
    asked: Awaitable[Any]
    async with associate(
        f"127.0.0.1:{port}", contexts, called_ae_title=ARCHIVE, roles=roles, reactor=reactor
    ) as to:
        if service in NORMALIZED:
            asked = normalized(to, service)
        else:
            asked = composite(to, service, list(others))
        sys.stdout.write(json.dumps(await asked) + "\n")


if __name__ == "__main__":
    react(lambda reactor, *argv: Deferred.fromCoroutine(main(reactor, *argv)), sys.argv[1:])
