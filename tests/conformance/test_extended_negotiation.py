"""Service class application information and related general SOP classes (PS3.4 B.3, C.5, K.5)."""

import re
from dataclasses import fields
from typing import Any

import pytest

from dimse.services.extended import (
    OPTIONS,
    RELATED_GENERAL,
    STORAGE_SERVICE_CLASS,
    CompositeRetrieveOptions,
    DigitalSignatureSupport,
    ElementCoercion,
    LevelOfSupport,
    QueryOptions,
    RetrieveOptions,
    StorageOptions,
    WorklistOptions,
    common_extended,
    options_for,
)
from dimse.sop_classes import STORAGE_SOP_CLASSES
from tests.tables import Row, rows

TABLE = rows("extended_negotiation")
BYTES = [row for row in TABLE if row["byte"].isdigit()]
KINDS: dict[str, Any] = {
    "Query/Retrieve FIND": QueryOptions,
    "Query/Retrieve MOVE and GET": RetrieveOptions,
    "Composite instance retrieval": CompositeRetrieveOptions,
    "Basic Worklist Management": WorklistOptions,
    "Storage": StorageOptions,
}
FLAGS = {
    "Relational-queries": "relational",
    "Relational-retrieval": "relational",
    "Date-time matching": "combined_date_time",
    "Fuzzy semantic matching of person names": "fuzzy_names",
    "Timezone query adjustment": "timezone",
    "Enhanced Multi-Frame Image Conversion": "enhanced_multi_frame",
    "Empty Value Matching": "empty_value_matching",
    "Multiple Value Matching": "multiple_value_matching",
}
STATED: dict[str, tuple[str, Any]] = {
    "Level of Storage Support": ("level_of_support", LevelOfSupport),
    "Level of Digital Signature Support": ("digital_signature_support", DigitalSignatureSupport),
    "Element Coercion": ("element_coercion", ElementCoercion),
}
FLAG_KINDS = [kind for kind in KINDS.values() if kind is not StorageOptions]
STATED_BY_COLUMN = {  # how service_classes.csv names what extended_negotiation.csv lays out
    "Q/R FIND bytes 1-7 optional": QueryOptions,
    "Q/R MOVE/GET bytes 1-2 optional": RetrieveOptions,
    "Y bytes 1-2 optional": CompositeRetrieveOptions,
    "worklist bytes 1-4 optional": WorklistOptions,
    "as worklist bytes (PS3.4 K.5) optional": WorklistOptions,
}


def named(row: Row) -> str:
    return f"{row['service']}-{row['byte']}"


def lengths(kind: Any) -> list[int]:
    """The lengths in bytes that the table has for a service, `1 to 7`, `3 or 4`, `6`."""
    service = next(name for name in KINDS if KINDS[name] is kind)
    column = next(row["length_bytes"] for row in BYTES if row["service"] == service)
    first, *others = map(int, re.findall("[0-9]+", column))
    return list(range(first, (others or [first])[0] + 1))


def everything(kind: Any) -> Any:
    return kind(**{each.name: True for each in fields(kind)})


@pytest.mark.parametrize("row", [row for row in BYTES if row["field"] in FLAGS], ids=named)
def test_flag(row: Row):
    """1 at its place; the byte before and behind it is another matter."""
    kind, name, index = KINDS[row["service"]], FLAGS[row["field"]], int(row["byte"]) - 1
    offered = bytes(kind(**{name: True}))
    assert offered[index] == 1
    assert len(offered) in lengths(kind)
    assert kind.decode(offered) == kind(**{name: True})
    assert kind(**{name: True}).answer(bytes(everything(kind)))[index] == 1
    assert kind().answer(bytes(everything(kind)))[index] == 0


