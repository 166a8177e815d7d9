"""What a listed peer is held to: its names, how much, and of what."""

from dataclasses import replace
from typing import Any

import pytest
from pydicom.uid import CTImageStorage, MRImageStorage
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent

import dimse
from dimse import STUDY_ROOT, StatusError
from dimse.archive.archive import Archive
from dimse.security.access import KnownPeer
from dimse.server.config import Configuration
from dimse.server.names import EVERY, Names
from dimse.sop_classes import MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE
from dimse.testing import Network
from tests.archive.archives import data_set
from tests.server.access_node import RESOLVED, Node, one
from tests.wire import EXPLICIT, IMPLICIT, VERIFICATION


class TestNames:
    """Host names are resolved when they are configured, and again; addresses never are."""

    def test_a_name_that_moves(
        self, network: Network, kept: Archive, monkeypatch: pytest.MonkeyPatch
    ):
        node = one(network, kept, host="ct.example")
        assert node.taken("PEER", "10.2.0.1")
        monkeypatch.setitem(RESOLVED, "ct.example", ["10.2.0.2"])
        network.advance(EVERY)
        assert node.refused("PEER", "10.2.0.1") == (1, 1, 3)
        assert node.taken("PEER", "10.2.0.2")
        node.names.stopService()

    def test_one_that_resolves_no_more_keeps_its_addresses(
        self, network: Network, kept: Archive, monkeypatch: pytest.MonkeyPatch
    ):
        node = one(network, kept, host="ct.example")
        monkeypatch.delitem(RESOLVED, "ct.example")
        with capturedLogs() as events:
            network.advance(3 * EVERY)
        lines = [line for each in events if "resolve" in (line := formatEvent(each) or "")]
        assert lines == ["ct.example does not resolve (not known); its peer is taken from 10.2.0.1"]
        assert node.taken("PEER", "10.2.0.1")
        node.names.stopService()

    def test_who_comes_before_it_is_known_waits(self, network: Network, kept: Archive):
        answer: Deferred[Any] = Deferred()
        node = one(network, kept)
        node.names._look_up = lambda name: answer
        peer = KnownPeer(ae_title="PEER", host="new.example")
        node.configuration = Configuration(peers={"PEER": peer})
        node.book.renew(node.configuration.peers)
        pending = node.ask("PEER", "10.3.0.1")
        assert not pending.called
        answer.callback(["10.3.0.1"])
        assert network.result(pending)
        node.names.stopService()

    def test_who_waits_for_a_name_that_is_wanted_no_more(self, network: Network, kept: Archive):
        """It is decided about at once, and not at the end of its time."""
        node = one(network, kept)
        node.names._look_up = lambda name: Deferred()
        peer = KnownPeer(ae_title="PEER", host="new.example")
        node.configuration = Configuration(peers={"PEER": peer})
        node.book.renew(node.configuration.peers)
        pending = node.ask("PEER", "10.3.0.1")
        assert not pending.called
        node.configuration = Configuration(peers={"PEER": replace(peer, host="10.3.0.1")})
        node.book.renew(node.configuration.peers)
        assert network.result(pending)
        node.names.stopService()

    def test_a_silent_name_server_holds_up_one_thread(self, network: Network, kept: Archive):
        """Whatever is read again meanwhile: one look-up at a time, and the answer counts."""
        asked: list[tuple[str, Deferred[Any]]] = []

        def look_up(name: str) -> Deferred[Any]:
            asked.append((name, Deferred()))
            return asked[-1][1]

        node = one(network, kept)
        node.names._look_up = look_up
        for position in range(30):
            peer = KnownPeer(ae_title="PEER", addresses=("a.example", f"b{position}.example"))
            node.configuration = Configuration(peers={"PEER": peer})
            node.book.renew(node.configuration.peers)
        pending = node.ask("PEER", "10.3.0.1")
        assert [name for name, _ in asked] == ["a.example"]
        asked[0][1].callback(["10.3.0.1"])
        assert [name for name, _ in asked] == ["a.example", "b29.example"]
        assert not pending.called  # its other name may be where it comes from
        node.names.stopService()
        node.names.startService()
        assert len(asked) == 2
        asked[1][1].errback(OSError(2, "not known"))
        assert [name for name, _ in asked[2:]] == ["a.example"]  # once more, as at each start
        assert network.result(pending)
        node.names.stopService()

    def test_a_look_up_that_goes_wrong_otherwise_is_not_the_last_one(
        self, network: Network, kept: Archive
    ):
        """No thread is left for it, say: the other names have their turn, and it has another."""
        asked: list[str] = []

        def look_up(name: str) -> Deferred[Any]:
            asked.append(name)
            if len(asked) == 1:
                raise RuntimeError("can't start new thread")
            return succeed(["10.3.0.1"])

        node = one(network, kept)
        node.names._look_up = look_up
        peer = KnownPeer(ae_title="PEER", addresses=("a.example", "b.example"))
        node.configuration = Configuration(peers={"PEER": peer})
        node.book.renew(node.configuration.peers)
        assert asked == ["a.example", "b.example"]
        assert node.taken("PEER", "10.3.0.1")
        network.advance(EVERY)
        assert sorted(asked[2:]) == ["a.example", "b.example"]
        node.names.stopService()

    def test_nothing_is_kept_of_what_is_wanted_no_more(self):
        """Who is bound to it again waits, whether it had addresses or not, or was just asked."""
        answers: dict[str, Deferred[Any]] = {name: Deferred() for name in "abc"}
        clock = Clock()
        names = Names(clock, answers.__getitem__)
        names.watch("abc")
        names.startService()
        answers["a"].callback(["10.3.0.1"])
        answers["b"].errback(OSError(2, "not known"))
        names.watch("")
        answers["c"].callback(["10.3.0.3"])
        assert [names.addresses(each) for each in "abc"] == [(), (), ()]
        assert clock.getDelayedCalls() == []
        answers |= {name: Deferred() for name in "abc"}
        names.watch("abc")
        waiting = [names.known(each) for each in "abc"]
        assert None not in waiting
        names.stopService()
        assert [each.called for each in waiting if each is not None] == [True] * 3
        answers["a"].callback(["10.3.0.1"])
        assert clock.getDelayedCalls() == []

    def test_what_is_not_known_yet_is_looked_up_first(self, network: Network, kept: Archive):
        asked: list[str] = []

        def look_up(name: str) -> Deferred[Any]:
            asked.append(name)
            return succeed(["10.3.0.1"])

        node = one(network, kept, addresses=("a.example", "b.example"))
        node.names._look_up = look_up
        node.names.watch(["a.example", "b.example"])
        asked.clear()
        node.names.watch(["a.example", "b.example", "c.example"])
        assert asked == ["c.example", "a.example", "b.example"]
        node.names.stopService()


class TestHowMuch:
    def test_h_r04_associations_at_a_time(self, network: Network, kept: Archive):
        """RJ(2,3,2); another one has room, and so has it when one has left."""
        node = one(network, kept, associations=2)
        first, _ = node.taken("PEER"), node.taken("PEER")
        with capturedLogs() as events:
            assert node.refused("PEER") == (2, 3, 2)
        assert (formatEvent(events[0]) or "").endswith(": its associations are used up")
        assert node.taken("OTHER")
        network.result(first.release())
        assert node.taken("PEER")
        assert node.refused("PEER") == (2, 3, 2)

    def test_associations_per_minute(self, network: Network, kept: Archive):
        node = one(network, kept, associations_per_minute=2)
        for _ in range(2):
            network.result(node.taken("PEER").release())
        assert node.refused("PEER") == (2, 3, 2)
        network.advance(62)
        assert node.taken("PEER")

    def test_operations_per_minute(self, network: Network, kept: Archive):
        """On all its associations; the association goes on."""
        node = one(network, kept, operations_per_minute=2)
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
    def test_bytes(self, network: Network, kept: Archive, quota: str, period: int, uid: str):
        """0xA700 for the instance that would be too much, which takes no room itself."""
        node = one(network, kept, **{quota: 1500})
        association = node.taken("PEER", contexts=[(CTImageStorage, [EXPLICIT])])
        large = [data_set(f"{uid}.{n}", PatientComments="x" * 1000) for n in range(3)]
        assert network.result(dimse.store(association, large[0])) == 0
        with capturedLogs() as events:
            for _ in range(3):
                with pytest.raises(StatusError, match="0xA700"):
                    network.result(dimse.store(association, large[1]))
        warned = [each for each in events if each["log_level"] is LogLevel.warn]
        (line,) = map(formatEvent, warned)
        assert str(line).endswith(f"{quota} of this peer is used up")
        assert network.result(dimse.store(association, data_set(f"{uid}.9"))) == 0
        network.advance(period * 62 / 60)
        association = node.taken("PEER", contexts=[(CTImageStorage, [EXPLICIT])])
        assert network.result(dimse.store(association, large[1])) == 0


class TestWhat:
    def test_sop_classes_and_transfer_syntaxes(self, network: Network, kept: Archive):
        node = one(
            network, kept, sop_classes=(CTImageStorage,), store_transfer_syntaxes=(IMPLICIT,)
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

    def test_k37_other_destinations_are_as_unknown(self, network: Network, kept: Archive):
        """Nobody is connected to, and the answer is that for one that is not there; the log has the
        reason."""
        peers = {
            "PEER": KnownPeer(ae_title="PEER", destinations=("PEER",)),
            "WS": KnownPeer(ae_title="WS", host="10.0.0.9", port=104),
        }
        node = Node(network, kept, Configuration(peers=peers))
        association = node.taken("PEER", contexts=[STUDY_ROOT.move])
        keys = data_set("1.2.1.1")
        keys.QueryRetrieveLevel = "STUDY"
        comments = []
        for title in ("WS", "NO"):
            with pytest.raises(StatusError, match="0xA801") as caught, capturedLogs() as events:
                network.result(dimse.move(association, keys, title).result())
            said = f"C-MOVE to {title}: it is not among the destinations of this peer"
            assert said in (formatEvent(events[0]) or "")
            assert events[0]["log_level"] is LogLevel.warn
            comments.append(str(caught.value).replace(title, "X"))
        assert comments[0] == comments[1]

    def test_a_scope_reaches_the_queries(self, network: Network, kept: Archive):
        node = one(network, kept, scope={"InstitutionName": ("North",)})
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

    def test_a_peer_with_a_scope_has_no_steps_to_look_at(self, network: Network, kept: Archive):
        retrieve = MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE
        for title, given in (("PEER", 0), ("OTHER", 1)):
            node = one(network, kept, scope={"Modality": ("CT",)})
            assert len(node.taken(title, contexts=[retrieve]).contexts) == given


def test_the_counters_of_one_that_is_gone_are_too(network: Network, kept: Archive):
    node = one(network, kept)
    node.taken("PEER")
    node.configuration = Configuration(peers={"OTHER": KnownPeer(ae_title="OTHER")})
    node.book.renew(node.configuration.peers)
    assert node.book._meters.keys() <= {"OTHER"}
    assert node.refused("PEER") == (1, 1, 3)
