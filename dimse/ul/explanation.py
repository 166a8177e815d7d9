"""What came out of a negotiation, in words (PS3.8 9.3.3; PS3.7 D.3.3)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from pydicom._uid_dict import UID_dictionary

from dimse.sop_classes import SOP_CLASSES, STORAGE_SOP_CLASSES, serves
from dimse.uids import UID_LENGTH, is_uid
from dimse.ul.items import PresentationContextAC, PresentationContextRQ, RoleSelection
from dimse.ul.negotiation import (
    RESULTS,
    AcceptedContext,
    Refusal,
    Result,
    SupportedContext,
    agreed_extended,
    agreed_window,
    selected_roles,
    settle,
)
from dimse.ul.pdu import AssociateAC, AssociateRQ, UserInformation

_SHOWN = 16  # bytes of application information: what PS3.4 defines has fewer


class _Words(NamedTuple):
    """How the acceptor is called: as subject, once more, as object; and how the requestor."""

    acceptor: str
    it: str
    by_it: str
    requestor: str


_REQUESTOR = _Words("the peer", "it", "the peer", "us")
_ACCEPTOR = _Words("we", "we", "us", "the peer")


def explain(request: AssociateRQ, answer: AssociateAC, *, requestor: bool = True) -> list[str]:
    """A line for each presentation context, for whatever else was not agreed as proposed, for the
    asynchronous operations window if one was proposed, and for the maximum lengths.

    `requestor` tells whose words these are. They are fit for a log, and of a user identity they
    say nothing but whether it was answered. Raises `ProtocolError` as `settle` does.
    """
    words = _REQUESTOR if requestor else _ACCEPTOR
    accepted = settle(request, answer, requestor=requestor)
    usable = {context.abstract_syntax for context in accepted.values()}
    return [
        *_contexts(request, answer, accepted, words),
        *_roles(_user(request).roles, _user(answer).roles, usable, words),
        *_extended(request, answer, usable, words),
        *_window(request, answer, requestor, words),
        *_identity(request, answer, words),
        _maximum_lengths(request, answer, requestor),
    ]


def _user(pdu: AssociateRQ | AssociateAC) -> UserInformation:
    return pdu.user_information or UserInformation()


def omissions(
    request: AssociateRQ, answer: AssociateAC, supported: Mapping[str, SupportedContext]
) -> Iterator[str]:
    """What an acceptor that supports `supported` could have given, had it been asked for or had
    it been told to: each a line for its log."""
    proposed = {role.sop_class_uid for role in _user(request).roles}
    uids = dict.fromkeys(context.abstract_syntax for context in request.contexts)
    retrieves = any(uid in SOP_CLASSES and SOP_CLASSES[uid].operations == "C-GET" for uid in uids)
    for uid in uids:
        if uid in STORAGE_SOP_CLASSES and not retrieves:
            continue  # who stores alone needs to be no SCP
        ours = supported.get(uid)
        if ours and ours.scu and not (ours.scp or ours.without_roles or uid in proposed):
            yield f"{_name(uid)}: the requestor did not propose to be its SCP (PS3.7 D.3.3.4)"
    yield from _identity(request, answer, _ACCEPTOR)


def missing_context(
    request: AssociateRQ,
    accepted: Iterable[AcceptedContext],
    refused: Iterable[Refusal],
    sop_class: str,
    transfer_syntax: str | None,
    *,
    peer: str,
    requestor: bool,
    as_scp: bool,
) -> str:
    """Why there is no context for a SOP class in a transfer syntax and a role of ours."""
    name = _name(sop_class)
    name = sop_class if name == sop_class else f"{name} ({sop_class})"
    if not any(serves(each.abstract_syntax, sop_class) for each in request.contexts):
        return f"{'we' if requestor else peer} did not propose {name} (PS3.8 9.3.2.2)"
    others = ", ".join(
        context.transfer_syntax
        for context in accepted
        if (context.scp if as_scp else context.scu) and serves(context.abstract_syntax, sop_class)
    )
    acceptor = peer if requestor else "we"
    if others:
        return (
            f"{acceptor} accepted {name} with {others} but not with {transfer_syntax} "
            "(PS3.8 9.3.3.2)"
        )
    reasons = "; ".join(
        str(each) for each in refused if serves(each.context.abstract_syntax, sop_class)
    )
    role = "SCP" if as_scp else "SCU"
    text = f"{acceptor} accepted no context for {name} with us as {role} (PS3.8 9.3.3.2)"
    return f"{text}: {reasons}" if reasons else text


def _name(uid: str) -> str:
    """Its name, else the UID itself; a peer may have sent anything in its place."""
    if uid in UID_dictionary:
        return UID_dictionary[uid][0]
    return uid if is_uid(uid) else ascii(uid[:UID_LENGTH])


def _contexts(
    request: AssociateRQ,
    answer: AssociateAC,
    accepted: dict[int, AcceptedContext],
    words: _Words,
) -> Iterator[str]:
    answers = {context.context_id: context for context in answer.contexts}
    for offer in request.contexts:
        reply = answers.pop(offer.context_id, None)
        ours = accepted.get(offer.context_id)
        what = _accepted(ours) if ours else _refused(offer, reply, accepted, words)
        yield f"context {offer.context_id}, {_name(offer.abstract_syntax)}: {what}"
    for context_id in answers:
        yield f"context {context_id}: answered by {words.by_it}, but not proposed"


def _accepted(context: AcceptedContext) -> str:
    roles = [name for name, ours in (("SCU", context.scu), ("SCP", context.scp)) if ours]
    role = " and ".join(roles) or "neither SCU nor SCP"
    return f"accepted with {_name(context.transfer_syntax)}; we are {role}"


def _refused(
    offer: PresentationContextRQ,
    reply: PresentationContextAC | None,
    accepted: dict[int, AcceptedContext],
    words: _Words,
) -> str:
    if reply is None:
        return f"not answered by {words.by_it}"
    if reply.result == Result.ACCEPTANCE:
        syntax = _name(reply.transfer_syntax)
        return f"not usable, {words.acceptor} took {syntax}, which was not proposed"
    if reply.result != Result.TRANSFER_SYNTAXES_NOT_SUPPORTED or not offer.transfer_syntaxes:
        why = RESULTS.get(reply.result, f"result {reply.result}, reserved")
        return f"rejected by {words.by_it}, {why}"
    taken = ", ".join(
        f"{_name(other.transfer_syntax)} in context {other.context_id}"
        for other in accepted.values()
        if other.abstract_syntax == offer.abstract_syntax
    )
    instead = f"; {words.it} took {taken}" if taken else ""
    proposed = ", ".join(map(_name, offer.transfer_syntaxes))
    return f"rejected, {words.acceptor} took none of {proposed}{instead}"


def _roles(
    offers: Iterable[RoleSelection],
    replies: Iterable[RoleSelection],
    usable: set[str],
    words: _Words,
) -> Iterator[str]:
    replies = list(replies)
    answers = selected_roles(replies)
    answered = {reply.sop_class_uid for reply in replies}
    for offer in offers:
        reply = answers.get(offer.sop_class_uid)
        name = f"roles, {_name(offer.sop_class_uid)}"
        if reply is not None:
            pairs = (("SCU", offer.scu, reply.scu), ("SCP", offer.scp, reply.scp))
            declined = [role for role, offered, agreed in pairs if offered and not agreed]
            if declined:
                as_what = " and as ".join(declined)
                yield f"{name}: {words.acceptor} declined {words.requestor} as {as_what}"
        elif offer.sop_class_uid in usable and (offer.scp or not offer.scu):
            how = "answered twice" if offer.sop_class_uid in answered else "not answered"
            yield f"{name}: {how} by {words.by_it}, the requestor is SCU (PS3.7 D.3.3.4)"


def _extended(
    request: AssociateRQ, answer: AssociateAC, usable: set[str], words: _Words
) -> Iterator[str]:
    replies = agreed_extended(request, answer)
    for offer in _user(request).extended:
        reply = replies.get(offer.sop_class_uid)
        name = f"extended negotiation, {_name(offer.sop_class_uid)}"
        if reply is None:
            if offer.sop_class_uid in usable:
                yield f"{name}: not answered by {words.by_it}"
        elif reply != offer.information:
            offered, answered = _shown(offer.information), _shown(reply)
            yield f"{name}: {words.acceptor} answered {answered} to {offered}"


def _shown(information: bytes) -> str:
    more = "..." if len(information) > _SHOWN else ""
    return (information[:_SHOWN].hex(" ") or "nothing") + more


def _window(
    request: AssociateRQ, answer: AssociateAC, requestor: bool, words: _Words
) -> Iterator[str]:
    if _user(request).window is None:
        return
    window = agreed_window(request, answer, requestor=requestor)
    invoked, performed = ("any number" if each is None else each for each in window)
    silent = f", not answered by {words.by_it}" if _user(answer).window is None else ""
    yield (
        f"asynchronous operations window: we invoke {invoked} and perform {performed} at a "
        f"time{silent}"
    )


def _identity(request: AssociateRQ, answer: AssociateAC, words: _Words) -> Iterator[str]:
    identity = _user(request).user_identity
    if identity is None or not identity.response_requested:
        return
    if _user(answer).user_identity_response is None:
        yield f"user identity: a response was asked for, and not given by {words.by_it}"


def _maximum_lengths(request: AssociateRQ, answer: AssociateAC, requestor: bool) -> str:
    lengths = [
        {0: "no limit", None: "not stated"}.get(length, f"{length} bytes")
        for length in (_user(request).maximum_length, _user(answer).maximum_length)
    ]
    ours, theirs = lengths if requestor else reversed(lengths)
    return f"maximum length of P-DATA-TF: {ours} to us, {theirs} to the peer"
