"""Studies in which every matching rule has something to find, and something to leave out.

Study n of `STUDIES` is `ROOT.n`, its series `ROOT.n.s`, their instances `ROOT.n.s.i`: the tests say
`n`, `n.s` and `n.s.i`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.interop.exchanges import dataset

ROOT = "1.2.826.0.1.3680043.10.4"

_HEAD = {"CodeValue": "HEAD", "CodingSchemeDesignator": "99D", "CodeMeaning": "Head"}
_CHEST = {"CodeValue": "CHEST", "CodingSchemeDesignator": "99D", "CodeMeaning": "Chest"}

STUDIES: dict[int, dict[str, Any]] = {
    1: {
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "PatientBirthDate": "19700131",
        "StudyDate": "20240105",
        "StudyTime": "101112",
        "AccessionNumber": "A1",
        "StudyID": "S1",
        "StudyDescription": "Head routine",
        "PatientSize": "1.70",
        "ProcedureCodeSequence": [_HEAD, _CHEST],
    },
    2: {
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "PatientBirthDate": "19700131",
        "StudyDate": "20240106",
        "StudyTime": "2230",
        "AccessionNumber": "A2",
        "StudyID": "S2",
        "StudyDescription": "Chest",
        "ProcedureCodeSequence": [_CHEST],
    },
    3: {
        "PatientID": "p3",
        "PatientName": "DOE^JOHN",
        "StudyDate": "20240107",
        "StudyTime": "080000.5",
        "AccessionNumber": "a1",
        "StudyID": "S3",
        "StudyDescription": "HEAD ROUTINE",
    },
    4: {
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientID": "P4",
        "PatientName": "Müller^Jörg",
        "StudyDate": "20230615",
        "StudyTime": "120000",
        "AccessionNumber": "A4",
        "StudyID": "S4",
        "StudyDescription": "Schädel",
    },
    5: {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientID": "P5",
        "PatientName": "Wang^XiaoDong=王^小东",
        "StudyDate": "20230616",
        "StudyTime": "120000",
        "AccessionNumber": "A5",
        "StudyID": "S5",
        "StudyDescription": "头部",
    },
    6: {
        "SpecificCharacterSet": "\\ISO 2022 IR 87",
        "PatientID": "P6",
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "StudyDate": "20230617",
        "StudyTime": "120000",
        "AccessionNumber": "A6",
        "StudyID": "S6",
        "StudyDescription": "頭部",
    },
    7: {
        "SpecificCharacterSet": "GB18030",
        "PatientID": "P7",
        "PatientName": "Zhang^XiaoDong=张^小东",
        "StudyDate": "20230618",
        "StudyTime": "120000",
        "AccessionNumber": "A7",
        "StudyID": "S7",
        "StudyDescription": "胸部",
    },
    8: {
        "PatientID": "P8",
        "PatientName": "Smyth^Jon",
        "StudyDate": "",
        "StudyTime": "",
        "AccessionNumber": "",
        "StudyID": "",
        "StudyDescription": "",
    },
    9: {
        "PatientID": "P9",
        "PatientName": "Roe^Richard",
        "StudyDate": "20240110",
        "StudyTime": "013000",
        "AccessionNumber": "A9",
        "StudyID": "S9",
        "TimezoneOffsetFromUTC": "+0900",
    },
}
"""By their numbers: the attributes of a study and its patient."""

IMPLICIT = 9

_SERIES: dict[int, tuple[str, int]] = {1: ("CT", 2), 2: ("MR", 1)}
"""Modality and instances of the series of a study; only the first two studies have the second."""

_MOMENTS = {"1.1.1": "20240105101112.5", "1.1.2": "20240105120000+0200"}


def instances() -> Iterator[Dataset]:
    """All of them."""
    for study, attributes in STUDIES.items():
        for series in _SERIES if study < 3 else [1]:
            modality, images = _SERIES[series]
            for image in range(1, images + 1):
                yield _instance(f"{study}.{series}.{image}", modality, attributes)


def _instance(name: str, modality: str, attributes: dict[str, Any]) -> Dataset:
    study, series, image = name.split(".")
    made = dataset(
        {
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": f"{ROOT}.{name}",
            "Modality": modality,
            "StudyInstanceUID": f"{ROOT}.{study}",
            "SeriesInstanceUID": f"{ROOT}.{study}.{series}",
            "SeriesNumber": series,
            "SeriesDescription": f"{modality} of {study}",
            "InstanceNumber": image,
            "ImageType": f"ORIGINAL\\PRIMARY\\{'AXIAL' if image == '1' else 'LOCALIZER'}",
            **({"AcquisitionDateTime": _MOMENTS[name]} if name in _MOMENTS else {}),
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "Rows": 8,
            "Columns": 8,
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 0,
            "PixelData": bytes([int(study), int(series), int(image), 0] * 32),
            **attributes,
        }
    )
    assert made is not None
    made["PixelData"].VR = "OW"
    return made


def write(folder: Path) -> None:
    """Each instance as a file, `n.s.i.dcm`; study `IMPLICIT` in Implicit VR Little Endian."""
    for made in instances():
        made.file_meta = FileMetaDataset()
        implicit = made.StudyInstanceUID == f"{ROOT}.{IMPLICIT}"
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        made.file_meta.TransferSyntaxUID = syntax
        name = made.SOPInstanceUID.removeprefix(f"{ROOT}.")
        made.save_as(folder / f"{name}.dcm", enforce_file_format=True)
