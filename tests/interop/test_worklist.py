"""The worklist of the node and DCMTK's wlmscpfs, asked for the same items."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from tests.archive.test_worklist import save, scheduled
from tests.interop.archives import NODELAY
from tests.interop.differences import WORKLIST_DIFFERENCES
from tests.interop.rules import STEP, WORKLIST_QUERIES
from tests.peers import Argument, free_port, run, running, tool, twistd_dimse

pytestmark = pytest.mark.peer

WORKLIST = "WORKLIST"
ITEMS = (
    scheduled(1),
    scheduled(2, PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100", _Modality="MR"),
    scheduled(3, PatientName="Doe^John", _ScheduledStationAETitle="CT2"),
    scheduled(4, PatientName="Roe^Jane", _ScheduledProcedureStepStartTime="143000.5"),
    scheduled(5, _ScheduledPerformingPhysicianName="Strange^Stephen", AccessionNumber=""),
)

Answers = Mapping[str, Dataset]


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of items, as both have it."""
    folder = tmp_path_factory.mktemp("worklists") / WORKLIST
    folder.mkdir()
    (folder / "lockfile").touch()
    for number, item in enumerate(ITEMS, 1):
        save(item, folder / f"{number}.wl")
    return folder


@pytest.fixture(scope="module")
def ports(items: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Of the node and of wlmscpfs."""
    store, port = tmp_path_factory.mktemp("store"), free_port()
    command: list[Argument] = [tool("wlmscpfs"), "-dfp", items.parent, str(port)]
    with twistd_dimse(store, "--worklist", items) as node, running(command, port, env=NODELAY):
        yield node.port, port


def ask(port: int, query: str, folder: Path) -> Answers:
    """What findscu gets, by Study Instance UID."""
    asked = ["StudyInstanceUID", "PatientName", "PatientID", "AccessionNumber"]
    asked += [STEP + "Modality", STEP + "ScheduledProcedureStepStartDate"]
    asked = [key for key in asked if key != query.partition("=")[0]] + [query] * bool(query)
    folder.mkdir()
    args: list[Argument] = [tool("findscu"), "-W", "-aec", WORKLIST, "-X", "-od", folder]
    args += [argument for key in asked for argument in ("-k", key)]
    done = run([*args, "127.0.0.1", str(port)], env=NODELAY)
    assert done.returncode == 0, done.stdout
    answers = [dcmread(file) for file in sorted(folder.glob("rsp*.dcm"))]
    return {str(answer.StudyInstanceUID): answer for answer in answers}


def content(answer: Dataset, *without: str) -> str:
    """Its elements, without those of the file that findscu made of it."""
    return str(Dataset({each.tag: each for each in answer if each.keyword not in without}))


def found(answers: Answers) -> str:
    return " ".join(sorted(uid.rpartition(".")[2] for uid in answers))


@pytest.mark.parametrize("query", WORKLIST_QUERIES)
def test_wlmscpfs(query: str, ports: tuple[int, int], tmp_path: Path) -> None:
    """Finds the same, or what `WORKLIST_DIFFERENCES` says; and tells the same of it."""
    ours, theirs = (ask(port, query, tmp_path / str(port)) for port in ports)
    expected, _ = WORKLIST_DIFFERENCES.get(query, (WORKLIST_QUERIES[query], ""))
    assert (found(ours), found(theirs)) == (WORKLIST_QUERIES[query], expected)
    for uid in ours.keys() & theirs.keys():
        # Only ours says in which character set it is (PS3.4 K.6.1.3.2).
        assert content(ours[uid], "SpecificCharacterSet") == content(theirs[uid])
