"""What makes `twistd dimse` known to Twisted."""

from twisted.application.service import ServiceMaker

dimse = ServiceMaker(
    "dimse",
    "dimse.server.service",
    "DICOM node: keeps what it receives by C-STORE, and answers queries and retrievals.",
    "dimse",
)
