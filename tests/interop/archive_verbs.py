"""A process that asks an archive for all of `rules` with our own verbs, and prints what came of it.

python -m tests.interop.archive_verbs PORT FOLDER DESTINATION

What is retrieved with C-GET goes to a folder in FOLDER for each retrieval, by its number.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydicom.uid import CTImageStorage
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from dimse import (
    PATIENT_ROOT,
    STUDY_ROOT,
    FolderStore,
    QueryOptions,
    associate,
    find,
    get,
    get_contexts,
    move,
)
from dimse.sop_classes import PATIENT_STUDY_ONLY
from tests.interop.asking import answers, identifier
from tests.interop.exchanges import ARCHIVE, dataset
from tests.interop.rules import (
    CHARACTER_SETS,
    NEGOTIATED,
    QUERIES,
    RETRIEVALS,
    Query,
    Retrieval,
)

MODELS = {"-P": PATIENT_ROOT, "-S": STUDY_ROOT, "-O": PATIENT_STUDY_ONLY}


async def found(query: Query, **peer: Any) -> dict[str, Any]:
    """The names of what a query finds, and the attributes of each."""
    model = MODELS[query.model]
    options = QueryOptions(**dict.fromkeys(query.options, True))
    asked: Any = dataset(identifier(query))
    if not asked.get("SpecificCharacterSet") and not all(str(e.value).isascii() for e in asked):
        asked.SpecificCharacterSet = "ISO_IR 192"  # the library sends no text that is not declared
    extended = {model.find: options} if query.options else {}
    async with associate(contexts=[model.find], extended=extended, **peer) as to:
        matches = await find(to, asked, model)
    return dict(answers(query, matches, "", warned=False).matches)


async def retrieved(
    retrieval: Retrieval, folder: Path, destination: str, **peer: Any
) -> dict[str, Any]:
    """How many instances C-GET and C-MOVE say they brought."""
    model = MODELS[retrieval.model]
    asked: Any = dataset({"QueryRetrieveLevel": retrieval.level, **retrieval.keys})
    contexts = [*get_contexts(model, [CTImageStorage]), model.move]
    async with associate(contexts=contexts, **peer) as to:
        got = await get(to, asked, FolderStore(folder), model)
        moved = await move(to, asked, destination, model)
    return {"got": got.completed, "moved": moved.completed}


async def main(reactor: Any, port: str, folder: str, destination: str) -> None:
    """One after the other."""
    peer = {
        "peer": f"127.0.0.1:{port}",
        "called_ae_title": ARCHIVE,
        "reactor": reactor,
    }
    said = {
        query.title: await found(query, **peer)
        for query in (*QUERIES, *NEGOTIATED, *CHARACTER_SETS)
    }
    for number, retrieval in enumerate(RETRIEVALS):
        place = Path(folder, str(number))
        place.mkdir()
        said[retrieval.title] = await retrieved(retrieval, place, destination, **peer)
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    react(lambda reactor, *argv: Deferred.fromCoroutine(main(reactor, *argv)), sys.argv[1:])
