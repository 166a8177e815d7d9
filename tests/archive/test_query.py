"""C-FIND of the archive over an association (PS3.4 C.4.1, C.6)."""

from collections.abc import Callable, Iterator
from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from twisted.logger import formatEvent

from dimse import PATIENT_ROOT, STUDY_ROOT, QueryOptions, QuerySCP, StatusError
from dimse.archive import selection
from dimse.archive.archive import Archive
from dimse.archive.attributes import KEPT, REQUIRED, Level
from dimse.archive.identifier import Rules, keys_of
from dimse.archive.matching import Universal, matches
from dimse.archive.query import Finder, Query
from dimse.archive.selection import COMPUTED, Selection
from dimse.testing import Network
from tests.archive.archives import Client, data_set, open_archive, put, synchronously
from tests.databases import new_database
from tests.wire import EXPLICIT

STUDIES: list[dict[str, Any]] = [
    {
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "StudyDate": "20240105",
        "StudyTime": "101112",
        "AccessionNumber": "A1",
        "StudyID": "S1",
        "TimezoneOffsetFromUTC": "+0900",
    },
    {
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "StudyDate": "20240106",
        "StudyTime": "2230",
        "AccessionNumber": "A2",
        "StudyID": "S2",
        "Modality": "MR",
    },
    {
        "PatientID": "P2",
        "PatientName": "Müller^Jörg=山田^太郎",
        "SpecificCharacterSet": "ISO_IR 192",
        "StudyDate": "20230101",
        "StudyTime": "000000.5",
        "AccessionNumber": "",
        "StudyDescription": "Schädel % _ nativ",
    },
    {"PatientID": "", "PatientName": "", "StudyDate": None, "Modality": "PT"},
    {"PatientID": None, "PatientName": "O'Hara^Scarlett", "StudyDate": "19391215"},
]
"""Study `n` is 1.2.n; it has two series of n + 1 instances."""


def fill(archive: Archive) -> Archive:
    for number, attributes in enumerate(STUDIES):
        for series in (1, 2):
            for image in range(number + 1):
                uid = f"1.2.{number}.{series}.{image + 1}"
                modality = {"Modality": "SR"} if series == 2 else {}
                assert put(archive, data_set(uid, **attributes | modality)) == 0
    return archive


@pytest.fixture(scope="module")
def archive(
    tmp_path_factory: pytest.TempPathFactory, new_index: Callable[[], str | None]
) -> Iterator[Archive]:
    with open_archive(tmp_path_factory.mktemp("archive"), index=new_index()) as archive:
        yield fill(archive)


@pytest.fixture(scope="module")
def archives(
    tmp_path_factory: pytest.TempPathFactory, postgresql_server: str
) -> Iterator[list[Archive]]:
    """With an index in SQLite, and with one in PostgreSQL."""
    folder = tmp_path_factory.mktemp("archives")
    with (
        open_archive(folder / "sqlite") as sqlite,
        open_archive(folder / "postgresql", index=new_database(postgresql_server)) as postgresql,
    ):
        yield [fill(sqlite), fill(postgresql)]


@pytest.fixture
def client(archive: Archive) -> Iterator[Client]:
    with Network() as network:
        yield Client(network, archive)


def studies(found: list[Dataset]) -> list[str]:
    return sorted(match.StudyInstanceUID for match in found)


