"""Who may do what (G18): every AE title from every address, with every certificate and user.

What is expected is written down here by hand; the node is asked for real, and what
`dimse config explain` says is held against what the node did.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from pydicom.uid import CTImageStorage, MRImageStorage
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import capturedLogs, formatEvent

import dimse
from dimse import (
    MODALITY_WORKLIST,
    STUDY_ROOT,
    AssociationRejectedError,
    Limits,
    MisuseError,
    StatusError,
    VerificationSCP,
)
from dimse.archive.archive import Archive
from dimse.security.access import KnownPeer, Requestor
from dimse.security.certificate_names import names_of
from dimse.server.config import Configuration, read_configuration
from dimse.server.explain import Origins, access_of, explanation
from dimse.server.keys import SERVICES
from dimse.server.names import EVERY, Names
from dimse.server.peers import PeerBook
from dimse.sop_classes import (
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE,
    STORAGE_COMMITMENT_PUSH,
)
from dimse.testing import Network
from tests.archive.archives import data_set, open_archive
from tests.wire import EXPLICIT, IMPLICIT, VERIFICATION

DOCUMENT = """\
[node]
ae_titles = ["ARCHIVE"]
{unlisted}

[[peers]]
ae_title = "OPEN"

[[peers]]
ae_title = "PLACED"
host = "10.9.9.9"
addresses = ["10.1.0.0/16", "fd00::/64", "loopback"]
services = ["echo", "store"]

[[peers]]
ae_title = "NAMED"
host = "ct.example"
services = ["echo", "find"]

[[peers]]
ae_title = "LOST"
addresses = ["gone.example"]

[[peers]]
ae_title = "SIGNED"
certificate_names = ["DNS:signed.example"]
services = ["get"]

[[peers]]
ae_title = "SECRET"
encrypted = true
identity = "required"
services = ["move", "worklist", "mpps", "commitment"]

