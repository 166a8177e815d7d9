"""What the status codes of every service mean, as one table (PS3.7 Annex C, 9.1, 10.1; PS3.4)."""

from typing import NamedTuple

_Codes = dict[int | range, str]

_ALL_C = "C-STORE, C-FIND, C-GET, C-MOVE, C-ECHO"
_ALL_N = "N-EVENT-REPORT, N-GET, N-SET, N-ACTION, N-CREATE, N-DELETE"

_FIND: _Codes = {
    0x0000: "Matching complete; no identifier",
    0xA700: "Refused: out of resources",
    0xA900: "Error: identifier does not match the SOP Class",
    range(0xC000, 0xD000): "Failed: unable to process",
    0xFE00: "Matching ended by C-CANCEL",
    0xFF00: "One match supplied; all optional keys supported like required keys",
}
_WORKLIST: _Codes = _FIND | {
    0xFF01: "One match supplied; one or more optional keys not supported for existence",
}
_GET: _Codes = {
    0x0000: "Sub-operations complete; no failure or warning",
    0xA701: "Refused: out of resources - number of matches cannot be computed",
    0xA702: "Refused: out of resources - sub-operations cannot be done",
    0xA900: "Error: identifier does not match the SOP Class",
    0xB000: "Sub-operations complete; one or more failures or warnings",
    range(0xC000, 0xD000): "Failed: unable to process",
    0xFE00: "Sub-operations ended by C-CANCEL",
    0xFF00: "Sub-operations continue",
}
_MOVE: _Codes = _GET | {
    0x0000: "Sub-operations complete; no failure",
    0xA801: "Refused: move destination unknown",
    0xB000: "Sub-operations complete; one or more failures (or warnings)",
}
_FRAMES: _Codes = {
    0xAA00: "Failed: none of the requested frames is in the instance",
    0xAA01: "Failed: a new object of this SOP Class cannot be made",
    0xAA02: "Failed: frames cannot be extracted",
    0xAA03: "Failed: time-based request on an instance that is not time-based",
    0xAA04: "Failed: invalid request",
}
_NON_PATIENT_OBJECTS = {"C-FIND": _WORKLIST, "C-MOVE": _MOVE, "C-GET": _GET}

_DEMAGNIFIED = "Image larger than image box; demagnified"
_CROPPED = "Image larger than image box; cropped"
_DECIMATED = "Image or combined print image larger than image box; decimated"
_DENSITY = "Requested min or max density outside printer range; printer limit used"
_IMAGE_TOO_LARGE = "Image larger than image box"
_COMBINED_TOO_LARGE = "Combined print image larger than image box"
_QUEUE_FULL = "Print Job instance cannot be created; print queue full"
_IMAGE_BOX: _Codes = {
    0xB604: _DEMAGNIFIED,
    0xB609: _CROPPED,
    0xB60A: _DECIMATED,
    0xC603: _IMAGE_TOO_LARGE,
    0xC605: "Printer lacks memory to store the image",
    0xC613: _COMBINED_TOO_LARGE,
}

_UNSUPPORTED_OPTIONAL: _Codes = {0x0001: "Requested optional attributes are not supported"}
_UNKNOWN_UPS = "Instance unknown or not managed by this SCP"
_NO_VERIFICATION: _Codes = {0xC112: "Machine Verification instance not found"}

