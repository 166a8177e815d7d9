"""`dimse config`: whether a file is right, and what a peer may do by it."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dimse.cli.config import command
from tests.certificates import PKI

DOCUMENT = """\
[node]
ae_titles = ["ARCHIVE"]

[[peers]]
ae_title = "CT1"
addresses = ["10.1.0.0/16"]
services = ["echo", "store"]
bytes_per_day = "1 GiB"

[peers.scope]
Modality = ["CT", "MR"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "dimse.toml"
    file.write_text(DOCUMENT, "utf-8")
    return file


def run(*args: object) -> Result:
    return CliRunner().invoke(command, [*map(str, args)])


def test_explain_says_what_and_where_it_says_so(file: Path) -> None:
    done = run("explain", "--config", file, "--peer", "CT1")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[:5] == [
        "CT1 from 10.1.0.0",
        f"it is listed [{file}, line 5]",
        f"10.1.0.0 is of its own: 10.1.0.0/16 [{file}, line 6]",
        f"it calls one of ARCHIVE [{file}, line 2]",
        "admitted",
    ]
    assert f"store: yes, C-STORE [{file}, line 7]" in lines
    assert f"find: no, C-FIND [{file}, line 7]" in lines
    assert f"scope: Modality CT or MR [{file}, line 10]" in lines
    assert f"bytes_per_day: {2**30} [{file}, line 8]" in lines
    assert "sop_classes: all [peers.sop_classes has its default]" in lines


@pytest.mark.parametrize(
    ("args", "why", "rejection"),
    [
        (["--host", "10.2.0.1"], "10.2.0.1 is not of its own: 10.1.0.0/16", "RJ(1,1,3)"),
        (["--called", "OTHER"], "it does not call one of ARCHIVE", "RJ(1,1,7)"),
    ],
)
def test_explain_a_refusal(file: Path, args: list[str], why: str, rejection: str) -> None:
    done = run("explain", "--config", file, "--peer", "CT1", *args)
    assert done.exit_code == 1
    *_, step, last = done.output.splitlines()
    assert step.startswith(f"{why} [{file}, line ")
    assert last == f"refused: {rejection}"


def test_explain_without_a_file() -> None:
    assert run("explain", "--peer", "X").exit_code == 0
    done = run("explain", "--peer", "X", "--host", "192.0.2.1")
    assert done.exit_code == 1
    assert "unlisted is loopback [node.unlisted has its default]" in done.output


def test_check(file: Path) -> None:
    assert run("check", file).output == "1 peers; others: none\n"


def warnings(file: Path, more: str) -> list[str]:
    """What the check of a file with `more` in it warns of, as its lines say; it does not fail."""
    file.write_text(more, "utf-8")
    done = run("check", file)
    assert done.exit_code == 0, done.output
    return [line.removeprefix(f"{file}, line ") for line in done.stderr.splitlines()]


@pytest.mark.parametrize(
    "bound",
    [
        'host = "10.1.0.5"',
        'addresses = ["10.1.0.0/16"]',
        'certificate_names = ["CN:ct1"]',
        "services = []",
    ],
)
def test_check_says_nothing_of_peers_that_are_bound(file: Path, bound: str) -> None:
    assert warnings(file, f'[[peers]]\nae_title = "CT1"\n{bound}\n') == []


@pytest.mark.parametrize(
    "unbound",
    [
        "",
        'addresses = ["0.0.0.0/0"]',
        'addresses = ["10.1.0.5", "::/0"]',
        "encrypted = true",
        'services = ["store"]',
    ],
)
def test_check_warns_of_peers_that_are_known_by_their_title_alone(file: Path, unbound: str) -> None:
    assert warnings(file, f'[[peers]]\nae_title = "CT1"\n{unbound}\n') == [
        "2: warning: peer CT1 is known by its title alone: whoever knows the title can be it; "
        "give it addresses, or certificate_names"
    ]


def test_check_warns_of_peers_that_need_a_certificate_but_no_certain_one(
    file: Path, pki: PKI
) -> None:
    """Unless something listens without TLS, where they need none."""
    tls = f'[tls]\ncertificate = "{pki.node.path}"\nkey = "{pki.node.key_path}"\n'
    tls += f'ca = "{pki.ca.path}"\n'
    peer = '[[peers]]\nae_title = "CT1"\n'
    plain = '[[listeners]]\nendpoint = "tcp:104"\n[[listeners]]\nendpoint="tcp:2762"\ntls=true\n'
    for document, who in (
        (tls + peer, "whoever has a certificate of tls.ca"),
        (tls + plain + peer, "whoever knows the title"),
        (tls + plain + peer + "encrypted = true\n", "whoever has a certificate of tls.ca"),
        (tls + 'client_auth = "none"\n' + peer, "whoever knows the title"),
    ):
        *_, line = warnings(file, document)
        assert f"CT1 is known by its title alone: {who} can be it" in line


@pytest.mark.parametrize("names", [False, True])
def test_check_takes_a_user_for_who_a_peer_is_if_he_proves_it(file: Path, names: bool) -> None:
    passwords = file.parent / "passwords"
    passwords.touch(0o600)
    identity = f'[identity]\npasswords = "passwords"\nuser_names = {str(names).lower()}\n'
    peer, needed = '[[peers]]\nae_title = "CT1"\n', "required = true\n"
    for document in (identity + peer + 'identity = "required"\n', identity + needed + peer):
        said = warnings(file, document)
        assert [line.partition(": warning: ")[2][:11] for line in said] == (
            ["a user name", "peer CT1 is"] if names else []
        )


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ('[node]\nunlisted = "all"\n', "2: warning: peers that are not listed may do: all that"),
        ("[identity]\nallow_plain = true\n", "2: warning: passcodes and tokens may come without"),
        ("[identity]\nuser_names = true\n", "2: warning: a user name is believed without any"),
        (
            '[audit]\nsyslog = "udp://192.0.2.9"\n',
            "2: warning: audit records name patients, and go to udp://192.0.2.9:514 as everybody",
        ),
    ],
)
def test_check_warns_of_what_else_is_open(file: Path, document: str, said: str) -> None:
    (line,) = warnings(file, document)
    assert line.startswith(said)


