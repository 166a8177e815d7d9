"""From the identifier of a query to its keys (PS3.4 C.2.2.2, C.4.1.1.3, K.4.1.1.3)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.datadict import dictionary_VM, keyword_for_tag

from dimse.archive.key_text import (
    DEFAULT_ENCODINGS,
    UnreadableError,
    encodings_of,
    item_of,
    text_of,
    vr_of,
    vrs_of,
)
from dimse.archive.matching import (
    ONE_TEXT,
    TIMEZONE,
    Adjusted,
    AnyValue,
    DateTimeRange,
    EmptyValue,
    FuzzyName,
    Key,
    MultipleValues,
    OrUnknown,
    PersonName,
    Range,
    SequenceKey,
    SingleValue,
    UIDList,
    Universal,
    WildCard,
    is_universal,
    normal,
)
from dimse.archive.names import name_groups, words
from dimse.archive.times import normal_moment, related, split_moments
from dimse.errors import StatusError
from dimse.message.status import IDENTIFIER_MISMATCH

# Specific Character Set, Query/Retrieve Level and View, Data Set Trailing Padding say how to read
# or answer the query, and ask for nothing.
_NOT_MATCHED = frozenset((0x00080005, 0x00080052, 0x00080053, 0xFFFCFFFC))
_WILD = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
_EMPTY = _WILD | {"DA", "DT", "TM"}
_MULTIPLE = frozenset(("AE", "AS", "AT", "CS", "LO", "PN", "SH", "UC"))
_TIMES = frozenset(("DA", "DT", "TM"))

MOST_UIDS = 10_000  # 0.65 MiB of them, within Limits.identifier_length
MOST_VALUES = 100  # of another VR: each is tried on every entity
MOST_IN_ALL = 2_000  # of all VRs but UI: their patterns take 0.1 s
LONGEST = 64 * 1024  # of a key but a list of UIDs; the longest texts in an index are shorter
LONGEST_PATTERN = 256  # runs of * counted as one; a PN of three groups has 194 characters at most
DEEPEST = 64  # sequences in sequences


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What applies to a query, by its service and by extended negotiation (PS3.4 C.5.1.1, K.5.1).

    `fuzzy`, `combined` (date with time), `empty_value` and `multiple_value` are negotiated, and so
    is timezone query adjustment: `timezone` is then the offset of the identifier in minutes, else
    None. `default_timezone` is that of entities that tell none. `unknown_matches` are the
    attributes whose unknown values match every key: the required keys of a Query/Retrieve model
    (C.2.2.1.2). With `worklist` no unknown value matches (K.2.2.1.1.1), and date and time are
    always combined.
    """

    fuzzy: bool = False
    combined: bool = False
    timezone: int | None = None
    empty_value: bool = False
    multiple_value: bool = False
    worklist: bool = False
    default_timezone: int = 0
    unknown_matches: frozenset[int] = frozenset()


_PLAIN = Rules()


def keys_of(identifier: Dataset, rules: Rules = _PLAIN) -> dict[int, Key]:
    """The keys of an identifier, by tag.

    Without those that are not matched: Specific Character Set, Query/Retrieve Level and View,
    Timezone Offset From UTC when it was negotiated, private attributes and unknown ones. Raises
    `StatusError` A900H, with the tag, for what cannot be a key; its text holds no value.
    """
    return _keys(identifier, rules, DEFAULT_ENCODINGS, 0, [MOST_IN_ALL])


def key_for(tag: int, text: str) -> Key:
    """The key that `text` is for an attribute, as in an identifier; raises `ValueError`."""
    try:
        return _key(tag, vrs_of(tag)[0], text, _PLAIN)
    except UnreadableError as error:
        raise ValueError(str(error)) from None


def _mismatch(tag: int, why: str) -> StatusError:
    name = keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    return StatusError(IDENTIFIER_MISMATCH, f"{name}: {why}", (tag,))


def _keys(
    dataset: Dataset, rules: Rules, inherited: Sequence[str], depth: int, left: list[int]
) -> dict[int, Key]:
    """`left` holds how many values may still come, in all of the identifier."""
    try:
        encodings = encodings_of(dataset, inherited)
    except UnreadableError as error:
        raise _mismatch(0x00080005, str(error)) from None
    keys: dict[int, Key] = {}
    for tag in sorted(map(int, dataset.keys())):
        if tag in _NOT_MATCHED or not vrs_of(tag):
            continue
        if tag == TIMEZONE and rules.timezone is not None:
            continue
        try:
            vr = vr_of(dataset, tag)
            if vr != "SQ":
                longest = MOST_UIDS * 65 if vr == "UI" else LONGEST
                text = text_of(dataset, tag, vr, encodings, longest)
                left[0] -= 1 if vr == "UI" else 1 + text.count("\\")
                if left[0] < 0:
                    raise UnreadableError("too many values in this identifier")
                keys[tag] = _key(tag, vr, text, rules)
                continue
            item = item_of(dataset, tag)
        except UnreadableError as error:
            raise _mismatch(tag, str(error)) from None
        if item is not None and depth == DEEPEST:
            raise _mismatch(tag, "sequences too deep")
        inside = _keys(item, rules, encodings, depth + 1, left) if item is not None else {}
        keys[tag] = SequenceKey(inside) if inside else Universal()
    return _together(keys, rules)


