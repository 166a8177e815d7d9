"""Data sets of messages: what cannot be encoded, what is none (PS3.5)."""

import zlib

import pytest
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dimse.errors import DimseError, MisuseError
from dimse.services.dataset import decode, encode
from tests.wire import EXPLICIT, IMPLICIT

DEFLATED = DeflatedExplicitVRLittleEndian


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED])
def test_there_and_back(syntax: str):
    dataset = Dataset()
    dataset.PatientID = "1"
    assert decode(encode(dataset, syntax), syntax) == dataset


def test_what_cannot_be_encoded():
    """The text of the error names no value."""
    with pytest.raises(MisuseError) as caught:
        encode("Doe^John", EXPLICIT)  # type: ignore[arg-type]
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize("junk", [b"\x10\0\x10\0LO", b"\xff" * 9])
def test_what_is_none(junk: bytes):
    with pytest.raises(DimseError, match="no data set"):
        decode(junk, EXPLICIT)


def test_one_that_unfolds_without_end():
    """A few kB must not become a GiB of memory."""
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    mebibyte = bytes(1024 * 1024)
    data = b"".join(deflate.compress(mebibyte) for _ in range(33)) + deflate.flush()
    assert len(data) < 100_000
    with pytest.raises(DimseError) as caught:
        decode(data, DEFLATED)
    assert "32 MiB" in str(caught.value.__cause__)
