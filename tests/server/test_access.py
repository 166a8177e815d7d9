"""Who may do what (G18): every AE title from every address, with every certificate and user.

What is expected is written down here by hand; the node is asked for real, and what
`dimse config explain` says is held against what the node did.
"""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from pydicom.uid import CTImageStorage
from twisted.logger import capturedLogs, formatEvent

from dimse import (
    MODALITY_WORKLIST,
    STUDY_ROOT,
    AssociationRejectedError,
    MisuseError,
)
from dimse.archive.archive import Archive
from dimse.security.access import KnownPeer, Requestor
from dimse.security.certificate_names import names_of
from dimse.server.config import Configuration, read_configuration
from dimse.server.explain import Origins, access_of, explanation
from dimse.server.peer_keys import SERVICES
from dimse.sop_classes import (
    MODALITY_PERFORMED_PROCEDURE_STEP,
    STORAGE_COMMITMENT_PUSH,
)
from dimse.testing import Network
from tests.server.access_node import CERTIFICATES, RESOLVED, Node, certificate, one
from tests.wire import EXPLICIT, VERIFICATION

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
def test_the_matrix(network: Network, kept: Archive, tmp_path: Path, unlisted: str):
    """G18: as it is written down, and as it is explained; listed ones do not depend on others."""
    file = tmp_path / "dimse.toml"
    line = f'unlisted = "{unlisted}"' if unlisted else ""
    file.write_text(DOCUMENT.format(unlisted=line), "utf-8")
    configuration = read_configuration(file)
    node = Node(network, kept, configuration)
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
    def test_k30_this_machine_is_served(self, network: Network, kept: Archive, host: str):
        node = Node(network, kept, Configuration())
        assert outcome(node, "ANY", host, "plain", None, "ANYTHING") == ("", ALL)

    @pytest.mark.parametrize("host", sorted(EVERYWHERE - set(LOCAL)))
    def test_k30_others_get_no_data(self, network: Network, kept: Archive, host: str):
        node = Node(network, kept, Configuration())
        assert node.refused("ANY", host) == (1, 1, 3)

    def test_one_line_of_an_address_and_title_says_how_it_is_let_in(
        self, network: Network, kept: Archive
    ):
        """And no more of them for ten minutes; then with their number."""
        node = Node(network, kept, Configuration())
        with capturedLogs() as events:
            for title in ("CT 1", "CT 1", "CT 1"):
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

    @pytest.mark.parametrize(
        ("peer", "host", "remedy"),
        [
            (
                KnownPeer(ae_title="CT 1", host="10.9.9.9", port=104),
                "192.0.2.1",
                "192.0.2.1 is not of its own: 10.9.9.9 (peers.host); if it is CT 1 all the same, "
                "--peer 'CT 1=192.0.2.1' moves it there, "
                'addresses = ["10.9.9.9", "192.0.2.1"] of that peer lets it come from both',
            ),
            (
                KnownPeer(ae_title="CT 1", host="192.0.2.1", addresses=("10.1.0.0/16",)),
                "2001:db8::1",
                "2001:db8::1 is not of its own: 10.1.0.0/16 (peers.addresses); if it is CT 1 all "
                'the same, "2001:db8::1" among the addresses of that peer lets it in',
            ),
            (
                KnownPeer(ae_title="CT 1", addresses=("10.1.0.0/16",)),
                "",
                '"loopback" among the addresses of that peer lets it in',
            ),
        ],
    )
    def test_the_line_of_a_listed_peer_at_another_address_says_how_it_is_let_in(
        self, network: Network, kept: Archive, peer: KnownPeer, host: str, remedy: str
    ):
        """Once in ten minutes; and what it says is true."""
        node = Node(network, kept, Configuration(peers={"CT 1": peer}))
        with capturedLogs() as events:
            for _ in range(3):
                assert node.refused("CT 1", host) == (1, 1, 3)
        (line,) = [line for each in events if "rejected" in (line := formatEvent(each) or "")]
        assert line.endswith(remedy)
        place = host or "loopback"
        ways = [replace(peer, addresses=(*peer.places, place))]
        ways += [replace(peer, host=place)] if "--peer" in remedy else []
        for mended in ways:
            node = Node(network, kept, Configuration(peers={"CT 1": mended}))
            assert outcome(node, "CT 1", host, "plain", None, "ARCHIVE")[0] == ""

    @pytest.mark.parametrize(
        ("configuration", "level", "what"),
        [
            (Configuration(), "info", "0 peers are listed; those that are not may do: all that"),
            (Configuration(unlisted="all"), "warn", "(node.unlisted is all)"),
        ],
    )
    def test_the_log_tells_who_is_served(
        self,
        network: Network,
        kept: Archive,
        configuration: Configuration,
        level: str,
        what: str,
    ):
        node = Node(network, kept, configuration)
        with capturedLogs() as events:
            node.book.tell()
        (event,) = events
        assert event["log_level"].name == level
        assert what in (formatEvent(event) or "")

    def test_another_title_of_an_address_has_its_line(self, network: Network, kept: Archive):
        """Whoever mends the one that was wrong sees whether it is right now; a guesser does not
        fill the log."""
        node = Node(network, kept, Configuration())
        with capturedLogs() as events:
            for number in range(100):
                node.refused(f"CT{number}", "192.0.2.1")
        lines = [line for each in events if "rejected" in (line := formatEvent(each) or "")]
        assert len(lines) == 8
        assert "--peer CT7=192.0.2.1 lets it in" in lines[-1]

    def test_allow_any(self, network: Network, kept: Archive):
        node = Node(network, kept, Configuration(unlisted="all"))
        assert outcome(node, "ANY", "192.0.2.1", "plain", None, "ANYTHING") == ("", ALL)


class TestUniform:
    """H-T16: who guesses titles learns nothing from answers, nor from how long they take."""

    PEER = KnownPeer(ae_title="PEER", addresses=("10.1.2.3",))

    @pytest.mark.parametrize(
        ("title", "called"), [("PEER", "OTHER"), ("GUESS", "ARCHIVE"), ("GUESS", "OTHER")]
    )
    def test_h_t16_same_answer_and_delay(
        self, network: Network, kept: Archive, title: str, called: str
    ):
        configuration = Configuration(ae_titles=("ARCHIVE",), peers={"PEER": self.PEER})
        node = Node(network, kept, configuration, uniform=True)
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

    def test_h_t16_a_peer_that_leaves_meanwhile(self, network: Network, kept: Archive):
        node = Node(network, kept, Configuration(), uniform=True)
        node.ask("GUESS").addErrback(lambda _: None)
        network.cut()
        assert network.clock.getDelayedCalls() == []


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
    def test_h_t12_not_bound(self, network: Network, kept: Archive, security: str):
        node = one(network, kept, certificate_names=("DNS:signed.example",))
        assert node.refused("PEER", "10.0.0.1", security) == (1, 1, 3)
        assert node.taken("PEER", "10.0.0.1", "right")


def test_an_error_of_the_file_is_misuse(tmp_path: Path):
    file = tmp_path / "dimse.toml"
    file.write_text('[[peers]]\nae_title = "A"\nport = 1\n', "utf-8")
    with pytest.raises(MisuseError, match="a port needs a host"):
        read_configuration(file)
