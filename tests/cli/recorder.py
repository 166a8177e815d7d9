"""A peer that writes down what it is asked, made with pynetdicom."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt

SECONDS = 30.0
VERIFICATION = "1.2.840.10008.1.1"

_ENDINGS = {"A_RELEASE_RQ": "released", "A_ABORT_RQ": "aborted"}


class Recorder:
    """Answers C-ECHO and C-STORE of CT images with `status`.

    `asked` are its operations, with their priority where they have one; `requestor` is what the
    last association request said. With `hold`, it does not answer before the test is over.
    """

    def __init__(self) -> None:
        self.port = 0
        self.status = 0x0000
        self.hold = False
        self.asked: list[tuple[str, int | None]] = []
        self.requestor: Any = None
        self.holding = Event()
        self._ended = ""
        self._end = Event()
        self._over = Event()

    def ending(self) -> str:
        """How the requestor ended the association: released or aborted, as its PDU says."""
        assert self._end.wait(SECONDS), "the association is still open"
        return self._ended

    @contextmanager
    def serving(self, address: str = "127.0.0.1", *, ae_title: str = "") -> Iterator["Recorder"]:
        """Listen on `address`, for any called AE title unless there is one."""
        entity = AE(ae_title=ae_title or "RECORDER")
        entity.require_called_aet = bool(ae_title)
        entity.add_supported_context(VERIFICATION)
        entity.add_supported_context(CTImageStorage)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.create_server((address, 0), family=family) as probe:
            self.port = probe.getsockname()[1]
        handlers: list[Any] = [
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_C_ECHO, self._perform),
            (evt.EVT_C_STORE, self._perform),
            (evt.EVT_PDU_RECV, self._received),
        ]
        server: Any = entity.start_server((address, self.port), block=False, evt_handlers=handlers)
        try:
            yield self
        finally:
            self._over.set()
            server.shutdown()

    def _accepted(self, event: Any) -> None:
        self.requestor = event.assoc.requestor

    def _perform(self, event: Any) -> int:
        self.asked.append((event.event.name, getattr(event.request, "Priority", None)))
        if self.hold:
            self.holding.set()
            self._over.wait(SECONDS)
        return self.status

    def _received(self, event: Any) -> None:
        self._ended = _ENDINGS.get(type(event.pdu).__name__, "")
        if self._ended:
            self._end.set()
