"""Every service, as SCU and as SCP, with every peer that has it: the cells of one table."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.interop.archives import ROOT, Archive, last_line, ours, script, succeeding
from tests.interop.corpus import Receiver, Stored, check_same, read, take
from tests.interop.exchanges import (
    ARCHIVE,
    EXCHANGES,
    LONG_STUDY,
    STUDIES,
    STUDY,
    WORKLIST_ITEMS,
    identifier,
    keys,
    name,
)
from tests.peers import Argument, tool

pytestmark = pytest.mark.peer

CANCEL = 0xFE00  # PS3.7 C.3

ALL = ("dimse", "dcmtk", "pynetdicom")
OURS_AND_PYNETDICOM = ("dimse", "pynetdicom")
MATRIX = {
    "C-ECHO": (ALL, ALL),
    "C-STORE": (ALL, ALL),
    "C-FIND": (ALL, (*ALL, "qrscp")),
    "C-FIND patient": (ALL, (*ALL, "qrscp")),
    "C-FIND worklist": (ALL, ALL),
    "C-FIND cancelled": (ALL, (*ALL, "qrscp")),
    "C-GET": (ALL, (*ALL, "qrscp")),
    "C-GET patient": (ALL, (*ALL, "qrscp")),
    "C-GET cancelled": (OURS_AND_PYNETDICOM, (*ALL, "qrscp")),  # getscu does not cancel
    "C-MOVE": (ALL, (*ALL, "qrscp")),
    "C-MOVE patient": (ALL, (*ALL, "qrscp")),
    "C-MOVE cancelled": (ALL, (*ALL, "qrscp")),
    **dict.fromkeys(EXCHANGES, (OURS_AND_PYNETDICOM,) * 2),  # DCMTK has no tool for them
}
"""The SCUs and the SCPs of each service.

