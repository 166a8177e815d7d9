"""`dimse index rebuild`."""

from pathlib import Path

import pytest
from pydicom import Dataset

from dimse.archive.archive import Archive
from dimse.archive.objects import key_of
from tests.archive.archives import data_set, open_archive, put
from tests.cli.command import dimse
from tests.databases import new_database, postgresql

UIDS = ["1.2.1.1", "1.2.1.2", "1.2.2.1"]


def instances() -> list[Dataset]:
    return [data_set(uid) for uid in UIDS]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of three instances, and no server."""
    folder = tmp_path / "store"
    with open_archive(folder) as archive:
        for each in instances():
            put(archive, each)
    return folder


def indexed(folder: Path, index: str | None = None) -> list[str]:
    """The keys of the index, as they are before a start reconciles."""
    opened = Archive(folder, index=index).index.open()
    try:
        return opened.keys("0", "g")
    finally:
        opened.close()


KEYS = sorted(map(key_of, UIDS))


def test_from_the_files_alone(store: Path) -> None:
    (store / "index.sqlite").unlink()
    done = dimse("index", "rebuild", store)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3 instances are in the index, 0 files are damaged or unreadable\n"
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"sqlite:///{store}/index.sqlite is made from {store}")
    assert indexed(store) == KEYS


def test_damaged_files_are_named(store: Path) -> None:
    """And are left out; exit code 1 says that not all is well."""
    damaged = key_of(UIDS[0])
    (store / "objects" / damaged[:2] / f"{damaged}.dcm").write_bytes(b"damaged")
    done = dimse("index", "rebuild", store)
    assert done.returncode == 1
    assert done.stdout == "2 instances are in the index, 1 files are damaged or unreadable\n"
    assert f"object {damaged} is damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert indexed(store) == sorted(set(KEYS) - {damaged})


def test_refuses_under_a_server(store: Path) -> None:
    with open_archive(store):
        done = dimse("index", "rebuild", store)
        assert indexed(store) == KEYS
    assert done.returncode == 1
    assert done.stderr == f"Error: store {store}: another server uses it\n"


@pytest.mark.parametrize("name", ["no/such", "."])
def test_a_folder_that_is_no_store(tmp_path: Path, name: str) -> None:
    """Nothing appears there."""
    done = dimse("index", "rebuild", tmp_path / name)
    assert done.returncode == 1
    assert "is no store of instances" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_another_database(store: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/other.sqlite"
    assert dimse("index", "rebuild", store, "--index", url).returncode == 0
    assert indexed(store, url) == KEYS


@pytest.fixture
def file(store: Path) -> Path:
    """The configuration of a node whose index is not in its store."""
    file = store.parent / "node.toml"
    file.write_text(
        f"""
        [storage]
        folder = "store"
        [index]
        url = "sqlite:///{store.parent}/elsewhere.sqlite"
        """
    )
    return file


def test_the_index_of_a_configuration(store: Path, file: Path) -> None:
    """Not the one in the store, which nobody would use."""
    before = (store / "index.sqlite").stat()
    done = dimse("index", "rebuild", "--config", file)
    assert done.returncode == 0, done.stderr
    assert indexed(store, f"sqlite:///{store.parent}/elsewhere.sqlite") == KEYS
    assert "elsewhere.sqlite is made from" in done.stderr
    assert (store / "index.sqlite").stat() == before


@pytest.mark.parametrize("both", [True, False])
def test_either_a_store_or_a_configuration(store: Path, file: Path, both: bool) -> None:
    """Which one counts is not guessed."""
    done = dimse("index", "rebuild", *([store, "--config", file] if both else []))
    assert done.returncode == 2
    assert "either DIR or --config is needed" in done.stderr


def test_a_wrong_configuration(file: Path) -> None:
    file.write_text("[storage]\nfolder = 7\n")
    done = dimse("index", "rebuild", "--config", file)
    assert done.returncode == 1
    assert "line 2" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.peer
def test_postgresql(store: Path) -> None:
    with postgresql() as server:
        url = new_database(server)
        done = dimse("index", "rebuild", store, "--index", url)
        assert done.returncode == 0, done.stderr
        assert indexed(store, url) == KEYS


def test_a_wrong_database(store: Path) -> None:
    done = dimse("index", "rebuild", store, "--index", "mysql://u:secret@h/d")
    assert done.returncode == 1
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr
