"""`send()`: contexts from the files, as far as it looks ahead."""

from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, succeed

from dimse.errors import (
    NotAnInstanceError,
)
from dimse.services import sending
from dimse.services.instance import Instance
from dimse.sop_classes import STORAGE_SOP_CLASSES
from dimse.ul.negotiation import SupportedContext
from tests.memory import Net, RecordingSink
from tests.services.sendings import Archive, instance
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT

JPEG = "1.2.840.10008.1.2.4.50"
MPEG = "1.2.840.10008.1.2.4.100"


@pytest.fixture
def archive(net: Net) -> Archive:
    return Archive(net)


class TestContexts:
    def test_exactly_what_is_sent(self, net: Net, archive: Archive):
        other = STORAGE_SOP_CLASSES[0]
        sent = [
            instance(1),
            instance(2),
            instance(3, syntax=IMPLICIT),
            instance(4, other),
            instance(5),
        ]
        results = archive.send(sent)
        assert [result.source for result in results] == sent
        assert all(result.ok and result.status == 0 for result in results)
        (link,) = net.links
        contexts = link.near.protocol.user.contexts.values()
        assert [(context.abstract_syntax, context.transfer_syntax) for context in contexts] == [
            (CT_STORAGE, EXPLICIT),
            (CT_STORAGE, IMPLICIT),
            (other, EXPLICIT),
            (other, IMPLICIT),
        ]

    def test_a_peer_that_takes_the_default_only(self, net: Net, archive: Archive):
        """What can be is converted; the others say what is wrong."""
        net.scp.contexts = {CT_STORAGE: SupportedContext((IMPLICIT,))}
        archive.factory = net.acceptor()
        sop_class = CT_STORAGE.encode() + b"\0"
        explicit = b"\x08\0\x16\0UI\x1a\0" + sop_class + b"\x08\0\x18\0UI\6\x001.2.3\0"
        implicit = b"\x08\0\x16\0\x1a\0\0\0" + sop_class + b"\x08\0\x18\0\6\0\0\x001.2.3\0"
        results = archive.send(
            [
                Instance(CT_STORAGE, "1.2.3", EXPLICIT, data=explicit),
                instance(1, syntax=JPEG),
                instance(2),
                instance(3, syntax=IMPLICIT),
            ]
        )
        assert [result.ok for result in results] == [True, False, False, True]
        assert [bytes(sink.data) for sink in net.scp.sinks] == [implicit, b"abcd"]
        for result in results[1:3]:  # no data sets
            assert isinstance(result.error, NotAnInstanceError)

    def test_transfer_syntaxes_that_are_wanted(self, net: Net, archive: Archive):
        """What can be in one of them is proposed in nothing else; the rest goes as it is."""
        sent = [instance(1, syntax=IMPLICIT), instance(2, syntax=MPEG)]
        results = archive.send([*sent, instance(3)], transfer_syntaxes=[IMPLICIT])
        (link,) = net.links
        contexts = link.near.protocol.user.contexts.values()
        assert [context.transfer_syntax for context in contexts] == [IMPLICIT, MPEG]
        assert [result.source for result in results if result.ok] == sent
        assert isinstance(results[2].error, NotAnInstanceError)  # to convert it was tried

    @pytest.mark.parametrize("kinds", [128, 129])
    def test_contexts_that_are_not_wanted_take_no_place(
        self, net: Net, archive: Archive, kinds: int
    ):
        """Each kind would have two proposals without it."""
        sent = [instance(n, uid) for n, uid in enumerate(STORAGE_SOP_CLASSES[:kinds])]
        results = archive.send(sent, transfer_syntaxes=[EXPLICIT])
        assert all(result.ok for result in results)
        assert len(net.links) == 1 + (kinds > 128)

    @pytest.mark.parametrize(
        ("kinds", "associations", "syntax"),
        [(64, 1, EXPLICIT), (65, 2, EXPLICIT), (42, 1, JPEG), (43, 2, JPEG), (128, 1, MPEG)],
    )
    def test_more_than_128(
        self, net: Net, archive: Archive, kinds: int, associations: int, syntax: str
    ):
        """Two contexts for each of what is not compressed, three if pydicom can decode it."""
        sent = [instance(n, STORAGE_SOP_CLASSES[n], syntax) for n in range(kinds)]
        results = archive.send([*sent, instance(999, STORAGE_SOP_CLASSES[0], syntax)])
        assert len(results) == kinds + 1
        assert all(result.ok for result in results)
        assert len(net.links) == associations
        assert all(link.near.lost for link in net.links)  # one after the other, all released


class TestLookingAhead:
    """Only so many sources are taken before one is sent, and the others as they are sent."""

    @pytest.fixture(autouse=True)
    def _ahead(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sending, "_AHEAD", 3)

    def test_what_fits_goes_on_the_same_association(self, net: Net, archive: Archive):
        results = archive.send(instance(number) for number in range(10))
        assert [result.sop_instance_uid for result in results] == [f"1.2.{n}" for n in range(10)]
        assert all(result.ok for result in results)
        assert len(net.links) == 1

    def test_what_needs_another_context_goes_on_the_next(self, net: Net, archive: Archive):
        kinds = [STORAGE_SOP_CLASSES[number // 5] for number in range(10)]
        results = archive.send(instance(number, kind) for number, kind in enumerate(kinds))
        assert [result.sop_instance_uid for result in results] == [f"1.2.{n}" for n in range(10)]
        assert all(result.ok for result in results)
        assert len(net.links) == 2

    def test_what_cannot_be_sent_is_no_reason_to_stop(self, archive: Archive, tmp_path: Path):
        """More such files than are looked at ahead, first, between, and last."""
        none = [tmp_path / str(number) for number in range(5)]
        sources = [*none, instance(1), instance(2), *none, instance(3), *none]
        results = archive.send(sources)
        assert len(results) == len(sources)
        assert [result.sop_instance_uid for result in results if result.ok] == [
            "1.2.1",
            "1.2.2",
            "1.2.3",
        ]

    def test_when_the_peer_is_gone_all_have_their_error(self, archive: Archive, tmp_path: Path):
        archive.down = True
        sources = [*(instance(number) for number in range(10)), tmp_path / "none"]
        results = archive.send(sources)
        assert {result.source for result in results} == set(sources)
        assert not any(result.ok for result in results)

    def test_the_rest_goes_on_a_new_association(self, net: Net, archive: Archive):
        """After an abort in the middle, with what was not yet known too."""

        def abort(sink: RecordingSink) -> "Deferred[int]":
            if len(net.scp.sinks) == 4:
                net.links[0].far.protocol.user.abort()
                return Deferred()
            return succeed(0)

        net.scp.on_finish = abort
        results = archive.send(instance(number) for number in range(10))
        assert [result.ok for result in results] == [number != 3 for number in range(10)]
        assert len(net.links) == 2
