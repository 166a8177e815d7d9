"""Keys as typed: `PatientID=123`, `0010,0020=123`, `ScheduledProcedureStepSequence[0].Modality`."""

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from warnings import catch_warnings

from pydicom import DataElement, Dataset, Sequence, dcmread
from pydicom._dicom_dict import DicomDictionary
from pydicom.config import IGNORE
from pydicom.datadict import (
    dictionary_description,
    dictionary_VR,
    keyword_for_tag,
    tag_for_keyword,
)
from pydicom.errors import InvalidDicomError
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR

from dimse.cli.values import ALLOWED, value_of
from dimse.errors import MisuseError
from dimse.services.dataset import encode

LEVEL = "QueryRetrieveLevel"
UTF_8 = "ISO_IR 192"

_ABOUT_ITSELF = (LEVEL, "SpecificCharacterSet")

_STEP = re.compile(
    r"(?:\(?(?P<group>[0-9A-Fa-f]{4}),?(?P<element>[0-9A-Fa-f]{4})\)?|(?P<keyword>[A-Za-z]\w*))"
    r"(?:\[(?P<item>\d{1,4})\])?"
)
_FORMS = "KEYWORD, GGGG,EEEE or Sequence[0].KEYWORD, and =VALUE behind it"
_IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"


class KeyInvalid(ValueError):
    """What was typed is no key; says what is wrong, and of a value only what is allowed."""


class Step(NamedTuple):
    """One attribute of a path, and which item of it the path goes through."""

    tag: BaseTag
    item: int | None = None

    def __str__(self) -> str:
        """As it is typed."""
        name = keyword_for_tag(self.tag) or f"{self.tag.group:04X},{self.tag.element:04X}"
        return name if self.item is None else f"{name}[{self.item}]"


class KeyPath(tuple[Step, ...]):
    """Where an attribute is: the sequences and items that lead to it, and itself at last."""

    __slots__ = ()

    def __str__(self) -> str:
        """As it is typed."""
        return ".".join(map(str, self))

    @property
    def title(self) -> str:
        """The name of the attribute alone, for people."""
        tag = self[-1].tag
        if not keyword_for_tag(tag):
            return str(self[-1])
        # In a table of them the words say nothing, and make it too wide.
        return dictionary_description(tag).removeprefix("Scheduled Procedure Step ")

    @classmethod
    def of(cls, text: str) -> "KeyPath":
        """From what was typed; raises `KeyInvalid`."""
        steps = []
        for part in text.split("."):
            found = _STEP.fullmatch(part)
            if found is None:
                raise KeyInvalid(f"{text!r} is no key: {_FORMS}")
            item = found["item"]
            steps.append(Step(_tag(found), None if item is None else int(item)))
        path = cls(steps)
        for number, step in enumerate(path):
            _check_step(step, is_last=number == len(path) - 1)
        return path


def _tag(found: re.Match[str]) -> BaseTag:
    keyword = found["keyword"]
    if keyword is None:
        return Tag(int(found["group"], 16), int(found["element"], 16))
    tag = tag_for_keyword(keyword)
    if tag is None:
        known = (entry[4] for entry in DicomDictionary.values())
        close = get_close_matches(keyword, known, 3, 0.7)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise KeyInvalid(f"{keyword} is no keyword of PS3.6{hint}")
    return Tag(tag)


def _check_step(step: Step, *, is_last: bool) -> None:
    if step.tag.group < 0x0008 or step.tag.element == 0:
        raise KeyInvalid(f"{step} is no attribute of an identifier (PS3.4 C.2.2)")
    sequence = _vr(step.tag) == "SQ"
    if step.item is not None and not sequence:
        raise KeyInvalid(f"{step}: it is no sequence, so it has no items")
    if not is_last and step.item is None:
        raise KeyInvalid(
            f"{step}: write {step}[0] to go into its first item"
            if sequence
            else f"{step}: it is no sequence, so nothing is in it"
        )


def _vr(tag: BaseTag) -> str:
    """As in PS3.6; the first where it depends, and UN for what is private."""
    if tag.is_private:
        return "LO" if tag.is_private_creator else "UN"
    try:
        return dictionary_VR(tag).split(" ")[0]
    except KeyError:
        text = f"{tag.group:04X},{tag.element:04X}"
        raise KeyInvalid(f"{text} is no tag of PS3.6, and not private") from None


