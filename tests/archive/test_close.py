"""The end of an archive: what is done in threads is awaited, and the lock given back once."""

import errno
import os
from pathlib import Path

import pytest
from twisted.internet.defer import CancelledError

from dimse import MisuseError
from dimse.archive.archive import Archive
from dimse.archive.files import ObjectFolder
from tests.archive.archives import LIMITS, open_archive
from tests.archive.storing import Hand


def test_a_close_waits_for_what_is_done_in_threads(tmp_path: Path):
    """Also for what was cancelled: its thread goes on, and uses the index."""
    hand = Hand()
    archive = Archive(tmp_path, limits=LIMITS, in_thread=hand).open()
    asked = [archive._in_thread(lambda: archive.index.keys("0", "g")) for _ in range(2)]
    asked[1].cancel()
    asked[1].addErrback(lambda failure: failure.trap(CancelledError))
    closed: list[None] = []
    archive.close().addCallback(closed.append)
    hand.go()
    assert closed == []
    with pytest.raises(MisuseError, match="another server"):
        Archive(tmp_path, limits=LIMITS).open()
    hand.go()
    assert closed == [None]
    with open_archive(tmp_path):
        pass


def test_a_lock_that_fails_to_close_is_closed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The number of its descriptor may be that of another file by then."""
    objects = ObjectFolder(tmp_path, durable=False, reserve=0).open()
    closed, close = [], os.close

    def broken(fd: int) -> None:
        close(fd)
        closed.append(fd)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", broken)
        objects.close()
        objects.close()
    assert len(closed) == 1
    objects.open().close()
