"""The Modality Worklist of the archive (PS3.4 K)."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.uid import ExplicitVRLittleEndian
from twisted.logger import LogLevel, formatEvent

import dimse
from dimse import MODALITY_WORKLIST, MisuseError, StatusError, WorklistOptions
from dimse.archive import worklist
from dimse.archive.archive import Archive
from dimse.archive.steps import Steps
from dimse.archive.worklist import StoredWorklist
from dimse.archive.worklist_files import attributes_in, read_items
from dimse.archive.worklist_keys import NEVER_MATCHED, OF_STEP, OTHERS
from dimse.services.procedure_step import changed
from dimse.testing import Network
from tests.archive.archives import open_archive, synchronously
from tests.services.steps import begun, ended, of
from tests.tables import rows

NOBODY: Any = None
STEP_ID, DATE, TIME = 0x00400009, 0x00400002, 0x00400003


def scheduled(number: int, **values: Any) -> Dataset:
    """Item `number`: with an underscore before them, `values` go into its step."""
    step = {
        "ScheduledStationAETitle": "CT1",
        "ScheduledProcedureStepStartDate": f"2026010{number}",
        "ScheduledProcedureStepStartTime": "1200",
        "Modality": "CT",
        "ScheduledPerformingPhysicianName": "Who^Doctor",
        "ScheduledProcedureStepDescription": "HEAD",
        "ScheduledProcedureStepID": f"S{number}",
    }
    item = {
        "StudyInstanceUID": f"1.2.{number}",
        "AccessionNumber": f"A{number}",
        "RequestedProcedureID": f"R{number}",
        "RequestedProcedureDescription": "CT HEAD",
        "PatientName": "Doe^Jane",
        "PatientID": f"P{number}",
        "PregnancyStatus": 4,
    }
    for keyword, value in values.items():
        (step if keyword.startswith("_") else item)[keyword.removeprefix("_")] = value
    return of(**item, ScheduledProcedureStepSequence=[of(**step)])


def added(archive: Archive, *items: Dataset) -> None:
    StoredWorklist(archive.index).add(map(attributes_in, items))


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def archive(
    tmp_path: Path, network: Network, new_index: Callable[[], str | None]
) -> Iterator[Archive]:
    with open_archive(tmp_path / "store", index=new_index(), clock=network.clock) as archive:
        yield archive


class Modality:
    """Asks for its worklist."""

    def __init__(self, network: Network, archive: Archive) -> None:
        self.network = network
        self.node = network.listen(archive.scps())

    def find(self, *, options: WorklistOptions | None = None, **keys: Any) -> list[Dataset]:
        """The matches; with an underscore before them, `keys` are of the step."""
        of_step = {name[1:]: value for name, value in keys.items() if name.startswith("_")}
        identifier = of(**{name: keys[name] for name in keys if not name.startswith("_")})
        identifier.setdefault("StudyInstanceUID", "")
        of_step.setdefault("ScheduledProcedureStepID", "")
        identifier.ScheduledProcedureStepSequence = [of(**of_step)]
        model = MODALITY_WORKLIST
        extended = {model.find: options} if options is not None else {}
        association, _ = self.network.associate(self.node, [model.find], extended=extended)
        matches: list[Dataset] = self.network.result(
            dimse.find(association, identifier, model).result()
        )
        return matches

    def finds(self, **keys: Any) -> str:
        """The numbers of the items found."""
        return "".join(sorted(match.StudyInstanceUID[-1] for match in self.find(**keys)))


@pytest.fixture
def modality(network: Network, archive: Archive) -> Modality:
    return Modality(network, archive)


class TestKeys:
    @pytest.mark.parametrize(
        ("depth", "parent", "known"),
        [("0", "", OTHERS), ("1", "Scheduled Procedure Step Sequence", OF_STEP)],
    )
    def test_they_are_those_of_the_standard(self, depth: str, parent: str, known: Any):
        """With their matching and return types (PS3.4 Table K.6-1)."""
        table = {
            row["keyword"]: (row["matching_key_type"], row["return_key_type"])
            for row in rows("mwl_keys")
            if row["keyword"]
            and row["depth"] == depth
            and row["parent"] == parent
            and not row["module"].startswith("(identifier")
        }
        assert {tag: (key.matching, key.returned) for tag, key in known.items()} == {
            tag_for_keyword(keyword): types for keyword, types in table.items()
        }

    def test_what_is_only_asked_for(self):
        assert {
            tag_for_keyword(row["keyword"])
            for row in rows("mwl_keys")
            if row["required_matching_kind"] == "Universal only"
        } == NEVER_MATCHED

    @pytest.mark.parametrize(
        ("keys", "found"),
        [
            ({"_ScheduledStationAETitle": "CT1"}, "13"),
            ({"_ScheduledProcedureStepStartDate": "20260102"}, "2"),
            ({"_ScheduledProcedureStepStartDate": "20260102-"}, "23"),
            ({"_ScheduledProcedureStepStartDate": "-20260102"}, "12"),
            (
                {
                    "_ScheduledProcedureStepStartDate": "20260101-20260102",
                    "_ScheduledProcedureStepStartTime": "1230-1100",
                },
                "",
            ),
            (
                {
                    "_ScheduledProcedureStepStartDate": "20260101-20260103",
                    "_ScheduledProcedureStepStartTime": "1230-1100",
                },
                "2",
            ),
            ({"_Modality": "MR"}, "2"),
            ({"_ScheduledPerformingPhysicianName": "wh*"}, "13"),
            ({"PatientName": "DOE^J*"}, "123"),
            ({"PatientID": "P3"}, "3"),
            ({"AccessionNumber": "A1"}, "1"),
            ({"StudyInstanceUID": ["1.2.1", "1.2.3"]}, "13"),
            ({"RequestedProcedureID": "R?"}, "123"),
            ({"PregnancyStatus": 4}, "123"),
            ({"AdmissionID": "X"}, ""),  # an unknown value matches nothing (K.2.2.1.1.1)
        ],
    )
    def test_what_they_find(
        self, archive: Archive, modality: Modality, keys: dict[str, Any], found: str
    ):
        other = {"_ScheduledStationAETitle": "MR1", "_Modality": "MR"}
        added(
            archive,
            scheduled(1),
            scheduled(2, _ScheduledPerformingPhysicianName="Else^Some", **other),
            scheduled(3),
        )
        assert modality.finds(**keys) == found

    def test_several_items_of_a_key_are_refused(self, network: Network, modality: Modality):
        identifier = of(ScheduledProcedureStepSequence=[of(Modality="CT"), of(Modality="MR")])
        association, _ = network.associate(modality.node, [MODALITY_WORKLIST.find])
        with pytest.raises(StatusError, match="0xA900"):
            network.result(dimse.find(association, identifier, MODALITY_WORKLIST).result())

    def test_fuzzy_names_are_negotiated(self, archive: Archive, modality: Modality):
        added(archive, scheduled(1))
        assert modality.finds(PatientName="jane doe") == ""
        options = WorklistOptions(fuzzy_names=True)
        assert modality.finds(PatientName="jane doe", options=options) == "1"

    def test_a_time_zone_is_negotiated(self, archive: Archive, modality: Modality):
        """A step in the evening of one zone is on the next day of another."""
        late = scheduled(1, _ScheduledProcedureStepStartTime="2300", TimezoneOffsetFromUTC="+0000")
        added(archive, late)
        keys = {
            "_ScheduledProcedureStepStartDate": "20260102",
            "_ScheduledProcedureStepStartTime": "",
            "TimezoneOffsetFromUTC": "+0200",
        }
        options = WorklistOptions(timezone=True)
        (found,) = modality.find(options=options, **keys)
        assert found.TimezoneOffsetFromUTC == "+0000"


class TestAnswers:
    def test_all_that_was_asked_for(self, archive: Archive, modality: Modality):
        """Empty where the item has nothing; text in a character set that can say it."""
        added(archive, scheduled(1, PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100"))
        (found,) = modality.find(PatientName="", AdmissionID="", PregnancyStatus=None, _Modality="")
        assert found.PatientName == "Müller^Jörg"
        assert found.SpecificCharacterSet == "ISO_IR 192"
        assert (found.AdmissionID, found.PregnancyStatus) == ("", 4)
        (step,) = found.ScheduledProcedureStepSequence
        assert (step.Modality, step.ScheduledProcedureStepID) == ("CT", "S1")
        assert "PatientID" not in found

    def test_more_than_a_page(
        self, archive: Archive, modality: Modality, monkeypatch: pytest.MonkeyPatch
    ):
        """Each once; also several steps of one study."""
        monkeypatch.setattr(worklist, "_PAGE", 2)
        added(
            archive,
            *(scheduled(number) for number in (1, 2, 3, 4)),
            scheduled(2, _ScheduledProcedureStepID="S9"),
        )
        assert modality.finds() == "12234"
        assert modality.finds(_ScheduledProcedureStepStartDate="20260102-20260104") == "2234"


class TestItems:
    def test_add_again_renews(self, archive: Archive, modality: Modality):
        added(archive, scheduled(1))
        added(archive, scheduled(1, PatientID="NEW"))
        (found,) = modality.find(PatientID="")
        assert found.PatientID == "NEW"

    def test_remove(self, archive: Archive, modality: Modality):
        added(archive, scheduled(1), scheduled(2))
        items = StoredWorklist(archive.index)
        assert items.remove("1.2.1", "S1")
        assert not items.remove("1.2.1", "S1")
        assert modality.finds() == "2"

    def test_a_rebuild_of_the_index_keeps_them(
        self, tmp_path: Path, new_index: Callable[[], str | None]
    ):
        """For no file of an instance tells of them."""
        folder, index = tmp_path / "rebuilt", new_index()
        with open_archive(folder, index=index) as archive:
            added(archive, scheduled(1))
        Archive(folder, index=index).rebuild()
        with open_archive(folder, index=index) as archive:
            (page,) = StoredWorklist(archive.index).pages()
            assert page == [attributes_in(scheduled(1))]

    def test_what_lacks_something_is_refused(self, archive: Archive, modality: Modality):
        """By its keywords; and nothing is added then."""
        broken = scheduled(2, PatientID="", _ScheduledStationAETitle="")
        with pytest.raises(MisuseError, match="item 2 lacks PatientID, ScheduledStationAETitle "):
            added(archive, scheduled(1), broken)
        assert modality.finds() == ""

    @pytest.mark.parametrize(
        ("status", "link", "left"),
        [
            ("COMPLETED", {"StudyInstanceUID": "1.2.1", "ScheduledProcedureStepID": "S1"}, "2"),
            (
                "COMPLETED",
                {
                    "StudyInstanceUID": "1.2.99",
                    "ScheduledProcedureStepID": "S1",
                    "AccessionNumber": "A1",
                },
                "2",
            ),
            ("COMPLETED", {"StudyInstanceUID": "1.2.1", "ScheduledProcedureStepID": "S2"}, "12"),
            ("COMPLETED", {"StudyInstanceUID": "1.2.1", "ScheduledProcedureStepID": ""}, "12"),
            ("DISCONTINUED", {"StudyInstanceUID": "1.2.1", "ScheduledProcedureStepID": "S1"}, "12"),
            ("", {"StudyInstanceUID": "1.2.1", "ScheduledProcedureStepID": "S1"}, "12"),
        ],
    )
    def test_what_is_done_leaves_the_list(
        self,
        archive: Archive,
        network: Network,
        modality: Modality,
        status: str,
        link: dict[str, str],
        left: str,
    ):
        """When a step of it, of this study or order, was completed."""
        added(archive, scheduled(1), scheduled(2))
        step = begun()
        step.ScheduledStepAttributesSequence[0].update(of(**link))
        steps = Steps(archive.index, synchronously)
        network.result(steps.create("1.2.40", step, NOBODY))
        if status:
            end = ended(status)
            network.result(steps.update("1.2.40", lambda before: changed(before, end), NOBODY))
        assert modality.finds() == left


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "worklist"
    folder.mkdir()
    return folder


@pytest.fixture
def from_files(tmp_path: Path, folder: Path, network: Network) -> Iterator[Modality]:
    with open_archive(tmp_path / "store", clock=network.clock, worklist=folder) as archive:
        yield Modality(network, archive)


def save(item: Dataset, path: Path, **options: Any) -> None:
    """As a DICOM file without file meta information, as DCMTK's dump2dcm may leave it."""
    item.save_as(path, implicit_vr=False, little_endian=True, **options)


