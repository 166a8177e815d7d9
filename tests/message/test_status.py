"""A status explains itself; the tables of codes are held against the standard elsewhere."""

import copy
import pickle

import pytest

from dimse.message import status
from dimse.message.status import Status, allowed
from tests.tables import codes, rows

MEANINGS = [
    (row["meaning"].lower(), codes(row["code_or_range"]))
    for row in rows("statuses")
    if row["code_or_range"][0] in "0ABCF"
]
# What the table says of the codes whose constants have other, shorter names.
SAID = {
    "SUCCESS": "completed",
    "NO_SUCH_ACTION": "no such action type",
    "CLASS_INSTANCE_CONFLICT": "class-instance conflict",
    "UNABLE_TO_COUNT_MATCHES": "out of resources - number of matches cannot be computed",
    "UNABLE_TO_PERFORM_SUBOPERATIONS": "out of resources - sub-operations cannot be done",
    "DATA_SET_MISMATCH": "data set does not match the sop class",
    "IDENTIFIER_MISMATCH": "identifier does not match the sop class",
    "SUBOPERATIONS_WARNING": "sub-operations complete; one or more failures or warnings",
    "CANCEL": "ended because of a c-cancel request",
    "PENDING": "one match supplied; all optional keys supported like required keys",
    "PENDING_WARNING": "one match supplied; one or more optional keys not supported for existence",
}
MOVED = Status(0xB000, "C-MOVE", "Query/Retrieve")


@pytest.mark.parametrize(
    "name", [name for name, value in vars(status).items() if isinstance(value, Status)]
)
def test_names(name: str):
    """A constant is the code that the standard calls so."""
    code = int(getattr(status, name))
    said = SAID.get(name, name.lower().replace("_", " "))
    called = {meaning for meaning, span in MEANINGS if code in span}
    names = {text for meaning in called for text in (meaning, meaning.partition(" - ")[0])}
    assert names & {prefix + said for prefix in ("", "refused: ", "error: ", "failed: ")}


class TestInt:
    def test_it_is_one(self):
        assert Status(0xA700) == 0xA700
        assert f"{Status(0xA700):04X}" == "A700"
        assert hash(Status(7)) == hash(7)

    def test_equal_whatever_it_answers(self):
        assert MOVED == 0xB000 == Status(0xB000, "C-STORE", "Storage")
        assert hash(MOVED) == hash(0xB000)

    @pytest.mark.parametrize(
        "same",
        [copy.copy, copy.deepcopy]
        + [lambda it, n=n: pickle.loads(pickle.dumps(it, n)) for n in range(6)],
    )
    def test_copies(self, same):
        again = same(MOVED)
        assert (type(again), int(again), again.meaning) == (Status, 0xB000, MOVED.meaning)
        assert (again.operation, again.service) == ("C-MOVE", "Query/Retrieve")

    def test_repr_and_str(self):
        assert repr(Status(0x0122)) == "Status(0x0122)"
        assert str(Status(0x0122)) == "0x0122 (Refused: SOP Class not supported)"

    def test_codes_beyond_two_bytes(self):
        assert Status(0x10000).category.value == "not allowed"
        assert Status(-1).category.value == "not allowed"


class TestMeaning:
    @pytest.mark.parametrize(
        ("code", "operation", "service", "meaning"),
        [
            (0xB000, "C-STORE", "Storage", "Stored; data elements coerced"),
            (0xB304, "N-ACTION 1", "Unified Procedure Step", "Already CANCELED as requested"),
            (0xB304, "N-ACTION 2", "Unified Procedure Step", "Already CANCELED"),
            (0xC302, "N-ACTION", "Unified Procedure Step", "The UPS is already IN PROGRESS"),
            (0xA710, "C-FIND", "Query/Retrieve (Repository Query)", "Prior Record Key not valid"),
        ],
    )
    def test_of_an_operation_in_a_service(self, code, operation, service, meaning):
        assert Status(code, operation, service).meaning == meaning

    @pytest.mark.parametrize("part", ["Repository Query", "Composite Instance Root Retrieve"])
    def test_a_part_of_a_service_has_the_codes_of_the_service(self, part: str):
        service = f"Query/Retrieve ({part})"
        assert Status(0xC123, "C-FIND", service).meaning == "Failed: unable to process"

    @pytest.mark.parametrize(
        ("operation", "meaning"),
        [
            ("C-STORE", "Stored; data elements coerced"),
            ("C-MOVE", "Sub-operations complete; one or more failures (or warnings)"),
            ("N-SET", "Warning"),
        ],
    )
    def test_of_a_private_service(self, operation: str, meaning: str):
        """DIMSE-C operations are what they usually are."""
        assert Status(0xB000, operation).meaning == meaning

    @pytest.mark.parametrize(
        ("code", "meaning"),
        [
            (0x0110, "Processing failure"),
            (0xA700, "Refused: out of resources"),
            (0x0001, "Requested optional attributes are not supported"),
        ],
    )
    def test_of_a_code_alone(self, code: int, meaning: str):
        """What is said of it in general, or by every service that has it."""
        assert Status(code).meaning == meaning

    @pytest.mark.parametrize(
        ("code", "category"),
        [(0xA123, "Failure"), (0xB000, "Warning"), (0xFF00, "Pending"), (3, "not allowed")],
    )
    def test_of_a_code_without_one(self, code: int, category: str):
        """Its category, if nobody or everybody says something else."""
        assert Status(code).meaning == category

    def test_where_actions_differ(self):
        """Without the Action Type ID nothing is made up."""
        assert Status(0xB304, "N-ACTION", "Unified Procedure Step").meaning == "Warning"

    def test_of_a_general_code_that_the_operation_has_not(self):
        """A failure of PS3.7 means the same, also where it is not listed (PS3.7 C.5)."""
        assert Status(0x0110, "C-STORE", "Storage").meaning == "Processing failure"


class TestAllowed:
    def test_a_code_of_the_service_hides_the_general_one(self):
        successes = [row.meaning for row in allowed("C-STORE", "Storage") if 0 in row.codes]
        assert successes == ["Stored"]

    def test_the_service_stands_first(self):
        services = [row.service for row in allowed("C-FIND", "Query/Retrieve (Repository Query)")]
        order = ["Query/Retrieve (Repository Query)", "Query/Retrieve", ""]
        assert list(dict.fromkeys(services)) == order

    def test_a_service_without_codes_has_the_general_ones(self):
        rows = allowed("N-ACTION", "Storage Commitment")
        assert {row.service for row in rows} == {""}
        assert rows == allowed("N-ACTION")
