"""What makes `twistd dimse` known to Twisted."""

from twisted.application.service import ServiceMaker

dimse = ServiceMaker(
    "dimse",
    "dimse.server.service",
    "DICOM node: answers C-ECHO and stores what it receives by C-STORE.",
    "dimse",
)
