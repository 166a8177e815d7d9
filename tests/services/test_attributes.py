"""Tables of attributes, and data sets that no table expects (PS3.4 5.4)."""

import pytest
from pydicom import Dataset

from dimse.services.attributes import Attribute
from dimse.services.dataset import decode
from tests.archive.data_sets import PATIENT_ID, element
from tests.wire import EXPLICIT


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Attribute("1C", given=("PatientID",)), False),
        (Attribute("1C", unless=("PatientID",)), True),
    ],
)
@pytest.mark.parametrize("dataset", [b"", element(PATIENT_ID, "US", b"A")])
def test_a_condition_on_what_is_missing_or_cannot_be_read(
    condition: Attribute, expected: bool, dataset: bytes
):
    """A US has two bytes, so pydicom has no value of it."""
    assert condition.is_needed(decode(dataset, EXPLICIT)) is expected


def test_a_condition_on_what_has_a_value():
    dataset = Dataset()
    dataset.PatientID = "AB"
    assert Attribute("1C", given=("PatientID",)).is_needed(dataset)
    assert not Attribute("1C", unless=("PatientID",)).is_needed(dataset)
