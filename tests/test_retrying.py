"""Which errors are transient (PS3.7 Annex C, PS3.8 9.3.4, 9.3.8), and when to try again."""

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock

from dimse.errors import (
    AssociationAbortedError,
    AssociationRejectedError,
    ConnectionLostError,
    ContextError,
    MisuseError,
    NotAnInstanceError,
    ProtocolError,
    ReleasedError,
    StatusError,
    TimedOutError,
)
from dimse.limits import Limits
from dimse.retrying import TRANSIENT, is_transient, retry
from tests.memory import Outcome
from tests.tables import codes, rows

LOST = ConnectionLostError("no connection")
LACKS_RESOURCES = ("Refused: out of resources", "Resource limitation")


class Operation:
    """Ends as the test says: at once with each of `outcomes`, then when the test says so."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.calls = 0
        self.running: Deferred[Any] = Deferred()

    def __call__(self) -> "Deferred[Any]":
        self.calls += 1
        if not self.outcomes:
            return self.running
        outcome = self.outcomes.pop(0)
        return fail(outcome) if isinstance(outcome, Exception) else succeed(outcome)


def begin(clock: Clock, operation: Any, **options: Any) -> Outcome:
    """The outcome of retrying `operation`, with a delay of 1 s, then 2 s, 3 s ..."""
    return Outcome(retry(operation, **{"policy": float, "clock": clock, **options}))


@pytest.fixture
def clock() -> Clock:
    return Clock()


class TestTransient:
    @pytest.mark.parametrize(
        "row",
        [row for row in rows("statuses") if row["category"] == "Failure"],
        ids=lambda row: f"{row['scope']} {row['operations']} {row['code_or_range']}",
    )
    def test_statuses(self, row: dict[str, str]):
        """Those with which a peer says that it lacks resources, in every service; but A702H is
        what any retrieval ends with of which nothing arrived."""
        lacks = row["meaning"].startswith(LACKS_RESOURCES) and row["code_or_range"] != "A702"
        found = codes(row["code_or_range"])
        assert is_transient(StatusError(found[0])) is lacks
        assert is_transient(StatusError(found[-1])) is lacks

    @pytest.mark.parametrize(
        "row",
        [row for row in rows("reject_reasons") if row["field"] == "reason"],
        ids=lambda row: f"{row['source']}-{row['value']}",
    )
    @pytest.mark.parametrize("result", [1, 2])
    def test_rejections(self, row: dict[str, str], result: int):
        """The result counts, not the reason."""
        error = AssociationRejectedError(result, int(row["source"]), int(row["value"]))
        assert is_transient(error) is (result == 2)

    @pytest.mark.parametrize(
        "row",
        [row for row in rows("abort_reasons") if row["status"] == "assigned"],
        ids=lambda row: row["name"],
    )
    def test_aborts_of_the_peer(self, row: dict[str, str]):
        """Those that find no fault with a PDU of ours."""
        error = AssociationAbortedError(int(row["source"]), int(row["reason"]))
        assert is_transient(error) is (row["name"] in ("not significant", "reason-not-specified"))

    def test_the_reason_of_a_user_has_no_meaning(self):
        assert is_transient(AssociationAbortedError(0, 6))

    def test_an_abort_of_ours_is_not(self):
        assert not is_transient(AssociationAbortedError(0, 0, by_peer=False))

    @pytest.mark.parametrize("which", ["connect", "associate", "idle"])
    def test_time_outs_before_the_operation(self, which: str):
        assert is_transient(TimedOutError(which, getattr(Limits(), which)))

    @pytest.mark.parametrize("which", ["response", "write_stall", "progress", "perform"])
    def test_time_outs_in_the_operation_are_not(self, which: str):
        assert not is_transient(TimedOutError(which, getattr(Limits(), which)))

    @pytest.mark.parametrize("error", [LOST, ReleasedError("the peer released the association")])
    def test_ends_of_the_association(self, error: Exception):
        assert is_transient(error)

    @pytest.mark.parametrize(
        "error",
        [
            CancelledError(),
            ContextError("not accepted"),
            MisuseError("wrong"),
            NotAnInstanceError("a text"),
            ProtocolError("wrong"),
            ValueError("a bug"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_what_stays_wrong_is_not(self, error: Exception):
        assert not is_transient(error)

    def test_an_error_derived_from_one(self):
        class DiskFullError(StatusError):
            """Of a user."""

        assert is_transient(DiskFullError(0xA700))

    def test_each_says_what_it_means(self):
        assert all(meaning for _, meaning in TRANSIENT.values())


class TestRetry:
    def test_success_at_once(self, clock: Clock):
        operation = Operation("done")
        assert begin(clock, operation).value == "done"
        assert operation.calls == 1
        assert clock.getDelayedCalls() == []

    def test_until_it_succeeds(self, clock: Clock):
        operation = Operation(LOST, LOST, "done")
        outcome = begin(clock, operation)
        clock.advance(0.99)
        assert operation.calls == 1
        clock.advance(0.01)
        assert operation.calls == 2
        clock.advance(1.99)
        assert outcome.firings == []
        clock.advance(0.01)
        assert outcome.value == "done"

    def test_a_coroutine(self, clock: Clock):
        operation = Operation(LOST, "done")

        async def coroutine() -> Any:
            return await operation()

        outcome = begin(clock, coroutine)
        clock.advance(1)
        assert outcome.value == "done"

    def test_the_last_error_alone_is_raised(self, clock: Clock):
        errors = [ConnectionLostError(str(number)) for number in range(3)]
        operation = Operation(*errors)
        outcome = begin(clock, operation, attempts=3)
        clock.pump([1, 2])
        assert outcome.value is errors[2]
        assert outcome.value.__context__ is None
        assert operation.calls == 3
        assert clock.getDelayedCalls() == []

    def test_what_fails_for_good(self, clock: Clock):
        operation = Operation(LOST, StatusError(0x0122))
        outcome = begin(clock, operation)
        clock.advance(1)
        assert outcome.value.status == 0x0122
        assert clock.getDelayedCalls() == []

    def test_another_idea_of_transient(self, clock: Clock):
        operation = Operation(StatusError(0xC001), "done")
        outcome = begin(clock, operation, transient=lambda error: error.status == 0xC001)
        clock.advance(1)
        assert outcome.value == "done"

    def test_the_delays_unless_given(self, clock: Clock):
        """Each at least half as long again, from 1.5 s to a minute, and a second by chance."""
        operation = Operation(*[LOST] * 12)
        outcome = Outcome(retry(operation, attempts=12, clock=clock))
        for failed in range(1, 12):
            (call,) = clock.getDelayedCalls()
            least = min(1.5**failed, 60)
            assert least <= call.getTime() - clock.seconds() <= least + 1
            clock.advance(call.getTime() - clock.seconds())
        assert outcome.value is LOST

    def test_an_operation_that_raises_at_once(self, clock: Clock):
        def operation() -> Any:
            raise MisuseError("wrong")

        assert isinstance(begin(clock, operation).value, MisuseError)

    def test_on_the_reactor_unless_given(self):
        assert Outcome(retry(Operation("done"))).value == "done"

    def test_no_attempt(self, clock: Clock):
        with pytest.raises(MisuseError):
            retry(Operation(), attempts=0, clock=clock)


class TestCancel:
    def test_while_it_waits(self, clock: Clock):
        operation = Operation(LOST)
        outcome = begin(clock, operation)
        outcome.deferred.cancel()
        assert isinstance(outcome.value, CancelledError)
        assert clock.getDelayedCalls() == []
        assert operation.calls == 1

    @pytest.mark.parametrize("failed", [0, 1, 4])
    def test_an_attempt(self, clock: Clock, failed: int):
        """It is over even for who takes every error as transient."""
        operation = Operation(*[LOST] * failed)
        outcome = begin(clock, operation, transient=lambda error: True)
        clock.pump(range(1, failed + 1))
        outcome.deferred.cancel()
        assert operation.running.called
        assert isinstance(outcome.value, CancelledError)
        assert clock.getDelayedCalls() == []
        assert operation.calls == failed + 1
