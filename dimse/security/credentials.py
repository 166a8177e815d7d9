"""A user identity as credentials of `twisted.cred`, one kind for each type (PS3.7 D.3.3.7.1).

A checker for one of them lists its interface in `credentialInterfaces`: those here, and
`IUsernamePassword` of `twisted.cred.credentials`.
"""

from dataclasses import dataclass, field
from hmac import compare_digest

from twisted.cred.credentials import ICredentials, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from zope.interface import Attribute, implementer

from dimse.ul.identity import IdentityType
from dimse.ul.items import UserIdentityRQ

LONGEST_NAME = 256
"""Bytes of a user name in UTF-8; the field carries 64 KiB, and nobody is called so."""

LONGEST_PASSCODE = 1024
"""Bytes of a passcode in UTF-8."""


class IUserName(ICredentials):
    """A user name without a passcode (type 1): it proves nothing."""

    username: bytes = Attribute("The name, printable and in UTF-8.")


class IKerberosTicket(ICredentials):
    """A Kerberos service ticket (type 3)."""

    ticket: bytes = Attribute("The ticket as it came, in the encoding of RFC 1510.")


class ISAMLAssertion(ICredentials):
    """A SAML assertion (type 4)."""

    assertion: bytes = Attribute("The XML as it came, not parsed by anybody.")


class IJSONWebToken(ICredentials):
    """A JSON Web Token (type 5)."""

    token: bytes = Attribute("The token as it came, nothing but ASCII.")


@implementer(IUserName)
@dataclass(frozen=True)
class UserName:
    """A user name alone."""

    username: bytes


class UserNameAndPasscode(UsernamePassword):
    """`IUsernamePassword` (type 2), whose comparison takes the same time whatever differs."""

    def checkPassword(self, password: bytes) -> bool:
        """Whether it is that one."""
        return compare_digest(self.password, password)


@implementer(IKerberosTicket)
@dataclass(frozen=True)
class KerberosTicket:
    """A ticket, which a repr does not show."""

    ticket: bytes = field(repr=False)


@implementer(ISAMLAssertion)
@dataclass(frozen=True)
class SAMLAssertion:
    """An assertion, which a repr does not show."""

    assertion: bytes = field(repr=False)


@implementer(IJSONWebToken)
@dataclass(frozen=True)
class JSONWebToken:
    """A token, which a repr does not show."""

    token: bytes = field(repr=False)


class RefusedIdentity(UnauthorizedLogin):
    """An identity is not good; `why` is for the log, and has nothing of the identity in it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def credentials_of(identity: UserIdentityRQ) -> ICredentials | None:
    """What a checker is given; None for what is malformed, or of no type that there is.

    Malformed are an empty field, a passcode of another type than 2, a name or passcode that is
    too long, no UTF-8, or has NUL in it, a name that is not printable, and a token that is no
    ASCII.
    """
    primary, secondary = identity.primary, identity.secondary
    if identity.identity_type == IdentityType.USERNAME_AND_PASSCODE:
        well_formed = is_name(_text(primary)) and is_passcode(_text(secondary))
        return UserNameAndPasscode(primary, secondary) if well_formed else None
    if secondary or not primary:
        return None
    match identity.identity_type:
        case IdentityType.USERNAME:
            return UserName(primary) if is_name(_text(primary)) else None
        case IdentityType.KERBEROS_SERVICE_TICKET:
            return KerberosTicket(primary)
        case IdentityType.SAML_ASSERTION:
            return SAMLAssertion(primary)
        case IdentityType.JSON_WEB_TOKEN:
            return JSONWebToken(primary) if primary.isascii() else None
    return None


def claimed_name(identity: UserIdentityRQ | None) -> str:
    """Who somebody says he is; "" for what is a secret as a whole, and for none."""
    named = (IdentityType.USERNAME, IdentityType.USERNAME_AND_PASSCODE)
    if identity is None or identity.identity_type not in named:
        return ""
    return identity.primary.decode(errors="backslashreplace")


def is_name(name: object) -> bool:
    """Whether somebody can be called so: printable, and short enough for a log."""
    return (
        isinstance(name, str)
        and 0 < len(name.encode(errors="replace")) <= LONGEST_NAME
        and name == name.strip()
        and name.isprintable()
    )


def is_passcode(passcode: str) -> bool:
    """Whether it can be one."""
    return 0 < len(passcode.encode(errors="replace")) <= LONGEST_PASSCODE and "\0" not in passcode


def _text(value: bytes) -> str:
    """Empty for what is no UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return ""