class Keys:
    """An identifier as it comes together."""

    def __init__(self) -> None:
        self.dataset = Dataset()
        self._given: dict[KeyPath, None] = {}  # maybe not there any more

    @property
    def paths(self) -> tuple[KeyPath, ...]:
        """The keys in the order given, without those that are about the identifier itself."""
        there = {path: None for path in _paths_in(self.dataset) if str(path) not in _ABOUT_ITSELF}
        return tuple({path: None for path in self._given if path in there} | there)

    @property
    def returns(self) -> bool:
        """Whether a key without a value is among them, and so the peer is asked for something."""
        return any(not self._element(path).value for path in self.paths)

    def add(self, text: str) -> None:
        """Add what was typed, in place of what was there; raises `KeyInvalid`."""
        name, _, value = text.partition("=")
        path = KeyPath.of(name.strip())
        self._set(path, value)

    def ask_for(self, names: Iterable[str]) -> None:
        """Add keys without values, where they are not there yet; they come first."""
        there = self.paths
        self._given = {}
        for name in names:
            path = KeyPath.of(name)
            if path in there:
                self._given[path] = None
            else:
                self._set(path, "")
        self._given |= dict.fromkeys(there)

    def add_file(self, file: Path) -> None:
        """Add the attributes of a DICOM file, or a file of DICOM JSON (PS3.18 F)."""
        for element in _read(file):
            if element.tag.element:
                self.dataset[element.tag] = element

    def identifier(self) -> Dataset:
        """All of it. What is not ASCII goes in UTF-8 unless a character set was given."""
        texts = (
            element for element in self.dataset.iterall() if element.VR in CUSTOMIZABLE_CHARSET_VR
        )
        if not all(str(element.value).isascii() for element in texts):
            self.dataset.setdefault("SpecificCharacterSet", UTF_8)
        with catch_warnings(action="error"):  # pydicom warns, and writes question marks
            try:
                encode(self.dataset, _IMPLICIT_VR_LITTLE_ENDIAN)
            except MisuseError as error:
                raise KeyInvalid(
                    "the keys cannot be encoded in their SpecificCharacterSet"
                ) from error
        return self.dataset

    def _element(self, path: KeyPath) -> DataElement:
        dataset = self.dataset
        for step in path[:-1]:
            dataset = dataset[step.tag].value[step.item]
        return dataset[path[-1].tag]

    def _set(self, path: KeyPath, text: str) -> None:
        dataset = self.dataset
        for step in path:
            if step.item is not None:
                dataset = _item(dataset, step, path)
        last = path[-1]
        if last.item is None:
            dataset[last.tag] = _element_of(path, text)
            self._given[path] = None
        elif text:
            raise KeyInvalid(f"{path}: an item has no value of its own")


def _item(dataset: Dataset, step: Step, path: KeyPath) -> Dataset:
    """The item that a step leads to; the one behind the last is made."""
    if step.tag not in dataset or not dataset[step.tag].value:
        dataset[step.tag] = DataElement(step.tag, "SQ", Sequence())
    items = dataset[step.tag].value
    assert step.item is not None
    if step.item > len(items):
        raise KeyInvalid(f"{path}: {step} comes before {step._replace(item=len(items))}")
    if step.item == len(items):
        items.append(Dataset())
    item: Dataset = items[step.item]
    return item


def _element_of(path: KeyPath, text: str) -> DataElement:
    tag = path[-1].tag
    vr = _vr(tag)
    if vr == "SQ":
        if text:
            raise KeyInvalid(f"{path} is a sequence: {path}[0].KEYWORD=VALUE is a key in it")
        return DataElement(tag, vr, Sequence())
    if not text:
        return DataElement(tag, vr, None)
    if vr not in ALLOWED:
        raise KeyInvalid(f"{path}: an attribute of VR {vr} takes no value as a key")
    try:
        return DataElement(tag, vr, value_of(vr, text), validation_mode=IGNORE)
    except (ValueError, OverflowError):  # pydicom's text holds the value
        raise KeyInvalid(f"{path}: VR {vr} allows {ALLOWED[vr]} (PS3.5 6.2)") from None


def _read(file: Path) -> Dataset:
    with catch_warnings(action="ignore"):  # pydicom's, which may quote what is in the file
        try:
            content = file.read_bytes()
            if content.lstrip()[:1] in (b"{", b"["):
                text = content.decode("utf-8").strip().removeprefix("[").removesuffix("]")
                dataset = Dataset.from_json(text)
            else:
                dataset = dcmread(BytesIO(content), stop_before_pixels=True)
            list(dataset.iterall())  # decodes all of it
        except OSError as error:
            raise KeyInvalid(f"{file}: {error.strerror}") from error
        except InvalidDicomError as error:
            raise KeyInvalid(f"{file}: neither a DICOM file nor DICOM JSON") from error
        except Exception as error:  # whatever pydicom says of it; the text may hold values
            raise KeyInvalid(f"{file}: cannot be read as keys") from error
    return dataset


def _paths_in(dataset: Dataset, parent: KeyPath = KeyPath()) -> Iterator[KeyPath]:  # noqa: B008
    for element in dataset:
        if element.VR == "SQ" and element.value:
            for number, item in enumerate(element.value):
                yield from _paths_in(item, KeyPath((*parent, Step(element.tag, number))))
        else:
            yield KeyPath((*parent, Step(element.tag)))
