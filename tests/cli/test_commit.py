"""`dimse commit` against pynetdicom."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydicom import dcmread
from pydicom.data import get_testdata_file

from dimse.cli.main import main
from tests.cli.command import dimse
from tests.cli.commitment import Committer
from tests.peers import free_port

CT = Path(str(get_testdata_file("CT_small.dcm")))
CT_UID = str(dcmread(CT, stop_before_pixels=True).SOPInstanceUID)
CLASS = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def peer() -> Iterator[Committer]:
    with Committer().serving() as peer:
        yield peer


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ([], "no instance to commit"),
            (["--uid", "1.2"], "SOP Class UID:SOP Instance UID"),
            (["--uid", f"{CLASS}:x"], "SOP Class UID:SOP Instance UID"),
            (["--uid", f"{CLASS}:1.2", "--wait", "-1"], "--wait"),
            (["--uid", f"{CLASS}:1.2", "--listen", "0"], "--listen"),
            (["nowhere.dcm"], "nowhere.dcm"),
        ],
    )
    def test_wrong_usage(self, arguments: list[str], complaint: str) -> None:
        result = CliRunner().invoke(main, ["commit", "localhost", "104", *arguments])
        assert result.exit_code == 2
        assert complaint in result.stderr


@pytest.mark.peer
class TestCommit:
    def test_files_and_uids(self, peer: Committer, tmp_path: Path) -> None:
        """Files in folders too; what is no instance is skipped."""
        (tmp_path / "a.dcm").write_bytes(CT.read_bytes())
        (tmp_path / "a.txt").write_text("text")
        done = dimse("commit", "127.0.0.1", peer.port, "--uid", f"{CLASS}:1.2.3", tmp_path)
        assert (done.returncode, done.stdout) == (0, "2 committed, 0 failed\n")
        assert "a.txt" in done.stderr
        (asked,) = peer.asked
        uids = [item.ReferencedSOPInstanceUID for item in asked.ReferencedSOPSequence]
        assert uids == ["1.2.3", CT_UID]
        assert peer.answered == [0]

    def test_a_failure(self, peer: Committer) -> None:
        peer.unknown = {"1.2.3"}
        done = dimse("commit", "127.0.0.1", peer.port, "--uid", f"{CLASS}:1.2.3", CT)
        assert (done.returncode, done.stdout) == (1, "1 committed, 1 failed\n")
        assert done.stderr == "CT Image Storage 1.2.3: 0x0112 (no such object instance)\n"

    def test_a_refusal(self, peer: Committer) -> None:
        peer.status = 0x0213
        done = dimse("commit", "127.0.0.1", peer.port, CT)
        assert (done.returncode, done.stdout) == (1, "")
        assert "0x0213" in done.stderr

    @pytest.mark.parametrize("roles", [True, False])
    def test_the_result_on_another_association(self, peer: Committer, roles: bool) -> None:
        """Also of a peer that negotiates no roles."""
        peer.reply_port, peer.roles = free_port(), roles
        done = dimse("commit", "127.0.0.1", peer.port, CT, "--listen", peer.reply_port)
        assert (done.returncode, done.stdout) == (0, "1 committed, 0 failed\n"), done.stderr
        assert peer.answered == [0]

    def test_no_result_in_time(self, peer: Committer) -> None:
        peer.reply_port = free_port()
        peer._report = lambda *_: None  # type: ignore[method-assign]
        done = dimse("commit", "127.0.0.1", peer.port, CT, "--wait", 0.5)
        assert done.returncode == 1
        assert "the storage commitment time-out of 0.5 s ran out" in done.stderr

    def test_not_waiting(self, peer: Committer) -> None:
        peer._report = lambda *_: None  # type: ignore[method-assign]
        done = dimse("commit", "127.0.0.1", peer.port, CT, "--wait", 0)
        assert done.returncode == 0
        assert done.stdout == f"requested, Transaction UID {peer.asked[0].TransactionUID}\n"

    def test_a_port_that_is_taken(self, peer: Committer) -> None:
        done = dimse("commit", "127.0.0.1", peer.port, CT, "--listen", peer.port)
        assert done.returncode == 1
        assert str(peer.port) in done.stderr
        assert "Traceback" not in done.stderr
        assert not peer.asked
