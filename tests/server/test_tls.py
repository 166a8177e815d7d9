"""The node over TLS: its options, its file, its certificates while it runs (H-T11)."""

import os
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import copy
from textwrap import dedent
from typing import Any

import pytest
import pytest_twisted
from pydicom import Dataset
from twisted.internet import reactor  # noqa: TID253  pytest-twisted has installed it
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.python.usage import UsageError

from dimse import (
    ClientTLS,
    MemoryStore,
    ServerTLS,
    StorageSCP,
    TLSError,
    associate,
    echo,
    listen,
    move,
    store,
)
from dimse.server.options import Options
from dimse.server.service import Node, makeService
from dimse.server.tls import NodeTLS, Secured
from dimse.sop_classes import STUDY_ROOT
from tests.archive.archives import data_set
from tests.certificates import CLIENT, PKI, SERVER
from tests.peers import free_port

CLOCK: Any = reactor


def parsed(*args: Any) -> Options:
    options = Options()
    options.parseOptions(list(map(str, args)))
    return options


def listening(*args: Any) -> tuple[list[str], list[str]]:
    """The endpoints without TLS, and those with it."""
    configuration = parsed(*args).configuration
    return list(configuration.endpoints), list(configuration.tls_endpoints)


def written(folder: Path, text: str) -> Path:
    file = folder / "dimse.toml"
    file.write_text(dedent(text), "utf-8")
    return file


@pytest.fixture
def given(pki: PKI) -> list[Any]:
    """The options of a node with TLS."""
    return [
        *("--tls-cert", pki.node.path, "--tls-key", pki.node.key_path, "--tls-ca", pki.ca.path),
    ]


@pytest.fixture
def log() -> Iterator[Sequence[LogEvent]]:
    with capturedLogs() as events:
        yield events
    assert [event["log_failure"] for event in events if "log_failure" in event] == []


class TestWhereItListens:
    def test_a_certificate_is_enough(self, given: list[Any]):
        """Who asks for TLS does not listen without, unless he says so."""
        assert listening(*given) == ([], ["tcp:2762"])

    def test_both(self, given: list[Any]):
        assert listening(*given, "--port", 104) == (["tcp:104"], ["tcp:2762"])

    def test_another_port(self, given: list[Any]):
        assert listening(*given, "--tls-port", 12762) == ([], ["tcp:12762"])

    def test_without_a_certificate(self):
        with pytest.raises(UsageError, match=r"tls\.certificate, --tls-cert"):
            parsed("--tls-port", 2762)

    @pytest.mark.parametrize(
        ("listeners", "options", "found"),
        [
            ("", [], ([], ["tcp:2762"])),
            ("", ["--port", "104"], (["tcp:104"], ["tcp:2762"])),
            ('[[listeners]]\nendpoint = "tcp:104"', [], (["tcp:104"], [])),
            ('[[listeners]]\nendpoint = "tcp:3"\ntls = true', [], ([], ["tcp:3"])),
            (
                '[[listeners]]\nendpoint = "tcp:3"\ntls = true',
                ["--port", "104"],
                (["tcp:104"], ["tcp:3"]),
            ),
            (
                '[[listeners]]\nendpoint = "tcp:104"\n'
                '[[listeners]]\nendpoint = "tcp:3"\ntls = true',
                ["--tls-port", "4"],
                (["tcp:104"], ["tcp:4"]),
            ),
        ],
    )
    def test_of_a_file(
        self, pki: PKI, tmp_path: Path, listeners: str, options: list[str], found: Any
    ):
        """Where it names listeners, its certificate may be for its peers alone."""
        names = {"certificate": pki.node.path, "key": pki.node.key_path, "ca": pki.ca.path}
        tls = "".join(f'{name} = "{path}"\n' for name, path in names.items())
        file = tmp_path / "dimse.toml"
        file.write_text(f"[tls]\n{tls}\n{listeners}\n", "utf-8")
        assert listening("--config", file, *options) == found