`patient` is with the Patient Root model, `worklist` with that of the Modality Worklist, others with
Study Root. `pynetdicom` is its library, with its applications as SCUs, and `qrscp` its application.
"""

CELLS = dict.fromkeys(
    (service, scu, scp)
    for service, (scus, scps) in MATRIX.items()
    for scu, scp in (*(("dimse", scp) for scp in scps), *((scu, "dimse") for scu in scus))
)
"""(service, SCU, SCP): we are one of the two, or both."""

RECEIVERS = {"dimse": "node", "dcmtk": "storescp_bits", "pynetdicom": "pynetdicom_storescp"}
"""The fixtures of the Storage SCPs."""

DESTINATIONS = {"dimse": "storescp_bits"}
"""Where each SCP is asked to move a study to, if not to `node`."""

MODELS = {"patient": "-P", "worklist": "-W"}
"""The options of the tools, if not `-S`."""

FINAL = {
    ("C-ECHO", "dcmtk"): "Received Echo Response (Success)",
    ("C-FIND", "dcmtk"): "Received Final Find Response (Success)",
    ("C-GET", "dcmtk"): "Received C-GET Response (Success)",
    ("C-MOVE", "dcmtk"): "Received Final Move Response (Success)",
    ("C-FIND cancelled", "dcmtk"): "Received Final Find Response (Cancel: ",
    ("C-MOVE cancelled", "dcmtk"): "Received Final Move Response (Cancel: ",
    ("C-ECHO", "pynetdicom"): "Received Echo Response (Status: 0x0000 - Success)",
    ("C-FIND", "pynetdicom"): "Find SCP Result: 0x0000 (Success)",
    ("C-GET", "pynetdicom"): "Get SCP Result: 0x0000 (Success)",
    ("C-MOVE", "pynetdicom"): "Move SCP Result: 0x0000 (Success)",
}
"""What the tools say in the end."""


@pytest.mark.parametrize(
    ("service", "scu", "scp"), [pytest.param(*cell, id=" ".join(cell)) for cell in CELLS]
)
def test_cell(
    service: str, scu: str, scp: str, studies: Path, tmp_path: Path, request: pytest.FixtureRequest
):
    """What is sent arrives: instances whole, matches by UID, DIMSE-N by all it says. What is
    cancelled ends in the middle, and its association goes on."""
    verb, _, kind = service.partition(" ")
    if verb == "C-STORE":
        receiver: Receiver = request.getfixturevalue(RECEIVERS[scp])
        called_by(scu, service, str(receiver.port), tmp_path, paths=instances(studies))
        check(take(receiver.folder), studies)
        return
    served_by = "wlmscpfs" if (kind, scp) == ("worklist", "dcmtk") else scp
    archive: Archive = request.getfixturevalue(served_by)
    place: Receiver = request.getfixturevalue(DESTINATIONS.get(scp, "node"))
    said = called_by(scu, service, archive.port, tmp_path, destination=str(place.port))
    arrived = {
        "C-GET": tmp_path / "objects" if scu == "dimse" else tmp_path,
        "C-MOVE": place.folder,
    }.get(verb)
    assert FINAL.get((service if kind == "cancelled" else verb, scu), "") in said
    if kind == "cancelled":
        check_cancelled(scu, said, arrived)
    elif arrived is not None:
        if scu == "dimse":
            assert last_line(said) == {"status": 0, "completed": STUDIES[STUDY]}
        check(take(arrived), studies)
    elif verb == "C-FIND":
        matches = WORKLIST_ITEMS if kind == "worklist" else sorted(stored(studies))
        assert found(scu, said, tmp_path) == matches
    elif verb == "C-ECHO":
        assert scu != "dimse" or last_line(said) == {"status": 0}
    else:
        exchange = EXCHANGES[service]
        assert last_line(said) == {"status": 0, "answered": exchange.answered}
        assert archive.requests()[-1] == exchange.request


def check_cancelled(scu: str, said: str, arrived: Path | None) -> None:
    """It has ended in the middle, and counts what arrived; the association was there afterwards."""
    expected = {"status": CANCEL, "echo": 0}
    if arrived is not None:
        expected["completed"] = len(take(arrived))
        assert 0 < expected["completed"] < STUDIES[LONG_STUDY]
    if scu != "dcmtk":  # which does not say
        assert last_line(said) == expected


def called_by(
    scu: str,
    service: str,
    port: str,
    folder: Path,
    *,
    paths: Sequence[Path] = (),
    destination: str = "",
) -> str:
    """Let an SCU invoke a service, with `folder` for what it gets; what it says."""
    verb, _, kind = service.partition(" ")
    place: Argument = destination if verb == "C-MOVE" else folder
    if scu == "dimse":
        return ours(service, port, *([place] if verb != "C-STORE" else paths))
    if scu == "pynetdicom" and (service in EXCHANGES or kind == "cancelled"):
        others = [] if service in EXCHANGES else [place]
        return succeeding([*script("matrix_pynetdicom"), service, port, *others], cwd=ROOT)
    name = f"{verb.removeprefix('C-').lower()}scu"
    theirs = scu == "pynetdicom"
    program = [sys.executable, "-m", "pynetdicom", name] if theirs else [tool(name)]
    special: dict[str, list[Argument]] = {
        "C-FIND": ["-w" if theirs else "-X"],
        "C-GET": ["-od", folder, *([] if theirs else ["+B"])],
        "C-MOVE": ["-aem", destination],
        "C-STORE": ["-cx"] if theirs else ["-R"],
    }
    options = ["-v", "-aec", ARCHIVE, *special.get(verb, [])]
    if verb in ("C-FIND", "C-GET", "C-MOVE"):
        options += [MODELS.get(kind, "-S"), *keys(identifier(service))]
    if kind == "cancelled":
        options += ["--cancel", "1"]
    if verb == "C-STORE" and theirs:  # it takes one path
        paths = [paths[0].parent]
    return succeeding([*program, *options, "127.0.0.1", port, *paths], cwd=folder)


def instances(studies: Path) -> list[Path]:
    """The files of the study that is sent."""
    return sorted((studies / STUDY).iterdir())


def stored(studies: Path) -> dict[str, Stored]:
    """What has to arrive of them."""
    return {one.sop_instance_uid: one for one in map(read, instances(studies))}


def check(taken: dict[str, Stored], studies: Path) -> None:
    """All of it has arrived."""
    check_same(taken, stored(studies))


def found(scu: str, said: str, folder: Path) -> list[str]:
    """The names of the matches; the others' tools write them as files."""
    if scu == "dimse":
        return sorted(last_line(said)["found"])
    return sorted(name(dcmread(path, force=True)) for path in folder.iterdir())
