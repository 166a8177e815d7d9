"""The `dimse` command as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 60.0


def start(*args: object, **options: object) -> subprocess.Popen[str]:
    """Start `dimse` with these arguments; its output goes to pipes unless `options` say else."""
    given: dict = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(
        [sys.executable, "-m", "dimse", *map(str, args)],
        stdin=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        **given,
    )


def dimse(*args: object) -> subprocess.CompletedProcess[str]:
    """Run `dimse` to its end, without a terminal."""
    with start(*args) as process:
        stdout, stderr = process.communicate(timeout=SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
