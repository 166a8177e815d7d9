"""`python -m tests.fuzz --inputs 1000000 --seed 7`, and `--replay 7:123` for one that failed."""

import argparse
import os
import sys
import time
from collections.abc import Sequence

from tests.fuzz.run import Report, judge, log_nothing, make, run, watched


def table(report: Report, seconds: float) -> str:
    """What came of it, for people."""
    lines = ["target          inputs    taken  refused  inputs/s  most work  most memory"]
    lines += [
        f"{name:12} {tally.inputs:9,} {tally.taken:8,} {tally.inputs - tally.taken:8,}"
        f" {tally.inputs / (tally.seconds or 1):9,.0f} {tally.work:10.0%} {tally.memory:12.0%}"
        for name, tally in report.tallies.items()
    ]
    inputs = sum(tally.inputs for tally in report.tallies.values())
    lines.append(f"{inputs:,} inputs in {seconds:.0f} s, {len(report.failures)} failures")
    return "\n".join(lines)


def say(*words: str) -> None:
    """A line for whoever runs it."""
    sys.stdout.write(f"{' '.join(words)}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz; returns the exit code, 1 when an input failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (%(default)s)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--replay", metavar="SEED:CASE", help="one input, again")
    options = parser.parse_args(arguments)
    report = Report()
    began = time.monotonic()
    if options.replay:
        seed, _, case = options.replay.partition(":")
        target, made = make(int(seed), int(case))
        shown = (each.hex() if isinstance(each, bytes) else repr(each) for each in made)
        say(target.name, *shown)
        with watched():
            judge(int(seed), int(case), report, thorough=True)
    else:
        report = run(options.seed, options.inputs, options.processes)
    for failure in report.failures:
        say(failure)
    say(table(report, time.monotonic() - began))
    for failure in report.failures:
        say(f"python -m tests.fuzz --replay {failure.split(maxsplit=1)[0]}")
    return bool(report.failures)


if __name__ == "__main__":
    log_nothing()
    sys.exit(main())
