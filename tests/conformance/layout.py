"""A sample of every structure of pdu_layout.csv: its fields one by one, typed in from the table."""

from collections.abc import Callable
from dataclasses import dataclass, field

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
    PDU,
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
from tests.wire import APPLICATION, EXPLICIT, IMPLICIT, VERIFICATION, fixed, item, pdu, uid_item

CALLED, CALLING = b"ARCHIVE         ", b"MODALITY        "
ECHO = CALLED + CALLING + bytes(32)
CONTEXT_RQ = b"\x03\0\0\0" + uid_item(0x30, VERIFICATION) + uid_item(0x40, EXPLICIT)
CONTEXT_AC = b"\x03\0\0\0" + uid_item(0x40, EXPLICIT)
MAXIMUM = item(0x51, b"\0\1\2\3")

Fields = list[bytes]


@dataclass
class Sample:
    """One structure: the bytes of each field, what is around it, and the PDU that it all is.

    `lengths` are the letters of the table for the lengths of fields.
    """

    fields: Fields
    decoded: PDU
    around: Callable[[bytes], bytes] = lambda wire: wire
    lengths: dict[str, int] = field(default_factory=dict)

    @property
    def wire(self) -> bytes:
        return b"".join(self.fields)


def rq(user: UserInformation | None = None, *contexts: PresentationContextRQ) -> AssociateRQ:
    return AssociateRQ("ARCHIVE", "MODALITY", contexts, user)


def ac(user: UserInformation | None = None, *contexts: PresentationContextAC) -> AssociateAC:
    return AssociateAC(contexts, user, ECHO)


def in_rq(items: bytes) -> bytes:
    return pdu(1, fixed() + APPLICATION + items)


def in_ac(items: bytes) -> bytes:
    return pdu(2, fixed() + APPLICATION + items)


def in_context(sub_items: bytes) -> bytes:
    return in_rq(item(0x20, b"\x03\0\0\0" + sub_items))


def sub_item(user: UserInformation, *fields: bytes, **lengths: int) -> Sample:
    """A user data sub-item of an A-ASSOCIATE-RQ; type, reserved byte and length come first."""
    body = b"".join(fields[1:])
    whole = [fields[0], b"\0", len(body).to_bytes(2, "big"), *fields[1:]]
    return Sample(whole, rq(user), lambda wire: in_rq(item(0x50, wire)), lengths)


def four(pdu_type: int, *fields: bytes) -> Fields:
    return [bytes((pdu_type,)), b"\0", b"\0\0\0\4", *fields]


def associate(pdu_type: int, items: bytes) -> Fields:
    length = (68 + len(items)).to_bytes(4, "big")
    head = [bytes((pdu_type,)), b"\0", length, b"\0\1", b"\0\0"]
    return [*head, CALLED, CALLING, bytes(32), items]


SOP_CLASS = b"1.2.840.10008.1.1"
SERVICE = b"1.2.840.10008.4.2"

