"""What the tests of hostile connections share."""

from dimse.errors import (
    AssociationAbortedError,
)
from dimse.limits import Limits
from dimse.ul.pdu import Abort
from dimse.ul.table import Sta
from tests.memory import RawPeer

LIMITS = Limits(artim=10, associate=30, close=5, maximum_length=16384, empty_fragments=16)


def header(pdu_type: int, length: int) -> bytes:
    return bytes((pdu_type, 0)) + length.to_bytes(4, "big")


def aborted(peer: RawPeer, expected: Abort) -> None:
    """One A-ABORT, nothing kept, deaf to what follows, and closed at the end of ARTIM."""
    assert peer.news == [expected]
    assert peer.subject.state is Sta.Sta13
    assert len(peer.subject._framer._partial) == 0
    user = peer.subject.user
    assert user is None or isinstance(user.ended, AssociationAbortedError)
    peer.send(bytes(100_000))
    peer.link.advance(LIMITS.artim)
    assert peer.closed
    assert peer.subject._framer._partial == b""