class TestLevels:
    def test_patients(self, client: Client):
        found = client.find(
            "PATIENT",
            PATIENT_ROOT,
            PatientID="",
            PatientName="",
            NumberOfPatientRelatedStudies="",
            NumberOfPatientRelatedSeries="",
            NumberOfPatientRelatedInstances="",
        )
        assert sorted(
            (
                str(each.PatientID or ""),
                str(each.PatientName),
                each.NumberOfPatientRelatedStudies,
                each.NumberOfPatientRelatedSeries,
                each.NumberOfPatientRelatedInstances,
            )
            for each in found
        ) == [
            ("", "", 1, 2, 8),
            ("", "O'Hara^Scarlett", 1, 2, 10),
            ("P1", "Doe^Jane", 2, 4, 6),
            ("P2", "Müller^Jörg=山田^太郎", 1, 2, 6),
        ]

    def test_studies_of_a_patient(self, client: Client):
        found = client.find("STUDY", PATIENT_ROOT, PatientID="P1", StudyInstanceUID="")
        assert studies(found) == ["1.2.0", "1.2.1"]
        assert {each.PatientID for each in found} == {"P1"}

    def test_computed_of_a_study(self, client: Client):
        (found,) = client.find(
            "STUDY",
            StudyInstanceUID="1.2.1",
            ModalitiesInStudy="",
            SOPClassesInStudy="",
            NumberOfStudyRelatedSeries="",
            NumberOfStudyRelatedInstances="",
            StudyUpdateDateTime="",
        )
        assert found.ModalitiesInStudy == ["MR", "SR"]
        assert found.SOPClassesInStudy == "1.2.840.10008.5.1.4.1.1.2"
        assert (found.NumberOfStudyRelatedSeries, found.NumberOfStudyRelatedInstances) == (2, 4)
        assert found.StudyUpdateDateTime.startswith("20")
        assert found.StudyUpdateDateTime.endswith("+0000")

    def test_series(self, client: Client):
        found = client.find(
            "SERIES",
            StudyInstanceUID="1.2.1",
            SeriesInstanceUID="",
            Modality="",
            NumberOfSeriesRelatedInstances="",
        )
        assert sorted(
            (each.SeriesInstanceUID, each.Modality, each.NumberOfSeriesRelatedInstances)
            for each in found
        ) == [("1.2.1.1", "MR", 2), ("1.2.1.2", "SR", 2)]

    def test_images(self, client: Client):
        found = client.find(
            "IMAGE",
            StudyInstanceUID="1.2.2",
            SeriesInstanceUID="1.2.2.1",
            SOPInstanceUID="",
            InstanceNumber="",
            SOPClassUID="",
            AvailableTransferSyntaxUID="",
        )
        assert sorted((each.SOPInstanceUID, each.InstanceNumber) for each in found) == [
            (f"1.2.2.1.{number}", number) for number in (1, 2, 3)
        ]
        assert {each.AvailableTransferSyntaxUID for each in found} == {"1.2.840.10008.1.2.1"}

    def test_a_list_of_uids(self, client: Client):
        found = client.find("STUDY", StudyInstanceUID=["1.2.0", "1.2.3", "9.9"])
        assert studies(found) == ["1.2.0", "1.2.3"]

    def test_h_d21_ten_thousand_uids(self, client: Client):
        """More of them are no query."""
        uids = [f"1.2.{number}" for number in range(10_001)]
        assert studies(client.find("STUDY", StudyInstanceUID=uids[1:])) == [
            f"1.2.{number}" for number in range(1, 5)
        ]
        with pytest.raises(StatusError) as caught:
            client.find("STUDY", StudyInstanceUID=uids)
        assert caught.value.status == 0xA900

    def test_what_every_answer_has(self, client: Client):
        """Level, Retrieve AE Title, and UTF-8 where the text needs it."""
        (found,) = client.find(
            "STUDY", StudyInstanceUID="1.2.2", PatientName="", InstanceAvailability=""
        )
        assert found.QueryRetrieveLevel == "STUDY"
        assert found.RetrieveAETitle == "ANY-SCP"
        assert found.InstanceAvailability == "ONLINE"
        assert found.SpecificCharacterSet == "ISO_IR 192"

    def test_a_title_of_our_own_is_the_retrieve_ae_title(self, archive: Archive):
        """Whatever the requestor called us."""
        with Network() as network:
            client = Client(network, archive, ae_title="ARCHIVE")
            (found,) = client.find("STUDY", StudyInstanceUID="1.2.2")
        assert found.RetrieveAETitle == "ARCHIVE"


