"""Every worked example, byte for byte in both directions, with the command sets inside."""

import pytest

from dimse.message import command
from dimse.message.base import Message
from dimse.message.messages import MESSAGES, CEchoRQ, CEchoRSP, CStoreRQ
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
from dimse.ul.pdv import MessageReader, cut
from tests.tables import example, rows
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT, VERIFICATION, receive

INDEX = {row["name"]: row for row in rows("worked_examples/index")}

STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"
CLASS_UID = "2.25.115690642664554177581257391277091994865"
INSTANCE = "2.25.265798919613376044541612257037902654415"
ROLE = RoleSelection(CT_STORAGE, scu=False, scp=True)

PDUS: dict[str, PDU] = {
    "01_associate_rq_verification": AssociateRQ(
        called_ae_title="ACCEPTOR",
        calling_ae_title="REQUESTOR",
        contexts=(PresentationContextRQ(1, VERIFICATION, (IMPLICIT,)),),
        user_information=UserInformation(16384, CLASS_UID, "EXAMPLE_1"),
    ),
    "02_associate_rq_full": AssociateRQ(
        called_ae_title="ARCHIVE",
        calling_ae_title="WORKSTATION",
        contexts=(
            PresentationContextRQ(1, STUDY_FIND, (EXPLICIT, IMPLICIT)),
            PresentationContextRQ(3, STUDY_GET, (IMPLICIT,)),
            PresentationContextRQ(5, CT_STORAGE, (EXPLICIT, IMPLICIT)),
        ),
        user_information=UserInformation(
            maximum_length=32768,
            implementation_class_uid=CLASS_UID,
            implementation_version_name="EXAMPLE_1",
            window=AsynchronousOperationsWindow(4, 1),
            roles=(ROLE,),
            extended=(SOPClassExtendedNegotiation(STUDY_FIND, b"\1\1\0\0\0"),),
            common_extended=(
                SOPClassCommonExtendedNegotiation(
                    "1.2.840.10008.5.1.4.1.1.88.40",
                    "1.2.840.10008.4.2",
                    ("1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.88.33"),
                ),
            ),
            user_identity=UserIdentityRQ(2, b"operator", b"secret", response_requested=True),
        ),
    ),
    "03_associate_ac_full": AssociateAC(
        contexts=(
            PresentationContextAC(1, 0, EXPLICIT),
            PresentationContextAC(3, 3, IMPLICIT),
            PresentationContextAC(5, 0, IMPLICIT),
        ),
        user_information=UserInformation(
            maximum_length=0,
            implementation_class_uid=CLASS_UID,
            implementation_version_name="EXAMPLE_1",
            window=AsynchronousOperationsWindow(1, 1),
            roles=(ROLE,),
            extended=(SOPClassExtendedNegotiation(STUDY_FIND, b"\1\0\0\0\0"),),
            user_identity_response=UserIdentityAC(b""),
        ),
        echo=b"ARCHIVE".ljust(16) + b"WORKSTATION".ljust(16) + bytes(32),
    ),
    "04_associate_rj_called_ae": AssociateRJ(1, 1, 7),
    "05_associate_rj_protocol_version": AssociateRJ(1, 2, 2),
    "06_associate_rj_congestion": AssociateRJ(2, 3, 1),
    "07_release_rq": ReleaseRQ(),
    "08_release_rp": ReleaseRP(),
    "09_abort_user": Abort(0, 0),
    "10_abort_provider": Abort(2, 2),
}

STORE = CStoreRQ(
    message_id=8,
    affected_sop_class_uid=CT_STORAGE,
    affected_sop_instance_uid=INSTANCE,
    priority=0,
    move_originator_application_entity_title="MOVESCU",
    move_originator_message_id=5,
)
MESSAGES_INSIDE: dict[str, tuple[int, Message]] = {
    "11_c_echo_rq": (1, CEchoRQ(message_id=7, affected_sop_class_uid=VERIFICATION)),
    "12_c_echo_rsp": (
        1,
        CEchoRSP(message_id_being_responded_to=7, status=0, affected_sop_class_uid=VERIFICATION),
    ),
    "13_c_store_rq_one_pdu": (5, STORE),
    "14_c_store_rq_fragmented": (5, STORE),
}

PENDING: dict[str, command.Value] = {
    "AffectedSOPClassUID": STUDY_FIND,
    "CommandField": 0x8020,
    "MessageIDBeingRespondedTo": 9,
    "CommandDataSetType": 0x0001,
    "Status": 0xFF00,
}
MOVING: dict[str, command.Value] = {
    "AffectedSOPClassUID": STUDY_MOVE,
    "CommandField": 0x8021,
    "MessageIDBeingRespondedTo": 5,
    "NumberOfWarningSuboperations": 0,
}
COMMANDS_INSIDE: dict[str, list[dict[str, command.Value]]] = {
    "15_c_find_rq": [
        {
            "AffectedSOPClassUID": STUDY_FIND,
            "CommandField": 0x0020,
            "MessageID": 9,
            "Priority": 2,
            "CommandDataSetType": 0x0001,
        }
    ],
    "16_c_find_rsp": [{**PENDING}, {**PENDING, "CommandDataSetType": 0x0101, "Status": 0}],
    "17_c_move_rq": [
        {
            "AffectedSOPClassUID": STUDY_MOVE,
            "CommandField": 0x0021,
            "MessageID": 5,
            "MoveDestination": "STORESCP",
            "Priority": 0,
            "CommandDataSetType": 0x0001,
        }
    ],
    "18_c_move_rsp": [
        {
            **MOVING,
            "CommandDataSetType": 0x0101,
            "Status": 0xFF00,
            "NumberOfRemainingSuboperations": 2,
            "NumberOfCompletedSuboperations": 1,
            "NumberOfFailedSuboperations": 0,
        },
        {
            **MOVING,
            "CommandDataSetType": 0x0001,
            "Status": 0xB000,
            "NumberOfCompletedSuboperations": 2,
            "NumberOfFailedSuboperations": 1,
        },
    ],
    "19_c_cancel_rq": [
        {"CommandField": 0x0FFF, "MessageIDBeingRespondedTo": 9, "CommandDataSetType": 0x0101}
    ],
    "20_n_action_rq_storage_commitment": [
        {
            "RequestedSOPClassUID": "1.2.840.10008.1.20.1",
            "CommandField": 0x0130,
            "MessageID": 11,
            "CommandDataSetType": 0x0001,
            "RequestedSOPInstanceUID": "1.2.840.10008.1.20.1.1",
            "ActionTypeID": 1,
        }
    ],
}
P_DATA = [name for name in INDEX if name not in PDUS]


