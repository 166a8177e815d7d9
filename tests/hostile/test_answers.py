"""H-P26 to H-P36 over a connection: a hostile A-ASSOCIATE-AC to our requestor, and what our
acceptor says to the same in a request; each test is named by its case."""

from typing import Any

import pytest
from twisted.logger import formatEvent

from dimse import associate
from dimse.errors import AssociationAbortedError, ContextError
from dimse.sending import Whole
from dimse.services.verification import echo
from dimse.ul.pdu import Abort, AssociateAC, AssociateRJ, PDataTF
from tests.hostile.connections import LIMITS, aborted
from tests.memory import CONTEXTS, Net, RawPeer
from tests.scripted import AC, ECHO, INVALID, RQ, UNEXPECTED, store_rq
from tests.sides import BOTH_SIDES, joined
from tests.wire import (
    CLASS_UID,
    CT_STORAGE,
    IMPLICIT,
    MAXIMUM,
    VERIFICATION,
    answer,
    item,
    request,
    uid_item,
    with_user,
)

pytestmark = pytest.mark.usefixtures("bystander")
USER_ABORT = Abort(0, 0)
ACCEPTED = [item(0x21, bytes((number, 0, 0, 0)) + uid_item(0x40, IMPLICIT)) for number in (1, 3)]


def ac(*sub_items: bytes) -> bytes:
    """An A-ASSOCIATE-AC that accepts both contexts, with these user data sub-items."""
    return answer(*ACCEPTED, item(0x50, b"".join(sub_items)))


def refused(client: RawPeer, server: RawPeer, *sub_items: bytes) -> None:
    """Neither of ours makes an association of these user data sub-items, and both say so."""
    client.send(with_user(*sub_items))
    aborted(client, USER_ABORT)
    refused_by_requestor(server, ac(*sub_items))


def refused_by_requestor(server: RawPeer, wire: bytes, expected: Abort = INVALID) -> None:
    server.send(wire)
    assert isinstance(server.outcome.value, AssociationAbortedError)
    aborted(server, expected)


def agreed(server: RawPeer, wire: bytes) -> Any:
    """The association that the requestor has, and that can be used."""
    server.send(wire)
    association = server.outcome.value
    outcome: Any = echo(association)
    server.link.run()
    server.respond()
    assert outcome.result == 0
    return association


def clean_log(net: Net) -> None:
    """Nothing of a peer is in it that a terminal would obey."""
    for event in net.events:
        assert (formatEvent(event) or "").isprintable()


@pytest.mark.parametrize("length", [0, 3, 5, 8])
def test_h_p26_maximum_length_of_another_size(client: RawPeer, server: RawPeer, length: int):
    refused(client, server, item(0x51, bytes(length)))


@pytest.mark.parametrize("value", [1, 5, 7])
def test_h_p26_no_room_for_a_pdv(client: RawPeer, server: RawPeer, value: int):
    """A-ABORT to the acceptor, RJ(1,1,1) to the requestor."""
    sub_item = item(0x51, value.to_bytes(4, "big"))
    client.send(with_user(sub_item))
    assert client.news == [AssociateRJ(1, 1, 1)]
    refused_by_requestor(server, ac(sub_item))


@BOTH_SIDES
@pytest.mark.parametrize(
    ("theirs", "most"),
    [(0, LIMITS.send_length), (0xFFFFFFFF, LIMITS.send_length), (4096, 4096), (8, 8), (9, 8)],
)
def test_h_p26_no_maximum_is_not_used_up(net: Net, side: str, theirs: int, most: int):
    """What we send is as long as both sides want: our own cap holds for 0 and huge values."""
    ours, peer = joined(net, side, [net.scp], limits=LIMITS, maximum_length=theirs)
    size = 2 * LIMITS.send_length if theirs != most or most > 8 else 100
    stored = net.outcome(ours.request(ours.contexts[3], store_rq(), Whole(bytes(size))))
    net.run()
    lengths = [len(pdu.encode()) - 6 for pdu in peer.pdus]
    assert max(lengths) == most
    (message,) = peer.messages
    assert len(message.data) == size
    peer.respond()
    assert stored.value.response.status == 0