class TestKeys:
    @pytest.mark.parametrize(
        ("keys", "expected"),
        [
            ({"PatientName": "doe^jane"}, {0, 1}),
            ({"PatientName": "DOE*"}, {0, 1}),
            ({"PatientName": "muller*"}, {2}),
            ({"PatientName": "*jorg"}, {2}),
            ({"PatientName": "山田*", "SpecificCharacterSet": "ISO_IR 192"}, {2}),
            ({"PatientID": "P2"}, {2}),
            ({"PatientID": "P?"}, {0, 1, 2}),
            ({"StudyDate": "20240105"}, {0}),
            ({"StudyDate": "20240101-20241231"}, {0, 1}),
            ({"StudyDate": "-20231231"}, {2, 4}),
            ({"StudyDate": "20240106-"}, {1}),
            ({"StudyTime": "223000"}, {1}),
            ({"StudyTime": "1000-1100"}, {0}),
            ({"AccessionNumber": "A1"}, {0}),
            ({"AccessionNumber": "A*"}, {0, 1}),
            ({"StudyDescription": "*% _*"}, {2}),
            ({"ModalitiesInStudy": "MR"}, {1}),
            ({"ModalitiesInStudy": ["PT", "MR"]}, {1, 3}),
            ({"ModalitiesInStudy": "S*"}, {0, 1, 2, 3, 4}),
            ({"NumberOfStudyRelatedInstances": "6"}, {2}),
        ],
    )
    def test_studies_that_match(self, client: Client, keys: dict[str, Any], expected: set[int]):
        """A study that lacks the attribute does not."""
        found = client.find("STUDY", StudyInstanceUID="", **keys)
        assert studies(found) == [f"1.2.{number}" for number in sorted(expected)]

    def test_the_log_names_keys_that_are_not_matched_and_no_values(self, archive: Archive):
        with Network() as network:
            keys: Any = {"StudyStatusID": "SECRET", "SeriesNumber": "", "PatientID": "SECRET"}
            Client(network, archive).find("STUDY", StudyInstanceUID="", **keys)
            said = [formatEvent(event) or "" for event in network.events]
        expected = "C-FIND: keys that are not matched: SeriesNumber, StudyStatusID"
        assert [line for line in said if line.endswith(expected)]
        assert not [line for line in said if "SECRET" in line]

    def test_unknown_values_match_if_told_so(self, archive: Archive):
        """Of required keys that are not unique (PS3.4 C.2.2.1.2)."""
        finder = Finder(archive.index, synchronously, unknown_matches=True)
        with Network() as network:
            client = Client(network, archive)
            client.endpoint = network.listen([QuerySCP(finder.find)])
            found = client.find("STUDY", StudyInstanceUID="", AccessionNumber="A1")
            assert studies(found) == ["1.2.0", "1.2.2", "1.2.3", "1.2.4"]
            found = client.find("STUDY", StudyInstanceUID="", PatientID="P2")
            assert studies(found) == ["1.2.2"]
            found = client.find("STUDY", StudyInstanceUID="", StudyDescription="X")
            assert studies(found) == []

    @pytest.mark.parametrize(
        ("keys", "status"),
        [
            ({"StudyStatusID": "X"}, 0xFF01),
            ({"StudyStatusID": ""}, 0xFF01),
            ({"SeriesNumber": ""}, 0xFF01),
            ({"RetrieveAETitle": "X"}, 0xFF01),
            ({"InstanceAvailability": "ONLINE"}, 0xFF01),
            ({"RetrieveAETitle": "", "InstanceAvailability": ""}, 0xFF00),
            ({"RetrieveAETitle": "*", "StudyID": "X"}, 0xFF00),
        ],
    )
    def test_an_unsupported_key_is_told_of(self, keys: dict[str, str], status: int):
        """FF01H, of one whose value is not matched too (PS3.4 C.4.1.1.4)."""
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "STUDY"
        for keyword, value in keys.items():
            setattr(identifier, keyword, value)
        operation: Any = SimpleNamespace(
            context=SimpleNamespace(abstract_syntax=STUDY_ROOT.find, transfer_syntax=EXPLICIT),
            association=SimpleNamespace(extended={}),
        )
        assert Query(identifier, operation, "ARCHIVE").pending == status

    def test_an_unsupported_key_is_not_returned(self, client: Client):
        """It is ignored (PS3.4 C.2.2.1.3)."""
        (found,) = client.find("STUDY", StudyInstanceUID="1.2.0", StudyStatusID="X")
        assert "StudyStatusID" not in found

    def test_times_are_told_with_their_zone(self, client: Client):
        """Once it was negotiated: what the request says of a zone holds for its answers, unless
        they say another one. It is never empty (PS3.4 C.2.2.2, C.4.1.1.3.2)."""
        extended = {STUDY_ROOT.find: QueryOptions(timezone=True)}
        zone: dict[str, Any] = {"TimezoneOffsetFromUTC": "+0100"}
        for uid, own in (("1.2.0", "+0900"), ("1.2.1", "+0000")):
            (found,) = client.find(
                "STUDY", StudyInstanceUID=uid, StudyTime="", **zone, extended=extended
            )
            assert found.TimezoneOffsetFromUTC == own
            (found,) = client.find("STUDY", StudyInstanceUID=uid, StudyTime="", extended=extended)
            assert "TimezoneOffsetFromUTC" not in found

    def test_a_zone_that_is_asked_for_is_never_empty(self, client: Client):
        for uid, own in (("1.2.0", "+0900"), ("1.2.1", None)):
            (found,) = client.find("STUDY", StudyInstanceUID=uid, TimezoneOffsetFromUTC="")
            assert found.get("TimezoneOffsetFromUTC") == own


