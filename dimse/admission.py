"""Who asks for an association, and what an acceptor gives to him (PS3.8 7.1, PS3.7 D.3.3.7)."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dimse.errors import MisuseError
from dimse.limits import Limits
from dimse.performing import SCP, Peer
from dimse.ul.items import UserIdentityRQ
from dimse.ul.pdu import AssociateRQ

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_LONGEST_RESPONSE = 0xFFFF - 2  # the length of the sub-item holds that of the response too


@dataclass(frozen=True, slots=True)
class Requesting:
    """Who asks for an association, and how: what `admit` decides about.

    `peer` is its AE title and address, `request` all that it says, `user_identity` who its user
    is, if it says so (PS3.7 D.3.3.7). `host` is its address alone, "" where it has none, as on a
    UNIX socket. `encrypted` says whether it came over TLS, and `certificate` holds the one that it
    showed there, verified already.
    """

    peer: Peer
    request: AssociateRQ
    host: str = ""
    encrypted: bool = False
    certificate: "Certificate | None" = None

    @property
    def user_identity(self) -> UserIdentityRQ | None:
        """The user identity that was sent, not verified by anybody yet."""
        user = self.request.user_information
        return user.user_identity if user is not None else None


@dataclass(frozen=True, slots=True)
class Share:
    """So many `associations` at a time are for those who are admitted under one `name`."""

    name: str
    associations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What one requestor gets; None is what the acceptor gives everybody.

    `scps` perform its requests, `limits` are its bounds, with the operations window among them;
    `identity_response` answers its user identity, if it wants an answer: b"" for types 1 and 2.
    Above its `share` it is rejected, as above `Limits.associations`. `user` is who was verified to
    be its user, for the audit trail.
    """

    scps: Sequence[SCP] | None = None
    limits: Limits | None = None
    identity_response: bytes | None = field(default=None, repr=False)  # it may be a ticket
    share: Share | None = None
    user: str | None = None

    def __post_init__(self) -> None:
        """Raises `MisuseError` for an `identity_response` that cannot be sent."""
        response: object = self.identity_response
        if response is not None and not (
            isinstance(response, bytes) and len(response) <= _LONGEST_RESPONSE
        ):
            raise MisuseError(
                f"identity_response is not at most {_LONGEST_RESPONSE} bytes (PS3.7 D.3.3.7.2)"
            )


Admit = Callable[[Requesting], Admission | Awaitable[Admission | None] | None]
