"""The attributes of a Modality Performed Procedure Step, as one table (PS3.4 F.7.2)."""

from dimse.services.attributes import Attribute, Attributes


def _code(meaning: str, *, is_set: bool) -> dict[str, Attribute]:
    """A coded entry (PS3.4 Tables F.7.2-1a to 1f), which N-SET may have or not."""
    value, same, optional = ("3/1C", "1C", "3") if is_set else ("", "", "")
    entry = {
        "CodeValue": Attribute("1C", value, unless=("LongCodeValue", "URNCodeValue")),
        "CodingSchemeDesignator": Attribute("1C", same, given=("CodeValue", "LongCodeValue")),
        "CodingSchemeVersion": Attribute("1C", same),
        "CodeMeaning": Attribute(meaning, meaning if is_set else ""),
        "LongCodeValue": Attribute("1C", value, unless=("CodeValue", "URNCodeValue")),
        "URNCodeValue": Attribute("1C", value, unless=("CodeValue", "LongCodeValue")),
        "MappingResource": Attribute("3", optional),
        "MappingResourceUID": Attribute("3", optional),
        "ContextGroupVersion": Attribute("3", optional),
        "ContextGroupExtensionFlag": Attribute("3", optional),
        "ContextGroupLocalVersion": Attribute("3", optional),
        "ContextGroupExtensionCreatorUID": Attribute("3", optional),
    }
    return entry | {"EquivalentCodeSequence": Attribute("3", optional, items=entry)}


_SCHEDULED_CODE = _code("1", is_set=False)  # F.7.2-1a
_REASON_CODE = _code("1", is_set=True)  # F.7.2-1c
_PERFORMED_CODE = _code("3", is_set=True)  # F.7.2-1e

_SCHEDULED_REFERENCE = {
    "ReferencedSOPClassUID": Attribute("1"),
    "ReferencedSOPInstanceUID": Attribute("1"),
}
_PERFORMED_REFERENCE = {
    "ReferencedSOPClassUID": Attribute("1", "1"),
    "ReferencedSOPInstanceUID": Attribute("1", "1"),
}
_ISSUER = {
    "LocalNamespaceEntityID": Attribute("1C", unless=("UniversalEntityID",)),
    "UniversalEntityID": Attribute("1C", unless=("LocalNamespaceEntityID",)),
    "UniversalEntityIDType": Attribute("1C", given=("UniversalEntityID",)),
}
_PATIENT_ID_ISSUER = {
    "UniversalEntityID": Attribute("3"),
    "UniversalEntityIDType": Attribute("1C", given=("UniversalEntityID",)),
}

