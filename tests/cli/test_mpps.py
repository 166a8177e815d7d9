"""`dimse mpps` against pynetdicom."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from dimse.cli.main import main
from tests.cli.command import dimse
from tests.cli.commitment import Steps

LEAST = (
    *("-k", "ScheduledStepAttributesSequence[0].StudyInstanceUID=1.2.5"),
    *("-k", "PerformedProcedureStepID=PPS1"),
    *("-k", "Modality=CT"),
)


@pytest.fixture
def peer() -> Iterator[Steps]:
    with Steps().serving() as peer:
        yield peer


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["begin"], "begin"),
            (["set"], "set needs the UID"),
            (["set", "x"], "is no UID"),
            (["set", "1.2"], "nothing to set"),
            (["set", "1.2", "--status", "DONE"], "--status"),
            (["create", "--status", "COMPLETED"], "a step begins IN PROGRESS"),
            (["create", "-k", "Modalitee=CT"], "did you mean Modality"),
        ],
    )
    def test_wrong_usage(self, arguments: list[str], complaint: str) -> None:
        result = CliRunner().invoke(main, ["mpps", "localhost", "104", *arguments])
        assert result.exit_code == 2
        assert complaint in result.stderr


@pytest.mark.peer
class TestMpps:
    def test_create(self, peer: Steps) -> None:
        """It prints the UID, which `set` takes."""
        done = dimse("mpps", "127.0.0.1", peer.port, "create", *LEAST, "-aet", "MODALITY")
        ((what, uid, attributes),) = peer.told
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{uid}\n", "")
        assert what == "N-CREATE"
        assert attributes.PerformedProcedureStepStatus == "IN PROGRESS"
        assert attributes.PerformedStationAETitle == "MODALITY"
        assert attributes.PatientName == ""
        assert attributes.ScheduledStepAttributesSequence[0].StudyInstanceUID == "1.2.5"

    def test_create_with_a_uid_from_a_file(self, peer: Steps, tmp_path: Path) -> None:
        file = tmp_path / "step.json"
        file.write_text('{"00080060": {"vr": "CS", "Value": ["MR"]}}')
        done = dimse("mpps", "127.0.0.1", peer.port, "create", "1.2.3", *LEAST[:4], "-f", file)
        assert (done.returncode, done.stdout) == (0, "1.2.3\n")
        assert peer.told[0][2].Modality == "MR"

    def test_create_says_what_is_missing(self, peer: Steps) -> None:
        done = dimse("mpps", "127.0.0.1", peer.port, "create", *LEAST[:2])
        assert done.returncode == 1
        assert "missing: PerformedProcedureStepID, Modality" in done.stderr
        assert not peer.told

    @pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
    def test_an_end(self, peer: Steps, status: str) -> None:
        done = dimse("mpps", "127.0.0.1", peer.port, "set", "1.2.3", "--status", status)
        assert (done.returncode, done.stdout) == (0, "1.2.3: 0x0000 (Success)\n")
        ((what, uid, modifications),) = peer.told
        assert (what, uid) == ("N-SET", "1.2.3")
        assert modifications.PerformedProcedureStepStatus == status
        assert len(modifications.PerformedProcedureStepEndDate) == 8

    def test_a_change_on_the_way(self, peer: Steps) -> None:
        key = "PerformedProcedureStepDescription=Head"
        done = dimse("mpps", "127.0.0.1", peer.port, "set", "1.2.3", "-k", key)
        assert done.returncode == 0
        assert [each.keyword for each in peer.told[0][2]] == ["PerformedProcedureStepDescription"]

    def test_a_refusal(self, peer: Steps) -> None:
        peer.status = 0x0112
        done = dimse("mpps", "127.0.0.1", peer.port, "set", "1.2.3", "--status", "COMPLETED")
        assert (done.returncode, done.stdout) == (1, "")
        assert "0x0112" in done.stderr
