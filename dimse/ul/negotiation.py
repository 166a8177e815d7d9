"""A-ASSOCIATE-RQ to A-ASSOCIATE-AC or -RJ: one pure function and its policy (PS3.8 7.1, 9.3).

And its mirror on the side of the requestor: which of the proposed contexts an answer accepts.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from dimse.errors import AbortReason, MisuseError, ProtocolError, RejectResult, RejectSource
from dimse.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dimse.uids import is_uid
from dimse.ul.identity import IdentityType
from dimse.ul.items import (
    AsynchronousOperationsWindow,
    PresentationContextAC,
    PresentationContextRQ,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityAC,
    UserIdentityRQ,
)
from dimse.ul.pdu import (
    APPLICATION_CONTEXT_NAME,
    MAXIMUM_CONTEXTS,
    PDV_OVERHEAD,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    UserInformation,
)

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"  # the default transfer syntax (PS3.5 10.1)

_AE_TITLE = re.compile(r"[ -\[\]-~]{1,16}")  # ISO 646 without backslash and controls (PS3.5 6.2)

_STANDARD_ROOT = "1.2.840.10008."  # of every UID that the standard assigns (PS3.5 9)
_SHORTEST_PDU = PDV_OVERHEAD + 2  # one fragment of two bytes
_USER_IDENTITY_TYPES = frozenset(IdentityType)


class Result(IntEnum):
    """Result of a presentation context (PS3.8 9.3.3.2 Table 9-18)."""

    ACCEPTANCE = 0
    USER_REJECTION = 1
    NO_REASON = 2
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


RESULTS: dict[int, str] = {
    Result.ACCEPTANCE: "acceptance",
    Result.USER_REJECTION: "user rejection",
    Result.NO_REASON: "no reason",
    Result.ABSTRACT_SYNTAX_NOT_SUPPORTED: "abstract syntax not supported",
    Result.TRANSFER_SYNTAXES_NOT_SUPPORTED: "transfer syntaxes not supported",
}
"""What the results mean (PS3.8 9.3.3.2 Table 9-18)."""


def is_ae_title(text: str) -> bool:
    """Whether `text`, without its padding, is an AE title (PS3.5 6.2)."""
    return _AE_TITLE.fullmatch(text) is not None and bool(text.strip())


@dataclass(frozen=True, slots=True)
class SupportedContext:
    """What an acceptor supports for an abstract syntax.

    `transfer_syntaxes` are in its order of preference; None takes any, the first that the
    requestor proposes, and private ones only when no standard one is proposed; of those that are
    `preferred`, the first of them comes before. The roles are
    those that the acceptor itself can take; `without_roles` lets it be the SCU also where the
    requestor, who then has to be the SCP, proposes no roles. `extended` answers the service class
    application information that a requestor offers (PS3.7 D.3.3.5), with None for no answer.
    """

    transfer_syntaxes: tuple[str, ...] | None = (IMPLICIT_VR_LITTLE_ENDIAN,)
    scp: bool = True
    scu: bool = False
    extended: Callable[[bytes], bytes | None] | None = None
    without_roles: bool = False
    preferred: tuple[str, ...] = ()

    def joined(self, other: "SupportedContext") -> "SupportedContext":
        """With the roles of both, the transfer syntaxes of the one that is the SCP, else of the
        first."""
        first, second = (other, self) if other.scp and not self.scp else (self, other)
        return replace(
            first,
            scp=first.scp or second.scp,
            scu=first.scu or second.scu,
            extended=first.extended or second.extended,
            without_roles=first.without_roles or second.without_roles,
        )

    def choose(self, proposed: Sequence[str]) -> str | None:
        """The transfer syntax to accept out of those proposed."""
        if self.transfer_syntaxes is None:
            if best := next((uid for uid in proposed if uid in self.preferred), None):
                return best
            valid = [uid for uid in proposed if is_uid(uid)]
            standard = (uid for uid in valid if uid.startswith(_STANDARD_ROOT))
            return next(standard, valid[0] if valid else None)
        return next((uid for uid in self.transfer_syntaxes if uid in proposed), None)


@dataclass(frozen=True, slots=True)
class Policy:
    """What an acceptor takes.

    `ae_titles` are the called AE titles it answers to, None for any. `contexts` maps abstract
    syntaxes to what is supported for them; `otherwise` is asked about any other one (promiscuous
    storage) and returns None to refuse it. `window` holds how many operations it performs and
    invokes at a time.
    """

    contexts: Mapping[str, SupportedContext]
    maximum_length: int
    ae_titles: frozenset[str] | None = None
    otherwise: Callable[[str], SupportedContext | None] = field(default=lambda _: None)
    maximum_transfer_syntaxes: int = 64
    window: tuple[int, int] = (1, 1)

    def supported(self, abstract_syntax: str) -> SupportedContext | None:
        """What is supported for an abstract syntax, None for nothing."""
        if supported := self.contexts.get(abstract_syntax):
            return supported
        return self.otherwise(abstract_syntax) if is_uid(abstract_syntax) else None


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """A presentation context that both sides agreed on, and the roles we may take in it."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    scu: bool
    scp: bool


