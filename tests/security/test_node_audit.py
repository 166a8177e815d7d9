"""A node with an audit trail, and collectors with sockets on loopback."""

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import crypto
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from twisted.internet import reactor  # noqa: TID253  pytest-twisted has installed it
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.ssl import PrivateCertificate
from twisted.logger import capturedLogs, formatEvent

from dimse import (
    STUDY_ROOT,
    AssociationRejectedError,
    MisuseError,
    associate,
    echo,
    find,
    store,
)
from dimse.server.node import Node
from dimse.server.options import Options
from dimse.server.service import makeService
from tests.archive.archives import data_set
from tests.peers import free_port
from tests.security.schema import checked
from tests.security.test_syslog import Datagrams, Receivers, certificate, of_stream, until
from tests.server.test_service import made, start
from tests.wire import EXPLICIT, VERIFICATION

REACTOR: Any = reactor
START = "Application Activity"
ALL = [START, "DICOM Instances Transferred", "Query", "Security Alert", START]


def events(messages: list[bytes]) -> list[str]:
    """What each record is about; each is one of the schema."""
    names = []
    for message in messages:
        header, bom, xml = message.partition(b"\xef\xbb\xbf")
        assert header.startswith(b"<85>1 ")
        assert b" dimse " in header
        assert header.endswith(b" DICOM+RFC3881 - ")
        assert bom
        event = checked(xml).find("EventIdentification/EventID")
        assert event is not None
        names.append(event.get("originalText", ""))
    return names


async def use(address: str) -> None:
    """Store an instance, query, and call the node by a wrong name."""
    contexts: list[Any] = [(CTImageStorage, [EXPLICIT])]
    async with associate(address, contexts, called_ae_title="ARCHIVE") as association:
        assert await store(association, data_set("1.2.0.1.1")) == 0
    keys = Dataset()
    keys.QueryRetrieveLevel, keys.PatientName = "STUDY", "Doe*"
    async with associate(address, [STUDY_ROOT.find], called_ae_title="ARCHIVE") as association:
        assert len(await find(association, keys)) == 1
    with pytest.raises(AssociationRejectedError):
        await associate(address, [VERIFICATION], called_ae_title="OTHER")


def node(folder: Path, *args: str) -> tuple[Node, str]:
    return made(folder / "store", "--aet", "ARCHIVE", *args)


@pytest_twisted.ensureDeferred
async def test_records_go_to_a_collector_over_udp(tmp_path: Path) -> None:
    collector = Datagrams()
    port: Any = REACTOR.listenUDP(0, collector, interface="127.0.0.1", maxPacketSize=65536)
    service, address = node(tmp_path, "--audit", f"udp://127.0.0.1:{port.getHost().port}")
    await use(address)
    await service.stopService()
    await until(lambda: len(collector.messages) == len(ALL))
    assert events(collector.messages) == ALL
    assert list((tmp_path / "store" / "audit-spool").iterdir()) == [
        tmp_path / "store" / "audit-spool" / "lock"
    ]
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_records_go_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    service, address = node(tmp_path, "--audit", str(path))
    await use(address)
    await service.stopService()
    assert events(path.read_bytes().splitlines()) == ALL


@pytest.fixture
def identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrivateCertificate:
    """A certificate of a collector that the platform trusts."""
    identity = certificate("localhost")
    authorities = tmp_path / "authorities.pem"
    shown: Any = identity
    authorities.write_bytes(shown.dump(crypto.FILETYPE_PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities))
    return identity


@pytest_twisted.ensureDeferred
async def test_h_r22_records_wait_for_a_collector_that_is_away(
    tmp_path: Path, identity: PrivateCertificate
) -> None:
    """The node serves meanwhile, and is started again; over TLS all of it arrives in order."""
    port = free_port()
    with capturedLogs() as log:
        service, address = node(tmp_path, "--audit", f"tls://localhost:{port}")
        await use(address)
        await service.stopService()
    said = "\n".join(filter(None, map(formatEvent, log)))
    assert f"audit collector tls://localhost:{port} is away" in said
    assert "Doe" not in said
    receivers: Any = Receivers()
    endpoint: Any = SSL4ServerEndpoint(REACTOR, port, identity.options(), interface="127.0.0.1")
    listening: Any = await endpoint.listen(receivers)
    service, address = node(tmp_path, "--audit", f"tls://localhost:{port}")
    async with associate(address, [VERIFICATION], called_ae_title="ARCHIVE") as association:
        await echo(association)
    await service.stopService()
    await until(lambda: len(of_stream(receivers.data)) == len(ALL) + 2)
    assert events(of_stream(receivers.data)) == [*ALL, START, START]
    for connection in receivers.connections:
        connection.transport.abortConnection()
    await listening.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_file_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    """And the store is closed again."""
    folder = tmp_path / "store"
    options = Options()
    options.parseOptions(
        [
            *("--listen", f"tcp:{free_port()}:interface=127.0.0.1", "--storage", str(folder)),
            *("--disk-reserve", "0", "--audit", str(tmp_path / "missing" / "audit.log")),
        ]
    )
    service = makeService(options)
    with pytest.raises(MisuseError, match="audit file"):
        start(service)
    other, _ = made(folder)
    await other.stopService()
