"""The SOP classes: their service classes, operations and information models (PS3.4; PS3.6 A)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pydicom import uid as uids
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import (
    ColorPaletteStorage,
    CTDefinedProcedureProtocolStorage,
    GenericImplantTemplateStorage,
    HangingProtocolStorage,
    ImplantAssemblyTemplateStorage,
    ImplantTemplateGroupStorage,
    InventoryStorage,
    MediaStorageDirectoryStorage,
    ProtocolApprovalStorage,
    XADefinedProcedureProtocolStorage,
)

STORAGE_COMMITMENT_PUSH = "1.2.840.10008.1.20.1"
STORAGE_COMMITMENT_PULL = "1.2.840.10008.1.20.2"  # retired
MODALITY_PERFORMED_PROCEDURE_STEP = "1.2.840.10008.3.1.2.3.3"
MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE = "1.2.840.10008.3.1.2.3.4"
INSTANCE_AVAILABILITY_NOTIFICATION = "1.2.840.10008.5.1.4.33"
UPS_PUSH = "1.2.840.10008.5.1.4.34.6.1"
UPS_WATCH = "1.2.840.10008.5.1.4.34.6.2"
UPS_PULL = "1.2.840.10008.5.1.4.34.6.3"
UPS_EVENT = "1.2.840.10008.5.1.4.34.6.4"
UPS_QUERY = "1.2.840.10008.5.1.4.34.6.5"
FILM_SESSION = "1.2.840.10008.5.1.1.1"
FILM_BOX = "1.2.840.10008.5.1.1.2"
GRAYSCALE_IMAGE_BOX = "1.2.840.10008.5.1.1.4"
COLOR_IMAGE_BOX = "1.2.840.10008.5.1.1.4.1"
PRINTER = "1.2.840.10008.5.1.1.16"
GRAYSCALE_PRINT = "1.2.840.10008.5.1.1.9"
COLOR_PRINT = "1.2.840.10008.5.1.1.18"

MEMBERS: dict[str, tuple[str, ...]] = {
    GRAYSCALE_PRINT: (FILM_SESSION, FILM_BOX, GRAYSCALE_IMAGE_BOX, PRINTER),  # H.3.2.2.1
    COLOR_PRINT: (FILM_SESSION, FILM_BOX, COLOR_IMAGE_BOX, PRINTER),  # H.3.2.2.2
    **dict.fromkeys((UPS_WATCH, UPS_PULL, UPS_EVENT, UPS_QUERY), (UPS_PUSH,)),  # CC.3
}
"""The SOP classes that messages in a context of an abstract syntax may name besides itself."""


@dataclass(frozen=True, slots=True, eq=False)
class InformationModel:
    """What is queried and retrieved by (PS3.4 C.3), and its SOP classes, "" for none.

    `levels` are its Query/Retrieve Levels from the top, with the keyword of the unique key of
    each. A model of a single level has none in its identifiers: it stands as "", and so does a
    unique key that there is not.
    """

    service: str
    levels: Mapping[str, str]
    find: str = ""
    move: str = ""
    get: str = ""

    @property
    def sop_classes(self) -> dict[str, str]:
        """Its SOP classes and their operation."""
        uids = {self.find: "C-FIND", self.move: "C-MOVE", self.get: "C-GET"}
        return {uid: operation for uid, operation in uids.items() if uid}


_STUDY_ROOT = {
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}
_INSTANCE = {"": "SOPInstanceUID"}
_NO_UNIQUE_KEY = {"": ""}

PATIENT_ROOT = InformationModel(
    "Query/Retrieve",
    {"PATIENT": "PatientID", **_STUDY_ROOT},
    find="1.2.840.10008.5.1.4.1.2.1.1",
    move="1.2.840.10008.5.1.4.1.2.1.2",
    get="1.2.840.10008.5.1.4.1.2.1.3",
)
STUDY_ROOT = InformationModel(
    "Query/Retrieve",
    _STUDY_ROOT,
    find="1.2.840.10008.5.1.4.1.2.2.1",
    move="1.2.840.10008.5.1.4.1.2.2.2",
    get="1.2.840.10008.5.1.4.1.2.2.3",
)
PATIENT_STUDY_ONLY = InformationModel(  # retired
    "Query/Retrieve",
    {"PATIENT": "PatientID", "STUDY": "StudyInstanceUID"},
    find="1.2.840.10008.5.1.4.1.2.3.1",
    move="1.2.840.10008.5.1.4.1.2.3.2",
    get="1.2.840.10008.5.1.4.1.2.3.3",
)
REPOSITORY = InformationModel(
    "Query/Retrieve (Repository Query)", _STUDY_ROOT, find="1.2.840.10008.5.1.4.1.1.201.6"
)
COMPOSITE_INSTANCE_ROOT = InformationModel(
    "Query/Retrieve (Composite Instance Root Retrieve)",
    {"IMAGE": "SOPInstanceUID", "FRAME": "SOPInstanceUID"},  # of the instance with the frames
    move="1.2.840.10008.5.1.4.1.2.4.2",
    get="1.2.840.10008.5.1.4.1.2.4.3",
)
WITHOUT_BULK_DATA = InformationModel(
    "Query/Retrieve", {"IMAGE": "SOPInstanceUID"}, get="1.2.840.10008.5.1.4.1.2.5.3"
)
MODALITY_WORKLIST = InformationModel(
    "Basic Worklist Management", _NO_UNIQUE_KEY, find="1.2.840.10008.5.1.4.31"
)


def _non_patient_objects(service: str, find: str, move: str, get: str) -> InformationModel:
    return InformationModel(f"{service} Query/Retrieve", _INSTANCE, find, move, get)


QUERY_MODELS: tuple[InformationModel, ...] = (
    PATIENT_ROOT,
    STUDY_ROOT,
    PATIENT_STUDY_ONLY,
    REPOSITORY,
    COMPOSITE_INSTANCE_ROOT,
    WITHOUT_BULK_DATA,
    MODALITY_WORKLIST,
    InformationModel("Unified Procedure Step", _INSTANCE, find=UPS_WATCH),
    InformationModel("Unified Procedure Step", _INSTANCE, find=UPS_PULL),
    InformationModel("Unified Procedure Step", _INSTANCE, find=UPS_QUERY),
    *(
        InformationModel("Relevant Patient Information Query", {"": "PatientID"}, find=uid)
        for uid in (
            "1.2.840.10008.5.1.4.37.1",  # General
            "1.2.840.10008.5.1.4.37.2",  # Breast Imaging
            "1.2.840.10008.5.1.4.37.3",  # Cardiac
        )
    ),
    *(
        InformationModel("Substance Administration Query", _NO_UNIQUE_KEY, find=uid)
        for uid in (
            "1.2.840.10008.5.1.4.41",  # Product Characteristics
            "1.2.840.10008.5.1.4.42",  # Substance Approval
        )
    ),
    _non_patient_objects(
        "Hanging Protocol",
        "1.2.840.10008.5.1.4.38.2",
        "1.2.840.10008.5.1.4.38.3",
        "1.2.840.10008.5.1.4.38.4",
    ),
    _non_patient_objects(
        "Color Palette",
        "1.2.840.10008.5.1.4.39.2",
        "1.2.840.10008.5.1.4.39.3",
        "1.2.840.10008.5.1.4.39.4",
    ),
    _non_patient_objects(  # Generic Implant Template
        "Implant Template",
        "1.2.840.10008.5.1.4.43.2",
        "1.2.840.10008.5.1.4.43.3",
        "1.2.840.10008.5.1.4.43.4",
    ),
    _non_patient_objects(  # Implant Assembly Template
        "Implant Template",
        "1.2.840.10008.5.1.4.44.2",
        "1.2.840.10008.5.1.4.44.3",
        "1.2.840.10008.5.1.4.44.4",
    ),
    _non_patient_objects(  # Implant Template Group
        "Implant Template",
        "1.2.840.10008.5.1.4.45.2",
        "1.2.840.10008.5.1.4.45.3",
        "1.2.840.10008.5.1.4.45.4",
    ),
    _non_patient_objects(
        "Defined Procedure Protocol",
        "1.2.840.10008.5.1.4.20.1",
        "1.2.840.10008.5.1.4.20.2",
        "1.2.840.10008.5.1.4.20.3",
    ),
    _non_patient_objects(
        "Protocol Approval",
        "1.2.840.10008.5.1.4.1.1.200.4",
        "1.2.840.10008.5.1.4.1.1.200.5",
        "1.2.840.10008.5.1.4.1.1.200.6",
    ),
    _non_patient_objects(
        "Inventory",
        "1.2.840.10008.5.1.4.1.1.201.2",
        "1.2.840.10008.5.1.4.1.1.201.3",
        "1.2.840.10008.5.1.4.1.1.201.4",
    ),
)

GET_SOP_CLASSES: frozenset[str] = frozenset(model.get for model in QUERY_MODELS if model.get)
"""Where C-STORE sub-operations come back on the same association (PS3.4 C.4.3)."""

NOT_STORAGE = {MediaStorageDirectoryStorage, STORAGE_COMMITMENT_PUSH, STORAGE_COMMITMENT_PULL}
"""What is called storage, but no SOP class of the Storage service class."""

STORAGE_SOP_CLASSES: tuple[str, ...] = tuple(
    uid
    for uid, (name, kind, *_) in UID_dictionary.items()
    if kind == "SOP Class" and "Storage" in name and uid not in NOT_STORAGE
)
"""Every storage SOP class that pydicom knows, retired ones too: old archives are full of them."""


class SOPClass(NamedTuple):
    """The service class of a SOP class, its operations, and its well-known SOP instance if any."""

    service: str
    operations: str
    instance: str = ""


_ALL_N = "N-EVENT-REPORT N-GET N-SET N-ACTION N-CREATE N-DELETE"
_UPS = "Unified Procedure Step"
_PRINT = "Print Management"
_LOGGING = "Application Event Logging"

SOP_CLASSES: dict[str, SOPClass] = {
    **dict.fromkeys(STORAGE_SOP_CLASSES, SOPClass("Storage", "C-STORE")),
    **dict.fromkeys(
        (
            HangingProtocolStorage,
            ColorPaletteStorage,
            GenericImplantTemplateStorage,
            ImplantAssemblyTemplateStorage,
            ImplantTemplateGroupStorage,
            CTDefinedProcedureProtocolStorage,
            ProtocolApprovalStorage,
            XADefinedProcedureProtocolStorage,
            InventoryStorage,
        ),
        SOPClass("Non-Patient Object Storage", "C-STORE"),
    ),
    **{
        uid: SOPClass(model.service, operation)
        for model in QUERY_MODELS
        for uid, operation in model.sop_classes.items()
    },
    # Procedure Step (PS3.4 F), Storage Commitment (J), Unified Procedure Step (CC)
    MODALITY_PERFORMED_PROCEDURE_STEP: SOPClass("Procedure Step (MPPS)", "N-CREATE N-SET"),
    MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE: SOPClass("Procedure Step (MPPS Retrieve)", "N-GET"),
    "1.2.840.10008.3.1.2.3.5": SOPClass("Procedure Step", "N-EVENT-REPORT"),  # MPPS Notification
    STORAGE_COMMITMENT_PUSH: SOPClass(
        "Storage Commitment", "N-ACTION N-EVENT-REPORT", "1.2.840.10008.1.20.1.1"
    ),
    STORAGE_COMMITMENT_PULL: SOPClass(
        "Storage Commitment", "N-ACTION N-EVENT-REPORT", "1.2.840.10008.1.20.2.1"
    ),
    UPS_PUSH: SOPClass(_UPS, "N-CREATE N-ACTION N-GET"),
    UPS_WATCH: SOPClass(_UPS, "N-ACTION N-GET C-FIND", "1.2.840.10008.5.1.4.34.5"),
    UPS_PULL: SOPClass(_UPS, "C-FIND N-GET N-SET N-ACTION"),
    UPS_EVENT: SOPClass(_UPS, "N-EVENT-REPORT"),
    UPS_QUERY: SOPClass(_UPS, "C-FIND"),
    # Print Management (PS3.4 H)
    GRAYSCALE_PRINT: SOPClass(_PRINT, _ALL_N),
    COLOR_PRINT: SOPClass(_PRINT, _ALL_N),
    FILM_SESSION: SOPClass(f"{_PRINT} (Basic Film Session)", "N-CREATE N-SET N-DELETE N-ACTION"),
    FILM_BOX: SOPClass(f"{_PRINT} (Basic Film Box)", "N-CREATE N-ACTION N-DELETE N-SET"),
    GRAYSCALE_IMAGE_BOX: SOPClass(f"{_PRINT} (Basic Grayscale Image Box)", "N-SET"),
    COLOR_IMAGE_BOX: SOPClass(f"{_PRINT} (Basic Color Image Box)", "N-SET"),
    "1.2.840.10008.5.1.1.15": SOPClass(_PRINT, "N-SET"),  # Basic Annotation Box
    "1.2.840.10008.5.1.1.14": SOPClass(_PRINT, "N-EVENT-REPORT N-GET"),  # Print Job
    PRINTER: SOPClass(_PRINT, "N-EVENT-REPORT N-GET", "1.2.840.10008.5.1.1.17"),
    # Printer Configuration Retrieval
    "1.2.840.10008.5.1.1.16.376": SOPClass(_PRINT, "N-GET", "1.2.840.10008.5.1.1.17.376"),
    "1.2.840.10008.5.1.1.23": SOPClass(f"{_PRINT} (Presentation LUT)", "N-CREATE N-DELETE"),
    # Others
    "1.2.840.10008.1.1": SOPClass("Verification", "C-ECHO"),
    INSTANCE_AVAILABILITY_NOTIFICATION: SOPClass("Instance Availability Notification", "N-CREATE"),
    "1.2.840.10008.5.1.1.33": SOPClass("Media Creation Management", "N-CREATE N-ACTION N-GET"),
    "1.2.840.10008.1.40": SOPClass(
        f"{_LOGGING} (Procedural Event Logging)", "N-ACTION", "1.2.840.10008.1.40.1"
    ),
    "1.2.840.10008.1.42": SOPClass(
        f"{_LOGGING} (Substance Administration Logging)", "N-ACTION", "1.2.840.10008.1.42.1"
    ),
    "1.2.840.10008.5.1.4.1.1.201.5": SOPClass(
        "Storage Management (Inventory Creation)",
        "N-ACTION N-EVENT-REPORT",
        "1.2.840.10008.5.1.4.1.1.201.1.1",
    ),
    "1.2.840.10008.5.1.1.40": SOPClass(
        "Display System Management", "N-GET", "1.2.840.10008.5.1.1.40.1"
    ),
    "1.2.840.10008.5.1.4.34.8": SOPClass("RT Machine Verification", _ALL_N),  # Conventional
    "1.2.840.10008.5.1.4.34.9": SOPClass("RT Machine Verification", _ALL_N),  # Ion
}
"""Every SOP class of a DIMSE service, by UID (PS3.4; PS3.6 Table A-1)."""

_OFTEN = (
    *(uids.CTImageStorage, uids.MRImageStorage, uids.ComputedRadiographyImageStorage),
    uids.DigitalXRayImageStorageForPresentation,
    uids.DigitalXRayImageStorageForProcessing,
    uids.DigitalMammographyXRayImageStorageForPresentation,
    uids.DigitalMammographyXRayImageStorageForProcessing,
    uids.BreastTomosynthesisImageStorage,
    *(uids.UltrasoundImageStorage, uids.UltrasoundMultiFrameImageStorage),
    *(uids.NuclearMedicineImageStorage, uids.PositronEmissionTomographyImageStorage),
    *(uids.XRayAngiographicImageStorage, uids.XRayRadiofluoroscopicImageStorage),
    *(uids.RTStructureSetStorage, uids.RTPlanStorage, uids.RTDoseStorage, uids.RTImageStorage),
    *(uids.RTIonPlanStorage, uids.RTBeamsTreatmentRecordStorage),
    *(uids.RTIonBeamsTreatmentRecordStorage, uids.RTBrachyTreatmentRecordStorage),
    uids.RTTreatmentSummaryRecordStorage,
    uids.SecondaryCaptureImageStorage,
    uids.MultiFrameSingleBitSecondaryCaptureImageStorage,
    uids.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uids.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uids.MultiFrameTrueColorSecondaryCaptureImageStorage,
    *(uids.KeyObjectSelectionDocumentStorage, uids.GrayscaleSoftcopyPresentationStateStorage),
    uids.ColorSoftcopyPresentationStateStorage,
    uids.PseudoColorSoftcopyPresentationStateStorage,
    uids.BlendingSoftcopyPresentationStateStorage,
    *(uids.BasicTextSRStorage, uids.EnhancedSRStorage, uids.ComprehensiveSRStorage),
    *(uids.Comprehensive3DSRStorage, uids.XRayRadiationDoseSRStorage),
    *(uids.RadiopharmaceuticalRadiationDoseSRStorage, uids.PatientRadiationDoseSRStorage),
    *(uids.MammographyCADSRStorage, uids.ChestCADSRStorage, uids.ProcedureLogStorage),
    *(uids.EncapsulatedPDFStorage, uids.EncapsulatedCDAStorage, uids.EncapsulatedSTLStorage),
    *(uids.SegmentationStorage, uids.SurfaceSegmentationStorage, uids.ParametricMapStorage),
    *(uids.SpatialRegistrationStorage, uids.DeformableSpatialRegistrationStorage),
    *(uids.RealWorldValueMappingStorage, uids.RawDataStorage),
    *(uids.EnhancedCTImageStorage, uids.EnhancedMRImageStorage, uids.EnhancedPETImageStorage),
    *(uids.EnhancedXAImageStorage, uids.EnhancedXRFImageStorage, uids.EnhancedUSVolumeStorage),
    *(uids.XRay3DAngiographicImageStorage, uids.XRay3DCraniofacialImageStorage),
    *(uids.LegacyConvertedEnhancedPETImageStorage, uids.SimplifiedAdultEchoSRStorage),
    *(uids.ColonCADSRStorage, uids.EnhancedXRayRadiationDoseSRStorage),
    *(uids.TwelveLeadECGWaveformStorage, uids.GeneralECGWaveformStorage),
)


def _use(sop_class_uid: str) -> int:
    name = UID_dictionary[sop_class_uid][0]
    if service_of(sop_class_uid) != "Storage" or name.startswith(("DICOS", "Eddy Current")):
        return len(_OFTEN) + 1
    return _OFTEN.index(sop_class_uid) if sop_class_uid in _OFTEN else len(_OFTEN)


def service_of(sop_class_uid: str) -> str:
    """The name of its service class as the tables of statuses have it, "" for one unknown."""
    known = SOP_CLASSES.get(sop_class_uid)
    return known.service if known is not None else ""


def serves(abstract_syntax: str, sop_class_uid: str) -> bool:
    """Whether a request in a context of that abstract syntax may name that SOP class."""
    return abstract_syntax == sop_class_uid or sop_class_uid in MEMBERS.get(abstract_syntax, ())


STORAGE_BY_USE: tuple[str, ...] = tuple(
    sorted((uid for uid in STORAGE_SOP_CLASSES if UID_dictionary[uid][3] != "Retired"), key=_use)
)
"""Those that are not retired, what hospitals send most first; last what is about no patient."""
