"""Peers to call from the command line."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.recorder import Recorder
from tests.peers import free_port, running, tool


@pytest.fixture
def received(tmp_path: Path) -> Path:
    """Where `storescp` puts what it receives."""
    folder = tmp_path / "received"
    folder.mkdir()
    return folder


@pytest.fixture
def storescp(received: Path) -> Iterator[int]:
    """The port of DCMTK's storescp."""
    port = free_port()
    with running([tool("storescp"), "--output-directory", received, str(port)], port):
        yield port


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A peer on 127.0.0.1 that writes down what it is asked."""
    with Recorder().serving() as recorder:
        yield recorder


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A socket that listens; who connects to it hears nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)
        yield listening
