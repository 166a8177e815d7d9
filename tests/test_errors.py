"""Every exception says whose fault it is and carries what goes on the wire."""

import pytest

from dimse import errors
from dimse.errors import (
    AbortReason,
    AssociationAbortedError,
    AssociationError,
    AssociationRejectedError,
    ContextError,
    DimseError,
    MisuseError,
    ProtocolError,
    StatusError,
    TimedOutError,
)
from dimse.message.status import Status


def test_there_is_one_hierarchy():
    found = {each for each in vars(errors).values() if isinstance(each, type)}
    exceptions = {each for each in found if issubclass(each, Exception)}
    assert all(issubclass(each, DimseError) for each in exceptions)
    over = {each.__name__ for each in exceptions if issubclass(each, AssociationError)}
    assert over == {
        "AssociationError",
        "AssociationRejectedError",
        "AssociationAbortedError",
        "ConnectionLostError",
        "ReleasedError",
        "TLSError",
        "TimedOutError",
    }


@pytest.mark.parametrize("kind", [MisuseError, ContextError, ProtocolError, StatusError])
def test_what_does_not_end_an_association_by_itself(kind: type[Exception]):
    assert not issubclass(kind, AssociationError)


class TestProtocolError:
    def test_reason(self):
        assert ProtocolError("why").reason == AbortReason.INVALID_PARAMETER_VALUE
        assert ProtocolError("why", AbortReason.UNEXPECTED_PDU).reason == 2

    def test_in_step(self):
        assert ProtocolError("why").in_step
        assert not ProtocolError("why", in_step=False).in_step


class TestStatusError:
    def test_without_comment(self):
        error = StatusError(0xA700)
        assert str(error) == "status 0xA700"
        assert (error.status, error.comment, error.offending) == (0xA700, "", ())

    def test_with_comment_and_elements(self):
        error = StatusError(0x0120, "no id", (0x00080018,))
        assert str(error) == "status 0x0120: no id"
        assert error.offending == (0x00080018,)


class TestRejected:
    def test_says_what_the_values_mean(self):
        error = AssociationRejectedError(1, 1, 7)
        assert "called AE title not recognized" in str(error)
        assert "permanent" in str(error)
        assert not error.transient

    def test_transient(self):
        error = AssociationRejectedError(2, 3, 1)
        assert error.transient
        assert "transient" in str(error)

    def test_values_outside_the_table_are_kept(self):
        error = AssociationRejectedError(77, 88, 99)
        assert (error.result, error.source, error.reason) == (77, 88, 99)
        assert "unknown" in str(error)
        assert not error.transient


class TestAborted:
    def test_by_the_peer(self):
        error = AssociationAbortedError(0, 0)
        assert error.by_peer
        assert "by the peer (source 0, reason 0" in str(error)

    def test_by_us_and_why(self):
        error = AssociationAbortedError(2, 6, by_peer=False, why="an even id")
        assert (error.source, error.reason, error.by_peer) == (2, 6, False)
        assert str(error).startswith("association aborted by us")
        assert str(error).endswith(": an even id")


def test_timed_out():
    error = TimedOutError("artim", 10)
    assert (error.which, error.seconds) == ("artim", 10)
    assert str(error) == "the artim time-out of 10 s ran out"


def test_timed_out_with_whom_for_what():
    error = TimedOutError("response", 60, "C-FIND-RQ")
    error.peer = "PACS@10.0.0.2:104"
    what = "the response time-out of 60 s ran out for C-FIND-RQ"
    assert str(error) == f"PACS@10.0.0.2:104: {what}"


class TestStatus:
    def test_of_ours_says_our_comment(self):
        assert str(StatusError(0xA700, "full")) == "status 0xA700: full"

    def test_of_a_peer_says_nothing_that_may_be_patient_data(self):
        """The meaning and the tags; the comment is there for who wants it."""
        status = Status(0xA900, "C-STORE", "Storage")
        error = StatusError(status, "DOE^JOHN", (0x00100010, 0x00080018), response=object())
        what = "status 0xA900: Error: data set does not match the SOP Class"
        assert str(error) == f"{what} (0010,0010) (0008,0018)"
        assert error.comment == "DOE^JOHN"
