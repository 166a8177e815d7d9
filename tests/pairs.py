"""What the tests of associations share: two that are connected."""

from dimse.association import Association
from dimse.testing import Link

Pair = tuple[Association, Association, Link]


def both_ended(pair: Pair, kind: type[Exception]) -> None:
    assert isinstance(pair[0].ended, kind)
    assert isinstance(pair[1].ended, kind)
