"""`dimse store`."""

import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from dimse.cli.main import main
from tests.cli.command import SECONDS, dimse, start
from tests.cli.recorder import Recorder
from tests.peers import free_port

NAME = "Secret^Name"
UIDS = ("1.2.826.0.1.1", "1.2.826.0.1.2", "1.2.826.0.1.3")


def write(path: Path, uid: str, sop_class: str = CTImageStorage) -> Path:
    """A DICOM file of some 0.2 MB."""
    instance = Dataset()
    instance.SOPClassUID = sop_class
    instance.SOPInstanceUID = uid
    instance.PatientName = NAME
    instance.EncapsulatedDocument = bytes(200_000)
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Three instances, one in a folder below, and two files that are none."""
    top = tmp_path / "study"
    (top / "series").mkdir(parents=True)
    write(top / "a.dcm", UIDS[0])
    write(top / "b", UIDS[1])
    write(top / "series" / "c.dcm", UIDS[2])
    (top / "notes.txt").write_text("no DICOM here")
    (top / "empty").touch()
    return top


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ([], "PATH"),
            (["no/such/file"], "does not exist"),
            ([".", "--priority", "urgent"], "--priority"),
        ],
    )
    def test_wrong_usage_is_2(self, arguments: list[str], complaint: str) -> None:
        result = CliRunner().invoke(main, ["store", "127.0.0.1", "104", *arguments])
        assert result.exit_code == 2
        assert complaint in result.stderr.splitlines()[-1]

    def test_nothing_to_send_is_1(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("no DICOM here")
        result = CliRunner().invoke(main, ["store", "127.0.0.1", "104", str(tmp_path)])
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "Error: no DICOM instance to send\n"


@pytest.mark.peer
class TestStore:
    def test_folder_to_dcmtk(self, storescp: int, received: Path, study: Path) -> None:
        done = dimse("store", "127.0.0.1", storescp, study)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("3 sent, 0 warnings, 0 failed, 2 skipped; 0.6 MB in ")
        assert done.stdout.endswith(" MB/s)\n")
        stored = [dcmread(file) for file in received.iterdir()]
        assert sorted(str(each.SOPInstanceUID) for each in stored) == list(UIDS)
        assert {len(each.EncapsulatedDocument) for each in stored} == {200_000}

    def test_files_and_quiet(self, storescp: int, received: Path, study: Path) -> None:
        done = dimse("store", "127.0.0.1", storescp, study / "a.dcm", study / "b", "-q")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert len(list(received.iterdir())) == 2

    def test_verbose_tells_what_it_skips_and_of_the_association(
        self, storescp: int, study: Path
    ) -> None:
        done = dimse("store", "127.0.0.1", storescp, study, "-v")
        said = done.stderr.splitlines()
        assert f"{study / 'notes.txt'}: not a DICOM file (skipped)" in said
        assert f"{study / 'empty'}: not a DICOM file (skipped)" in said
        assert "context 1: CT Image Storage, Explicit VR Little Endian" in said
        assert said[-1] == "the association was released"

    def test_options_reach_the_peer(self, recorder: Recorder, study: Path) -> None:
        options = ("-aet", "US", "-aec", "THEM", "-pdu", 5000, "--priority", "high")
        done = dimse("store", "127.0.0.1", recorder.port, study / "b", *options)
        assert done.returncode == 0
        assert recorder.asked == [("EVT_C_STORE", 1)]  # HIGH (PS3.7 E.1)
        assert recorder.requestor.ae_title == "US"
        assert recorder.requestor.primitive.called_ae_title == "THEM"
        assert recorder.requestor.maximum_length == 5000
        assert recorder.ending() == "released"

    def test_warnings_count_as_sent_and_show_when_verbose(
        self, recorder: Recorder, study: Path
    ) -> None:
        recorder.status = 0xB007
        done = dimse("store", "127.0.0.1", recorder.port, study)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("3 sent, 3 warnings, 0 failed, 2 skipped; ")
        verbose = dimse("store", "127.0.0.1", recorder.port, study / "b", "-v")
        assert f"{study / 'b'}: 0xB007 (" in verbose.stderr


@pytest.mark.peer
class TestFailures:
    def test_status_of_each_instance(self, recorder: Recorder, study: Path) -> None:
        recorder.status = 0xA700
        done = dimse("store", "127.0.0.1", recorder.port, study)
        assert done.returncode == 1
        assert done.stdout.startswith("0 sent, 0 warnings, 3 failed, 2 skipped; 0.0 MB ")
        files = [study / "a.dcm", study / "b", study / "series" / "c.dcm"]
        lines = done.stderr.splitlines()
        assert len(lines) == 3
        for file, line in zip(files, lines, strict=True):
            assert line.startswith(f"{file}: status 0xA700")

    def test_context_that_is_not_accepted_fails_alone(
        self, recorder: Recorder, study: Path
    ) -> None:
        refused = write(study / "mr.dcm", "1.2.3", MRImageStorage)
        done = dimse("store", "127.0.0.1", recorder.port, study, "-q")
        assert (done.returncode, done.stdout) == (1, "")
        assert len(recorder.asked) == 3
        assert done.stderr.startswith(f"{refused}: ")
        assert MRImageStorage in done.stderr
        verbose = dimse("store", "127.0.0.1", recorder.port, refused, "-v").stderr
        assert re.search(
            rf"^refused context 1, {MRImageStorage} in .*result 3", verbose, re.MULTILINE
        )

    def test_peer_that_is_not_there(self, study: Path) -> None:
        """The reason is said once, whatever the number of files; -v names them."""
        port = free_port()
        done = dimse("store", "127.0.0.1", port, study)
        assert done.returncode == 1
        assert done.stdout.startswith("0 sent, 0 warnings, 0 failed, 2 skipped, 3 not sent; ")
        why = rf"127\.0\.0\.1:{port} \(ANY-SCP\): no connection .*refused.*\n"
        assert re.fullmatch(why, done.stderr)
        verbose = dimse("store", "127.0.0.1", port, study, "-v").stderr
        assert verbose.count(": no connection") == 1
        for file in ("a.dcm", "b", "series/c.dcm"):
            assert f"{study / file}: not sent\n" in verbose

    def test_association_that_times_out_is_followed_by_another(
        self, recorder: Recorder, study: Path
    ) -> None:
        """Each file that was on its way has failed, and the next is tried; three are enough."""
        recorder.hold = True
        write(study / "z.dcm", "1.2.3")
        done = dimse("store", "127.0.0.1", recorder.port, study, "-td", 0.3)
        assert done.returncode == 1
        assert done.stdout.startswith("0 sent, 0 warnings, 3 failed, 2 skipped, 1 not sent; ")
        peer = f"127.0.0.1:{recorder.port} (ANY-SCP)"
        why = f"{peer}: the response time-out of 0.3 s ran out for C-STORE-RQ (-td)"
        names = ("a.dcm", "b", "z.dcm")
        assert done.stderr.splitlines() == [f"{study / name}: {why}" for name in names]

    def test_file_that_cannot_be_read_is_a_failure(self, storescp: int, study: Path) -> None:
        (study / "broken").symlink_to(study / "nowhere")
        done = dimse("store", "127.0.0.1", storescp, study)
        assert done.returncode == 1
        assert done.stdout.startswith("3 sent, 0 warnings, 1 failed, 2 skipped; ")
        assert done.stderr == f"{study / 'broken'}: No such file or directory\n"

    def test_name_of_a_file_does_not_steer_the_terminal(self, study: Path) -> None:
        write(study / "\x1b[2J\n", "1.2.3")
        done = dimse("store", "127.0.0.1", free_port(), study, "-v")
        assert "\x1b" not in done.stderr
        assert "/\\x1b[2J\\n: not sent\n" in done.stderr

    def test_no_patient_data_is_shown(self, recorder: Recorder, study: Path) -> None:
        recorder.status = 0xC000
        done = dimse("store", "127.0.0.1", recorder.port, study, "-d")
        assert "0xC000" in done.stderr
        assert "Secret" not in done.stderr + done.stdout

    def test_interrupt_aborts_and_sums_up(self, recorder: Recorder, study: Path) -> None:
        recorder.hold = True
        with start("store", "127.0.0.1", recorder.port, study) as process:
            assert recorder.holding.wait(SECONDS)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=SECONDS)
        assert (process.returncode, stderr) == (130, "")
        assert stdout.startswith("0 sent, 0 warnings, 0 failed, 2 skipped, 3 not sent; ")

    def test_interrupt_while_it_looks_for_instances(
        self, study: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before there is a reactor."""

        def interrupt(path: Path) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("dimse.cli.store.find_files", interrupt)
        result = CliRunner().invoke(main, ["store", "127.0.0.1", "104", str(study)])
        assert (result.exit_code, result.output) == (130, "")

    def test_fifo_in_a_folder_holds_nothing_up(self, storescp: int, study: Path) -> None:
        """To open it would wait for somebody who writes."""
        os.mkfifo(study / "fifo")
        done = dimse("store", "127.0.0.1", storescp, study, "-v")
        assert done.returncode == 0
        assert f"{study / 'fifo'}: not a regular file (skipped)\n" in done.stderr
        assert done.stdout.startswith("3 sent, 0 warnings, 0 failed, 3 skipped; ")


