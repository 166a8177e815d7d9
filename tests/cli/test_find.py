"""`dimse find` and `dimse worklist`."""

import csv
import json
import os
import pty
import re
import signal
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydicom import Dataset, dcmread

from dimse.cli.main import main
from dimse.cli.query import RETURN_KEYS
from dimse.sop_classes import MODALITY_WORKLIST, PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT
from tests.cli.archive import Archive
from tests.cli.command import SECONDS, dimse, start
from tests.cli.conftest import QueryServer
from tests.interop.exchanges import ARCHIVE, LONG_STUDY, STUDIES, STUDY
from tests.peers import free_port

NAME = "Secret^Name"
STEP = "ScheduledProcedureStepSequence"


def study(uid: str, **values: Any) -> Dataset:
    match = Dataset()
    match.QueryRetrieveLevel = "STUDY"
    match.StudyInstanceUID, match.PatientName = uid, NAME
    for keyword, value in values.items():
        setattr(match, keyword, value)
    return match


def find(archive: Archive, *options: object) -> Any:
    return dimse("find", "127.0.0.1", archive.port, *options)


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["find", "-k", "PatientNam=x"], "-k: .*did you mean PatientName"),
            (["find", "-k", "0010,00F3"], "-k: .*no tag of PS3.6"),
            (["find", "-k", f"StudyDate={NAME}"], "-k: .*StudyDate: VR DA allows YYYYMMDD"),
            (["find", "-L", "WORLD"], "'-L'.*'patient', 'study'"),
            (["find", "-L", "PATIENT"], "-L: .*STUDY, SERIES, IMAGE"),
            (["find", "-W", "-L", "STUDY"], "-L: .*worklist"),
            (["find", "-f", "no/such/file"], "'-f'.*does not exist"),
            (["find", "-f", __file__], "-f: .*neither a DICOM file nor DICOM JSON"),
            (["find", "--cancel", "0"], "'--cancel'"),
            (["find", "--json", "-od", "."], "choose one"),
            (["find", "-W", "--relational"], "-W goes with"),
            (["find", "-W", "--datetime"], "-W goes with"),
            (["worklist", "--date", "tomorrow"], "--date: .*VR DA allows YYYYMMDD"),
            (["worklist", "--modality", "ct"], "--modality: .*VR CS allows"),
            (["worklist", "--station", "SEVENTEEN LETTERS"], "--station: .*VR AE allows"),
            (["worklist", "-k", "QueryRetrieveLevel=STUDY"], "worklist has no"),
        ],
    )
    def test_wrong_usage_is_2_and_says_what_is_allowed(
        self, arguments: list[str], complaint: str
    ) -> None:
        command, *options = arguments
        result = CliRunner().invoke(main, [command, "127.0.0.1", "104", *options])
        assert result.exit_code == 2
        assert re.search(complaint, result.stderr.splitlines()[-1])
        assert NAME not in result.stderr


