"""Codes of the Upper Layer and of DIMSE: reasons, results, statuses (PS3.8 9.3; PS3.7 C; PS3.4)."""

import re

import pytest

from dimse.errors import (
    REJECT_REASONS,
    AbortReason,
    AbortSource,
    AssociationRejectedError,
    RejectResult,
    RejectSource,
)
from dimse.message.status import Category, Status
from dimse.ul.negotiation import Result
from tests.tables import Row, codes, rows

REJECTIONS = rows("reject_reasons")
ABORTS = rows("abort_reasons")
STATUSES = [
    row
    for row in rows("statuses")
    if re.fullmatch("[0-9A-F]{4}(-[0-9A-F]{4})?", row["code_or_range"])  # others refer to a row
]
SERVICES = {("Storage", "C-STORE"), ("Verification", "C-ECHO")}
OURS = [
    row
    for row in STATUSES
    if (row["scope"], row["operations"]) in SERVICES
    or (row["scope"] == "general" and {"C-STORE", "C-ECHO"} & set(row["operations"].split()))
]


def named(row: Row) -> str:
    return f"{row['scope']}-{row['operations']}-{row['code_or_range']}"


def words(text: str) -> set[str]:
    """The letters and digits of a name, for a comparison without hyphens and case."""
    return set(re.findall("[a-z0-9]+", text.lower().replace("pdu", "")))


class TestRejection:
    def test_results(self):
        table = {int(row["value"]): row["name"] for row in REJECTIONS if row["field"] == "result"}
        assert {int(each): f"rejected-{each.name.lower()}" for each in RejectResult} == table

    def test_sources(self):
        table = {int(row["value"]): row["name"] for row in REJECTIONS if row["field"] == "source"}
        assert set(table) == {int(each) for each in RejectSource}
        for each in RejectSource:
            assert words(each.name.replace("_", " ")) <= words(table[int(each)])

    @pytest.mark.parametrize(
        "row",
        [row for row in REJECTIONS if row["field"] == "reason"],
        ids=lambda row: f"{row['source']}-{row['value']}",
    )
    def test_reason(self, row: Row):
        key = int(row["source"]), int(row["value"])
        if row["status"] == "reserved":
            assert key not in REJECT_REASONS
            assert "reserved" in str(AssociationRejectedError(1, *key))
        else:
            assert words(REJECT_REASONS[key]) == words(row["name"])
            assert REJECT_REASONS[key] in str(AssociationRejectedError(1, *key))

    def test_no_other_reason(self):
        assigned = [
            row for row in REJECTIONS if (row["field"], row["status"]) == ("reason", "assigned")
        ]
        assert len(REJECT_REASONS) == len(assigned)


class TestAbort:
    def test_sources(self):
        table = {
            int(row["source"]): row["source_name"] for row in ABORTS if row["status"] == "assigned"
        }
        assert {int(each): each.name.lower().replace("_", "-") for each in AbortSource} == table

    def test_reasons(self):
        table = {
            int(row["reason"]): words(row["name"])
            for row in ABORTS
            if (row["source"], row["status"]) == ("2", "assigned")
        }
        assert set(table) == {int(each) for each in AbortReason}
        for each in AbortReason:
            assert words(each.name.replace("_", " ")) <= table[int(each)]


def test_presentation_context_results():
    table = {int(row["value"]): words(row["name"]) for row in rows("presentation_context_results")}
    assert {int(each): words(each.name.replace("_", " ")) for each in Result} == table


class TestStatus:
    def test_category_of_every_code(self):
        """All 65536 values, by the ranges of status_classes.csv."""
        classes = rows("status_classes")
        assert classes.pop()["category"] == "not allowed"
        expected: dict[int, str] = {}
        for row in classes:
            span, *_ = row["code_or_range"].split(" except ")
            excepted = [int(code, 16) for code in re.findall("0107|0116", row["code_or_range"])]
            for code in codes(span):
                if span == row["code_or_range"] or code not in excepted:
                    assert code not in expected
                    expected[code] = row["category"]
        for code in range(0x10000):
            assert Status(code).category.value == expected.get(code, "not allowed"), hex(code)

    @pytest.mark.parametrize(
        "row",
        STATUSES,
        ids=lambda row: f"{row['scope']}-{row['operations']}-{row['code_or_range']}",
    )
    def test_category_of_every_service(self, row: Row):
        for code in codes(row["code_or_range"]):
            assert Status(code).category.value == row["category"]

    @pytest.mark.parametrize("row", OURS, ids=named)
    def test_meaning(self, row: Row):
        """As the service has it, or else PS3.7."""
        name = row["meaning"].partition(" - ")[0]
        service = row["scope"].replace("general", "Storage")
        for operation in row["operations"].split():
            for code in codes(row["code_or_range"]):
                found = Status(code, operation, service).meaning
                assert found == name or (code == 0 and row["scope"] == "general")

    def test_success_and_warning_mean_done(self):
        done = {
            row["category"]: Status(codes(row["code_or_range"])[0]).is_success for row in STATUSES
        }
        assert done == {
            "Success": True,
            "Warning": True,
            "Failure": False,
            "Cancel": False,
            "Pending": False,
        }
        assert {each.value for each in Category} == {*done, "not allowed"}
