"""SOP classes: their services, operations, levels, well-known instances (PS3.4; PS3.6 A)."""

import re

import pytest
from pydicom.datadict import keyword_for_tag
from pydicom.uid import UID

from dimse.sop_classes import (
    MEMBERS,
    QUERY_MODELS,
    SOP_CLASSES,
    STORAGE_SOP_CLASSES,
    serves,
    service_of,
)
from tests.tables import Row, rows

TABLE = [row for row in rows("service_classes") if row["kind"] != "Service Class"]
WITHOUT_DIMSE = [row for row in TABLE if row["dimse_services"].startswith("none")]
META = [row for row in TABLE if row["kind"] == "Meta SOP Class"]
WITH_DIMSE = [row for row in TABLE if row not in WITHOUT_DIMSE]
UIDS = {row["sop_class_name"]: row["uid"] for row in TABLE}
UPS_PUSH = UIDS["Unified Procedure Step - Push"]


def named(row: Row) -> str:
    return row["keyword"]


def operations(row: Row) -> set[str]:
    """Without what is in brackets: (M/M), or what the sub-operations are."""
    return set(re.findall(r"\b[CN](?:-[A-Z]{3,})+", re.sub(r"\(.*?\)", "", row["dimse_services"])))


@pytest.mark.parametrize("row", WITH_DIMSE, ids=named)
def test_service(row: Row):
    assert service_of(row["uid"]).partition(" (")[0] == row["service_class"]


@pytest.mark.parametrize("row", [row for row in WITH_DIMSE if row not in META], ids=named)
def test_operations(row: Row):
    found = SOP_CLASSES[row["uid"]].operations.split()
    assert set(found) == operations(row)
    assert len(found) == len(operations(row))


@pytest.mark.parametrize("row", META, ids=named)
def test_a_meta_sop_class_has_the_operations_of_its_members(row: Row):
    members = {
        operation
        for member in TABLE
        if member["uid"] in MEMBERS[row["uid"]]
        for operation in operations(member)
    }
    assert set(SOP_CLASSES[row["uid"]].operations.split()) == members


@pytest.mark.parametrize("row", WITH_DIMSE, ids=named)
def test_well_known_instance(row: Row):
    assert SOP_CLASSES[row["uid"]].instance == row["well_known_sop_instance_uid"]


@pytest.mark.parametrize("row", WITHOUT_DIMSE, ids=named)
def test_without_dimse(row: Row):
    assert row["uid"] not in SOP_CLASSES
    assert service_of(row["uid"]) == ""


def test_no_other_but_storage():
    others = set(SOP_CLASSES) - set(UIDS.values())
    assert {service_of(uid) for uid in others} == {"Storage"}
    assert others < set(STORAGE_SOP_CLASSES)


def test_there_are_166_storage_sop_classes():
    """Retired ones, Non-Patient Objects, and those of DICOS and DICONDE (no DICOM) apart."""
    storage = [UID(uid) for uid, known in SOP_CLASSES.items() if known.service == "Storage"]
    elsewhere = ("DICOS ", "Eddy Current ")
    ours = [uid for uid in storage if not uid.is_retired and not uid.name.startswith(elsewhere)]
    assert len(ours) == 166


def test_every_query_model_has_the_sop_classes_of_its_operations():
    ours = {uid: name for model in QUERY_MODELS for uid, name in model.sop_classes.items()}
    table = {
        row["uid"]: operation
        for row in TABLE
        for operation in operations(row) & {"C-FIND", "C-MOVE", "C-GET"}
    }
    assert ours == table


@pytest.mark.parametrize(
    "row",
    [row for row in TABLE if re.match("[A-Z]+: ", row["levels_and_unique_keys"])],
    ids=named,
)
def test_levels_and_unique_keys(row: Row):
    """Of a level that has one: FRAME has frames of the instance."""
    [model] = [model for model in QUERY_MODELS if row["uid"] in model.sop_classes]
    levels = [each.split(": ") for each in row["levels_and_unique_keys"].split("; ")]
    assert list(model.levels) == [level for level, _ in levels]
    for level, key in levels:
        if tag := re.fullmatch(r"[A-Z][\w ]+ \((\w{4}),(\w{4})\)", key):
            assert model.levels[level] == keyword_for_tag(int(tag[1] + tag[2], 16))


@pytest.mark.parametrize(
    "row",
    [row for row in TABLE if row["levels_and_unique_keys"].startswith(("single", "SOP"))],
    ids=named,
)
def test_a_single_level(row: Row):
    """It is not named in identifiers; the unique key is the SOP Instance UID or none."""
    [model] = [model for model in QUERY_MODELS if row["uid"] in model.sop_classes]
    has_key = "SOP Instance UID" in row["levels_and_unique_keys"]
    assert dict(model.levels) == {"": "SOPInstanceUID" if has_key else ""}


class TestServes:
    @pytest.mark.parametrize("row", TABLE, ids=named)
    def test_itself(self, row: Row):
        assert serves(row["uid"], row["uid"])

    @pytest.mark.parametrize(
        ("meta", "other"), [("Grayscale", "Color"), ("Color", "Grayscale")], ids=str
    )
    def test_print_members(self, meta: str, other: str):
        """PS3.4 H.3.2.2."""
        context = UIDS[f"Basic {meta} Print Management Meta"]
        members = ("Basic Film Session", "Basic Film Box", f"Basic {meta} Image Box", "Printer")
        assert {uid for uid in UIDS.values() if serves(context, uid)} == {
            context,
            *(UIDS[name] for name in members),
        }
        assert not serves(context, UIDS[f"Basic {other} Image Box"])

    def test_messages_of_any_ups_class_name_ups_push(self):
        """PS3.4 CC.3; not the other way round."""
        for name, uid in UIDS.items():
            ups = name.startswith("Unified Procedure Step")
            assert serves(uid, UPS_PUSH) == ups
            assert serves(UPS_PUSH, uid) == (uid == UPS_PUSH)
