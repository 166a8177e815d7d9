"""`python -m tests.simulation --runs 1000`, or `--seed N --trace` to see one run again."""

import argparse
import sys
import time
from collections import Counter

from tests.simulation.draws import Violation
from tests.simulation.run import simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int, default=0, help="the first one (0)")
    parser.add_argument("--runs", type=int, default=1, help="so many, each with the next seed (1)")
    parser.add_argument("--trace", action="store_true", help="print all that happens")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    failed, steps, began = [], 0, time.monotonic()
    for seed in range(options.seed, options.seed + options.runs):
        try:
            report = simulate(seed, echo=options.trace)
        except Violation as violation:
            print(violation, flush=True)
            failed.append(seed)
            continue
        counts += report.counts
        steps += report.steps
        if options.runs == 1:
            print(f"seed {seed}: {report.lines} lines, hash {report.digest}")
    for name, count in sorted(counts.items()):
        print(f"{count:10}  {name}")
    took = time.monotonic() - began
    print(f"{options.runs} runs, {steps} steps in {took:.0f} s; failed seeds: {failed or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