@pytest.mark.parametrize(
    "name", [b"", b"N" * 17, b"N" * 65000, b"\x1b[2J\n", b"\xff\0", b"{peer.__class__}"]
)
def test_h_p27_version_name(net: Net, client: RawPeer, server: RawPeer, name: bytes):
    """Taken, cut, and never raw in the log or in what explains the association."""
    sub_items = (MAXIMUM, CLASS_UID, item(0x55, name))
    for association in (agreed(server, ac(*sub_items)), associated(client, *sub_items)):
        assert len(association.peer_information.implementation_version_name) <= 16
        assert all(line.isprintable() for line in association.explanation)
        association.abort()
    clean_log(net)


def associated(client: RawPeer, *sub_items: bytes) -> Any:
    """What the acceptor has made of a request with these user data sub-items."""
    client.send(with_user(*sub_items))
    assert isinstance(client.news[0], AssociateAC)
    return client.subject.user


def role(uid: str, scu: int, scp: int) -> bytes:
    return item(0x54, len(uid).to_bytes(2, "big") + uid.encode() + bytes((scu, scp)))


@pytest.mark.parametrize(
    "roles",
    [
        [(CT_STORAGE, 0, 1)],
        [(CT_STORAGE, 1, 1), (VERIFICATION, 1, 1)],
        [("1.2.3", 1, 1)],
        [(VERIFICATION, 0, 0), (VERIFICATION, 0, 1)],
    ],
)
def test_h_p28_roles_that_nobody_asked_for(server: RawPeer, roles: list[tuple[str, int, int]]):
    """Ignored: our requestor is the SCU, as it is without them (PS3.7 D.3.3.4)."""
    association = agreed(server, ac(MAXIMUM, *(role(*each) for each in roles)))
    for context in association.contexts.values():
        assert (context.scu, context.scp) == (True, False)


@pytest.mark.parametrize(
    ("answers", "ours"),
    [
        ([(1, 1)], (False, True)),  # SCU was not offered
        ([(0, 1)], (False, True)),
        ([(7, 7)], (False, False)),
        ([(0, 0)], (False, False)),
        ([(0, 1), (0, 1)], (True, False)),
        ([(0, 0), (0, 1)], (True, False)),
        ([(0, 1), (0, 0)], (True, False)),
    ],
)
def test_h_p28_answers_to_an_offer(
    net: Net, answers: list[tuple[int, int]], ours: tuple[bool, bool]
):
    """To be the SCP of CT Image Storage: nothing is raised, 0 declines, any value but 1 too, and
    two answers are none, so that the last does not win."""
    endpoint = net.endpoint()
    server = net.scripted_acceptor(endpoint)
    offer = {CT_STORAGE: (False, True)}
    pending = associate(endpoint, CONTEXTS, roles=offer, reactor=net.clock)
    net.run()
    server.send(ac(MAXIMUM, *(role(CT_STORAGE, *each) for each in answers)))
    association = net.result(pending)
    context = association.contexts[3]
    assert (context.scu, context.scp) == ours
    said = "answered twice by the peer" in "".join(association.explanation)
    assert said is (len(answers) == 2)
    if not ours[0]:
        with pytest.raises(ContextError):
            association.context_for(CT_STORAGE)


@pytest.mark.parametrize("length", [4, 5, 0x7FFF, 0xFFFF])
@pytest.mark.parametrize("kind", [0x54, 0x56, 0x57])
def test_h_p29_inner_uid_overruns(client: RawPeer, server: RawPeer, kind: int, length: int):
    refused(client, server, MAXIMUM, item(kind, length.to_bytes(2, "big") + b"1.2"))


@pytest.mark.parametrize("window", [(0, 0), (65535, 65535), (1, 0), (0, 1)])
def test_h_p30_a_window_that_nobody_asked_for(
    client: RawPeer, server: RawPeer, window: tuple[int, int]
):
    """One operation at a time, in both directions and on both sides."""
    sub_item = item(0x53, b"".join(each.to_bytes(2, "big") for each in window))
    assert agreed(server, ac(MAXIMUM, sub_item)).window == (1, 1)
    assert associated(client, MAXIMUM, sub_item).window == (1, 1)


@pytest.mark.parametrize("body", [b"", b"\0\1", b"\0\1\0", b"\0\1\0\1\0"])
def test_h_p30_a_window_of_another_size(client: RawPeer, server: RawPeer, body: bytes):
    refused(client, server, MAXIMUM, item(0x53, body))


TITLES = [b" " * 16, bytes(16), b"\xff" * 16, b"\x1b[2J\n", b"../..", b"{log_format}", b"%s%n"]


