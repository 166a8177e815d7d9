"""`dimse get` and `dimse move`."""

import os
import pty
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydicom import Dataset, dcmread
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from dimse.cli.main import main
from dimse.sop_classes import PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT
from tests.cli.archive import Archive, image
from tests.cli.command import SECONDS, dimse, start
from tests.cli.conftest import QueryServer
from tests.interop.exchanges import ARCHIVE, STUDIES, STUDY
from tests.peers import free_port

KEY = ("-k", "StudyInstanceUID=1.2")
SPEED = r"[0-9.]+ MB in [0-9.]+ s \([0-9.]+ MB/s\)\n"


def get(archive: Archive, *options: object) -> Any:
    return dimse("get", "127.0.0.1", archive.port, *KEY, *options)


def pixels(file: Path) -> bytes:
    """What tells the instances apart."""
    return bytes(dcmread(file).PixelData)


def check(folder: Path, studies: Path, study: str) -> None:
    """All instances of the study are there, whole, and nothing else."""
    stored = {dcmread(file).SOPInstanceUID: pixels(file) for file in (studies / study).iterdir()}
    got = {file.name.removesuffix(".dcm"): pixels(file) for file in folder.iterdir()}
    assert got == stored
    assert len(got) == STUDIES[study]


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["get"], "-k: level STUDY needs StudyInstanceUID=VALUE"),
            (["get", "-P"], "-k: level PATIENT needs PatientID=VALUE"),
            (["get", "-L", "SERIES", *KEY], "-k: level SERIES needs SeriesInstanceUID=VALUE"),
            (["get", *KEY, "-k", "SOPInstanceUID=1"], "-k: SOPInstanceUID is of a level below"),
            (["get", "-O", "-L", "SERIES", *KEY], "-L: .*PATIENT, STUDY"),
            (["get", "-W", *KEY], "-W"),
            (["get", "-k", "StudyInstanceUID=1.*"], "-k: StudyInstanceUID: VR UI allows"),
            (["get", *KEY, "--transfer-syntax", "JPEG"], "keyword of a transfer syntax"),
            (["get", *KEY, "--sop-class", "CT"], "keyword of a sop class"),
            (["move", "-aem", "THERE"], "-k: level STUDY needs"),
            (["move", *KEY], "-aem says where to"),
            (["move", *KEY, "-aem", "SEVENTEEN LETTERS"], "-aem"),
            (["move", *KEY, "-aem", "THERE", "-od", "."], "with --store-port"),
            (["move", *KEY, "-aem", "THERE", "--ignore"], "with --store-port"),
            (["move", *KEY, "+P", "0"], "--store-port"),
        ],
    )
    def test_wrong_usage_is_2(self, arguments: list[str], complaint: str) -> None:
        command, *options = arguments
        result = CliRunner().invoke(main, [command, "127.0.0.1", "104", *options])
        assert result.exit_code == 2
        assert re.search(complaint, result.stderr.splitlines()[-1])

    def test_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        folder = str(tmp_path / "file" / "folder")
        result = CliRunner().invoke(main, ["get", "127.0.0.1", "104", *KEY, "-od", folder])
        assert result.exit_code == 1
        assert result.stderr == f"Error: folder {folder}: Not a directory\n"


@pytest.mark.peer
@pytest.mark.parametrize(("option", "told"), [((), False), (("-v",), True)])
def test_why_the_peer_refused_is_told_to_who_asks(
    archive: Archive, option: tuple[str, ...], told: bool
) -> None:
    """Its Error Comment may name a patient, so it takes -v."""
    archive.refusal = Dataset()
    archive.refusal.Status, archive.refusal.ErrorComment = 0xA701, "the disk is full"
    done = get(archive, "--ignore", *option)
    assert done.returncode == 1
    (line,) = [each for each in done.stderr.splitlines() if "status 0xA701" in each]
    assert line.endswith(" (the disk is full)") is told
    assert re.match(r"0 received[;,]", done.stdout)
    assert "no numbers" not in done.stdout


