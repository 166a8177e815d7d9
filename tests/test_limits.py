"""The limits: each has a default, a reason and bounds, and none can be unlimited."""

from dataclasses import FrozenInstanceError, fields
from math import inf, isfinite, nan
from typing import Any

import pytest

from dimse.errors import MisuseError
from dimse.limits import GIB, KIB, MIB, Limits

NAMES = [each.name for each in fields(Limits)]
MOST = {each.name: each.metadata["most"] for each in fields(Limits)}
LEAST = {each.name: each.metadata["least"] for each in fields(Limits)}


def test_defaults():
    """Those that the documentation promises, for they are what a node under attack lives on."""
    limits = Limits()
    assert limits.artim == 10
    assert limits.idle == 300
    assert limits.write_stall == 60
    assert limits.maximum_length == 128 * KIB
    assert limits.associate_length == MIB
    assert limits.command_length == 64 * KIB
    assert limits.instance_length == 64 * GIB
    assert limits.transfer_syntaxes == 64
    assert (limits.associations, limits.associations_per_address) == (500, 100)
    assert (limits.connections, limits.connections_per_address) == (1000, 100)


@pytest.mark.parametrize("name", NAMES)
class TestEach:
    def test_is_finite_and_explained(self, name: str):
        [limit] = [each for each in fields(Limits) if each.name == name]
        assert isfinite(getattr(Limits(), name))
        assert limit.metadata["doc"]
        assert limit.metadata["unit"] in ("s", "bytes", "")

    def test_the_least_is_taken(self, name: str):
        assert getattr(Limits(**{name: LEAST[name]}), name) == LEAST[name]

    @pytest.mark.parametrize("below", [0.0005, 1, 1000])
    def test_less_is_refused(self, name: str, below: float):
        with pytest.raises(MisuseError, match=name):
            Limits(**{name: LEAST[name] - below})

    @pytest.mark.parametrize("number", [inf, nan])
    def test_what_is_no_number_is_refused(self, name: str, number: Any):
        with pytest.raises(MisuseError, match=name):
            Limits(**{name: number})


@pytest.mark.parametrize("name", [name for name in NAMES if isfinite(MOST[name])])
def test_more_than_the_most_is_refused(name: str):
    """A length must fit its field of 4 bytes, and one PDU of it into memory (PS3.8 D.1)."""
    assert MOST[name] < 2**32
    assert getattr(Limits(**{name: MOST[name]}), name) == MOST[name]
    with pytest.raises(MisuseError, match=name):
        Limits(**{name: MOST[name] + 1})


def test_the_lengths_have_a_most():
    assert {name for name in NAMES if isfinite(MOST[name])} >= {"maximum_length", "send_length"}


def test_frozen():
    with pytest.raises(FrozenInstanceError):
        Limits().artim = 1  # type: ignore[misc]  # that is what is tested
