"""What is outside the scope of a peer is not there for it: not found, not counted, not sent."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage

import dimse
from dimse.archive.archive import Archive
from dimse.archive.scope import Scope
from dimse.performing import SCP, Operation, Sink
from dimse.testing import Network
from tests.archive.archives import Client, data_set, open_archive, put
from tests.archive.test_worklist import added, scheduled

IN = {"InstitutionName": "North"}
OUT = {"InstitutionName": "South", "SOPClassUID": MRImageStorage, "Modality": "MR"}
NOTHING = {"InstitutionName": None, "SOPClassUID": MRImageStorage, "Modality": "MR"}


class Scoped:
    """An SCP as it is for a peer with a scope."""

    def __init__(self, scp: SCP, scope: Mapping[str, Sequence[str]]) -> None:
        self._scp = scp
        self._scope = scope
        self.contexts = scp.contexts
        self.otherwise = scp.otherwise

    def perform(self, operation: Operation) -> Sink:
        operation.scope = self._scope
        return self._scp.perform(operation)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """A study in part, one as a whole, and one not at all in the scope; and a patient of the same
    ID elsewhere."""
    with open_archive(tmp_path_factory.mktemp("archive")) as archive:
        instances: dict[str, dict[str, Any]] = {
            "1.2.1.1": IN,
            "1.2.1.2": IN,
            "1.2.2.1": OUT,
            "1.2.3.1": NOTHING,
            "1.3.1.1": IN,
            "1.4.1.1": OUT | {"PatientID": "P2"},
            "1.5.1.1": OUT | {"IssuerOfPatientID": "ELSEWHERE"},
        }
        for uid, more in instances.items():
            assert put(archive, data_set(uid, **more)) == 0
        yield archive


class Seen(Client):
    """Someone with a scope."""

    def __init__(self, network: Network, archive: Archive, **scope: str) -> None:
        self.network = network
        scps = [Scoped(scp, {k: v.split(",") for k, v in scope.items()}) for scp in archive.scps()]
        self.endpoint = network.listen(scps)


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


SCOPES: list[dict[str, str]] = [
    {"InstitutionName": "North"},
    {"InstitutionName": "Nor*,Elsewhere"},
    {"SOPClassUID": CTImageStorage},  # of instances
    {"Modality": "CT,US", "PatientID": "P1"},
]


@pytest.fixture(params=SCOPES, ids=str)
def client(request: Any, network: Network, archive: Archive) -> Seen:
    return Seen(network, archive, **request.param)


def uids(found: list[Dataset], keyword: str) -> list[str]:
    return sorted(str(each.get(keyword)) for each in found)


class TestFind:
    @pytest.mark.parametrize(
        "extended", [{}, {dimse.STUDY_ROOT.find: dimse.QueryOptions(relational=True)}]
    )
    @pytest.mark.parametrize("keys", [{}, {"Modality": ""}, {"StudyInstanceUID": ["1.2", "1.4"]}])
    def test_studies(self, client: Seen, extended: Any, keys: dict[str, Any]):
        found = client.find("STUDY", extended=extended, **{"StudyInstanceUID": "", **keys})
        assert uids(found, "StudyInstanceUID") == (
            ["1.2"] if keys.get("StudyInstanceUID") else ["1.2", "1.3"]
        )

    def test_what_is_counted(self, client: Seen):
        (found,) = client.find(
            "STUDY",
            StudyInstanceUID="1.2",
            ModalitiesInStudy="",
            SOPClassesInStudy="",
            NumberOfStudyRelatedSeries="",
            NumberOfStudyRelatedInstances="",
        )
        assert found.ModalitiesInStudy == "CT"
        assert found.SOPClassesInStudy == CTImageStorage
        assert (found.NumberOfStudyRelatedSeries, found.NumberOfStudyRelatedInstances) == (1, 2)

    def test_what_is_counted_is_matched(self, client: Seen):
        assert client.find("STUDY", StudyInstanceUID="", ModalitiesInStudy="MR") == []

    def test_patients(self, client: Seen):
        (found,) = client.find(
            "PATIENT",
            dimse.PATIENT_ROOT,
            PatientID="",
            NumberOfPatientRelatedStudies="",
            NumberOfPatientRelatedSeries="",
            NumberOfPatientRelatedInstances="",
        )
        assert found.PatientID == "P1"
        assert found.NumberOfPatientRelatedStudies == 2
        assert found.NumberOfPatientRelatedSeries == 2
        assert found.NumberOfPatientRelatedInstances == 3

    def test_series_and_instances_by_their_uids(self, client: Seen):
        """That a peer knows them does not help."""
        series = client.find("SERIES", StudyInstanceUID="1.2", SeriesInstanceUID="")
        assert uids(series, "SeriesInstanceUID") == ["1.2.1"]
        outside: dict[str, Any] = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.2"}
        assert client.find("SERIES", **outside, NumberOfSeriesRelatedInstances="") == []
        assert client.find("IMAGE", **outside, SOPInstanceUID="1.2.2.1") == []
        inside: dict[str, Any] = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.1"}
        assert len(client.find("IMAGE", **inside, SOPInstanceUID="")) == 2


class TestRetrieve:
    @pytest.mark.parametrize(
        ("level", "keys", "sent"),
        [
            ("STUDY", {"StudyInstanceUID": "1.2"}, ["1.2.1.1", "1.2.1.2"]),
            ("STUDY", {"StudyInstanceUID": ["1.2", "1.4"]}, ["1.2.1.1", "1.2.1.2"]),
            ("STUDY", {"StudyInstanceUID": "1.4"}, []),
            ("SERIES", {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.2"}, []),
            (
                "IMAGE",
                {
                    "StudyInstanceUID": "1.2",
                    "SeriesInstanceUID": "1.2.2",
                    "SOPInstanceUID": "1.2.2.1",
                },
                [],
            ),
        ],
    )
    def test_by_uids(self, client: Seen, level: str, keys: dict[str, Any], sent: list[str]):
        done, found = client.get(level, **keys)
        assert uids(found, "SOPInstanceUID") == sent
        assert (done.completed, done.failed) == (len(sent), 0)

    def test_of_a_patient_and_another_of_that_id_outside(self, client: Seen):
        _, found = client.get("PATIENT", dimse.PATIENT_ROOT, PatientID="P1")
        assert uids(found, "SOPInstanceUID") == ["1.2.1.1", "1.2.1.2", "1.3.1.1"]


@pytest.mark.parametrize(
    ("scope", "found"),
    [({"Modality": "CT"}, ["S1"]), ({"PatientID": "P2"}, ["S2"]), ({"InstitutionName": "N"}, [])],
)
def test_worklist(
    network: Network, archive: Archive, scope: dict[str, str], found: list[str]
) -> None:
    """By the attributes of an item and of its step; what no item has is in no scope."""
    added(archive, scheduled(1), scheduled(2, _Modality="MR"))
    association = Seen(network, archive, **scope).associate([dimse.MODALITY_WORKLIST.find])
    keys = Dataset()
    keys.PatientID = ""
    keys.ScheduledProcedureStepSequence = [Dataset()]
    keys.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID = ""
    answers = network.result(dimse.find(association, keys, dimse.MODALITY_WORKLIST).result())
    steps = [each.ScheduledProcedureStepSequence[0] for each in answers]
    assert uids(steps, "ScheduledProcedureStepID") == found


def test_without_a_scope_all_is_there(network: Network, archive: Archive):
    client = Client(network, archive)
    assert len(client.find("STUDY", StudyInstanceUID="")) == 4
    assert client.get("STUDY", StudyInstanceUID="1.2")[0].completed in (2, 4)


@pytest.mark.parametrize(
    "scope",
    [
        {"Modality": ["*"]},
        {"Modality": []},
        {"Modality": ["CT\\MR"]},
        {"NumberOfStudyRelatedSeries": ["1"]},
        {"RequestAttributesSequence": ["1"]},
        {"Nonsense": ["1"]},
        {"StudyDate": ["yesterday"]},
    ],
    ids=str,
)
def test_what_is_no_scope(scope: dict[str, list[str]]):
    with pytest.raises(ValueError, match=r"\w"):
        Scope(scope)