class TestFolder:
    def test_of_both_kinds(self, folder: Path, from_files: Modality):
        """With or without file meta information, one or several in a file of JSON."""
        save(scheduled(1), folder / "1.wl")
        second = scheduled(2)
        second.file_meta = of()  # type: ignore[assignment]
        second.ensure_file_meta()
        second.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        second.SOPClassUID, second.SOPInstanceUID = "1.2.3", "1.2.4"
        second.save_as(folder / "2.dcm", enforce_file_format=True)
        (folder / "3.json").write_text(scheduled(3).to_json())
        several = [scheduled(4), scheduled(5, PatientName="山田^太郎")]
        (folder / "45.json").write_text(json.dumps([each.to_json_dict() for each in several]))
        (folder / "notes.txt").write_text("no item")
        assert from_files.finds() == "12345"
        (found,) = from_files.find(StudyInstanceUID="1.2.5", PatientName="")
        assert found.PatientName == "山田^太郎"

    def test_they_are_read_again(self, folder: Path, from_files: Modality):
        save(scheduled(1), folder / "a.dcm")
        assert from_files.finds() == "1"
        save(scheduled(2), folder / "a.dcm")
        os.utime(folder / "a.dcm", ns=(1, 1))
        assert from_files.finds() == "2"
        save(scheduled(3), folder / "b.dcm")
        (folder / "a.dcm").unlink()
        assert from_files.finds() == "3"

    def test_they_are_not_read_without_need(
        self, folder: Path, from_files: Modality, monkeypatch: pytest.MonkeyPatch
    ):
        save(scheduled(1), folder / "a.dcm")
        assert from_files.finds() == "1"
        monkeypatch.setattr("dimse.archive.worklist_files.read_items", None)
        assert from_files.finds() == "1"

    def test_beside_those_of_the_index(self, tmp_path: Path, folder: Path, network: Network):
        save(scheduled(1), folder / "a.dcm")
        with open_archive(tmp_path / "store", clock=network.clock, worklist=folder) as archive:
            added(archive, scheduled(2))
            assert Modality(network, archive).finds() == "12"

    def test_a_file_that_is_none(self, folder: Path, from_files: Modality, network: Network):
        """Is named in the log once, without its values; the others are found."""
        save(scheduled(1), folder / "good.dcm")
        (folder / "bad.dcm").write_bytes(b"Secret" * 100)
        (folder / "bad.json").write_text('[{"00100010": "Secret"}]')
        lacking = scheduled(2, PatientName="Secret")
        del lacking.StudyInstanceUID
        save(lacking, folder / "lacking.dcm")
        for _ in range(2):
            assert from_files.finds() == "1"
        said = sorted(
            formatEvent(each) for each in network.events if each["log_level"] is LogLevel.error
        )
        assert len(said) == 3
        for name, line in zip(("bad.dcm", "bad.json", "lacking.dcm"), said, strict=True):
            assert name in line
            assert "Secret" not in line
        assert "lacks StudyInstanceUID" in said[2]

    def test_a_folder_that_is_not_there(self, folder: Path, from_files: Modality, network: Network):
        folder.rmdir()
        assert from_files.finds() == ""
        assert any(each["log_level"] is LogLevel.error for each in network.events)


@pytest.mark.parametrize("encoding", ["ISO_IR 100", "ISO_IR 192", None])
def test_a_file_is_read_in_its_character_set(tmp_path: Path, encoding: str | None) -> None:
    item = scheduled(1, PatientName="Müller" if encoding else "Muller")
    if encoding:
        item.SpecificCharacterSet = encoding
    save(item, tmp_path / "item.dcm")
    (read,) = read_items(tmp_path / "item.dcm")
    assert read == attributes_in(item)
    assert read[0x00100010] == item.PatientName
