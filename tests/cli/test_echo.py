"""`dimse`, its options, and `dimse echo`."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import closing

import pytest
from click.testing import CliRunner

from dimse.cli.main import main
from tests.cli.command import ROOT, SECONDS, dimse, start
from tests.cli.recorder import Recorder
from tests.peers import free_port, running, tool

ABORT_BY_USER = bytes.fromhex("07 00 00000004 0000 00 00")  # PS3.8 9.3.8

COMMANDS = ("echo", "store", "find", "worklist", "get", "move")


class TestUsage:
    def test_help_lists_the_commands_and_imports_none(self) -> None:
        """What makes a start slow: a reactor, pydicom, rich."""
        code = (
            "import sys; from dimse.cli.main import main; "
            "main(['--help'], standalone_mode=False); print('loaded', *sys.modules)"
        )
        shown = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        usage, loaded = shown.split("loaded", 1)
        assert re.search(r"^  echo .*C-ECHO", usage, re.MULTILINE)
        assert re.search(r"^  store .*C-STORE", usage, re.MULTILINE)
        assert re.search(r"^  find .*C-FIND", usage, re.MULTILINE)
        assert re.search(r"^  worklist .*Worklist", usage, re.MULTILINE)
        assert re.search(r"^  get .*C-GET", usage, re.MULTILINE)
        assert re.search(r"^  move .*C-MOVE", usage, re.MULTILINE)
        roots = {name.partition(".")[0] for name in loaded.split()}
        assert not roots & {"twisted", "pydicom", "rich"}

    @pytest.mark.parametrize("before", [[], *([command] for command in COMMANDS)])
    def test_version_is_that_of_the_package(self, before: list[str]) -> None:
        setup = ConfigParser()
        setup.read(ROOT / "setup.cfg")
        shown = CliRunner().invoke(main, [*before, "--version"])
        assert shown.output == f"dimse {setup['metadata']['version']}\n"

    @pytest.mark.parametrize("command", COMMANDS)
    @pytest.mark.parametrize(
        "option",
        [
            "-aet, --calling-aet",
            "-aec, --called-aet",
            "-ta, --acse-timeout",
            "-td, --dimse-timeout",
            "-tn, --network-timeout",
            "-pdu, --max-pdu",
            "-q, --quiet",
            "-v, --verbose",
            "-d, --debug",
        ],
    )
    def test_help_names_options_as_the_field_does(self, command: str, option: str) -> None:
        assert option in CliRunner().invoke(main, [command, "-h"]).output

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["ecko"], "No such command"),
            (["echo"], "HOST"),
            (["echo", "localhost"], "PORT"),
            (["echo", "localhost", "0"], "PORT"),
            (["echo", "localhost", "65536"], "PORT"),
            (["echo", "localhost", "dicom"], "PORT"),
            (["echo", "localhost", "104", "-aet", "SEVENTEEN LETTERS"], "-aet"),
            (["echo", "localhost", "104", "-aec", "BACK\\SLASH"], "-aec"),
            (["echo", "localhost", "104", "-aec", ""], "-aec"),
            (["echo", "localhost", "104", "-ta", "0"], "-ta"),
            (["echo", "localhost", "104", "-ta", "inf"], "-ta"),
            (["echo", "localhost", "104", "-td", "nan"], "response"),
            (["echo", "localhost", "104", "-tn", "soon"], "-tn"),
            (["echo", "localhost", "104", "-pdu", "4095"], "-pdu"),
            (["echo", "localhost", "104", "-pdu", str(2**32)], "-pdu"),
            (["echo", "localhost", "104", "--repeat", "0"], "--repeat"),
        ],
    )
    def test_wrong_usage_is_2_and_says_what_is_wrong(
        self, arguments: list[str], complaint: str
    ) -> None:
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2
        assert complaint in result.stderr.splitlines()[-1]


@pytest.mark.peer
class TestEcho:
    def test_against_dcmtk(self, storescp: int) -> None:
        done = dimse("echo", "127.0.0.1", storescp)
        status = r"0x0000 \(Communication verified\)"
        line = rf"C-ECHO 127\.0\.0\.1:{storescp} \(ANY-SCP\): {status} in [0-9.]+ ms\n"
        assert re.fullmatch(line, done.stdout)
        assert (done.returncode, done.stderr) == (0, "")

    def test_quiet_says_nothing(self, storescp: int) -> None:
        done = dimse("echo", "127.0.0.1", storescp, "-q")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_repeat_asks_again_in_one_association(self, recorder: Recorder) -> None:
        done = dimse("echo", "127.0.0.1", recorder.port, "--repeat", 3)
        assert recorder.ending() == "released"
        assert recorder.asked == [("EVT_C_ECHO", None)] * 3
        assert done.stdout.count("verified") == 3

    def test_abort_aborts(self, recorder: Recorder) -> None:
        done = dimse("echo", "127.0.0.1", recorder.port, "--abort")
        assert recorder.ending() == "aborted"
        assert (done.returncode, done.stderr) == (0, "")

    def test_options_reach_the_peer(self, recorder: Recorder) -> None:
        options = ("-aet", "MODALITY 1", "-aec", "ARCHIVE", "-pdu", 65536)
        done = dimse("echo", "127.0.0.1", recorder.port, *options)
        assert done.returncode == 0
        asked = recorder.requestor
        assert asked.ae_title == "MODALITY 1"
        assert asked.primitive.called_ae_title == "ARCHIVE"
        assert asked.maximum_length == 65536

    def test_ae_titles_unless_given(self, recorder: Recorder) -> None:
        dimse("echo", "127.0.0.1", recorder.port)
        assert recorder.requestor.ae_title == "DIMSE"
        assert recorder.requestor.primitive.called_ae_title == "ANY-SCP"

    def test_ipv6(self) -> None:
        with Recorder().serving("::1") as recorder:
            done = dimse("echo", "::1", recorder.port)
        assert done.stdout.startswith(f"C-ECHO [::1]:{recorder.port} (ANY-SCP): 0x0000")

    def test_verbose_tells_of_the_association(self, storescp: int) -> None:
        done = dimse("echo", "127.0.0.1", storescp, "-v", "-aec", "ARCHIVE")
        assert done.stderr.splitlines() == [
            f"connecting to 127.0.0.1:{storescp}",
            f"associated with ARCHIVE@127.0.0.1:{storescp}",
            "context 1: Verification SOP Class, Explicit VR Little Endian",
            "the association was released",
        ]

    def test_debug_shows_the_log_of_twisted_too(self, storescp: int) -> None:
        done = dimse("echo", "127.0.0.1", storescp, "-d")
        assert "context 1: Verification" in done.stderr
        assert "[twisted.internet" in done.stderr
        assert done.stdout.startswith("C-ECHO")


@pytest.fixture
def full() -> Iterator[int]:
    """A port that takes no more connections: Linux does not answer their SYN."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as listening,
        closing(socket.create_connection(listening.getsockname())),
    ):
        yield listening.getsockname()[1]


