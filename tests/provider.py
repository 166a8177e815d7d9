"""A Provider that writes down what the machine asks of it, and ways into each state."""

from collections.abc import Callable

from dimse.errors import AssociationError
from dimse.ul.items import PresentationContextAC, PresentationContextRQ
from dimse.ul.machine import Machine
from dimse.ul.pdu import (
    PDV,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    ReleaseRP,
    ReleaseRQ,
    UserInformation,
)
from dimse.ul.table import Evt, Sta
from tests.wire import IMPLICIT, VERIFICATION

REQUEST = AssociateRQ(
    called_ae_title="ARCHIVE",
    calling_ae_title="MODALITY",
    contexts=(PresentationContextRQ(1, VERIFICATION, (IMPLICIT,)),),
    user_information=UserInformation(16384, "1.2.3"),
)
ACCEPT = AssociateAC(
    contexts=(PresentationContextAC(1, 0, IMPLICIT),),
    user_information=UserInformation(16384, "1.2.3"),
    echo=bytes(64),
)
REJECT = AssociateRJ(2, 3, 1)
DATA = PDataTF((PDV(1, 3, b"ab"),))

ARGUMENTS: dict[Evt, object] = {
    Evt.Evt2: REQUEST,
    Evt.Evt3: ACCEPT,
    Evt.Evt4: REJECT,
    Evt.Evt6: REQUEST,
    Evt.Evt7: ACCEPT,
    Evt.Evt8: REJECT,
    Evt.Evt9: DATA.encode(),
    Evt.Evt10: DATA,
    Evt.Evt12: ReleaseRQ(),
    Evt.Evt13: ReleaseRP(),
    Evt.Evt16: Abort(2, 6),
}
"""What comes with an event."""

ESTABLISHED = {True: (1, 2, 3), False: (5, 6, 7)}
"""The events that lead a requestor, or an acceptor, to Sta6."""


def way_to(state: Sta, *, requestor: bool) -> tuple[int, ...]:
    """The events that lead one side to `state`."""
    first, second, _ = sta6 = ESTABLISHED[requestor]
    ways: dict[int, tuple[int, ...]] = {
        1: (),
        2: (first,),
        3: (first, second),
        4: (first,),
        5: (first, second),
        6: sta6,
        7: (*sta6, 11),
        8: (*sta6, 12),
        9: (*sta6, 11, 12),
        10: (*sta6, 11, 12),
        11: (*sta6, 11, 12, 14),
        12: (*sta6, 11, 12, 13),
        13: (*sta6, 15),
    }
    return ways[state]


class RecordingProvider:
    """Every call as (name, arguments); `then` runs inside the first call of its name."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[object, ...]]] = []
        self.then: dict[str, Callable[[], None]] = {}

    @property
    def names(self) -> list[str]:
        """The names of the calls, in order."""
        return [name for name, _ in self.calls]

    @property
    def sent(self) -> list[object]:
        """What was sent, PDU by PDU."""
        return [arguments[0] for name, arguments in self.calls if name == "send"]

    def _note(self, name: str, *arguments: object) -> None:
        self.calls.append((name, arguments))
        self.then.pop(name, lambda: None)()

    def open_transport(self) -> None:
        self._note("open_transport")

    def close_transport(self) -> None:
        self._note("close_transport")

    def send(self, data: bytes) -> None:
        self._note("send", data)

    def start_artim(self) -> None:
        self._note("start_artim")

    def stop_artim(self) -> None:
        self._note("stop_artim")

    def associate_indication(self, request: AssociateRQ) -> None:
        self._note("associate_indication", request)

    def associate_confirmation(self, answer: AssociateAC | AssociateRJ) -> None:
        self._note("associate_confirmation", answer)

    def data_indication(self, data: PDataTF) -> None:
        self._note("data_indication", data)

    def release_indication(self) -> None:
        self._note("release_indication")

    def release_confirmation(self) -> None:
        self._note("release_confirmation")

    def abort_indication(self, error: AssociationError) -> None:
        self._note("abort_indication", error)


def machine_in(state: Sta, *, requestor: bool) -> tuple[Machine, RecordingProvider]:
    """A machine that went to `state` by real events, and its provider without what led there."""
    provider = RecordingProvider()
    machine = Machine(provider, requestor=requestor)
    for number in way_to(state, requestor=requestor):
        machine.handle(Evt(number), ARGUMENTS.get(Evt(number)))
    assert machine.state is state
    provider.calls.clear()
    return machine, provider
