"""How often somebody at an address failed lately, in bounded memory."""

import pytest
from twisted.internet.task import Clock

from dimse.security import attempts
from dimse.security.attempts import WINDOW, Failures


def failures(most: int = 2) -> tuple[Failures, Clock]:
    clock = Clock()
    return Failures(most, clock), clock


def test_as_many_as_there_may_be_within_the_window() -> None:
    failed, clock = failures()
    failed.add("10.0.0.1")
    clock.advance(WINDOW / 2)
    failed.add("10.0.0.1")
    assert failed.too_many("10.0.0.1")
    clock.advance(WINDOW / 2)
    assert not failed.too_many("10.0.0.1")
    failed.add("10.0.0.1")
    assert failed.too_many("10.0.0.1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("fe80::1%eth0", "fe80::1%eth1", True),
        ("", "", True),
        ("", "10.0.0.1", False),
        ("proxy.example", "other.example", False),
    ],
)
def test_who_is_counted_together(one: str, other: str, same: bool) -> None:
    """A subscriber has 64 bits of IPv6 to choose from (RFC 6177)."""
    failed, _ = failures(1)
    failed.add(one)
    assert failed.too_many(other) is same


def test_memory_is_bounded_and_the_last_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "ADDRESSES", 3)
    failed, _ = failures(1)
    for last in (1, 2, 3, 1, 4):
        failed.add(f"10.0.0.{last}")
    assert len(failed) == 3
    known = [last for last in range(1, 5) if failed.too_many(f"10.0.0.{last}")]
    assert known == [1, 3, 4]