@pytest.mark.peer
def test_verbose_names_each_instance(archive: Archive) -> None:
    """Which for a node are details, for it receives a hundred thousand of them."""
    done = get(archive, "--ignore", "-v")
    assert done.returncode == 0
    received = re.findall(r"C-STORE-RQ of ([\d.]+): 0x0000", done.stderr)
    assert len(received) == len(set(received)) == int(done.stdout.split()[0])


@pytest.mark.peer
class TestDcmqrscp:
    @pytest.mark.parametrize(
        "options",
        [
            ("-k", f"StudyInstanceUID={STUDY}"),
            ("-P", "-L", "STUDY", "-k", "PatientID=M1", "-k", f"StudyInstanceUID={STUDY}"),
            ("-O", "-k", "PatientID=M1", "-k", f"StudyInstanceUID={STUDY}"),
            (
                "-L",
                "SERIES",
                "-k",
                f"StudyInstanceUID={STUDY}",
                "-k",
                f"SeriesInstanceUID={STUDY}.1",
            ),
        ],
    )
    def test_get(self, dcmqrscp: QueryServer, tmp_path: Path, options: tuple[str, ...]) -> None:
        done = dimse(
            *("get", "127.0.0.1", dcmqrscp.port, "-aec", ARCHIVE, "-od", tmp_path / "new", *options)
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(rf"3 received, 0 warnings, 0 failed; {SPEED}", done.stdout)
        check(tmp_path / "new", dcmqrscp.studies, STUDY)

    def test_get_again_and_another_under_a_uid(self, dcmqrscp: QueryServer, tmp_path: Path) -> None:
        """The same again is received; another data set is kept, and that is a failure."""
        options = ("-aec", ARCHIVE, "-od", tmp_path, "-k", f"StudyInstanceUID={STUDY}")
        args = ("get", "127.0.0.1", dcmqrscp.port, *options)
        dimse(*args)
        assert dimse(*args).stdout.startswith("3 received, 0 warnings, 0 failed; ")
        kept = tmp_path / f"{STUDY}.1.2.dcm"
        image(f"{STUDY}.1.2").save_as(kept, enforce_file_format=True)
        before = kept.read_bytes()
        done = dimse(*args)
        assert done.returncode == 1
        assert done.stdout.startswith("2 received, 0 warnings, 1 failed; ")
        assert re.fullmatch(rf"{re.escape(STUDY)}\.1\.2: status 0x0111.*\n", done.stderr)
        assert kept.read_bytes() == before

    def test_get_into_the_current_folder(self, dcmqrscp: QueryServer, tmp_path: Path) -> None:
        args = ("get", "127.0.0.1", dcmqrscp.port, "-aec", ARCHIVE, "-q")
        with start(*args, "-k", f"StudyInstanceUID={STUDY}", cwd=tmp_path) as process:
            assert process.communicate(timeout=SECONDS) == ("", "")
        check(tmp_path, dcmqrscp.studies, STUDY)

    @pytest.mark.parametrize(
        ("option", "syntax"), [("-xe", ExplicitVRLittleEndian), ("-xi", ImplicitVRLittleEndian)]
    )
    def test_get_in_a_transfer_syntax(
        self, dcmqrscp: QueryServer, tmp_path: Path, option: str, syntax: str
    ) -> None:
        dimse(
            *("get", "127.0.0.1", dcmqrscp.port, "-aec", ARCHIVE, "-od", tmp_path, option),
            *("-k", f"StudyInstanceUID={STUDY}"),
        )
        syntaxes = [dcmread(file).file_meta.TransferSyntaxUID for file in tmp_path.iterdir()]
        assert syntaxes == [syntax] * 3

    def test_move_here(self, dcmqrscp: QueryServer, tmp_path: Path) -> None:
        done = dimse(
            *("move", "127.0.0.1", dcmqrscp.port, "-aec", ARCHIVE, "-aet", "HERE"),
            *("--store-port", dcmqrscp.here, "-od", tmp_path),
            *("-k", f"StudyInstanceUID={STUDY}"),
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(rf"3 received, 0 warnings, 0 failed; {SPEED}", done.stdout)
        check(tmp_path, dcmqrscp.studies, STUDY)

    def test_move_here_as_another_title_and_keep_nothing(
        self, dcmqrscp: QueryServer, tmp_path: Path
    ) -> None:
        args = ("move", "127.0.0.1", dcmqrscp.port, "-aec", ARCHIVE, "-aem", "HERE", "--ignore")
        key = f"StudyInstanceUID={STUDY}"
        with start(*args, "+P", dcmqrscp.here, "-k", key, cwd=tmp_path) as process:
            stdout, stderr = process.communicate(timeout=SECONDS)
        assert (process.returncode, stderr) == (0, "")
        assert stdout.startswith("3 received, 0 warnings, 0 failed; ")
        assert list(tmp_path.iterdir()) == []

    def test_move_to_an_unknown_destination(self, dcmqrscp: QueryServer) -> None:
        done = dimse(
            *("move", "127.0.0.1", dcmqrscp.port, "-aec", ARCHIVE, "-aem", "NOBODY"),
            *("-k", f"StudyInstanceUID={STUDY}"),
        )
        assert done.returncode == 1
        assert "status 0xA801" in done.stderr


@pytest.mark.peer
class TestGet:
    @pytest.mark.parametrize(
        ("options", "model", "level"),
        [
            ((), STUDY_ROOT.get, "STUDY"),
            (("-O",), PATIENT_STUDY_ONLY.get, "STUDY"),
            (("-P", "-L", "STUDY"), PATIENT_ROOT.get, "STUDY"),
        ],
    )
    def test_model_and_keys(
        self, archive: Archive, tmp_path: Path, options: tuple[str, ...], model: str, level: str
    ) -> None:
        """Unique keys go out, and nothing is asked for."""
        done = get(archive, *options, "-od", tmp_path)
        assert done.returncode == 0
        assert done.stdout.startswith("0 received, 0 warnings, 0 failed; ")
        assert archive.models == [model]
        (asked,) = archive.identifiers
        assert {each.keyword: each.value for each in asked} == {
            "QueryRetrieveLevel": level,
            "StudyInstanceUID": "1.2",
        }

    def test_contexts_are_those_asked_for(self, archive: Archive, tmp_path: Path) -> None:
        get(
            archive,
            *("-od", tmp_path, "--sop-class", "CTImageStorage", "--sop-class", "1.2.3"),
            *("--transfer-syntax", "JPEG2000Lossless", "-xb"),
        )
        offered = [JPEG2000Lossless, ExplicitVRBigEndian]
        assert archive.contexts[1:] == [(CTImageStorage, offered), ("1.2.3", offered)]

    def test_relational_is_negotiated_and_its_refusal_said(
        self, archive: Archive, tmp_path: Path
    ) -> None:
        done = get(archive, "-od", tmp_path, "--relational")
        assert archive.offered == {STUDY_ROOT.get: b"\1"}
        assert done.returncode == 0
        assert done.stderr.endswith(
            "did not accept relational queries and retrievals (--relational); goes on without\n"
        )
        archive.extended = b"\1"
        assert get(archive, "-od", tmp_path, "--relational").stderr == ""

    def test_ignore_keeps_nothing(self, archive: Archive, tmp_path: Path) -> None:
        archive.images = [image("1.2.1"), image("1.2.2")]
        done = get(archive, "--ignore", "-od", tmp_path)
        assert done.stdout.startswith("2 received, 0 warnings, 0 failed; 0.2 MB ")
        assert list(tmp_path.iterdir()) == []

    def test_failure_of_the_whole(self, archive: Archive, tmp_path: Path) -> None:
        archive.status = 0xA701
        done = get(archive, "-od", tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith(f"127.0.0.1:{archive.port} (ANY-SCP): status 0xA701")
        assert done.stdout.startswith("0 received, ")

    def test_what_failed_at_the_peer_is_listed(self, archive: Archive, tmp_path: Path) -> None:
        """What it could not send: no context was accepted for it."""
        other = image("1.2.2")
        other.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"  # MR Image Storage
        archive.images = [image("1.2.1"), other]
        done = get(archive, "-od", tmp_path)
        assert (done.returncode, done.stderr) == (1, "1.2.2: failed\n")
        assert done.stdout.startswith("1 received, 0 warnings, 1 failed; ")
        assert [file.name for file in tmp_path.iterdir()] == ["1.2.1.dcm"]

    def test_no_patient_data_is_shown(self, archive: Archive, tmp_path: Path) -> None:
        archive.images = [image("1.2.1")]
        done = get(archive, "-od", tmp_path, "-d", "-k", "PatientName=Secret")
        assert done.returncode == 0
        assert "Secret" not in done.stdout + done.stderr

    def test_interrupt_aborts_and_sums_up(self, archive: Archive, tmp_path: Path) -> None:
        archive.images, archive.hold = [image("1.2.1")], True
        with start("get", "127.0.0.1", archive.port, *KEY, "-od", tmp_path) as process:
            assert archive.holding.wait(SECONDS)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=SECONDS)
        assert (process.returncode, stderr) == (130, "")
        assert stdout.startswith("0 received; ")
        assert list(tmp_path.iterdir()) == []

    def test_progress_on_a_terminal(self, archive: Archive, tmp_path: Path) -> None:
        """How many of how many, on stderr; the sum alone is left on stdout."""
        archive.images = [image(f"1.2.{number}") for number in range(3)]
        terminal, end = pty.openpty()
        args = ("get", "127.0.0.1", archive.port, *KEY, "-od", tmp_path)
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
        assert b"3/3 instances" in seen
        assert re.fullmatch(r"3 received, .*\n", stdout)


@pytest.mark.peer
class TestMove:
    def test_to_a_third_node(self, archive: Archive, storescp: int, received: Path) -> None:
        archive.images, archive.places = [image("1.2.1"), image("1.2.2")], {"THERE": storescp}
        done = dimse("move", "127.0.0.1", archive.port, *KEY, "-aem", "THERE")
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(r"2 moved, 0 warnings, 0 failed; [0-9.]+ s\n", done.stdout)
        assert len(list(received.iterdir())) == 2
        assert archive.models == [STUDY_ROOT.move]

    def test_unknown_destination(self, archive: Archive) -> None:
        done = dimse("move", "127.0.0.1", archive.port, *KEY, "-aem", "NOWHERE")
        assert done.returncode == 1
        assert "status 0xA801" in done.stderr

    def test_here(self, archive: Archive, tmp_path: Path) -> None:
        """Under the AE title that we call by, unless another is given."""
        port = free_port()
        archive.images, archive.places = [image("1.2.1")], {"US": port}
        done = dimse(
            *("move", "127.0.0.1", archive.port, *KEY, "-aet", "US", "+P", port, "-od", tmp_path)
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("1 received, 0 warnings, 0 failed; 0.1 MB ")
        assert [file.name for file in tmp_path.iterdir()] == ["1.2.1.dcm"]

    def test_what_we_refuse_is_said_once(self, archive: Archive, tmp_path: Path) -> None:
        port = free_port()
        archive.images, archive.places = [image("1.2.1"), image("1.2.2")], {"US": port}
        image("1.2.1", size=2).save_as(tmp_path / "1.2.1.dcm", enforce_file_format=True)
        done = dimse(
            *("move", "127.0.0.1", archive.port, *KEY, "-aem", "US", "+P", port, "-od", tmp_path)
        )
        assert done.returncode == 1
        assert re.fullmatch(r"1\.2\.1: status 0x0111.*\n", done.stderr)
        assert done.stdout.startswith("1 received, 0 warnings, 1 failed; ")

    def test_port_that_is_taken(self, archive: Archive, tmp_path: Path) -> None:
        with socket.create_server(("", 0)) as taken:
            port = taken.getsockname()[1]
            done = dimse("move", "127.0.0.1", archive.port, *KEY, "+P", port, "-od", tmp_path)
        assert done.returncode == 1
        assert re.search(rf"^Error: --store-port {port}: .*in use", done.stderr, re.MULTILINE)
        assert archive.identifiers == []
