"""C-GET of the archive over an association (PS3.4 C.4.2, C.4.3)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from dimse import (
    PATIENT_ROOT,
    STUDY_ROOT,
    InformationModel,
    MemoryStore,
    Operation,
    ReceivedInstance,
    StatusError,
    StorageSCP,
    move,
)
from dimse.archive.archive import Archive
from dimse.sop_classes import PATIENT_STUDY_ONLY
from dimse.testing import Network
from tests.archive.archives import Client, data_set, open_archive, put

PATIENTS = {"1.2.0": "P1", "1.2.1": "P1", "1.2.2": "P2"}
"""Of each study: it has two series, of 1 and 11 instances."""


@pytest.fixture(scope="module")
def archive(
    tmp_path_factory: pytest.TempPathFactory, new_index: Callable[[], str | None]
) -> Iterator[Archive]:
    with open_archive(tmp_path_factory.mktemp("archive"), index=new_index()) as archive:
        for study, patient in PATIENTS.items():
            for image in ("1.1", *(f"2.{number}" for number in range(11, 0, -1))):
                assert put(archive, data_set(f"{study}.{image}", PatientID=patient)) == 0
        yield archive


@pytest.fixture
def client(archive: Archive) -> Iterator[Client]:
    with Network() as network:
        yield Client(network, archive)


def series(uid: str) -> list[str]:
    """The instances of a series, in their order."""
    return [f"{uid}.{number}" for number in range(1, 2 if uid.endswith(".1") else 12)]


def study(uid: str) -> list[str]:
    return [*series(f"{uid}.1"), *series(f"{uid}.2")]


ABOVE = {"StudyInstanceUID": "1.2.0", "SeriesInstanceUID": "1.2.0.2"}
P1 = {"PatientID": "P1"}


@pytest.mark.parametrize(
    ("level", "model", "keys", "expected"),
    [
        ("PATIENT", PATIENT_ROOT, P1, study("1.2.0") + study("1.2.1")),
        ("PATIENT", PATIENT_STUDY_ONLY, {"PatientID": "P2"}, study("1.2.2")),
        ("PATIENT", PATIENT_ROOT, {"PatientID": "P9"}, []),
        ("STUDY", PATIENT_ROOT, {**P1, "StudyInstanceUID": "1.2.1"}, study("1.2.1")),
        ("STUDY", PATIENT_ROOT, {**P1, "StudyInstanceUID": "1.2.2"}, []),
        ("STUDY", STUDY_ROOT, {"StudyInstanceUID": "1.2.2"}, study("1.2.2")),
        (
            "STUDY",
            STUDY_ROOT,
            {"StudyInstanceUID": ["1.2.2", "9", "1.2.0"]},
            [*study("1.2.0"), *study("1.2.2")],
        ),
        ("SERIES", STUDY_ROOT, ABOVE, series("1.2.0.2")),
        ("SERIES", PATIENT_ROOT, P1 | ABOVE, series("1.2.0.2")),
        ("IMAGE", STUDY_ROOT, {**ABOVE, "SOPInstanceUID": "1.2.0.2.7"}, ["1.2.0.2.7"]),
        ("IMAGE", STUDY_ROOT, {**ABOVE, "SOPInstanceUID": "1.2.0.1.1"}, []),
    ],
)
def test_what_is_sent(
    client: Client,
    level: str,
    model: InformationModel,
    keys: dict[str, Any],
    expected: list[str],
):
    """All of it and nothing else, in the order of series and numbers: 2 comes before 10."""
    done, held = client.get(level, model, **keys)
    assert (done.completed, done.failed) == (len(expected), 0)
    assert [each.SOPInstanceUID for each in held] == expected


@pytest.mark.parametrize(
    ("level", "model", "keys", "named"),
    [
        ("", STUDY_ROOT, {}, "QueryRetrieveLevel"),
        ("PATIENT", STUDY_ROOT, P1, "QueryRetrieveLevel"),
        ("SERIES", PATIENT_STUDY_ONLY, ABOVE | P1, "QueryRetrieveLevel"),
        ("STUDY", STUDY_ROOT, {}, "StudyInstanceUID"),
        ("STUDY", STUDY_ROOT, {"StudyInstanceUID": "*"}, "StudyInstanceUID"),
        ("STUDY", PATIENT_ROOT, {"StudyInstanceUID": "1.2.0"}, "PatientID"),
        ("SERIES", STUDY_ROOT, {"SeriesInstanceUID": "1.2.0.2"}, "StudyInstanceUID"),
        ("PATIENT", PATIENT_ROOT, {"PatientID": "P*"}, "PatientID"),
        ("PATIENT", PATIENT_ROOT, {"PatientID": "P1\\P2"}, "PatientID"),
    ],
)
def test_nothing_is_sent_without_its_keys(
    client: Client, level: str, model: InformationModel, keys: dict[str, Any], named: str
):
    """A900H, with the attribute and the clause."""
    with pytest.raises(StatusError) as caught:
        client.get(level, model, **keys)
    assert caught.value.status == 0xA900
    assert [int(tag) for tag in caught.value.offending] == [tag_for_keyword(named)]


@pytest.fixture
def of_one_id(tmp_path: Path, new_index: Callable[[], str | None]) -> Iterator[Client]:
    """Two hospitals, each with a patient P1; one P2."""
    issuers = {"1.2.0": "A", "1.2.1": "B", "1.2.2": "A"}
    with open_archive(tmp_path, index=new_index()) as archive, Network() as network:
        for study, issuer in issuers.items():
            keys = {"PatientID": "P2" if study == "1.2.2" else "P1", "IssuerOfPatientID": issuer}
            assert put(archive, data_set(f"{study}.1.1", **keys)) == 0
        yield Client(network, archive)


class TestTwoPatientsOfOneID:
    @pytest.mark.parametrize("model", [PATIENT_ROOT, PATIENT_STUDY_ONLY])
    @pytest.mark.parametrize("issuer", [{}, {"IssuerOfPatientID": ""}])
    def test_are_never_mixed(
        self, of_one_id: Client, model: InformationModel, issuer: dict[str, str]
    ):
        """A900H, with what is missing."""
        with pytest.raises(StatusError) as caught:
            of_one_id.get("PATIENT", model, **P1, **issuer)
        assert caught.value.status == 0xA900
        assert "IssuerOfPatientID" in caught.value.comment
        assert [int(tag) for tag in caught.value.offending] == [0x00100021]

    @pytest.mark.parametrize(
        ("issuer", "expected"), [("A", ["1.2.0.1.1"]), ("B", ["1.2.1.1.1"]), ("C", [])]
    )
    def test_are_told_apart_by_the_issuer(
        self, of_one_id: Client, issuer: str, expected: list[str]
    ):
        _, held = of_one_id.get("PATIENT", PATIENT_ROOT, **P1, IssuerOfPatientID=issuer)
        assert [each.SOPInstanceUID for each in held] == expected

    def test_a_study_of_one_of_them_needs_no_issuer(self, of_one_id: Client):
        _, held = of_one_id.get("STUDY", PATIENT_ROOT, **P1, StudyInstanceUID="1.2.1")
        assert [each.SOPInstanceUID for each in held] == ["1.2.1.1.1"]

    def test_an_id_of_one_patient_needs_no_issuer(self, of_one_id: Client):
        _, held = of_one_id.get("PATIENT", PATIENT_ROOT, PatientID="P2")
        assert [each.SOPInstanceUID for each in held] == ["1.2.2.1.1"]


@pytest.mark.parametrize(("ours", "caller"), [("ARCHIVE", "ARCHIVE"), (None, "WHATEVER")])
def test_who_we_are_for_a_destination(archive: Archive, ours: str | None, caller: str):
    """A title of our own, which no requestor chooses; without one, what it called us."""
    titles = []

    class Screen(MemoryStore):
        def begin(self, instance: ReceivedInstance, operation: Operation) -> Any:
            titles.append(instance.sending_ae_title)
            return super().begin(instance, operation)

    with Network() as network, Screen() as screen:
        place = network.listen([StorageSCP(screen)])
        scps = archive.scps(destinations={"SCREEN": place}, ae_title=ours)
        association, _ = network.associate(
            network.listen(scps), [STUDY_ROOT.move], called_ae_title="WHATEVER"
        )
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "IMAGE"
        identifier.StudyInstanceUID = "1.2.0"
        identifier.SeriesInstanceUID = "1.2.0.1"
        identifier.SOPInstanceUID = "1.2.0.1.1"
        done = network.result(move(association, identifier, "SCREEN", STUDY_ROOT).result())
    assert done.completed == 1
    assert titles == [caller]
