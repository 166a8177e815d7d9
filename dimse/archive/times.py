"""Dates, times and moments in one form each, so that texts compare by meaning (PS3.5 6.2)."""

import re
from datetime import date, datetime, timedelta
from functools import lru_cache

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

_TIME = re.compile(
    r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?",  # 60: a leap second
    re.ASCII,
)
_OFFSET = r"[+-](?:0\d|1[0-4])[0-5]\d"
_MOMENT = re.compile(rf"(\d{{4}}(?:\d\d){{0,2}})(\d\d[\d.]*)?({_OFFSET})?", re.ASCII)
_TEXT = rf"\d{{4,14}}(?:\.\d{{1,6}})?(?:{_OFFSET})?"
_RANGE = re.compile(rf"({_TEXT})?-({_TEXT})?", re.ASCII)
_LOWEST, _HIGHEST = -12 * 60, 14 * 60


def normal_date(text: str) -> str:
    """A DA value as YYYYMMDD, also from the old YYYY.MM.DD; "" for what is no date (PS3.5 6.2)."""
    if len(text) == 10 and text[4] == text[7] == ".":
        text = text[:4] + text[5:7] + text[8:]
    if len(text) != 8 or not (text.isascii() and text.isdigit()):
        return ""
    if text[:4] > "0000" and "01" <= text[4:6] <= "12" and "01" <= text[6:] <= "28":
        return text  # most are: without a look into the calendar
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return ""
    return text


def normal_time(text: str) -> str:
    """A TM value as HHMMSS.FFFFFF, also from the old HH:MM:SS; "" for what is no time.

    What a value leaves out is zero: 2230 equals 223000 (PS3.4 C.2.2.2.1).
    """
    found = _TIME.fullmatch(text.replace(":", ""))
    if found is None:
        return ""
    text = found[0]
    return text + "000000.000000"[len(text) :]


@lru_cache(maxsize=1024)
def normal_moment(text: str, zone: int = 0, *, last: bool = False) -> str:
    """A DT value as YYYYMMDDHHMMSS.FFFFFF in UTC; "" for what is no moment (PS3.5 6.2).

    `zone`, in minutes, is that of a value without an offset of its own. What a value leaves out is
    as early as can be; with `last`, a value without a time is the end of its day, month or year.
    """
    found = _MOMENT.fullmatch(text)
    if found is None:
        return ""
    day, time, offset = found.groups()
    hours = normal_time(time or "00")
    if not normal_date((day + "0101")[:8]) or not hours:
        return ""
    try:
        moment = datetime(int(day[:4]), int(day[4:6] or 1), int(day[6:8] or 1))
        if last and not time:
            moment = _next(moment, len(day)) - timedelta(microseconds=1)
        moment += timedelta(
            hours=int(hours[:2]),
            minutes=int(hours[2:4]) - (offset_minutes(offset) or 0 if offset else zone),
            seconds=int(hours[4:6]),
            microseconds=int(hours[7:]),
        )
    except (OverflowError, ValueError):  # in no calendar, or not in UTC
        return ""
    return _text(moment)


def _next(start: datetime, digits: int) -> datetime:
    """When the year, month or day that begins at `start` is over."""
    if digits == 8:
        return start + timedelta(days=1)
    if digits == 6:
        return (start + timedelta(days=31)).replace(day=1)
    return start.replace(year=start.year + 1)


def _text(moment: datetime) -> str:
    return f"{moment.year:04}{moment:%m%d%H%M%S.%f}"


def split_moments(text: str) -> tuple[str, str] | None:
    """Both ends of a range of DT, "" for an open one; None for what is none.

    A hyphen may also begin an offset from UTC: -1200 to +1400 (PS3.4 C.2.2.2.5.3).
    """
    found = _RANGE.fullmatch(text)
    return (found[1] or "", found[2] or "") if found else None


@lru_cache(maxsize=256)
def offset_minutes(text: str) -> int | None:
    """+0130 or -0500, an offset from UTC, in minutes; None for what is none (PS3.5 6.2)."""
    if not re.fullmatch(_OFFSET, text, re.ASCII):
        return None
    minutes = int(text[1:3]) * 60 + int(text[3:])
    minutes = -minutes if text[0] == "-" else minutes
    return minutes if _LOWEST <= minutes <= _HIGHEST else None


def shifted(day: str, time: str, minutes: int) -> tuple[str, str]:
    """A normal date and a normal time, so many minutes later."""
    try:
        start = datetime(int(day[:4]), int(day[4:6]), int(day[6:]))
        late = start + timedelta(
            hours=int(time[:2]),
            minutes=int(time[2:4]) + minutes,
            seconds=int(time[4:6]),
            microseconds=int(time[7:]),
        )
    except OverflowError:  # at an end of the calendar
        return day, time
    text = _text(late)
    return text[:8], text[8:]


@lru_cache(maxsize=1024)
def related(tag: int) -> int | None:
    """The time that goes with a date, StudyTime with StudyDate, or the date with a time."""
    keyword = keyword_for_tag(tag)
    for one, other, vr in (("Date", "Time", "TM"), ("Time", "Date", "DA")):
        found = tag_for_keyword(keyword.replace(one, other)) if one in keyword else None
        if found is not None and found != tag and dictionary_VR(found) == vr:
            return found
    return None
