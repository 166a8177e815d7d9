"""Bytes as a peer sends them: PDUs and items built by hand, and the ways in which they arrive."""

from collections.abc import Iterable, Iterator

import pytest

from dimse.errors import AbortReason, ProtocolError
from dimse.limits import Limits
from dimse.ul.framing import Framer
from dimse.ul.pdu import PDU, PDUS, AssociateRQ, check_length

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
PEER_CLASS_UID = "1.2.3.4"

LIMITS = Limits()
NEXT = bytes.fromhex("05000000000400")  # the beginning of an A-RELEASE-RQ


def admit(pdu_type: int, length: int) -> bool:
    """What a connection does with a header: the default limits decide."""
    check_length(pdu_type, length, associate=LIMITS.associate_length, p_data=LIMITS.maximum_length)
    return True


def pdu(pdu_type: int, body: bytes) -> bytes:
    """A PDU of any type and body."""
    return bytes((pdu_type, 0)) + len(body).to_bytes(4, "big") + body


def item(item_type: int, body: bytes) -> bytes:
    """An item or sub-item of any type and body."""
    return bytes((item_type, 0)) + len(body).to_bytes(2, "big") + body


def uid_item(item_type: int, uid: str) -> bytes:
    """An item that holds a UID."""
    return item(item_type, uid.encode("latin-1"))


def fixed(
    called: bytes = b"ARCHIVE".ljust(16), calling: bytes = b"MODALITY".ljust(16), version: int = 1
) -> bytes:
    """What stands before the items of an A-ASSOCIATE-RQ."""
    return version.to_bytes(2, "big") + bytes(2) + called + calling + bytes(32)


APPLICATION = uid_item(0x10, APPLICATION_CONTEXT)
CONTEXT = item(0x20, b"\x01\0\0\0" + uid_item(0x30, VERIFICATION) + uid_item(0x40, IMPLICIT))
MAXIMUM = item(0x51, (16384).to_bytes(4, "big"))
CLASS_UID = uid_item(0x52, PEER_CLASS_UID)
USER = item(0x50, MAXIMUM + CLASS_UID)


def request(
    *items: bytes,
    called: bytes = b"ARCHIVE".ljust(16),
    calling: bytes = b"MODALITY".ljust(16),
    version: int = 1,
) -> bytes:
    """An A-ASSOCIATE-RQ with these items; without any, a good one for Verification."""
    items = items or (APPLICATION, CONTEXT, USER)
    return pdu(1, fixed(called, calling, version) + b"".join(items))


def with_user(*sub_items: bytes) -> bytes:
    """An A-ASSOCIATE-RQ with these user data sub-items."""
    return request(APPLICATION, CONTEXT, item(0x50, b"".join(sub_items)))


def with_contexts(*contexts: bytes) -> bytes:
    """An A-ASSOCIATE-RQ with these presentation context items."""
    return request(APPLICATION, *contexts, USER)


def answer(*items: bytes) -> bytes:
    """An A-ASSOCIATE-AC with these items behind the application context."""
    return pdu(2, fixed() + APPLICATION + b"".join(items))


def framed(chunks: Iterable[bytes]) -> Iterator[tuple[int, memoryview]]:
    """The PDUs in a stream that arrives in `chunks`."""
    framer = Framer(admit)
    for chunk in chunks:
        framer.feed(chunk)
        while (found := framer.next_pdu()) is not None:
            yield found


def single_bytes(data: bytes) -> list[bytes]:
    """One byte a time, as the slowest peer sends."""
    return [data[index : index + 1] for index in range(len(data))]


def _outcome(chunks: Iterable[bytes]) -> PDU | ProtocolError:
    try:
        [(pdu_type, body)] = framed(chunks)
        return PDUS[pdu_type].decode(body)
    except ProtocolError as error:
        return error


def receive(wire: bytes) -> PDU:
    """Decode one PDU three ways: whole, byte by byte, and with a next PDU that begins behind it.

    All three must end alike; raises the `ProtocolError` that they end with.
    """
    whole, *others = (_outcome(chunks) for chunks in ([wire], single_bytes(wire), [wire + NEXT]))
    for other in others:
        if isinstance(whole, ProtocolError):
            assert isinstance(other, ProtocolError)
            assert (str(other), other.reason) == (str(whole), whole.reason)
        else:
            assert other == whole
    if isinstance(whole, ProtocolError):
        raise whole
    return whole


def receive_request(wire: bytes) -> AssociateRQ:
    """`receive` for an A-ASSOCIATE-RQ."""
    decoded = receive(wire)
    assert isinstance(decoded, AssociateRQ)
    return decoded


def refused(wire: bytes, reason: AbortReason = AbortReason.INVALID_PARAMETER_VALUE) -> None:
    """A ProtocolError: AA-1 in Sta2, later AB(2, reason)."""
    with pytest.raises(ProtocolError) as caught:
        receive(wire)
    assert caught.value.reason == reason


def context(context_id: int, *sub_items: bytes) -> bytes:
    """A presentation context item of an A-ASSOCIATE-RQ."""
    return item(0x20, bytes((context_id, 0, 0, 0)) + b"".join(sub_items))


def syntaxes(abstract: bytes, *transfer: bytes) -> bytes:
    """The abstract syntax and the transfer syntaxes of one."""
    return item(0x30, abstract) + b"".join(item(0x40, each) for each in transfer)