def on_a_terminal(*args: object) -> tuple[str, str]:
    """What `dimse` writes to a terminal on stderr, and to a pipe on stdout."""
    terminal, end = pty.openpty()
    with start(*args, stderr=end, stdout=subprocess.PIPE) as process:
        os.close(end)
        seen = b""
        try:
            while piece := os.read(terminal, 65536):
                seen += piece
        except OSError:  # Linux says the end of a terminal that way
            pass
        os.close(terminal)
        stdout, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    return seen.decode(), stdout


@pytest.mark.peer
class TestProgress:
    def test_bar_on_a_terminal(self, storescp: int, study: Path) -> None:
        """Files, bytes and a rate, on stderr; the summary alone is left on stdout."""
        shown, stdout = on_a_terminal("store", "127.0.0.1", storescp, study)
        assert "3/3 files" in shown
        assert re.search(r"600\.\d/600\.\d kB", shown)
        assert "/s" in shown
        assert re.fullmatch(r"3 sent, .*\n", stdout)

    def test_no_bar_when_quiet(self, storescp: int, study: Path) -> None:
        assert on_a_terminal("store", "127.0.0.1", storescp, study, "-q") == ("", "")

    def test_events_pass_above_the_bar(self, storescp: int, study: Path) -> None:
        shown, _ = on_a_terminal("store", "127.0.0.1", storescp, study, "-v")
        assert "context 1: CT Image Storage" in shown
        assert "3/3 files" in shown

    def test_no_bar_in_a_pipe(self, storescp: int, study: Path, monkeypatch) -> None:
        """Not even where colours are forced, as in CI."""
        monkeypatch.setenv("FORCE_COLOR", "1")
        done = dimse("store", "127.0.0.1", storescp, study)
        assert done.stderr == ""
        assert "files" not in done.stdout
