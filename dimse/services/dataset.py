"""Data sets of messages to and from pydicom: identifiers, attribute lists and the like (PS3.5)."""

import zlib
from io import BytesIO

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from dimse.errors import DimseError, MisuseError
from dimse.services.structure import check_structure

# A deflated data set may unfold to so much: what Limits.dataset_length allows one that is not.
_LONGEST = 32 * 1024 * 1024


def encode(dataset: Dataset, transfer_syntax: str) -> bytes:
    """The data set in a transfer syntax that is not one of compressed pixels.

    Raises `MisuseError` for what cannot be encoded; the text names no value.
    """
    syntax = UID(transfer_syntax)
    output = DicomBytesIO()
    try:
        output.is_implicit_VR = syntax.is_implicit_VR
        output.is_little_endian = syntax.is_little_endian
        write_dataset(output, dataset)
    except Exception as error:  # whatever pydicom says of it; the text may hold values
        raise MisuseError("this Dataset cannot be encoded (see the cause)") from error
    encoded = output.getvalue()
    if syntax.is_deflated:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        encoded = deflate.compress(encoded) + deflate.flush()
    return encoded


def decode(data: bytes, transfer_syntax: str, longest: int = _LONGEST) -> Dataset:
    """The data set in `data`; raises `DimseError` for what is none, and names no value.

    A deflated one may unfold to `longest` bytes. Nothing of it is guessed: it has to be in its
    transfer syntax, whole, and not nested deeper, or of more elements, than anybody needs.
    """
    syntax = UID(transfer_syntax)
    try:
        if syntax.is_deflated:
            data = _inflated(data, longest)
        implicit, little_endian = syntax.is_implicit_VR, syntax.is_little_endian
        check_structure(data, implicit=implicit, little_endian=little_endian)
        return read_dataset(BytesIO(data), implicit, little_endian, bytelength=len(data))
    except Exception as error:  # whatever pydicom says of it; the text may hold values
        raise DimseError(f"this is no data set in {syntax.name} (PS3.5 7)") from error


def _inflated(data: bytes, longest: int) -> bytes:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflate.decompress(data, longest)
    if not inflate.eof or inflate.unused_data not in (b"", b"\0"):  # padded to even length
        raise ValueError(f"not one whole stream of at most {longest} bytes (PS3.5 A.5)")
    return inflated