def _reject(source: RejectSource, reason: int, why: str) -> AssociateRJ:
    return AssociateRJ(RejectResult.PERMANENT, source, reason, why)


def _refusal(request: AssociateRQ, policy: Policy) -> AssociateRJ | None:
    """The A-ASSOCIATE-RJ that the request earns, if any (PS3.8 9.3.4)."""
    user = request.user_information
    name = request.application_context_name
    called, calling = request.called_ae_title, request.calling_ae_title
    if name != APPLICATION_CONTEXT_NAME:
        return _reject(RejectSource.SERVICE_USER, 2, f"{name!a} was proposed")
    if not is_ae_title(calling):
        return _reject(RejectSource.SERVICE_USER, 3, f"{calling!a} is none (PS3.5 6.2)")
    if not is_ae_title(called) or (policy.ae_titles is not None and called not in policy.ae_titles):
        return _reject(RejectSource.SERVICE_USER, 7, "")
    if not request.contexts:
        return _reject(RejectSource.SERVICE_USER, 1, "no presentation context (PS3.8 9.3.2)")
    if user is None:
        return _reject(RejectSource.SERVICE_USER, 1, "no user information (PS3.8 9.3.2)")
    if user.maximum_length and user.maximum_length < _SHORTEST_PDU:
        why = f"maximum length {user.maximum_length} carries no PDV (PS3.8 D.1)"
        return _reject(RejectSource.SERVICE_USER, 1, why)
    identity = user.user_identity
    if identity and identity.identity_type not in _USER_IDENTITY_TYPES:
        why = f"user identity of type {identity.identity_type} (PS3.7 D.3.3.7)"
        return _reject(RejectSource.SERVICE_PROVIDER_ACSE, 1, why)
    return None


def negotiate(
    request: AssociateRQ, policy: Policy, identity_response: bytes | None = None
) -> AssociateAC | AssociateRJ:
    """Answer a request: every context gets a result, in the order of the request.

    The protocol version was judged before (AE-6), and so was the user identity, if it was;
    `identity_response` then answers it, when an answer is asked for (PS3.7 D.3.3.7.2).
    """
    refusal = _refusal(request, policy)
    if refusal is not None:
        return refusal
    user = request.user_information
    assert user is not None
    supported = {
        context.abstract_syntax: policy.supported(context.abstract_syntax)
        for context in request.contexts
    }
    roles = {role.sop_class_uid: role for role in _agree(user.roles, supported)}
    identity = user.user_identity
    answers = identity_response is not None and identity and identity.response_requested
    return AssociateAC(
        contexts=tuple(
            _answer(context, supported[context.abstract_syntax], roles, policy)
            for context in request.contexts
        ),
        user_information=UserInformation(
            maximum_length=policy.maximum_length,
            implementation_class_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version_name=IMPLEMENTATION_VERSION_NAME,
            window=_lowered(user.window, policy) if user.window else None,
            roles=tuple(roles.values()),
            extended=tuple(_answer_extended(user.extended, supported)),
            user_identity_response=UserIdentityAC(identity_response or b"") if answers else None,
        ),
        echo=request.echo,
    )


def _lowered(offer: AsynchronousOperationsWindow, policy: Policy) -> AsynchronousOperationsWindow:
    """Our own numbers where they are lower; an offer of 0 is no limit (PS3.7 D.3.3.3)."""
    performed, invoked = policy.window
    return AsynchronousOperationsWindow(
        min(offer.invoked or performed, performed), min(offer.performed or invoked, invoked)
    )


def _answer(
    context: PresentationContextRQ,
    supported: SupportedContext | None,
    roles: Mapping[str, RoleSelection],
    policy: Policy,
) -> PresentationContextAC:
    # A transfer syntax belongs into the item whatever the result is; it counts with 0 only.
    chosen: str | None = IMPLICIT_VR_LITTLE_ENDIAN
    if supported is None:
        result = Result.ABSTRACT_SYNTAX_NOT_SUPPORTED
    elif not _usable(roles.get(context.abstract_syntax), supported):
        result = Result.USER_REJECTION  # nobody could invoke anything in it
    elif len(context.transfer_syntaxes) > policy.maximum_transfer_syntaxes:
        result = Result.NO_REASON
    elif (chosen := supported.choose(context.transfer_syntaxes)) is None:
        result = Result.TRANSFER_SYNTAXES_NOT_SUPPORTED
    else:
        result = Result.ACCEPTANCE
    return PresentationContextAC(context.context_id, result, chosen or IMPLICIT_VR_LITTLE_ENDIAN)


