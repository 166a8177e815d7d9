"""Audit messages: what they say, and their XML (PS3.15 A.5, which succeeds RFC 3881).

They hold patient data, which is what they are for: nothing of them belongs in a log.
"""

import unicodedata
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from dimse.security.addresses import address_of

_LONGEST_TEXT = 256  # characters of a value: a person name has 3 times 64 (PS3.5 6.2)
_LONGEST_QUERY = 12 * 1024  # bytes of an Identifier, for 32,768 octets have to be enough (A.6)
_MOST_SOP_CLASSES = 150  # named in one record, for the same reason

_PATIENT_NAME, _PATIENT_ID = 0x00100010, 0x00100020
_ACCESSION_NUMBER, _STUDY_INSTANCE_UID = 0x00080050, 0x0020000D
_UNKNOWN = "<none>"  # for an identifier that is mandatory here, and that nobody knows


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value, mostly of the DICOM Controlled Terminology (PS3.16 D)."""

    value: str
    meaning: str
    system: str = "DCM"


APPLICATION_ACTIVITY = Code("110100", "Application Activity")
BEGIN_TRANSFERRING = Code("110102", "Begin Transferring DICOM Instances")
INSTANCES_TRANSFERRED = Code("110104", "DICOM Instances Transferred")
QUERY = Code("110112", "Query")
SECURITY_ALERT = Code("110113", "Security Alert")
USER_AUTHENTICATION = Code("110114", "User Authentication")

APPLICATION_START = Code("110120", "Application Start")
APPLICATION_STOP = Code("110121", "Application Stop")
LOGIN = Code("110122", "Login")
NODE_AUTHENTICATION = Code("110126", "Node Authentication")
RESTRICTED_FUNCTION = Code("110132", "Use of Restricted Function")

APPLICATION = Code("110150", "Application")
DESTINATION = Code("110152", "Destination Role ID")
SOURCE = Code("110153", "Source Role ID")

STUDY_INSTANCE_UID = Code("110180", "Study Instance UID")
SOP_CLASS_UID = Code("110181", "SOP Class UID")
NODE_ID = Code("110182", "Node ID")
PATIENT_NUMBER = Code("2", "Patient Number", "RFC-3881")


class EventOutcome(IntEnum):
    """How it went (PS3.15 A.5.2)."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveParticipant:
    """Who took part: a person, a process or a node (PS3.15 A.5.2.1 to A.5.2.4).

    `access_point` is its host name or address, "" where that is not known.
    """

    user_id: str
    alternative_user_id: str = ""
    is_requestor: bool = False
    roles: tuple[Code, ...] = ()
    access_point: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticipantObject:
    """What it was about (PS3.15 A.5.2): it has a name, or the `query` that it is.

    `details` are values by their type, `sop_classes` the numbers of instances by SOP Class UID.
    """

    id: str
    id_type: Code
    type_code: int
    role: int
    name: str = ""
    query: bytes | None = None
    details: tuple[tuple[str, bytes], ...] = ()
    accession_number: str = ""
    sop_classes: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditMessage:
    """One event (PS3.15 A.5.1); `action` is C, R, U, D or E, as printed there."""

    event_id: Code
    action: str
    participants: tuple[ActiveParticipant, ...]
    objects: tuple[ParticipantObject, ...] = ()
    event_type: Code | None = None
    outcome: EventOutcome = EventOutcome.SUCCESS
    description: str = ""

    def encode(self, time: datetime, source_id: str) -> bytes:
        """As XML in UTF-8, in one line. `time`, in UTC, is when it happened, `source_id` says
        who saw it."""
        root = Element("AuditMessage")
        event = _element(
            root,
            "EventIdentification",
            EventActionCode=self.action,
            EventDateTime=time.isoformat(timespec="milliseconds"),
            EventOutcomeIndicator=str(int(self.outcome)),
        )
        _coded(event, "EventID", self.event_id)
        if self.event_type is not None:
            _coded(event, "EventTypeCode", self.event_type)
        if self.description:
            SubElement(event, "EventOutcomeDescription").text = printable(self.description)
        for participant in self.participants:
            _add_participant(root, participant)
        source = _element(root, "AuditSourceIdentification", AuditSourceID=source_id)
        _element(source, "AuditSourceTypeCode", **{"csd-code": "4"})  # application server process
        for each in self.objects:
            _add_object(root, each)
        text: str = tostring(root, "unicode")
        return f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()


