"""Every rule of PS3.4 C.2.2.2 and K.2.2.2, a test for each row of matching_rules.csv."""

import re
import sys
from typing import Any

import pytest

from dimse.archive.attributes import Attributes
from dimse.archive.identifier import Rules, keys_of
from dimse.archive.matching import (
    Adjusted,
    DateTimeRange,
    OrUnknown,
    Range,
    SequenceKey,
    SingleValue,
    UIDList,
    Universal,
    WildCard,
    matches,
    requested,
)
from tests.archive.queries import asks, element, item, query, received, refusal
from tests.tables import rows

CHARACTER_SET, LEVEL, TIMEZONE = 0x00080005, 0x00080052, 0x00080201
STUDY_DATE, STUDY_TIME, MOMENT = 0x00080020, 0x00080030, 0x0008002A
PATIENT_ID, NAME, OTHER_NAMES, BIRTH_DATE = 0x00100020, 0x00100010, 0x00101001, 0x00100030
MODALITIES, DESCRIPTION, STUDY_UID = 0x00080061, 0x00081030, 0x0020000D
WEIGHT, NUMBER, COMMENTS = 0x00101030, 0x00200013, 0x00104000
STEPS, STEP_DATE, STEP_TIME, STATION = 0x00400100, 0x00400002, 0x00400003, 0x00400001
DAYS = {(STUDY_DATE, "DA"): "20240705-20240707", (STUDY_TIME, "TM"): "1000-1800"}


def at(date: str, time: str) -> Attributes:
    return {STUDY_DATE: date, STUDY_TIME: time}


@pytest.mark.parametrize("kind", [row["kind"] for row in rows("matching_rules")])
def test_every_row_has_a_test(kind: str) -> None:
    """Rows are held to a test that has their name."""
    name = "test_" + "_".join(re.findall("[a-z]+", kind.lower().replace("/", " ")))
    assert callable(getattr(sys.modules[__name__], name))


def test_single_value() -> None:
    """Exactly the value; what DA, TM, DT and numbers mean, however it is written."""
    assert asks(PATIENT_ID, "LO", "A-1", "A-1")
    for other in ("a-1", "A-12", "A-", "", None):
        assert not asks(PATIENT_ID, "LO", "A-1", other)
    assert asks(STUDY_TIME, "TM", "2230", "223000")
    assert asks(STUDY_TIME, "TM", "223000.0", "2230")
    assert not asks(STUDY_TIME, "TM", "2230", "223001")
    assert asks(STUDY_DATE, "DA", "20240705", "2024.07.05")
    assert asks(MOMENT, "DT", "20240705120000+0200", "20240705100000+0000")
    assert not asks(MOMENT, "DT", "20240705120000+0200", "20240705120000+0000")
    assert asks(WEIGHT, "DS", "70.50", "7.05E1")
    assert asks(NUMBER, "IS", "+007", "7")


def test_single_value_is_no_wild_card_where_there_is_none() -> None:
    assert isinstance(keys_of(received(element(STUDY_UID, "UI", b"1.2.*")))[STUDY_UID], SingleValue)
    assert not asks(STUDY_UID, "UI", "1.2.*", "1.2.3")


def test_single_value_of_pn() -> None:
    """Literally, but for case, accents, blanks and trailing ^; by sound when negotiated."""
    for name in ("Müller^Jörg", "MULLER^JORG^^^", " müller ^ jörg", "X^Y=Müller^Jörg"):
        assert asks(NAME, "PN", "Muller^Jorg", name), name
    for name in ("Muller", "Muller^Jorg^A", "Mullers^Jorg", "Jorg^Muller", ""):
        assert not asks(NAME, "PN", "Muller^Jorg", name), name
    assert not asks(NAME, "PN", "Mueller", "Muller^Jorg")
    assert asks(NAME, "PN", "Mueller", "Muller^Jorg", fuzzy=True)


