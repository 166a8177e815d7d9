"""The options that say who the user is, and `dimse password`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from dimse.cli import identity
from dimse.cli.main import main
from dimse.security.passwords import read_passwords
from dimse.ul.items import UserIdentityRQ
from tests.cli.command import dimse
from tests.cli.recorder import Recorder

NOTHING: dict[str, Any] = {
    **dict.fromkeys(("user", "password", "password_file", "kerberos", "saml", "jwt")),
    **dict.fromkeys(("ask_password", "pos_response", "allow_plain_identity"), False),
}
COMMANDS = ("echo", "store", "find", "worklist", "get", "move", "commit", "mpps create")


def taken(*, encrypted: bool = True, **given: Any) -> UserIdentityRQ | None:
    return identity.user_identity(NOTHING | given, encrypted=encrypted)


class TestWhatIsSent:
    @pytest.fixture(autouse=True)
    def _no_passcode_in_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(identity.PASSWORD_VARIABLE, raising=False)

    def test_nothing(self) -> None:
        assert taken() is None

    def test_a_user_name(self) -> None:
        assert taken(user="anna", encrypted=False) == UserIdentityRQ(1, b"anna")

    def test_a_response_is_asked_for(self) -> None:
        assert taken(user="anna", pos_response=True) == UserIdentityRQ(1, b"anna", b"", True)

    def test_a_passcode(self) -> None:
        assert taken(user="anna", password="x") == UserIdentityRQ(2, b"anna", b"x")

    def test_a_passcode_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(identity.PASSWORD_VARIABLE, "from there")
        assert taken(user="anna") == UserIdentityRQ(2, b"anna", b"from there")
        assert taken(user="anna", password="x") == UserIdentityRQ(2, b"anna", b"x")
        assert taken() is None

    @pytest.mark.parametrize("content", [b"s\xc3\xa4", b"s\xc3\xa4\n", b"s\xc3\xa4\r\nmore\n"])
    def test_a_passcode_of_a_file(self, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "passcode"
        file.write_bytes(content)
        sent = taken(user="anna", password_file=file)
        assert sent == UserIdentityRQ(2, b"anna", "sä".encode())

    @pytest.mark.parametrize(("option", "kind"), [("kerberos", 3), ("saml", 4), ("jwt", 5)])
    def test_what_is_in_a_file(self, tmp_path: Path, option: str, kind: int) -> None:
        """As it is there; a token without its line end."""
        file = tmp_path / "file"
        file.write_bytes(b"a.b.c\n")
        content = b"a.b.c" if kind == 5 else b"a.b.c\n"
        given: Any = {option: file}
        assert taken(**given) == UserIdentityRQ(kind, content)

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["-usr", ""], "empty field"),
            (["-usr", "anna", "-pwd", ""], "empty field"),
            (["-pwd", "x"], "needs its user"),
            (["-rsp"], "-rsp needs a user"),
            (["--jwt", "nowhere"], "does not exist"),
            (["--saml", "FILE", "-kt", "FILE"], "two users"),
            (["-usr", "anna", "--jwt", "FILE"], "two users"),
            (["-usr", "anna", "-pwd", "x", "--ask-password"], "two passcodes"),
            (["-usr", "anna", "--password-file", "BINARY"], "no UTF-8"),
            (["--jwt", "BINARY"], "no UTF-8"),
            (["--jwt", "EMPTY"], "empty field"),
            (["--saml", "LONG"], "does not fit"),
        ],
    )
    def test_wrong_usage(self, tmp_path: Path, arguments: list[str], complaint: str) -> None:
        files = {"FILE": b"a.b.c", "BINARY": b"\xff\xff", "EMPTY": b"", "LONG": bytes(70000)}
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        given = [str(tmp_path / each) if each in files else each for each in arguments]
        result = CliRunner().invoke(main, ["echo", "localhost", "104", *given])
        assert result.exit_code == 2
        assert complaint in result.stderr.splitlines()[-1]

    @pytest.mark.parametrize("option", ["password", "kerberos", "saml", "jwt"])
    def test_h_t14_no_secret_without_tls(self, tmp_path: Path, option: str) -> None:
        """K31, from our side."""
        file = tmp_path / "file"
        file.write_bytes(b"a.b.c")
        value: Any = "x" if option == "password" else file
        user = {"user": "anna"} if option == "password" else {}
        with pytest.raises(click.UsageError, match="allow-plain-identity"):
            taken(**{option: value}, **user, encrypted=False)
        assert taken(**{option: value}, **user, encrypted=False, allow_plain_identity=True)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_that_associates_has_them(self, command: str) -> None:
        output = CliRunner().invoke(main, [*command.split(), "-h"]).output
        for option in ("-usr, --user", "-pwd, --password", "--jwt", "-rsp, --pos-response"):
            assert option in output

    def test_asked_for(self) -> None:
        arguments = ["echo", "localhost", "104", "-usr", "anna", "--ask-password"]
        result = CliRunner().invoke(main, arguments, input="x\n")
        assert "Passcode" in result.stderr
        assert "allow-plain-identity" in result.stderr


@contextmanager
def recording() -> Iterator[Recorder]:
    with Recorder().serving() as recorder:
        yield recorder


@pytest.mark.peer
class TestOverTheWire:
    def test_reaches_the_peer_and_verbose_tells(self) -> None:
        with recording() as recorder:
            done = dimse("echo", "127.0.0.1", recorder.port, "-usr", "anna", "-rsp", "-v")
            assert recorder.requestor.user_identity.primary_field == b"anna"
        assert done.returncode == 0
        assert "the peer does not say whether it verified the user" in done.stderr


class TestPassword:
    def test_new_and_changed(self, tmp_path: Path) -> None:
        file = tmp_path / "passwords"
        for passcode, said in (("one", "is new"), ("two", "has a new passcode")):
            result = CliRunner().invoke(main, ["password", str(file), "anna"], input=passcode)
            assert (result.exit_code, result.output) == (0, f"{file}: anna {said}\n")
            assert read_passwords(file)[b"anna"].matches(passcode.encode())

    @pytest.mark.parametrize(("user", "passcode"), [("anna", ""), ("", "x"), ("#", "x")])
    def test_wrong_usage(self, tmp_path: Path, user: str, passcode: str) -> None:
        file = tmp_path / "passwords"
        result = CliRunner().invoke(main, ["password", str(file), user], input=passcode)
        assert result.exit_code == 2
        assert not file.exists()

    def test_asked_for_twice_on_a_terminal(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("dimse.cli.password._at_a_terminal", lambda: True)
        file = tmp_path / "passwords"
        result = CliRunner().invoke(main, ["password", str(file), "anna"], input="x\nx\n")
        assert result.exit_code == 0
        assert read_passwords(file)[b"anna"].matches(b"x")
        assert os.stat(file).st_mode & 0o777 == 0o600
