"""Options of extended negotiation: what the table of their bytes does not say."""

from typing import Any

import pytest

from dimse.services.extended import (
    CompositeRetrieveOptions,
    DigitalSignatureSupport,
    ElementCoercion,
    LevelOfSupport,
    QueryOptions,
    RetrieveOptions,
    StorageOptions,
    WorklistOptions,
    options_for,
)

ARCHIVE = StorageOptions(
    level_of_support=LevelOfSupport.LEVEL_2,
    digital_signature_support=DigitalSignatureSupport.LEVEL_3,
    element_coercion=ElementCoercion.NEVER,
)


@pytest.mark.parametrize(
    ("options", "wire"),
    [
        (QueryOptions(), "00"),
        (QueryOptions(relational=True), "01"),
        (QueryOptions(fuzzy_names=True), "000001"),
        (QueryOptions(relational=True, multiple_value_matching=True), "01000000000001"),
        (RetrieveOptions(enhanced_multi_frame=True), "0001"),
        (CompositeRetrieveOptions(), "0000"),
        (CompositeRetrieveOptions(enhanced_multi_frame=True), "0001"),
        (WorklistOptions(), "010100"),
        (WorklistOptions(timezone=True), "01010001"),
        (StorageOptions(), "030000000200"),
        (ARCHIVE, "020003000000"),
    ],
)
def test_offer(options: Any, wire: str):
    assert bytes(options).hex() == wire
    assert type(options).decode(bytes.fromhex(wire)) == options


@pytest.mark.parametrize(
    ("information", "options"),
    [
        ("", QueryOptions()),
        ("02ff0001", QueryOptions(timezone=True)),
        ("00" * 7 + "0101", QueryOptions()),
        ("01", CompositeRetrieveOptions()),
        ("0101", WorklistOptions()),
        ("", StorageOptions()),
        ("01", StorageOptions(level_of_support=LevelOfSupport.LEVEL_1)),
        ("04ff04000300", StorageOptions()),
        ("02000300000001", ARCHIVE),
    ],
)
def test_what_is_absent_or_unknown_is_the_default(information: str, options: Any):
    assert type(options).decode(bytes.fromhex(information)) == options


@pytest.mark.parametrize(
    ("options", "offered", "answered"),
    [
        (QueryOptions(relational=True, timezone=True), "01", "01"),
        (QueryOptions(relational=True, timezone=True), "01010001", "01000001"),
        (QueryOptions(relational=True, timezone=True), "00000000", "00000000"),
        (QueryOptions(relational=True), "0201", "0000"),
        (QueryOptions(relational=True), "01" * 9, "01" + "00" * 6),
        (RetrieveOptions(relational=True, enhanced_multi_frame=True), "01", "01"),
        (CompositeRetrieveOptions(enhanced_multi_frame=True), "0101", "0001"),
        (WorklistOptions(fuzzy_names=True, timezone=True), "010101", "010101"),
        (WorklistOptions(fuzzy_names=True, timezone=True), "01010001", "01010001"),
        (WorklistOptions(fuzzy_names=True), "00000101", "01010100"),
        (ARCHIVE, "030000000200", "020003000000"),
        (ARCHIVE, "", "020003000000"),
    ],
)
def test_answer(options: Any, offered: str, answered: str):
    assert options.answer(bytes.fromhex(offered)).hex() == answered


@pytest.mark.parametrize(
    ("options", "offered", "answered"),
    [
        (QueryOptions(relational=True), "", "00"),
        (CompositeRetrieveOptions(enhanced_multi_frame=True), "01", "0000"),
        (WorklistOptions(fuzzy_names=True), "01", "010100"),
    ],
)
def test_an_offer_that_is_too_short_gets_a_whole_answer(options: Any, offered: str, answered: str):
    assert options.answer(bytes.fromhex(offered)).hex() == answered


def test_no_options():
    assert options_for("1.2.3") is None
