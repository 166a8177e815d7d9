"""One instance of 512 MB, in both directions; compared by the SHA-256 of its data set."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.corpus import Receiver
from tests.interop.large import PIXELS, digest, write_random
from tests.peers import run, tool

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The file and its digest."""
    path = tmp_path_factory.mktemp("large") / "instance.dcm"
    write_random(path)
    yield path, digest(path)
    path.unlink()


def check(receiver: Receiver, expected: str) -> None:
    """It is there, whole; it is removed, for it is large."""
    (stored,) = (path for path in receiver.folder.rglob("*") if path.is_file())
    found = stored.stat().st_size, digest(stored)
    stored.unlink()
    assert found[0] > PIXELS
    assert found[1] == expected


def test_from_storescu(instance: tuple[Path, str], node: Receiver):
    """DCMTK's largest PDUs; it encodes this file as it is."""
    args = [tool("storescu"), "-R", "--max-pdu", "131072", "127.0.0.1", str(node.port)]
    done = run([*args, instance[0]], env={"TCP_NODELAY": "1"})
    assert done.returncode == 0, done.stdout
    check(node, instance[1])


@pytest.mark.parametrize("peer", ["node", "storescp_bits"])
def test_from_dimse_store(instance: tuple[Path, str], peer: str, request: pytest.FixtureRequest):
    receiver: Receiver = request.getfixturevalue(peer)
    args = [sys.executable, "-m", "dimse", "store", "127.0.0.1", str(receiver.port)]
    done = run([*args, instance[0]])
    assert done.returncode == 0, done.stdout
    check(receiver, instance[1])
