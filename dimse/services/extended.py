"""Service class application information, and related general SOP classes (PS3.7 D.3.3.5, D.3.3.6).

What a requestor offers is `bytes(options)`; what an acceptor that supports `options` makes of an
offer is `options.answer(offered)`; what either side said is `decode`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from struct import Struct
from typing import ClassVar, Self, TypeVar

from pydicom.uid import (
    AcquisitionContextSRStorage,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    DigitalIntraOralXRayImageStorageForPresentation,
    DigitalIntraOralXRayImageStorageForProcessing,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    EnhancedSRStorage,
    EnhancedXRayRadiationDoseSRStorage,
    ExtensibleSRStorage,
    General32bitECGWaveformStorage,
    GeneralECGWaveformStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MacularGridThicknessAndVolumeReportStorage,
    PatientRadiationDoseSRStorage,
    ProcedureLogStorage,
    RadiopharmaceuticalRadiationDoseSRStorage,
    SimplifiedAdultEchoSRStorage,
    SpectaclePrescriptionReportStorage,
    TwelveLeadECGWaveformStorage,
    XRayRadiationDoseSRStorage,
)

from dimse.errors import MisuseError
from dimse.sop_classes import (
    COMPOSITE_INSTANCE_ROOT,
    PATIENT_ROOT,
    PATIENT_STUDY_ONLY,
    QUERY_MODELS,
    REPOSITORY,
    SOP_CLASSES,
    STUDY_ROOT,
    UPS_EVENT,
    UPS_PUSH,
    WITHOUT_BULK_DATA,
)
from dimse.ul.items import SOPClassCommonExtendedNegotiation

STORAGE_SERVICE_CLASS = "1.2.840.10008.4.2"  # PS3.4 B.3.1.3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flags:
    """Behind reserved bytes, one byte for each field in turn: 1 for yes, absent for no."""

    _RESERVED: ClassVar[bytes] = b""

    def __bytes__(self) -> bytes:
        """What to offer, without the bytes at the end that say no: old peers know fewer."""
        first, *others = (getattr(self, each.name) for each in fields(self))
        return self._RESERVED + bytes([first]) + bytes(others).rstrip(b"\0")

    @classmethod
    def decode(cls, information: bytes) -> Self:
        """From the information of either side; what is absent or not 1 is no."""
        flags = information[len(cls._RESERVED) :]
        return cls(**{each.name: byte == 1 for each, byte in zip(fields(cls), flags, strict=False)})

    def answer(self, offered: bytes) -> bytes:
        """Yes to what is offered and supported, in as many of our bytes as were offered."""
        theirs = self.decode(offered)
        agreed = (getattr(self, each.name) and getattr(theirs, each.name) for each in fields(self))
        shortest = len(self._RESERVED) + 1
        return (self._RESERVED + bytes(agreed))[: max(len(offered), shortest)]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOptions(_Flags):
    """Of C-FIND in Query/Retrieve (PS3.4 C.5.1.1)."""

    relational: bool = False
    combined_date_time: bool = False
    fuzzy_names: bool = False
    timezone: bool = False
    enhanced_multi_frame: bool = False
    empty_value_matching: bool = False
    multiple_value_matching: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieveOptions(_Flags):
    """Of C-MOVE and C-GET in Query/Retrieve (PS3.4 C.5.2.1, C.5.3.1)."""

    relational: bool = False
    enhanced_multi_frame: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeRetrieveOptions(_Flags):
    """Of the retrieval of composite instances, also without bulk data (PS3.4 Y.5.1.1, Z.5.1)."""

    _RESERVED: ClassVar[bytes] = b"\0"  # relational retrieval does not apply
    enhanced_multi_frame: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistOptions(_Flags):
    """Of C-FIND in Basic Worklist Management and where it is referred to (PS3.4 K.5.1)."""

    _RESERVED: ClassVar[bytes] = b"\1\1"
    fuzzy_names: bool = False
    timezone: bool = False


class LevelOfSupport(IntEnum):
    """Which attributes an SCP stores (PS3.4 B.4.1)."""

    LEVEL_0 = 0
    """Local: a defined subset."""
    LEVEL_1 = 1
    """Base: those of type 1 and 2."""
    LEVEL_2 = 2
    """Full: all, private ones too."""
    NOT_APPLICABLE = 3
    """An SCU only."""


class DigitalSignatureSupport(IntEnum):
    """What an SCP of level 2 does with digital signatures (PS3.4 B.4.1)."""

    UNSPECIFIED = 0
    LEVEL_1 = 1
    """They may be lost."""
    LEVEL_2 = 2
    """They are validated and replaced."""
    LEVEL_3 = 3
    """They are preserved, bit by bit."""


class ElementCoercion(IntEnum):
    """Whether an SCP changes elements (PS3.4 B.4.1)."""

    NEVER = 0
    POSSIBLE = 1
    NOT_APPLICABLE = 2
    """An SCU only."""


_STORAGE = Struct("BxBxBx")
_E = TypeVar("_E", bound=IntEnum)


def _known(value: int, default: _E) -> _E:
    return next((each for each in type(default) if each == value), default)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageOptions:
    """Of C-STORE: each side states what it does itself; unless given, an SCU (PS3.4 B.3.1)."""

    level_of_support: LevelOfSupport = LevelOfSupport.NOT_APPLICABLE
    digital_signature_support: DigitalSignatureSupport = DigitalSignatureSupport.UNSPECIFIED
    element_coercion: ElementCoercion = ElementCoercion.NOT_APPLICABLE

    def __bytes__(self) -> bytes:
        """What to offer."""
        return _STORAGE.pack(
            self.level_of_support, self.digital_signature_support, self.element_coercion
        )

    @classmethod
    def decode(cls, information: bytes) -> Self:
        """From the information of either side; what is absent or unknown is the default."""
        default = cls()
        absent = b"\xff"  # not assigned for any of the three
        level, signatures, coercion = _STORAGE.unpack(information[:6].ljust(6, absent))
        return cls(
            level_of_support=_known(level, default.level_of_support),
            digital_signature_support=_known(signatures, default.digital_signature_support),
            element_coercion=_known(coercion, default.element_coercion),
        )

    def answer(self, offered: bytes) -> bytes:
        """The same whatever is offered."""
        return bytes(self)


Options = (
    QueryOptions | RetrieveOptions | CompositeRetrieveOptions | WorklistOptions | StorageOptions
)

_ROOTS = (PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY)
_WORKLISTS = {  # behind the first those that refer to it
    "Basic Worklist Management",
    "Unified Procedure Step",
    "Hanging Protocol Query/Retrieve",
    "Color Palette Query/Retrieve",
    "Implant Template Query/Retrieve",
    "Defined Procedure Protocol Query/Retrieve",
    "Protocol Approval Query/Retrieve",
}

OPTIONS: Mapping[str, type[Options]] = {
    **dict.fromkeys((model.find for model in (*_ROOTS, REPOSITORY)), QueryOptions),
    **dict.fromkeys((uid for model in _ROOTS for uid in (model.move, model.get)), RetrieveOptions),
    **dict.fromkeys(
        (COMPOSITE_INSTANCE_ROOT.move, COMPOSITE_INSTANCE_ROOT.get, WITHOUT_BULK_DATA.get),
        CompositeRetrieveOptions,
    ),
    **dict.fromkeys(
        (UPS_PUSH, UPS_EVENT, *(each.find for each in QUERY_MODELS if each.service in _WORKLISTS)),
        WorklistOptions,
    ),
    **dict.fromkeys(
        (uid for uid, sop_class in SOP_CLASSES.items() if sop_class.service == "Storage"),
        StorageOptions,
    ),
}
"""Which options there are, by SOP class; for others none are defined."""


def options_for(sop_class_uid: str) -> type[Options] | None:
    """The class of the options of a SOP class, None where none are defined."""
    return OPTIONS.get(sop_class_uid)


def answers(
    options: Options | None, sop_classes: Iterable[str]
) -> dict[str, Callable[[bytes], bytes] | None]:
    """How an SCP of `sop_classes` that supports `options` answers offers for each: not at all
    where those are of another kind. Raises `MisuseError` when they are so for all."""
    fitting: dict[str, Callable[[bytes], bytes] | None] = {
        uid: options.answer if options is not None and type(options) is OPTIONS.get(uid) else None
        for uid in sop_classes
    }
    if options is not None and not any(fitting.values()):
        raise MisuseError(f"{type(options).__name__} for none of its information models")
    return fitting


_FROM_3D = (Comprehensive3DSRStorage, ExtensibleSRStorage)
_FROM_COMPREHENSIVE = (ComprehensiveSRStorage, *_FROM_3D)
_FROM_ENHANCED = (EnhancedSRStorage, *_FROM_COMPREHENSIVE)

RELATED_GENERAL: dict[str, tuple[str, ...]] = {
    TwelveLeadECGWaveformStorage: (GeneralECGWaveformStorage, General32bitECGWaveformStorage),
    GeneralECGWaveformStorage: (General32bitECGWaveformStorage,),
    DigitalMammographyXRayImageStorageForPresentation: (DigitalXRayImageStorageForPresentation,),
    DigitalMammographyXRayImageStorageForProcessing: (DigitalXRayImageStorageForProcessing,),
    DigitalIntraOralXRayImageStorageForPresentation: (DigitalXRayImageStorageForPresentation,),
    DigitalIntraOralXRayImageStorageForProcessing: (DigitalXRayImageStorageForProcessing,),
    BasicTextSRStorage: _FROM_ENHANCED,
    EnhancedSRStorage: _FROM_COMPREHENSIVE,
    ComprehensiveSRStorage: _FROM_3D,
    Comprehensive3DSRStorage: (ExtensibleSRStorage,),
    ProcedureLogStorage: _FROM_ENHANCED,
    SimplifiedAdultEchoSRStorage: _FROM_ENHANCED,
    XRayRadiationDoseSRStorage: _FROM_ENHANCED,
    RadiopharmaceuticalRadiationDoseSRStorage: _FROM_ENHANCED,
    PatientRadiationDoseSRStorage: _FROM_ENHANCED,
    EnhancedXRayRadiationDoseSRStorage: _FROM_ENHANCED,
    # Enhanced and Comprehensive SR are so only to instances without SCOORD3D content: when an
    # association is requested, nobody knows yet.
    AcquisitionContextSRStorage: _FROM_3D,
    SpectaclePrescriptionReportStorage: (EnhancedSRStorage,),
    MacularGridThicknessAndVolumeReportStorage: (EnhancedSRStorage,),
    EnhancedCTImageStorage: (LegacyConvertedEnhancedCTImageStorage,),
    EnhancedMRImageStorage: (LegacyConvertedEnhancedMRImageStorage,),
    EnhancedPETImageStorage: (LegacyConvertedEnhancedPETImageStorage,),
}
"""What an SCP may take an instance of a storage SOP class for (PS3.4 B.3.1.4)."""


def common_extended(sop_class_uid: str) -> SOPClassCommonExtendedNegotiation:
    """Says that a SOP class, maybe unknown to the peer, is of the Storage service class, and what
    it specializes (PS3.7 D.3.3.6; PS3.4 B.3.1.3, B.3.1.4)."""
    return SOPClassCommonExtendedNegotiation(
        sop_class_uid, STORAGE_SERVICE_CLASS, RELATED_GENERAL.get(sop_class_uid, ())
    )
