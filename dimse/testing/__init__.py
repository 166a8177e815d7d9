"""For tests of programmes that use dimse: networks in memory, and peers that misbehave on demand.

No sockets, no reactor, no sleeping: bytes move and time passes when a test says so.
"""

from dimse.testing.clock import MemoryClock
from dimse.testing.network import Endpoint, Network
from dimse.testing.scripted import Received, ScriptedPeer
from dimse.testing.transport import Link, Transport

__all__ = [
    "Endpoint",
    "Link",
    "MemoryClock",
    "Network",
    "Received",
    "ScriptedPeer",
    "Transport",
]