def _key(tag: int, vr: str, text: str, rules: Rules) -> Key:
    if rules.empty_value and vr in _EMPTY and text == '""':
        return EmptyValue()
    values = [text] if vr in ONE_TEXT else text.split("\\")
    values = [value for value in values if value]
    # Nobody means an asterisk, of whatever VR: no UID, date or number has one.
    if not "".join(values).strip("*"):
        return Universal()
    if vr == "UI":
        return _uids(values)
    if len(values) > MOST_VALUES:
        raise UnreadableError("too many values")
    if len(values) == 1:
        return _one(vr, values[0], rules)
    if rules.multiple_value and vr in _MULTIPLE and dictionary_VM(tag) != "1":
        if vr in _WILD and any(_is_wild(value) for value in values):
            raise UnreadableError("wild card in a list (PS3.4 C.2.2.2.8)")
        return MultipleValues(tuple(_one(vr, value, rules) for value in values))
    keys = tuple(_one(vr, value, rules) for value in values)
    return Universal() if Universal() in keys else AnyValue(keys)


def _uids(values: Sequence[str]) -> Key:
    if len(values) > MOST_UIDS:
        raise UnreadableError("too many UIDs")
    if any(len(value) > 64 for value in values):
        raise UnreadableError("UID of more than 64 characters (PS3.5 9.1)")
    return SingleValue(values[0], "UI") if len(values) == 1 else UIDList(frozenset(values))


def _is_wild(text: str) -> bool:
    return "*" in text or "?" in text


def _one(vr: str, text: str, rules: Rules) -> Key:
    """The key of one value, which is not empty."""
    if vr in _TIMES:
        return _of_time(vr, text, rules)
    if vr == "PN":
        return _name(text, rules)
    if vr in _WILD and _is_wild(text):
        return WildCard(_pattern(text), vr)
    text = normal(vr, text)
    if not text:
        raise UnreadableError("no number (PS3.4 C.2.2.2.1)")
    return SingleValue(text, vr)


def _pattern(text: str) -> str:
    """With runs of * as one; raises `UnreadableError` for what would be long to try."""
    pattern = re.sub(r"\*+", "*", text)
    if len(pattern) > LONGEST_PATTERN:
        raise UnreadableError("too long")
    return pattern


def _name(text: str, rules: Rules) -> Key:
    text = _pattern(text)
    groups = tuple(group for each in name_groups(text) for group in each if group.strip("*"))
    if not groups:
        return Universal()
    name = PersonName(groups)
    return FuzzyName(name, words(text)) if rules.fuzzy else name


def _of_time(vr: str, text: str, rules: Rules) -> Key:
    """The key of a DA, TM or DT; a hyphen makes it a range, but that of an offset from UTC."""
    text = text.replace(" ", "")
    if "-" not in text:
        low, high = text, text
    elif vr == "DT":
        low, high = split_moments(text) or ("", "")
    else:
        low, high, *more = text.split("-")
        if more:
            low = high = ""
    zone = rules.default_timezone if rules.timezone is None else rules.timezone
    first, last = normal(vr, low, zone), normal(vr, high, zone)
    if bool(low) != bool(first) or bool(high) != bool(last) or not (low or high):
        raise UnreadableError(f"no {vr} or range (PS3.4 C.2.2.2.5)")
    # What an entity says of its time zone counts once the key speaks of one.
    own_zone = rules.timezone is not None or "-" in low + high or "+" in low + high
    if "-" not in text:
        return SingleValue(first, vr, rules.default_timezone, own_zone)
    if vr == "DT" and high:
        last = normal_moment(high, zone, last=True)
    return Range(first, last, vr, rules.default_timezone, own_zone)


def _together(keys: dict[int, Key], rules: Rules) -> dict[int, Key]:
    """With what date and time are to each other, and what is unknown to the rules."""
    unknown = frozenset[int]() if rules.worklist else rules.unknown_matches
    if rules.combined or rules.worklist:
        for tag in list(keys):
            _combine(keys, tag, rules, unknown)
    return {tag: _in_context(tag, key, rules, unknown) for tag, key in keys.items()}


def _in_context(tag: int, key: Key, rules: Rules, unknown: frozenset[int]) -> Key:
    """The key with what the rules make of time zones and unknown values."""
    if is_universal(key) or isinstance(key, EmptyValue | DateTimeRange):
        return key
    other = related(tag)
    if rules.timezone is not None and other is not None:
        of_time = vrs_of(tag) == ("TM",)
        date_tag, time_tag = (other, tag) if of_time else (tag, other)
        key = Adjusted(key, date_tag, time_tag, of_time, rules.timezone, rules.default_timezone)
    return OrUnknown(key) if tag in unknown else key


def _combine(keys: dict[int, Key], date_tag: int, rules: Rules, unknown: frozenset[int]) -> None:
    """One key for a date and its time, when both are ranges of the same form (C.2.2.2.5.4)."""
    time_tag = related(date_tag)
    date, time = keys[date_tag], keys.get(time_tag or 0)
    if time_tag is None or vrs_of(date_tag) != ("DA",):
        return
    if not isinstance(date, Range) or not isinstance(time, Range):
        return
    if bool(date.low) != bool(time.low) or bool(date.high) != bool(time.high):
        return
    keys[date_tag] = DateTimeRange(
        low=date.low + time.low,
        high=date.high + time.high,
        date_tag=date_tag,
        time_tag=time_tag,
        zone=rules.timezone,
        default_zone=rules.default_timezone,
        unknown_date=date_tag in unknown,
        unknown_time=time_tag in unknown,
    )
    keys[time_tag] = Universal()