def _usable(role: RoleSelection | None, supported: SupportedContext) -> bool:
    """Without role selection the acceptor is the SCP (PS3.7 D.3.3.4)."""
    by_default = supported.scp or supported.without_roles
    return by_default if role is None else role.scu or role.scp


def _agree(
    roles: Iterable[RoleSelection], supported: Mapping[str, SupportedContext | None]
) -> Iterable[RoleSelection]:
    """Our answer to each role selection (PS3.7 D.3.3.4): the requestor's SCU role needs our SCP
    role, and the reverse. One that is not for a proposed context, comes twice, or offers no role
    at all is ignored."""
    for uid, role in selected_roles(roles).items():
        ours = supported.get(uid)
        if ours and (role.scu or role.scp):
            yield RoleSelection(uid, role.scu and ours.scp, role.scp and ours.scu)


def _answer_extended(
    offers: Iterable[SOPClassExtendedNegotiation],
    supported: Mapping[str, SupportedContext | None],
) -> Iterable[SOPClassExtendedNegotiation]:
    """Our answers, at most one for each proposed SOP class (PS3.7 D.3.3.5)."""
    answered = set()
    for offer in offers:
        ours = supported.get(offer.sop_class_uid)
        if ours is None or ours.extended is None or offer.sop_class_uid in answered:
            continue
        answered.add(offer.sop_class_uid)
        information = ours.extended(offer.information)
        if information is not None:
            yield SOPClassExtendedNegotiation(offer.sop_class_uid, information)


def propose(
    contexts: Iterable[tuple[str, Sequence[str]]],
    *,
    called_ae_title: str,
    calling_ae_title: str,
    maximum_length: int,
    window: tuple[int, int] = (1, 1),
    roles: Iterable[RoleSelection] = (),
    extended: Mapping[str, bytes] | None = None,
    common_extended: Iterable[SOPClassCommonExtendedNegotiation] = (),
    user_identity: UserIdentityRQ | None = None,
) -> AssociateRQ:
    """The request for (abstract syntax, transfer syntaxes) pairs, with ids 1, 3, 5 ...

    `window` holds how many operations we invoke and perform at a time; the default, one of each,
    is not proposed. Raises `MisuseError` for 0 or over 128 contexts, a wrong AE title or UID.
    """
    pairs = list(contexts)
    _check_proposal(pairs, (called_ae_title, calling_ae_title))
    return AssociateRQ(
        called_ae_title=called_ae_title.strip(),
        calling_ae_title=calling_ae_title.strip(),
        contexts=tuple(
            PresentationContextRQ(2 * index + 1, abstract_syntax, tuple(transfer_syntaxes))
            for index, (abstract_syntax, transfer_syntaxes) in enumerate(pairs)
        ),
        user_information=UserInformation(
            maximum_length=maximum_length,
            implementation_class_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version_name=IMPLEMENTATION_VERSION_NAME,
            window=None if window == (1, 1) else AsynchronousOperationsWindow(*window),
            roles=tuple(roles),
            extended=tuple(
                SOPClassExtendedNegotiation(uid, information)
                for uid, information in (extended or {}).items()
            ),
            common_extended=tuple(common_extended),
            user_identity=user_identity,
        ),
    )


def _check_proposal(pairs: Sequence[tuple[str, Sequence[str]]], ae_titles: Iterable[str]) -> None:
    if not 1 <= len(pairs) <= MAXIMUM_CONTEXTS:
        raise MisuseError(f"{len(pairs)} presentation contexts instead of 1 to 128 (PS3.8 9.3.2.2)")
    for title in ae_titles:
        if not is_ae_title(title):
            raise MisuseError(f"{title!r} is no AE title of 1 to 16 characters (PS3.5 6.2)")
    for abstract_syntax, transfer_syntaxes in pairs:
        for uid in (abstract_syntax, *transfer_syntaxes):
            if not is_uid(uid):
                raise MisuseError(f"{uid!r} is no UID (PS3.5 9.1)")
        if not transfer_syntaxes:
            raise MisuseError(f"no transfer syntax for {abstract_syntax} (PS3.8 9.3.2.2)")


