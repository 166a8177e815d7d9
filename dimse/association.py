"""An association in use: what its user can do with it, in both roles (PS3.7 7, PS3.8 7)."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from dimse.budget import Budget
from dimse.errors import (
    AbortReason,
    AbortSource,
    AssociationAbortedError,
    AssociationError,
    ContextError,
    DimseError,
    MisuseError,
    ProtocolError,
    ReleasedError,
)
from dimse.invoking import Answer, Invocation, Invoker
from dimse.limits import Limits
from dimse.message import command
from dimse.message.base import RESPONSE_BIT, Request
from dimse.message.messages import CGetRQ
from dimse.performer import Performer
from dimse.performing import SCP, Peer
from dimse.reading import Reading
from dimse.sending import Outbox, Source
from dimse.sop_classes import serves
from dimse.tally import Tally
from dimse.ul.explanation import explain, missing_context
from dimse.ul.negotiation import AcceptedContext, agreed_extended, agreed_window, refusals, settle
from dimse.ul.pdu import AssociateAC, AssociateRQ, PDataTF, UserInformation
from dimse.ul.pdv import MessageReader, fragment_length
from dimse.ul.protocol import UpperLayerProtocol
from dimse.ul.table import Sta


class Association:
    """An established association; it exists from its establishment (Sta6) to its end.

    `contexts` are the accepted presentation contexts by id, `refused` the others and why;
    `explanation` says it all in words. `peer` is the other side, `ae_title` our own AE title,
    `is_requestor` our side; `user` is who was verified to be the user of the peer, None where
    nobody was. `request_pdu` and `answer_pdu` made it, `extended` is what the acceptor
    answered to the extended negotiation, by SOP class. `window` holds how many operations we may
    invoke, and perform, at a time. `limits` are those it lives by, `events` what it tells;
    `performed` counts what the peer has asked for.
    `ended` is None until the association is over and then says why. As an async context manager it
    releases, or aborts when its body raises.
    """

    def __init__(
        self,
        protocol: UpperLayerProtocol,
        request: AssociateRQ,
        answer: AssociateAC,
        *,
        is_requestor: bool,
        address: object,
        limits: Limits,
        clock: IReactorTime,
        scps: Iterable[SCP] = (),
        budget: Budget | None = None,
        user: str | None = None,
    ) -> None:
        """Of what both sides said; raises `ProtocolError` when that makes no association."""
        self.contexts = settle(request, answer, requestor=is_requestor)
        self.refused = tuple(refusals(request, answer))
        self.extended = agreed_extended(request, answer)
        titles = (request.calling_ae_title, request.called_ae_title)
        self.ae_title, theirs = titles if is_requestor else reversed(titles)
        self.peer = Peer.at(theirs, address)
        self.request_pdu, self.answer_pdu = request, answer
        self.is_requestor = is_requestor
        self.user = user
        self.limits = limits
        self.budget = budget or Budget(limits.kept_length)
        self.clock = clock
        self.events = protocol.events
        self.seconds = clock.seconds
        self.ended: AssociationError | None = None
        self.performed = Tally()
        self._protocol = protocol
        self._join_parts(list(scps))
        self._receiver: Invoker | Performer = self._performer
        self._lent: list[SCP] = []
        self._reading = Reading(protocol, clock)
        self._releasing = False
        self._release_waiters: list[Deferred[None]] = []
        self._release_asked = False
        self._end_waiters: list[Deferred[AssociationError]] = []

    def _join_parts(self, scps: list[SCP]) -> None:
        limits, protocol = self.limits, self._protocol
        invoked, performed = agreed_window(
            self.request_pdu, self.answer_pdu, requestor=self.is_requestor
        )
        self.window = (
            min(invoked or limits.operations_invoked, limits.operations_invoked),
            min(performed or limits.operations_performed, limits.operations_performed),
        )
        longest = self.peer_information.maximum_length or limits.send_length
        self._outbox = Outbox(
            self._write,
            lambda: protocol.sending_paused,
            self._broken,
            fragment_length(min(longest, limits.send_length)),
        )
        self._reader = MessageReader(
            self,
            self.contexts,
            command_length=limits.command_length,
            data_length=limits.instance_length,
            empty_fragments=limits.empty_fragments,
        )
        self._invoker = Invoker(
            self._outbox,
            self.clock,
            limits,
            self.events,
            excused=self._excuses,
            give_up=self._give_up,
            pause=lambda paused: self.set_paused(self._invoker, paused),
            changed=self.proceed,
            window=self.window[0],
        )
        self._performer = Performer(
            self, self._outbox, self._reader, scps, self.clock, limits, window=self.window[1]
        )

    @property
    def peer_information(self) -> UserInformation:
        """What the peer said of itself: its implementation, maximum length, identity (PS3.8 D)."""
        pdu = self.answer_pdu if self.is_requestor else self.request_pdu
        return pdu.user_information or UserInformation()

    @property
    def releasing(self) -> bool:
        """Whether its release was asked for, on either side, so that no request may follow."""
        return self._releasing or self._release_asked

    @property
    def explanation(self) -> list[str]:
        """The outcome of the negotiation, in lines that a person can read."""
        return explain(self.request_pdu, self.answer_pdu, requestor=self.is_requestor)

    # What its user calls

    def context_for(
        self, sop_class: str, transfer_syntax: str | None = None, *, as_scp: bool = False
    ) -> AcceptedContext:
        """The context in which we may invoke operations of a SOP class.

        That is one of its own abstract syntax, or else of a Meta SOP class that it is a member of.
        `as_scp` asks for one in which we are the SCP, as N-EVENT-REPORT needs it. Raises
        `ContextError`, which says what the peer accepted, if there is none.
        """
        for context in sorted(
            self.contexts.values(), key=lambda context: context.abstract_syntax != sop_class
        ):
            role = context.scp if as_scp else context.scu
            fits = transfer_syntax in (None, context.transfer_syntax)
            if role and fits and serves(context.abstract_syntax, sop_class):
                return context
        raise ContextError(
            missing_context(
                self.request_pdu,
                self.contexts.values(),
                self.refused,
                sop_class,
                transfer_syntax,
                peer=str(self.peer),
                requestor=self.is_requestor,
                as_scp=as_scp,
            )
        )

    def next_message_id(self) -> int:
        """A Message ID for the next request."""
        return self._invoker.next_message_id()

    def request(
        self,
        context: AcceptedContext,
        request: Request,
        source: Source | None = None,
        *,
        timeout: float | None = None,
    ) -> "Deferred[Answer]":
        """Invoke an operation; fires with the `Answer`, whatever its status is (PS3.7 7.5).

        `source` is the data set, encoded in the transfer syntax of `context`; `timeout` takes the
        place of `Limits.response`, in seconds. Of many responses the final one counts. Fails with
        an `AssociationError` when the association ends before, or with the error of the source.
        """
        try:
            return self.invoke(context, request, source, lambda _: None, timeout=timeout).answer
        except DimseError as error:
            return fail(error)

    def invoke(
        self,
        context: AcceptedContext,
        request: Request,
        source: Source | None,
        on_pending: Callable[[Answer], object],
        *,
        timeout: float | None = None,
    ) -> Invocation:
        """As `request`, and `on_pending` is called with each Pending response.

        Raises the `AssociationError` that has ended the association, or `MisuseError`.
        """
        if self.ended is not None:
            raise self.ended.with_traceback(None)  # each raise adds to it what it passes
        if self._releasing:
            raise MisuseError("a request after the release of the association (PS3.7 A.5)")
        invocation = self._invoker.invoke(context, request, source, on_pending, timeout)
        self.proceed()  # a request of the peer that waits must not keep our response from coming
        return invocation

    def stop(self, invocation: Invocation) -> None:
        """Send C-CANCEL for a C-FIND, C-GET or C-MOVE; its `answer` fires with the final response
        (PS3.7 9.3.2.3)."""
        self._invoker.stop(invocation)

    def set_full(self, invocation: Invocation, full: bool) -> None:
        """Let the peer wait with further Pending responses, or go on; it goes on in any case while
        somebody waits for another response."""
        self._invoker.set_full(invocation, full)

    def progressed(self) -> None:
        """An instance of our C-GET or C-MOVE goes on: `Limits.response` begins anew for it."""
        self._invoker.progressed()

    @contextmanager
    def performing(self, scp: SCP) -> Iterator[None]:
        """Let `scp` perform requests of the peer for a while, before all other SCPs.

        Raises `MisuseError` while another one does so for one of its SOP classes: nobody could
        say to which of two C-GETs an instance belongs (PS3.4 C.4.3.3).
        """
        if any(scp.contexts.keys() & each.contexts.keys() for each in self._lent):
            raise MisuseError(f"{self.peer}: one C-GET at a time on an association, and one commit")
        self._lent.append(scp)
        self._performer.scps.insert(0, scp)
        try:
            yield
        finally:
            self._lent.remove(scp)
            self._performer.scps.remove(scp)

    def release(self) -> "Deferred[None]":
        """End the association in order, after the operations that are outstanding.

        One with `Limits.answers` Pending responses that nobody takes is cancelled with C-CANCEL.
        Fires when the peer has confirmed; fails with an `AssociationError` if the association
        ends in another way. Only the requestor may release (PS3.7 A.5).
        """
        if self.ended is not None:
            return succeed(None) if isinstance(self.ended, ReleasedError) else fail(self.ended)
        if not self.is_requestor:
            return fail(MisuseError("only the association-requestor releases (PS3.7 A.5)"))
        self._releasing = True
        waiter: Deferred[None] = Deferred(lambda _: self._release_cancelled(waiter))
        self._release_waiters.append(waiter)
        self._invoker.close()
        self.proceed()
        return waiter

    def abort(self, why: str = "abort() was called") -> None:
        """End the association at once with an A-ABORT; what is outstanding fails (PS3.7 A.6)."""
        self._give_up(_aborted(why))

    def when_ended(self) -> "Deferred[AssociationError]":
        """Fires with the reason when the association is over; `ReleasedError` is the good one."""
        if self.ended is not None:
            return succeed(self.ended)
        waiter: Deferred[AssociationError] = Deferred(self._end_waiters.remove)
        self._end_waiters.append(waiter)
        return waiter

    def when_closed(self) -> "Deferred[None]":
        """Fires when the transport connection is gone too, a moment after the association."""
        return self._protocol.when_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.abort()
        else:
            await self.release()

    # User: what the Upper Layer tells

    @property
    def busy(self) -> bool:
        """Whether an operation is under way in either direction."""
        return self._invoker.busy or self._performer.busy

    @property
    def invoking(self) -> bool:
        """Whether a request of ours is outstanding."""
        return self._invoker.busy

    @property
    def receiving(self) -> bool:
        """Whether the peer is in the middle of a message."""
        return self._reader.incomplete

    def data_indication(self, data: PDataTF) -> None:
        """Fragments of messages came."""
        self._reader.receive(data)

    def sending_resumed(self) -> None:
        """The transport has room again."""
        self._outbox.pump()
        self.proceed()

    def release_indication(self) -> None:
        """The peer wants to release: it gets our answer once its requests have theirs."""
        if self.receiving:
            raise ProtocolError("A-RELEASE-RQ inside a message", AbortReason.UNEXPECTED_PDU)
        self._release_asked = True
        self.proceed()

    def release_confirmation(self) -> None:
        """The peer has confirmed our release."""
        self._end(ReleasedError("the association was released"))

    def abort_indication(self, error: AssociationError) -> None:
        """The association is over."""
        self._end(error)

    # MessageUser: what the reader finds

    def command_received(self, context_id: int, command_set: bytes) -> bool:
        """A command set came: a response to us, or a request."""
        elements = command.decode(command_set)
        field, data_set = elements.get("CommandField"), elements.get("CommandDataSetType")
        if not isinstance(field, int) or not isinstance(data_set, int):
            raise ProtocolError("a command set without Command Field or Data Set Type (PS3.7 E.1)")
        has_data_set = data_set != command.NO_DATA_SET
        if field & RESPONSE_BIT:
            self._receiver = self._invoker
            self._invoker.received(field, elements, has_data_set=has_data_set)
        else:
            self._receiver = self._performer
            self._performer.begin(context_id, elements, has_data_set=has_data_set)
        return has_data_set

    def data_received(self, fragment: memoryview) -> None:
        """A fragment of the data set of the message."""
        self._receiver.write(fragment)

    def data_ended(self) -> None:
        """The data set is complete."""
        self._receiver.finish()

    # What the performer asks for

    def set_paused(self, by: object, paused: bool) -> None:
        """Stop reading, or go on when nobody else wants it stopped."""
        if self.ended is None:
            self._reading.set_paused(by, paused)

    def proceed(self) -> None:
        """Something ended: do what had to wait for it."""
        if self.ended is not None:
            return
        try:
            self._performer.go_on()
        except ProtocolError as error:
            self._protocol.refuse(error)
            return
        if self._release_asked and not self._performer.busy:
            self._answer_release()
        elif self._releasing and not self.busy and self._protocol.state is Sta.Sta6:
            self._protocol.release()

    # Inside

    def _excuses(self, request: Request) -> bool:
        """Whether a response may take longer: we do not read, or it is being sent, or the peer
        waits for us to perform the sub-operations of its C-GET."""
        performing = isinstance(request, CGetRQ) and self._performer.busy
        return self._reading.paused or self.receiving or performing

    def _write(self, data: bytes) -> None:
        if self._protocol.can_send_data:  # else we asked for release, and nothing may follow
            self._protocol.send_data(data)

    def _answer_release(self) -> None:
        self._release_asked = False
        collision = self._protocol.state is Sta.Sta9
        self._protocol.release_response()
        if not collision:  # else the peer still has to confirm ours (AR-9)
            self._end(ReleasedError("the peer released the association"))

    def _release_cancelled(self, waiter: "Deferred[None]") -> None:
        self._release_waiters.remove(waiter)  # it fails with CancelledError, not with our abort
        self.abort("its release was cancelled")

    def _broken(self, error: DimseError) -> None:
        self._give_up(_aborted(str(error)))

    def _give_up(self, reason: AssociationError) -> None:
        if self.ended is None:
            self._protocol.abort()
            self._end(reason)

    def _end(self, reason: AssociationError) -> None:
        """Tell everybody who waits for something of this association, once."""
        if self.ended is not None:
            return
        reason.peer = str(self.peer)
        self.ended = self._protocol.outcome = reason
        self._outbox.clear()
        self._performer.end(reason)
        self._reading.end()
        self._invoker.end(reason)
        while self._release_waiters:  # a callback of one may cancel another
            release = self._release_waiters.pop(0)
            if isinstance(reason, ReleasedError):
                release.callback(None)
            else:
                release.errback(reason)
        while self._end_waiters:
            self._end_waiters.pop(0).callback(reason)


def _aborted(why: str) -> AssociationAbortedError:
    return AssociationAbortedError(
        AbortSource.SERVICE_USER, AbortReason.NOT_SPECIFIED, by_peer=False, why=why
    )
