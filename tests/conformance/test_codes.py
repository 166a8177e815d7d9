"""Codes of the Upper Layer: reasons and results (PS3.8 9.3)."""

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
from dimse.ul.negotiation import Result
from tests.tables import Row, rows

REJECTIONS = rows("reject_reasons")
ABORTS = rows("abort_reasons")


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
