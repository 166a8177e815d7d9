"""What the tests of performers share: their client, and what it hears."""

from dimse.message import command
from dimse.message.base import Response
from dimse.message.messages import MESSAGES
from dimse.ul.pdu import PDataTF
from tests.memory import RawPeer


def responses(client: RawPeer) -> list[Response]:
    """The responses that came since the last look."""
    found = []
    for pdu in client.news:
        assert isinstance(pdu, PDataTF)
        for pdv in pdu.pdvs:
            elements = command.decode(bytes(pdv.fragment))
            field = elements["CommandField"]
            assert isinstance(field, int)
            message = MESSAGES[field].decode(elements)
            assert isinstance(message, Response)
            found.append(message)
    return found


def elements_of(client: RawPeer) -> dict[str, command.Value]:
    """The command elements of the one response that came."""
    (pdu,) = client.news
    assert isinstance(pdu, PDataTF)
    return command.decode(bytes(pdu.pdvs[0].fragment))
