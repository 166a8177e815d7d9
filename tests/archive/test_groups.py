"""A group of instances that is committed together: what fails one does not fail the others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dimse import StatusError
from dimse.archive.archive import Archive
from dimse.archive.objects import StoredInstance
from dimse.services.dataset import encode
from dimse.services.storage import ReceivedInstance
from tests.archive.archives import LIMITS, data_set, uids
from tests.archive.storing import Hand
from tests.wire import CT_STORAGE, EXPLICIT


def put_together(folder: Path, names: Sequence[str], fails: Any) -> tuple[dict[str, Any], int]:
    """Outcomes by the name, and how often the index was asked; `fails(uids)` says when it does."""
    hand, outcomes, asked = Hand(), {}, 0
    archive: Archive = Archive(folder, limits=LIMITS, in_thread=hand).open()
    real = archive.index.add

    def add(instances: Sequence[StoredInstance], *arguments: Any) -> None:
        nonlocal asked
        asked += 1
        if fails({each.received.sop_instance_uid for each in instances}):
            raise sa.exc.DataError("insert", {}, Exception("a value of a patient"))
        real(instances, *arguments)

    archive.index.add = add  # type: ignore[method-assign, assignment]
    for name in names:
        received = ReceivedInstance(CT_STORAGE, name, EXPLICIT, "", "")
        operation: Any = None
        sink = archive.begin(received, operation)
        sink.write(memoryview(encode(data_set(name), EXPLICIT)))

        def keep(outcome: Any, name: str = name) -> None:
            outcomes[name] = getattr(outcome, "value", outcome)

        sink.finish().addBoth(keep)
    while hand.steps:
        hand.go()
    assert uids(archive) == sorted(name for name, outcome in outcomes.items() if outcome == 0)
    archive.close()
    return outcomes, asked


NAMES = [f"1.2.1.{number}" for number in range(8)]


@pytest.mark.parametrize("bad", [{"1.2.1.1"}, {"1.2.1.7"}, {"1.2.1.1", "1.2.1.4"}])
def test_what_the_database_refuses_fails_alone(tmp_path: Path, bad: set[str]):
    """The first of them is a group of its own: the others wait for it."""
    outcomes, _ = put_together(tmp_path, NAMES, lambda uids: uids & bad)
    failed = {name: outcome for name, outcome in outcomes.items() if outcome != 0}
    assert failed.keys() == bad
    assert all(isinstance(each, StatusError) for each in failed.values())
    assert {each.status for each in failed.values()} == {0xA700}


def test_a_database_that_fails_is_not_asked_for_each(tmp_path: Path):
    """One that does not answer takes its time-out each time."""
    outcomes, asked = put_together(tmp_path, NAMES, lambda uids: "1.2.1.0" not in uids)
    assert [outcomes[name] == 0 for name in NAMES] == [True] + [False] * 7
    assert asked == 1 + 1 + 2
