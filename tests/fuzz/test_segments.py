"""However a session is cut into segments, the same comes of it (cases F01, F02; G03)."""

from collections.abc import Callable, Sequence
from functools import cache

import pytest

from tests.fuzz.connections import Outcome, Stage
from tests.fuzz.corpus import Session, sessions
from tests.fuzz.mutation import Dice

SESSIONS = {session.name: session for session in sessions()}
SIDES = ["acceptor", "requestor"]
CUT_EVERYWHERE = [
    "dcmtk-echo-to-pynetdicom",
    "pynetdicom-store-in-fragments",
    "pynetdicom-get-to-pynetdicom",
]
RANDOM = 20  # of each session and side


@cache
def stage() -> Stage:
    return Stage()


def said(session: Session, side: str) -> bytes:
    """What the peer says to this side of ours."""
    return session.requestor if side == "acceptor" else session.acceptor


def played(session: Session, side: str, pieces: Sequence[bytes]) -> Outcome:
    if side == "acceptor":
        return stage().acceptor(pieces, "closes")
    return stage().requestor(session, pieces, "closes")


def cut(data: bytes, *places: int) -> list[bytes]:
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def everywhere(data: bytes) -> list[list[bytes]]:
    return [cut(data, place) for place in range(1, len(data))]


def bytewise(data: bytes) -> list[list[bytes]]:
    return [cut(data, *range(1, len(data)))]


def at_random(data: bytes) -> list[list[bytes]]:
    dice = Dice(len(data), 3)
    return [
        cut(data, *sorted(dice.below(len(data)) for _ in range(1 + dice.below(9))))
        for _ in range(RANDOM)
    ]


def same(name: str, side: str, ways: Callable[[bytes], list[list[bytes]]]) -> None:
    session = SESSIONS[name]
    data = said(session, side)
    expected = played(session, side, [data])
    for pieces in ways(data):
        assert played(session, side, pieces) == expected


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", SESSIONS)
def test_h_f01_byte_by_byte(name: str, side: str):
    same(name, side, bytewise)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", CUT_EVERYWHERE)
def test_h_f02_cut_in_two_wherever_that_is(name: str, side: str):
    same(name, side, everywhere)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", SESSIONS)
def test_h_f02_cut_at_random(name: str, side: str):
    same(name, side, at_random)


def test_what_is_compared_is_a_session_that_works():
    """Most sessions end as they were recorded, so the comparison is not of failures."""
    released = [
        name
        for name, session in SESSIONS.items()
        if "was released" in str(played(session, "requestor", [session.acceptor]).told)
    ]
    assert len(released) >= len(SESSIONS) / 2
