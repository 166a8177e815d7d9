"""The two commands with which the README begins are what a reader pastes first: they must work."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from twisted.plugins import dimse_plugin

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(
    r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
)
SERVE, TEST = (block.strip() for block in BLOCKS[:2])


@pytest.mark.parametrize("command", [SERVE, TEST])
def test_is_one_line_that_prepares_itself(command: str) -> None:
    assert "\n" not in command
    shell, script, then, programme, *_ = shlex.split(command)
    assert (shell, then) == ("sh", "&&")
    assert (ROOT / script).is_file()
    assert Path(programme).parent == Path(".venv/bin")
    assert Path(sys.executable).with_name(Path(programme).name).exists()


def test_serves_with_options_that_exist() -> None:
    programme, *arguments = shlex.split(SERVE)[3:]
    assert Path(programme).name == "twistd"
    dimse_plugin.dimse.options().parseOptions(arguments[arguments.index("dimse") + 1 :])


def test_runs_pytest() -> None:
    assert shlex.split(TEST)[4:] == ["-m", "pytest", "-n", "2"]