class TestMistakes:
    def test_who_may_come(self, pki: PKI):
        with pytest.raises(UsageError, match="client_auth 'require' needs ca"):
            parsed("--tls-cert", pki.node.path, "--tls-key", pki.node.key_path)
        parsed(
            *("--tls-cert", pki.node.path, "--tls-key", pki.node.key_path),
            *("--tls-client-auth", "none"),
        )

    @pytest.mark.parametrize(
        "args",
        [["--tls-profile", "B.9"], ["--tls-client-auth", "maybe"], ["--tls-port", "65536"]],
    )
    def test_values(self, given: list[Any], args: list[str]):
        with pytest.raises(UsageError):
            parsed(*given, *args)

    def test_file_that_is_not_there(self, given: list[Any], tmp_path: Path):
        with pytest.raises(UsageError, match=r"gone\.pem: No such file"):
            parsed(*given, "--tls-crl", tmp_path / "gone.pem")

    def test_all_that_is_wrong_is_said_at_once(self, tmp_path: Path):
        """The file that is not there, too, and not only that somebody has to sign for peers."""
        gone = [tmp_path / name for name in ("gone.pem", "gone.key")]
        with pytest.raises(UsageError) as caught:
            parsed("--tls-cert", gone[0], "--tls-key", gone[1])
        assert str(caught.value).splitlines() == [
            f"{gone[0]}: No such file or directory",
            f"{gone[1]}: No such file or directory",
            "client_auth 'require' needs ca, the file of who signs the certificates of clients; "
            "without it, client_auth is 'none' (tls.ca, --tls-ca; tls.client_auth, "
            "--tls-client-auth)",
        ]

    @pytest.mark.parametrize("option", ["--tls-key", "--tls-ca", "--tls-crl"])
    def test_files_that_nothing_uses_are_looked_at_too(self, tmp_path: Path, option: str):
        """Without a certificate nothing listens with TLS, and who misspelt that finds it out."""
        with pytest.raises(UsageError, match=r"gone\.pem: No such file"):
            parsed("--port", 104, option, tmp_path / "gone.pem")

    def test_a_certificate_without_a_key(self, pki: PKI):
        with pytest.raises(UsageError, match="no private key in PEM, and it has no file"):
            parsed("--tls-cert", pki.node.path, "--tls-ca", pki.ca.path)

    def test_client_certificates_that_nobody_will_ask_for(self):
        with pytest.raises(UsageError, match="nothing listens with TLS"):
            parsed("--port", 104, "--tls-client-auth", "require")

    def test_a_key_without_a_certificate(self, pki: PKI):
        """The node would listen without TLS, and nobody had asked for that."""
        with pytest.raises(UsageError, match=r"has no certificate: tls\.certificate, --tls-cert"):
            parsed("--tls-key", pki.node.key_path)

    def test_a_peer_is_to_be_reached_with_a_certificate_for_servers_alone(
        self, pki: PKI, tmp_path: Path
    ):
        node = pki.ca.issue("server-only", uses=[SERVER])
        peer = '[[peers]]\nae_title = "WS"\nhost = "ws"\nport = 2762\ntls = true\n'
        args = ["--tls-cert", node.path, "--tls-key", node.key_path, "--tls-ca", pki.ca.path]
        with pytest.raises(UsageError, match="is not for TLS clients"):
            parsed("--config", written(tmp_path, peer), *args)

    def test_a_peer_over_tls_without_an_address(self, tmp_path: Path):
        peer = '[[peers]]\nae_title = "WS"\ntls = true\n'
        with pytest.raises(UsageError, match=r"line 1: .* not reached over TLS without host"):
            parsed("--config", written(tmp_path, peer))


def made(folder: Path, *args: Any) -> tuple[Node, str]:
    """A node that runs, with TLS at an address."""
    port = free_port()
    options = parsed("--storage", folder, "--disk-reserve", 0, "--tls-port", port, *args)
    service = makeService(options)
    service.privilegedStartService()
    service.startService()
    return service, f"127.0.0.1:{port}"


