"""The commands over TLS, each as a process of its own, to peers on 127.0.0.1."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dimse.cli.main import main
from dimse.security.passwords import Cost, write_password
from tests.archive.archives import data_set
from tests.certificates import PKI
from tests.cli.command import dimse, start
from tests.peers import SCRIPTS, Server, free_port, running


@contextmanager
def node(pki: PKI, storage: Path, *options: Any) -> Iterator[Server]:
    """`twistd dimse` over TLS: nothing else is heard, and who comes shows a certificate."""
    port = free_port()
    args: list[Any] = [SCRIPTS / "twistd", "--nodaemon", "--pidfile=", "dimse"]
    args += ["--tls-port", str(port), "--tls-cert", pki.node.path, "--tls-key", pki.node.key_path]
    args += ["--tls-ca", pki.ca.path, "--storage", storage, "--disk-reserve", "0", *options]
    with running(args, port) as server:
        yield server


@pytest.fixture(scope="module")
def here() -> int:
    """Where the commands listen."""
    return free_port()


@pytest.fixture(scope="module")
def server(pki: PKI, here: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A node that knows the peer HERE, over TLS as well."""
    folder = tmp_path_factory.mktemp("node")
    file = folder / "dimse.toml"
    file.write_text(
        f'[[peers]]\nae_title = "HERE"\nhost = "127.0.0.1"\nport = {here}\ntls = true\n', "utf-8"
    )
    with node(pki, folder / "store", "--allow-any", "--config", file) as server:
        yield server


@pytest.fixture
def tls(pki: PKI) -> list[Any]:
    return ["--tls-cert", pki.node.path, "--tls-key", pki.node.key_path, "--tls-ca", pki.ca.path]


def test_echo_says_what_was_agreed_on(server: Server, tls: list[Any]):
    done = dimse("echo", "-v", "127.0.0.1", server.port, *tls)
    assert done.returncode == 0, done.stderr
    assert "0x0000" in done.stdout
    assert "with TLS" in done.stderr
    assert "TLSv1.3, TLS_AES_256_GCM_SHA384" in done.stderr


def test_names_of_dcmtk(server: Server, pki: PKI):
    """Key and certificate in its order."""
    habits = ["+tls", pki.modality.key_path, pki.modality.path, "+cf", pki.ca.path]
    assert dimse("echo", "127.0.0.1", server.port, *habits).returncode == 0


def test_why_not(server: Server, pki: PKI, tls: list[Any]):
    """One line, and exit code 1."""
    for options, why in (
        (["--tls-ca", pki.ca.path], "no TLS: the peer wants to see a certificate of ours"),
        (["--tls"], "no TLS: the certificate CN=ca is signed by nobody that is trusted here"),
        ([*tls, "--tls-server-name", "other"], "no TLS: the certificate CN=node is not for other"),
    ):
        done = dimse("echo", "127.0.0.1", server.port, *options)
        assert done.returncode == 1
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"Error: 127.0.0.1:{server.port} (ANY-SCP): {why}")


def test_without_tls(server: Server):
    """The option is named that is missing."""
    done = dimse("echo", "127.0.0.1", server.port)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: 127.0.0.1:{server.port} (ANY-SCP): the connection closed")
    assert line.endswith(" (the peer may expect TLS: --tls)")