@pytest.mark.parametrize(
    "row",
    [row for row in BYTES if row["field"] in ("Unused", "Reserved")],
    ids=named,
)
def test_reserved_byte(row: Row):
    """The value of the table on both sides, and nothing is made of what comes."""
    kind, index = KINDS[row["service"]], int(row["byte"]) - 1
    value = int(row["values_in_rq"][0])
    assert bytes(kind())[index] == value
    for reserved in (0, 1, 255):
        offered = bytearray(bytes(kind()))
        offered[index] = reserved
        assert kind.decode(bytes(offered)) == kind()
        assert kind().answer(bytes(offered))[index] == value


def test_no_byte_is_left_out():
    assert all(row["field"] in (*FLAGS, *STATED, "Unused", "Reserved") for row in BYTES)
    for kind in FLAG_KINDS:
        flags = [row for row in BYTES if KINDS[row["service"]] is kind and row["field"] in FLAGS]
        assert [FLAGS[row["field"]] for row in flags] == [each.name for each in fields(kind)]


@pytest.mark.parametrize("kind", FLAG_KINDS)
def test_length(kind: Any):
    """Of every offer and answer; and no answer is longer than what was offered."""
    allowed = lengths(kind)
    assert len(bytes(kind())) == allowed[0]
    assert len(bytes(everything(kind))) == allowed[-1]
    for length in allowed:
        offered = bytes(everything(kind))[:length]
        answered = everything(kind).answer(offered)
        assert len(answered) in range(allowed[0], length + 1)
        assert kind.decode(answered) == kind.decode(offered)


@pytest.mark.parametrize("row", [row for row in BYTES if row["field"] in STATED], ids=named)
def test_stated_capability(row: Row):
    """Every value of the table is there, at its place, and the default is that of an SCU."""
    name, values = STATED[row["field"]]
    index = int(row["byte"]) - 1
    assert [str(int(each)) for each in values] == re.findall(r"(?:^|; )(\d)", row["values_in_rq"])
    default = bytes(StorageOptions())
    assert default[index] == int(row["default_if_absent"][0])
    for value in values:
        options = StorageOptions(**{name: value})
        wire = bytes(options)
        assert wire == default[:index] + bytes([value]) + default[index + 1 :]
        assert StorageOptions.decode(wire) == options
        assert options.answer(default) == wire


@pytest.mark.parametrize(
    "row",
    [row for row in rows("service_classes") if row["kind"].startswith("SOP Class")],
    ids=lambda row: row["keyword"],
)
def test_sop_class(row: Row):
    """What there is to offer for it, if anything."""
    column = row["extended_negotiation"]
    if column == "as Q/R":
        kind = QueryOptions if row["sop_class_name"].endswith("FIND") else RetrieveOptions
        assert options_for(row["uid"]) is kind
    else:
        assert options_for(row["uid"]) is STATED_BY_COLUMN.get(column)


def test_storage_sop_classes():
    """All but those of non-patient objects (PS3.4 GG.2)."""
    none_used = {
        row["uid"]
        for row in rows("service_classes")
        if row["service_class"] == "Non-Patient Object Storage"
    }
    storage = {uid for uid, kind in OPTIONS.items() if kind is StorageOptions}
    assert none_used
    assert storage == set(STORAGE_SOP_CLASSES) - none_used


def test_service_class():
    [row] = [row for row in TABLE if row["field"] == "Service-class-uid"]
    assert row["values_in_rq"] == STORAGE_SERVICE_CLASS


def test_related_general_sop_classes():
    """Those of Table B.3-3; one that depends on the instance cannot be promised for the class."""
    table: dict[str, list[str]] = {}
    for row in rows("related_general_sop_classes"):
        if not row["condition"]:
            table.setdefault(row["specialized_uid"], []).append(row["related_general_uid"])
    assert {uid: list(related) for uid, related in RELATED_GENERAL.items()} == table


@pytest.mark.parametrize("uid", [*RELATED_GENERAL, "1.2.840.10008.5.1.4.1.1.2", "1.2.3"])
def test_common_extended_negotiation(uid: str):
    item = common_extended(uid)
    assert (item.sop_class_uid, item.service_class_uid) == (uid, STORAGE_SERVICE_CLASS)
    assert item.related_general_sop_classes == RELATED_GENERAL.get(uid, ())
