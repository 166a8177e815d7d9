"""The schema of audit messages (PS3.15 A.5.1.1), typed in from its RELAX NG, and a check of one."""

import re
from base64 import b64decode
from collections.abc import Mapping
from typing import NamedTuple
from xml.etree.ElementTree import Element, fromstring

_ANY = ".*"
_TOKEN = r"(\S( ?\S)*)?"  # xsd:token, as it is after its white space is collapsed
_CODED = {"csd-code!": _TOKEN, "codeSystemName!": _TOKEN, "displayName": _TOKEN}
_CODED |= {"originalText!": _TOKEN}
_DATE_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"


class Rule(NamedTuple):
    """What an element has: its children in their order, with `?`, `*`, `+` or nothing for one, and
    `|` between alternatives; its attributes, with `!` if needed; its text."""

    children: str = ""
    attributes: Mapping[str, str] = {}
    text: str = ""


RULES: dict[str, Rule] = {
    "AuditMessage": Rule(
        "EventIdentification ActiveParticipant+ AuditSourceIdentification "
        "ParticipantObjectIdentification*"
    ),
    "EventIdentification": Rule(
        "EventID EventTypeCode* EventOutcomeDescription?",
        {
            "EventActionCode": "[CRUDE]",
            "EventDateTime!": _DATE_TIME,
            "EventOutcomeIndicator!": "0|4|8|12",
        },
    ),
    "EventID": Rule(attributes=_CODED),
    "EventTypeCode": Rule(attributes=_CODED),
    "EventOutcomeDescription": Rule(text=_ANY),
    "ActiveParticipant": Rule(
        "RoleIDCode* MediaIdentifier?",
        {
            "UserID!": _ANY,
            "AlternativeUserID": _ANY,
            "UserName": _ANY,
            "UserIsRequestor!": "true|false",
            "NetworkAccessPointID": _TOKEN,
            "NetworkAccessPointTypeCode": "[1-5]",
        },
    ),
    "RoleIDCode": Rule(attributes=_CODED),
    "AuditSourceIdentification": Rule(
        "AuditSourceTypeCode*", {"AuditEnterpriseSiteID": _TOKEN, "AuditSourceID!": _TOKEN}
    ),
    "AuditSourceTypeCode": Rule(attributes={"csd-code!": "[1-9]"}),
    "ParticipantObjectIdentification": Rule(
        "ParticipantObjectIDTypeCode (ParticipantObjectName|ParticipantObjectQuery) "
        "ParticipantObjectDetail* ParticipantObjectDescription*",
        {
            "ParticipantObjectID!": _TOKEN,
            "ParticipantObjectTypeCode": "[1-4]",
            "ParticipantObjectTypeCodeRole": "[1-9]|1[0-9]|2[0-6]",
            "ParticipantObjectDataLifeCycle": "[1-9]|1[0-5]",
            "ParticipantObjectSensitivity": _TOKEN,
        },
    ),
    "ParticipantObjectIDTypeCode": Rule(attributes=_CODED),
    "ParticipantObjectName": Rule(text=_TOKEN),
    "ParticipantObjectQuery": Rule(text="base64"),
    "ParticipantObjectDetail": Rule(attributes={"type!": _TOKEN, "value!": "base64"}),
    "ParticipantObjectDescription": Rule(
        "MPPS* Accession* SOPClass* ParticipantObjectContainsStudy? Encrypted? Anonymized?"
    ),
    "Accession": Rule(attributes={"Number!": _TOKEN}),
    "SOPClass": Rule("Instance*", {"UID": _TOKEN, "NumberOfInstances!": r"\d+"}),
    "Instance": Rule(attributes={"UID!": _TOKEN}),
}


def checked(xml: bytes) -> Element:
    """The message, if it is one."""
    root = fromstring(xml)
    assert root.tag == "AuditMessage"
    for element in root.iter():
        _check(element, RULES[element.tag])
    return root


def _check(element: Element, rule: Rule) -> None:
    order = re.sub(r"[A-Za-z]+", r"(?:\g<0>,)", rule.children).replace(" ", "")
    children = "".join(f"{child.tag}," for child in element)
    assert re.fullmatch(order, children), (element.tag, children)
    known = {name.rstrip("!"): pattern for name, pattern in rule.attributes.items()}
    assert set(element.keys()) <= known.keys(), element.tag
    needed = {name.rstrip("!") for name in rule.attributes if name.endswith("!")}
    assert needed <= set(element.keys()), element.tag
    for name, value in element.items():
        _check_text(known[name], value)
    _check_text(rule.text, element.text or "")
    assert not element.tail


def _check_text(pattern: str, text: str) -> None:
    if pattern == "base64":
        b64decode(text, validate=True)
    else:
        assert re.fullmatch(pattern, text, re.DOTALL), (pattern, text)