@pytest.mark.parametrize("title", TITLES)
def test_h_p31_titles_in_an_answer(net: Net, server: RawPeer, title: bytes):
    """Reserved there, so not tested (PS3.8 9.3.3), and not what we call the peer."""
    wire = bytearray(ac(MAXIMUM))
    wire[10:26] = wire[26:42] = title.ljust(16)
    assert agreed(server, bytes(wire)).peer.ae_title == "ARCHIVE"
    clean_log(net)


@pytest.mark.parametrize("title", TITLES)
def test_h_p31_titles_in_a_request(net: Net, client: RawPeer, title: bytes):
    """One that is none is rejected; one that is stays a label. Never raw in the log."""
    client.send(request(calling=title.ljust(16)))
    is_title = title[:1].isascii() and title.strip().decode("latin-1").isprintable()
    if is_title and title.strip():
        assert isinstance(client.news[0], AssociateAC)
        assert client.subject.user.peer.ae_title == title.decode()
        client.send(ECHO)
        client.link.cut()
    else:
        assert client.news == [AssociateRJ(1, 1, 3)]
    clean_log(net)


@pytest.mark.parametrize("title", [b" MODALITY", b"MODALITY\0\0", b"   MODALITY     "])
def test_h_p32_padded_titles(client: RawPeer, server: RawPeer, title: bytes):
    """The same title without its padding; in an answer it is nothing."""
    client.send(request(calling=title.ljust(16)))
    assert client.subject.user.peer.ae_title == "MODALITY"
    wire = bytearray(ac(MAXIMUM))
    wire[10:26] = b" ARCHIVE".ljust(16)
    assert agreed(server, bytes(wire)).peer.ae_title == "ARCHIVE"


def identity(primary: bytes, claim: int, kind: int = 1) -> bytes:
    return item(0x58, bytes((kind, 0)) + claim.to_bytes(2, "big") + primary + b"\0\0")


@pytest.mark.parametrize("size", [0, 65000])
def test_h_p33_a_large_identity(client: RawPeer, server: RawPeer, size: int):
    """Taken as it is; a response that nobody asked for harms nobody."""
    response = item(0x59, size.to_bytes(2, "big") + bytes(size))
    assert agreed(server, ac(MAXIMUM, response)).contexts.keys() == {1, 3}
    associated(client, MAXIMUM, identity(b"u" * size, size))


@pytest.mark.parametrize("claim", [7, 0x7FFF, 0xFFFF])
def test_h_p33_an_overrun(client: RawPeer, server: RawPeer, claim: int):
    client.send(with_user(MAXIMUM, identity(b"user", claim)))
    aborted(client, USER_ABORT)
    refused_by_requestor(server, ac(MAXIMUM, item(0x59, claim.to_bytes(2, "big") + b"user")))


def test_h_p33_two_responses(server: RawPeer):
    response = item(0x59, b"\0\4user")
    refused_by_requestor(server, ac(MAXIMUM, response, response), Abort(2, 5))


@pytest.mark.parametrize("kind", [0, 6, 255])
def test_h_p33_an_unknown_type(client: RawPeer, kind: int):
    client.send(with_user(MAXIMUM, identity(b"user", 4, kind)))
    assert client.news == [AssociateRJ(1, 2, 1)]


def test_h_p34_sub_items_that_claim_64_kib(client: RawPeer, server: RawPeer):
    """On the connection: refused, and nothing of them is kept."""
    refused(client, server, bytes((0x52, 0, 0xFF, 0xFF)) * 16000)


@pytest.mark.parametrize("second", [AC, RQ])
def test_h_p35_two_answers_in_one_segment(server: RawPeer, second: bytes):
    """The first makes the association, the second ends it."""
    server.send(AC + second)
    assert isinstance(server.outcome.value.ended, AssociationAbortedError)
    aborted(server, UNEXPECTED)


def test_h_p36_p_data_before_the_answer(server: RawPeer):
    refused_by_requestor(server, ECHO + AC, UNEXPECTED)


def test_h_p36_p_data_right_behind_the_answer(server: RawPeer):
    """The association is there, and so it is heard: we are no SCP, which is an answer."""
    server.send(AC + ECHO)
    assert server.outcome.value.ended is None
    (pdu,) = server.news
    assert isinstance(pdu, PDataTF)
