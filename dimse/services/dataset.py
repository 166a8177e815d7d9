"""Data sets of messages to and from pydicom: identifiers, attribute lists and the like (PS3.5)."""

import zlib
from io import BytesIO

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from dimse.errors import DimseError, MisuseError

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


def decode(data: bytes, transfer_syntax: str) -> Dataset:
    """The data set in `data`; raises `DimseError` for what is none, and names no value."""
    syntax = UID(transfer_syntax)
    try:
        if syntax.is_deflated:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            data = inflate.decompress(data, _LONGEST)
            if inflate.unconsumed_tail:
                raise ValueError("it unfolds to more than 32 MiB")
        stream = BytesIO(data)
        dataset = read_dataset(
            stream, syntax.is_implicit_VR, syntax.is_little_endian, bytelength=len(data)
        )
        if stream.tell() != len(data) or (data and not dataset):
            raise ValueError("stray bytes")
    except Exception as error:  # whatever pydicom says of it; the text may hold values
        raise DimseError(f"this is no data set in {syntax.name} (PS3.5 7)") from error
    return dataset