def printable(text: str) -> str:
    """What a peer sent, fit for XML and for one line of text: control characters, those that
    change the direction of writing, and what XML cannot hold are escaped; it is cut where it is
    longer than any value should be."""
    if len(text) > _LONGEST_TEXT:
        text = text[:_LONGEST_TEXT] + "\N{HORIZONTAL ELLIPSIS}"
    if text.isprintable():
        return text
    return "".join(map(_printable, text))


def _printable(character: str) -> str:
    # A space of another script is no control character: Japanese names have it.
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")


def _element(parent: Element, tag: str, **attributes: str) -> Element:
    values = {name: printable(value) for name, value in attributes.items()}
    return SubElement(parent, tag, values)


def _coded(parent: Element, tag: str, code: Code) -> None:
    values = {"csd-code": code.value, "codeSystemName": code.system, "originalText": code.meaning}
    _element(parent, tag, **values)


def _add_participant(root: Element, participant: ActiveParticipant) -> None:
    attributes = {"UserID": participant.user_id or _UNKNOWN}
    if participant.alternative_user_id:
        attributes["AlternativeUserID"] = participant.alternative_user_id
    attributes["UserIsRequestor"] = "true" if participant.is_requestor else "false"
    if place := participant.access_point:
        attributes["NetworkAccessPointID"] = place
        # An IP address, or the name of a machine (PS3.15 A.5.2.4).
        attributes["NetworkAccessPointTypeCode"] = "1" if address_of(place) is None else "2"
    element = _element(root, "ActiveParticipant", **attributes)
    for role in participant.roles:
        _coded(element, "RoleIDCode", role)


def _add_object(root: Element, thing: ParticipantObject) -> None:
    element = _element(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=thing.id or _UNKNOWN,
        ParticipantObjectTypeCode=str(thing.type_code),
        ParticipantObjectTypeCodeRole=str(thing.role),
    )
    _coded(element, "ParticipantObjectIDTypeCode", thing.id_type)
    if thing.query is not None:
        SubElement(element, "ParticipantObjectQuery").text = _base64(thing.query)
    else:
        name = printable(thing.name or thing.id or _UNKNOWN)
        SubElement(element, "ParticipantObjectName").text = name
    for kind, value in thing.details:
        SubElement(element, "ParticipantObjectDetail", {"type": kind, "value": _base64(value)})
    if thing.accession_number or thing.sop_classes:
        described = SubElement(element, "ParticipantObjectDescription")
        if thing.accession_number:
            _element(described, "Accession", Number=thing.accession_number)
        _add_sop_classes(described, thing.sop_classes or {})


def _add_sop_classes(described: Element, sop_classes: Mapping[str, int]) -> None:
    """Those that are too many are counted together, without a UID."""
    named = list(sop_classes.items())
    others = sum(count for _, count in named[_MOST_SOP_CLASSES:])
    for uid, count in named[:_MOST_SOP_CLASSES]:
        _element(described, "SOPClass", UID=uid, NumberOfInstances=str(count))
    if others:
        _element(described, "SOPClass", NumberOfInstances=str(others))


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


@dataclass(frozen=True, slots=True)
class Study:
    """What a record tells of a study and its patient; "" is not known."""

    study_instance_uid: str
    patient_id: str = ""
    patient_name: str = ""
    accession_number: str = ""

    @classmethod
    def of(cls, attributes: Mapping[int, Any]) -> "Study":
        """From attributes as text, by tag."""
        tags = (_STUDY_INSTANCE_UID, _PATIENT_ID, _PATIENT_NAME, _ACCESSION_NUMBER)
        values = (attributes.get(tag) for tag in tags)
        return cls(*(value if isinstance(value, str) else "" for value in values))