class TestRefused:
    @pytest.mark.parametrize(
        ("level", "keys", "named"),
        [
            ("", {}, "QueryRetrieveLevel"),
            ("FRAME", {}, "QueryRetrieveLevel"),
            ("PATIENT", {}, "QueryRetrieveLevel"),
            ("SERIES", {}, "StudyInstanceUID"),
            ("SERIES", {"StudyInstanceUID": ""}, "StudyInstanceUID"),
            ("IMAGE", {"StudyInstanceUID": "1.2.0"}, "SeriesInstanceUID"),
            ("SERIES", {"StudyInstanceUID": ["1.2", "1.3"]}, "StudyInstanceUID"),
            ("STUDY", {"StudyDate": "99999999-"}, "StudyDate"),
        ],
    )
    def test_h_d21_no_query_of_its_model(
        self, client: Client, level: str, keys: dict[str, Any], named: str
    ):
        """A900H, with the attribute and no value of it."""
        with pytest.raises(StatusError) as caught:
            client.find(level, **keys)
        assert caught.value.status == 0xA900
        assert [int(tag) for tag in caught.value.offending] == [tag_for_keyword(named)]
        assert "9999" not in str(caught.value)


class TestRelational:
    def test_without_the_keys_above(self, client: Client):
        extended = {STUDY_ROOT.find: QueryOptions(relational=True)}
        found = client.find(
            "SERIES", StudyInstanceUID="", SeriesInstanceUID="", Modality="MR", extended=extended
        )
        assert [each.SeriesInstanceUID for each in found] == ["1.2.1.1"]

    def test_by_what_is_below(self, client: Client):
        """Each study once, whatever number of its instances matches (PS3.4 C.4.1.3.2)."""
        extended = {STUDY_ROOT.find: QueryOptions(relational=True)}
        found = client.find("STUDY", StudyInstanceUID="", InstanceNumber="3", extended=extended)
        assert studies(found) == ["1.2.2", "1.2.3", "1.2.4"]
        extended = {PATIENT_ROOT.find: QueryOptions(relational=True)}
        found = client.find(
            "PATIENT", PATIENT_ROOT, PatientID="", Modality="SR", PatientName="", extended=extended
        )
        assert sorted(str(each.PatientName) for each in found) == [
            "",
            "Doe^Jane",
            "Müller^Jörg=山田^太郎",
            "O'Hara^Scarlett",
        ]


class TestPages:
    @pytest.mark.parametrize(("page", "listed"), [(1, 100), (2, 0), (500, 3), (500, 100)])
    def test_however_they_are_cut(
        self, client: Client, monkeypatch: pytest.MonkeyPatch, page: int, listed: int
    ):
        """Listed first or walked in order, each entity comes once."""
        monkeypatch.setattr(selection, "_PAGE", page)
        monkeypatch.setattr(selection, "_LISTED", listed)
        assert studies(client.find("STUDY", StudyInstanceUID="")) == [
            f"1.2.{number}" for number in range(5)
        ]
        extended = {STUDY_ROOT.find: QueryOptions(relational=True)}
        found = client.find(
            "IMAGE", SOPInstanceUID="", NumberOfStudyRelatedInstances="", extended=extended
        )
        assert len(found) == len({each.SOPInstanceUID for each in found}) == 2 * (1 + 2 + 3 + 4 + 5)


TEXTS = st.text("DOEJANEdoéü^*?%_/\\=山P12 '", max_size=8)
DATES = st.sampled_from(["20240105", "20240101-20240301", "-2023", "20240106-", "", "20231231"])


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.fixed_dictionaries(
        {},
        optional={
            "PatientName": TEXTS,
            "PatientID": TEXTS,
            "AccessionNumber": TEXTS,
            "StudyID": TEXTS,
            "StudyDate": DATES,
            "StudyTime": st.sampled_from(["1011", "10-11", "2230", "-2359", "000000.5"]),
            "ModalitiesInStudy": TEXTS,
            "StudyDescription": TEXTS,
            "Modality": TEXTS,
            "SeriesInstanceUID": st.sampled_from(["1.2.0.1", "1.2.1.2", "9"]),
        },
    ),
    fuzzy=st.booleans(),
    combined=st.booleans(),
    level=st.sampled_from(Level),
)
def test_the_database_lets_all_through_that_matches(
    archives: list[Archive], keys: dict[str, str], fuzzy: bool, combined: bool, level: Level
):
    """What SQL and matching find is what matching finds among all."""
    identifier = Dataset()
    identifier.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    rules = Rules(fuzzy=fuzzy, combined=combined, unknown_matches=REQUIRED)
    try:
        wanted = keys_of(identifier, rules)
    except StatusError:
        return
    wanted = {
        tag: key
        for tag, key in wanted.items()
        if (tag in KEPT and KEPT[tag].level <= level) or COMPUTED.get(tag, 9) <= level
    }
    everything = {tag: Universal() for tag in wanted}
    for archive in archives:
        found = list(chain(*Selection(archive.index, level, wanted).pages()))
        among = chain(*Selection(archive.index, level, everything).pages())
        assert found == [each for each in among if matches(wanted, each)]