def test_list_of_uid() -> None:
    key = keys_of(received(element(STUDY_UID, "UI", b"1.2.3\\1.2.4")))[STUDY_UID]
    assert key == UIDList(frozenset(("1.2.3", "1.2.4")))
    assert [key.matches(uid) for uid in ("1.2.3", "1.2.4", "1.2", "", None)] == [
        True, True, False, False, False,
    ]  # fmt: skip
    assert key.matches("9.9\\1.2.4"), "one of several values"


def test_universal() -> None:
    """A key without value matches all, and its attribute is returned."""
    keys = keys_of(received(element(PATIENT_ID, "LO", b""), element(STUDY_DATE, "DA", b"")))
    assert keys == {PATIENT_ID: Universal(), STUDY_DATE: Universal()}
    entities: list[Attributes] = [{}, {PATIENT_ID: ""}, {PATIENT_ID: "A"}]
    assert all(matches(keys, entity) for entity in entities)
    assert requested(keys, {PATIENT_ID: "A", NAME: "B"}) == {PATIENT_ID: "A", STUDY_DATE: ""}


def test_wild_card() -> None:
    """* is any text, ? one character, and case counts but in PN."""
    fits = {
        "CT*": ["CT", "CT HEAD", "CT*"],
        "*HEAD": ["CT HEAD", "HEAD"],
        "C?": ["CT", "C?"],
        "*E*D": ["HEAD", "ED", "E D"],
        "A*B*C?": ["ABCD", "AxxBBCC", "A\nBC."],
        "a.c*": ["a.c"],
    }
    fails = {
        "CT*": ["ct", "XCT", ""],
        "*HEAD": ["HEADS", "head"],
        "C?": ["C", "CTT"],
        "*E*D": ["E", "DE"],
        "A*B*C?": ["ABC", "BAC."],
        "a.c*": ["abc"],
    }
    for text, values in fits.items():
        assert all(asks(DESCRIPTION, "LO", text, each) for each in values), text
        assert not any(asks(DESCRIPTION, "LO", text, each) for each in [*fails[text], None]), text
    assert asks(NAME, "PN", "SM?TH*", "Smíth^John")
    assert asks(MODALITIES, "CS", "C*", "MR\\CT")
    one = keys_of(received(element(DESCRIPTION, "LO", b"A**B?")))[DESCRIPTION]
    assert one == WildCard("A*B?", "LO"), "what the index narrows down by"


def test_stars_only_are_universal_of_any_vr() -> None:
    for vr, tag in {"LO": DESCRIPTION, "PN": NAME, "DA": STUDY_DATE, "UI": 0x0020000D}.items():
        for key in (b"*", b"***"):
            assert keys_of(received(element(tag, vr, key)))[tag] == Universal()


def test_range() -> None:
    """Both ends belong to it, either may be open; DT compares moments."""
    table: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
        ("20240705-20240707", ("20240705", "2024.07.06", "20240707"), ("20240704", "20240708")),
        ("-20240707", ("19000101", "20240707"), ("20240708",)),
        ("20240705-", ("20240705", "99991231"), ("20240704",)),
        ("2024.07.05-2024.07.07", ("20240706",), ("20240708",)),
    ]
    for key, inside, outside in table:
        assert all(asks(STUDY_DATE, "DA", key, day) for day in inside), key
        assert not any(asks(STUDY_DATE, "DA", key, d) for d in (*outside, "", None, "x")), key
    table = [
        ("10-1800", ("10", "1800", "175959.999999"), ("095959", "180000.1", "")),
        ("2230-", ("223000", "2359"), ("2229",)),
        ("-2230", ("00", "223000.000"), ("223001",)),
        ("2200-0200", (), ("23", "01")),
    ]
    for key, inside, outside in table:
        assert all(asks(STUDY_TIME, "TM", key, time) for time in inside), key
        assert not any(asks(STUDY_TIME, "TM", key, time) for time in outside), key
    table = [
        ("20240705-20240706", ("20240705", "20240706235959"), ("20240707", "20240704235959")),
        ("202407051200+0200-", ("202407051000+0000", "20240706"), ("20240705095959",)),
        ("-202407051200-0500", ("202407051700+0000",), ("202407051701",)),
        ("202407050000-0500-202407060000-0500", ("2024070505",), ("2024070504", "2024070606")),
        ("-2024", ("20241231235959.999999",), ("2025",)),
        ("-202402", ("2024022923",), ("202403",)),
    ]
    for key, inside, outside in table:
        assert all(asks(MOMENT, "DT", key, moment) for moment in inside), key
        assert not any(asks(MOMENT, "DT", key, moment) for moment in (*outside, "")), key


