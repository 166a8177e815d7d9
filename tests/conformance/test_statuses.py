"""Every status code of every service: its category and its meaning (PS3.7 Annex C; PS3.4)."""

import re

import pytest

from dimse.message.status import Category, Status, allowed
from dimse.message.statuses import ROWS
from dimse.sop_classes import service_of
from tests.tables import Row, codes, rows
from tests.wire import CT_STORAGE

TABLE = rows("statuses")
NUMBERED = [
    row for row in TABLE if re.fullmatch("[0-9A-F]{4}(-[0-9A-F]{4})?", row["code_or_range"])
]
GENERAL = [row for row in NUMBERED if row["scope"] == "general"]
SPECIFIC = [row for row in NUMBERED if row["scope"] != "general"]
GENERAL_ONLY = [row for row in TABLE if row["code_or_range"] == "general only"]
BY_REFERENCE = [row for row in TABLE if row["code_or_range"].startswith("as ")]
PARTS = {"MPPS": "Modality Performed Procedure Step"}
PARTS["MPPS Retrieve"] = f"{PARTS['MPPS']} Retrieve"


def named(row: Row) -> str:
    return f"{row['scope']}-{row['operations']}-{row['code_or_range']}"


def operations(row: Row) -> list[str]:
    """`N-ACTION (types 3 4 5 subscription)` are three; other remarks do not count."""
    if types := re.fullmatch(r"N-ACTION \(types? ([\d ]*\d)\b.*\)", row["operations"]):
        return [f"N-ACTION {number}" for number in types[1].split()]
    return row["operations"].partition(" (")[0].split()


def scope_of(service: Row) -> tuple[str, str]:
    """The service class of a SOP class, and which part of it the SOP class may be."""
    part = re.split(" - | Information Model", service["sop_class_name"])[0]
    return service["service_class"], part


def sop_classes(scope: str) -> list[str]:
    """Whose SOP classes a scope of the table is: those of a part, or those of no part."""
    name, _, part = scope.rstrip(")").partition(" (")
    parts = {
        PARTS.get(other, other)
        for whole, _, other in (row["scope"].rstrip(")").partition(" (") for row in TABLE)
        if whole == name and other
    }
    return [
        CT_STORAGE if row["kind"] == "Service Class" else row["uid"]
        for row in rows("service_classes")
        for service, of in (scope_of(row),)
        if service == name and (of == PARTS.get(part, part) if part else of not in parts)
    ]


class TestCategory:
    def test_of_every_code(self):
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

    @pytest.mark.parametrize("row", NUMBERED, ids=named)
    def test_of_every_service(self, row: Row):
        for code in codes(row["code_or_range"]):
            assert Status(code).category.value == row["category"]

    def test_success_and_warning_mean_done(self):
        done = {
            row["category"]: Status(codes(row["code_or_range"])[0]).is_success for row in NUMBERED
        }
        assert done == {
            "Success": True,
            "Warning": True,
            "Failure": False,
            "Cancel": False,
            "Pending": False,
        }
        assert {each.value for each in Category} == {*done, "not allowed"}


class TestMeaning:
    @pytest.mark.parametrize("row", SPECIFIC, ids=named)
    def test_of_a_service(self, row: Row):
        """To every SOP class of the scope, at both ends of a range."""
        found = sop_classes(row["scope"])
        assert found
        span = codes(row["code_or_range"])
        for uid in found:
            for operation in operations(row):
                for code in (span[0], span[-1]):
                    status = Status(code, operation, service_of(uid))
                    assert status.meaning == row["meaning"]

    @pytest.mark.parametrize("row", GENERAL, ids=named)
    def test_in_general(self, row: Row):
        """In a service that adds nothing; of code 0 there is no more to say than Success."""
        expected = row["meaning"].partition(" - ")[0].replace("Completed", "Success")
        for operation in operations(row):
            [code] = codes(row["code_or_range"])
            assert Status(code, operation, GENERAL_ONLY[0]["scope"]).meaning == expected


class TestAllowed:
    @pytest.mark.parametrize("row", GENERAL_ONLY, ids=named)
    def test_general_only(self, row: Row):
        general = {
            code
            for each in GENERAL
            for code in codes(each["code_or_range"])
            if set(operations(each)) & {name.split()[0] for name in operations(row)}
        }
        found = [
            each
            for uid in sop_classes(row["scope"])
            for operation in operations(row)
            for each in allowed(operation, service_of(uid))
        ]
        assert {each.service for each in found} == {""}
        assert {each.codes.start for each in found} == general

    @pytest.mark.parametrize("row", BY_REFERENCE, ids=named)
    def test_codes_of_another_service(self, row: Row):
        [operation] = operations(row)
        referred = row["code_or_range"].removeprefix("as ").removesuffix(f" {operation}")
        expected = {(each.codes, each.meaning) for each in allowed(operation, referred)}
        assert any(each.service == referred for each in allowed(operation, referred))
        for uid in sop_classes(row["scope"]):
            found = allowed(operation, service_of(uid))
            assert {(each.codes, each.meaning) for each in found} == expected

    def test_no_other_codes(self):
        """What the table of the code has, the table of the standard has."""
        table = {
            (row["scope"].partition(" (Modality")[0], operation, codes(row["code_or_range"]))
            for row in NUMBERED
            for operation in operations(row)
        }
        referring = {row["scope"] for row in BY_REFERENCE}
        ours = {(row.service or "general", row.operation, row.codes) for row in ROWS}
        assert len(ours) == len(ROWS)
        assert {each for each in ours if each[0] not in referring} <= table
