"""What is stored, asked for and told in the matrix of services, roles and peers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

ARCHIVE = "ARCHIVE"
"""The AE title of every archive, and the name of its folder of worklist items, as wlmscpfs has it.
"""

PATIENT = "M1"
"""Whose studies they are."""

STUDIES = {"1.2.826.0.1.3680043.10.1.1": 3, "1.2.826.0.1.3680043.10.1.2": 200}
"""Studies in every archive, and how many instances they have."""

STUDY, LONG_STUDY = STUDIES
"""One to retrieve whole, and one whose retrieval there is time to cancel."""

WORKLIST_ITEMS = ["A0 OT S0", "A1 OT S1"]
"""What is asked for of the worklist in every archive, by the names of the matches."""

GRAYSCALE_PRINT = "1.2.840.10008.5.1.1.9"  # a Meta SOP Class (PS3.4 H.3.3.1)
FILM_SESSION = "1.2.840.10008.5.1.1.1"
PRINTER = "1.2.840.10008.5.1.1.16"
WELL_KNOWN_PRINTER = "1.2.840.10008.5.1.1.17"

WORKLIST = "1.2.840.10008.5.1.4.31"  # Modality Worklist Information Model - FIND


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


_ARGUMENTS = {
    "N-CREATE": ("sop_class", "sent", "sop_instance"),
    "N-SET": ("sop_class", "sop_instance", "sent"),
    "N-ACTION": ("sop_class", "sop_instance", "type_id", "sent"),
    "N-DELETE": ("sop_class", "sop_instance"),
    "N-GET": ("sop_class", "sop_instance", "tags"),
    "N-EVENT-REPORT": ("sop_class", "sop_instance", "type_id", "sent"),
}


def arguments(service: str) -> list[Any]:
    """Those of our verb of DIMSE-N, behind the association."""
    exchange = EXCHANGES[service]
    known = {"sent": dataset(exchange.sent)}
    return [
        known[each] if each in known else getattr(exchange, each) for each in _ARGUMENTS[service]
    ]


def dataset(values: Mapping[str, Any] | None) -> Dataset | None:
    """The values by their keywords, as a Dataset; a list of such mappings is a sequence."""
    if values is None:
        return None
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, list(map(dataset, value)) if isinstance(value, list) else value)
    return made


def keys(asked: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """An Identifier as options of a tool."""
    for keyword, value in asked.items():
        if isinstance(value, list):
            yield from keys(value[0], f"{within}{keyword}[0].")
        else:
            yield from ("-k", f"{within}{keyword}={value}")


def values(dataset: Dataset | None) -> dict[str, Any] | None:
    """The other way round; no attributes are no data set, as peers see it."""
    return {each.keyword: each.value for each in dataset} if dataset else None


def identifier(service: str) -> dict[str, Any]:
    """What a service finds or retrieves: a study by its instances or whole, or worklist items."""
    verb, _, kind = service.partition(" ")
    if kind == "worklist":
        return {
            "AccessionNumber": "",
            "ScheduledProcedureStepSequence": [{"Modality": "OT", "ScheduledProcedureStepID": ""}],
        }
    study = LONG_STUDY if kind == "cancelled" else STUDY
    patient = {"PatientID": PATIENT} if kind == "patient" else {}
    if verb != "C-FIND":
        return {"QueryRetrieveLevel": "STUDY", **patient, "StudyInstanceUID": study}
    return {
        "QueryRetrieveLevel": "IMAGE",
        **patient,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.1",
        "SOPInstanceUID": "",
    }


def found(folder: Path, asked: Dataset) -> list[Path]:
    """What an archive has of it, in the folder of the study or that of the worklist."""
    paths = Path(folder, asked.get("StudyInstanceUID", ARCHIVE)).glob("[0-9]*")
    return [path for path in sorted(paths) if _matches(dcmread(path), asked)]


def _matches(stored: Dataset, asked: Dataset) -> bool:
    """By Single Value, Universal and Sequence Matching (PS3.4 C.2.2.2)."""
    for key in asked:
        if key.keyword == "QueryRetrieveLevel" or key.is_empty:
            continue
        value = stored[key.tag].value
        if key.VR == "SQ":
            if not any(_matches(item, key.value[0]) for item in value):
                return False
        elif value != key.value:
            return False
    return True


def answer(path: Path, asked: Dataset) -> Dataset:
    """A match: of what is stored what is asked for."""
    stored, match = dcmread(path), Dataset()
    for key in asked:
        match[key.tag] = stored.get(key.tag, key)
    return match


def name(match: Dataset) -> str:
    """What tells a match from the others."""
    if "SOPInstanceUID" in match:
        return str(match.SOPInstanceUID)
    (step,) = match.ScheduledProcedureStepSequence
    return f"{match.AccessionNumber} {step.Modality} {step.ScheduledProcedureStepID}"


def make_study(folder: Path, study: str) -> None:
    """Fill a folder of its name in `folder` with its instances, each with other pixels."""
    (folder / study).mkdir()
    for number in range(STUDIES[study]):
        made = Dataset()
        made.SOPClassUID = SecondaryCaptureImageStorage
        made.SOPInstanceUID = f"{study}.1.{number + 1}"
        made.StudyDate, made.StudyTime = "20240229", "120000"
        made.Modality = "OT"
        made.PatientName, made.PatientID = "Matrix", PATIENT
        made.StudyInstanceUID, made.SeriesInstanceUID = study, f"{study}.1"
        made.StudyID, made.SeriesNumber, made.InstanceNumber = "1", 1, number + 1
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.Rows = made.Columns = 64
        made.BitsAllocated = made.BitsStored = 16
        made.HighBit, made.PixelRepresentation = 15, 0
        made.PixelData = bytes([number, 255 - number]) * 64 * 64
        made["PixelData"].VR = "OW"
        _save(made, folder / study / f"{number}.dcm")


def make_worklist(folder: Path) -> None:
    """Fill a folder in `folder` with items, the last one of another modality."""
    (folder / ARCHIVE).mkdir()
    (folder / ARCHIVE / "lockfile").touch()
    for number, modality in enumerate(("OT", "OT", "MR")):
        made, step = Dataset(), Dataset()
        made.AccessionNumber, made.RequestedProcedureID = f"A{number}", f"R{number}"
        made.RequestedProcedureDescription = "odd"
        made.PatientName, made.PatientID = "Matrix", PATIENT
        made.PatientBirthDate, made.PatientSex = "19700101", "O"
        made.StudyInstanceUID = f"1.2.826.0.1.3680043.10.1.3.{number}"
        step.Modality, step.ScheduledProcedureStepID = modality, f"S{number}"
        step.ScheduledStationAETitle, step.ScheduledPerformingPhysicianName = "STATION", "Nobody"
        step.ScheduledProcedureStepStartDate = "20240229"
        step.ScheduledProcedureStepStartTime = "120000"
        step.ScheduledProcedureStepDescription = "odd"
        made.ScheduledProcedureStepSequence = [step]
        _save(made, folder / ARCHIVE / f"{number}.wl")


def _save(made: Dataset, path: Path) -> None:
    """A worklist item is no SOP instance, but files want UIDs."""
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.get("SOPClassUID", WORKLIST)
    made.file_meta.MediaStorageSOPInstanceUID = made.get("SOPInstanceUID", made.StudyInstanceUID)
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.save_as(path, enforce_file_format=True)
