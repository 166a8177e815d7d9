"""The options that say who the user is (PS3.7 D.3.3.7), named as those of DCMTK."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from dimse.errors import MisuseError
from dimse.ul import identity
from dimse.ul.items import UserIdentityRQ

PASSWORD_VARIABLE = "DIMSE_PASSWORD"  # noqa: S105  its name
_LONGEST = 0xFFFF  # of a field (PS3.7 D.3.3.7.1)


def _file(*names: str, what: str) -> Any:
    return click.option(
        *names,
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
        help=f"{what} FILE; - is the standard input.",
    )


PARAMETERS = (
    click.option("-usr", "--user", metavar="NAME", help="Say who the user is."),
    click.option(
        "-pwd",
        "--password",
        metavar="PASSCODE",
        help="With the passcode; others on this machine can see it in the list of processes. "
        f"Unless given, it is taken from {PASSWORD_VARIABLE} of the environment.",
    ),
    _file("--password-file", what="With the passcode in the first line of"),
    click.option("--ask-password", is_flag=True, help="With a passcode that is asked for."),
    _file("-kt", "--kerberos", what="Say who the user is by the Kerberos service ticket in"),
    _file("--saml", what="Say who the user is by the SAML assertion in"),
    _file("--jwt", what="Say who the user is by the JSON Web Token in"),
    click.option(
        "-rsp",
        "--pos-response",
        "pos_response",
        is_flag=True,
        help="Ask the peer whether it has verified the user; -v tells.",
    ),
    click.option(
        "--allow-plain-identity",
        is_flag=True,
        help="Send a passcode, ticket, assertion or token without TLS, for everybody to read.",
    ),
)
"""The options; `user_identity` makes of them what an association sends."""

_PASSCODES = ("password", "password_file", "ask_password")
_NAMES = ("user", *_PASSCODES, "kerberos", "saml", "jwt")


def user_identity(given: dict[str, Any], *, encrypted: bool) -> UserIdentityRQ | None:
    """What to send; the options are taken out of `given`. Raises `click.UsageError`."""
    chosen = {name: given.pop(name) for name in _NAMES}
    response, allow_plain = given.pop("pos_response"), given.pop("allow_plain_identity")
    try:
        made = _made(chosen, response)
    except MisuseError as error:
        raise click.UsageError(str(error)) from error
    if made is None and response:
        raise click.UsageError("-rsp needs a user")
    if made is not None and identity.is_secret(made) and not (encrypted or allow_plain):
        raise click.UsageError(
            "a passcode, ticket, assertion or token would go out without TLS, for everybody to "
            "read (--allow-plain-identity)"
        )
    return made


def _made(chosen: Mapping[str, Any], response: bool) -> UserIdentityRQ | None:
    users = [name for name in ("user", *_OF_FILES) if chosen[name] is not None]
    if len(users) > 1:
        raise click.UsageError(f"--{users[0]} and --{users[1]} are two users: choose one")
    passcode = _passcode(chosen)
    if not users:
        if passcode is not None:
            raise click.UsageError("a passcode needs its user (-usr)")
        return None
    if users == ["user"]:
        if passcode is None:
            return identity.username(chosen["user"], response=response)
        return identity.username_and_passcode(chosen["user"], passcode, response=response)
    (kind,) = users
    return _OF_FILES[kind](_content(chosen[kind]), response)


_OF_FILES: Mapping[str, Callable[[bytes, bool], UserIdentityRQ]] = {
    "kerberos": lambda ticket, response: identity.kerberos(ticket, response=response),
    "saml": lambda assertion, response: identity.saml(assertion, response=response),
    "jwt": lambda token, response: identity.jwt(_text(token.strip()), response=response),
}
"""What is made of the content of a file, by the option that names it."""


def _passcode(chosen: Mapping[str, Any]) -> str | None:
    ways = [name for name in _PASSCODES if chosen[name] not in (None, False)]
    if len(ways) > 1:
        first, second = (f"--{name.replace('_', '-')}" for name in ways[:2])
        raise click.UsageError(f"{first} and {second} are two passcodes: choose one")
    if chosen["password_file"] is not None:
        return _text(_content(chosen["password_file"]).split(b"\n")[0].removesuffix(b"\r"))
    if chosen["ask_password"]:
        asked: str = click.prompt("Passcode", hide_input=True, err=True)
        return asked
    if chosen["password"] is None and chosen["user"] is not None:
        return os.environ.get(PASSWORD_VARIABLE)
    given: str | None = chosen["password"]
    return given


def _content(file: Path) -> bytes:
    """Of a file, or of the standard input; what is too long is not read to its end."""
    try:
        with click.open_file(str(file), "rb") as opened:
            content: bytes = opened.read(_LONGEST + 1)
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror or error}") from error
    return content


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise click.UsageError("a passcode or token is no UTF-8") from None
