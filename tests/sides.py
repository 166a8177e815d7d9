"""An association of ours as seen from either side, and a scripted peer at its other end."""

from collections.abc import Sequence
from typing import Any

import pytest

from dimse import Limits, associate
from dimse.association import Association
from dimse.testing import Network, ScriptedPeer
from dimse.ul.items import RoleSelection
from tests.wire import CT_STORAGE, IMPLICIT, VERIFICATION

SIDES = ["server", "client"]
BOTH_SIDES = pytest.mark.parametrize("side", SIDES)


def joined(
    network: Network,
    side: str,
    scps: Sequence[Any],
    contexts: Sequence[str] = (VERIFICATION, CT_STORAGE),
    *,
    limits: Limits | None = None,
    window: int = 1,
    syntax: str = IMPLICIT,
    maximum_length: int = 16384,
) -> tuple[Association, ScriptedPeer]:
    """Our association, as "server" (acceptor) or "client" (requestor), and the peer.

    Both may take both roles as far as `scps` do. `window` is how many operations the peer wants
    to invoke at a time, and `maximum_length` what it says to take.
    """
    pairs = [(uid, [syntax]) for uid in contexts]
    if side == "server":
        peer = network.scripted_requestor(network.listen(scps, limits=limits))
        roles = [RoleSelection(uid, scu=True, scp=True) for uid in contexts]
        peer.associate(pairs, roles=roles, window=(window, 1), maximum_length=maximum_length)
        acceptor: Any = network.links[-1].far.protocol
        ours: Association = acceptor.user
    else:
        endpoint = network.endpoint()
        peer = network.scripted_acceptor(endpoint)
        both = dict.fromkeys(contexts, (True, True))
        options: dict[str, Any] = {"roles": both, "scps": scps, "limits": limits}
        pending = associate(endpoint, pairs, reactor=network.clock, **options)
        peer.accept(window=(1, window), maximum_length=maximum_length)
        ours = network.result(pending)
    peer.received.clear()
    return ours, peer
