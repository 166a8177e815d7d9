"""Dates, times and moments in one form (PS3.5 6.2, PS3.4 C.2.2.2.5)."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword

from dimse.archive.times import (
    normal_date,
    normal_moment,
    normal_time,
    offset_minutes,
    related,
    shifted,
    split_moments,
)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("20240229", "20240229"),
        ("2024.02.29", "20240229"),
        ("00010101", "00010101"),
        ("99991231", "99991231"),
        ("20230229", ""),
        ("20240431", ""),
        ("20241301", ""),
        ("20240100", ""),
        ("00000101", ""),
        ("2024-02-29", ""),
        ("2024022", ""),
        ("٢٠٢٤٠٢٢٩", ""),
        ("99999999", ""),
        ("", ""),
    ],
)
def test_normal_date(text: str, normal: str) -> None:
    assert normal_date(text) == normal


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("22", "220000.000000"),
        ("2230", "223000.000000"),
        ("223015", "223015.000000"),
        ("223015.5", "223015.500000"),
        ("223015.123456", "223015.123456"),
        ("235960", "235960.000000"),
        ("22:30:15.5", "223015.500000"),
        ("24", ""),
        ("2260", ""),
        ("223061", ""),
        ("223", ""),
        ("2230.5", ""),
        ("223015.", ""),
        ("223015.1234567", ""),
        ("٢٢", ""),
        ("noon", ""),
        ("", ""),
    ],
)
def test_normal_time(text: str, normal: str) -> None:
    """What is left out is zero, what is no time is nothing."""
    assert normal_time(text) == normal


@pytest.mark.parametrize(
    ("text", "normal", "last"),
    [
        ("2024", "20240101000000.000000", "20241231235959.999999"),
        ("9999", "99990101000000.000000", ""),
        ("202402", "20240201000000.000000", "20240229235959.999999"),
        ("202412", "20241201000000.000000", "20241231235959.999999"),
        ("20240705", "20240705000000.000000", "20240705235959.999999"),
        ("2024070510", "20240705100000.000000", "20240705100000.000000"),
        ("20240705103015.5", "20240705103015.500000", "20240705103015.500000"),
        ("20240705235960", "20240706000000.000000", "20240706000000.000000"),
        ("20240705+0200", "20240704220000.000000", "20240705215959.999999"),
        ("202407051030-0530", "20240705160000.000000", "20240705160000.000000"),
        ("20240230", "", ""),
        ("202407051", "", ""),
        ("20240705+1500", "", ""),
        ("20240705+1430", "20240705000000.000000", "20240705235959.999999"),
        ("00010101+0100", "", "00010101225959.999999"),
        ("now", "", ""),
        ("", "", ""),
    ],
)
def test_normal_moment(text: str, normal: str, last: str) -> None:
    """In UTC, as early and as late as the text allows."""
    assert normal_moment(text) == normal
    assert normal_moment(text, last=True) == last


@given(
    st.datetimes(datetime(1000, 1, 3), datetime(9990, 1, 1)),
    st.integers(-12 * 60, 14 * 60),
)
def test_a_moment_is_that_of_the_calendar(moment: datetime, minutes: int) -> None:
    """An offset of its own and a time zone given are the same."""
    zone = timezone(timedelta(minutes=minutes))
    utc = moment.replace(tzinfo=zone).astimezone(UTC)
    text = f"{moment:%Y%m%d%H%M%S.%f}"
    sign, size = "-" if minutes < 0 else "+", abs(minutes)
    expected = f"{utc:%Y%m%d%H%M%S.%f}"
    assert normal_moment(text, minutes) == expected
    assert normal_moment(f"{text}{sign}{size // 60:02}{size % 60:02}", 17) == expected
    there = moment + timedelta(minutes=minutes)
    assert "".join(shifted(text[:8], text[8:], minutes)) == f"{there:%Y%m%d%H%M%S.%f}"


def test_shifted_stays_in_the_calendar() -> None:
    """At its end nothing else can be told."""
    assert shifted("99991231", "235959.000000", 60) == ("99991231", "235959.000000")


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("2024-2025", ("2024", "2025")),
        ("2024-", ("2024", "")),
        ("-2024", ("", "2024")),
        ("20240101-0500-", ("20240101-0500", "")),
        ("20240101-0500-20240102", ("20240101-0500", "20240102")),
        ("20240101-20240102-0500", ("20240101", "20240102-0500")),
        ("20240101-0500-20240102-0500", ("20240101-0500", "20240102-0500")),
        ("202401010000+0100-202401020000+0100", ("202401010000+0100", "202401020000+0100")),
        ("20240101-0500", ("20240101", "0500")),
        ("-", ("", "")),
        ("2024", None),
        ("2024--2025", None),
        ("2024-2025-2026", None),
        ("a-b", None),
    ],
)
def test_split_moments(text: str, ends: tuple[str, str] | None) -> None:
    """A hyphen is an offset from UTC only where another one makes the range."""
    assert split_moments(text) == ends


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("+0000", 0), ("+0130", 90), ("-0500", -300), ("-1200", -720), ("+1400", 840),
     ("+1401", None), ("-1201", None), ("0100", None), ("+01", None), ("+0160", None), ("", None)],
)  # fmt: skip
def test_offset_minutes(text: str, minutes: int | None) -> None:
    assert offset_minutes(text) == minutes


def test_related() -> None:
    """Dates and their times, both ways; a date and time in one has none."""
    for date, time in (
        ("StudyDate", "StudyTime"),
        ("ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"),
        ("PatientBirthDate", "PatientBirthTime"),
        ("DateOfSecondaryCapture", "TimeOfSecondaryCapture"),
    ):
        tags = tag_for_keyword(date), tag_for_keyword(time)
        assert (related(tags[0] or 0), related(tags[1] or 0)) == (tags[1], tags[0])
    for keyword in (
        "AcquisitionDateTime",
        "PatientID",
        "TimezoneOffsetFromUTC",
        "LastMenstrualDate",
    ):
        assert related(tag_for_keyword(keyword) or 0) is None
