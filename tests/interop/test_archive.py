"""The archive of `twistd dimse`, asked by real tools and beside DCMTK's dcmqrscp."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from tests.interop.archives import NODELAY, ROOT, Archive, fill, last_line, script, succeeding
from tests.interop.asking import Answers, difference, findscu, pynetdicom_findscu
from tests.interop.collection import ROOT as COLLECTION
from tests.interop.collection import STUDIES
from tests.interop.corpus import Receiver, Stored, check_same, read, take
from tests.interop.differences import DIFFERENCES
from tests.interop.exchanges import ARCHIVE, keys
from tests.interop.rules import (
    CHARACTER_SETS,
    FLAGS,
    NEGOTIATED,
    QUERIES,
    REFUSED,
    RETRIEVALS,
    STUDY,
    UNIQUE,
    Query,
    Retrieval,
)
from tests.peers import Argument, free_port, run, tool, twistd_dimse
from tests.tables import rows

pytestmark = pytest.mark.peer

NOT_ASKED = {
    "unknown value, worklist": "there is no worklist in Query/Retrieve",
}
"""Matching rules without a query, and why."""

COMMANDS = {
    "relational": "--relational",
    "combined_date_time": "--datetime",
    "fuzzy_names": "--fuzzy",
    "timezone": "--timezone",
}
"""What `dimse find` can negotiate."""


def by_title(cases: Any) -> Any:
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.title) for case in cases])


@pytest.fixture(scope="module")
def own_port() -> int:
    """Where movescu listens."""
    return free_port()


@pytest.fixture(scope="module")
def archive(
    collected: Path,
    own_port: int,
    storescp_bits: Receiver,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Archive]:
    """`twistd dimse` with the collection."""
    peers = {"MOVESCU": own_port, "STORESCP": storescp_bits.port}
    options = [f"--peer={title}=127.0.0.1:{port}" for title, port in peers.items()]
    options.append("--allow-any")  # many others ask
    with twistd_dimse(tmp_path_factory.mktemp("archive"), *options) as server:
        archive = Archive(server)
        fill(archive, collected)
        yield archive


@pytest.fixture(scope="module")
def asked(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answers]:
    """What findscu was answered, by the titles of queries; each is asked once."""
    folder = tmp_path_factory.mktemp("answers")
    return {
        query.title: findscu(archive, query, folder / str(number))
        for number, query in enumerate((*QUERIES, *CHARACTER_SETS, *REFUSED))
    }


@pytest.fixture(scope="module")
def by_us(
    archive: Archive, storescp_bits: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path, dict[str, Stored]]:
    """What our own verbs were answered, by titles; what C-GET and what C-MOVE brought."""
    folder = tmp_path_factory.mktemp("got")
    program = [*script("archive_verbs"), archive.port, str(folder), "STORESCP"]
    take(storescp_bits.folder)
    said = last_line(succeeding(program, cwd=ROOT))
    return said, folder, take(storescp_bits.folder)


def test_every_rule_of_the_standard_is_asked_for():
    asked = {query.rule for query in (*QUERIES, *NEGOTIATED, *CHARACTER_SETS)}
    kinds = {row["kind"] for row in rows("matching_rules")}
    assert asked == kinds - NOT_ASKED.keys()
    titles = [query.title for query in (*QUERIES, *NEGOTIATED, *CHARACTER_SETS, *REFUSED)]
    assert len(set(titles)) == len(titles)
    assert set(titles) >= DIFFERENCES.keys()


@by_title([*QUERIES, *CHARACTER_SETS])
def test_findscu(case: Query, asked: dict[str, Answers]):
    """It finds what the rule says, each once, with the values of what was stored."""
    answered = asked[case.title]
    assert (answered.final, answered.found) == ("(Success)", case.found)
    assert answered.warned is case.warned
    assert not case.answered or answered.character_sets == {case.answered}
    for name, match in answered.matches.items() if case.level == STUDY else ():
        stored = {k: v for k, v in STUDIES[int(name)].items() if isinstance(v, str)}
        assert {k: v for k, v in match.items() if k in stored} == {
            k: v for k, v in stored.items() if k in match
        }


@by_title(REFUSED)
def test_findscu_is_refused(case: Query, asked: dict[str, Answers]):
    """A900H."""
    answered = asked[case.title]
    assert (answered.final, answered.found) == ("(Error: DataSetDoesNotMatchSOPClass)", "")


@by_title([query for query in NEGOTIATED if FLAGS.keys() >= set(query.options)])
def test_pynetdicom_findscu(case: Query, archive: Archive, tmp_path: Path):
    """What is negotiated applies, and findscu, which negotiates nothing, does not find it."""
    answered = pynetdicom_findscu(archive, case, tmp_path / "with")
    assert (answered.final, answered.found) == ("0x0000 (Success)", case.found)
    assert findscu(archive, case, tmp_path / "without").found != case.found


@by_title([query for query in NEGOTIATED if COMMANDS.keys() >= set(query.options)])
def test_dimse_find(case: Query, archive: Archive):
    """The command, with the flags for what is negotiated."""
    flags = [COMMANDS[each] for each in case.options]
    options = [case.model, *flags, "--json", *keys(case.keys), "-k", UNIQUE[case.level]]
    said = succeeding([*dimse("find", archive), "-L", case.level, *options], cwd=ROOT)
    matches = [Dataset.from_json(line) for line in said.splitlines() if line.startswith("{")]
    names = (str(match[UNIQUE[case.level]].value) for match in matches)
    assert sorted(name.removeprefix(f"{COLLECTION}.") for name in names) == case.found.split()


@by_title([*QUERIES, *NEGOTIATED, *CHARACTER_SETS])
def test_our_find(case: Query, asked: dict[str, Answers], by_us: tuple[dict[str, Any], Path, Any]):
    """As findscu is answered."""
    said = by_us[0][case.title]
    assert " ".join(sorted(said)) == case.found
    assert case.options or said == asked[case.title].matches


@by_title([*QUERIES, *CHARACTER_SETS, *REFUSED])
def test_dcmqrscp(case: Query, asked: dict[str, Answers], dcmqrscp: Archive, tmp_path: Path):
    """DCMTK's archive answers the same, or as `DIFFERENCES` says."""
    theirs = findscu(dcmqrscp, case, tmp_path / "answers")
    expected, _ = DIFFERENCES.get(case.title, ("", ""))
    assert difference(case, asked[case.title], theirs) == expected