def application_entity(
    ae_title: str, host: str = "", *, requestor: bool = False, role: Code | None = None
) -> ActiveParticipant:
    """An application entity as participant: by its AE title, as it is in the log."""
    return ActiveParticipant(
        user_id=ae_title,
        alternative_user_id=f"AETITLES={ae_title}" if ae_title else "",
        is_requestor=requestor,
        roles=() if role is None else (role,),
        access_point=host,
    )


def application_activity(event_type: Code, node: ActiveParticipant) -> AuditMessage:
    """The node starts or stops (PS3.15 A.5.3.1)."""
    return AuditMessage(
        event_id=APPLICATION_ACTIVITY, action="E", event_type=event_type, participants=(node,)
    )


def transfer(
    event_id: Code,
    action: str,
    participants: tuple[ActiveParticipant, ...],
    study: Study,
    sop_classes: Mapping[str, int],
    description: str = "",
) -> AuditMessage:
    """Instances of one study begin to be, or were, transferred (PS3.15 A.5.3.3, A.5.3.7).

    With a `description` they were not. Without a study, as of a hanging protocol (PS3.4 GG), the
    objects are the SOP classes.
    """
    return AuditMessage(
        event_id=event_id,
        action=action,
        participants=participants,
        objects=_study_objects(study, sop_classes),
        outcome=EventOutcome.MINOR_FAILURE if description else EventOutcome.SUCCESS,
        description=description,
    )


def _study_objects(study: Study, sop_classes: Mapping[str, int]) -> tuple[ParticipantObject, ...]:
    if not study.study_instance_uid:
        return tuple(
            ParticipantObject(
                id=uid, id_type=SOP_CLASS_UID, type_code=2, role=3, sop_classes={uid: count}
            )
            for uid, count in list(sop_classes.items())[:_MOST_SOP_CLASSES]
        )
    return (
        ParticipantObject(
            id=study.study_instance_uid,
            id_type=STUDY_INSTANCE_UID,
            type_code=2,  # system object
            role=3,  # report
            # The two belong together (PS3.15 Table A.5.2-1); before a transfer nothing is counted.
            accession_number=study.accession_number if sop_classes else "",
            sop_classes=sop_classes,
        ),
        ParticipantObject(
            id=study.patient_id,
            id_type=PATIENT_NUMBER,
            type_code=1,  # person
            role=1,  # patient
            name=study.patient_name,
        ),
    )


def query(
    participants: tuple[ActiveParticipant, ...],
    sop_class_uid: str,
    identifier: bytes,
    transfer_syntax: str,
) -> AuditMessage:
    """A query came (PS3.15 A.5.3.10); of a very long Identifier the record has the beginning."""
    details = [("TransferSyntax", transfer_syntax.encode())]
    if len(identifier) > _LONGEST_QUERY:
        details.append(("OriginalLength", str(len(identifier)).encode()))
    asked = ParticipantObject(
        id=sop_class_uid,
        id_type=SOP_CLASS_UID,
        type_code=2,
        role=3,
        query=identifier[:_LONGEST_QUERY],
        details=tuple(details),
    )
    return AuditMessage(event_id=QUERY, action="E", participants=participants, objects=(asked,))


def security_alert(
    event_type: Code, reporting: ActiveParticipant, subject: ActiveParticipant, description: str
) -> AuditMessage:
    """A node may not do what it tried, and did not do it (PS3.15 A.5.3.11)."""
    node = ParticipantObject(
        id=subject.access_point,
        id_type=NODE_ID,
        type_code=2,
        role=13,  # security resource
        name=subject.user_id,
        details=(("Alert Description", printable(description).encode()),),
    )
    return AuditMessage(
        event_id=SECURITY_ALERT,
        action="E",
        event_type=event_type,
        participants=(reporting, subject),
        objects=(node,),
        outcome=EventOutcome.MINOR_FAILURE,
        description=description,
    )


def user_authentication(
    user: ActiveParticipant, node: ActiveParticipant, failure: str
) -> AuditMessage:
    """A user logged in, or did not for the reason `failure` (PS3.15 A.5.3.12)."""
    return AuditMessage(
        event_id=USER_AUTHENTICATION,
        action="E",
        event_type=LOGIN,
        participants=(user, node),
        outcome=EventOutcome.SERIOUS_FAILURE if failure else EventOutcome.SUCCESS,
        description=failure,
    )
