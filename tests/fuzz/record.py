"""Record sessions of DCMTK and pynetdicom, through a proxy: `python -m tests.fuzz.record`.

Each session becomes a file of `corpus/`: a line for each turn, who speaks and what, in
hexadecimal. The data sets are made up here. The files change with each recording (UIDs that the
peers make), so it is run again only to add sessions.
"""

import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)

from tests.fuzz.corpus import FOLDER
from tests.peers import Argument, free_port, run, running, tool

VERIFICATION = "1.2.840.10008.1.1"
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
WORKLIST = "1.2.840.10008.5.1.4.31"
MPPS = "1.2.840.10008.3.1.2.3.3"
COMMITMENT = "1.2.840.10008.1.20.1"
SYNTAXES: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]

Talk = Callable[[int], object]  # what a requestor does with the port of an acceptor


def instance(number: int) -> Dataset:
    """A small image of nobody."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 100"
    made.SOPClassUID, made.SOPInstanceUID = CT_STORAGE, f"1.2.3.4.{number}"
    made.StudyDate, made.StudyTime, made.Modality = "20240102", "030405.6", "CT"
    made.PatientName, made.PatientID, made.PatientBirthDate = "Test^Nobody", "T-1", "19700101"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    made.StudyID, made.SeriesNumber, made.InstanceNumber = "1", 2, number
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99T", "Test"
    made.ProcedureCodeSequence = [code]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows = made.Columns = made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation, made.PixelData = 7, 0, bytes(range(64))
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def identifier(level: str = "STUDY", **keys: str) -> Dataset:
    """The keys of a query."""
    made = Dataset()
    made.QueryRetrieveLevel = level
    for keyword, value in {"StudyInstanceUID": "", **keys}.items():
        setattr(made, keyword, value)
    return made


def match() -> Dataset:
    """An answer to any query."""
    return identifier(StudyInstanceUID="1.2.3", PatientName="Test^Nobody", StudyDate="20240102")


class Proxy:
    """Takes one connection on `port`, passes it on to another, and writes down what is said."""

    def __init__(self, target: int) -> None:
        self.turns: list[tuple[str, bytes]] = []
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def finish(self) -> list[tuple[str, bytes]]:
        """The turns, when both have closed."""
        self._thread.join(30)
        return self.turns

    def _serve(self) -> None:
        near, _ = self._listening.accept()
        self._listening.close()
        with near, socket.create_connection(("127.0.0.1", self._target)) as far:
            pumps = [
                threading.Thread(target=self._pump, args=(near, far, "requestor")),
                threading.Thread(target=self._pump, args=(far, near, "acceptor")),
            ]
            for pump in pumps:
                pump.start()
            for pump in pumps:
                pump.join()

    def _pump(self, source: socket.socket, sink: socket.socket, who: str) -> None:
        while data := self._receive(source):
            with self._lock:
                if self.turns and self.turns[-1][0] == who:
                    self.turns[-1] = (who, self.turns[-1][1] + data)
                else:
                    self.turns.append((who, data))
            with suppress(OSError):  # it has closed already; what comes is written down anyway
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _receive(self, source: socket.socket) -> bytes:
        try:
            return source.recv(65536)
        except ConnectionResetError:
            return b""


def record(name: str, port: int, talk: Talk) -> None:
    """One session, as a file of the corpus."""
    proxy = Proxy(port)
    talk(proxy.port)
    turns = proxy.finish()
    FOLDER.mkdir(exist_ok=True)
    text = "".join(f"{who} {data.hex()}\n" for who, data in turns)
    (FOLDER / f"{name}.txt").write_text(text, encoding="ascii")
    sys.stdout.write(f"{name}: {len(turns)} turns, {sum(len(data) for _, data in turns)} bytes\n")


# What pynetdicom answers


def _find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
    for _ in range(3):
        if event.is_cancelled:
            yield 0xFE00, None
            return
        yield 0xFF00, match()
        time.sleep(0.05)  # time for a C-CANCEL


def _get(event: Any) -> Iterator[Any]:
    yield 2
    for number in (1, 2):
        yield 0xFF00, instance(number)


def _answers(_: Any) -> tuple[int, Dataset]:
    return 0, match()


@contextmanager
def pynetdicom_acceptor(
    move_port: int, title: str = "ARCHIVE", maximum_length: int = 16384
) -> Iterator[int]:
    """An acceptor of everything, for whoever calls it by its title."""

    def move(event: Any) -> Iterator[Any]:
        yield "127.0.0.1", move_port
        yield from _get(event)

    entity = AE(title)
    entity.require_called_aet, entity.maximum_pdu_size = True, maximum_length
    for uid in (VERIFICATION, CT_STORAGE, FIND, MOVE, GET, WORKLIST, MPPS, COMMITMENT):
        entity.add_supported_context(uid, SYNTAXES, scu_role=True, scp_role=True)
    entity.add_requested_context(CT_STORAGE, SYNTAXES)  # for C-MOVE
    handlers: list[Any] = [
        (evt.EVT_C_ECHO, lambda event: 0),
        (evt.EVT_C_STORE, lambda event: 0),
        (evt.EVT_C_FIND, _find),
        (evt.EVT_C_GET, _get),
        (evt.EVT_C_MOVE, move),
        (evt.EVT_N_CREATE, _answers),
        (evt.EVT_N_SET, _answers),
        (evt.EVT_N_GET, _answers),
        (evt.EVT_N_ACTION, _answers),
        (evt.EVT_N_EVENT_REPORT, _answers),
        (evt.EVT_N_DELETE, lambda event: 0),
        (evt.EVT_USER_ID, lambda event: (True, b"response")),
        (evt.EVT_SOP_EXTENDED, lambda event: {FIND: b"\1\1\1"}),
        (evt.EVT_ASYNC_OPS, lambda event: (4, 4)),
    ]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    assert server.socket is not None
    try:
        yield int(server.socket.getsockname()[1])
    finally:
        server.shutdown()


# What pynetdicom asks for


def associated(talk: Callable[[Any], object], uids: Sequence[str], **options: Any) -> Talk:
    """A session in which pynetdicom is the requestor."""

    def session(port: int) -> None:
        entity = AE("MODALITY")
        contexts = [build_context(uid, SYNTAXES) for uid in uids]
        association = entity.associate(
            "127.0.0.1", port, contexts, ae_title=options.pop("title", "ARCHIVE"), **options
        )
        if association.is_established:
            talk(association)
            if association.is_established:
                association.release()

    return session


def _user_information() -> list[Any]:
    """One of each that an association can negotiate."""
    extended, common = SOPClassExtendedNegotiation(), SOPClassCommonExtendedNegotiation()
    extended.sop_class_uid, extended.service_class_application_information = FIND, b"\1\1\1\0\1"
    common.sop_class_uid, common.service_class_uid = CT_STORAGE, "1.2.840.10008.4.2"
    common.related_general_sop_class_identification = [CT_STORAGE]
    window, identity = AsynchronousOperationsWindowNegotiation(), UserIdentityNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 5
    identity.user_identity_type, identity.positive_response_requested = 2, True
    identity.primary_field, identity.secondary_field = b"nobody", b"nothing"
    return [extended, common, window, identity, build_role(CT_STORAGE, True, True)]


def _normalized(association: Any) -> None:
    well_known = "1.2.840.10008.1.20.1.1"
    association.send_n_create(match(), MPPS, "1.2.9", 1)
    association.send_n_set(match(), MPPS, "1.2.9", 2)
    association.send_n_get([0x00100010, 0x00100020], MPPS, "1.2.9", 3)
    association.send_n_action(match(), 1, COMMITMENT, well_known, 4)
    association.send_n_event_report(match(), 1, COMMITMENT, well_known, 5)
    association.send_n_delete(MPPS, "1.2.9", 6)


def _store(association: Any) -> None:
    for number in (1, 2):
        association.send_c_store(instance(number), number)


def _cancel(association: Any) -> None:
    answers = association.send_c_find(identifier(), FIND, msg_id=1)
    next(answers)
    association.send_c_cancel(1, query_model=FIND)
    list(answers)


def _get_here(association: Any) -> None:
    association.bind(evt.EVT_C_STORE, lambda event: 0)
    list(association.send_c_get(identifier(StudyInstanceUID="1.2.3"), GET))


def _move(association: Any) -> None:
    list(association.send_c_move(identifier(StudyInstanceUID="1.2.3"), "OTHER", MOVE))


def pynetdicom_sessions() -> dict[str, Talk]:
    """By name."""
    return {
        "echo": associated(lambda a: a.send_c_echo(), [VERIFICATION]),
        "everything-negotiated": associated(
            lambda a: a.send_c_echo(),
            [VERIFICATION, CT_STORAGE, FIND, WORKLIST, "1.2.3.4.5"],
            ext_neg=_user_information(),
        ),
        "store": associated(_store, [CT_STORAGE]),
        "find": associated(
            lambda a: list(a.send_c_find(identifier(PatientName="T*"), FIND)), [FIND]
        ),
        "find-cancelled": associated(_cancel, [FIND]),
        "get": associated(
            _get_here, [GET, CT_STORAGE], ext_neg=[build_role(CT_STORAGE, False, True)]
        ),
        "move": associated(_move, [MOVE]),
        "normalized": associated(_normalized, [MPPS, COMMITMENT]),
        "aborted": associated(lambda a: (a.send_c_echo(), a.abort()), [VERIFICATION]),
        "no-context": associated(lambda a: None, ["1.2.3.4.5"]),
    }


# What DCMTK asks for


def dcmtk_sessions(file: Path, folder: Path) -> dict[str, Talk]:
    """By name."""

    def asks(name: str, *options: Argument, files: Sequence[Path] = ()) -> Talk:
        titles = ("-aet", "MODALITY", "-aec", "ARCHIVE")
        return lambda port: run([tool(name), *titles, *options, "127.0.0.1", str(port), *files])

    keys = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3")
    return {
        "echo": asks("echoscu", "--repeat", "2"),
        "echo-aborted": asks("echoscu", "--abort"),
        "echo-many-contexts": asks("echoscu", "-ppc", "8", "-pts", "12"),
        "store": asks("storescu", "-R", files=[file]),
        "store-all-contexts": asks("storescu", files=[file]),
        "find": asks("findscu", *keys, "-k", "PatientName"),
        "find-cancelled": asks("findscu", "--cancel", "1", *keys),
        "worklist": asks("findscu", "-W", "-k", "PatientName", "-k", "PatientID"),
        "get": asks("getscu", *keys, "-od", folder),
        "move": asks("movescu", *keys, "-aem", "OTHER"),
    }


CONFIGURATION = """
MaxPDUSize = 16384
MaxAssociations = 8
HostTable BEGIN
other = (OTHER, 127.0.0.1, {move_port})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
ARCHIVE {folder} RW (10, 64mb) ANY
AETable END
"""


# What it does not do, and what would be large and the same once more.
NOT_TO_DCMQRSCP = ("normalized", "worklist", "find-cancelled", "dcmtk-get", "contexts")


def main() -> None:
    """Record all."""
    with tempfile.TemporaryDirectory() as name, pynetdicom_acceptor(0, "OTHER") as other:
        folder = Path(name)
        file, storage = folder / "instance.dcm", folder / "archive"
        dcmwrite(file, instance(1), enforce_file_format=True)
        storage.mkdir()
        talks = {
            **{f"pynetdicom-{name}": talk for name, talk in pynetdicom_sessions().items()},
            **{f"dcmtk-{name}": talk for name, talk in dcmtk_sessions(file, folder).items()},
        }
        with pynetdicom_acceptor(other) as port:
            for session, talk in talks.items():
                record(f"{session}-to-pynetdicom", port, talk)
        with pynetdicom_acceptor(other, maximum_length=128) as port:
            for session in ("pynetdicom-store", "dcmtk-store"):
                record(f"{session}-in-fragments", port, talks[session])
        record("dcmtk-echo-rejected", other, talks["dcmtk-echo"])
        configuration = folder / "configuration"
        configuration.write_text(CONFIGURATION.format(folder=storage, move_port=other))
        record_with_dcmtk(configuration, folder, talks)


def record_with_dcmtk(configuration: Path, folder: Path, talks: dict[str, Talk]) -> None:
    """Those with an acceptor of DCMTK; what is stored comes first."""
    port = free_port()
    with running([tool("dcmqrscp"), "-c", configuration, str(port)], port):
        for session in sorted(talks, key=lambda session: "store" not in session):
            if not session.endswith(NOT_TO_DCMQRSCP):
                record(f"{session}-to-dcmqrscp", port, talks[session])
    for option in ("refuse", "abort-during", "abort-after"):
        port = free_port()
        with running([tool("storescp"), f"--{option}", "-od", folder, str(port)], port):
            record(f"dcmtk-store-to-storescp-{option}", port, talks["dcmtk-store"])


if __name__ == "__main__":
    main()
