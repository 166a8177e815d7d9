"""Composite instances to be sent: a file, a pydicom Dataset, or bytes with their identity."""

import os
from collections.abc import Callable
from contextlib import closing
from copy import copy
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from stat import S_ISREG
from struct import Struct
from typing import Any, Self

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from dimse.errors import DimseError, MisuseError, NotAnInstanceError
from dimse.security.audit import Study
from dimse.services.dataset import check_text, culprit
from dimse.uids import is_uid

PREAMBLE_LENGTH = 128
FILE_META_BEGIN = PREAMBLE_LENGTH + 4  # behind `DICM` (PS3.10 7.1)

# Enough for the file meta information of every writer known; private information may be longer.
_HEAD = 8 * 1024
_LONGEST_HEAD = 1024 * 1024

_SHORT_ELEMENT = Struct("<HH2sH")  # explicit VR little endian (PS3.5 7.1.2)
_LONG_ELEMENT = Struct("<HH2s2xI")
_LONG_VRS = (b"OB", b"OW", b"UN", b"UT", b"SQ", b"OF", b"OD", b"OL", b"OV", b"UC", b"UR")

UNCOMPRESSED = tuple(
    map(str, (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian))
)
"""What may be converted to, the best first: deflating takes time and peers do not expect it."""

# What may be converted besides; for videos and part 2 of JPEG 2000 pydicom has no decoders.
_DECODABLE = frozenset(
    (
        ExplicitVRBigEndian,
        RLELossless,
        *JPEGTransferSyntaxes,
        *JPEGLSTransferSyntaxes,
        *(JPEG2000Lossless, JPEG2000),
        *(HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K),
    )
)

_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x0002, 0x0003, 0x0010  # in group 0002


