"""What scripted peers say: whole PDUs, ready to be sent."""

from collections.abc import Callable

from dimse.message.base import Message
from dimse.message.messages import CEchoRQ, CEchoRSP, CStoreRQ, CStoreRSP
from dimse.ul.items import PresentationContextAC, PresentationContextRQ
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
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT, VERIFICATION

USER = UserInformation(16384, "1.2.3.4")
REQUEST = AssociateRQ(
    called_ae_title="ARCHIVE",
    calling_ae_title="MODALITY",
    contexts=(
        PresentationContextRQ(1, VERIFICATION, (IMPLICIT,)),
        PresentationContextRQ(3, CT_STORAGE, (EXPLICIT,)),
    ),
    user_information=USER,
)
RQ = REQUEST.encode()
AC = AssociateAC(
    contexts=(PresentationContextAC(1, 0, IMPLICIT), PresentationContextAC(3, 0, EXPLICIT)),
    user_information=USER,
    echo=bytes(64),
).encode()
RJ = AssociateRJ(1, 1, 7).encode()
RELEASE_RQ = ReleaseRQ().encode()
RELEASE_RP = ReleaseRP().encode()
ABORT = Abort(0, 0).encode()
UNEXPECTED = Abort(2, 2)  # what AA-8 answers to a PDU that the state does not allow
INVALID = Abort(2, 6)

COMMAND, LAST = 1, 2


def p_data(*pdvs: tuple[int, int, bytes]) -> bytes:
    """One P-DATA-TF of (context id, control header, fragment)."""
    return PDataTF(tuple(PDV(*pdv) for pdv in pdvs)).encode()


def command(message: Message, context_id: int = 1) -> bytes:
    """A command set in a PDU of its own."""
    return p_data((context_id, COMMAND | LAST, message.encode()))


def echo_rq(message_id: int = 1) -> CEchoRQ:
    return CEchoRQ(message_id=message_id, affected_sop_class_uid=VERIFICATION)


def echo_rsp(message_id: int = 1, status: int = 0) -> bytes:
    return command(CEchoRSP(message_id_being_responded_to=message_id, status=status))


def store_rq(message_id: int = 1, uid: str = "1.2.3") -> CStoreRQ:
    return CStoreRQ(
        message_id=message_id,
        affected_sop_class_uid=CT_STORAGE,
        affected_sop_instance_uid=uid,
        priority=0,
    )


def store_rsp(message_id: int = 1, status: int = 0) -> bytes:
    return command(CStoreRSP(message_id_being_responded_to=message_id, status=status), 3)


ECHO = command(echo_rq())
STORE = command(store_rq(), 3)


def data(fragment: bytes, *, last: bool = True) -> bytes:
    """A fragment of a data set in the context of CT Image Storage."""
    return p_data((3, LAST if last else 0, fragment))


class Bytes:
    """A source in memory; `on_read` is called before each piece is read."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.length = self.left = len(content)
        self.on_read: Callable[[], object] = lambda: None

    def read(self, count: int) -> bytes:
        self.on_read()
        start = self.length - self.left
        self.left -= count
        return self.content[start : start + count]
