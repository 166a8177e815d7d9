"""The index is made again from the objects alone, and what is left of those before."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import sqlalchemy as sa

from dimse import MisuseError
from dimse.archive.archive import Archive
from dimse.archive.index import Index
from dimse.archive.objects import key_of
from dimse.archive.schema import WORKLIST
from tests.archive.archives import data_set, open_archive, put, texts, uids


class TestRebuild:
    def test_rebuild_keeps_the_index_that_was(self, tmp_path: Path):
        """It may be all that knows which instance an object was; those before it stay, too."""
        for uid, ending in (("1.2.1.1", ""), ("1.2.1.2", "-2"), ("1.2.1.3", "-3")):
            with open_archive(tmp_path) as archive:
                put(archive, data_set(uid))
                archive.objects.path_of(key_of(uid)).unlink()
            assert Archive(tmp_path).rebuild() == (0, 0)
            old = Index(f"sqlite:///{tmp_path}/index.sqlite.old{ending}")
            assert old.stored(["1.2.1.1", "1.2.1.2", "1.2.1.3"]).keys() == {uid}
            old.close()

    def test_rebuild_removes_old_indexes_that_tell_nothing_else(
        self, tmp_path: Path, log: list[dict[str, Any]]
    ):
        """But the newest, what is damaged, and what alone knows an instance or a worklist item."""
        index, tells = tmp_path / "index.sqlite", "newer ones know all that it does"

        def rebuild() -> set[str]:
            Archive(tmp_path).rebuild()
            return {path.name.removeprefix("index.sqlite.") for path in tmp_path.glob("*.old*")}

        with open_archive(tmp_path) as archive:
            put(archive, data_set("1.2.1.1"))
        assert rebuild() == {"old"}
        assert rebuild() == {"old-2"}
        assert f"removed {index}.old: {tells}" in texts(log)
        with open_archive(tmp_path) as archive:
            put(archive, data_set("1.2.1.2"))
            archive.objects.path_of(key_of("1.2.1.2")).unlink()  # known by old-3 alone
        assert rebuild() == {"old-3"}
        assert rebuild() == {"old-3", "old-4"}
        with open_archive(tmp_path) as archive:
            item = {"study_uid": "1.2", "step_id": "1", "date": "", "attributes": "{}"}
            archive.index.change(WORKLIST.insert().values(item))
        assert rebuild() == {"old-3", "old-5"}
        with open_archive(tmp_path) as archive:
            archive.index.change(WORKLIST.delete())  # now known by old-5 alone
        assert rebuild() == {"old-3", "old-5", "old-6"}
        (tmp_path / "index.sqlite.old-6").write_bytes(b"damaged")
        assert rebuild() == {"old-3", "old-5", "old-6", "old-7"}

    def test_a_rebuild_that_the_database_fails(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """The error names the index, and nothing else escapes."""
        with open_archive(tmp_path) as archive:
            put(archive, data_set("1.2.1.1"))
        archive = Archive(tmp_path)
        error = sa.exc.OperationalError("insert", {}, Exception("database or disk is full"))
        monkeypatch.setattr(archive.index, "add", Mock(side_effect=error))
        with pytest.raises(MisuseError, match=r"index sqlite.*: database or disk is full"):
            archive.rebuild()

    def test_rebuild_from_the_objects_alone(self, tmp_path: Path):
        with open_archive(tmp_path) as archive:
            for number in range(3):
                put(
                    archive,
                    data_set(
                        f"1.2.{number}.1",
                        PatientName="Müller^Jörg",
                        SpecificCharacterSet="ISO_IR 192",
                    ),
                )
            put(archive, data_set("1.2.9.1"))
            archive.objects.path_of(key_of("1.2.9.1")).write_bytes(b"damaged")
        (tmp_path / "index.sqlite").unlink()
        heard: list[int] = []
        assert Archive(tmp_path).rebuild(heard.append) == (3, 1)
        assert heard == sorted(heard)
        assert heard[-1] == 4
        with open_archive(tmp_path) as archive:
            whole = [key_of(f"1.2.{number}.1") for number in range(3)]
            assert archive.index.keys("0", "g") == sorted(whole)

    def test_rebuild_forgets_what_has_no_object(self, tmp_path: Path):
        with open_archive(tmp_path) as archive:
            put(archive, data_set("1.2.1.1"))
            archive.objects.path_of(key_of("1.2.1.1")).unlink()
        assert Archive(tmp_path).rebuild() == (0, 0)
        with open_archive(tmp_path) as archive:
            assert uids(archive) == []

    def test_no_rebuild_under_a_server(self, tmp_path: Path):
        with open_archive(tmp_path) as archive:
            put(archive, data_set("1.2.1.1"))
            with pytest.raises(MisuseError, match="another server"):
                Archive(tmp_path).rebuild()
            assert len(uids(archive)) == 1