PROCEDURE_STEP: Attributes = {
    "SpecificCharacterSet": Attribute("1C", "1C"),
    # Performed Procedure Step Relationship
    "ScheduledStepAttributesSequence": Attribute(
        "1",
        items={
            "StudyInstanceUID": Attribute("1"),
            "ReferencedStudySequence": Attribute("2", items=_SCHEDULED_REFERENCE),
            "AccessionNumber": Attribute("2"),
            "IssuerOfAccessionNumberSequence": Attribute("3", items=_ISSUER),
            "PlacerOrderNumberImagingServiceRequest": Attribute("3"),
            "OrderPlacerIdentifierSequence": Attribute("3", items=_ISSUER),
            "FillerOrderNumberImagingServiceRequest": Attribute("3"),
            "OrderFillerIdentifierSequence": Attribute("3", items=_ISSUER),
            "RequestedProcedureID": Attribute("2"),
            "RequestedProcedureCodeSequence": Attribute("3", items=_SCHEDULED_CODE),
            "RequestedProcedureDescription": Attribute("2"),
            "ScheduledProcedureStepID": Attribute("2"),
            "ScheduledProcedureStepDescription": Attribute("2"),
            "ScheduledProtocolCodeSequence": Attribute("2", items=_SCHEDULED_CODE),
        },
    ),
    "PatientName": Attribute("2"),
    "PatientID": Attribute("2"),
    "IssuerOfPatientID": Attribute("3"),
    "IssuerOfPatientIDQualifiersSequence": Attribute("3", items=_PATIENT_ID_ISSUER),
    "OtherPatientIDsSequence": Attribute(
        "3",
        items={
            "PatientID": Attribute("3"),
            "IssuerOfPatientID": Attribute("3"),
            "IssuerOfPatientIDQualifiersSequence": Attribute("3"),
            "TypeOfPatientID": Attribute("3"),
        },
    ),
    "PatientBirthDate": Attribute("2"),
    "PatientSex": Attribute("2"),
    "ReferencedPatientSequence": Attribute("2", items=_SCHEDULED_REFERENCE),
    "AdmissionID": Attribute("3"),
    "IssuerOfAdmissionIDSequence": Attribute("3", items=_ISSUER),
    "ServiceEpisodeID": Attribute("3"),
    "IssuerOfServiceEpisodeIDSequence": Attribute("3", items=_ISSUER),
    "ServiceEpisodeDescription": Attribute("3"),
    # Performed Procedure Step Information
    "PerformedProcedureStepID": Attribute("1"),
    "PerformedStationAETitle": Attribute("1"),
    "PerformedStationName": Attribute("2"),
    "PerformedLocation": Attribute("2"),
    "PerformedProcedureStepStartDate": Attribute("1"),
    "PerformedProcedureStepStartTime": Attribute("1"),
    "PerformedProcedureStepStatus": Attribute("1", "3/1"),
    "PerformedProcedureStepDescription": Attribute("2", "3/2"),
    "PerformedProcedureTypeDescription": Attribute("2", "3/2"),
    "ProcedureCodeSequence": Attribute("2", "3/2", items=_PERFORMED_CODE),
    "ReasonForPerformedProcedureCodeSequence": Attribute("3", "3", items=_REASON_CODE),
    "PerformedProcedureStepEndDate": Attribute("2", "3/1", "1"),
    "PerformedProcedureStepEndTime": Attribute("2", "3/1", "1"),
    "CommentsOnThePerformedProcedureStep": Attribute("3", "3"),
    "PerformedProcedureStepDiscontinuationReasonCodeSequence": Attribute(
        "3", "3", items=_REASON_CODE
    ),
    # Image Acquisition Results
    "Modality": Attribute("1"),
    "StudyID": Attribute("2"),
    "PerformedProtocolCodeSequence": Attribute("2", "3/2", items=_PERFORMED_CODE),
    "PerformedSeriesSequence": Attribute(
        "2",
        "3/1",
        "1",
        items={
            "PerformingPhysicianName": Attribute("2", "2", "2"),
            "ProtocolName": Attribute("1", "1", "1"),
            "OperatorsName": Attribute("2", "2", "2"),
            "SeriesInstanceUID": Attribute("1", "1", "1"),
            "SeriesDescription": Attribute("2", "2", "2"),
            "RetrieveAETitle": Attribute("2", "2", "2"),
            "ArchiveRequested": Attribute("3", "3"),
            "ReferencedImageSequence": Attribute(
                "2",
                "2",
                items=_PERFORMED_REFERENCE
                | {
                    "ContainerIdentifier": Attribute("3", "3"),
                    "SpecimenDescriptionSequence": Attribute(
                        "3",
                        "3",
                        items={
                            "SpecimenIdentifier": Attribute("1", "1"),
                            "SpecimenUID": Attribute("1", "1"),
                        },
                    ),
                },
            ),
            "ReferencedNonImageCompositeSOPInstanceSequence": Attribute(
                "2", "2", items=_PERFORMED_REFERENCE
            ),
        },
    ),
}
"""By keyword, the types of usage in N-CREATE, N-SET and the final state (PS3.4 Table F.7.2-1)."""