def test_a_port_that_says_nothing(pki: PKI):
    """As one without TLS does that waits for the rest of a strange PDU."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = dimse("echo", "127.0.0.1", silent.getsockname()[1], "--tls", "-ta", 0.2)
    assert done.stderr.endswith(" time-out of 0.2 s ran out for the TLS handshake (-ta)\n")


def test_unverified(server: Server, pki: PKI, tmp_path: Path):
    shown = ["--tls-cert", pki.modality.path, "--tls-key", pki.modality.key_path]
    unverified = [*shown, "--tls-insecure-unverified"]
    assert dimse("echo", "127.0.0.1", server.port, *unverified).returncode == 0


def test_store_move_here_and_commit(server: Server, here: int, tls: list[Any], tmp_path: Path):
    """Also what the node connects to is TLS: our own ports, while we wait."""
    instance = data_set("1.2.1.1")
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance.save_as(tmp_path / "one.dcm", enforce_file_format=True)
    peer = ["127.0.0.1", server.port, "-aet", "HERE", *tls]
    stored = dimse("store", *peer, tmp_path / "one.dcm")
    assert stored.returncode == 0, stored.stderr

    key = f"StudyInstanceUID={instance.StudyInstanceUID}"
    to = ["+P", here, "--store-tls", "-od", tmp_path / "moved"]
    moved = dimse("move", *peer, "-L", "STUDY", "-k", key, *to)
    assert moved.returncode == 0, moved.stderr
    assert len(list((tmp_path / "moved").iterdir())) == 1

    asked = start(
        "commit", *peer, "--listen", here, "--listen-tls", "--wait", 30, tmp_path / "one.dcm"
    )
    told, why = asked.communicate(timeout=60)
    assert asked.returncode == 0, why
    assert "1 committed" in told


def test_h_t14_a_passcode_over_tls_and_in_clear(pki: PKI, tls: list[Any], tmp_path: Path):
    """Over TLS node and command take it without a word (K31); in clear neither does, and the
    command only says it to a node that refuses it if it is told to. The audit trail has it all."""
    passwords, plain, audit = tmp_path / "passwords", free_port(), tmp_path / "audit.log"
    write_password(passwords, "anna", "s3cret", Cost(ln=4, r=1, p=1))
    options = ["--passwords", passwords, "--require-identity", "--audit", audit]
    options += ["--listen", f"tcp:{plain}:interface=127.0.0.1"]
    anna = ["-usr", "anna", "-pwd", "s3cret", "-rsp", "-v"]
    with node(pki, tmp_path / "store", *options) as server:
        over_tls = dimse("echo", "127.0.0.1", server.port, *tls, *anna)
        unsaid = dimse("echo", "127.0.0.1", plain, *anna)
        in_clear = dimse("echo", "127.0.0.1", plain, *anna, "--allow-plain-identity")
        log = server.log()
    assert over_tls.returncode == 0, over_tls.stderr
    assert "the peer has verified the user" in over_tls.stderr
    assert unsaid.returncode == 2
    assert "--allow-plain-identity" in unsaid.stderr
    assert in_clear.returncode == 1
    assert "result 1, source 2, reason 1" in in_clear.stderr
    assert "the user is anna" in log
    assert log.count("its user identity is refused: a secret came without TLS") == 1
    records = audit.read_text("utf-8")
    logins = [line for line in records.splitlines() if "User Authentication" in line]
    outcomes = [re.findall('EventOutcomeIndicator="([0-9]+)"', line) for line in logins]
    assert outcomes == [["0"], ["8"]]
    assert "s3cret" not in log + records


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["echo", "h", "1", "--tls-cert", "{tmp}/gone.pem"], "does not exist"),
        (["echo", "h", "1", "--tls-key", "{key}"], "has no certificate"),
        (["echo", "h", "1", "--tls-cert", "{key}"], "no certificate in PEM"),
        (["echo", "h", "1", "--tls-profile", "B.9"], "is not one of"),
        (
            ["echo", "h", "1", "+tls", "{key}", "{cert}", "--tls-key", "{key}"],
            "one of the two ways",
        ),
        (["move", "h", "1", "-aem", "A", "-k", "StudyInstanceUID=1", "--store-tls"], "store-port"),
        (["move", "h", "1", "+P", "1", "-k", "StudyInstanceUID=1", "--store-tls"], "--tls-cert"),
        (["commit", "h", "1", "--uid", "1.2:1.3", "--listen-tls"], "for --listen"),
        (["commit", "h", "1", "--uid", "1.2:1.3", "--listen-tls", "--listen", "1"], "--tls-cert"),
    ],
)
def test_wrong_usage(pki: PKI, tmp_path: Path, args: list[str], said: str):
    """Before anything is connected to."""
    names = {"tmp": tmp_path, "key": pki.node.key_path, "cert": pki.node.path}
    shown = CliRunner().invoke(main, [each.format(**names) for each in args])
    assert shown.exit_code in (1, 2)
    assert said in " ".join(shown.output.split())
