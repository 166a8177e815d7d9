"""A peer that does what a test says, however wrong that is (PS3.8 9.3, PS3.7 9.3)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from dimse.errors import AbortReason, AbortSource, RejectResult, RejectSource
from dimse.implementation import CALLED_AE_TITLE, CALLING_AE_TITLE
from dimse.message import command
from dimse.message.base import Message, Request
from dimse.message.messages import MESSAGES
from dimse.requestor import DEFAULT_TRANSFER_SYNTAXES, VERIFICATION, ProposedContext
from dimse.testing.transport import Transport
from dimse.ul.framing import Framer
from dimse.ul.negotiation import Policy, SupportedContext, negotiate, propose
from dimse.ul.pdu import (
    COMMAND_BIT,
    LAST_BIT,
    PDU,
    PDUS,
    Abort,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    ReleaseRP,
    ReleaseRQ,
)
from dimse.ul.pdv import cut, fragment_length

MAXIMUM_LENGTH = 16 * 1024  # of a P-DATA-TF that it says to take
_FRAGMENT = fragment_length(4 * 1024)  # what `Limits.maximum_length` is at least

_ANYTHING = SupportedContext(None, scp=True, scu=True)


class Received(NamedTuple):
    """A whole message that came, its context, and its data set, encoded; b"" if it has none."""

    message: Message
    context_id: int
    data: bytes


class ScriptedPeer(Protocol):
    """One connection of a peer without a will of its own.

    Everything that it sends goes out at once, and the network runs until nothing happens any
    more. Nothing is checked: it may send what it wants when it wants. `received` are the bytes
    that came, `pdus` and `messages` what they are; `received.clear()` forgets them. `closed` tells
    whether the connection is gone.
    """

    transport: Transport

    def __init__(self, run: Callable[[], object]) -> None:
        self.received = bytearray()
        self.closed = False
        self._run = run

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self.closed = True

    # What came

    @property
    def pdus(self) -> list[PDU]:
        """All whole PDUs that came."""
        framer = Framer(lambda pdu_type, length: True)
        framer.feed(bytes(self.received))
        pdus = []
        while (found := framer.next_pdu()) is not None:
            pdu_type, body = found
            pdus.append(PDUS[pdu_type].decode(body))
        return pdus

    @property
    def messages(self) -> list[Received]:
        """All whole messages that came."""
        messages = []
        command_set, data_set = bytearray(), bytearray()
        pdvs = (pdv for pdu in self.pdus if isinstance(pdu, PDataTF) for pdv in pdu.pdvs)
        for pdv in pdvs:
            is_command = pdv.control & COMMAND_BIT
            (command_set if is_command else data_set).extend(pdv.fragment)
            if not pdv.control & LAST_BIT:
                continue
            elements = command.decode(bytes(command_set))
            if is_command and elements["CommandDataSetType"] != command.NO_DATA_SET:
                continue
            field = elements["CommandField"]
            assert isinstance(field, int)
            message = MESSAGES[field].decode(elements)
            messages.append(Received(message, pdv.context_id, bytes(data_set)))
            command_set.clear()
            data_set.clear()
        return messages

    # What it sends

    def send(self, *parts: PDU | bytes) -> None:
        """Send PDUs, or bytes that need not be any."""
        data = b"".join(part if isinstance(part, bytes) else part.encode() for part in parts)
        self.transport.write(data)
        self._run()

    def associate(
        self,
        contexts: Iterable[ProposedContext] = (VERIFICATION,),
        *,
        called_ae_title: str = CALLED_AE_TITLE,
        calling_ae_title: str = CALLING_AE_TITLE,
        **options: Any,
    ) -> None:
        """Send A-ASSOCIATE-RQ; the contexts get the ids 1, 3, 5 ...

        Arguments are as for `dimse.associate`; `options` are those of
        `dimse.ul.negotiation.propose`.
        """
        pairs = [
            (each, DEFAULT_TRANSFER_SYNTAXES) if isinstance(each, str) else each
            for each in contexts
        ]
        titles = {"called_ae_title": called_ae_title, "calling_ae_title": calling_ae_title}
        self.send(propose(pairs, **{"maximum_length": MAXIMUM_LENGTH, **titles, **options}))

    def accept(self, contexts: Mapping[str, SupportedContext] | None = None, **policy: Any) -> None:
        """Answer the A-ASSOCIATE-RQ that came.

        `contexts` are supported, by abstract syntax; without them every context is accepted, with
        the first transfer syntax. `policy` are further fields of `dimse.ul.negotiation.Policy`.
        """
        self._run()
        request = next((pdu for pdu in self.pdus if isinstance(pdu, AssociateRQ)), None)
        if request is None:
            raise AssertionError("no A-ASSOCIATE-RQ has come that could be accepted")
        if contexts is None:
            policy = {"otherwise": lambda _: _ANYTHING, **policy}
        fields = {"contexts": contexts or {}, "maximum_length": MAXIMUM_LENGTH, **policy}
        self.send(negotiate(request, Policy(**fields)))

    def reject(
        self,
        result: int = RejectResult.PERMANENT,
        source: int = RejectSource.SERVICE_USER,
        reason: int = 1,
    ) -> None:
        """Send A-ASSOCIATE-RJ (PS3.8 9.3.4); the default gives no reason."""
        self.send(AssociateRJ(result, source, reason))

    def command(
        self,
        message: Message,
        data: bytes | None = None,
        *,
        context_id: int = 1,
        complete: bool = True,
    ) -> None:
        """Send a message, and `data` as its data set.

        Without `complete` more of the data set could follow: the last fragment is not marked.
        """
        encoded = message.encode(has_data_set=data is not None)
        pieces = cut(context_id, COMMAND_BIT, encoded, _FRAGMENT, last=True)
        if data is not None:
            pieces += cut(context_id, 0, data, _FRAGMENT, last=complete)
        self.send(b"".join(pieces))

    def respond(self, status: int = 0x0000, data: bytes | None = None, **elements: Any) -> None:
        """Send a response to the request that came last.

        `data` is its data set, encoded; `elements` are further fields of the response.
        """
        self._run()
        requests = [each for each in self.messages if isinstance(each.message, Request)]
        if not requests:
            raise AssertionError("no whole request has come that could be responded to")
        request: Any = requests[-1].message
        response = request.respond(status, **elements)
        self.command(response, data, context_id=requests[-1].context_id)

    def release(self) -> None:
        """Send A-RELEASE-RQ."""
        self.send(ReleaseRQ())

    def release_response(self) -> None:
        """Send A-RELEASE-RP."""
        self.send(ReleaseRP())

    def abort(
        self,
        source: int = AbortSource.SERVICE_USER,
        reason: int = AbortReason.NOT_SPECIFIED,
    ) -> None:
        """Send A-ABORT (PS3.8 9.3.8)."""
        self.send(Abort(source, reason))

    # What it does with the connection

    def stop_reading(self) -> None:
        """Let what comes wait, until `start_reading`."""
        self.transport.deaf = True

    def start_reading(self) -> None:
        """Read what waits, and what comes."""
        self.transport.deaf = False
        self._run()

    def close(self) -> None:
        """Close the connection, without a word."""
        self.transport.loseConnection()
        self._run()