class _Messages:
    """Collects the messages of a MessageReader as (context id, command set, data set)."""

    def __init__(self) -> None:
        self.found: list[tuple[int, bytes, bytes]] = []

    def command_received(self, context_id: int, command_set: bytes) -> bool:
        self.found.append((context_id, command_set, b""))
        return command.decode(command_set)["CommandDataSetType"] != 0x0101

    def data_received(self, fragment: memoryview) -> None:
        context_id, command_set, data = self.found[-1]
        self.found[-1] = context_id, command_set, data + fragment

    def data_ended(self) -> None:
        """Nothing to keep."""


def messages(name: str) -> list[tuple[int, bytes, bytes]]:
    """The messages in an example of P-DATA-TF PDUs."""
    collected = _Messages()
    reader = MessageReader(
        collected, {1, 3, 5}, command_length=999, data_length=999, empty_fragments=0
    )
    for wire in example(name):
        decoded = receive(wire)
        assert isinstance(decoded, PDataTF)
        reader.receive(decoded)
    assert not reader.incomplete
    return collected.found


@pytest.mark.parametrize("name", INDEX)
class TestEach:
    def test_is_whole(self, name: str):
        wires = example(name)
        assert len(wires) == int(INDEX[name]["pdus"])
        assert sum(map(len, wires)) == int(INDEX[name]["bytes"])

    def test_encoded_again_it_is_the_same(self, name: str):
        for wire in example(name):
            assert receive(wire).encode() == wire


@pytest.mark.parametrize("name", PDUS)
def test_pdu(name: str):
    """What it decodes to, and what that encodes to."""
    [wire] = example(name)
    decoded = receive(wire)
    assert decoded == PDUS[name]
    assert type(decoded) is type(PDUS[name])
    assert PDUS[name].encode() == wire


def test_every_example_is_in_a_test():
    assert set(INDEX) == {*PDUS, *MESSAGES_INSIDE, *COMMANDS_INSIDE}


@pytest.mark.parametrize("name", MESSAGES_INSIDE)
def test_message(name: str):
    [(context_id, command_set, _)] = messages(name)
    assert MESSAGES_INSIDE[name][0] == context_id
    assert MESSAGES_INSIDE[name][1].encode() == command_set
    elements = command.decode(command_set)
    kind = MESSAGES[int(str(elements["CommandField"]))]
    assert kind.refusal(elements) is None
    assert kind.decode(elements) == MESSAGES_INSIDE[name][1]


@pytest.mark.parametrize("name", COMMANDS_INSIDE)
def test_command_set(name: str):
    found = [command_set for _, command_set, _ in messages(name)]
    for command_set, expected in zip(found, COMMANDS_INSIDE[name], strict=True):
        elements = command.decode(command_set)
        assert elements.pop("CommandGroupLength") == len(command_set) - 12
        assert elements == expected
        assert command.encode(expected) == command_set


@pytest.mark.parametrize("name", P_DATA)
def test_message_encoded_again_is_the_same(name: str):
    """As the class of its Command Field, with a data set or without."""
    for _, command_set, data in messages(name):
        elements = command.decode(command_set)
        kind = MESSAGES[int(str(elements["CommandField"]))]
        assert kind.refusal(elements) is None
        assert kind.decode(elements).encode(has_data_set=bool(data)) == command_set


def test_fragments_make_the_same_message():
    """Example 14 is the message of example 13 in three PDUs."""
    assert messages("13_c_store_rq_one_pdu") == messages("14_c_store_rq_fragmented")


def test_cut_makes_the_fragments_of_the_example():
    """Command, 60 bytes of the data set, the rest: as in example 14, one fragment a PDU."""
    [(context_id, command_set, data)] = messages("14_c_store_rq_fragmented")
    pieces = cut(context_id, 1, command_set, 1000, last=True)
    pieces += cut(context_id, 0, data, 60, last=True)
    assert b"".join(pieces) == b"".join(example("14_c_store_rq_fragmented"))


def test_pdvs_of_one_message_in_one_pdu():
    [wire] = example("13_c_store_rq_one_pdu")
    [(_, command_set, data)] = messages("13_c_store_rq_one_pdu")
    assert PDataTF((PDV(5, 3, command_set), PDV(5, 2, data))).encode() == wire