@pytest_twisted.ensureDeferred
async def test_h_t11_reload_on_sighup(
    log: Sequence[LogEvent], pki: PKI, tmp_path: Path, given: list[Any]
) -> None:
    """Associations go on; with a broken certificate the old one stays, and the log says why."""
    certificate, key = tmp_path / "node.pem", tmp_path / "node.key"
    copy(pki.node.path, certificate), copy(pki.node.key_path, key)
    args = ["--tls-cert", certificate, "--tls-key", key, "--tls-ca", pki.ca.path]
    service, address = made(tmp_path / "store", *args)
    tls = ClientTLS(ca=pki.ca.path, certificate=pki.modality.path, key=pki.modality.key_path)
    async with associate(address, tls=tls) as association:
        assert await echo(association) == 0

        certificate.write_text("no certificate")
        await hang_up()
        assert "no certificate in PEM; the certificates stay as they were" in said(log)
        async with associate(address, tls=tls) as another:
            assert await echo(another) == 0

        renewed = pki.other_ca.issue("renewed")
        copy(renewed.path, certificate), copy(renewed.key_path, key)
        await hang_up()
        assert "the certificates for TLS are read again" in said(log)
        with pytest.raises(TLSError, match="CN=renewed is signed by nobody that is trusted"):
            await associate(address, tls=tls)
        assert await echo(association) == 0
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_h_t11_other_files_on_sighup(
    log: Sequence[LogEvent], pki: PKI, tmp_path: Path
) -> None:
    """Another path in the configuration counts as another content does: all of `[tls]`."""

    def write(node: Any, ca: Any, more: str = "") -> Path:
        names = {"certificate": node.path, "key": node.key_path, "ca": ca.path}
        lines = [f'{name} = "{path}"' for name, path in names.items()]
        return written(tmp_path, "\n".join(["[tls]", *lines, more]))

    service, address = made(tmp_path / "store", "--config", write(pki.node, pki.ca))
    one = ClientTLS(ca=pki.ca.path, certificate=pki.modality.path, key=pki.modality.key_path)
    other = pki.other_ca.issue("other-modality", uses=[CLIENT])
    two = ClientTLS(ca=pki.other_ca.path, certificate=other.path, key=other.key_path)
    async with associate(address, tls=one) as association:
        write(pki.other_ca.issue("other-node"), pki.other_ca)
        await hang_up()
        async with associate(address, tls=two) as another:
            assert await echo(another) == 0
        with pytest.raises(TLSError):
            await associate(address, tls=one)
        assert await echo(association) == 0

    gone = tmp_path / "gone.pem"
    write(pki.node, pki.ca, f'crl = "{gone}"')
    await hang_up()
    assert f"{gone}: No such file or directory; the certificates stay as they were" in said(log)
    async with associate(address, tls=two) as another:
        assert await echo(another) == 0

    write(pki.node, pki.ca, 'client_auth = "none"')
    await hang_up()
    async with associate(address, tls=ClientTLS(ca=pki.ca.path)) as another:
        assert await echo(another) == 0

    written(tmp_path, "")
    await hang_up()
    assert "needs a certificate: tls.certificate, --tls-cert; the certificates stay" in said(log)
    async with associate(address, tls=ClientTLS(ca=pki.ca.path)) as another:
        assert await echo(another) == 0
    await service.stopService()


def test_h_t11_whom_peers_have_their_certificates_from(
    log: Sequence[LogEvent], pki: PKI, tmp_path: Path
) -> None:
    """The context that a collector of audit records has, it keeps, and another `ca` is in it."""
    secured = Secured(NodeTLS(ca=(pki.ca.path,)), listens=False)
    collector, peers = secured.client((pki.ca.path,)), secured.client()
    secured.renew(NodeTLS(ca=(pki.other_ca.path,)))
    assert secured.client() is peers
    assert secured.client((pki.ca.path,)) is collector
    assert [each._loaded.authorities for each in (collector, peers)] == [
        (pki.ca.issued.certificate,),
        (pki.other_ca.issued.certificate,),
    ]


def test_h_t11_a_certificate_that_one_side_cannot_use_changes_neither(
    log: Sequence[LogEvent], pki: PKI, tmp_path: Path
) -> None:
    """One that is for servers alone would be shown to clients, and to peers the old one."""
    certificate, key = tmp_path / "node.pem", tmp_path / "node.key"
    copy(pki.node.path, certificate), copy(pki.node.key_path, key)
    secured = Secured(NodeTLS(certificate=certificate, key=key, ca=(pki.ca.path,)), listens=True)
    assert secured.server is not None
    before = [secured.server._loaded, secured.client()._loaded]
    renewed = pki.ca.issue("half", uses=[SERVER])
    copy(renewed.path, certificate), copy(renewed.key_path, key)
    secured.renew()
    assert "CN=half is not for TLS clients" in said(log)
    assert [secured.server._loaded, secured.client()._loaded] == before