def test_check_warns_of_tls_without_certificates(file: Path, pki: PKI) -> None:
    tls = f'[tls]\ncertificate = "{pki.node.path}"\nkey = "{pki.node.key_path}"\n'
    (line,) = warnings(file, f'{tls}client_auth = "none"\n[identity]\nallow_plain = true\n')
    assert line == "4: warning: whoever connects over TLS needs no certificate"


@pytest.mark.parametrize(
    "document",
    ["", '[audit]\nsyslog = "udp://localhost"\n', '[audit]\nsyslog = "udp://127.0.0.1"\n'],
)
def test_check_warns_of_nothing_else(file: Path, document: str) -> None:
    assert warnings(file, document) == []


def test_check_tells_of_names_that_do_not_resolve(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError("no such name")

    monkeypatch.setattr("dimse.cli.config.socket.getaddrinfo", fails)
    file.write_text(DOCUMENT.replace("10.1.0.0/16", "ct1.example"), "utf-8")
    done = run("check", file)
    assert done.exit_code == 1
    assert "ct1.example does not resolve" in done.output


def test_check_names_every_line_that_is_wrong(file: Path) -> None:
    file.write_text("[limits]\nidle = 0\nidel = 1\n", "utf-8")
    done = run("check", file)
    assert done.exit_code == 1
    assert f"{file}, line 2: limits.idle is 0" in done.output
    assert f"{file}, line 3: limits.idel is not known" in done.output


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ('[identity]\npasswords = "none-there"\n', "none-there: No such file"),
        ('[tls]\ncertificate = "none-there.pem"\nclient_auth = "none"\n', "none-there.pem"),
        (
            '[[peers]]\nae_title = "WS"\nidentity = "required"\n',
            "peer WS needs a verified user, and nobody is verified",
        ),
    ],
)
def test_check_tells_what_the_node_would_not_work_with(file: Path, more: str, why: str) -> None:
    """Files that are named are read, as at the start of the node."""
    listener = '\n[[listeners]]\nendpoint = "tcp:2762"\ntls = true\n' if "tls" in more else "\n"
    file.write_text(DOCUMENT + listener + more, "utf-8")
    done = run("check", file)
    assert done.exit_code == 1
    assert why in done.output


def test_check_says_each_thing_on_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "dimse.toml"
    file.write_text('[tls]\ncertificate = "gone.pem"\ncrl = "gone.crl"\n', "utf-8")
    done = run("check", file)
    assert done.exit_code == 1
    certificate, crl, client_auth = done.stderr.splitlines()
    assert certificate == f"{file}: {tmp_path}/gone.pem: No such file or directory"
    assert crl == f"{file}: {tmp_path}/gone.crl: No such file or directory"
    assert client_auth.startswith(f"{file}: client_auth 'require' needs ca")
