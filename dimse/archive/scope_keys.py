"""The keys of a scope, as they are configured: no database, no Twisted."""

from collections.abc import Mapping, Sequence

from pydicom.datadict import tag_for_keyword

from dimse.archive.attributes import KEPT
from dimse.archive.identifier import key_for
from dimse.archive.matching import AnyValue, Key, is_universal


def scope_keys(scope: Mapping[str, Sequence[str]]) -> dict[int, Key]:
    """The keys, by tag, of values by keyword.

    Several values of one are alternatives; wild cards and ranges of dates are those of PS3.4
    C.2.2.2. Raises `ValueError` for what the archive does not keep, and for what would match
    everything.
    """
    return dict(_key(keyword, values) for keyword, values in scope.items())


def _key(keyword: str, values: Sequence[str]) -> tuple[int, Key]:
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in KEPT or KEPT[tag].vr == "SQ":
        raise ValueError(f"{keyword} is no attribute that can be a scope")
    if not values or any("\\" in value for value in values):
        raise ValueError(f"{keyword} needs values, without a backslash")
    keys = [key_for(tag, value) for value in values]
    if any(map(is_universal, keys)):
        raise ValueError(f"{keyword} has a value that matches everything")
    return tag, keys[0] if len(keys) == 1 else AnyValue(tuple(keys))
