"""HeaderScan against pydicom, on the composite instances that it ships."""

import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement

from dimse.archive.attributes import Attributes, Value
from dimse.errors import StatusError
from dimse.services.instance import Instance
from tests.archive.data_sets import (
    CHARSET,
    DEFLATED,
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    outcome,
    received,
    scan,
)

FOLDER = Path(pydicom.__file__).parent / "data"  # what is not in it would be downloaded
BINARY = {"OB", "OD", "OF", "OL", "OV", "OW", "UN", "US or OW", "OB or OW"}
# Cut off, or of another transfer syntax than they say; pydicom guesses, and we refuse.
REFUSED = {"MR_truncated.dcm", "rtplan_truncated.dcm", "SC_rgb_jpeg.dcm"}


def instances() -> Iterator[Any]:
    """The files that have all four UIDs and file meta information."""
    for path in sorted(FOLDER.glob("*_files/*.dcm")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(path, force=True)
        complete = all(dataset.get(tag) for tag in (SOP_CLASS, SOP_INSTANCE, STUDY, SERIES))
        if complete and "TransferSyntaxUID" in dataset.file_meta:
            yield pytest.param(path, dataset, id=path.name)


def values(element: DataElement) -> list[str]:
    """Each value as text, without the padding around it."""
    found = element.value
    if element.VM < 2:
        found = [] if found is None else [found]
    if element.VR == "AT":
        return [f"{int(tag):08X}" for tag in found]
    if element.VR in {"DS", "IS"}:  # as they were written
        found = [getattr(value, "original_string", None) or value for value in found]
    return [str(value).strip() for value in found]


def expected(dataset: Dataset, keep: frozenset[int] | None = None) -> Attributes:
    """What pydicom makes of the wanted elements, or of all of an item."""
    found: Attributes = {}
    for element in dataset:
        tag = int(element.tag)
        unwanted = tag not in keep if keep is not None else tag == CHARSET
        if unwanted or element.VR in BINARY or not tag & 0xFFFF:
            continue
        if element.VR == "SQ":
            found[tag] = [expected(item) for item in element.value]
        else:
            found[tag] = "\\".join(values(element))
    return found


def stripped(value: Value) -> Value:
    """The same without padding, and without empty component groups at the end of names."""
    if isinstance(value, str):
        return "\\".join(part.strip().rstrip("=") for part in value.split("\\"))
    return [{tag: stripped(inner) for tag, inner in item.items()} for item in value]


def indexable(tag: int) -> bool:
    return bool(tag & 0xFFFF) and dictionary_has_tag(tag) and dictionary_VR(tag) not in BINARY


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("path", "dataset"), list(instances()))
def test_same_as_pydicom(path: Path, dataset: Dataset):
    """Of every element that an index could want: of the dictionary, and not binary."""
    instance = Instance.from_file(path)
    with instance.open() as source:
        data = source.read(source.length)
    wanted = frozenset(filter(indexable, map(int, dataset.keys())))
    # The file meta information of some says something else than the data set.
    about = received(instance.transfer_syntax, dataset.SOPInstanceUID, dataset.SOPClassUID)
    if path.name in REFUSED:
        with pytest.raises(StatusError):
            scan(data, wanted=wanted, instance=about)
        return
    found = scan(data, wanted=wanted, instance=about)
    assert found == scan(data, wanted=wanted, instance=about, cuts=range(0, len(data), 61))
    assert {tag: stripped(value) for tag, value in found.items()} == {
        tag: stripped(value) for tag, value in expected(dataset, wanted).items()
    }


def changed(data: bytes, choose: random.Random) -> bytes:
    """With up to four places made worse, as a faulty sender or disk does."""
    worse = bytearray(data)
    for _ in range(choose.randrange(1, 5)):
        at = choose.randrange(len(worse))
        match choose.randrange(4):
            case 0:
                worse[at] = choose.randrange(256)
            case 1:
                worse[at : at + 4] = b"\xff\xff\xff\xff"
            case 2:
                del worse[at : at + choose.randrange(20)]
            case _:
                worse[at:at] = worse[max(0, at - 40) : at]
    return bytes(worse)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("path", "dataset"), list(instances()))
def test_changed_at_random(path: Path, dataset: Dataset):
    """Read or refused, in the same way wherever it is cut, and without end by neither."""
    instance = Instance.from_file(path)
    with instance.open() as source:
        data = source.read(min(source.length, 8000))
    about = received(instance.transfer_syntax, dataset.SOPInstanceUID, dataset.SOPClassUID)
    choose = random.Random(path.name)
    for _ in range(40):
        worse = changed(data, choose)
        found = outcome(worse, about.transfer_syntax, instance=about)
        cuts = [choose.randrange(len(worse)) for _ in range(5)]
        in_fragments = outcome(worse, about.transfer_syntax, cuts, instance=about)
        if about.transfer_syntax != DEFLATED:  # zlib: an error may come sooner
            assert in_fragments == found
