"""`send()`: contexts from the files, a result for each, as many associations as it takes."""

import errno
import os
from collections.abc import Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from dimse.acceptor import AcceptorFactory
from dimse.errors import (
    AssociationAbortedError,
    AssociationRejectedError,
    ConnectionLostError,
    ContextError,
    DimseError,
    MisuseError,
    NotAnInstanceError,
    StatusError,
)
from dimse.limits import Limits
from dimse.services import sending
from dimse.services.instance import Instance
from dimse.services.sending import SendResult, find_files, send
from dimse.sop_classes import STORAGE_SOP_CLASSES
from dimse.ul.negotiation import SupportedContext
from tests.memory import Net, RecordingSink
from tests.services.test_instance import IDENTITY, part10
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT

JPEG = "1.2.840.10008.1.2.4.50"
MPEG = "1.2.840.10008.1.2.4.100"
ADDRESS = IPv4Address("TCP", "10.0.0.1", 4242)


@implementer(IStreamClientEndpoint)
class Archive:
    """An acceptor that takes whatever it is offered, and can be made to refuse."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.down = False
        syntaxes = SupportedContext(None)
        net.scp.contexts = dict.fromkeys(STORAGE_SOP_CLASSES, syntaxes)
        self.factory: AcceptorFactory = net.acceptor()

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[Any]":
        connected: Deferred[Any] = Deferred()
        if self.down:
            connected.errback(ConnectionRefusedError())
            return connected
        near: Any = protocolFactory.buildProtocol(ADDRESS)
        self.net.join(near, self.factory.buildProtocol(ADDRESS))
        connected.callback(near)
        return connected

    def send(self, sources: Iterable[Any], **options: Any) -> list[SendResult]:
        """All results, in order."""
        results: list[SendResult] = []

        async def collect() -> None:
            async for result in send(self, sources, reactor=self.net.clock, **options):
                results.append(result)

        done = self.net.outcome(Deferred.fromCoroutine(collect()))
        self.run()
        assert done.value is None
        return results

    def run(self) -> None:
        """Until nothing happens any more, on whatever links there are then."""
        for link in self.net.links:
            link.run()


async def _collected(archive: Archive, sent: Iterable[Any], limits: Limits) -> list[SendResult]:
    results = send(archive, sent, limits=limits, reactor=archive.net.clock)
    return [result async for result in results]


def collected(archive: Archive, sent: Iterable[Any], limits: Limits) -> "Deferred[Any]":
    return Deferred.fromCoroutine(_collected(archive, sent, limits))


@pytest.fixture
def archive(net: Net) -> Archive:
    return Archive(net)


def instance(number: int, sop_class: str = CT_STORAGE, syntax: str = EXPLICIT) -> Instance:
    return Instance(sop_class, f"1.2.{number}", syntax, data=b"abcd")


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


class TestResults:
    def test_nothing(self, net: Net, archive: Archive):
        assert archive.send([]) == []
        assert net.links == []

    def test_files_and_folders(self, archive: Archive, net: Net, tmp_path: Path):
        """What is no instance is skipped, and says so."""
        (tmp_path / "b").mkdir()
        for number, name in enumerate(("z", "b/c", "b/a")):
            uid = (0x0003, b"UI", b"1.2.%d\0" % number)
            (tmp_path / name).write_bytes(part10(IDENTITY[0], uid, IDENTITY[2], rest=b"data"))
        (tmp_path / "b" / "notes.txt").write_text("no instance")
        results = archive.send([tmp_path, tmp_path / "missing"])
        assert [(result.source, result.skipped) for result in results] == [
            (tmp_path / "b/notes.txt", True),
            (tmp_path / "missing", False),
            (tmp_path / "z", False),
            (tmp_path / "b/a", False),
            (tmp_path / "b/c", False),
        ]
        assert isinstance(results[0].error, NotAnInstanceError)
        assert isinstance(results[1].error, DimseError)
        assert not results[0].ok
        assert [bytes(sink.data) for sink in net.scp.sinks] == [b"data"] * 3

    def test_a_refused_one_does_not_keep_the_others(self, archive: Archive, net: Net):
        def refuse_second(_: RecordingSink) -> None:
            if len(net.scp.sinks) == 2:
                raise StatusError(0xA900)

        net.scp.on_write = refuse_second
        results = archive.send([instance(n) for n in range(3)])
        assert [result.ok for result in results] == [True, False, True]
        assert isinstance(results[1].error, StatusError)
        assert not results[1].skipped

    def test_a_context_that_was_not_accepted(self, archive: Archive, net: Net):
        archive.net.scp.contexts = {CT_STORAGE: SupportedContext(None)}
        archive.factory = net.acceptor()
        results = archive.send([instance(1, STORAGE_SOP_CLASSES[0]), instance(2)])
        assert isinstance(results[0].error, ContextError)
        assert results[1].ok

    def test_rejected(self, archive: Archive, net: Net):
        archive.factory = net.acceptor(ae_titles=["OTHER"])
        results = archive.send([instance(n) for n in range(3)])
        assert [type(result.error) for result in results] == [AssociationRejectedError] * 3

    def test_no_connection(self, archive: Archive):
        archive.down = True
        results = archive.send([instance(n) for n in range(3)])
        assert [type(result.error) for result in results] == [ConnectionLostError] * 3

    def test_an_association_that_ends_in_the_middle(self, archive: Archive, net: Net):
        """Only the one on its way has the error; the rest goes on a new association."""

        def abort(_: RecordingSink) -> None:
            if len(net.scp.sinks) == 2:
                net.links[0].far.protocol.user.abort()

        net.scp.on_write = abort
        results = archive.send([instance(n) for n in range(4)])
        assert [result.ok for result in results] == [True, False, True, True]
        assert isinstance(results[1].error, AssociationAbortedError)
        assert len(net.links) == 2

    def test_associations_that_bring_nothing(self, archive: Archive, net: Net):
        """After three in a row the rest is not tried."""
        net.scp.on_write = lambda _: net.links[-1].far.protocol.user.abort()
        results = archive.send([instance(n) for n in range(6)])
        assert len(net.links) == len(net.scp.sinks) == 3
        assert [type(result.error) for result in results] == [AssociationAbortedError] * 6

    def test_one_instance_an_association(self, archive: Archive, net: Net):
        """A peer that ends each after one has still brought something."""

        def every_second(_: RecordingSink) -> None:
            if len(net.scp.sinks) % 2 == 0:
                net.links[-1].far.protocol.user.abort()

        net.scp.on_write = every_second
        results = archive.send([instance(n) for n in range(10)])
        assert [result.ok for result in results] == [True, False] * 5
        assert len(net.links) == 5

    def test_a_new_association_that_is_not_established(self, archive: Archive, net: Net):
        def abort(_: RecordingSink) -> None:
            archive.down = True
            net.links[-1].far.protocol.user.abort()

        net.scp.on_write = abort
        results = archive.send([instance(n) for n in range(3)])
        assert [type(result.error) for result in results] == [
            AssociationAbortedError,
            ConnectionLostError,
            ConnectionLostError,
        ]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
    def test_a_folder_that_cannot_be_read(self, archive: Archive, tmp_path: Path):
        (tmp_path / "closed").mkdir(0)
        (result,) = archive.send([tmp_path])
        assert isinstance(result.error, DimseError)
        assert not result.skipped

    def test_a_folder_that_cannot_be_listed(
        self, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """Its error is its result, not silence."""

        def scandir(path: str) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

        monkeypatch.setattr(os, "scandir", scandir)
        result, other = archive.send([tmp_path, instance(1)])
        assert str(result.error) == f"{tmp_path}: Permission denied"
        assert not result.skipped
        assert other.ok

    def test_progress(self, archive: Archive):
        counts: list[int] = []
        archive.send([instance(n) for n in range(3)], progress=counts.append)
        assert sum(counts) == 12


class TestWindow:
    LIMITS = Limits(operations_invoked=4, operations_performed=4)

    @pytest.fixture
    def waiting(self, net: Net, archive: Archive) -> list[Deferred[int]]:
        """What each C-STORE waits for, in the order they came."""
        archive.factory = net.acceptor(limits=self.LIMITS)
        waiting: list[Deferred[int]] = []

        def wait(_: RecordingSink) -> "Deferred[int]":
            waiting.append(Deferred())
            return waiting[-1]

        net.scp.on_finish = wait
        return waiting

    @pytest.mark.parametrize(("limits", "at_a_time"), [(LIMITS, 4), (Limits(), 1)])
    def test_is_kept_full(
        self,
        net: Net,
        archive: Archive,
        waiting: list[Deferred[int]],
        limits: Limits,
        at_a_time: int,
    ):
        sent = [instance(number) for number in range(6)]
        done = net.outcome(collected(archive, sent, limits))
        archive.run()
        for number in range(6):
            assert len(waiting) == min(number + at_a_time, 6)
            waiting[number].callback(0xB000 if number == 2 else 0)
            archive.run()
        assert [result.source for result in done.value] == sent
        assert [result.status for result in done.value] == [0, 0, 0xB000, 0, 0, 0]

    def test_answers_in_any_order(self, net: Net, archive: Archive, waiting: list[Deferred[int]]):
        """Each instance has its own result."""
        sent = [instance(number) for number in range(4)]
        done = net.outcome(collected(archive, sent, self.LIMITS))
        archive.run()
        for number in (2, 0, 3, 1):
            waiting[number].callback(0xB000 + number)
            archive.run()
        assert [result.status for result in done.value] == [0xB000, 0xB001, 0xB002, 0xB003]

    def test_when_the_association_ends(
        self, net: Net, archive: Archive, waiting: list[Deferred[int]]
    ):
        """What was on its way has its error; the rest goes on a new association."""
        done = net.outcome(collected(archive, [instance(n) for n in range(6)], self.LIMITS))
        archive.run()
        net.links[0].far.protocol.user.abort()
        archive.run()
        for each in waiting[4:]:
            each.callback(0)
        archive.run()
        assert [result.ok for result in done.value] == [False] * 4 + [True] * 2
        assert len(net.links) == 2


class TestEnds:
    def test_leaving_early(self, net: Net, archive: Archive):
        """With `aclosing` it aborts there and then."""

        async def first() -> SendResult:
            results = send(archive, [instance(1), instance(2)], reactor=net.clock)
            async with aclosing(results):
                return await anext(results)

        done = net.outcome(Deferred.fromCoroutine(first()))
        archive.run()
        assert done.value.ok
        assert isinstance(net.links[0].far.protocol.user.ended, AssociationAbortedError)
        assert len(net.scp.sinks) == 1

    @pytest.mark.parametrize("options", [{"called_ae_title": ""}, {"calling_ae_title": "A" * 17}])
    def test_misuse(self, net: Net, archive: Archive, options: dict[str, Any]):
        async def collect() -> None:
            async for _ in send(archive, [instance(1)], reactor=net.clock, **options):
                raise AssertionError

        assert isinstance(net.outcome(Deferred.fromCoroutine(collect())).value, MisuseError)

    def test_cancelling(self, net: Net, archive: Archive):
        net.scp.on_finish = lambda sink: Deferred()

        async def collect() -> None:
            async for _ in send(archive, [instance(1)], reactor=net.clock):
                raise AssertionError

        done = net.outcome(Deferred.fromCoroutine(collect()))
        archive.run()
        done.deferred.cancel()
        archive.run()
        assert isinstance(done.value, CancelledError)
        assert isinstance(net.links[0].far.protocol.user.ended, AssociationAbortedError)


def test_find_files(tmp_path: Path):
    assert list(find_files(tmp_path)) == []
    assert list(find_files(tmp_path / "x")) == [tmp_path / "x"]
    assert list(find_files(str(tmp_path / "x"))) == [tmp_path / "x"]
