"""Who the user of an association is: a user identity of each type (PS3.7 D.3.3.7).

With `response` the peer is asked to answer; it does so only when it has verified the identity.
All but the user name are secrets, and nothing here encrypts them: that is for TLS to do.
"""

from enum import IntEnum

from dimse.errors import MisuseError
from dimse.ul.items import UserIdentityRQ


class IdentityType(IntEnum):
    """What a user identity is (PS3.7 D.3.3.7.1 Table D.3-14)."""

    USERNAME = 1
    USERNAME_AND_PASSCODE = 2
    KERBEROS_SERVICE_TICKET = 3
    SAML_ASSERTION = 4
    JSON_WEB_TOKEN = 5


def username(name: str, *, response: bool = False) -> UserIdentityRQ:
    """A user name; raises `MisuseError` for one that is empty or too long, as all here do."""
    return _identity(IdentityType.USERNAME, response, name)


def username_and_passcode(name: str, passcode: str, *, response: bool = False) -> UserIdentityRQ:
    """A user name and the passcode, in clear."""
    return _identity(IdentityType.USERNAME_AND_PASSCODE, response, name, passcode)


def kerberos(ticket: bytes, *, response: bool = False) -> UserIdentityRQ:
    """A Kerberos service ticket, encoded as RFC 1510 says; the response is a server ticket."""
    return _identity(IdentityType.KERBEROS_SERVICE_TICKET, response, ticket)


def saml(assertion: bytes | str, *, response: bool = False) -> UserIdentityRQ:
    """A SAML assertion; the response is a SAML response."""
    return _identity(IdentityType.SAML_ASSERTION, response, assertion)


def jwt(token: str, *, response: bool = False) -> UserIdentityRQ:
    """A JSON Web Token, its parts in base64url (RFC 7519)."""
    return _identity(IdentityType.JSON_WEB_TOKEN, response, token)


def is_secret(identity: UserIdentityRQ) -> bool:
    """Whether who reads it on the way can use it: all but a user name (PS3.15 B.5)."""
    return identity.identity_type != IdentityType.USERNAME


def _identity(kind: IdentityType, response: bool, *values: bytes | str) -> UserIdentityRQ:
    name = kind.name.lower().replace("_", " ")
    try:
        encoded = [each.encode() if isinstance(each, str) else bytes(each) for each in values]
    except UnicodeEncodeError:
        raise MisuseError(f"{name} that UTF-8 cannot carry (PS3.7 D.3.3.7)") from None
    if not all(encoded):
        raise MisuseError(f"{name} with an empty field (PS3.7 D.3.3.7)")
    primary, *secondary = encoded
    identity = UserIdentityRQ(kind, primary, b"".join(secondary), response)
    identity.encode()  # raises MisuseError for what is too long
    return identity