STATUSES: dict[str, dict[str, _Codes]] = {
    "": {  # PS3.7 Annex C; the operations are those of 9.1 and 10.1
        f"{_ALL_C}, {_ALL_N}": {0x0000: "Success"},
        _ALL_C: {0x0122: "Refused: SOP Class not supported"},
        "C-FIND, C-GET, C-MOVE": {0xFE00: "Ended because of a C-CANCEL request"},
        f"C-STORE, {_ALL_N}": {0x0117: "Invalid SOP Instance"},
        f"C-STORE, C-GET, C-MOVE, C-ECHO, {_ALL_N}": {
            0x0210: "Duplicate invocation",
            0x0211: "Unrecognized operation",
            0x0212: "Mistyped argument",
        },
        "C-STORE, C-GET, C-MOVE, N-GET, N-SET, N-ACTION, N-CREATE, N-DELETE": {
            0x0124: "Refused: not authorized",
        },
        _ALL_N: {
            0x0110: "Processing failure",
            0x0118: "No such SOP Class",
            0x0213: "Resource limitation",
        },
        "N-EVENT-REPORT, N-GET, N-SET, N-ACTION, N-DELETE": {
            0x0112: "No such SOP Instance",
            0x0119: "Class-instance conflict",
        },
        "N-EVENT-REPORT, N-ACTION": {
            0x0114: "No such argument",
            0x0115: "Invalid argument value",
        },
        "N-EVENT-REPORT": {0x0113: "No such event type"},
        "N-ACTION": {0x0123: "No such action type"},
        "N-GET, N-SET, N-CREATE": {0x0107: "Attribute list error"},
        "N-SET, N-CREATE": {
            0x0105: "No such attribute",
            0x0106: "Invalid attribute value",
            0x0116: "Attribute value out of range",
            0x0121: "Missing attribute value",
        },
        "N-CREATE": {
            0x0111: "Duplicate SOP Instance",
            0x0120: "Missing attribute",
        },
    },
    "Verification": {"C-ECHO": {0x0000: "Communication verified"}},  # A.3
    "Storage": {  # B.2.3
        "C-STORE": {
            0x0000: "Stored",
            range(0xA700, 0xA800): "Refused: out of resources",
            range(0xA900, 0xAA00): "Error: data set does not match the SOP Class",
            0xB000: "Stored; data elements coerced",
            0xB006: "Stored; elements discarded",
            0xB007: "Stored; data set does not match the SOP Class",
            range(0xC000, 0xD000): "Error: cannot understand",
        }
    },
    "Non-Patient Object Storage": {  # GG.4.2
        "C-STORE": {
            0x0000: "Stored",
            0xA700: "Refused: out of resources",
            0xA900: "Error: data set does not match the SOP Class",
            0xC000: "Error: cannot understand",
        }
    },
    "Query/Retrieve": {  # C.4; Z.4
        "C-FIND": _FIND
        | {
            0xFF01: "One match supplied; one or more optional keys not supported for existence "
            "and/or matching",
        },
        "C-MOVE": _MOVE,
        "C-GET": _GET,
    },
    "Query/Retrieve (Repository Query)": {  # C.6.4.3
        "C-FIND": {
            0xA710: "Prior Record Key not valid",
            0xB001: "Response limit reached (final response); a further request may return more",
        }
    },
    "Query/Retrieve (Composite Instance Root Retrieve)": {  # Y.4
        "C-MOVE": _FRAMES | {code: _GET[code] for code in (0x0000, 0xB000)},
        "C-GET": _FRAMES,
    },
    "Hanging Protocol Query/Retrieve": _NON_PATIENT_OBJECTS,  # U.4
    "Color Palette Query/Retrieve": _NON_PATIENT_OBJECTS,  # X.4
    "Implant Template Query/Retrieve": _NON_PATIENT_OBJECTS,  # BB.4
    "Defined Procedure Protocol Query/Retrieve": _NON_PATIENT_OBJECTS,  # HH.4
    "Protocol Approval Query/Retrieve": _NON_PATIENT_OBJECTS,  # II.4
    "Inventory Query/Retrieve": _NON_PATIENT_OBJECTS,  # JJ.3
    "Basic Worklist Management": {"C-FIND": _WORKLIST},  # K.4.1.1.4
    "Substance Administration Query": {"C-FIND": _WORKLIST},  # V.4.1.1.4
    "Relevant Patient Information Query": {  # Q.2.1.1.4
        "C-FIND": {
            0x0000: "Matching complete; no identifier",
            0xA700: "Refused: out of resources",
            0xA900: "Error: identifier does not match the SOP Class",
            0xC000: "Failed: unable to process",
            0xC100: "Failed: more than one match found",
            0xC200: "Failed: requested template not supported",
            0xFE00: "Matching ended by C-CANCEL",
            0xFF00: "The match is supplied (at most one)",
        }
    },
    "Procedure Step (MPPS)": {  # F.7.2
        "N-CREATE": {0x0106: "Performed Procedure Step Status is not IN PROGRESS in the request"},
        "N-SET": {
            0x0106: "Allowed when a needed character set conversion cannot be done (note)",
            0x0110: "The object may no longer be updated (status is no longer IN PROGRESS)",
        },
    },
    "Procedure Step (MPPS Retrieve)": {  # F.8
        "N-GET": _UNSUPPORTED_OPTIONAL | {0x0112: "The object is no longer available"},
    },
    "Unified Procedure Step": {  # CC.2
        "C-FIND": _WORKLIST,
        "N-CREATE": {
            0x0000: "Created as requested",
            0x0111: "The SOP Instance UID already exists (state table)",
            0xB300: "Created with modifications",
            0xC309: "Procedure Step State in the request is not SCHEDULED",
        },
        "N-SET": _UNSUPPORTED_OPTIONAL
        | {
            0x0000: "Modified as requested",
            0xB305: "Invalid values coerced to valid ones",
            0xC300: "The UPS may no longer be updated",
            0xC301: "The correct Transaction UID was not provided",
            0xC307: _UNKNOWN_UPS,
            0xC310: "The UPS is not IN PROGRESS",
        },
        "N-GET": _UNSUPPORTED_OPTIONAL | {0xC307: _UNKNOWN_UPS},
        "N-ACTION 1": {  # Change UPS State
            0x0000: "State changed",
            0xB304: "Already CANCELED as requested",
            0xB306: "Already COMPLETED as requested",
            0xC300: "The UPS may no longer be updated",
            0xC301: "The correct Transaction UID was not provided",
            0xC302: "The UPS is already IN PROGRESS",
            0xC303: "SCHEDULED can only be reached by N-CREATE",
            0xC304: "Final state requirements not met",
            0xC307: _UNKNOWN_UPS,
            0xC310: "The UPS is not yet IN PROGRESS",
        },
        "N-ACTION 2": {  # Request UPS Cancel
            0x0000: "Cancel request acknowledged",
            0xB304: "Already CANCELED",
            0xC307: _UNKNOWN_UPS,
            0xC311: "Already COMPLETED",
            0xC312: "The performer cannot be contacted",
            0xC313: "The performer chooses not to cancel",
        },
        "N-ACTION 3, N-ACTION 4, N-ACTION 5": {  # the subscriptions
            0x0000: "Subscription state changed",
            0xB301: "Subscribed but deletion lock not granted",
            0xC307: "Instance unknown or not managed (also: filtered global subscription not "
            "supported)",
            0xC308: "Receiving AE Title unknown to this SCP",
            0xC314: "Action not suited to the instance",
            0xC315: "The SCP does not support event reports",
        },
    },
    "RT Machine Verification": {  # DD.3.2
        "N-CREATE": {
            0x0000: "Created",
            0xC221: "Referenced Fraction Group Number not in the plan",
            0xC222: "No beams in the referenced fraction group",
            0xC223: "Already verifying; cannot process this request now",
            0xC227: "Referenced RT Plan not found",
        },
        "N-SET": {
            0x0000: "Updated",
            0xC224: "Referenced Beam Number not in the referenced fraction group",
            0xC225: "Referenced device or accessory not supported",
            0xC226: "Referenced device or accessory not found in the referenced beam",
        },
        "N-GET": _NO_VERIFICATION | {0x0000: "Verification status returned"},
        "N-ACTION": _NO_VERIFICATION | {0x0000: "Verification started"},
    },
    "Print Management (Basic Film Session)": {  # H.4.1.2
        "N-CREATE, N-SET": {
            0x0000: "Film session created or updated",
            0xB600: "Memory allocation not supported",
        },
        "N-ACTION": {
            0x0000: "Film session accepted for printing; Print Job created if supported",
            0xB601: "Film session printing (collation) not supported",
            0xB602: "Film session holds no image boxes (empty page)",
            0xB604: _DEMAGNIFIED,
            0xB609: _CROPPED,
            0xB60A: _DECIMATED,
            0xC600: "Film session holds no film boxes",
            0xC601: _QUEUE_FULL,
            0xC603: _IMAGE_TOO_LARGE,
            0xC613: _COMBINED_TOO_LARGE,
        },
    },
    "Print Management (Basic Film Box)": {  # H.4.2.2
        "N-CREATE, N-SET": {
            0x0000: "Film box created or updated",
            0xB605: _DENSITY,
            0xC616: "An unprinted film box exists and film session N-ACTION is not supported; "
            "no new film box",
        },
        "N-ACTION": {
            0x0000: "Film accepted for printing; Print Job created if supported",
            0xB603: "Film box holds no image boxes (empty page)",
            0xB604: _DEMAGNIFIED,
            0xB609: _CROPPED,
            0xB60A: _DECIMATED,
            0xC602: _QUEUE_FULL,
            0xC603: _IMAGE_TOO_LARGE,
            0xC613: _COMBINED_TOO_LARGE,
        },
    },
    "Print Management (Basic Grayscale Image Box)": {  # H.4.3.1.2
        "N-SET": _IMAGE_BOX | {0x0000: "Image stored in the image box", 0xB605: _DENSITY},
    },
    "Print Management (Basic Color Image Box)": {"N-SET": _IMAGE_BOX},  # H.4.3.2.2
    "Print Management (Presentation LUT)": {  # H.4.9.2
        "N-CREATE": {0x0000: "Presentation LUT created", 0xB605: _DENSITY},
    },
    "Media Creation Management": {  # S.3.2
        "N-CREATE": {
            0xA510: "An Initiate Media Creation action was already received for this instance",
        },
        "N-ACTION 2": {  # Cancel Media Creation
            0xC201: "Request already completed",
            0xC202: "Request in progress and cannot be interrupted",
            0xC203: "Cancellation denied for unspecified reason",
        },
        "N-GET": _UNSUPPORTED_OPTIONAL,
    },
    "Application Event Logging (Procedural Event Logging)": {  # P.2.2.4
        "N-ACTION": {
            0x0000: "Logged",
            0xB101: "Synchronization Frame of Reference UID does not match that of the SCP",
            0xB102: "Logged under a different Study Instance UID",
            0xB104: "Logged although IDs are inconsistent with a current study",
            0xC101: "No procedural logging for the Study Instance UID",
            0xC102: "Event information does not match the template",
            0xC103: "Event cannot be matched to a current study",
            0xC104: "IDs inconsistent with a current study; not logged",
        }
    },
    "Application Event Logging (Substance Administration Logging)": {  # P.3.2.4
        "N-ACTION": {
            0x0000: "Logged",
            0xC10E: "Operator not authorized to add an entry",
            0xC110: "Patient cannot be identified from Patient ID or Admission ID",
            0xC111: "Update of the record failed",
        }
    },
    "Storage Management (Inventory Creation)": {  # KK.2.2.3
        "N-ACTION": {
            0x0000: "Request received",
            0x0212: "A parameter was not agreed (for example character set, matching mechanism or "
            "inventory level not supported)",
            0xB010: "One or more key attributes are not supported for matching",
        }
    },
}
"""By service and operations, what a code or a range of codes means.

"" has the codes of all services, `Service` adds its own, and `Service (part)` those of a part of
it. An operation with a number is the action of that Action Type ID. The clauses beside the services
are those of PS3.4.
"""


class Row(NamedTuple):
    """What a range of status codes means as the answer to an operation of a service."""

    service: str
    operation: str
    codes: range
    meaning: str


ROWS: tuple[Row, ...] = tuple(
    Row(service, operation, codes if isinstance(codes, range) else range(codes, codes + 1), meaning)
    for service, tables in STATUSES.items()
    for operations, table in tables.items()
    for operation in operations.split(", ")
    for codes, meaning in table.items()
)
"""`STATUSES`, one operation at a time."""
