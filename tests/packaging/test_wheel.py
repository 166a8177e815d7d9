"""The wheel, made from the sdist, works in an environment outside the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def call(*args: str | Path, cwd: Path) -> str:
    """What a programme prints that must succeed, and whose imports see no checkout."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        args,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{args}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("dimse-*.whl"))


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a new virtual environment with the wheel and what it requires, no extras."""
    folder = tmp_path_factory.mktemp("venv")
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    install(folder / "bin", wheel)
    return folder / "bin"


def install(scripts: Path, what: str | Path) -> None:
    """With the pip of the tests; what is imported is compiled then, and not all of the rest."""
    pip = (sys.executable, "-m", "pip", "--python", scripts / "python")
    call(*pip, "install", "--quiet", "--no-compile", what, cwd=scripts)


class TestWheel:
    def test_holds_the_plugin_and_leaves_twisted_alone(self, wheel: Path) -> None:
        """An `__init__.py` in twisted/ or twisted/plugins/ would overwrite Twisted's own."""
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
        assert [n for n in names if n.startswith("twisted")] == ["twisted/plugins/dimse_plugin.py"]

    def test_holds_every_module_and_the_typing_marker(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            names = {n for n in archive.namelist() if n.startswith("dimse/")}
        files = (ROOT / "dimse").rglob("*")
        expected = {str(f.relative_to(ROOT)) for f in files if f.suffix in {".py", ".typed"}}
        assert names == expected

    def test_twistd_lists_dimse(self, scripts: Path, tmp_path: Path) -> None:
        output = call(scripts / "twistd", "--help", cwd=tmp_path)
        assert any(line.split()[:1] == ["dimse"] for line in output.splitlines())

    def test_twistd_dimse_says_which_extra_it_needs(
        self, scripts: Path, wheel: Path, tmp_path: Path
    ) -> None:
        command: list[str | Path] = [scripts / "twistd", "dimse", "--help"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        assert done.returncode == 1
        assert "pip install 'dimse[server]'" in output
        assert "Traceback" not in output
        install(scripts, f"{wheel}[server]")
        assert "--port" in call(*command, cwd=tmp_path)

    def test_command_line(self, scripts: Path, wheel: Path, tmp_path: Path) -> None:
        install(scripts, f"{wheel}[cli]")
        output = call(scripts / "dimse", "--help", cwd=tmp_path)
        assert "echo" in output
        assert "store" in output