def test_h_t11_sighup_without_a_certificate_of_the_node(pki: PKI, tmp_path: Path) -> None:
    """Whom its collector of audit records may have its certificate from can change, too."""
    audit = ["--audit", "tls://localhost", "--storage", tmp_path / "store"]
    node = makeService(parsed(*audit, "--tls-ca", pki.ca.path))
    assert node._renew is not None
    assert makeService(parsed("--storage", tmp_path / "other"))._renew is None


def test_files_that_nothing_uses_are_warned_of(
    log: Sequence[LogEvent], pki: PKI, tmp_path: Path
) -> None:
    """Who gives some may think that the node listens with TLS."""
    store = ["--storage", tmp_path / "store"]
    makeService(parsed(*store, "--tls-ca", pki.ca.path, "--audit", "tls://localhost"))
    makeService(parsed(*store))
    assert "nothing uses it" not in said(log)
    makeService(parsed(*store, "--tls-ca", pki.ca.path))
    assert "TLS: there are files for it, and nothing uses it: no listener" in said(log)


async def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)
    await deferLater(CLOCK, 0)
    await deferLater(CLOCK, 0)


def said(log: Sequence[LogEvent]) -> str:
    return "\n".join(map(str, map(formatEvent, log)))


@pytest_twisted.ensureDeferred
async def test_h_t11_under_load(
    log: Sequence[LogEvent], pki: PKI, tmp_path: Path, given: list[Any]
) -> None:
    """No association fails because certificates are read again."""
    service, address = made(tmp_path / "store", *given)
    tls = ClientTLS(ca=pki.ca.path, certificate=pki.modality.path, key=pki.modality.key_path).load()
    for _ in range(10):
        first = associate(address, tls=tls)
        second = associate(address, tls=tls)
        os.kill(os.getpid(), signal.SIGHUP)
        for association in (await first, await second):
            assert await echo(association) == 0
            await association.release()
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_move_to_a_peer_over_tls(
    log: Sequence[LogEvent], pki: PKI, tmp_path: Path, given: list[Any]
) -> None:
    """The node shows its certificate there, and looks at that of the peer."""
    received = MemoryStore()
    workstation = pki.ca.issue("workstation", uses=[SERVER])
    listener = await listen(
        "tcp:0:interface=127.0.0.1",
        [StorageSCP(received)],
        tls=ServerTLS(certificate=workstation.path, key=workstation.key_path, ca=pki.ca.path),
    )
    file = written(
        tmp_path,
        f"""
        [[peers]]
        ae_title = "WS"
        host = "127.0.0.1"
        port = {listener.address.port}
        tls = true
        """,
    )
    service, address = made(tmp_path / "store", "--allow-any", "--config", file, *given)
    console = pki.ca.issue("console", uses=[CLIENT])
    tls = ClientTLS(ca=pki.ca.path, certificate=console.path, key=console.key_path)
    instance = data_set("1.2.1.1")
    async with associate(address, [instance.SOPClassUID, STUDY_ROOT.move], tls=tls) as association:
        await store(association, instance)
        wanted = Dataset()
        wanted.QueryRetrieveLevel = "STUDY"
        wanted.StudyInstanceUID = instance.StudyInstanceUID
        moved = await move(association, wanted, "WS")
        assert moved.completed == 1
    await service.stopService()
    await listener.stop(0)


@pytest_twisted.ensureDeferred
async def test_silent_clients_keep_nobody_waiting(
    log: Sequence[LogEvent], pki: PKI, tmp_path: Path, given: list[Any]
) -> None:
    """Some that connect and say nothing (K21)."""
    service, address = made(tmp_path / "store", *given)
    port = int(address.rpartition(":")[2])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(30)]
    tls = ClientTLS(ca=pki.ca.path, certificate=pki.modality.path, key=pki.modality.key_path)
    async with associate(address, tls=tls) as association:
        assert await echo(association) == 0
    for each in silent:
        each.close()
    await service.stopService()
