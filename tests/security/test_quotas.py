"""Counters of what a peer has had, and of refusals: exact, and of bounded memory."""

from dimse.security.quotas import HOUR, Refusals, Window, take


def test_never_more_than_that_in_any_period():
    """Also of those that begin within a part of it."""
    window, taken = Window(60), []
    for tenth in range(3000):
        if take(window, 7, tenth / 10):
            taken.append(tenth / 10)
    for begin in taken:
        assert sum(begin <= time < begin + 60 for time in taken) <= 7
    assert len(taken) >= 7 * 4


def test_a_window_keeps_sixty_one_numbers_at_most():
    window = Window(HOUR)
    for second in range(20_000):
        window.add(1, float(second))
    assert len(window._counted) <= 62
    assert HOUR <= window.used(20_000.0) <= HOUR + 60


def test_a_clock_that_goes_back_loses_nothing():
    window = Window(60)
    window.add(5, 1000.0)
    window.add(5, 900.0)
    assert window.used(900.0) == 10


def test_of_a_thousand_addresses_those_that_came_last_are_known():
    refusals = Refusals(600)
    for number in range(1500):
        assert refusals.count(str(number), "CT1", 0.0) == 1
    assert refusals.count("1499", "CT1", 1.0) is None
    assert refusals.count("0", "CT1", 1.0) == 1
    assert refusals.count("1499", "CT1", 600.0) == 2


def test_of_an_address_the_first_that_differ_are_told_of():
    refusals = Refusals(600)
    assert refusals.count("a", "CT1", 0.0) == 1
    assert refusals.count("a", "CT1", 0.0) is None
    assert refusals.count("a", "CT2", 0.0) == 2
    told = [refusals.count("a", f"GUESS{number}", 1.0) for number in range(1000)]
    assert told == [1] * 6 + [None] * 994
