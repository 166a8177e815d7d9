"""A requestor and an acceptor of Table 9-10 joined by a connection: all that can ever happen.

Every interleaving of what the users do, what arrives, ARTIM, and the loss of the connection, by
breadth-first search over the states of both machines and what is between them.
"""

from collections import Counter, deque
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from dimse.errors import AbortReason, ProtocolError
from dimse.ul.machine import PDU_EVENTS, Machine
from dimse.ul.table import TABLE, Action, Evt, Sta
from tests.provider import ARGUMENTS, RecordingProvider

DATA_UNDER_WAY = 3  # P-DATA-TF PDUs that a user has on the way at most
CLOSED, LOST = 0, -1  # what else can arrive: the end of the stream

USERS = (Evt.Evt7, Evt.Evt8, Evt.Evt9, Evt.Evt11, Evt.Evt14, Evt.Evt15)
FREE = ("Evt1", "Evt9", "Evt11", "Evt15")  # what no user has to do, ever


class End(NamedTuple):
    """One side: `connection` is "none", "opening", "open", or "gone"; `arriving` is what was sent
    to it, the oldest first."""

    state: Sta = Sta.Sta1
    artim: bool = False
    connection: str = "none"
    arriving: tuple[int, ...] = ()


class Joint(NamedTuple):
    """Both, and whether a PDU has been spoilt on the way."""

    requestor: End = End()
    acceptor: End = End()
    spoilt: bool = False


Step = tuple[str, Joint]


@cache
def _reaction(
    requestor: bool, state: Sta, event: Evt
) -> tuple[Sta, tuple[int, ...], bool | None, bool, bool]:
    """What the machine does: its next state, what it sends, whether it starts (True) or stops
    ARTIM, whether it opens and whether it closes the connection."""
    provider = RecordingProvider()
    machine = Machine(provider, requestor=requestor)
    machine.state = state
    fault = ProtocolError("a fault", AbortReason.INVALID_PARAMETER_VALUE)
    machine.handle(event, fault if event is Evt.Evt19 else ARGUMENTS.get(event))
    artim: bool | None = None
    for name in provider.names:
        artim = {"start_artim": True, "stop_artim": False}.get(name, artim)
    sent = tuple(data[0] for data in provider.sent if isinstance(data, bytes))
    opens, closes = ("open_transport" in provider.names, "close_transport" in provider.names)
    return machine.state, sent, artim, opens, closes


def _after(joint: Joint, requestor: bool, event: Evt) -> Joint:
    """The joint state when one side had an event."""
    own, other = joint[:2] if requestor else (joint.acceptor, joint.requestor)
    state, sent, artim, opens, closes = _reaction(requestor, own.state, event)
    own = own._replace(state=state, artim=own.artim if artim is None else artim)
    if opens:
        own = own._replace(connection="opening")
    if other.connection != "gone" and own.connection == "open":
        other = other._replace(arriving=other.arriving + sent + (CLOSED,) * closes)
    if closes or event is Evt.Evt17:
        # It hears nothing more; that its own connection is closed changes nothing in Sta1.
        assert state is Sta.Sta1
        own = own._replace(connection="gone", arriving=(), artim=False)
    pair = (own, other) if requestor else (other, own)
    return Joint(*pair, joint.spoilt)


def steps(joint: Joint) -> Iterator[Step]:
    """Each thing that can happen next."""
    for requestor in (True, False):
        side = "requestor" if requestor else "acceptor"
        own = joint.requestor if requestor else joint.acceptor
        for event in _user_events(joint, requestor):
            yield f"{side} {event.name}", _after(joint, requestor, event)
        if own.artim:
            yield f"{side} ARTIM", _after(joint, requestor, Evt.Evt18)
        if own.arriving and own.connection == "open":
            yield from _arrivals(joint, requestor)
    yield from _of_the_network(joint)


def _user_events(joint: Joint, requestor: bool) -> Iterator[Evt]:
    own, other = joint[:2] if requestor else (joint.acceptor, joint.requestor)
    if requestor and own == End():
        yield Evt.Evt1
    for event in USERS:
        full = event is Evt.Evt9 and other.arriving.count(4) == DATA_UNDER_WAY
        if (event, own.state) in TABLE and not full:
            yield event


def _arrivals(joint: Joint, requestor: bool) -> Iterator[Step]:
    own = joint.requestor if requestor else joint.acceptor
    first, *rest = own.arriving
    name = "requestor" if requestor else "acceptor"
    own = own._replace(arriving=tuple(rest))
    taken = joint._replace(requestor=own) if requestor else joint._replace(acceptor=own)
    if first in (CLOSED, LOST):
        yield f"{name} hears of the close", _after(taken, requestor, Evt.Evt17)
        return
    yield f"{name} gets {first}", _after(taken, requestor, PDU_EVENTS[first])
    if not joint.spoilt:
        spoilt = taken._replace(spoilt=True)
        yield f"{name} gets junk", _after(spoilt, requestor, Evt.Evt19)


