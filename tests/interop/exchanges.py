"""What is stored, asked for and told in the matrix of services, roles and peers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

ARCHIVE = "ARCHIVE"
"""The AE title of every archive."""

STUDIES = {"1.2.826.0.1.3680043.10.1.1": 3, "1.2.826.0.1.3680043.10.1.2": 200}
"""Studies in every archive, and how many instances they have."""

STUDY, LONG_STUDY = STUDIES
"""One to retrieve whole, and one whose retrieval there is time to cancel."""

GRAYSCALE_PRINT = "1.2.840.10008.5.1.1.9"  # a Meta SOP Class (PS3.4 H.3.3.1)
FILM_SESSION = "1.2.840.10008.5.1.1.1"
PRINTER = "1.2.840.10008.5.1.1.16"
WELL_KNOWN_PRINTER = "1.2.840.10008.5.1.1.17"


@dataclass(frozen=True, slots=True)
class Exchange:
    """An operation of DIMSE-N: what is asked, and the attributes that answer it.

    `type_id` is the Action Type ID or the Event Type ID.
    """

    sop_class: str
    sop_instance: str
    sent: Mapping[str, Any] | None = None
    answered: Mapping[str, Any] | None = None
    attributes: Sequence[str] = ()
    type_id: int | None = None

    @property
    def tags(self) -> list[int]:
        """The Attribute Identifier List of an N-GET."""
        return [int(Tag(keyword)) for keyword in self.attributes]

    @property
    def request(self) -> dict[str, Any]:
        """As the one who performs it writes it down."""
        return request(self.sop_class, self.sop_instance, self.type_id, self.tags, self.sent)


def request(
    sop_class: Any, sop_instance: Any, type_id: Any, tags: Any, sent: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What a request said, as JSON can have it."""
    return {
        "sop_class": str(sop_class),
        "sop_instance": str(sop_instance),
        "type_id": type_id,
        "tags": list(map(int, tags or ())),
        "sent": sent,
    }


EXCHANGES = {
    "N-CREATE": Exchange(
        FILM_SESSION,
        "1.2.826.0.1.3680043.10.2.1",
        {"NumberOfCopies": 2, "FilmSessionLabel": "odd"},
        {"NumberOfCopies": 2, "PrintPriority": "MED"},
    ),
    "N-SET": Exchange(
        FILM_SESSION,
        "1.2.826.0.1.3680043.10.2.1",
        {"NumberOfCopies": 3},
        {"NumberOfCopies": 1, "FilmSessionLabel": "fewer"},
    ),
    "N-ACTION": Exchange(
        FILM_SESSION,
        "1.2.826.0.1.3680043.10.2.1",
        {"PrintPriority": "HIGH"},
        {"ExecutionStatus": "PENDING"},
        type_id=1,
    ),
    "N-DELETE": Exchange(FILM_SESSION, "1.2.826.0.1.3680043.10.2.1"),
    "N-GET": Exchange(
        PRINTER,
        WELL_KNOWN_PRINTER,
        answered={"PrinterStatus": "NORMAL", "PrinterName": "LASER"},
        attributes=("PrinterStatus", "PrinterName"),
    ),
    "N-EVENT-REPORT": Exchange(
        PRINTER,
        WELL_KNOWN_PRINTER,
        {"PrinterStatusInfo": "SUPPLY LOW"},
        {"PrinterName": "LASER"},
        type_id=2,
    ),
}


def dataset(values: Mapping[str, Any] | None) -> Dataset | None:
    """The values by their keywords, as a Dataset."""
    if values is None:
        return None
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def values(dataset: Dataset | None) -> dict[str, Any] | None:
    """The other way round; no attributes are no data set, as peers see it."""
    return {each.keyword: each.value for each in dataset} if dataset else None


def keys(study: str) -> dict[str, str]:
    """The Identifier that finds the instances of a study."""
    return {
        "QueryRetrieveLevel": "IMAGE",
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.1",
        "SOPInstanceUID": "",
    }


def whole(study: str) -> dict[str, str]:
    """The Identifier that retrieves a study."""
    return {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study}


def make_study(folder: Path, study: str) -> None:
    """Fill a folder of its name in `folder` with its instances, each with other pixels."""
    (folder / study).mkdir()
    for number in range(STUDIES[study]):
        made = Dataset()
        made.SOPClassUID = SecondaryCaptureImageStorage
        made.SOPInstanceUID = f"{study}.1.{number + 1}"
        made.StudyDate, made.StudyTime = "20240229", "120000"
        made.Modality = "OT"
        made.PatientName, made.PatientID = "Matrix", "M1"
        made.StudyInstanceUID, made.SeriesInstanceUID = study, f"{study}.1"
        made.StudyID, made.SeriesNumber, made.InstanceNumber = "1", 1, number + 1
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.Rows = made.Columns = 64
        made.BitsAllocated = made.BitsStored = 16
        made.HighBit, made.PixelRepresentation = 15, 0
        made.PixelData = bytes([number, 255 - number]) * 64 * 64
        made["PixelData"].VR = "OW"
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.save_as(folder / study / f"{number}.dcm", enforce_file_format=True)
