"""Attributes that a data set of DIMSE-N must have, as a table of PS3.4 says (PS3.4 5.4)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from warnings import catch_warnings

from pydicom import DataElement, Dataset, Sequence
from pydicom.datadict import dictionary_VR, tag_for_keyword

from dimse.errors import StatusError
from dimse.message.status import (
    INVALID_ATTRIBUTE_VALUE,
    MISSING_ATTRIBUTE,
    MISSING_ATTRIBUTE_VALUE,
    NO_SUCH_ATTRIBUTE,
)


@dataclass(frozen=True, slots=True)
class Attribute:
    """A row of such a table.

    `n_create` and `n_set` are the types of usage of SCU and SCP ("1", "3/2", "1C/1C"), one for both
    when they are the same, and "" when the attribute is not allowed. `final` is the type that it
    has when the instance reaches its final state, "" for none. A type 1C asks for it where one of
    the attributes `given` has a value, and where none of those in `unless` has one; without
    either, its condition cannot be seen. `items` are the attributes of an item.
    """

    n_create: str
    n_set: str = ""
    final: str = ""
    items: Mapping[str, "Attribute"] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()

    def is_needed(self, dataset: Dataset) -> bool:
        """Whether the condition of a type 1C holds."""
        if self.unless:
            return not any(_has_value(dataset, keyword) for keyword in self.unless)
        return any(_has_value(dataset, keyword) for keyword in self.given)


Attributes = Mapping[str, Attribute]
"""A table, by keyword."""


class Rule(NamedTuple):
    """What is looked at in a row, and the status of what is wrong with it."""

    usage: Callable[[Attribute], str]
    missing: int
    is_strict: bool = True  # whether what is not in this usage is not allowed


N_CREATE = Rule(lambda attribute: attribute.n_create, MISSING_ATTRIBUTE)
N_SET = Rule(lambda attribute: attribute.n_set, MISSING_ATTRIBUTE_VALUE)  # PS3.7 10.1.3.1.8
FINAL = Rule(lambda attribute: attribute.final, MISSING_ATTRIBUTE_VALUE, is_strict=False)


class _Fault(NamedTuple):
    status: int
    what: str
    path: str
    tag: int


def check(dataset: Dataset, attributes: Attributes, rule: Rule) -> None:
    """Raise the `StatusError` that a data set earns; it names the attributes, and no value."""
    with catch_warnings(action="ignore"):  # pydicom's, which quote values
        faults = list(_faults(dataset, attributes, rule, ""))
    for status in (
        NO_SUCH_ATTRIBUTE,
        MISSING_ATTRIBUTE,
        MISSING_ATTRIBUTE_VALUE,
        INVALID_ATTRIBUTE_VALUE,
    ):
        mine = [fault for fault in faults if fault.status == status]
        if mine:
            names = ", ".join(fault.path for fault in mine)
            tags = tuple(dict.fromkeys(fault.tag for fault in mine))
            raise StatusError(status, f"{mine[0].what} {names}", tags)


def _faults(dataset: Dataset, attributes: Attributes, rule: Rule, path: str) -> Iterator[_Fault]:
    for keyword, attribute in attributes.items():
        usage = rule.usage(attribute)
        if not (usage or rule.is_strict):
            continue
        tag, name = _tag(keyword), path + keyword
        scu, _, scp = usage.partition("/")
        needed = scu == "1C" and attribute.is_needed(dataset)
        if tag not in dataset:
            if scu in ("1", "2") or needed:
                yield _Fault(rule.missing, "missing:", name, tag)
            continue
        if not usage:
            yield _Fault(NO_SUCH_ATTRIBUTE, "not allowed here:", name, tag)
            continue
        element = _element(dataset, tag)
        if element is None or (element.VR == "SQ") != (dictionary_VR(tag) == "SQ"):
            yield _Fault(INVALID_ATTRIBUTE_VALUE, "invalid:", name, tag)
        elif not element.is_empty:
            for number, item in enumerate(element.value if element.VR == "SQ" else ()):
                yield from _faults(item, attribute.items, rule, f"{name}[{number}].")
        elif "1" in (scu, scp) or needed:
            yield _Fault(MISSING_ATTRIBUTE_VALUE, "without value:", name, tag)


def _has_value(dataset: Dataset, keyword: str) -> bool:
    element = _element(dataset, _tag(keyword)) if keyword in dataset else None
    return element is not None and bool(element.value)


def _element(dataset: Dataset, tag: int) -> DataElement | None:
    """It, unless its value cannot be read."""
    try:
        return dataset[tag]
    except Exception:  # noqa: BLE001  whatever pydicom says of it; the text may hold the value
        return None


def add_empty(dataset: Dataset, attributes: Attributes) -> None:
    """Add what N-CREATE must have, and may have without value (type 2), where it is missing."""
    for keyword, attribute in attributes.items():
        tag = _tag(keyword)
        if tag in dataset:
            for item in dataset[tag].value or () if attribute.items else ():
                add_empty(item, attribute.items)
        elif attribute.n_create == "2":
            vr = dictionary_VR(tag)
            dataset[tag] = DataElement(tag, vr, Sequence() if vr == "SQ" else None)


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return tag
