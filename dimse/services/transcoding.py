"""Instances in another transfer syntax, for peers that do not take theirs (PS3.5 10, Annex A)."""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from typing import Any, TypeVar

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import decompress
from pydicom.uid import UID, ExplicitVRBigEndian
from pydicom.valuerep import VR
from twisted.internet.defer import DeferredSemaphore

from dimse import threads
from dimse.errors import DimseError, NotAnInstanceError
from dimse.limits import MIB
from dimse.services.dataset import encode, inflated
from dimse.services.instance import Instance
from dimse.services.structure import check_structure

LONGEST = 512 * MIB
"""Bytes of a data set that is converted, as it comes, inflated, and with its pixels decoded."""

MOST = 2_000_000  # items and elements; an image of 5,000 frames has 500,000

_AT_ONCE = DeferredSemaphore(2)  # in the process: memory, and threads that others need too

_PIXEL_DATA = 0x7FE00010
_OF_FRAGMENTS = (0x7FE00001, 0x7FE00002, 0x7FE00003)  # only beside encapsulated ones (PS3.5 A.4)

# What has a byte order in its values, by the size of one.
_WORDS: dict[str | None, str] = {VR.OW: "H", VR.OF: "I", VR.OL: "I", VR.OD: "Q", VR.OV: "Q"}

_T = TypeVar("_T")


async def in_thread(step: Callable[[], _T], reactor: Any) -> _T:
    """Do what takes long in a thread of the reactor, two at a time in the process."""
    return await threads.in_thread(_AT_ONCE, step, reactor)


async def transcoded(instance: Instance, transfer_syntax: str, reactor: Any) -> Instance:
    """As `transcode`, in a thread."""
    return await in_thread(partial(transcode, instance, transfer_syntax), reactor)


def transcode(instance: Instance, transfer_syntax: str) -> Instance:
    """The same instance in one of its `conversions`, its data set whole in memory.

    What is compressed is decoded by pydicom, which sets what describes the pixels (Photometric
    Interpretation, Planar Configuration, Number of Frames) as they are then. It stays the same
    instance, under its SOP Instance UID: pixels changed when they were compressed, and got their
    UID then. For the same reason Lossy Image Compression stays as it is (PS3.3 C.7.6.1.1.5). Of
    big endian the words of OW, OF, OL, OD and OV are swapped; what is in UN cannot be, and pixels
    of more than 16 bits are refused, for writers differ in whether OW has 16 bits then too.

    While it is at work that takes up to five times `LONGEST` bytes, afterwards the length of the
    new data set. What decoders take for a codestream that is not as Rows and Columns say is
    theirs.

    Raises `NotAnInstanceError` for what is no data set, and `DimseError` for what is longer or
    cannot be decoded; the text says which extra is missing, and names no value.
    """
    if transfer_syntax not in instance.conversions:
        raise DimseError(f"nothing converts {UID(instance.transfer_syntax).name}")
    dataset = read(instance)
    try:
        if UID(instance.transfer_syntax).is_compressed:
            _decode_pixels(dataset, instance.transfer_syntax)
        elif instance.transfer_syntax == ExplicitVRBigEndian:
            _swap(dataset)
        data = encode(dataset, transfer_syntax)
    except DimseError:
        raise
    except Exception as error:  # noqa: BLE001  whatever pydicom says of it; the text may hold values
        raise DimseError(f"pydicom cannot convert it ({type(error).__name__})") from None
    return held(instance, transfer_syntax, data)


def held(instance: Instance, transfer_syntax: str, data: bytes) -> Instance:
    """The instance with another data set, in memory."""
    return replace(
        instance, transfer_syntax=transfer_syntax, data=data, path=None, offset=0, length=0
    )


def read(instance: Instance) -> Dataset:
    """Its data set, whole in memory; raises `NotAnInstanceError` for none, `DimseError` for more
    than `LONGEST` bytes."""
    syntax = UID(instance.transfer_syntax)
    if syntax.type != "Transfer Syntax":
        raise DimseError(f"nobody knows the transfer syntax {syntax}")
    length = instance.length if instance.data is None else len(instance.data)
    if length > LONGEST:
        raise DimseError(f"its data set is longer than {LONGEST} bytes")
    implicit, little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    try:
        with instance.open() as source:
            data = source.read(length)
        if syntax.is_deflated:
            data = inflated(data, LONGEST)
        check_structure(
            data,
            implicit=implicit,
            little_endian=little_endian,
            most=MOST,
            encapsulated=syntax.is_compressed,
            any_vr=True,  # most elements go on as they came
        )
        return read_dataset(BytesIO(data), implicit, little_endian, bytelength=len(data))
    except DimseError:
        raise
    except OSError as error:
        raise DimseError(f"{instance.path}: {error.strerror}") from error
    except Exception:  # noqa: BLE001  whatever pydicom says of it; the text may hold values
        name = instance.path or "instance"
        raise NotAnInstanceError(f"{name}: no data set in {syntax.name} (PS3.5 7)") from None


def _with_items(dataset: Dataset) -> Iterator[Dataset]:
    """The data set and the items of its sequences at every depth."""
    yield dataset
    for tag in list(dataset.keys()):
        # What is UN to its sender pydicom may know for a sequence (PS3.5 6.2.2).
        if dataset.get_item(tag).VR in (VR.SQ, VR.UN) and dataset[tag].VR == VR.SQ:
            for item in dataset[tag].value:
                yield from _with_items(item)


def encapsulated(dataset: Dataset) -> list[Dataset]:
    """Itself and what is in it, icons that is, as far as their pixel data is in fragments."""
    return [
        each
        for each in _with_items(dataset)
        if _PIXEL_DATA in each and each[_PIXEL_DATA].is_undefined_length
    ]


def _decode_pixels(dataset: Dataset, transfer_syntax: str) -> None:
    """Decode what is encapsulated (PS3.5 A.4)."""
    left = LONGEST
    for tag in _OF_FRAGMENTS:
        dataset.pop(tag, None)
    for each in encapsulated(dataset):
        _check_decoder(transfer_syntax)
        left -= _decoded_length(each)
        if left < 0:
            raise DimseError(f"its pixel data has more than {LONGEST} bytes when it is decoded")
        each.file_meta = FileMetaDataset()
        each.file_meta.TransferSyntaxUID = UID(transfer_syntax)
        try:
            decompress(each, generate_instance_uid=False)
        except Exception as error:  # noqa: BLE001  whatever a decoder says of it
            kind = type(error).__name__
            raise DimseError(f"its pixel data cannot be decoded ({kind}; PS3.5 8.2)") from None


def _decoded_length(image: Dataset) -> int:
    bits = image.BitsAllocated * image.SamplesPerPixel * image.Rows * image.Columns
    return int(bits * int(image.get("NumberOfFrames") or 1)) // 8


def _check_decoder(transfer_syntax: str) -> None:
    decoder = get_decoder(UID(transfer_syntax))
    if not decoder.is_available or find_spec("numpy") is None:
        name = UID(transfer_syntax).name
        raise DimseError(f"decoding {name} needs dimse[transcode], which is not installed")


def _swap(dataset: Dataset) -> None:
    """Turn words from big endian to little endian, which pydicom leaves as they are."""
    for each in _with_items(dataset):
        if _PIXEL_DATA in each and each.get("BitsAllocated", 0) > 16:
            raise DimseError("pixels of more than 16 bits in big endian: writers differ in how")
        for tag in list(each.keys()):
            element = each.get_item(tag)
            if element.VR in _WORDS and element.value:
                words = array(_WORDS[element.VR], element.value)
                words.byteswap()
                each[tag].value = words.tobytes()
