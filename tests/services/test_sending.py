"""`send()`: a result for each, the window, as many associations as it takes."""

import errno
import os
from collections.abc import Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory

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
from dimse.services.sending import SendResult, find_files, send
from dimse.sop_classes import STORAGE_SOP_CLASSES
from dimse.ul.negotiation import SupportedContext
from tests.memory import Net, RecordingSink
from tests.services.sendings import Archive, instance
from tests.services.test_instance import IDENTITY, part10
from tests.wire import CT_STORAGE


async def _collected(archive: Archive, sent: Iterable[Any], limits: Limits) -> list[SendResult]:
    results = send(archive, sent, limits=limits, reactor=archive.net.clock)
    return [result async for result in results]


def collected(archive: Archive, sent: Iterable[Any], limits: Limits) -> "Deferred[Any]":
    return Deferred.fromCoroutine(_collected(archive, sent, limits))


@pytest.fixture
def archive(net: Net) -> Archive:
    return Archive(net)


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

    @pytest.mark.parametrize("before", [0, 1])
    def test_who_closes_without_an_answer_may_expect_tls(
        self, archive: Archive, net: Net, before: int
    ):
        """But not if there was an association with him before."""
        nobody: Any = Factory()
        nobody.buildProtocol = lambda _: None

        def close(_: object = None) -> None:
            archive.factory = nobody
            for link in net.links:
                link.far.protocol.user.abort()

        net.scp.on_write = close
        if not before:
            close()
        *_, last = archive.send([instance(n) for n in range(3)])
        assert isinstance(last.error, ConnectionLostError)
        assert last.error.may_expect_tls is not bool(before)

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

    def test_forgotten_in_the_middle(self, net: Net, archive: Archive):
        """Whoever takes the results is collected, without a word: that would fail this test."""
        net.scp.on_finish = lambda sink: Deferred()

        async def collect() -> None:
            async for _ in send(archive, [instance(1)], reactor=net.clock):
                raise AssertionError

        forgotten = collect()
        Deferred.fromCoroutine(forgotten).addErrback(lambda _: None)  # when the store has failed
        archive.run()
        forgotten.close()
        archive.run()
        assert isinstance(net.links[0].far.protocol.user.ended, AssociationAbortedError)

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
