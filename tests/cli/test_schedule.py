"""`dimse schedule`, over the index of a node that runs or does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dimse.testing import Network
from tests.archive.archives import open_archive
from tests.archive.test_worklist import Modality, save, scheduled
from tests.cli.command import dimse


@pytest.fixture
def modality(tmp_path: Path) -> Iterator[Modality]:
    """Asks the node whose worklist it is, and which runs."""
    with (
        Network() as network,
        open_archive(tmp_path / "store", clock=network.clock) as archive,
    ):
        yield Modality(network, archive)


def schedule(tmp_path: Path, verb: str, *arguments: object) -> tuple[int, str]:
    done = dimse("schedule", verb, "--storage", tmp_path / "store", *arguments)
    return done.returncode, done.stdout + done.stderr


def test_add_list_remove(tmp_path: Path, modality: Modality) -> None:
    save(scheduled(1), tmp_path / "1.dcm")
    (tmp_path / "2.json").write_text(scheduled(2, PatientName="山田^太郎").to_json())
    added = schedule(tmp_path, "add", tmp_path / "1.dcm", tmp_path / "2.json")
    assert added == (0, "2 items added\n")
    assert modality.finds() == "12"
    code, text = schedule(tmp_path, "list")
    assert code == 0
    assert text.splitlines()[1:] == [
        "1.2.1\tS1\t20260101\t1200\tCT\tCT1\tA1\tP1\tDoe^Jane",
        "1.2.2\tS2\t20260102\t1200\tCT\tCT1\tA2\tP2\t山田^太郎",
    ]
    assert schedule(tmp_path, "remove", "1.2.1", "S1") == (0, "")
    assert schedule(tmp_path, "remove", "1.2.1", "S1") == (1, "Error: there is no such item\n")
    assert modality.finds() == "2"


def test_what_is_wrong_is_said(tmp_path: Path, modality: Modality) -> None:
    """And nothing is added then."""
    save(scheduled(1), tmp_path / "1.dcm")
    item = scheduled(2)
    del item.PatientID
    save(item, tmp_path / "2.dcm")
    code, text = schedule(tmp_path, "add", tmp_path / "1.dcm", tmp_path / "2.dcm")
    assert (code, text) == (
        1,
        f"Error: {tmp_path / '2.dcm'} lacks PatientID (PS3.4 K.6.1.2.2)\n",
    )
    assert modality.finds() == ""


def test_a_node_that_is_not_there(tmp_path: Path) -> None:
    code, text = schedule(tmp_path / "nowhere", "list")
    assert code == 1
    assert text.startswith("Error: index sqlite:")
    assert "Traceback" not in text