def _of_the_network(joint: Joint) -> Iterator[Step]:
    """The connection is made, cannot be made, or is lost."""
    requestor, acceptor, spoilt = joint
    if requestor.connection == "opening":
        yield "refused", _after(joint, True, Evt.Evt17)
        if acceptor.connection == "none":
            accepted = acceptor._replace(connection="open")
            yield "accepted", _after(Joint(requestor, accepted, spoilt), False, Evt.Evt5)
        else:
            opened = requestor._replace(connection="open")
            yield "confirmed", _after(Joint(opened, acceptor, spoilt), True, Evt.Evt2)
    if acceptor.connection == "open":  # else there is none, or its end is known already
        lost = [
            end if end.connection == "gone" else end._replace(arriving=(LOST,))
            for end in (requestor, acceptor)
        ]
        if lost != [requestor, acceptor]:
            yield "lost", Joint(lost[0], lost[1], spoilt)


def ended(joint: Joint) -> bool:
    """Whether both are where they began, and the connection is gone."""
    return all(
        end.state is Sta.Sta1 and end.connection in ("none", "gone") and not end.artim
        for end in joint[:2]
    )


@cache
def explored() -> dict[Joint, list[Step]]:
    """Every joint state that can be reached, and its steps."""
    graph: dict[Joint, list[Step]] = {}
    waiting = deque([Joint()])
    while waiting:
        joint = waiting.popleft()
        if joint not in graph:
            graph[joint] = list(steps(joint))
            waiting.extend(after for _, after in graph[joint])
    return graph


def without(*kinds: str) -> dict[Joint, list[Joint]]:
    """The graph without the steps whose names end so."""
    return {
        joint: [after for name, after in steps_ if not name.endswith(kinds)]
        for joint, steps_ in explored().items()
    }


def in_order(graph: dict[Joint, list[Joint]]) -> list[Joint]:
    """The states so that each comes before those that follow from it; what is in a cycle, or
    follows from one, is not there."""
    before = Counter(after for afters in graph.values() for after in afters)
    ready = [joint for joint in graph if not before[joint]]
    ordered = []
    while ready:
        ordered.append(joint := ready.pop())
        for after in graph[joint]:
            before[after] -= 1
            if not before[after]:
                ready.append(after)
    return ordered


def test_all_states_are_reached_in_which_a_side_can_be():
    graph = explored()
    print(f"{len(graph)} joint states, {sum(map(len, graph.values()))} steps")  # noqa: T201
    assert len(graph) > 1000
    reached = {end.state for joint in graph for end in joint[:2]}
    assert reached == set(Sta)
    of_acceptors = {Sta.Sta2, Sta.Sta3, Sta.Sta10, Sta.Sta12}
    of_requestors = {Sta.Sta4, Sta.Sta5, Sta.Sta9, Sta.Sta11}
    assert of_acceptors.isdisjoint(joint.requestor.state for joint in graph)
    assert of_requestors.isdisjoint(joint.acceptor.state for joint in graph)


def test_artim_runs_in_the_two_states_that_have_it():
    """PS3.8 9.1.4, 9.2.1."""
    for joint in explored():
        for end in joint[:2]:
            assert end.artim == (end.state in (Sta.Sta2, Sta.Sta13))


def test_who_keeps_to_the_table_is_never_aborted_for_it():
    """No PDU is unexpected where nothing was spoilt: in no collision, with no data under way."""
    faults = (Action.AA_1, Action.AA_7, Action.AA_8)
    for joint in explored():
        for end in joint[:2]:
            if end.connection == "open" and end.arriving[:1] > (CLOSED,) and not joint.spoilt:
                action, _ = TABLE[PDU_EVENTS[end.arriving[0]], end.state]
                assert action not in faults, joint


def test_what_is_under_way_is_bounded():
    """Beside data there are few PDUs: nobody has to hold more."""
    control = (end.arriving for joint in explored() for end in joint[:2])
    assert max(sum(kind != 4 for kind in arriving) for arriving in control) <= 5


def test_nothing_waits_for_ever():
    """Users have to answer, and nothing else: no side needs an abort or a loss to get on."""
    graph = without(*FREE, "lost", "junk")
    for joint in graph:
        if not graph[joint]:
            established = all(
                end.state is Sta.Sta6 and not end.arriving and end.connection == "open"
                for end in joint[:2]
            )
            assert joint == Joint() or ended(joint) or established, joint
    assert len(in_order(graph)) == len(graph), "there is a cycle"


def test_everything_ends():
    """Unless a user goes on to send data for ever: all else leads to an end, and only so far."""
    graph = without("Evt9")
    assert len(in_order(graph)) == len(graph), "there is a cycle"
    last = [joint for joint in graph if not graph[joint]]
    assert last
    assert all(ended(joint) for joint in last)


def test_an_end_can_be_reached_from_everywhere():
    """And where it is reached nothing happens any more."""
    graph = {joint: [after for _, after in steps_] for joint, steps_ in explored().items()}
    before: dict[Joint, list[Joint]] = {joint: [] for joint in graph}
    for joint, afters in graph.items():
        for after in afters:
            before[after].append(joint)
    ends = [joint for joint in graph if ended(joint) and joint != Joint()]
    assert ends
    assert all(not graph[joint] for joint in ends)
    found, waiting = set(ends), list(ends)
    while waiting:
        for joint in before[waiting.pop()]:
            if joint not in found:
                found.add(joint)
                waiting.append(joint)
    assert found == graph.keys()
