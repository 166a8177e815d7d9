"""Audit messages against the schema of PS3.15 A.5.1 and the tables of A.5.3."""

import re
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sr._concepts_dict import concepts

from dimse.security import audit
from dimse.security.audit import AuditMessage, Code, Study, application_entity
from tests.security.schema import checked

TIME = datetime(2026, 11, 26, 9, 30, 5, 123456, UTC)
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
STUDY = Study("1.2.3", "P-1", "Müller^Änne", "A 77")
US = application_entity("ARCHIVE", "pacs.example", role=audit.DESTINATION)
PEER = application_entity("CT1", "192.0.2.7", requestor=True, role=audit.SOURCE)
BETWEEN = (PEER, US)
NODE = application_entity("ARCHIVE", "pacs.example", role=audit.APPLICATION)

MESSAGES: dict[str, AuditMessage] = {
    "start": audit.application_activity(audit.APPLICATION_START, NODE),
    "stop": audit.application_activity(audit.APPLICATION_STOP, NODE),
    "begin": audit.transfer(audit.BEGIN_TRANSFERRING, "E", BETWEEN, STUDY, {}),
    "transferred": audit.transfer(
        audit.INSTANCES_TRANSFERRED, "C", BETWEEN, STUDY, {CT: 120, MR: 1}
    ),
    "failed": audit.transfer(audit.INSTANCES_TRANSFERRED, "R", BETWEEN, STUDY, {CT: 1}, "not sent"),
    "without a study": audit.transfer(
        audit.INSTANCES_TRANSFERRED, "C", BETWEEN, Study(""), {CT: 1, MR: 2}
    ),
    "without a patient": audit.transfer(
        audit.INSTANCES_TRANSFERRED, "C", BETWEEN, Study("1.2.3"), {CT: 1}
    ),
    "query": audit.query(
        BETWEEN, "1.2.840.10008.5.1.4.1.2.2.1", b"\x08\0\x52\0", "1.2.840.10008.1.2"
    ),
    "alert": audit.security_alert(audit.NODE_AUTHENTICATION, US, PEER, "called X: rejected"),
    "login": audit.user_authentication(PEER, US, ""),
    "no login": audit.user_authentication(PEER, US, "wrong passcode"),
}


def sent(message: AuditMessage) -> Element:
    return checked(message.encode(TIME, "ARCHIVE"))


def code_of(element: Element | None) -> tuple[Any, ...]:
    assert element is not None
    return tuple(element.get(name) for name in ("csd-code", "codeSystemName", "originalText"))


DOCUMENT = Path(__file__).parents[2] / "docs" / "audit.md"
CODES = [value for value in vars(audit).values() if isinstance(value, Code)]


@pytest.mark.parametrize("message", MESSAGES.values(), ids=list(MESSAGES))
def test_is_of_the_schema(message: AuditMessage) -> None:
    event = sent(message).find("EventIdentification")
    assert event is not None
    assert event.get("EventDateTime") == "2026-11-26T09:30:05.123+00:00"


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.meaning)
def test_codes_are_those_of_the_terminology(code: Code) -> None:
    if code.system == "DCM":
        table: Any = concepts["DCM"]
        meanings = [codes[code.value][0] for codes in table.values() if code.value in codes]
        assert meanings == [code.meaning]
    else:
        assert (code.value, code.system) == ("2", "RFC-3881")


# Message, EventID, EventActionCode, EventTypeCode, outcome, roles (A.5.3.1, 3, 7, 10, 11, 12).
TABLES = [
    ("start", "110100", "E", "110120", "0", [["110150"]]),
    ("stop", "110100", "E", "110121", "0", [["110150"]]),
    ("begin", "110102", "E", None, "0", [["110153"], ["110152"]]),
    ("transferred", "110104", "C", None, "0", [["110153"], ["110152"]]),
    ("failed", "110104", "R", None, "4", [["110153"], ["110152"]]),
    ("query", "110112", "E", None, "0", [["110153"], ["110152"]]),
    ("alert", "110113", "E", "110126", "4", [["110152"], ["110153"]]),
    ("login", "110114", "E", "110122", "0", [["110153"], ["110152"]]),
    ("no login", "110114", "E", "110122", "8", [["110153"], ["110152"]]),
]


@pytest.mark.parametrize(("name", "event_id", "action", "kind", "outcome", "roles"), TABLES)
def test_says_what_happened_and_to_whom(
    name: str, event_id: str, action: str, kind: str | None, outcome: str, roles: list[list[str]]
) -> None:
    root = sent(MESSAGES[name])
    event = root.find("EventIdentification")
    assert event is not None
    assert code_of(event.find("EventID"))[0] == event_id
    types = [each.get("csd-code") for each in event.findall("EventTypeCode")]
    assert types == ([kind] if kind else [])
    assert (event.get("EventActionCode"), event.get("EventOutcomeIndicator")) == (action, outcome)
    participants = root.findall("ActiveParticipant")
    assert [[r.get("csd-code") for r in p.findall("RoleIDCode")] for p in participants] == roles
    requestors = [each for each in participants if each.get("UserIsRequestor") == "true"]
    assert len(requestors) <= 1