[[peers]]
ae_title = "NOBODY"
services = []
"""

LOCAL = ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", ""]
HOSTS = [*LOCAL[::2], "10.1.2.3", "::ffff:10.1.2.3", "fd00::5", "10.2.0.1", "10.9.9.9", "192.0.2.1"]
RESOLVED = {"ct.example": ["10.2.0.1"]}

# Each peer: where it may come from, whether it needs TLS, the certificate, the user; its services.
EVERYWHERE, ALL = {*LOCAL, *HOSTS}, set(SERVICES)
MAY: dict[str, tuple[set[str], bool, str, bool, set[str]]] = {
    "OPEN": (EVERYWHERE, False, "", False, ALL),
    "PLACED": (
        {*LOCAL, "10.1.2.3", "::ffff:10.1.2.3", "fd00::5"},
        False,
        "",
        False,
        {"echo", "store"},
    ),
    "NAMED": ({"10.2.0.1"}, False, "", False, {"echo", "find"}),
    "LOST": (set(), False, "", False, ALL),
    "SIGNED": (EVERYWHERE, True, "right", False, {"get"}),
    "SECRET": (EVERYWHERE, True, "", True, {"move", "worklist", "mpps", "commitment"}),
    "NOBODY": (EVERYWHERE, False, "", False, set()),
}

SECURITY = ["plain", "no certificate", "right", "wrong"]

CONTEXTS: dict[str, Any] = {
    "echo": VERIFICATION,
    "store": (CTImageStorage, [EXPLICIT]),
    "find": STUDY_ROOT.find,
    "get": STUDY_ROOT.get,
    "move": STUDY_ROOT.move,
    "worklist": MODALITY_WORKLIST.find,
    "mpps": MODALITY_PERFORMED_PROCEDURE_STEP,
    "commitment": STORAGE_COMMITMENT_PUSH,
}


def certificate(common_name: str, *names: x509.GeneralName) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(1))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, SHA256())


CERTIFICATES = {
    "right": certificate("SIGNED", x509.DNSName("signed.example")),
    # Nothing of it is the name: not the CN, not a wild card, not another kind.
    "wrong": certificate(
        "signed.example",
        x509.DNSName("*.example"),
        x509.UniformResourceIdentifier("signed.example"),
    ),
}


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    with open_archive(folder, clock=Network().clock) as archive:
        yield archive


def look_up(name: str) -> "Deferred[Any]":
    return succeed(RESOLVED[name]) if name in RESOLVED else fail(OSError(2, "not known"))


class Node:
    """A node in memory; `ask` comes to it as somebody."""

    def __init__(
        self, network: Network, archive: Archive, configuration: Configuration, **options: Any
    ) -> None:
        self.network = network
        self.names = Names(network.clock, look_up)
        self.configuration = configuration
        limits = Limits(disk_reserve=0)
        self.book = PeerBook(
            configuration.peers,
            limits,
            lambda: self.configuration.peers,
            configuration.unlisted,
            clock=network.clock,
            ae_titles=configuration.ae_titles,
            names=self.names,
            **options,
        )
        self.names.startService()
        self.scps = [
            VerificationSCP(),
            *archive.scps(destinations=self.book.destination, reports={}),
        ]
        self.asks: dict[str, Any] = {}
        self.user: str | None = None
        self.endpoint = network.listen(
            self.scps, limits=limits, ae_titles=configuration.ae_titles, admit=self.admit
        )

    def admit(self, requesting: Any) -> Any:
        return self.book.admission(self.scps, replace(requesting, **self.asks), self.user)

    def ask(
        self,
        ae_title: str,
        host: str = "192.0.2.1",
        security: str = "plain",
        user: str | None = None,
        called: str = "ARCHIVE",
        contexts: Sequence[Any] = (VERIFICATION,),
        roles: Any = None,
    ) -> Any:
        self.asks = {
            "host": host,
            "encrypted": security != "plain",
            "certificate": CERTIFICATES.get(security),
        }
        self.user = user
        pending = dimse.associate(
            self.endpoint,
            contexts,
            calling_ae_title=ae_title,
            called_ae_title=called,
            roles=roles,
            reactor=self.network.clock,
        )
        self.network.run()
        return pending

    def taken(self, *args: Any, **options: Any) -> Any:
        return self.network.result(self.ask(*args, **options))

    def refused(self, *args: Any, **options: Any) -> tuple[int, int, int]:
        with pytest.raises(AssociationRejectedError) as caught:
            self.taken(*args, **options)
        return caught.value.result, caught.value.source, caught.value.reason


def outcome(node: Node, *who: Any) -> tuple[str, set[str]]:
    """What the node does: the rejection, or the services that it gives."""
    try:
        roles = {CTImageStorage: (True, True)}  # as C-GET needs it, and C-STORE too
        association = node.taken(*who, contexts=list(CONTEXTS.values()), roles=roles)
    except AssociationRejectedError as error:
        return f"RJ({error.result},{error.source},{error.reason})", set()
    given = {each.abstract_syntax for each in association.contexts.values() if each.scu}
    association.abort()
    node.network.run()
    wanted = {name: each[0] if isinstance(each, tuple) else each for name, each in CONTEXTS.items()}
    return "", {name for name, uid in wanted.items() if uid in given}


def explained(configuration: Configuration, file: Path, *who: Any) -> tuple[str, set[str]]:
    """What `dimse config explain` says of it; every step tells where it is from."""
    ae_title, host, security, user, called = who
    names = names_of(CERTIFICATES[security]) if security in CERTIFICATES else frozenset()
    requestor = Requestor(
        ae_title=ae_title,
        called_ae_title=called,
        host=host,
        encrypted=security != "plain",
        certificate_names=names,
        user=user,
    )
    verdict = access_of(configuration).decide(requestor, lambda name: RESOLVED.get(name, ()))
    lines = list(explanation(verdict, requestor, Origins(file)))
    end = next(n for n, line in enumerate(lines) if line.startswith(("admitted", "refused")))
    assert all(line.endswith("]") for line in lines[:end] + lines[end + 1 :])
    refused = lines[end].partition("refused: ")[2]
    return refused, {name for name in SERVICES if any(f"{name}: yes" in line for line in lines)}


def expected(
    unlisted: str, ae_title: str, host: str, security: str, user: str | None, called: str
) -> tuple[str, set[str]]:
    if ae_title in MAY:
        hosts, needs_tls, needs_certificate, needs_user, services = MAY[ae_title]
        if host not in hosts or (needs_tls and security == "plain"):
            return "RJ(1,1,3)", set()
        if needs_certificate and security != needs_certificate:
            return "RJ(1,1,3)", set()
        if needs_user and user is None:
            return "RJ(1,2,1)", set()
    elif unlisted == "all" or (unlisted == "loopback" and host in LOCAL):
        services = ALL
    elif unlisted == "echo":
        services = {"echo"}
    else:
        return "RJ(1,1,3)", set()
    return ("", services) if called == "ARCHIVE" else ("RJ(1,1,7)", set())


@pytest.mark.parametrize("unlisted", ["", "loopback", "all", "echo", "none"])
def test_the_matrix(network: Network, archive: Archive, tmp_path: Path, unlisted: str):
    """G18: as it is written down, and as it is explained; listed ones do not depend on others."""
    file = tmp_path / "dimse.toml"
    line = f'unlisted = "{unlisted}"' if unlisted else ""
    file.write_text(DOCUMENT.format(unlisted=line), "utf-8")
    configuration = read_configuration(file)
    node = Node(network, archive, configuration)
    titles = ["STRANGER", *(MAY if not unlisted else ())]
    wrong = []
    for who in product(titles, HOSTS, SECURITY, [None, "alice"], ["ARCHIVE", "OTHER"]):
        should = expected(unlisted or "none", *who)
        found, said = outcome(node, *who), explained(configuration, file, *who)
        if not should == found == said:
            wrong.append((who, should, found, said))
    assert wrong == []
    node.names.stopService()


class TestDefault:
    """K30: a node that was told of nobody."""

    @pytest.mark.parametrize("host", LOCAL)
    def test_k30_this_machine_is_served(self, network: Network, archive: Archive, host: str):
        node = Node(network, archive, Configuration())
        assert outcome(node, "ANY", host, "plain", None, "ANYTHING") == ("", ALL)

    @pytest.mark.parametrize("host", sorted(EVERYWHERE - set(LOCAL)))
    def test_k30_others_get_no_data(self, network: Network, archive: Archive, host: str):
        node = Node(network, archive, Configuration())
        assert node.refused("ANY", host) == (1, 1, 3)

    def test_one_line_of_an_address_says_how_it_is_let_in(self, network: Network, archive: Archive):
        """And no more of them for ten minutes, whatever it calls itself; then with their number."""
        node = Node(network, archive, Configuration())
        with capturedLogs() as events:
            for title in ("CT 1", "$(x)", "THIRD"):
                node.refused(title, "192.0.2.1")
            node.refused("CT 1", "2001:db8::1")
            node.refused("CT 1", "2001:db8::2")  # the same network
        lines = [line for each in events if "rejected" in (line := formatEvent(each) or "")]
        assert len(lines) == 2
        assert "--peer 'CT 1=192.0.2.1' lets it in, --allow-any everybody" in lines[0]
        assert "--peer 'CT 1=[2001:db8::1]' lets it in" in lines[1]
        network.advance(600)
        with capturedLogs() as events:
            node.refused("$(x)", "192.0.2.1")
        (line,) = [line for each in events if "rejected" in (line := formatEvent(each) or "")]
        assert "--peer '$(x)=192.0.2.1' lets it in" in line
        assert "2 more of this address were refused before" in line

    def test_allow_any(self, network: Network, archive: Archive):
        node = Node(network, archive, Configuration(unlisted="all"))
        assert outcome(node, "ANY", "192.0.2.1", "plain", None, "ANYTHING") == ("", ALL)


class TestUniform:
    """H-T16: who guesses titles learns nothing from answers, nor from how long they take."""

    PEER = KnownPeer(ae_title="PEER", addresses=("10.1.2.3",))

    @pytest.mark.parametrize(
        ("title", "called"), [("PEER", "OTHER"), ("GUESS", "ARCHIVE"), ("GUESS", "OTHER")]
    )
    def test_h_t16_same_answer_and_delay(
        self, network: Network, archive: Archive, title: str, called: str
    ):
        configuration = Configuration(ae_titles=("ARCHIVE",), peers={"PEER": self.PEER})
        node = Node(network, archive, configuration, uniform=True)
        for host in ("10.1.2.3", "192.0.2.1"):
            pending = node.ask(title, host, called=called)
            network.advance(0.999)
            assert not pending.called
            network.advance(0.001)
            with pytest.raises(AssociationRejectedError) as caught:
                network.result(pending)
            error = caught.value
            assert (error.result, error.source, error.reason) == (1, 1, 1)
        assert node.taken("PEER", "10.1.2.3")

    def test_h_t16_a_peer_that_leaves_meanwhile(self, network: Network, archive: Archive):
        node = Node(network, archive, Configuration(), uniform=True)
        node.ask("GUESS").addErrback(lambda _: None)
        network.cut()
        assert network.clock.getDelayedCalls() == []


def one(network: Network, archive: Archive, **given: Any) -> Node:
    """A node that knows PEER."""
    peer = KnownPeer(ae_title="PEER", **given)
    other = KnownPeer(ae_title="OTHER")
    return Node(network, archive, Configuration(peers={"PEER": peer, "OTHER": other}))


class TestNames:
    """Host names are resolved when they are configured, and again; addresses never are."""

    def test_a_name_that_moves(
        self, network: Network, archive: Archive, monkeypatch: pytest.MonkeyPatch
    ):
        node = one(network, archive, host="ct.example")
        assert node.taken("PEER", "10.2.0.1")
        monkeypatch.setitem(RESOLVED, "ct.example", ["10.2.0.2"])
        network.advance(EVERY)
        assert node.refused("PEER", "10.2.0.1") == (1, 1, 3)
        assert node.taken("PEER", "10.2.0.2")
        node.names.stopService()

    def test_one_that_resolves_no_more_keeps_its_addresses(
        self, network: Network, archive: Archive, monkeypatch: pytest.MonkeyPatch
    ):
        node = one(network, archive, host="ct.example")
        monkeypatch.delitem(RESOLVED, "ct.example")
        with capturedLogs() as events:
            network.advance(3 * EVERY)
        lines = [line for each in events if "resolve" in (line := formatEvent(each) or "")]
        assert lines == ["ct.example does not resolve (not known); its peer is taken from 10.2.0.1"]
        assert node.taken("PEER", "10.2.0.1")
        node.names.stopService()

    def test_who_comes_before_it_is_known_waits(self, network: Network, archive: Archive):
        answer: Deferred[Any] = Deferred()
        node = one(network, archive)
        node.names._look_up = lambda name: answer
        peer = KnownPeer(ae_title="PEER", host="new.example")
        node.configuration = Configuration(peers={"PEER": peer})
        node.book.renew()
        pending = node.ask("PEER", "10.3.0.1")
        assert not pending.called
        answer.callback(["10.3.0.1"])
        assert network.result(pending)
        node.names.stopService()


class TestHowMuch:
    def test_h_r04_associations_at_a_time(self, network: Network, archive: Archive):
        """RJ(2,3,2); another one has room, and so has it when one has left."""
        node = one(network, archive, associations=2)
        first, _ = node.taken("PEER"), node.taken("PEER")
        assert node.refused("PEER") == (2, 3, 2)
        assert node.taken("OTHER")
        network.result(first.release())
        assert node.taken("PEER")
        assert node.refused("PEER") == (2, 3, 2)

    def test_associations_per_minute(self, network: Network, archive: Archive):
        node = one(network, archive, associations_per_minute=2)
        for _ in range(2):
            network.result(node.taken("PEER").release())
        assert node.refused("PEER") == (2, 3, 2)
        network.advance(62)
        assert node.taken("PEER")

    def test_operations_per_minute(self, network: Network, archive: Archive):
        """On all its associations; the association goes on."""
        node = one(network, archive, operations_per_minute=2)
        first, second = node.taken("PEER"), node.taken("PEER")
        assert network.result(dimse.echo(first)) == 0
        assert network.result(dimse.echo(second)) == 0
        with pytest.raises(StatusError, match="0x0213"):
            network.result(dimse.echo(first))
        network.advance(62)
        assert network.result(dimse.echo(first)) == 0

    @pytest.mark.parametrize(
        ("quota", "period", "uid"),
        [("bytes_per_hour", 3600, "1.6.1"), ("bytes_per_day", 86400, "1.7.1")],
    )
    def test_bytes(self, network: Network, archive: Archive, quota: str, period: int, uid: str):
        """0xA700 for the instance that would be too much, which takes no room itself."""
        node = one(network, archive, **{quota: 1500})
        association = node.taken("PEER", contexts=[(CTImageStorage, [EXPLICIT])])
        large = [data_set(f"{uid}.{n}", PatientComments="x" * 1000) for n in range(3)]
        assert network.result(dimse.store(association, large[0])) == 0
        with pytest.raises(StatusError, match="0xA700"):
            network.result(dimse.store(association, large[1]))
        assert network.result(dimse.store(association, data_set(f"{uid}.9"))) == 0
        network.advance(period * 62 / 60)
        association = node.taken("PEER", contexts=[(CTImageStorage, [EXPLICIT])])
        assert network.result(dimse.store(association, large[1])) == 0


class TestWhat:
    def test_sop_classes_and_transfer_syntaxes(self, network: Network, archive: Archive):
        node = one(
            network, archive, sop_classes=(CTImageStorage,), store_transfer_syntaxes=(IMPLICIT,)
        )
        wanted: list[Any] = [
            VERIFICATION,
            (CTImageStorage, [EXPLICIT]),
            (CTImageStorage, [EXPLICIT, IMPLICIT]),
            (MRImageStorage, [IMPLICIT]),
        ]
        accepted = node.taken("PEER", contexts=wanted).contexts.values()
        assert [(each.abstract_syntax, each.transfer_syntax) for each in accepted] == [
            (VERIFICATION, EXPLICIT),
            (CTImageStorage, IMPLICIT),
        ]

    def test_k37_other_destinations_are_as_unknown(self, network: Network, archive: Archive):
        """Nobody is connected to, and the answer is that for one that is not there."""
        peers = {
            "PEER": KnownPeer(ae_title="PEER", destinations=("PEER",)),
            "WS": KnownPeer(ae_title="WS", host="10.0.0.9", port=104),
        }
        node = Node(network, archive, Configuration(peers=peers))
        association = node.taken("PEER", contexts=[STUDY_ROOT.move])
        keys = data_set("1.2.1.1")
        keys.QueryRetrieveLevel = "STUDY"
        comments = []
        for title in ("WS", "NO"):
            with pytest.raises(StatusError, match="0xA801") as caught:
                network.result(dimse.move(association, keys, title).result())
            comments.append(str(caught.value).replace(title, "X"))
        assert comments[0] == comments[1]

    def test_a_scope_reaches_the_queries(self, network: Network, archive: Archive):
        node = one(network, archive, scope={"InstitutionName": ("North",)})
        contexts = [(CTImageStorage, [EXPLICIT]), STUDY_ROOT.find]
        association = node.taken("PEER", contexts=contexts)
        for uid, institution in (("1.8.1.1", "North"), ("1.9.1.1", "South")):
            instance = data_set(uid, InstitutionName=institution)
            assert network.result(dimse.store(association, instance)) == 0
        keys = data_set("1.8.1.1")
        keys.clear()
        keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", ["1.8", "1.9"]
        (found,) = network.result(dimse.find(association, keys).result())
        assert found.StudyInstanceUID == "1.8"

    def test_a_peer_with_a_scope_has_no_steps_to_look_at(self, network: Network, archive: Archive):
        retrieve = MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE
        for title, given in (("PEER", 0), ("OTHER", 1)):
            node = one(network, archive, scope={"Modality": ("CT",)})
            assert len(node.taken(title, contexts=[retrieve]).contexts) == given


class TestCertificates:
    """H-T12: the names of a certificate, each of its kind."""

    def test_h_t12_names(self):
        names = names_of(
            certificate(
                "CT 1",
                x509.DNSName("CT1.Example"),
                x509.UniformResourceIdentifier("urn:x:CT1"),
                x509.RFC822Name("ct1@example"),
            )
        )
        digest = {name for name in names if name.startswith("sha256:")}
        assert names - digest == {"CN:ct 1", "DNS:ct1.example", "URI:urn:x:CT1"}
        assert len(digest.pop()) == len("sha256:") + 64

    @pytest.mark.parametrize("security", ["plain", "no certificate", "wrong"])
    def test_h_t12_not_bound(self, network: Network, archive: Archive, security: str):
        node = one(network, archive, certificate_names=("DNS:signed.example",))
        assert node.refused("PEER", "10.0.0.1", security) == (1, 1, 3)
        assert node.taken("PEER", "10.0.0.1", "right")


def test_the_counters_of_one_that_is_gone_are_too(network: Network, archive: Archive):
    node = one(network, archive)
    node.taken("PEER")
    node.configuration = Configuration(peers={"OTHER": KnownPeer(ae_title="OTHER")})
    node.book.renew()
    assert node.book._meters.keys() <= {"OTHER"}
    assert node.refused("PEER") == (1, 1, 3)


def test_an_error_of_the_file_is_misuse(tmp_path: Path):
    file = tmp_path / "dimse.toml"
    file.write_text('[[peers]]\nae_title = "A"\nport = 1\n', "utf-8")
    with pytest.raises(MisuseError, match="a port needs a host"):
        read_configuration(file)
