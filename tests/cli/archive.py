"""An archive that answers as it is told, made with pynetdicom."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt

from dimse.sop_classes import MODALITY_WORKLIST, PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT

CANCEL = 0xFE00
SECONDS = 30.0

_MODELS = (PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY, MODALITY_WORKLIST)


def image(uid: str, *, size: int = 100_000) -> Dataset:
    """A CT image."""
    instance = Dataset()
    instance.SOPClassUID, instance.SOPInstanceUID = CTImageStorage, uid
    instance.PatientName = "Secret^Name"
    instance.PixelData = bytes(size)
    instance["PixelData"].VR = "OW"
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return instance


class Archive:
    """Answers C-FIND with `matches` and then `status`, C-GET and C-MOVE by sending `images`.

    `identifiers` are what it was asked, `models` by which SOP class; `extended` is what it answers
    to extended negotiation, and `offered` what was offered. `refusal`, if
    there is one, holds the status of C-FIND and C-GET with what comes beside it, and `pending` is
    that of a match. Destinations of C-MOVE are `places`, by
    AE title. With `hold`, it waits before each answer to be cancelled, aborted or stopped.
    """

    def __init__(self) -> None:
        self.port = 0
        self.matches: list[Dataset] = []
        self.images: list[Dataset] = []
        self.status = 0x0000
        self.pending = 0xFF00
        self.refusal: Dataset | None = None
        self.extended: bytes | None = None
        self.offered: dict[str, bytes] = {}
        self.places: dict[str, int] = {}
        self.identifiers: list[Dataset] = []
        self.models: list[str] = []
        self.contexts: list[tuple[str, list[str]]] = []
        self.hold = False
        self.holding = Event()
        self.cancelled = Event()
        self._over = Event()

    @contextmanager
    def serving(self) -> Iterator["Archive"]:
        """Listen on 127.0.0.1."""
        entity = AE(ae_title="ARCHIVE")
        for model in _MODELS:
            for uid in model.sop_classes:
                entity.add_supported_context(uid)
        entity.add_supported_context(CTImageStorage, scu_role=False, scp_role=True)
        entity.add_requested_context(CTImageStorage)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        handlers: list[Any] = [
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_SOP_EXTENDED, self._extended),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_C_GET, self._get),
            (evt.EVT_C_MOVE, self._move),
        ]
        address = ("127.0.0.1", self.port)
        server: Any = entity.start_server(address, block=False, evt_handlers=handlers)
        try:
            yield self
        finally:
            self._over.set()
            server.shutdown()

    def _accepted(self, event: Any) -> None:
        self.contexts = [
            (str(each.abstract_syntax), list(map(str, each.transfer_syntax)))
            for each in event.assoc.requestor.primitive.presentation_context_definition_list
        ]

    def _extended(self, event: Any) -> dict[str, bytes]:
        self.offered = event.app_info
        return {} if self.extended is None else dict.fromkeys(event.app_info, self.extended)

    def _asked(self, event: Any) -> None:
        self.identifiers.append(event.identifier)
        self.models.append(str(event.request.AffectedSOPClassUID))

    def _stopped(self, event: Any) -> bool:
        """Whether it was cancelled; with `hold`, wait for that, or for the end."""
        self.holding.set()
        while event.assoc.is_established:
            if event.is_cancelled:  # says so once
                self.cancelled.set()
                return True
            if not self.hold or self._over.wait(0.01):
                break
        return False

    def _find(self, event: Any) -> Iterator[tuple[Any, Dataset | None]]:
        self._asked(event)
        for match in self.matches:
            yield self.pending, match
            if self._stopped(event):
                yield CANCEL, None
                return
        if self.refusal is not None:
            yield self.refusal, None
        if self.status:
            yield self.status, None

    def _get(self, event: Any) -> Iterator[Any]:
        self._asked(event)
        if self.refusal is not None:
            yield 1
            yield self.refusal, None
            return
        yield len(self.images) or 1  # with none, it would be a success at once
        for instance in self.images:
            if self._stopped(event):
                yield CANCEL, None
                return
            yield 0xFF00, instance
        if self.status:
            yield self.status, None

    def _move(self, event: Any) -> Iterator[Any]:
        self._asked(event)
        port = self.places.get(event.move_destination)
        if port is None:
            yield None, None
            return
        yield "127.0.0.1", port
        yield len(self.images)
        for instance in self.images:
            yield 0xFF00, instance
