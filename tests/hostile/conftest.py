"""Hostile peers in each state, and a bystander."""

from collections.abc import Iterator

import pytest

from dimse.acceptor import AcceptorFactory
from dimse.ul.pdu import PDataTF
from dimse.ul.table import Sta
from tests.hostile.connections import LIMITS
from tests.memory import Net, RawPeer
from tests.scripted import (
    AC,
    ECHO,
    RQ,
)


@pytest.fixture
def factory(net: Net) -> AcceptorFactory:
    return net.acceptor(limits=LIMITS)


@pytest.fixture
def bystander(net: Net, factory: AcceptorFactory) -> Iterator[RawPeer]:
    """Another association of the acceptor, which notices nothing of all this."""
    bystander = net.client(factory, "10.0.0.99")
    bystander.send(RQ)
    bystander.received.clear()
    on_finish = net.scp.on_finish
    yield bystander
    net.scp.on_finish = on_finish
    bystander.send(ECHO)
    assert isinstance(bystander.news[0], PDataTF)


@pytest.fixture
def client(net: Net, factory: AcceptorFactory) -> RawPeer:
    """A hostile requestor that has connected (Sta2)."""
    return net.client(factory)


@pytest.fixture
def associated(client: RawPeer) -> RawPeer:
    """The same in Sta6."""
    client.send(RQ)
    client.received.clear()
    return client


@pytest.fixture
def server(net: Net) -> RawPeer:
    """A hostile acceptor that was asked for an association (Sta5)."""
    server = net.server(limits=LIMITS, scps=[net.scp])
    server.received.clear()
    return server


@pytest.fixture(params=["server", "client"])
def peer(request: pytest.FixtureRequest) -> RawPeer:
    """The hostile side of an association: against our server, and against our client."""
    if request.param == "server":
        found: RawPeer = request.getfixturevalue("associated")
    else:
        found = request.getfixturevalue("server")
        found.send(AC)
    assert found.subject.state is Sta.Sta6
    return found
