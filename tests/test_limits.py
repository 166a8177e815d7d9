"""The limits: each has a default, a reason and a least value, and none can be unlimited."""

from dataclasses import FrozenInstanceError, fields
from math import isfinite

import pytest

from dimse.errors import MisuseError
from dimse.limits import GIB, KIB, MIB, Limits

NAMES = [each.name for each in fields(Limits)]
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


def test_frozen():
    with pytest.raises(FrozenInstanceError):
        Limits().artim = 1  # type: ignore[misc]  # that is what is tested