@by_title(RETRIEVALS)
def test_getscu(
    case: Retrieval, archive: Archive, dcmqrscp: Archive, collected: Path, tmp_path: Path
):
    """Brings what was sent, as from dcmqrscp."""
    for number, scp in enumerate((archive, dcmqrscp)):
        folder = tmp_path / str(number)
        folder.mkdir()
        said = retrieved_by(dcmtk("getscu", "+B", "-od", folder), case, scp)
        assert "Received C-GET Response (Success)" in said
        check_same(take(folder), sent(case.found, collected))


@by_title(RETRIEVALS)
def test_movescu(case: Retrieval, archive: Archive, own_port: int, collected: Path, tmp_path: Path):
    """Brings to itself what was sent, bit for bit."""
    program = dcmtk("movescu", "+B", "-aem", "MOVESCU", "+P", str(own_port))
    said = retrieved_by(program, case, archive, cwd=tmp_path)  # with +B it knows no -od
    assert "Received Final Move Response (Success)" in said
    assert take(tmp_path) == sent(case.found, collected)


@by_title([case for case in RETRIEVALS if case.level == STUDY and "\\" not in case.title])
def test_pynetdicom(
    case: Retrieval,
    archive: Archive,
    storescp_bits: Receiver,
    collected: Path,
    tmp_path: Path,
):
    """Its getscu and movescu bring what was sent."""
    said = retrieved_by(pynetdicom("getscu", "-od", tmp_path), case, archive)
    assert "Get SCP Result: 0x0000 (Success)" in said
    check_same(take(tmp_path), sent(case.found, collected))
    said = retrieved_by(pynetdicom("movescu", "-aem", "STORESCP"), case, archive)
    assert "Move SCP Result: 0x0000 (Success)" in said
    assert take(storescp_bits.folder) == sent(case.found, collected)