class Source:
    """A stretch of a file, or bytes, as `dimse.sending.Source`; `progress(count)` hears of reads.

    A data set of odd length gets a zero byte behind it, for a message has an even length
    (PS3.8 E.1, PS3.5 A.5).
    """

    def __init__(self, file: Any, length: int, progress: Callable[[int], None] | None) -> None:
        self.length = length + length % 2
        self._file = file
        self._odd = length % 2
        self._left = length
        self._progress = progress

    def read(self, count: int) -> bytes:
        """The next `count` bytes, fewer if the file has become shorter."""
        data: bytes = self._file.read(min(count, self._left))
        self._left -= len(data)
        if self._progress is not None:
            self._progress(len(data))
        if self._odd and not self._left and len(data) == count - 1:
            return data + b"\0"
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class Instance:
    """A composite SOP instance: who it is, and its encoded data set.

    `data` holds the data set, without preamble and file meta information, in
    `transfer_syntax`; for a file it is None and `path`, `offset` and `length` (bytes) say where
    the data set is. It ends with the file: one of another size has changed, and is not sent.
    Where another instance may take the place of the file, `is_same(head)` says by what precedes
    the data set whether it is still this one. `study` is whose it is, for an audit trail.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    data: bytes | None = None
    path: Path | None = None
    offset: int = 0
    length: int = 0
    is_same: Callable[[bytes], bool] | None = field(default=None, compare=False, repr=False)
    study: Study | None = field(default=None, compare=False, repr=False)  # it names the patient

    @classmethod
    def of(cls, source: "str | os.PathLike[str] | Dataset | Instance") -> "Instance":
        """From a path, a Dataset, or an instance itself; raises `NotAnInstanceError`."""
        if isinstance(source, Instance):
            return source
        if isinstance(source, Dataset):
            return cls.from_dataset(source)
        return cls.from_file(source)

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> Self:
        """Encode a Dataset, in the transfer syntax of its file meta information if it has one,
        else in that it was read in, else explicit VR little endian.

        Raises `NotAnInstanceError`; its text names no value."""
        try:
            check_text(dataset)
            whole = copy(dataset)
            whole.file_meta = copy(getattr(dataset, "file_meta", None) or FileMetaDataset())
            if "TransferSyntaxUID" not in whole.file_meta:
                whole.file_meta.TransferSyntaxUID = _original_syntax(dataset)
            encoded = BytesIO()
            dcmwrite(encoded, whole, enforce_file_format=True)
        except MisuseError as error:
            raise NotAnInstanceError(str(error)) from None
        except Exception:  # noqa: BLE001  whatever pydicom says of it; the text may hold values
            raise NotAnInstanceError(f"{culprit(dataset)} cannot be encoded (PS3.5 6.2)") from None
        meta, offset = _read_meta(encoded.getvalue(), encoded.read)
        identity = (meta[_SOP_CLASS], meta[_SOP_INSTANCE], meta[_TRANSFER_SYNTAX])
        return cls(*identity, data=encoded.getvalue()[offset:])._checked()

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """From a DICOM file (PS3.10); only its file meta information is read.

        A file without it, as old software writes them, is read by pydicom for what it is.
        """
        try:
            status = os.stat(path)
            if not S_ISREG(status.st_mode):  # opening a FIFO would wait for its writer
                raise NotAnInstanceError(f"{os.fspath(path)}: not a regular file")
            length = status.st_size
            with open(path, "rb") as file:
                meta, offset = _read_meta(file.read(_HEAD), file.read)
        except OSError as error:
            raise DimseError(f"{os.fspath(path)}: {error.strerror}") from error
        if offset > length:
            raise NotAnInstanceError(f"{os.fspath(path)}: ends inside its file meta information")
        identity = [meta.get(tag, "") for tag in (_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX)]
        if not all(identity):
            identity = _guess(path, identity)
        sop_class, sop_instance, syntax = identity
        return cls(
            sop_class,
            sop_instance,
            syntax,
            path=Path(path),
            offset=offset,
            length=length - offset,
        )._checked()

    def open(self, progress: Callable[[int], None] | None = None) -> "closing[Source]":
        """The data set as a `Source`, in a context manager that closes it."""
        if self.data is not None:
            return closing(Source(BytesIO(self.data), len(self.data), progress))
        assert self.path is not None
        try:
            file = open(self.path, "rb", buffering=0)  # noqa: SIM115  closed by the Source
            try:
                self._check(file)
            except BaseException:
                file.close()
                raise
        except OSError as error:
            raise DimseError(f"{self.path}: {error.strerror}") from error
        return closing(Source(file, self.length, progress))

    def _check(self, file: Any) -> None:
        """Whether a file is still it; the data set comes next then."""
        is_other = os.fstat(file.fileno()).st_size != self.offset + self.length
        if self.is_same is not None:
            is_other = is_other or not self.is_same(file.read(self.offset))
        if is_other:
            raise DimseError(f"{self.path}: has changed since it was looked at")
        file.seek(self.offset)

    @property
    def conversions(self) -> tuple[str, ...]:
        """The transfer syntaxes that `dimse.services.transcoding` can convert it to, best first."""
        known = self.transfer_syntax in UNCOMPRESSED or self.transfer_syntax in _DECODABLE
        return tuple(each for each in UNCOMPRESSED if known and each != self.transfer_syntax)

    def context_proposals(self) -> list[tuple[str, tuple[str]]]:
        """The (abstract syntax, transfer syntaxes) to propose for it, each in its own context.

        What can be converted is proposed in explicit VR little endian and in the default transfer
        syntax too (PS3.5 10.1 to 10.5).
        """
        others = (each for each in self.conversions if each != DeflatedExplicitVRLittleEndian)
        return [(self.sop_class_uid, (syntax,)) for syntax in (self.transfer_syntax, *others)]

    def _checked(self) -> Self:
        name = self.path or "instance"
        for uid in (self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax):
            if not is_uid(uid):
                raise NotAnInstanceError(f"{name}: {uid!r} is no UID (PS3.5 9.1)")
        if self.sop_class_uid == MediaStorageDirectoryStorage:
            raise NotAnInstanceError(f"{name}: a DICOMDIR is not stored over the network")
        return self


def uid_of(source: object) -> str:
    """The SOP Instance UID of what cannot be sent, "" where only reading it would say so."""
    uid = source.get("SOPInstanceUID") if isinstance(source, Dataset) else None
    return str(uid or "")


def _read_meta(head: bytes, more: Callable[[int], bytes]) -> tuple[dict[int, str], int]:
    """UIDs of the file meta information by element, and the offset of the data set.

    Without `DICM` at byte 128 (PS3.10 7.1) it begins at once, or is not there: no UID, offset 0.
    """
    found: dict[int, str] = {}
    position = FILE_META_BEGIN if head[PREAMBLE_LENGTH:FILE_META_BEGIN] == b"DICM" else 0
    while head[position : position + 2] == b"\x02\x00":
        if position + _LONG_ELEMENT.size > len(head):
            break
        _, element, vr, length = _SHORT_ELEMENT.unpack_from(head, position)
        header = _SHORT_ELEMENT.size
        if vr in _LONG_VRS:
            length, header = _LONG_ELEMENT.unpack_from(head, position)[3], _LONG_ELEMENT.size
        end = position + header + length
        if end + _LONG_ELEMENT.size > len(head) and len(head) < _LONGEST_HEAD:
            head += more(_LONGEST_HEAD)
        if vr == b"UI":
            found[element] = head[position + header : end].decode("latin-1").rstrip("\0 ")
        position = end
    return found, position


def _guess(path: str | os.PathLike[str], known: list[str]) -> list[str]:
    """What the file meta information lacks, from the data set."""
    try:
        dataset = dcmread(
            path,
            force=True,
            stop_before_pixels=True,
            specific_tags=["SOPClassUID", "SOPInstanceUID"],
        )
        found = [dataset.get("SOPClassUID"), dataset.get("SOPInstanceUID")]
        found.append(_original_syntax(dataset))
    except Exception:  # noqa: BLE001  whatever pydicom says of it; the text may hold values
        raise NotAnInstanceError(f"{os.fspath(path)}: not a DICOM file") from None
    if not all(found):
        raise NotAnInstanceError(f"{os.fspath(path)}: not a DICOM file")
    return [old or str(new) for old, new in zip(known, found, strict=True)]


def _original_syntax(dataset: Dataset) -> UID:
    """As it was read; a new Dataset becomes explicit VR little endian."""
    implicit, little_endian = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRBigEndian if little_endian is False else ExplicitVRLittleEndian
