"""Who the user of an association is, verified by `twisted.cred` (PS3.7 D.3.3.7, PS3.15 B.4-B.7)."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.cred.error import LoginFailed, Unauthorized, UnhandledCredentials
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import Attribute, Interface, implementer

from dimse.admission import Admission, Admit, Requesting
from dimse.errors import AssociationRejectedError, RejectResult, RejectSource
from dimse.performing import escaped
from dimse.security.addresses import counted_as
from dimse.security.attempts import Failures
from dimse.security.credentials import (
    IUserName,
    RefusedIdentity,
    claimed_name,
    credentials_of,
)
from dimse.security.trail import AuditTrail
from dimse.ul.identity import is_secret
from dimse.ul.items import UserIdentityRQ

DELAY = 1.0
"""Seconds from the request to a rejection, whatever is wrong and however soon that is known."""

FAILURES = 10
"""Of one address within a minute, then its identities are not looked at for a while."""

_NO_REASON_GIVEN, _TEMPORARY_CONGESTION = 1, 1  # PS3.8 9.3.4, sources 2 and 3


class IVerifiedUser(Interface):
    """What the realm of a `Portal` gives for a user: the avatar."""

    name: str = Attribute("Who it is, for decisions about access and for the audit trail.")
    response: bytes = Attribute(
        "The server response (PS3.7 Table D.3-15): empty for a user name, with passcode or "
        "without, a server ticket for Kerberos, a SAML response for SAML."
    )


@implementer(IVerifiedUser)
@dataclass(frozen=True, slots=True)
class VerifiedUser:
    """Who a user is, and the server response.

    A checker may give it as avatar ID where there is a response; else the name does.
    """

    name: str
    response: bytes = field(default=b"", repr=False)  # it may be a ticket


@implementer(IRealm)
class _Users:
    """The realm of a portal that is made of checkers alone."""

    def requestAvatar(
        self, avatarId: Any, mind: object, *interfaces: type[Interface]
    ) -> tuple[type[Interface], object, Callable[[], None]]:
        """The user itself."""
        name = avatarId.decode() if isinstance(avatarId, bytes) else avatarId
        user = name if isinstance(name, VerifiedUser) else VerifiedUser(name)
        return IVerifiedUser, user, lambda: None


@implementer(ICredentialsChecker)
class UserNames:
    """Believes every user name that comes without a passcode, as PS3.15 B.4 allows."""

    credentialInterfaces = (IUserName,)

    def requestAvatarId(self, credentials: Any) -> "Deferred[bytes | tuple[()]]":
        """Fires with the name."""
        return succeed(credentials.username)


def identity_refused() -> AssociationRejectedError:
    """The rejection (1, 2, 1) for whatever is wrong with a user identity, or for none.

    PS3.7 D.3.3.7.3 has the result and the source; the reason is ours.
    """
    return AssociationRejectedError(
        RejectResult.PERMANENT, RejectSource.SERVICE_PROVIDER_ACSE, _NO_REASON_GIVEN
    )


Admissions = Callable[[Requesting, Any], Any]
"""As `Admit`, with the verified user, or None, as second argument."""


class Identification:
    """Verifies the user identity of those who request an association.

    `portal` is a `twisted.cred.portal.Portal` whose realm gives avatars for `IVerifiedUser`, and
    whose mind is the `Requesting`; or checkers, of which a portal is made. An identity that none
    of its checkers takes is ignored, unless one is `required`. One that is a secret is refused
    when it did not come over TLS, from wherever, unless `allow_plain` says otherwise.

    Every rejection comes `delay` seconds after the request. An address is heard once at a time;
    after `failures` within a minute it is rejected as transient (2, 3, 1), unheard. `audit` is told
    who was verified, and who was not, by the name that he gives himself.
    """

    log = Logger()

    def __init__(
        self,
        portal: Portal | Iterable[ICredentialsChecker],
        *,
        clock: IReactorTime,
        required: bool = False,
        allow_plain: bool = False,
        failures: int = FAILURES,
        delay: float = DELAY,
        audit: AuditTrail | None = None,
    ) -> None:
        self._portal = portal if isinstance(portal, Portal) else Portal(_Users(), portal)
        self._clock = clock
        self._required = required
        self._allow_plain = allow_plain
        self._failures = Failures(failures, clock)
        self._delay = delay
        self._audit = audit
        self._turns: dict[str, DeferredLock] = {}

    def identify(self, requesting: Requesting) -> "Deferred[Any]":
        """Fires with who it is, an `IVerifiedUser`; with None where nobody says it.

        Fails with `AssociationRejectedError`: (1, 2, 1) for an identity that is malformed, wrong,
        or required and absent, (2, 3, 1) for an address that failed too often.
        """
        return Deferred.fromCoroutine(self._slowly(requesting, lambda _, user: user))

    def admit(self, admissions: Admissions = lambda *_: None) -> Admit:
        """An `admit` for `listen`, which asks `admissions` about those who are identified.

        It takes the `Requesting` and the user, or None, and returns and raises what an `admit`
        does. What it rejects is rejected after the `delay`, too.
        """

        async def admitted(requesting: Requesting, user: Any) -> Admission | None:
            admission: Admission | None = await maybeDeferred(admissions, requesting, user)
            if user is None:
                return admission
            given = {"identity_response": user.response, "user": user.name}
            return replace(admission or Admission(), **given)

        return lambda requesting: self._slowly(requesting, admitted)

    async def _slowly(self, requesting: Requesting, then: Admissions) -> Any:
        begun = self._clock.seconds()
        try:
            return await maybeDeferred(then, requesting, await self._verified(requesting))
        except AssociationRejectedError:
            left = begun + self._delay - self._clock.seconds()
            await deferLater(self._clock, max(left, 0))
            raise

    async def _verified(self, requesting: Requesting) -> Any:
        identity = requesting.user_identity
        if identity is None:
            if self._required:
                raise self._refused(requesting, "none was given, and one is required")
            return None
        if is_secret(identity) and not (requesting.encrypted or self._allow_plain):
            raise self._refused(requesting, "a secret came without TLS")
        async with self._turn(counted_as(requesting.host)):
            return await self._heard(requesting, identity)

    async def _heard(self, requesting: Requesting, identity: UserIdentityRQ) -> Any:
        if self._failures.too_many(requesting.host):
            self._say(requesting, "there were too many wrong ones")
            raise AssociationRejectedError(
                RejectResult.TRANSIENT,
                RejectSource.SERVICE_PROVIDER_PRESENTATION,
                _TEMPORARY_CONGESTION,
            )
        try:
            user = await self._login(requesting, credentials_of(identity))
        except UnhandledCredentials:
            if self._required:
                raise self._refused(requesting, "nobody here verifies its type") from None
            return None
        except (Unauthorized, LoginFailed) as error:
            self._failures.add(requesting.host)
            # The text of any other checker may be about whom it concerns.
            why = (
                f"it is wrong: {error.why}" if isinstance(error, RefusedIdentity) else "it is wrong"
            )
            raise self._refused(requesting, why) from None
        except CancelledError:  # whoever goes before he knows has tried all the same
            self._failures.add(requesting.host)
            self._say(requesting, "nobody waited for the answer")
            raise
        except Exception:
            self._say(requesting, "it could not be verified")
            raise
        self.log.info("{peer}: the user is {name}", peer=requesting.peer, name=escaped(user.name))
        if self._audit is not None:
            self._audit.authenticated(requesting, user.name)
        return user

    async def _login(self, requesting: Requesting, credentials: ICredentials | None) -> Any:
        if credentials is None:
            raise Unauthorized
        _, user, logout = await self._portal.login(credentials, requesting, IVerifiedUser)
        logout()  # who it is was all that is asked: no session is kept
        return user

    def _refused(self, requesting: Requesting, why: str) -> AssociationRejectedError:
        self._say(requesting, why)
        return identity_refused()

    def _say(self, requesting: Requesting, why: str) -> None:
        """The log says why, but no name, which may be a passcode in the wrong place; the audit
        trail has who it was to be (PS3.15 A.5.3.12)."""
        self.log.warn("{peer}: its user identity is refused: {why}", peer=requesting.peer, why=why)
        if self._audit is not None:
            self._audit.authenticated(requesting, claimed_name(requesting.user_identity), why)

    @asynccontextmanager
    async def _turn(self, host: str) -> AsyncIterator[None]:
        """One at a time: else all that are tried at once would be tried before one has failed."""
        turn = self._turns.setdefault(host, DeferredLock())
        try:
            await turn.acquire()
            try:
                yield
            finally:
                turn.release()
        finally:
            if not turn.locked and not turn.waiting:
                self._turns.pop(host, None)
