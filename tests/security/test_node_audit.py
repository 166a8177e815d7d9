"""A node with an audit trail, and collectors with sockets on loopback."""

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from twisted.internet import reactor  # noqa: TID253  pytest-twisted has installed it
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
from tests.certificates import PKI
from tests.peers import free_port
from tests.security.collectors import (
    Datagrams,
    Receivers,
    collector_tls,
    listening,
    of_stream,
    until,
)
from tests.security.schema import checked
from tests.server.nodes import made, start
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


def trusting(folder: Path, pki: PKI, section: str) -> tuple[str, ...]:
    """The option of a file that says who signs for collectors."""
    file = folder / "dimse.toml"
    file.write_text(f'[{section}]\nca = "{pki.ca.path}"\n', "utf-8")
    return "--config", str(file)


@pytest.mark.parametrize("section", ["audit", "tls"])
@pytest_twisted.ensureDeferred
async def test_h_r22_records_wait_for_a_collector_that_is_away(
    tmp_path: Path, pki: PKI, section: str
) -> None:
    """The node serves meanwhile, and is started again; over TLS all of it arrives in order
    (H-T17)."""
    port = free_port()
    options = (*trusting(tmp_path, pki, section), "--audit", f"tls://localhost:{port}")
    with capturedLogs() as log:
        service, address = node(tmp_path, *options)
        await use(address)
        await service.stopService()
    said = "\n".join(filter(None, map(formatEvent, log)))
    assert f"audit collector tls://localhost:{port} is away" in said
    assert "Doe" not in said
    receivers: Any = Receivers()
    collector = await listening(receivers, collector_tls(pki.node), port)
    service, address = node(tmp_path, *options)
    async with associate(address, [VERIFICATION], called_ae_title="ARCHIVE") as association:
        await echo(association)
    await service.stopService()
    await until(lambda: len(of_stream(receivers.data)) == len(ALL) + 2)
    assert events(of_stream(receivers.data)) == [*ALL, START, START]
    for connection in receivers.connections:
        connection.transport.abortConnection()
    await collector.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_node_with_a_certificate_shows_it_to_the_collector(
    tmp_path: Path, pki: PKI
) -> None:
    """With who it trusts for peers, unless `audit.ca` says otherwise."""
    receivers: Any = Receivers()
    collector = await listening(
        receivers, collector_tls(pki.stranger, client_auth="require", ca=pki.ca.path)
    )
    file = tmp_path / "dimse.toml"
    file.write_text(f'[audit]\nca = "{pki.other_ca.path}"\n', "utf-8")
    service, _ = node(
        tmp_path,
        *("--config", str(file), "--audit", f"tls://localhost:{collector.getHost().port}"),
        *("--tls-port", str(free_port()), "--tls-cert", str(pki.node.path)),
        *("--tls-key", str(pki.node.key_path), "--tls-ca", str(pki.ca.path)),
    )
    await until(lambda: receivers.data)
    (connection,) = receivers.connections
    shown = connection.transport.getPeerCertificate().to_cryptography()
    assert shown == pki.node.certificate
    await service.stopService()
    for connection in receivers.connections:
        connection.transport.abortConnection()
    await collector.stopListening()


@pytest_twisted.ensureDeferred
async def test_an_authority_that_cannot_be_read_is_told_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "dimse.toml"
    file.write_text('[audit]\nca = "gone.pem"\nsyslog = "tls://localhost"\n', "utf-8")
    with pytest.raises(MisuseError, match=r"gone\.pem: No such file"):
        node(tmp_path, "--config", str(file))


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
