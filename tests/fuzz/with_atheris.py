"""The same targets guided by coverage: `python -m tests.fuzz.with_atheris PDUs -runs=1000000`.

It needs `pip install atheris` beside `dimse[all]`, and takes the options of libFuzzer. Seeds are
written to a folder of the target's own below `--folder`, where libFuzzer also puts what it finds.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dimse"], enable_loader_override=False):
    from tests.fuzz.corpus import EXPLICIT
    from tests.fuzz.decoders import parts
    from tests.fuzz.run import TARGETS, attempt, log_nothing
from tests.archive.data_sets import UID
from tests.fuzz.mutation import Dice, segments

# What goes with the bytes; what is by chance elsewhere is by their own chance here.
ARGUMENTS: dict[str, Callable[[bytes, Dice], tuple[object, ...]]] = {
    "framing": lambda data, dice: (segments(data, dice),),
    "PDUs": lambda data, dice: (0,),
    "messages": lambda data, dice: (),
    "command sets": lambda data, dice: (),
    "header scan": lambda data, dice: (EXPLICIT, UID, segments(data, dice)),
    "identifiers": lambda data, dice: (EXPLICIT, 0),
    "data sets": lambda data, dice: (EXPLICIT,),
    "acceptor": lambda data, dice: (0, segments(data, dice), "closes"),
    "requestor": lambda data, dice: (0, segments(data, dice), "closes"),
}


def seeds(name: str) -> list[bytes]:
    """What a target begins with."""
    found = {
        "PDUs": parts().pdus,
        "command sets": parts().commands,
        "header scan": parts().data[EXPLICIT],
        "identifiers": parts().data[EXPLICIT],
        "data sets": parts().data[EXPLICIT],
    }
    return [seed.data for seed in found.get(name, parts().streams)]


def main() -> None:
    """Fuzz one target, until something is found or the options of libFuzzer end it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=ARGUMENTS)
    parser.add_argument("--folder", type=Path, default=Path("fuzzed"))
    options, others = parser.parse_known_args()
    log_nothing()
    (target,) = (target for target in TARGETS if target.name == options.target)
    folder = options.folder / target.name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target.name)):
        (folder / f"seed-{number:03}").write_bytes(seed)

    def one(data: bytes) -> None:
        attempt(target, (data, *ARGUMENTS[target.name](data, Dice(len(data), sum(data)))))

    atheris.Setup([sys.argv[0], str(folder), f"-artifact_prefix={folder}-", *others], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