@by_title([case for case in RETRIEVALS if case.level == STUDY])
def test_dimse_get_and_move(
    case: Retrieval, archive: Archive, storescp_bits: Receiver, collected: Path, tmp_path: Path
):
    """The commands bring what was sent."""
    asked = ["-L", case.level, case.model, *keys(case.keys)]
    succeeding([*dimse("get", archive), "-od", tmp_path, *asked], cwd=ROOT)
    check_same(take(tmp_path), sent(case.found, collected))
    succeeding([*dimse("move", archive), "-aem", "STORESCP", *asked], cwd=ROOT)
    assert take(storescp_bits.folder) == sent(case.found, collected)


def test_pynetdicom_relational(archive: Archive, collected: Path, tmp_path: Path):
    """A series without its study, once it was negotiated (PS3.4 C.4.3.2.2.2)."""
    case = Retrieval("-S", "SERIES", {"SeriesInstanceUID": f"{COLLECTION}.2.1"}, "2.1.1 2.1.2")
    program = pynetdicom("getscu", "-od", tmp_path)
    assert "0xA900" in retrieved_by(program, case, archive)
    said = retrieved_by([*program, "--relational-retrieval"], case, archive)
    assert "Get SCP Result: 0x0000 (Success)" in said
    check_same(take(tmp_path), sent(case.found, collected))


def test_our_retrievals(by_us: tuple[dict[str, Any], Path, dict[str, Stored]], collected: Path):
    """C-GET and C-MOVE of each bring what was sent."""
    said, folder, moved = by_us
    everything: dict[str, Stored] = {}
    for number, case in enumerate(RETRIEVALS):
        expected = sent(case.found, collected)
        assert said[case.title] == dict.fromkeys(("got", "moved"), len(expected))
        check_same(take(folder / str(number)), expected)
        everything |= expected
    assert moved == everything


def test_movescu_to_whom_nobody_knows(archive: Archive, dcmqrscp: Archive):
    """A801H, as from dcmqrscp (PS3.4 C.4.2.1.5)."""
    for scp in (archive, dcmqrscp):
        said = retrieved_by(dcmtk("movescu", "-aem", "NOBODY"), RETRIEVALS[0], scp)
        assert "MoveDestinationUnknown" in said


def dimse(name: str, archive: Archive) -> list[Argument]:
    return [sys.executable, "-m", "dimse", name, "-aec", ARCHIVE, "127.0.0.1", archive.port]


def dcmtk(name: str, *options: Argument) -> list[Argument]:
    return [tool(name), *options]


def pynetdicom(name: str, *options: Argument) -> list[Argument]:
    return [sys.executable, "-m", "pynetdicom", name, *options]


def retrieved_by(
    program: list[Argument], case: Retrieval, archive: Archive, cwd: Path | None = None
) -> str:
    """Let a tool retrieve; what it says."""
    asked = keys({"QueryRetrieveLevel": case.level, **case.keys})
    options = ["-v", "-aec", ARCHIVE, case.model, *asked, "127.0.0.1", archive.port]
    return run([*program, *options], env=NODELAY, cwd=cwd).stdout


def sent(names: str, collected: Path) -> dict[str, Stored]:
    """What has to arrive of the instances of these names."""
    stored = [read(collected / f"{name}.dcm") for name in names.split()]
    return {each.sop_instance_uid: each for each in stored}
