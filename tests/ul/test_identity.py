"""User identities of the five types, and that they keep their secrets (PS3.7 D.3.3.7)."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from dimse.errors import MisuseError
from dimse.ul.identity import (
    IdentityType,
    jwt,
    kerberos,
    saml,
    username,
    username_and_passcode,
)
from dimse.ul.items import UserIdentityRQ
from tests.tables import Row, rows

SECRET = "s\u00e9same"
IDENTITIES = {
    1: username(SECRET),
    2: username_and_passcode("user", SECRET),
    3: kerberos(SECRET.encode()),
    4: saml(SECRET),
    5: jwt(SECRET),
}
ONE_VALUE: list[Callable[..., UserIdentityRQ]] = [username, saml, jwt]


@pytest.mark.parametrize("row", rows("user_identity_types"), ids=lambda row: row["value"])
def test_type(row: Row):
    """Its value and name; only the one with a passcode has a secondary field."""
    value = int(row["value"])
    identity = IDENTITIES[value]
    assert identity.identity_type == value
    name = re.sub(r" \(.*\)", "", row["name"]).upper().replace(" ", "_")
    assert IdentityType(value).name == name
    assert (identity.secondary == b"") == row["secondary_field"].startswith("none")


def test_no_other_type():
    assert {int(row["value"]) for row in rows("user_identity_types")} == set(IdentityType)


def test_fields_are_in_utf_8():
    identity = username_and_passcode("J\u00f6rg", "\u30d1\u30b9")
    assert (identity.primary, identity.secondary) == (b"J\xc3\xb6rg", b"\xe3\x83\x91\xe3\x82\xb9")


def test_bytes_stay_as_they_are():
    assert kerberos(b"\0\xff").primary == saml(b"\0\xff").primary == b"\0\xff"


@pytest.mark.parametrize("identity", IDENTITIES.values(), ids=lambda each: each.identity_type)
def test_no_response_unless_asked_for(identity: UserIdentityRQ):
    assert identity.response_requested is False
    assert identity.encode()[5] == 0


@pytest.mark.parametrize(
    "identity",
    [
        username("u", response=True),
        username_and_passcode("u", "p", response=True),
        kerberos(b"t", response=True),
        saml("a", response=True),
        jwt("t", response=True),
    ],
    ids=lambda each: each.identity_type,
)
def test_response_asked_for(identity: UserIdentityRQ):
    assert identity.encode()[5] == 1


@pytest.mark.parametrize("identity", IDENTITIES.values(), ids=lambda each: each.identity_type)
def test_nothing_secret_in_a_repr(identity: UserIdentityRQ):
    for text in (repr(identity), str(identity), f"{identity}", repr([identity])):
        assert "same" not in text


@pytest.mark.parametrize("kind", ONE_VALUE)
@pytest.mark.parametrize("value", ["", "x" * 65536, "x" * 65530, "secret\ud800"])
def test_what_does_not_fit(kind: Callable[..., UserIdentityRQ], value: str):
    """65530 bytes and the 6 of the other fields are one more than an item holds."""
    with pytest.raises(MisuseError) as caught:
        kind(value)
    assert "secret" not in str(caught.value)
    assert "xxx" not in str(caught.value)


def test_longest():
    assert len(username("x" * 65529).encode()) == 4 + 65535


@pytest.mark.parametrize(
    "fields", [("", "p"), ("u", ""), ("u", "x" * 65536), ("x" * 40000, "x" * 40000)]
)
def test_name_and_passcode_that_do_not_fit(fields: Any):
    with pytest.raises(MisuseError):
        username_and_passcode(*fields)


def test_empty_ticket():
    with pytest.raises(MisuseError):
        kerberos(b"")
