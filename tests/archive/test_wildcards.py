"""Wild cards as regular expressions (PS3.4 C.2.2.2.4)."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dimse.archive.wildcards import wild_card


def fits(pattern: str, text: str) -> bool:
    """The rule itself, step by step: the ends of the beginnings of `text` that fit so far."""
    ends = {0}
    for letter in pattern:
        if letter == "*":
            ends = {end for start in ends for end in range(start, len(text) + 1)}
        else:
            ends = {end + 1 for end in ends if end < len(text) and letter in {"?", text[end]}}
    return len(text) in ends


@given(st.text("ab*?", max_size=12), st.text("ab\n", max_size=12))
def test_wild_card_is_what_the_rule_says(pattern: str, text: str) -> None:
    assert (wild_card(pattern).fullmatch(text) is not None) is fits(pattern, text)


def test_other_letters_stand_for_themselves() -> None:
    letters = "".join(map(chr, range(32, 127))).replace("*", "").replace("?", "")
    assert wild_card(letters).fullmatch(letters)
    assert wild_card(letters + "*").fullmatch(letters)


@pytest.mark.parametrize("pattern", ["*a" * 500 + "b", "*a?" * 300 + "b", "a*" * 500 + "b*c"])
def test_a_text_that_almost_fits_costs_no_more(pattern: str) -> None:
    """An expression that looks back takes ages for these."""
    regex = wild_card(pattern)
    start = time.process_time()
    assert not regex.fullmatch("a" * 10_000)
    assert time.process_time() - start < 1
