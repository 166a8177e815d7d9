"""Runs Table 9-10 (PS3.8 9.2) for one transport connection; what it does are calls on a Provider.

The next state is set before the action runs, and an event that arrives during an action waits
until that action has ended: so every action and everything it calls sees one state.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from dimse.errors import (
    AbortReason,
    AbortSource,
    AssociationAbortedError,
    AssociationError,
    ConnectionLostError,
    MisuseError,
    ProtocolError,
    RejectResult,
    RejectSource,
)
from dimse.ul.pdu import (
    PDU,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    PDUType,
    ReleaseRP,
    ReleaseRQ,
)
from dimse.ul.table import EVENTS, STATES, TABLE, Action, Evt, Sta

PDU_EVENTS: dict[int, Evt] = {
    PDUType.ASSOCIATE_RQ: Evt.Evt6,
    PDUType.ASSOCIATE_AC: Evt.Evt3,
    PDUType.ASSOCIATE_RJ: Evt.Evt4,
    PDUType.P_DATA_TF: Evt.Evt10,
    PDUType.RELEASE_RQ: Evt.Evt12,
    PDUType.RELEASE_RP: Evt.Evt13,
    PDUType.ABORT: Evt.Evt16,
}

_READS_THE_PDU = {Action.AE_3, Action.AE_4, Action.AE_6, Action.DT_2, Action.AR_6, Action.AA_3}


class Provider(Protocol):
    """What the machine asks for: the transport, the ARTIM timer, and the user's ear."""

    def open_transport(self) -> None:
        """Open the connection; its confirmation is Evt2."""

    def close_transport(self) -> None:
        """Close the connection, at the latest after a bounded time."""

    def send(self, data: bytes) -> None:
        """Write the bytes of a PDU."""

    def start_artim(self) -> None:
        """Start ARTIM, or start it again; its end is Evt18."""

    def stop_artim(self) -> None:
        """Stop ARTIM if it runs."""

    def associate_indication(self, request: AssociateRQ) -> None:
        """The peer asks for an association; answer with Evt7 or Evt8."""

    def associate_confirmation(self, answer: AssociateAC | AssociateRJ) -> None:
        """The peer answered our request."""

    def data_indication(self, data: PDataTF) -> None:
        """Data came; its fragments are valid only during the call."""

    def release_indication(self) -> None:
        """The peer asks for release; answer with Evt14."""

    def release_confirmation(self) -> None:
        """The peer confirmed our release."""

    def abort_indication(self, error: AssociationError) -> None:
        """The association ended by an A-ABORT or by loss of the connection."""


class Machine:
    """The state of one connection, and the table at work on it.

    `requestor` tells the side, which decides a release collision (AR-8).
    """

    __slots__ = ("_busy", "_provider", "_requestor", "_waiting", "state")

    def __init__(self, provider: Provider, *, requestor: bool) -> None:
        self.state: Sta = Sta.Sta1
        self._provider = provider
        self._requestor = requestor
        self._busy = False
        self._waiting: deque[tuple[Evt, object]] = deque()

    def wants(self, pdu_type: int) -> bool:
        """Whether the body of such a PDU matters now; if not, its header says it all."""
        cell = TABLE.get((PDU_EVENTS[pdu_type], self.state))
        return cell is not None and cell[0] in _READS_THE_PDU

    def receive(self, pdu_type: int, pdu: PDU | None) -> None:
        """A PDU of the peer, decoded if `wants` asked for its body."""
        self.handle(PDU_EVENTS[pdu_type], pdu)

    def handle(self, event: Evt, argument: object = None) -> None:
        """Run the cell of `event` and the present state.

        `argument` is the PDU received or to be sent (Evt9 takes the bytes of any number of
        P-DATA-TF), for Evt19 the `ProtocolError`, for Evt17 the
        reason or an `AssociationError` that has it. Raises `MisuseError` for a primitive of ours
        that the state does not allow; what the peer does never raises.
        """
        self._check(event)
        if self._busy:
            # Data does not wait, or its sender would never see that the transport has enough.
            if event is Evt.Evt9 and not self._waiting:
                self._run(event, argument)
            else:
                self._waiting.append((event, argument))
            return
        self._busy = True
        try:
            self._run(event, argument)
            while self._waiting:
                self._run(*self._waiting.popleft())
        finally:
            self._busy = False
            self._waiting.clear()  # not empty only when the provider failed

    def _check(self, event: Evt) -> None:
        if event in _LOCAL and (event, self.state) not in TABLE:
            raise MisuseError(f"{EVENTS[event]} is not possible: {STATES[self.state]}")

    def _run(self, event: Evt, argument: object) -> None:
        cell = TABLE.get((event, self.state))
        if cell is None:
            self._undefined()
            return
        action, (self.state, *_) = cell
        if len(cell[1]) > 1:
            self.state = self._choose(action, cell[1], argument)
        _ACTIONS[action](self._provider, self.state, argument)

    def _choose(self, action: Action, states: tuple[Sta, ...], argument: object) -> Sta:
        if action is Action.AR_8:
            return states[0] if self._requestor else states[1]
        assert isinstance(argument, AssociateRQ)  # AE-6, which has one
        return states[0] if argument.protocol_version & 1 else states[1]

    def _undefined(self) -> None:
        """A blank cell that is nobody's mistake, or the peer's.

        In Sta1 the connection is gone: a close, or PDUs that were already read, change nothing.
        In Sta4 no byte can come before the connection is there. Elsewhere every PDU has a cell,
        and only a primitive that an event before it in the queue overtook comes here.
        """
        if self.state is Sta.Sta4:
            self.state = Sta.Sta1
            self._provider.close_transport()


