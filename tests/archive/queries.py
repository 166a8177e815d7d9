"""Identifiers as they arrive, and the keys that are made of them."""

import struct
from io import BytesIO
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dimse.archive.attributes import Attributes, Value
from dimse.archive.identifier import Rules, keys_of
from dimse.archive.matching import matches
from dimse.errors import StatusError

LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}


def element(tag: int, vr: str, value: bytes) -> bytes:
    """One element in Explicit VR Little Endian."""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    value += b"\0" * (len(value) % 2) if vr in {"UI", "OB", "UN"} else b" " * (len(value) % 2)
    if vr in LONG:
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def item(data: bytes) -> bytes:
    """One item of a sequence."""
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(data)) + data


def received(*elements: bytes) -> Dataset:
    """The identifier that these elements are."""
    return read(b"".join(elements))


def read(data: bytes, transfer_syntax: str = ExplicitVRLittleEndian) -> Dataset:
    """As pydicom reads it: `dimse.services.dataset.decode` refuses some of it before."""
    syntax = UID(transfer_syntax)
    return read_dataset(BytesIO(data), syntax.is_implicit_VR, syntax.is_little_endian, len(data))


def asks(tag: int, vr: str, key: str, entity: Value | None, **rules: Any) -> bool:
    """Whether an entity with this value matches a key of one attribute."""
    keys = keys_of(received(element(tag, vr, key.encode())), Rules(**rules))
    return matches(keys, {} if entity is None else {tag: entity})


def query(keys: dict[tuple[int, str], str], entity: Attributes, **rules: Any) -> bool:
    """Whether an entity matches several keys, by tag and VR."""
    sent = received(*(element(tag, vr, key.encode()) for (tag, vr), key in keys.items()))
    return matches(keys_of(sent, Rules(**rules)), entity)


def refusal(tag: int, vr: str, key: bytes, **rules: Any) -> StatusError:
    """Why this is no key."""
    sent = received(element(tag, vr, key))
    with pytest.raises(StatusError) as refused:
        keys_of(sent, Rules(**rules))
    assert (refused.value.status, refused.value.offending) == (0xA900, (tag,))
    return refused.value