def settle(
    request: AssociateRQ, answer: AssociateAC, *, requestor: bool
) -> dict[int, AcceptedContext]:
    """The contexts that both PDUs agree on, by id, with our roles on the given side.

    An answer to what was not proposed, or with a transfer syntax that was not, is not usable and
    left out (PS3.8 9.3.3.2). Raises `ProtocolError` for an answer that makes no association.
    """
    user = answer.user_information
    if answer.application_context_name != APPLICATION_CONTEXT_NAME:
        name = answer.application_context_name
        raise ProtocolError(f"application context {name!r} in the answer (PS3.8 7.1.1.2)")
    if user is not None and user.maximum_length and user.maximum_length < _SHORTEST_PDU:
        raise ProtocolError(f"maximum length {user.maximum_length} carries no PDV (PS3.8 D.1)")
    if len({context.context_id for context in answer.contexts}) < len(answer.contexts):
        raise ProtocolError(
            "a presentation context is answered twice (PS3.8 9.3.3.2)",
            AbortReason.UNEXPECTED_PARAMETER,
        )
    proposed = {context.context_id: context for context in request.contexts}
    roles = _roles(request, answer)
    accepted = {}
    for context in answer.contexts:
        offer = proposed.get(context.context_id)
        if (
            offer is not None
            and context.result == Result.ACCEPTANCE
            and context.transfer_syntax in offer.transfer_syntaxes
        ):
            scu, scp = roles.get(offer.abstract_syntax, (True, False))
            accepted[context.context_id] = AcceptedContext(
                context.context_id,
                offer.abstract_syntax,
                context.transfer_syntax,
                scu=scu if requestor else scp,
                scp=scp if requestor else scu,
            )
    return accepted


@dataclass(frozen=True, slots=True)
class Refusal:
    """A context that was proposed and not accepted, and `why`."""

    context: PresentationContextRQ
    why: str

    def __str__(self) -> str:
        offer = self.context
        syntaxes = ", ".join(offer.transfer_syntaxes)
        return f"context {offer.context_id}, {offer.abstract_syntax} in {syntaxes}: {self.why}"


def refusals(request: AssociateRQ, answer: AssociateAC) -> list[Refusal]:
    """The contexts that `settle` leaves out, in the order of the request (PS3.8 9.3.3.2)."""
    results = {context.context_id: context for context in answer.contexts}
    refused = []
    for offer in request.contexts:
        context = results.get(offer.context_id)
        if context is None:
            why = "not answered"
        elif context.result != Result.ACCEPTANCE:
            why = f"result {context.result}, {RESULTS.get(context.result, 'reserved')}"
        elif context.transfer_syntax not in offer.transfer_syntaxes:
            why = f"accepted with {context.transfer_syntax!r}, which was not proposed"
        else:
            continue
        refused.append(Refusal(offer, why))
    return refused


def agreed_window(
    request: AssociateRQ, answer: AssociateAC, *, requestor: bool
) -> tuple[int | None, int | None]:
    """How many operations we may invoke, and have to perform, at a time; None is no limit.

    What an answer raises does not count (PS3.7 D.3.3.3).
    """
    offer = request.user_information and request.user_information.window
    reply = answer.user_information and answer.user_information.window
    if not offer or not reply:
        return 1, 1
    pairs = ((offer.invoked, reply.invoked), (offer.performed, reply.performed))
    invoked, performed = (min(filter(None, pair), default=None) for pair in pairs)
    return (invoked, performed) if requestor else (performed, invoked)


def agreed_extended(request: AssociateRQ, answer: AssociateAC) -> dict[str, bytes]:
    """The information that the acceptor answered to what was offered, by SOP class
    (PS3.7 D.3.3.5)."""
    if request.user_information is None or answer.user_information is None:
        return {}
    offered = {offer.sop_class_uid for offer in request.user_information.extended}
    return {
        reply.sop_class_uid: reply.information
        for reply in answer.user_information.extended
        if reply.sop_class_uid in offered
    }


def selected_roles(roles: Iterable[RoleSelection]) -> dict[str, RoleSelection]:
    """By SOP class; two for one are none, so that the last never wins (PS3.7 D.3.3.4.1)."""
    by_class: dict[str, list[RoleSelection]] = {}
    for role in roles:
        by_class.setdefault(role.sop_class_uid, []).append(role)
    return {uid: selections[0] for uid, selections in by_class.items() if len(selections) == 1}


def _roles(request: AssociateRQ, answer: AssociateAC) -> dict[str, tuple[bool, bool]]:
    """The requestor's (SCU, SCP) roles by SOP class, where both sides said something."""
    offered, agreed = (
        selected_roles(pdu.user_information.roles if pdu.user_information is not None else ())
        for pdu in (request, answer)
    )
    return {
        uid: (role.scu and offered[uid].scu, role.scp and offered[uid].scp)
        for uid, role in agreed.items()
        if uid in offered
    }