def test_range_ends_are_normal() -> None:
    """What the index makes its conditions of."""
    sent = received(element(STUDY_DATE, "DA", b"2024.07.05-"), element(STUDY_TIME, "TM", b"-2230"))
    assert keys_of(sent) == {
        STUDY_DATE: Range("20240705", "", "DA"),
        STUDY_TIME: Range("", "223000.000000", "TM"),
    }


def test_range_date_and_time_separate_default() -> None:
    """Each day within the time window."""
    assert query(DAYS, at("20240706", "12"))
    assert not query(DAYS, at("20240706", "19"))
    assert not query(DAYS, at("20240706", "09"))
    assert not query(DAYS, at("20240704", "12"))


def test_range_date_and_time_combined() -> None:
    """From 5 July 10 h to 7 July 18 h."""
    for date, time, fits in (
        ("20240706", "19", True),
        ("20240706", "09", True),
        ("20240705", "10", True),
        ("20240705", "095959", False),
        ("20240707", "1800", True),
        ("20240707", "180001", False),
        ("20240706", "", False),
        ("", "12", False),
    ):
        assert query(DAYS, at(date, time), combined=True) is fits, (date, time)
    sent = received(element(STUDY_DATE, "DA", b"20240705-"), element(STUDY_TIME, "TM", b"1000-"))
    keys = keys_of(sent, Rules(combined=True))
    assert keys[STUDY_DATE] == DateTimeRange("20240705100000.000000", "", STUDY_DATE, STUDY_TIME)
    assert keys[STUDY_TIME] == Universal()
    assert requested(keys, at("20240706", "09")) == at("20240706", "09")


def test_combined_needs_ranges_of_one_form() -> None:
    """From a day on, and up to a time, are two conditions."""
    keys = {(STUDY_DATE, "DA"): "20240705-", (STUDY_TIME, "TM"): "-1000"}
    assert query(keys, at("20240706", "09"), combined=True)
    assert not query(keys, at("20240706", "11"), combined=True)
    keys = {(STUDY_DATE, "DA"): "20240705", (STUDY_TIME, "TM"): "10-12"}
    assert not query(keys, at("20240705", "13"), combined=True)


def test_worklist_always_combines() -> None:
    inside = element(STEP_DATE, "DA", b"20240705-20240707")
    inside += element(STEP_TIME, "TM", b"1000-1800")
    sent = received(element(STEPS, "SQ", item(inside)))
    step: Attributes = {STEP_DATE: "20240706", STEP_TIME: "19"}
    assert matches(keys_of(sent, Rules(worklist=True)), {STEPS: [step]})
    assert not matches(keys_of(sent), {STEPS: [step]})


def test_sequence() -> None:
    """One item has to match all item keys; what is asked for of the matching items is returned."""
    inside = element(STATION, "AE", b"CT1") + element(STEP_DATE, "DA", b"20240705")
    inside += element(0x00400006, "PN", b"")
    keys = keys_of(received(element(STEPS, "SQ", item(inside))))
    good: Attributes = {STATION: "CT1", STEP_DATE: "20240705", 0x00400007: "not asked for"}
    other: Attributes = {STATION: "CT1", STEP_DATE: "20240706"}
    third: Attributes = {STATION: "CT2", STEP_DATE: "20240705"}
    assert matches(keys, {STEPS: [other, good]})
    assert not matches(keys, {STEPS: [other, third]}), "each matches one key of two"
    assert not matches(keys, {STEPS: []})
    assert not matches(keys, {})
    assert not matches(keys, {STEPS: "text"})
    assert requested(keys, {STEPS: [other, good, third]}) == {
        STEPS: [{STATION: "CT1", STEP_DATE: "20240705", 0x00400006: ""}]
    }