_LOCAL = set(Evt) - set(PDU_EVENTS.values()) - {Evt.Evt17, Evt.Evt19}
"""Events that come from our own side, so that a blank cell is our own mistake."""


def _send(provider: Provider, _: Sta, pdu: Any) -> None:
    provider.send(pdu.encode())


def _send_data(provider: Provider, _: Sta, data: Any) -> None:
    provider.send(data)


def _close(provider: Provider, _: Sta, __: object) -> None:
    provider.stop_artim()
    provider.close_transport()


def _ae_4(provider: Provider, _: Sta, rejection: Any) -> None:
    provider.associate_confirmation(rejection)
    provider.close_transport()


def _ae_6(provider: Provider, state: Sta, request: Any) -> None:
    provider.stop_artim()
    if state is Sta.Sta3:
        provider.associate_indication(request)
    else:  # no protocol version in common
        _send_last(
            provider, AssociateRJ(RejectResult.PERMANENT, RejectSource.SERVICE_PROVIDER_ACSE, 2)
        )


def _send_last(provider: Provider, pdu: PDU) -> None:
    provider.send(pdu.encode())
    provider.start_artim()


def _ar_3(provider: Provider, _: Sta, __: object) -> None:
    provider.release_confirmation()
    provider.close_transport()


def _aa_3(provider: Provider, _: Sta, abort: Any) -> None:
    provider.abort_indication(AssociationAbortedError(abort.source, abort.reason))
    provider.close_transport()


def _aa_4(provider: Provider, _: Sta, why: object) -> None:
    if isinstance(why, AssociationError):  # which says more than that the connection closed
        provider.abort_indication(why)
        return
    error = ConnectionLostError(f"the connection closed (A-P-ABORT, PS3.8 7.4): {why}")
    error.__cause__ = why if isinstance(why, BaseException) else None
    provider.abort_indication(error)


def _aa_7(provider: Provider, _: Sta, __: object) -> None:
    # Table 9-9 names neither source nor reason; this is what DCMTK and pynetdicom send.
    provider.send(Abort(AbortSource.SERVICE_PROVIDER, AbortReason.UNEXPECTED_PDU).encode())


def _aa_8(provider: Provider, _: Sta, argument: object) -> None:
    reason, why = AbortReason.UNEXPECTED_PDU, "unexpected PDU (PS3.8 9.2.3)"
    if isinstance(argument, ProtocolError):
        reason, why = argument.reason, str(argument)
    _send_last(provider, Abort(AbortSource.SERVICE_PROVIDER, reason))
    provider.abort_indication(
        AssociationAbortedError(AbortSource.SERVICE_PROVIDER, reason, by_peer=False, why=why)
    )


_ACTIONS: dict[Action, Callable[[Provider, Sta, Any], None]] = {
    Action.AE_1: lambda provider, _, __: provider.open_transport(),
    Action.AE_2: _send,
    Action.AE_3: lambda provider, _, accept: provider.associate_confirmation(accept),
    Action.AE_4: _ae_4,
    Action.AE_5: lambda provider, _, __: provider.start_artim(),
    Action.AE_6: _ae_6,
    Action.AE_7: _send,
    Action.AE_8: lambda provider, _, rejection: _send_last(provider, rejection),
    Action.DT_1: _send_data,
    Action.DT_2: lambda provider, _, data: provider.data_indication(data),
    Action.AR_1: lambda provider, _, __: provider.send(ReleaseRQ().encode()),
    Action.AR_2: lambda provider, _, __: provider.release_indication(),
    Action.AR_3: _ar_3,
    Action.AR_4: lambda provider, _, __: _send_last(provider, ReleaseRP()),
    Action.AR_5: lambda provider, _, __: provider.stop_artim(),
    Action.AR_6: lambda provider, _, data: provider.data_indication(data),
    Action.AR_7: _send_data,
    Action.AR_8: lambda provider, _, __: provider.release_indication(),
    Action.AR_9: lambda provider, _, __: provider.send(ReleaseRP().encode()),
    Action.AR_10: lambda provider, _, __: provider.release_confirmation(),
    Action.AA_1: lambda provider, _, __: _send_last(provider, Abort(AbortSource.SERVICE_USER, 0)),
    Action.AA_2: _close,
    Action.AA_3: _aa_3,
    Action.AA_4: _aa_4,
    Action.AA_5: lambda provider, _, __: provider.stop_artim(),
    Action.AA_6: lambda _, __, ___: None,
    Action.AA_7: _aa_7,
    Action.AA_8: _aa_8,
}
