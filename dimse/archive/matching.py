"""Keys, and whether an entity matches them (PS3.4 C.2.2.2, K.2.2.2).

A key knows what to make of the value of an entity: `matches(value, around)`. `value` is None when
the attribute is missing, "" when it is empty; when it has several values a match of any of them
matches (C.2.2.3, K.2.2.3). `around` are the other attributes of the entity, for the keys that need
them: for times that are combined with a date, or told in another time zone.

The index narrows down by the fields of the keys, and these decide. Where a value is unknown,
missing or empty, no key matches but Universal, EmptyValue and OrUnknown.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from dimse.archive.attributes import Attributes, Value
from dimse.archive.names import name_groups, soundex, words
from dimse.archive.times import normal_date, normal_moment, normal_time, offset_minutes, shifted
from dimse.archive.wildcards import wild_card

TIMEZONE = 0x00080201
ONE_TEXT = frozenset(("LT", "ST", "UR", "UT"))
"""VRs that have one value, whose backslashes are text (PS3.5 6.2)."""
_NOTHING: Attributes = {}
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


class Key(Protocol):
    """One attribute of an identifier, as a condition."""

    def matches(self, value: Value | None, around: Attributes = _NOTHING) -> bool:
        """Whether an entity with this value matches."""


def normal_number(text: str) -> str:
    """A number in one form, 1.50 and 15E-1 as 1.5; "" for what is none (PS3.4 C.2.2.2.1)."""
    if not _NUMBER.fullmatch(text):
        return ""
    try:
        return str((Decimal(text) + 0).normalize())
    except ArithmeticError:  # an exponent beyond all numbers
        return ""


_NORMAL = {
    "DA": normal_date,
    "TM": normal_time,
    **dict.fromkeys(("DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"), normal_number),
}
"""The VRs that match by meaning, but for DT, which needs a time zone (PS3.4 C.2.2.2.1)."""


def normal(vr: str, text: str, zone: int = 0) -> str:
    """A value in the form in which values of this VR compare; "" for what is no value of it."""
    normalised = _NORMAL.get(vr)
    if normalised is not None:
        return normalised(text)
    return normal_moment(text, zone) if vr == "DT" else text


def zone_of(attributes: Attributes, default: int) -> int:
    """The offset from UTC, in minutes, in which an entity tells its times."""
    text = attributes.get(TIMEZONE)
    offset = offset_minutes(text) if isinstance(text, str) else None
    return default if offset is None else offset


@dataclass(frozen=True, slots=True)
class Universal:
    """Matches everything: the attribute is asked for (PS3.4 C.2.2.2.3)."""

    def matches(self, value: Value | None, around: Attributes = _NOTHING) -> bool:
        """It does."""
        return True


@dataclass(frozen=True, slots=True)
class EmptyValue:
    """Matches what is empty or missing (PS3.4 C.2.2.2.7)."""

    def matches(self, value: Value | None, around: Attributes = _NOTHING) -> bool:
        """Whether there is no value."""
        return not value


@dataclass(frozen=True, slots=True)
class SingleValue:
    """Matches the value `text`, exactly or, for numbers and times, by meaning (PS3.4 C.2.2.2.1).

    `text` is in the form that `normal` gives: a DA as YYYYMMDD, a TM as HHMMSS.FFFFFF, a DT in UTC.
    A DT without an offset is in `default_zone`, with `own_zone` in that of the entity where it has
    one (0008,0201).
    """

    text: str
    vr: str
    default_zone: int = 0
    own_zone: bool = False

    def matches(self, value: Value | None, around: Attributes = _NOTHING) -> bool:
        """Whether one of its values is this one."""
        if not value or isinstance(value, list):
            return False
        if self.vr == "DT":
            zone = zone_of(around, self.default_zone) if self.own_zone else self.default_zone
            return any(self.text == normal_moment(each, zone) for each in value.split("\\"))
        if value == self.text:
            return True
        normalised = _NORMAL.get(self.vr)
        if "\\" not in value or self.vr in ONE_TEXT:
            return normalised is not None and self.text == normalised(value)
        return any(self.text == normal(self.vr, each) for each in value.split("\\"))


@dataclass(frozen=True, slots=True)
class UIDList:
    """Matches any of these UIDs (PS3.4 C.2.2.2.2)."""

    uids: frozenset[str]

    def matches(self, value: Value | None, around: Attributes = _NOTHING) -> bool:
        """Whether one of its UIDs is in the list."""
        if not value or isinstance(value, list):
            return False
        return value in self.uids or ("\\" in value and not self.uids.isdisjoint(value.split("\\")))


@dataclass(frozen=True, slots=True)
class WildCard:
    """Matches a `pattern` with * and ?, case-sensitive (PS3.4 C.2.2.2.4)."""

    pattern: str
    vr: str
    regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "regex", wild_card(self.pattern))

    def matches(self, value: Value | None, around: Attributes = _NOTHING) -> bool:
        """Whether one of its values fits."""
        if not value or isinstance(value, list):
            return False
        if "\\" not in value or self.vr in ONE_TEXT:
            return self.regex.fullmatch(value) is not None
        return any(self.regex.fullmatch(each) is not None for each in value.split("\\"))


@dataclass(frozen=True, slots=True)
class Range:
    """Matches what is from `low` to `high`, both included; "" is an open end (PS3.4 C.2.2.2.5).

    Both are in the form that `normal` gives for this VR: DA, TM or DT. An upper DT that names no
    time is the end of its day, month or year. Time zones are as in a SingleValue.
    """

    low: str
    high: str
    vr: str
    default_zone: int = 0
    own_zone: bool = False

    def matches(self, value: Value | None, around: Attributes = _NOTHING) -> bool:
        """Whether one of its values is in it."""
        if not value or isinstance(value, list):
            return False
        zone = zone_of(around, self.default_zone) if self.own_zone else self.default_zone
        if "\\" not in value:
            return self._holds(normal(self.vr, value, zone))
        return any(self._holds(normal(self.vr, each, zone)) for each in value.split("\\"))

    def _holds(self, text: str) -> bool:
        return text != "" and self.low <= text and (not self.high or text <= self.high)


@dataclass(frozen=True, slots=True)
class DateTimeRange:
    """Matches a date and its time as one moment (PS3.4 C.2.2.2.5.4, K.6.1.2.2).

    It is the key of the date; that of the time, `time_tag`, is then Universal. `low` and `high` are
    YYYYMMDDHHMMSS.FFFFFF, "" for an open end. With `zone`, moments of the entity are told in that
    time zone first, from its own or `default_zone`; a date alone may then be one day off.
    Of what is unknown `unknown_date` and `unknown_time` say whether it matches.
    """

    low: str
    high: str
    date_tag: int
    time_tag: int
    zone: int | None = None
    default_zone: int = 0
    unknown_date: bool = False
    unknown_time: bool = False

    def matches(self, value: Value | None, around: Attributes = _NOTHING) -> bool:
        """Whether this date, at the time that is `around`, is in it."""
        time = around.get(self.time_tag)
        if isinstance(value, list) or isinstance(time, list):
            return False
        if not value:
            return self.unknown_date and (bool(time) or self.unknown_time)
        if not time:
            return self.unknown_time and self._holds(normal_date(value), 8)
        moment = normal_date(value), normal_time(time)
        if not all(moment):
            return False
        if self.zone is not None:
            moment = shifted(*moment, self.zone - zone_of(around, self.default_zone))
        return self._holds("".join(moment), None)

    def _holds(self, text: str, digits: int | None) -> bool:
        high = self.high[:digits]
        return text != "" and self.low[:digits] <= text and (not high or text <= high)


@dataclass(frozen=True, slots=True)
class Adjusted:
    """A key of a date or a time, for entities that tell it in another time zone (PS3.4 C.2.2.2).

    Date and time of the entity are told in `zone`, then `key` decides: a date may be one day off.
    A date without a time, or a time without a date, stays as it is.
    """

    key: Key
    date_tag: int
    time_tag: int
    of_time: bool
    zone: int
    default_zone: int = 0

    def matches(self, value: Value | None, around: Attributes = _NOTHING) -> bool:
        """Whether the key matches what this value is in the time zone."""
        date, time = around.get(self.date_tag), around.get(self.time_tag)
        if isinstance(date, str) and isinstance(time, str):
            moment = normal_date(date), normal_time(time)
            if all(moment):
                minutes = self.zone - zone_of(around, self.default_zone)
                value = shifted(*moment, minutes)[self.of_time]
        return self.key.matches(value, around)


@dataclass(frozen=True, slots=True)
class PersonName:
    """Matches a name without regard to case, accents and trailing ^ (PS3.4 C.2.2.2.1.1).

    `groups` are component groups as `folded` gives them, with * and ? in them: each of them must
    fit one of the groups of a name, be it alphabetic, ideographic or phonetic. * stands for any
    text, also over several components, ? for one character of a component. `SMITH^*` fits a name
    without a given name too, whose folded form has no ^: an index must ask for `SMITH*`.
    """

    groups: tuple[str, ...]
    regexes: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        regexes = tuple(wild_card(group, r"[^\^]", r"\^*") for group in self.groups)
        object.__setattr__(self, "regexes", regexes)

    def matches(self, value: Value | None, around: Attributes = _NOTHING) -> bool:
        """Whether one of its names fits."""
        if not value or isinstance(value, list):
            return False
        return any(self._fits(groups) for groups in name_groups(value))

    def _fits(self, groups: tuple[str, ...]) -> bool:
        whole = [f"{group}^^^^" for group in groups]
        return all(any(map(regex.fullmatch, whole)) for regex in self.regexes)


@dataclass(frozen=True, slots=True)
class FuzzyName:
    """Matches a name as PersonName does, or by its words (PS3.4 C.2.2.2.1.1, fuzzy).

    Each of `words` must be among those of the name, in any component and any order: it is the
    same without case and accents, or sounds the same by Soundex. One that ends in * is the
    beginning of a word, or sounds like one; with other wild cards it must fit. `codes` is what an
    index can ask for: each is the beginning of a code in `phonetic` of every name that matches.
    """

    name: PersonName
    words: tuple[str, ...]
    codes: tuple[str, ...] = field(init=False)
    _tests: tuple[tuple[re.Pattern[str], str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tests = tuple((wild_card(word), _code(word)) for word in self.words)
        object.__setattr__(self, "_tests", tests)
        object.__setattr__(self, "codes", tuple(code for _, code in tests if code))

    def matches(self, value: Value | None, around: Attributes = _NOTHING) -> bool:
        """Whether one of its names fits or sounds like it."""
        if not value or isinstance(value, list):
            return False
        return self.name.matches(value) or (
            self._tests != () and any(self._sounds(words(name)) for name in value.split("\\"))
        )

    def _sounds(self, spoken: tuple[str, ...]) -> bool:
        codes = [soundex(word) for word in spoken]
        return all(
            any(map(regex.fullmatch, spoken))
            or (code != "" and any(each.startswith(code) for each in codes))
            for regex, code in self._tests
        )


def _code(word: str) -> str:
    """The Soundex of a word of a key, of a beginning without zeros; "" with wild cards in it."""
    beginning = word.rstrip("*")
    if "*" in beginning or "?" in beginning:
        return ""
    code = soundex(beginning)
    return code if beginning == word else code.rstrip("0")


@dataclass(frozen=True, slots=True)
class MultipleValues:
    """Matches when each of `keys` matches one of the values (PS3.4 C.2.2.2.8)."""

    keys: tuple[Key, ...]

    def matches(self, value: Value | None, around: Attributes = _NOTHING) -> bool:
        """Whether all are among its values; it may have more, in any order."""
        return all(key.matches(value, around) for key in self.keys)


@dataclass(frozen=True, slots=True)
class AnyValue:
    """Matches when one of `keys` does: several values where PS3.4 C.2.2.2 gives them no meaning."""

    keys: tuple[Key, ...]

    def matches(self, value: Value | None, around: Attributes = _NOTHING) -> bool:
        """Whether one of them is among its values."""
        return any(key.matches(value, around) for key in self.keys)


@dataclass(frozen=True, slots=True)
class OrUnknown:
    """Matches as `key` does, and an unknown value too: a required key of Q/R (PS3.4 C.2.2.1.2)."""

    key: Key

    def matches(self, value: Value | None, around: Attributes = _NOTHING) -> bool:
        """Whether there is no value, or it matches."""
        return not value or self.key.matches(value, around)


@dataclass(frozen=True, slots=True)
class SequenceKey:
    """Matches a sequence with an item that matches all of `keys` (PS3.4 C.2.2.2.6).

    When all of them are universal, so is this, and matches a missing sequence too.
    """

    keys: Mapping[int, Key]
    universal: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "universal", all(map(is_universal, self.keys.values())))

    def matches(self, value: Value | None, around: Attributes = _NOTHING) -> bool:
        """Whether one of its items does."""
        return self.universal or (
            isinstance(value, list)
            and any(matches(self.keys, _in_zone(item, around)) for item in value)
        )

    def items(self, value: Value | None, around: Attributes = _NOTHING) -> list[Attributes]:
        """The items that match, with the requested attributes only."""
        if not isinstance(value, list):
            return []
        inside = [_in_zone(item, around) for item in value]
        return [requested(self.keys, item) for item in inside if matches(self.keys, item)]


def _in_zone(item: Attributes, around: Attributes) -> Attributes:
    """The item, with the time zone of its data set."""
    if TIMEZONE in item or TIMEZONE not in around:
        return item
    return {**item, TIMEZONE: around[TIMEZONE]}


def is_universal(key: Key) -> bool:
    """Whether the key matches every entity."""
    return isinstance(key, Universal) or (isinstance(key, SequenceKey) and key.universal)


def matches(keys: Mapping[int, Key], attributes: Attributes) -> bool:
    """Whether an entity matches all keys."""
    return all(key.matches(attributes.get(tag), attributes) for tag, key in keys.items())


def requested(keys: Mapping[int, Key], attributes: Attributes) -> Attributes:
    """What of an entity is returned: the attributes of the keys, "" where it has no value.

    Of a sequence the items that match (PS3.4 C.2.2.2.6); of other attributes all values.
    """
    returned: Attributes = {}
    for tag, key in keys.items():
        value = attributes.get(tag, "")
        inner = key.key if isinstance(key, OrUnknown) else key
        returned[tag] = (
            inner.items(value, attributes) or "" if isinstance(inner, SequenceKey) else value
        )
    return returned