def test_nested_sequence() -> None:
    inner = element(0x00080100, "SH", b"A*")
    outer = element(0x00400008, "SQ", item(inner))
    keys = keys_of(received(element(STEPS, "SQ", item(outer))))
    assert matches(keys, {STEPS: [{0x00400008: [{0x00080100: "B"}, {0x00080100: "A1"}]}]})
    assert not matches(keys, {STEPS: [{0x00400008: [{0x00080100: "B"}]}]})
    assert requested(keys, {STEPS: [{0x00400008: [{0x00080100: "B"}, {0x00080100: "A1"}]}]}) == {
        STEPS: [{0x00400008: [{0x00080100: "A1"}]}]
    }


def test_sequence_universal() -> None:
    """Without item, or with an empty one: all match, and the whole sequence is returned."""
    for value in (b"", item(b"")):
        keys = keys_of(received(element(STEPS, "SQ", value)))
        assert keys == {STEPS: Universal()}
        assert requested(keys, {STEPS: [{STATION: "A"}]}) == {STEPS: [{STATION: "A"}]}
        assert matches(keys, {})


def test_sequence_with_universal_item_keys_matches_an_entity_without_it() -> None:
    """Its items are asked for, and nothing of them."""
    keys = keys_of(received(element(STEPS, "SQ", item(element(STATION, "AE", b"")))))
    assert keys == {STEPS: SequenceKey({STATION: Universal()})}
    entities: list[Attributes] = [{}, {STEPS: ""}, {STEPS: [{}]}]
    assert all(matches(keys, entity) for entity in entities)
    assert requested(keys, {}) == {STEPS: ""}
    assert requested(keys, {STEPS: [{STATION: "A", STEP_DATE: "B"}]}) == {STEPS: [{STATION: "A"}]}


def test_empty_value() -> None:
    """Two quotation marks find what has no value, once negotiated."""
    for entity, fits in ((None, True), ("", True), ("A", False), ('""', False)):
        assert asks(PATIENT_ID, "LO", '""', entity, empty_value=True) is fits
    assert asks(PATIENT_ID, "LO", '""', '""')
    assert not asks(PATIENT_ID, "LO", '""', "")
    assert not asks(DESCRIPTION, "LO", "“”", "", empty_value=True)
    assert "StudyDate" in str(refusal(STUDY_DATE, "DA", b'""'))
    assert asks(STUDY_DATE, "DA", '""', "", empty_value=True)


def test_multiple_value() -> None:
    """All values of the key among those of the entity, once negotiated; one of them before."""
    for entity, fits in (
        ("CT\\MR", True),
        ("MR\\PT\\CT", True),
        ("CT", False),
        ("CT\\PT", False),
        ("", False),
        (None, False),
    ):
        assert asks(MODALITIES, "CS", "CT\\MR", entity, multiple_value=True) is fits, entity
    assert asks(MODALITIES, "CS", "CT\\MR", "CT")
    assert not asks(MODALITIES, "CS", "CT\\MR", "PT")
    assert asks(OTHER_NAMES, "PN", "a\\b", "B\\A^", multiple_value=True)
    assert not asks(MODALITIES, "CS", "ct\\mr", "CT\\MR", multiple_value=True)
    assert "C.2.2.2.8" in str(refusal(MODALITIES, "CS", b"CT\\M*", multiple_value=True))
    assert asks(PATIENT_ID, "LO", "A\\B", "A", multiple_value=True), "its VM is 1"


def test_multi_valued_entity_attribute() -> None:
    """A match of any value is one, and all values are returned."""
    assert asks(MODALITIES, "CS", "MR", "CT\\MR")
    assert asks(MODALITIES, "CS", "M?", "CT\\MR")
    assert asks(OTHER_NAMES, "PN", "smith*", "X\\Smith^J")
    assert not asks(OTHER_NAMES, "PN", "smith*", "X\\Y^Smith")
    assert asks(BIRTH_DATE, "DA", "20240101-", "19000101\\20240202")
    assert asks(NUMBER, "IS", "2", "1\\02")
    keys = keys_of(received(element(MODALITIES, "CS", b"MR")))
    assert requested(keys, {MODALITIES: "CT\\MR"}) == {MODALITIES: "CT\\MR"}


