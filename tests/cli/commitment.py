"""Peers for `dimse commit` and `dimse mpps`, made with pynetdicom."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, build_role, evt

from tests.peers import free_port

PUSH = "1.2.840.10008.1.20.1"
WELL_KNOWN = "1.2.840.10008.1.20.1.1"
MPPS = "1.2.840.10008.3.1.2.3.3"
SECONDS = 30.0


class Committer:
    """Answers N-ACTION with `status`, and reports what is not in `unknown` as committed.

    It does so on the same association, or, with `reply_port`, on one of its own, with or without
    role selection (`roles`). `asked` is the Action Information, `answered` the status of the SCU.
    """

    def __init__(self) -> None:
        self.port = 0
        self.status = 0x0000
        self.unknown: set[str] = set()
        self.reply_port: int | None = None
        self.roles = True
        self.asked: list[Dataset] = []
        self.answered: list[int] = []
        self._threads: list[Thread] = []

    @contextmanager
    def serving(self) -> Iterator["Committer"]:
        """Listen on 127.0.0.1."""
        self.port = free_port()
        entity = AE(ae_title="ARCHIVE")
        entity.add_supported_context(PUSH)
        handlers: list[Any] = [(evt.EVT_N_ACTION, self._act)]
        server: Any = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers
        )
        try:
            yield self
        finally:
            for thread in self._threads:
                thread.join(SECONDS)
            server.shutdown()

    def _act(self, event: Any) -> tuple[int, None]:
        information = event.action_information
        self.asked.append(information)
        if self.status == 0:
            thread = Thread(target=self._report, args=(event.assoc, information))
            self._threads.append(thread)
            thread.start()
        return self.status, None

    def _report(self, association: Any, asked: Dataset) -> None:
        result = Dataset()
        result.TransactionUID = asked.TransactionUID
        items = asked.ReferencedSOPSequence
        failed = [each for each in items if each.ReferencedSOPInstanceUID in self.unknown]
        for item in failed:
            item.FailureReason = 0x0112
        if failed:
            result.FailedSOPSequence = failed
        committed = [each for each in items if each not in failed]
        if committed:
            result.ReferencedSOPSequence = committed
        event_type = 2 if failed else 1
        if self.reply_port is None:
            self._send(association, result, event_type)
            return
        entity = AE(ae_title="ARCHIVE")
        entity.add_requested_context(PUSH)
        roles: list[Any] = [build_role(PUSH, scp_role=True)] if self.roles else []
        own: Any = entity.associate("127.0.0.1", self.reply_port, ext_neg=roles)
        assert own.is_established
        if not self.roles:  # it is the SCP all the same, as many archives
            for context in own.accepted_contexts:
                context._as_scp = True
        self._send(own, result, event_type)
        own.release()

    def _send(self, association: Any, result: Dataset, event_type: int) -> None:
        status, _ = association.send_n_event_report(result, event_type, PUSH, WELL_KNOWN)
        self.answered.append(status.Status)


class Steps:
    """Answers N-CREATE and N-SET with `status`, and keeps what came in `told`."""

    def __init__(self) -> None:
        self.port = 0
        self.status = 0x0000
        self.told: list[tuple[str, str, Dataset]] = []

    @contextmanager
    def serving(self) -> Iterator["Steps"]:
        """Listen on 127.0.0.1."""
        self.port = free_port()
        entity = AE(ae_title="RIS")
        entity.add_supported_context(MPPS)

        def create(event: Any) -> tuple[int, None]:
            uid = event.request.AffectedSOPInstanceUID
            self.told.append(("N-CREATE", uid, event.attribute_list))
            return self.status, None

        def change(event: Any) -> tuple[int, None]:
            uid = event.request.RequestedSOPInstanceUID
            self.told.append(("N-SET", uid, event.modification_list))
            return self.status, None

        handlers: list[Any] = [(evt.EVT_N_CREATE, create), (evt.EVT_N_SET, change)]
        server: Any = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers
        )
        try:
            yield self
        finally:
            server.shutdown()
