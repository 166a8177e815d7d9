"""The guide names what there is; its code is that of an example, which runs."""

import re
from pathlib import Path

import pytest

from dimse.testing import Network, ScriptedPeer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text("utf-8")
EXAMPLE = (ROOT / "examples" / "test_my_scp.py").read_text("utf-8")


def named(owner: str) -> set[str]:
    return set(re.findall(rf"\b{owner}\.(\w+)", PAGE))


def test_what_a_network_has(network: Network):
    assert {name for name in named("network") if not hasattr(network, name)} == set()
    assert named("network") >= {"run", "advance", "result", "cut", "listen", "associate"}


def test_what_a_peer_can_do():
    peer = ScriptedPeer(lambda: None)
    assert {name for name in named("peer") if not hasattr(peer, name)} == set()
    public = {name for name in vars(ScriptedPeer) if re.fullmatch("[a-z][a-z_]*", name)}
    assert public - set(re.findall(r"\w+", PAGE)) == set()


@pytest.mark.parametrize("name", re.findall(r":pyobject: (\w+)", PAGE))
def test_what_it_shows_is_in_the_example(name: str):
    assert f"\ndef {name}(" in EXAMPLE