def test_backslash_is_text_where_there_is_one_value() -> None:
    """ST, LT, UT and UR cannot have several values (PS3.5 6.2)."""
    assert asks(COMMENTS, "LT", "a\\b", "a\\b")
    assert not asks(COMMENTS, "LT", "a", "a\\b")
    assert not asks(COMMENTS, "LT", "a?", "ab\\cd")


def test_character_set() -> None:
    """It tells the encoding of the other keys, and is none itself."""
    sent = received(
        element(CHARACTER_SET, "CS", b"ISO_IR 144"),
        element(NAME, "PN", "Жуков".encode("iso8859_5")),
    )
    keys = keys_of(sent)
    assert set(keys) == {NAME}
    assert matches(keys, {NAME: "жуков", CHARACTER_SET: "ISO_IR 192"})
    sent = received(
        element(CHARACTER_SET, "CS", b"\\ISO 2022 IR 87"),
        element(NAME, "PN", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
    )
    assert matches(keys_of(sent), {NAME: "Yamada^Tarou=山田^太郎"})


def test_character_set_of_an_item() -> None:
    """An item has that of its data set, unless it has its own."""
    name = element(NAME, "PN", "Ж".encode("iso8859_5"))
    own = element(CHARACTER_SET, "CS", b"ISO_IR 192") + element(NAME, "PN", "Ж".encode())
    for inside in (name, own):
        sent = received(
            element(CHARACTER_SET, "CS", b"ISO_IR 144"), element(STEPS, "SQ", item(inside))
        )
        assert matches(keys_of(sent), {STEPS: [{NAME: "ж"}]})


@pytest.mark.filterwarnings("ignore:Unknown encoding")  # pydicom's, when it reads them
@pytest.mark.parametrize(
    "terms", [b"ISO_IR 9999", b"idna", b"zip", b"unicode_escape", b"ISO_IR 100\\" * 80]
)
def test_unknown_character_set_is_refused(terms: bytes) -> None:
    """Only what DICOM names, whatever Python has codecs for (hostile case D21, charset bombs)."""
    assert "character set" in str(refusal(CHARACTER_SET, "CS", terms))


def test_timezone() -> None:
    """Negotiated, it adjusts times and is not matched; else it is a key as others."""
    zone = {(TIMEZONE, "SH"): "+0100"}
    entity: Attributes = {**at("20240705", "2330"), TIMEZONE: "+0000", MOMENT: "202407052330"}
    assert not query(zone, entity)
    assert query(zone, entity, timezone=60)
    for tag, vr, key, fits in (
        (STUDY_DATE, "DA", "20240706", True),
        (STUDY_DATE, "DA", "20240705", False),
        (STUDY_TIME, "TM", "0030", True),
        (STUDY_TIME, "TM", "0000-0100", True),
        (STUDY_TIME, "TM", "2330", False),
        (MOMENT, "DT", "202407060030", True),
        (MOMENT, "DT", "202407052330", False),
        (MOMENT, "DT", "202407052330+0000", True),
        (MOMENT, "DT", "202407060000-", True),
    ):
        assert query(zone | {(tag, vr): key}, entity, timezone=60) is fits, key
    assert query({(MOMENT, "DT"): "202407052330"}, entity), "as it is written"


def test_timezone_of_an_entity_that_tells_none() -> None:
    """It is the default one of the rules."""
    entity = at("20240705", "2330")
    assert query({(STUDY_DATE, "DA"): "20240706"}, entity, timezone=60)
    assert query({(STUDY_DATE, "DA"): "20240705"}, entity, timezone=60, default_timezone=60)
    assert query({(STUDY_DATE, "DA"): "20240705"}, {STUDY_DATE: "20240705"}, timezone=60)


def test_timezone_with_combined_ranges_and_in_items() -> None:
    entity: Attributes = {**at("20240707", "1730"), TIMEZONE: "+0000"}
    assert query(DAYS, entity, combined=True, timezone=0)
    assert not query(DAYS, entity, combined=True, timezone=60)
    inside = element(STEP_DATE, "DA", b"20240706")
    sent = received(element(STEPS, "SQ", item(inside)))
    step: Attributes = {STEP_DATE: "20240705", STEP_TIME: "2330"}
    keys = keys_of(sent, Rules(timezone=60))
    assert matches(keys, {STEPS: [step], TIMEZONE: "+0000"})
    assert not matches(keys, {STEPS: [step], TIMEZONE: "+0100"})
    assert requested(keys, {STEPS: [step], TIMEZONE: "+0000"}) == {STEPS: [{STEP_DATE: "20240705"}]}


def test_unknown_value_query_retrieve() -> None:
    """Of the attributes that the rules name, unknown values match every key."""
    unknown: dict[str, Any] = {"unknown_matches": frozenset((PATIENT_ID, STUDY_DATE, STUDY_TIME))}
    for tag, vr, key in ((PATIENT_ID, "LO", "A"), (STUDY_DATE, "DA", "20240705-")):
        for value in ("", None):
            assert asks(tag, vr, key, value, **unknown)
            assert not asks(tag, vr, key, value)
    assert not asks(PATIENT_ID, "LO", "A", "B", **unknown)
    assert not asks(DESCRIPTION, "LO", "A", "", **unknown)
    for date, time, fits in (
        ("20240706", "", True),
        ("20240704", "", False),
        ("", "12", True),
        ("", "", True),
    ):
        assert query(DAYS, at(date, time), combined=True, **unknown) is fits, (date, time)
    sent = received(element(STUDY_DATE, "DA", b"20240705"))
    wrapped = keys_of(sent, Rules(timezone=0, **unknown))[STUDY_DATE]
    inner = SingleValue("20240705", "DA", 0, True)
    assert wrapped == OrUnknown(Adjusted(inner, STUDY_DATE, STUDY_TIME, False, 0))


def test_unknown_value_worklist() -> None:
    """No key but a universal one matches; the attribute is returned without value."""
    unknown: dict[str, Any] = {"worklist": True, "unknown_matches": frozenset((PATIENT_ID,))}
    for value in ("", None):
        assert not asks(PATIENT_ID, "LO", "A", value, **unknown)
        assert not asks(DESCRIPTION, "LO", "A?", value, **unknown)
        assert asks(PATIENT_ID, "LO", "", value, **unknown)


def test_optional_key_existence_not_supported() -> None:
    """What PS3.6 does not know, and private attributes, are neither matched nor returned."""
    sent = received(
        element(LEVEL, "CS", b"STUDY"),
        element(0x00090010, "LO", b"X"),
        element(0x00091001, "LO", b"Y"),
        element(0x00187FFE, "LO", b"Z"),
        element(PATIENT_ID, "LO", b"A"),
    )
    assert set(keys_of(sent)) == {PATIENT_ID}


def test_optional_key_matching_not_supported() -> None:
    """Who does not match an attribute takes its key for universal; its value is returned."""
    keys = keys_of(received(element(DESCRIPTION, "LO", b"A"), element(PATIENT_ID, "LO", b"1")))
    keys[DESCRIPTION] = Universal()
    entity: Attributes = {DESCRIPTION: "B", PATIENT_ID: "1"}
    assert matches(keys, entity)
    assert requested(keys, entity) == entity


def test_a_value_of_another_kind_does_not_match() -> None:
    """What an entity has in place of a date and a time is no reason to fail."""
    items: list[Attributes] = [{}]
    for date, time in ((items, "12"), ("20240706", items), ("x", "12"), ("20240706", "x")):
        entity: Attributes = {STUDY_DATE: date, STUDY_TIME: time}
        for rules in ({"combined": True}, {"timezone": 60}):
            assert not query(DAYS, entity, **rules), entity
