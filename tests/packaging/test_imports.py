"""What an import brings with it, each seen in a fresh interpreter."""

import subprocess
import sys
from pathlib import Path

import pytest

import dimse

ROOT = Path(__file__).parents[2]
FILES = [
    *(Path(f"dimse/archive/{name}.py") for name in ("attributes", "elements", "header", "values")),
    Path("dimse/archive/identifier.py"),  # and so what it is made of
    Path("dimse/errors.py"),
    Path("dimse/limits.py"),
    Path("dimse/services/extended.py"),
    Path("dimse/sop_classes.py"),
    Path("dimse/uids.py"),
    *sorted(
        f.relative_to(ROOT)
        for part in ("ul", "message")
        for f in (ROOT / "dimse" / part).glob("*.py")
    ),
]
TWISTED = {"handshake", "protocol", "tcp", "timers", "tracing", "turns", "writing"}  # of dimse.ul
PURE = [
    ".".join(f.with_suffix("").parts).removesuffix(".__init__")
    for f in FILES
    if f.stem not in TWISTED
]


def loaded_by(code: str) -> set[str]:
    """The modules a fresh interpreter holds after `code`."""
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", PURE)
def test_pure_module_brings_no_twisted(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert module in loaded
    assert not {name for name in loaded if name.partition(".")[0] in {"twisted", "zope"}}


def test_no_public_name_brings_a_reactor() -> None:
    """To import the reactor is to install it, and that is for the application to choose."""
    loaded = loaded_by("import dimse\nfor name in dimse.__all__: getattr(dimse, name)")
    assert "twisted.internet" in loaded
    assert "twisted.internet.reactor" not in loaded


@pytest.mark.parametrize("name", dimse.__all__)
def test_public_name_resolves(name: str) -> None:
    assert getattr(dimse, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    name = "no_such_name"
    with pytest.raises(AttributeError, match=name):
        getattr(dimse, name)
