"""An instance as rows of the index, and rows as attributes."""

import json
from collections.abc import Container, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from dimse.archive.attributes import KEPT, Attributes, Level
from dimse.archive.names import folded
from dimse.archive.objects import StoredInstance
from dimse.archive.schema import INSTANCES, PATIENTS, SERIES, STUDIES
from dimse.archive.times import normal_date, normal_time

_PATIENT_NAME, _PATIENT_ID, _ISSUER, _BIRTH_DATE = 0x00100010, 0x00100020, 0x00100021, 0x00100030
_STUDY_UID, _SERIES_UID = 0x0020000D, 0x0020000E

KEY_LENGTH = 400
"""Characters of a value in a key column: PostgreSQL indexes 2,704 bytes. What the standard allows
is shorter; of a longer value, which should not be, the beginning alone narrows a query down."""

Row = dict[str, Any]
Identity = tuple[str, ...]


def attributes_of(*texts: str) -> Attributes:
    """The attributes of one or more levels, from their columns."""
    found: Attributes = {}
    for text in texts:
        found.update(_loaded(json.loads(text)))
    return found


def _loaded(read: Mapping[str, Any]) -> Attributes:
    return {
        int(tag, 16): value if isinstance(value, str) else [_loaded(item) for item in value]
        for tag, value in read.items()
    }


def text_of(attributes: Attributes) -> str:
    """As a column holds them: NUL, which PostgreSQL takes nowhere, is never a part of a value."""
    return json.dumps(_dumped(attributes), ensure_ascii=False, separators=(",", ":"))


def _dumped(attributes: Attributes) -> dict[str, Any]:
    return {
        f"{tag:08x}": value.replace("\0", "")
        if isinstance(value, str)
        else [_dumped(item) for item in value]
        for tag, value in attributes.items()
    }


def value_of(attributes: Attributes, tag: int) -> str:
    """The text of an attribute as a key column has it, "" for none."""
    value = attributes.get(tag, "")
    return value.replace("\0", "")[:KEY_LENGTH] if isinstance(value, str) else ""


def name_columns(name: str) -> dict[str, str]:
    """A person name as queries are narrowed down by it: its first group, and all others.

    A name without a first group, and what comes behind the first of several names, is of those.
    """
    first, parted, others = folded(name).partition("=")
    first, several, more = first.partition("\\")
    return {
        "name": first[:KEY_LENGTH],
        "name_groups": f"{several}{more}{parted}{others}"[:KEY_LENGTH],
    }


def rows_of(
    stored: StoredInstance, known: Container[Identity]
) -> Iterator[tuple[sa.Table, Identity, Row]]:
    """The rows of an instance that are not `known`, with what tells each from others."""
    levels: dict[Level, Attributes] = {level: {} for level in Level}
    for tag, value in stored.attributes.items():
        if (kept := KEPT.get(tag)) is not None:
            levels[kept.level][tag] = value
    patient, study, series, image = levels.values()
    study_uid, series_uid = value_of(study, _STUDY_UID), value_of(series, _SERIES_UID)
    if not study_uid:  # a non-patient object, such as a hanging protocol, has none (PS3.4 GG)
        series_uid = ""
    elif (study_uid,) not in known:
        yield from _patient_and_study(patient, study, study_uid)
    if study_uid and (study_uid, series_uid) not in known:
        row = {"study_uid": study_uid, "series_uid": series_uid, "attributes": text_of(series)}
        columns = {"modality": value_of(series, 0x00080060), "number": value_of(series, 0x00200011)}
        yield SERIES, (study_uid, series_uid), row | columns
    received, key = stored.received, stored.key
    yield (
        INSTANCES,
        (key, "", ""),
        {
            "object": key,
            "study_uid": study_uid,
            "series_uid": series_uid,
            "instance_uid": received.sop_instance_uid,
            "sop_class_uid": received.sop_class_uid,
            "transfer_syntax": received.transfer_syntax,
            "number": value_of(image, 0x00200013),
            "offset": stored.offset,
            "length": stored.length,
            "digest": stored.digest,
            "attributes": text_of(image),
        },
    )


def _patient_and_study(
    patient: Attributes, study: Attributes, study_uid: str
) -> Iterator[tuple[sa.Table, Identity, Row]]:
    of_patient = {
        "patient": _patient_key(patient),
        "patient_id": value_of(patient, _PATIENT_ID),
        **name_columns(value_of(patient, _PATIENT_NAME)),
    }
    key = of_patient["patient"]
    yield PATIENTS, (key, "", "", ""), of_patient | {"attributes": text_of(patient)}
    of_study = {
        "study_uid": study_uid,
        "date": normal_date(value_of(study, 0x00080020)),
        "time": normal_time(value_of(study, 0x00080030)),
        "accession_number": value_of(study, 0x00080050),
        "study_id": value_of(study, 0x00200010),
        "updated": now(),
        "attributes": text_of(patient | study),
    }
    yield STUDIES, (study_uid,), of_patient | of_study


def patient_of(patient_id: str, issuer: str) -> str:
    """What the column `patient` has of a patient with an ID."""
    return _bounded(f"{patient_id[:KEY_LENGTH]}\\{issuer[:KEY_LENGTH]}")


def _bounded(key: str) -> str:
    return key if len(key) <= KEY_LENGTH else sha256(key.encode()).hexdigest()


def _patient_key(patient: Attributes) -> str:
    """Who a patient is: ID and issuer; without an ID the name and the date of birth."""
    if patient_id := value_of(patient, _PATIENT_ID):
        return patient_of(patient_id, value_of(patient, _ISSUER))
    return _bounded(
        f"\\{folded(value_of(patient, _PATIENT_NAME))}\\{value_of(patient, _BIRTH_DATE)}"
    )


def now() -> str:
    """The moment, as Study Update DateTime has it."""
    return datetime.now(UTC).strftime("%Y%m%d%H%M%S.%f")