@pytest.mark.peer
class TestDcmqrscp:
    def test_studies(self, dcmqrscp: QueryServer) -> None:
        """With what is asked for when nothing is; a line each, for there is no terminal."""
        done = dimse("find", "127.0.0.1", dcmqrscp.port, "-aec", ARCHIVE, "-k", "PatientID=M1")
        assert (done.returncode, done.stderr) == (0, "")
        lines = sorted(line.split("\t") for line in done.stdout.splitlines())
        assert [(line[0], line[1], line[-1]) for line in lines] == [
            ("Matrix", "M1", uid) for uid in sorted(STUDIES)
        ]
        assert {line[2] for line in lines} == {"20240229"}

    @pytest.mark.parametrize("model", ["-P", "-S"])
    def test_images(self, dcmqrscp: QueryServer, model: str) -> None:
        keys = ["PatientID=M1"] if model == "-P" else []
        keys += [f"StudyInstanceUID={STUDY}", f"SeriesInstanceUID={STUDY}.1"]
        options = [each for key in keys for each in ("-k", key)]
        done = dimse(
            "find",
            *("127.0.0.1", dcmqrscp.port, "-aec", ARCHIVE, model, "-L", "IMAGE", "--csv"),
            *options,
        )
        header, *rows = csv.reader(done.stdout.splitlines())
        assert header == [*RETURN_KEYS["IMAGE"], *(key.split("=")[0] for key in keys)]
        assert sorted(row[2] for row in rows) == [f"{STUDY}.1.{number}" for number in (1, 2, 3)]

    def test_patient_study_only(self, dcmqrscp: QueryServer) -> None:
        done = dimse(
            *("find", "127.0.0.1", dcmqrscp.port, "-aec", ARCHIVE, "-O", "-L", "PATIENT"),
            *("-k", "PatientName=Mat*", "-k", "PatientID"),
        )
        assert done.stdout == "Matrix\tM1\n"

    def test_cancel(self, dcmqrscp: QueryServer) -> None:
        """No more than N are printed, whatever was on its way, and it is no failure."""
        done = dimse(
            *("find", "127.0.0.1", dcmqrscp.port, "-aec", ARCHIVE, "-L", "IMAGE", "--cancel", 4),
            *("-k", f"StudyInstanceUID={LONG_STUDY}", "-k", f"SeriesInstanceUID={LONG_STUDY}.1"),
            *("-k", "SOPInstanceUID"),
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert len(done.stdout.splitlines()) == 4

    def test_what_is_not_accepted_is_said(self, dcmqrscp: QueryServer) -> None:
        done = dimse(
            *("find", "127.0.0.1", dcmqrscp.port, "-aec", ARCHIVE, "-k", "StudyInstanceUID"),
            *("--relational", "--fuzzy", "--datetime", "--timezone"),
        )
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == len(STUDIES)
        peer = f"127.0.0.1:{dcmqrscp.port} ({ARCHIVE})"
        assert done.stderr.splitlines() == [
            f"{peer}: did not accept {what}; goes on without"
            for what in (
                "relational queries and retrievals (--relational)",
                "combined matching of dates and times (--datetime)",
                "fuzzy matching of person names (--fuzzy)",
                "adjustment of time zones (--timezone)",
            )
        ]


@pytest.mark.peer
class TestFind:
    @pytest.mark.parametrize(
        ("option", "model", "level"),
        [
            ("-P", PATIENT_ROOT.find, "PATIENT"),
            ("-S", STUDY_ROOT.find, "STUDY"),
            ("-O", PATIENT_STUDY_ONLY.find, "STUDY"),
            ("-W", MODALITY_WORKLIST.find, None),
        ],
    )
    def test_model_and_level(
        self, archive: Archive, option: str, model: str, level: str | None
    ) -> None:
        assert find(archive, option, "-k", "PatientID=1").returncode == 0
        assert archive.models == [model]
        assert archive.identifiers[0].get("QueryRetrieveLevel") == level

    def test_keys_reach_the_peer(self, archive: Archive, tmp_path: Path) -> None:
        """Of a file, and of -k in each of its forms, which wins."""
        file = tmp_path / "keys.json"
        file.write_text('{"00100020": {"vr": "LO", "Value": ["1"]}, "00081030": {"vr": "LO"}}')
        find(
            archive,
            *("-f", file, "-k", "PatientID=2", "-k", "0010,0010=Müll*", "-k", "(0008,0020)"),
            *("-k", "RequestAttributesSequence[0].RequestedProcedureID=R", "-L", "series"),
        )
        (asked,) = archive.identifiers
        assert (asked.PatientID, str(asked.PatientName)) == ("2", "Müll*")
        assert (asked.StudyDate, asked.StudyDescription) == ("", "")
        assert asked.RequestAttributesSequence[0].RequestedProcedureID == "R"
        assert asked.QueryRetrieveLevel == "SERIES"

    def test_lines_have_the_keys_in_their_order(self, archive: Archive) -> None:
        """Several values in one field, of several items too; what the peer lacks is empty."""
        items = [Dataset(), Dataset()]
        items[0].RequestedProcedureID, items[1].RequestedProcedureID = "R1", "R2"
        archive.matches = [
            study("1.2", ModalitiesInStudy=["CT", "SR"], RequestAttributesSequence=items)
        ]
        done = find(
            archive,
            *("-k", "ModalitiesInStudy", "-k", "PatientID", "-k", "PatientName"),
            *("-k", "RequestAttributesSequence[0].RequestedProcedureID"),
            *("-k", "RequestAttributesSequence[0].AccessionNumber"),
        )
        assert done.stdout == f"CT\\SR\t\t{NAME}\tR1; R2\t\n"

    def test_json_is_one_object_a_line(self, archive: Archive) -> None:
        """With all that came, whether it was asked for or not."""
        archive.matches = [study("1.2", SpecificCharacterSet="ISO_IR 192"), study("1.3")]
        archive.matches[0].PatientName = "Müller"
        done = find(archive, "--json", "-k", "StudyInstanceUID")
        first, second = (Dataset.from_json(line) for line in done.stdout.splitlines())
        assert (first.StudyInstanceUID, second.StudyInstanceUID) == ("1.2", "1.3")
        assert json.loads(done.stdout.splitlines()[0])["00100010"] == {
            "vr": "PN",
            "Value": [{"Alphabetic": "Müller"}],
        }

    def test_csv_quotes_and_has_a_header_without_matches(self, archive: Archive) -> None:
        options = ("--csv", "-k", "PatientName", "-k", f"{STEP}[0].Modality")
        assert find(archive, *options).stdout == f"PatientName,{STEP}[0].Modality\n"
        archive.matches = [study("1.2", PatientName='Com,ma^"Q"')]
        assert find(archive, *options).stdout.splitlines()[1] == '"Com,ma^""Q""",'

    def test_files(self, archive: Archive, tmp_path: Path) -> None:
        """One a match, for its owner alone, and never over another."""
        archive.matches = [study("1.2"), study("1.3")]
        folder = tmp_path / "matches" / "new"
        done = find(archive, "-od", folder)
        assert (done.returncode, done.stdout, done.stderr) == (0, "2 matches\n", "")
        files = sorted(folder.iterdir())
        assert [file.name for file in files] == ["rsp00001.dcm", "rsp00002.dcm"]
        assert [dcmread(file).StudyInstanceUID for file in files] == ["1.2", "1.3"]
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
        again = find(archive, "-od", folder, "-q")
        assert (again.returncode, again.stdout) == (1, "")
        assert again.stderr == f"Error: {files[0]}: File exists\n"

    def test_quiet_prints_the_matches_all_the_same(self, archive: Archive) -> None:
        archive.matches = [study("1.2")]
        assert find(archive, "-q", "-k", "StudyInstanceUID").stdout == "1.2\n"

    @pytest.mark.parametrize(
        ("options", "offered"),
        [
            (("--relational",), b"\1"),
            (("--datetime",), b"\0\1"),
            (("--fuzzy",), b"\0\0\1"),
            (("--timezone",), b"\0\0\0\1"),
            (("-W", "--fuzzy"), b"\1\1\1"),
            (("-W", "--timezone"), b"\1\1\0\1"),
        ],
    )
    def test_options_are_negotiated(
        self, archive: Archive, options: tuple[str, ...], offered: bytes
    ) -> None:
        """And nothing is said when the peer accepts them (PS3.4 C.5.1.1, K.5.1)."""
        archive.extended = offered
        done = find(archive, *options, "-k", "PatientID")
        assert (done.returncode, done.stderr) == (0, "")
        assert list(archive.offered.values()) == [offered]

    def test_nothing_is_negotiated_unless_asked_for(self, archive: Archive) -> None:
        find(archive, "-k", "PatientID")
        assert archive.offered == {}

    def test_keys_that_the_peer_did_not_match_are_told_of_once(self, archive: Archive) -> None:
        """Else who reads takes all that came for matches (FF01H, PS3.4 C.4.1.1.4)."""
        archive.matches, archive.pending = [study("1.2"), study("1.3")], 0xFF01
        done = find(archive, "-k", "StudyInstanceUID")
        assert (done.returncode, done.stdout) == (0, "1.2\n1.3\n")
        peer = f"127.0.0.1:{archive.port} (ANY-SCP)"
        assert done.stderr == f"{peer}: the peer did not match all keys (FF01H)\n"

    def test_elements_that_a_peer_refuses_have_their_keywords(self, archive: Archive) -> None:
        archive.refusal = Dataset()
        archive.refusal.Status, archive.refusal.OffendingElement = 0xA900, [0x00100020, 0x00090001]
        done = find(archive, "-k", "PatientID=1")
        assert done.returncode == 1
        assert done.stderr.endswith(" (0010,0020) PatientID (0009,0001)\n")

    def test_cancel_reaches_the_peer(self, archive: Archive) -> None:
        archive.matches, archive.hold = [study("1.2"), study("1.3")], True
        done = find(archive, "--cancel", 1, "-k", "StudyInstanceUID")
        assert archive.cancelled.wait(SECONDS)
        assert (done.returncode, done.stdout, done.stderr) == (0, "1.2\n", "")


@pytest.mark.peer
class TestHostileMatches:
    def test_match_does_not_steer_the_terminal(self, archive: Archive) -> None:
        archive.matches = [study("1.2", StudyDescription="\x1b[2J\ta\nb\x9b")]
        archive.matches[0].SpecificCharacterSet = "ISO_IR 100"
        for form in ([], ["--csv"]):
            done = find(archive, "-k", "StudyDescription", *form)
            assert done.stdout.splitlines()[-1] == "\\x1b[2J\\ta\\nb\\x9b"

    def test_value_that_is_none_of_its_vr(self, archive: Archive) -> None:
        """Shown as it came; JSON goes without it, and says so without the value."""
        match = study("1.2")
        match.add_new(0x00201208, "LO", "Secret")  # NumberOfStudyRelatedInstances, an IS
        archive.matches = [match]
        lines = find(archive, "-k", "NumberOfStudyRelatedInstances", "-k", "StudyInstanceUID")
        assert lines.stdout == "Secret\t1.2\n"
        done = find(archive, "--json", "-k", "NumberOfStudyRelatedInstances")
        assert "00201208" not in json.loads(done.stdout)
        assert json.loads(done.stdout)["0020000D"]["Value"] == ["1.2"]
        assert done.stderr == (
            "match 1: the value of NumberOfStudyRelatedInstances is not valid, and left out\n"
        )

    @pytest.mark.filterwarnings("ignore:Unknown encoding")  # of the peer, which is in this process
    def test_no_patient_data_on_stderr(self, archive: Archive) -> None:
        """Whatever is logged, and whatever pydicom makes of a name in no character set."""
        match = study("1.2")
        match.SpecificCharacterSet = "NONSENSE"
        archive.matches, archive.status = [match], 0xC001
        done = find(archive, "-d", "-k", f"PatientName={NAME}", "-k", "PatientID")
        assert done.returncode == 1
        assert "0xC001" in done.stderr
        assert "Secret" not in done.stderr
        assert NAME in done.stdout


@pytest.mark.peer
class TestFailures:
    def test_status_after_matches(self, archive: Archive) -> None:
        """What came before is printed."""
        archive.matches, archive.status = [study("1.2")], 0xA700
        done = find(archive, "-k", "StudyInstanceUID")
        assert (done.returncode, done.stdout) == (1, "1.2\n")
        assert done.stderr.startswith("Error: status 0xA700")

    def test_peer_that_is_not_there(self) -> None:
        done = dimse("find", "127.0.0.1", free_port(), "-k", "PatientID")
        assert (done.returncode, done.stdout) == (1, "")
        assert "no connection" in done.stderr

    def test_model_that_is_not_accepted(self, storescp: int) -> None:
        done = dimse("find", "127.0.0.1", storescp, "-k", "PatientID")
        assert done.returncode == 1
        assert STUDY_ROOT.find in done.stderr

    def test_folder_that_cannot_be(self, archive: Archive, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        done = find(archive, "-od", tmp_path / "file" / "folder")
        assert done.returncode == 1
        assert done.stderr == f"Error: folder {tmp_path / 'file' / 'folder'}: Not a directory\n"

    def test_interrupt_aborts(self, archive: Archive) -> None:
        archive.matches, archive.hold = [study("1.2")], True
        with start("find", "127.0.0.1", archive.port, "-k", "StudyInstanceUID") as process:
            assert archive.holding.wait(SECONDS)
            assert process.stdout is not None
            assert process.stdout.readline() == "1.2\n"
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=SECONDS)
        assert (process.returncode, stdout, stderr) == (130, "", "")


def on_a_terminal(*args: object) -> str:
    """What `dimse` prints to a terminal of 120 columns on stdout."""
    terminal, end = pty.openpty()
    with start(*args, stdout=end, stderr=end) as process:
        os.close(end)
        seen = b""
        try:
            while piece := os.read(terminal, 65536):
                seen += piece
        except OSError:  # Linux says the end of a terminal that way
            pass
        os.close(terminal)
        process.wait(SECONDS)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", seen.decode()).replace("\r\n", "\n")


@pytest.mark.peer
class TestTable:
    def test_table_has_titles_and_leaves_out_what_is_empty(
        self, archive: Archive, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And what looks like markup is shown as it is."""
        monkeypatch.setenv("COLUMNS", "120")
        archive.matches = [study("1.2", StudyDescription="[red]Head"), study("1.3.4")]
        shown = on_a_terminal("find", "127.0.0.1", archive.port)
        titles, *rows = shown.splitlines()
        assert " ".join(titles.split()) == "Patient's Name Study Description Study Instance UID"
        first, second, count = map(str.split, rows)
        assert first == [NAME, "[red]Head", "1.2"]
        assert second == [NAME, "1.3.4"]
        assert count == ["2", "matches"]

    def test_worklist(self, wlmscpfs: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Patient, time, modality, station, procedure; what is asked for besides is there too."""
        monkeypatch.setenv("COLUMNS", "200")
        shown = on_a_terminal(
            *("worklist", "127.0.0.1", wlmscpfs, "-aec", "WORKLIST", "--modality", "CT"),
            *("-k", "ReferringPhysicianName"),
        )
        titles, row, count = (re.split(" {2,}", line.strip()) for line in shown.splitlines())
        assert row == [
            *("Doe^Jane", "P1", "20240229", "0930", "CT", "ROOMCT", "CT of the head"),
            "Wilson^James",
        ]
        assert titles[0] == "Patient's Name"
        assert titles[2:4] == ["Start Date", "Start Time"]
        assert len(titles) == 8
        assert count == ["1 match"]


def worklist(port: int, *options: object) -> list[list[str]]:
    done = dimse("worklist", "127.0.0.1", port, "-aec", "WORKLIST", "--csv", *options)
    assert (done.returncode, done.stderr) == (0, "")
    header, *rows = csv.reader(done.stdout.splitlines())
    assert header[: len(RETURN_KEYS[""])] == list(RETURN_KEYS[""])
    return rows


@pytest.mark.peer
class TestWorklist:
    @pytest.mark.parametrize(
        ("options", "patients"),
        [
            ((), ["P1", "P2"]),
            (("--date", "20240229"), ["P1"]),
            (("--date", "20240301-20240331"), ["P2"]),
            (("--date", "20240201-20240331"), ["P1", "P2"]),
            (("--modality", "MR"), ["P2"]),
            (("--station", "ROOMCT"), ["P1"]),
            (("--patient-id", "P2"), ["P2"]),
            (("--patient-name", "Doe*"), ["P1"]),
            (("--modality", "CT", "--patient-id", "P2"), []),
            (("-k", f"{STEP}[0].Modality=MR"), ["P2"]),
            (("--date", "today"), []),
        ],
    )
    def test_options_against_dcmtk(
        self, wlmscpfs: int, options: tuple[str, ...], patients: list[str]
    ) -> None:
        assert sorted(row[1] for row in worklist(wlmscpfs, *options)) == patients

    def test_all_that_is_asked_for_comes(self, wlmscpfs: int) -> None:
        (row,) = worklist(wlmscpfs, "--patient-id", "P1")
        assert row == [
            *("Doe^Jane", "P1", "20240229", "0930", "CT", "ROOMCT", "CT of the head", "SP1"),
            *("19700101", "O", "AP1", "RP1", "CT head", "1.2.826.0.1.3680043.10.9.1"),
        ]

    def test_today_is_a_date(self, archive: Archive) -> None:
        before = date.today()
        dimse("worklist", "127.0.0.1", archive.port, "--date", "today")
        (step,) = archive.identifiers[0].ScheduledProcedureStepSequence
        days = {f"{day:%Y%m%d}" for day in (before, date.today())}
        assert step.ScheduledProcedureStepStartDate in days

    def test_find_with_the_worklist_model_is_the_same(self, wlmscpfs: int) -> None:
        options = ("127.0.0.1", wlmscpfs, "-aec", "WORKLIST")
        by_find = dimse("find", *options, "-W", "-k", f"{STEP}[0].Modality=CT")
        by_worklist = dimse("worklist", *options, "--modality", "CT")
        assert by_find.stdout == by_worklist.stdout != ""