def test_a_transfer_is_of_one_study_and_one_patient() -> None:
    study, patient = sent(MESSAGES["transferred"]).findall("ParticipantObjectIdentification")
    assert study.get("ParticipantObjectID") == "1.2.3"
    assert code_of(study.find("ParticipantObjectIDTypeCode"))[0] == "110180"
    accession = study.find("ParticipantObjectDescription/Accession")
    assert accession is not None
    assert accession.get("Number") == "A 77"
    classes = study.findall("ParticipantObjectDescription/SOPClass")
    assert [(c.get("UID"), c.get("NumberOfInstances")) for c in classes] == [(CT, "120"), (MR, "1")]
    assert patient.get("ParticipantObjectID") == "P-1"
    assert patient.findtext("ParticipantObjectName") == "Müller^Änne"
    assert (patient.get("ParticipantObjectTypeCode"), study.get("ParticipantObjectTypeCode")) == (
        "1",
        "2",
    )


def test_a_query_has_its_identifier_and_how_that_is_encoded() -> None:
    (asked,) = sent(MESSAGES["query"]).findall("ParticipantObjectIdentification")
    assert b64decode(asked.findtext("ParticipantObjectQuery") or "") == b"\x08\0\x52\0"
    (detail,) = asked.findall("ParticipantObjectDetail")
    assert detail.get("type") == "TransferSyntax"
    assert b64decode(detail.get("value") or "") == b"1.2.840.10008.1.2"


def test_an_alert_says_why_and_of_which_node() -> None:
    (node,) = sent(MESSAGES["alert"]).findall("ParticipantObjectIdentification")
    assert node.get("ParticipantObjectID") == "192.0.2.7"
    (detail,) = node.findall("ParticipantObjectDetail")
    assert detail.get("type") == "Alert Description"
    assert b64decode(detail.get("value") or "") == b"called X: rejected"


def test_names_and_addresses_of_nodes_are_told_apart() -> None:
    hosts = {"192.0.2.7": "2", "::1": "2", "fe80::1%eth0": "2", "pacs.example": "1"}
    for host, kind in hosts.items():
        message = audit.user_authentication(application_entity("A", host), US, "")
        participant = sent(message).find("ActiveParticipant")
        assert participant is not None
        assert participant.get("NetworkAccessPointTypeCode") == kind


def test_what_a_peer_makes_long_stays_below_what_a_collector_takes() -> None:
    """32,768 octets (PS3.15 A.6), with the header of syslog."""
    long = "€" * 70_000
    many = {f"1.2.840.999999.{'9' * 45}.{number:03}": 9 for number in range(1000)}
    who = application_entity(long, long)
    query = audit.query((who, who), long, bytes(1_000_000), "1.2")
    transfer = audit.transfer(
        audit.INSTANCES_TRANSFERRED, "C", (PEER, US), Study("1.2", "9", "N" * 64), many
    )
    (asked,) = sent(query).findall("ParticipantObjectIdentification")
    details = {each.get("type"): each.get("value") or "" for each in asked.iter()}
    assert b64decode(details["OriginalLength"]) == b"1000000"
    for message in (query, transfer):
        assert len(message.encode(TIME, "ARCHIVE")) < 32_768 - 400
    counts = [each.get("NumberOfInstances") for each in sent(transfer).iter("SOPClass")]
    assert sum(int(each or 0) for each in counts) == 9000


NASTY = "a\0b\x1b[2J\r\n<!-- & ]]> \"'\x85\u2028\u202e\ud800\ufffe\x7f"


def test_h_t17_control_characters_and_xml_are_escaped() -> None:
    study = Study(NASTY, NASTY, NASTY, NASTY)
    who = application_entity(NASTY, NASTY, requestor=True)
    for message in (
        audit.transfer(audit.INSTANCES_TRANSFERRED, "C", (who, who), study, {NASTY: 1}),
        audit.query((who, US), NASTY, NASTY.encode("utf-8", "surrogatepass"), "1.2"),
        audit.security_alert(audit.NODE_AUTHENTICATION, US, who, NASTY),
        audit.user_authentication(who, US, NASTY),
    ):
        xml = message.encode(TIME, NASTY)
        assert xml.decode("utf-8").isprintable()
        participant = next(
            each
            for each in checked(xml).iter("ActiveParticipant")
            if "x1b" in each.get("UserID", "")
        )
        escaped = participant.get("UserID")
        assert escaped == audit.printable(NASTY)
        assert escaped.startswith(r"a\x00b\x1b[2J\r\n<!-- & ]]>")


@given(st.text())
def test_h_t17_any_text_is_one_line_of_xml(text: str) -> None:
    message = audit.security_alert(
        audit.RESTRICTED_FUNCTION, US, application_entity(text, text), text
    )
    xml = message.encode(TIME, text)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in xml.decode("utf-8"))
    description = fromstring(xml).findtext("EventIdentification/EventOutcomeDescription")
    if len(text) <= 256 and text.isprintable():
        assert (description or "") == text


def test_spaces_of_other_scripts_stay() -> None:
    assert audit.printable("山田^太郎\u3000様") == "山田^太郎\u3000様"


class TestDocumentation:
    EXAMPLES = re.findall(r"```xml\n(.*?)\n```", DOCUMENT.read_text("utf-8"), re.DOTALL)

    @pytest.mark.parametrize("example", EXAMPLES)
    def test_its_examples_are_of_the_schema(self, example: str) -> None:
        checked(re.sub(r"\n *", "", example).encode())

    def test_has_an_example_of_each_event(self) -> None:
        events = [fromstring(each).find("EventIdentification/EventID") for each in self.EXAMPLES]
        ours = {root.find("EventIdentification/EventID") for root in map(sent, MESSAGES.values())}
        assert {code_of(each) for each in events} == {code_of(each) for each in ours}
