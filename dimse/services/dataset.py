"""Data sets of messages to and from pydicom: identifiers, attribute lists and the like (PS3.5)."""

import re
import zlib
from collections.abc import Sequence
from io import BytesIO

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings, decode_bytes, default_encoding, encode_string
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR, VR, PersonName

from dimse.errors import DataSetError, DimseError, MisuseError
from dimse.services.structure import check_structure

# A deflated data set may unfold to so much: what Limits.dataset_length allows one that is not.
_LONGEST = 32 * 1024 * 1024

_DELIMITERS = re.compile(r"[\\^=\t\n\f\r]")  # behind each the character set begins anew (6.1.2.5.3)


def encode(dataset: Dataset, transfer_syntax: str) -> bytes:
    """The data set in a transfer syntax that is not one of compressed pixels.

    Raises `MisuseError` for what cannot be encoded; the text names no value.
    """
    syntax = UID(transfer_syntax)
    try:
        check_text(dataset)
        encoded = _written(dataset, syntax)
    except MisuseError:
        raise
    except Exception:  # noqa: BLE001  whatever pydicom says of it; the text may hold values
        raise MisuseError(f"{culprit(dataset)} cannot be encoded (PS3.5 6.2)") from None
    if syntax.is_deflated:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        encoded = deflate.compress(encoded) + deflate.flush()
    return encoded


def _written(dataset: Dataset, syntax: UID) -> bytes:
    output = DicomBytesIO()
    output.is_implicit_VR = syntax.is_implicit_VR
    output.is_little_endian = syntax.is_little_endian
    write_dataset(output, dataset)
    return output.getvalue()


def culprit(dataset: Dataset) -> str:
    """Tag and VR of the first element that cannot be encoded, or "the Dataset"."""
    for tag in getattr(dataset, "keys", tuple)():  # nothing of what is no Dataset
        try:
            alone = Dataset()
            alone[tag] = dataset[tag]
            _written(alone, ExplicitVRLittleEndian)
        except Exception:  # noqa: BLE001  what it says may hold the value
            return f"{tag} {getattr(dataset.get_item(tag), 'VR', '')}".rstrip()
    return "the Dataset"


def check_text(dataset: Dataset) -> None:
    """Raise `MisuseError` for text that its Specific Character Set does not have (PS3.5 6.1).

    pydicom would put `?` in its place, which in an Identifier matches any character.
    """
    _check_text(dataset, [default_encoding])


def _check_text(dataset: Dataset, encodings: Sequence[str]) -> None:
    if "SpecificCharacterSet" in dataset:  # else that of the data set around it
        encodings = convert_encodings(dataset.SpecificCharacterSet)
    as_read = dataset.original_character_set in (encodings, *encodings[:1])
    for tag in dataset.keys():  # noqa: SIM118  a Dataset iterates over its elements, decoded
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement):
            if as_read:
                continue  # goes out as it came
            element = dataset[tag]
        assert isinstance(element, DataElement)
        if element.VR == VR.SQ:
            for item in element.value:
                _check_text(item, encodings)
        elif not all(_has(encodings, element.VR, text) for text in _texts(element)):
            raise MisuseError(
                f"{tag} {element.VR} has text that Specific Character Set (0008,0005) does not "
                "declare (PS3.5 6.1)"
            )


def _texts(element: DataElement) -> list[str]:
    """Its values as far as they are text that is not all ASCII."""
    value = element.value
    values = value if isinstance(value, MultiValue | list) else [value]
    texts = [str(each) for each in values if isinstance(each, str | PersonName)]
    return [text for text in texts if not text.isascii()]


def _has(encodings: Sequence[str], vr: str, text: str) -> bool:
    """Whether the text survives being written and read; pydicom's default is Latin-1, that of
    DICOM is ASCII, and so are all other VRs."""
    if vr not in CUSTOMIZABLE_CHARSET_VR:
        return False
    try:
        return all(
            not (default_encoding in encodings and _is_latin_1(part))
            and decode_bytes(encode_string(part, encodings), encodings, set()) == part
            for part in _DELIMITERS.split(text)
            if not part.isascii()
        )
    except (UnicodeError, LookupError, UserWarning):  # a warning, where those are errors
        return False


def _is_latin_1(text: str) -> bool:
    try:
        return bool(text.encode("latin-1"))
    except UnicodeEncodeError:
        return False


def decode(data: bytes, transfer_syntax: str, longest: int = _LONGEST) -> Dataset:
    """The data set in `data`; raises `DataSetError` for what is none, and names no value.

    A deflated one may unfold to `longest` bytes. Nothing of it is guessed: it has to be in its
    transfer syntax, whole, and not nested deeper, or of more elements, than anybody needs.
    """
    syntax = UID(transfer_syntax)
    implicit, little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    what = f"this is no data set in {syntax.name} (PS3.5 7)"
    try:
        if syntax.is_deflated:
            data = inflated(data, longest)
        check_structure(data, implicit=implicit, little_endian=little_endian)
    except (ValueError, zlib.error) as error:
        raise DataSetError(f"{error}: {what}") from error
    try:
        return read_dataset(BytesIO(data), implicit, little_endian, bytelength=len(data))
    except Exception:  # noqa: BLE001  whatever pydicom says of it; the text may hold values
        raise DataSetError(what) from None


def uids_of(dataset: Dataset, keyword: str) -> list[str]:
    """The UIDs of an element, none if it is absent or empty.

    Above 64 KiB explicit VR has no UI, so they come as UN (PS3.5 6.2.2). Raises `DimseError` for an
    element that has no text.
    """
    try:
        value = dataset.get(keyword) or []
    except Exception:  # noqa: BLE001  whatever pydicom says of it; the text may hold the value
        value = None
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace").rstrip("\0 ").split("\\")
    values = value if isinstance(value, MultiValue | list) else [value]
    if not all(isinstance(each, str) for each in values):
        raise DimseError(f"{keyword} cannot be read (PS3.5 6.2)")
    return [str(each) for each in values]


def inflated(data: bytes, longest: int) -> bytes:
    """What was deflated; raises `ValueError` or `zlib.error` for what is not (PS3.5 A.5)."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    unfolded = inflate.decompress(data, longest)
    # Padded to even length; old writers leave the trailer of gzip behind it (RFC 1952 2.3).
    trailer = zlib.crc32(unfolded).to_bytes(4, "little") + len(unfolded).to_bytes(4, "little")
    if not inflate.eof or inflate.unused_data.removeprefix(trailer) not in (b"", b"\0"):
        raise ValueError(f"not one whole stream of at most {longest} bytes (PS3.5 A.5)")
    return unfolded
