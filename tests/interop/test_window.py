"""The operations window over real sockets, where a delay makes every response late."""

import sys

import pytest

from tests.peers import run


@pytest.mark.peer
def test_sixteen_at_a_time_hide_the_delay() -> None:
    """The same instances, through the same proxy; only the ratio counts."""
    done = run([sys.executable, "-m", "benchmarks.window", "--count", "32"])
    assert done.returncode == 0, done.stdout
    *_, last = done.stdout.splitlines()
    ratio, *words = last.split()
    assert words == ["times", "sooner"]
    assert float(ratio) >= 4
