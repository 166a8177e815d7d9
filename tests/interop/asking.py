"""How tools ask an archive for the queries of `rules`, and what they are answered."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from tests.interop.archives import NODELAY, Archive
from tests.interop.collection import ROOT
from tests.interop.exchanges import ARCHIVE, dataset, keys
from tests.interop.rules import FLAGS, IMAGE, PATIENT, SERIES, STUDY, UNIQUE, UTF_8, Query
from tests.peers import Argument, run, tool

_OF_PATIENT = ["PatientName", "PatientID", "PatientBirthDate"]
RETURNED = {
    PATIENT: _OF_PATIENT,
    STUDY: [
        *_OF_PATIENT,
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "StudyID",
        "StudyInstanceUID",
        "StudyDescription",
    ],
    SERIES: ["Modality", "SeriesNumber", "SeriesInstanceUID"],
    IMAGE: ["InstanceNumber", "SOPInstanceUID"],
}
"""What is asked for at each level."""

_EVERY_ANSWER = ("SpecificCharacterSet", "QueryRetrieveLevel", "RetrieveAETitle")
_FINAL = {"dcmtk": "Received Final Find Response ", "pynetdicom": "Find SCP Result: "}
_WARNING = {"dcmtk": "(Pending: ", "pynetdicom": "0xFF01"}


@dataclass(frozen=True, slots=True)
class Answers:
    """By the names of what was found: its attributes. `final` is how the tool calls the status."""

    final: str
    matches: Mapping[str, Mapping[str, str]]
    warned: bool = False
    character_sets: frozenset[str] = frozenset()

    @property
    def found(self) -> str:
        """The names."""
        return " ".join(sorted(self.matches))


def identifier(query: Query) -> dict[str, Any]:
    """The keys, and what is asked for beside them."""
    level = {"QueryRetrieveLevel": query.level}
    return {**dict.fromkeys(RETURNED.get(query.level, ()), ""), **query.keys, **level}


def findscu(archive: Archive, query: Query, folder: Path) -> Answers:
    """DCMTK's, with `folder` for the answers: with -k, or with a file for other character sets."""
    options: list[Argument] = ["-v", "-X", "-od", folder, "-aec", ARCHIVE, query.model]
    asked, files = keys(identifier(query)), []
    if query.keys.get("SpecificCharacterSet", UTF_8) != UTF_8:  # what one types is in UTF-8
        asked, files = iter(()), [_file(query, folder.with_suffix(".query"))]
    return _answers(
        "dcmtk",
        [tool("findscu"), *options, *asked, "127.0.0.1", archive.port, *files],
        query,
        folder,
    )


def pynetdicom_findscu(archive: Archive, query: Query, folder: Path) -> Answers:
    """pynetdicom's, with the flags for what is negotiated."""
    program: list[Argument] = [sys.executable, "-m", "pynetdicom", "findscu"]
    options = ["-v", "-w", "-aec", ARCHIVE, query.model, *(FLAGS[each] for each in query.options)]
    options += ["-f", str(_file(query, folder.with_suffix(".query")))]
    return _answers("pynetdicom", [*program, *options, "127.0.0.1", archive.port], query, folder)


def _file(query: Query, path: Path) -> Path:
    """The identifier as a file."""
    made = dataset(identifier(query))
    assert made is not None
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.preamble = bytes(128)
    made.save_as(path, enforce_file_format=False)
    return path


def _answers(peer: str, command: list[Argument], query: Query, folder: Path) -> Answers:
    folder.mkdir()
    said = run(command, env=NODELAY, cwd=folder).stdout
    files = [dcmread(path, force=True) for path in sorted(folder.iterdir())]
    _, ended, final = said.partition(_FINAL[peer])
    return answers(
        query, files, final.partition("\n")[0] if ended else said, _WARNING[peer] in said
    )


def answers(query: Query, matches: Sequence[Dataset], final: str, warned: bool) -> Answers:
    """The matches by their names, each with its attributes; none comes twice."""
    found = {}
    for match in matches:
        name = str(match[UNIQUE[query.level]].value).removeprefix(f"{ROOT}.")
        assert name not in found
        found[name] = {e.keyword: str(e.value) for e in match if e.keyword not in _EVERY_ANSWER}
    sets = [each.get("SpecificCharacterSet", "") for each in matches]
    texts = {each if isinstance(each, str) else "\\".join(each) for each in sets}
    return Answers(final, found, warned, frozenset(texts - {""}))


def difference(query: Query, ours: Answers, theirs: Answers) -> str:
    """What another archive makes of a query that we do not; "" when the answers are the same."""
    parts = [theirs.final] * (theirs.final != ours.final)
    if theirs.found != ours.found:
        parts.append(f"finds {theirs.found or 'nothing'}")
    both = [
        (ours.matches[name], theirs.matches[name])
        for name in ours.matches.keys() & theirs.matches.keys()
    ]
    keywords = sorted({keyword for pair in both for match in pair for keyword in match})
    for keyword in keywords:
        values = [(one.get(keyword), other.get(keyword)) for one, other in both]
        if any(one != other for one, other in values):
            lacks = all(other is None for _, other in values)
            parts.append(f"{'without' if lacks else 'another'} {keyword}")
    if theirs.warned != ours.warned:
        parts.append("no FF01H" if ours.warned else "FF01H")
    if query.answered and theirs.found and theirs.character_sets != ours.character_sets:
        parts.append(f"in {' and '.join(sorted(theirs.character_sets))}")
    return ", ".join(parts)