@pytest.mark.peer
class TestFailures:
    def test_refused_connection(self) -> None:
        port = free_port()
        done = dimse("echo", "127.0.0.1", port)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(
            rf"Error: 127\.0\.0\.1:{port} \(ANY-SCP\): no connection .*refused.*\n", done.stderr
        )

    @pytest.mark.parametrize("host", ["a..b", "x" * 300])
    def test_impossible_host_name(self, host: str) -> None:
        done = dimse("echo", host, 104)
        assert done.returncode == 1
        assert re.fullmatch(
            rf"Error: {re.escape(host)}:104 \(ANY-SCP\): no connection .*\n", done.stderr
        )

    def test_rejection_by_dcmtk(self) -> None:
        port = free_port()
        with running([tool("storescp"), "--refuse", str(port)], port):
            done = dimse("echo", "127.0.0.1", port)
        assert done.returncode == 1
        assert re.fullmatch(
            r"Error: 127.* \(ANY-SCP\): association rejected: .*result 1, source 1, reason 1.*\n",
            done.stderr,
        )

    def test_rejection_of_the_called_ae_title(self) -> None:
        with Recorder().serving(ae_title="ARCHIVE") as recorder:
            done = dimse("echo", "127.0.0.1", recorder.port, "-aec", "OTHER")
            assert dimse("echo", "127.0.0.1", recorder.port, "-aec", "ARCHIVE").returncode == 0
        assert done.returncode == 1
        assert "called AE title not recognized" in done.stderr
        assert "result 1, source 1, reason 7" in done.stderr

    def test_status(self, recorder: Recorder) -> None:
        recorder.status = 0x0122
        done = dimse("echo", "127.0.0.1", recorder.port)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"Error: status 0x0122: .*\n", done.stderr)
        assert recorder.ending() == "aborted"

    def test_association_time_out(self, silent: socket.socket) -> None:
        done = dimse("echo", "127.0.0.1", silent.getsockname()[1], "-ta", 0.2)
        assert done.returncode == 1
        assert done.stderr.endswith(" (ANY-SCP): the associate time-out of 0.2 s ran out (-ta)\n")

    def test_response_time_out(self, recorder: Recorder) -> None:
        recorder.hold = True
        done = dimse("echo", "127.0.0.1", recorder.port, "-td", 0.2)
        assert done.returncode == 1
        peer = f"127.0.0.1:{recorder.port} (ANY-SCP)"
        assert (
            done.stderr
            == f"Error: {peer}: the response time-out of 0.2 s ran out for C-ECHO-RQ (-td)\n"
        )

    def test_connect_time_out(self, full: int) -> None:
        done = dimse("echo", "127.0.0.1", full, "-tn", 0.2)
        assert done.returncode == 1
        assert done.stderr.endswith(" (ANY-SCP): the connect time-out of 0.2 s ran out (-tn)\n")

    def test_results_that_nobody_reads(self, storescp: int) -> None:
        """As in `dimse echo ... | head -1`."""
        reader, writer = os.pipe()
        os.close(reader)
        with start("echo", "127.0.0.1", storescp, stdout=writer) as process:
            os.close(writer)
            _, stderr = process.communicate(timeout=SECONDS)
        assert (process.returncode, stderr) == (1, "")

    def test_interrupt_aborts(self, silent: socket.socket) -> None:
        """Ctrl-C while the peer thinks: the request is aborted, and nothing is said."""
        with start("echo", "127.0.0.1", silent.getsockname()[1]) as process:
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(4096)[0] == 1  # A-ASSOCIATE-RQ
                process.send_signal(signal.SIGINT)
                assert connection.recv(4096) == ABORT_BY_USER
            stdout, stderr = process.communicate(timeout=SECONDS)
        assert (process.returncode, stdout, stderr) == (130, "", "")

    def test_interrupt_while_connecting(self, full: int) -> None:
        with start("echo", "127.0.0.1", full, "-v") as process:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("connecting")
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=SECONDS)
        assert (process.returncode, stderr) == (130, "")
