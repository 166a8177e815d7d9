"""What a command says of a failure."""

from dimse.cli.options import Verbosity
from dimse.cli.running import comment_of
from dimse.errors import DimseError, StatusError


def test_the_comment_of_a_peer_is_for_who_asks_for_more():
    """It may tell why, and it may name a patient."""
    error = StatusError(0xA700, "no room for DOE^JANE")
    assert comment_of(error, Verbosity.VERBOSE) == " (no room for DOE^JANE)"
    assert comment_of(error, Verbosity.NORMAL) == comment_of(error, Verbosity.QUIET) == ""
    assert comment_of(DimseError("no status"), Verbosity.DEBUG) == ""
    assert comment_of(None, Verbosity.DEBUG) == ""