SAMPLES: dict[str, Sample] = {
    "A-ASSOCIATE-RQ PDU": Sample(
        associate(1, APPLICATION + item(0x20, CONTEXT_RQ) + item(0x50, MAXIMUM)),
        rq(UserInformation(0x00010203), PresentationContextRQ(3, VERIFICATION, (EXPLICIT,))),
    ),
    "A-ASSOCIATE-AC PDU": Sample(
        associate(2, APPLICATION + item(0x21, CONTEXT_AC) + item(0x50, MAXIMUM)),
        ac(UserInformation(0x00010203), PresentationContextAC(3, 0, EXPLICIT)),
    ),
    "A-ASSOCIATE-RJ PDU": Sample(four(3, b"\0", b"\1", b"\2", b"\7"), AssociateRJ(1, 2, 7)),
    "P-DATA-TF PDU": Sample(
        [b"\x04", b"\0", b"\0\0\0\x08", b"\0\0\0\4\3\2ab"], PDataTF((PDV(3, 2, b"ab"),))
    ),
    "PDV item": Sample(
        [b"\0\0\0\4", b"\x03", b"\x02ab"],
        PDataTF((PDV(3, 2, b"ab"),)),
        lambda wire: pdu(4, wire),
    ),
    "A-RELEASE-RQ PDU": Sample(four(5, bytes(4)), ReleaseRQ()),
    "A-RELEASE-RP PDU": Sample(four(6, bytes(4)), ReleaseRP()),
    "A-ABORT PDU": Sample(four(7, b"\0", b"\0", b"\2", b"\5"), Abort(2, 5)),
    "Application Context item": Sample(
        [b"\x10", b"\0", b"\0\x15", b"1.2.840.10008.3.1.1.1"],
        rq(),
        lambda wire: pdu(1, fixed() + wire),
    ),
    "Presentation Context item (RQ)": Sample(
        [b"\x20", b"\0", b"\0\x30", b"\3", b"\0", b"\0", b"\0", CONTEXT_RQ[4:]],
        rq(None, PresentationContextRQ(3, VERIFICATION, (EXPLICIT,))),
        in_rq,
    ),
    "Presentation Context item (AC)": Sample(
        [b"\x21", b"\0", b"\0\x1b", b"\3", b"\0", b"\4", b"\0", CONTEXT_AC[4:]],
        ac(None, PresentationContextAC(3, 4, EXPLICIT)),
        in_ac,
    ),
    "Abstract Syntax sub-item": Sample(
        [b"\x30", b"\0", b"\0\x11", b"1.2.840.10008.1.1"],
        rq(None, PresentationContextRQ(3, VERIFICATION, (IMPLICIT,))),
        lambda wire: in_context(wire + uid_item(0x40, IMPLICIT)),
    ),
    "Transfer Syntax sub-item": Sample(
        [b"\x40", b"\0", b"\0\x11", b"1.2.840.10008.1.2"],
        rq(None, PresentationContextRQ(3, VERIFICATION, (IMPLICIT,))),
        lambda wire: in_context(uid_item(0x30, VERIFICATION) + wire),
    ),
    "User Information item": Sample(
        [b"\x50", b"\0", b"\0\x08", MAXIMUM], rq(UserInformation(0x00010203)), in_rq
    ),
    "Maximum Length sub-item": sub_item(UserInformation(0x00010203), b"\x51", b"\0\1\2\3"),
    "Implementation Class UID sub-item": sub_item(
        UserInformation(implementation_class_uid="1.2.3"), b"\x52", b"1.2.3"
    ),
    "Asynchronous Operations Window sub-item": sub_item(
        UserInformation(window=AsynchronousOperationsWindow(0x0102, 0x0304)),
        b"\x53",
        b"\1\2",
        b"\3\4",
    ),
    "SCP/SCU Role Selection sub-item": sub_item(
        UserInformation(roles=(RoleSelection(VERIFICATION, scu=False, scp=True),)),
        b"\x54",
        b"\0\x11",
        SOP_CLASS,
        b"\0",
        b"\1",
        n=17,
    ),
    "Implementation Version Name sub-item": sub_item(
        UserInformation(implementation_version_name="NAME 1"), b"\x55", b"NAME 1"
    ),
    "SOP Class Extended Negotiation sub-item": sub_item(
        UserInformation(extended=(SOPClassExtendedNegotiation(VERIFICATION, b"\1\0\2"),)),
        b"\x56",
        b"\0\x11",
        SOP_CLASS,
        b"\1\0\2",
        n=17,
    ),
    "SOP Class Common Extended Negotiation sub-item": sub_item(
        UserInformation(
            common_extended=(
                SOPClassCommonExtendedNegotiation("1.2.3", SERVICE.decode(), ("1.2", "1.2.3.4")),
            )
        ),
        b"\x57",
        b"\0\5",
        b"1.2.3",
        b"\0\x11",
        SERVICE,
        b"\0\x0e",
        b"\0\3" + b"1.2" + b"\0\7" + b"1.2.3.4",
        b"",
        n=5,
        m=17,
        k=14,
    ),
    "Related General SOP Class pair (inside 0x57)": Sample(
        [b"\0\7", b"1.2.3.4"],
        rq(
            UserInformation(
                common_extended=(SOPClassCommonExtendedNegotiation("1", "2", ("1.2.3.4",)),)
            )
        ),
        lambda wire: in_rq(item(0x50, item(0x57, b"\0\1\x31\0\1\x32\0\x09" + wire))),
    ),
    "User Identity sub-item (RQ)": sub_item(
        UserInformation(user_identity=UserIdentityRQ(2, b"user", b"passcode", True)),
        b"\x58",
        b"\2",
        b"\1",
        b"\0\4",
        b"user",
        b"\0\x08",
        b"passcode",
        n=4,
    ),
    "User Identity sub-item (AC)": Sample(
        [b"\x59", b"\0", b"\0\x08", b"\0\6", b"ticket"],
        ac(UserInformation(user_identity_response=UserIdentityAC(b"ticket"))),
        lambda wire: in_ac(item(0x50, wire)),
    ),
}
